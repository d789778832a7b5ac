#!/usr/bin/python3
# test_completion.py - completion of va-client's command lines, in a real bash and a
# real zsh on a terminal: what stands on the line after TAB was typed
#
# SPDX-License-Identifier: MIT
import os
import pty
import select
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from vatest import SRC, Suite, need, need_all, program, run, tmpdir, wait_until  # noqa: E402
from vatest.fake import Control, XMLRPCServer  # noqa: E402

need_all(program("va-client"))
suite = Suite()
RUNTIME = os.path.join(tmpdir(), "rt")
WHERE = os.path.join(tmpdir(), "here")
FILES = {"/": [("var", "directory"), ("etc", "directory")],
         "/var/": [("log", "directory"), ("lib.so", "file"), ("two words", "file")]}


def serve():
    """What the questions of a completion are answered by."""
    place = os.path.join(RUNTIME, "guests", "vm1")
    os.makedirs(place)
    os.mkdir(WHERE)
    for name in ("local.txt", "vmlinuz"):
        with open(os.path.join(WHERE, name), "w", encoding="utf-8"):
            pass
    guest = XMLRPCServer(os.path.join(place, "rpc.sock"))
    guest.register_function(lambda: {"methods": [{"name": "guest.ping"},
                                                 {"name": "guest.getfile"}]},
                            "guest.capabilities")
    guest.register_function(lambda path, *a: {
        "entries": [{"name": n, "type": t} for n, t in FILES.get(path, [])],
        "eof": True, "cursor": ""}, "guest.list")
    guest.register_function(lambda: [{"name": "disk-usage", "help": "", "allowed": True}],
                            "guest.commands")
    host = XMLRPCServer(os.path.join(RUNTIME, "hostd.sock"))
    host.register_function(lambda: [{"name": "vm1", "id": "vm1", "state": "connected"},
                                    {"name": "web", "id": "web", "state": "absent"}],
                           "host.guests")
    host.register_function(lambda: {"methods": ["host.ping"]}, "host.capabilities")
    suite.cleanups += [Control(os.path.join(place, "ctl.sock")).close, guest.close, host.close]


class Typist:
    """A shell on a terminal.  ^Xd writes the line as it stands to a file."""
    COMMAND = {"bash": ["bash", "--norc", "--noprofile", "-i"], "zsh": ["zsh", "-f", "-i"]}
    SETUP = {
        "bash": r"""PS1='$ '; unset HISTFILE; source %(src)s/dist/completion/va-client
dump() { printf %%s "$READLINE_LINE" >%(out)s.t; mv %(out)s.t %(out)s; }
bind 'set bell-style none'; bind 'set show-all-if-ambiguous on'; bind 'set page-completions off'
bind 'set completion-query-items 0'; bind 'set enable-bracketed-paste off'; bind -x '"\C-xd": dump'
""",
        "zsh": r"""PS1='$ '; unset HISTFILE; fpath=(%(src)s/dist/completion $fpath)
autoload -Uz compinit; compinit -D -u; LISTMAX=1000
dump() { print -rn -- $BUFFER >%(out)s.t; mv %(out)s.t %(out)s }
zle -N dump; bindkey -e; bindkey '^Xd' dump
""",
    }

    def __init__(self, shell):
        self.out = os.path.join(tmpdir(), shell + ".line")
        self.screen = ""
        ours, theirs = pty.openpty()
        env = {"PATH": os.path.dirname(program("va-client")) + ":" + os.environ["PATH"],
               "HOME": WHERE, "TERM": "vt100", "LC_ALL": "C", "VA_RUNTIME_DIR": RUNTIME,
               "COLUMNS": "200"}
        for name in ("VA_TIME_SCALE", "ASAN_OPTIONS", "TSAN_OPTIONS", "VA_TEST_TMP"):
            if name in os.environ:
                env[name] = os.environ[name]
        self.process = subprocess.Popen(self.COMMAND[shell], cwd=WHERE, env=env, stdin=theirs,
                                        stdout=theirs, stderr=theirs, start_new_session=True)
        os.close(theirs)
        self.fd = ours
        suite.cleanups.append(self.close)
        self.write(self.SETUP[shell] % {"src": SRC, "out": self.out})

    def write(self, text):
        os.write(self.fd, text.encode())

    def read(self, seconds):
        """All that the shell has written; waits so long for something to come."""
        while select.select([self.fd], [], [], seconds)[0]:
            self.screen += os.read(self.fd, 65536).decode("utf-8", "replace")
            seconds = 0

    def line(self):
        """The line as it stands; it is cleared."""
        def written():
            self.read(0.05)
            return os.path.exists(self.out)
        self.write("\x18d")
        try:
            wait_until(written, 30, "the line")
        except Exception as e:
            raise AssertionError("%s\n%s" % (e, self.screen[-3000:])) from None
        self.read(0)
        with open(self.out, encoding="utf-8") as f:
            text = f.read()
        os.unlink(self.out)
        self.write("\x15")
        return text

    def tab(self, typed):
        """What is on the line after TAB; the choices shown are in self.screen."""
        self.line()
        self.screen = ""
        self.write(typed + "\t")
        return self.line()

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.fd)


# Typed, and what stands there after TAB.
LINES = (
    ("va-client shut", "va-client shutdown "),
    ("va-client event", "va-client event"),
    ("va-client -G w", "va-client -G web "),
    ("va-client ping v", "va-client ping vm1 "),
    ("va-client reboot w", "va-client reboot web "),
    ("va-client exec v", "va-client exec vm1 "),
    ("va-client events --guest w", "va-client events --guest web "),
    ("va-client get --rec", "va-client get --recursive "),
    ("va-client call guest.g", "va-client call guest.getfile "),
    ("va-client call h", "va-client call host.ping "),
    ("va-client help guest.p", "va-client help guest.ping "),
    ("va-client help shut", "va-client help shutdown "),
    ("va-client cat v", "va-client cat vm1:"),
    ("va-client cat vm1:/var/lo", "va-client cat vm1:/var/log/"),
    ("va-client cat vm1:/var/li", "va-client cat vm1:/var/lib.so "),
    ("va-client cat vm1:/var/t", "va-client cat vm1:/var/two\\ words "),
    ("va-client cp vm1:/e", "va-client cp vm1:/etc/"),
    ("va-client put loc", "va-client put local.txt "),
    ("va-client -G vm1 ls /var/lo", "va-client -G vm1 ls /var/log/"),
    ("va-client event ", "va-client event send "),
    ("va-client kv exp", "va-client kv export "),
    ("va-client kv get v", "va-client kv get vm1 "),
    ("va-client run vm1 d", "va-client run vm1 disk-usage "),
    ("va-client forward v", "va-client forward vm1 "),
)


def completes(shell):
    need(shell)
    typist = Typist(shell)
    wrong = []
    for typed, want in LINES:
        got = typist.tab(typed)
        if got != want:
            wrong.append("%r gives %r, not %r\n%s" % (typed, got, want, typist.screen[-400:]))
    assert not wrong, "\n".join(wrong)
    # What cannot be told apart is shown.
    assert typist.tab("va-client ca") == "va-client ca", typist.screen
    assert "call" in typist.screen and "cat" in typist.screen, typist.screen
    assert typist.tab("va-client get vm") == "va-client get vm", typist.screen
    assert "vm1" in typist.screen and "vmlinuz" in typist.screen, typist.screen


@suite.case("bash")
def _():
    completes("bash")


@suite.case("zsh")
def _():
    run(["zsh", "-n", os.path.join(SRC, "dist/completion/_va-client")], check=True)
    completes("zsh")


serve()
suite.main()
