"""vatest - what the Python tests share.

  from vatest import Suite, Guest, ...

Suite (tap.py) runs cases and prints TAP; Process (proc.py) starts programs that
die with the test; wait_until (wait.py) waits for events with a scaled limit;
rpc.py is stock XML-RPC and HTTP over a unix socket; Guest (guest.py) is a real
QEMU guest with the image that image.py builds.

SPDX-License-Identifier: MIT
"""
from .env import BUILD, SRC, program, sanitized, scale, tmpdir
from .guest import Guest, GuestError
from .proc import Process, alive, run
from .rpc import fault, http_request, xmlrpc_proxy
from .tap import Skip, Suite, need, need_all
from .wait import Timeout, connect_unix, wait_for_socket, wait_listening, wait_until

__all__ = ["BUILD", "SRC", "program", "sanitized", "scale", "tmpdir", "Guest", "GuestError",
           "Process", "alive", "run", "fault", "http_request", "xmlrpc_proxy", "Skip", "Suite",
           "need", "need_all", "Timeout", "connect_unix", "wait_for_socket", "wait_listening",
           "wait_until"]
