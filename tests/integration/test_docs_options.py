#!/usr/bin/python3
# test_docs_options.py - each program's --help and its man page list the same
# options; for va-client, verb by verb.
#
# SPDX-License-Identifier: MIT
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from vatest import SRC, Skip, Suite, need, program, run  # noqa: E402

PAGES = {"virtproxy": "virtproxy/virtproxy.8", "va-agent": "virtagent/va-agent.8",
         "va-hostd": "virtagent/va-hostd.8", "va-client": "virtagent/va-client.1"}
suite = Suite()


def help_options(text):
    """The options that a --help text lists."""
    found = set()
    for line in text.split("\nOptions:\n")[1].split("\n\n")[0].splitlines():
        m = re.match(r"  (?:(-\w)(?:, )?|    )(--[\w-]+)?", line)
        if m and not line.startswith(" " * 10):
            found.update(o for o in m.groups() if o)
    return found


def plain(line):
    return re.sub(r"\\f.|\"", "", line).replace("\\-", "-")


def sections(path):
    """{heading: {options}} of a man page: what stands in lines behind .TP; in mdoc
    pages, in .It Fl lines anywhere."""
    found, heading, tp = {}, "", False
    with open(path, encoding="utf-8") as f:
        for line in f:
            if line.startswith(".It Fl "):      # mdoc(7)
                found.setdefault("OPTIONS", set()).update(
                    "-" + w for w in re.findall(r"Fl (-?[\w-]+)", plain(line)))
            elif line.startswith((".SH ", ".SS ")):
                heading = plain(line[4:]).strip()
                found.setdefault(heading, set())
            elif tp or (line.startswith((".BR -", ".B -", ".BR \\-", ".B \\-"))
                        and found.get(heading)):
                words = plain(line)
                if re.match(r"\.(BR?|BI|RB|IR) -", words):
                    found[heading].update(
                        re.findall(r"(?<![\w-])(--[a-z][\w-]*|-\w)(?![\w-])", words[3:]))
            tp = line.startswith((".TP", ".PD", ".TQ"))
    return found


def need_program(name):
    if not os.access(program(name), os.X_OK):
        raise Skip("%s is not built" % name)
    page = os.path.join(SRC, PAGES[name])
    assert os.path.exists(page), "%s is missing" % PAGES[name]
    return page


def compare(name, page_options, shown, verb=()):
    missing = shown - page_options
    assert not missing, "%s: not in the page: %s" % (name, sorted(missing))
    for option in page_options - shown:
        # Not shown, but accepted?  (An argument is given to those that want one.)
        for argv in ([option, "--help"], [option, "0", "--help"]):
            r = run([program(name), *verb, *argv])
            if "unknown option" not in r.stderr:
                break
        assert "unknown option" not in r.stderr, "%s %s: %s is only in the page" % (
            name, " ".join(verb), option)


def add(name):
    @suite.case("%s: --help and the man page agree" % name)
    def _():
        page = need_program(name)
        shown = help_options(run([program(name), "--help"], check=True).stdout)
        assert {"--help", "--version"} <= shown
        compare(name, sections(page)["OPTIONS"], shown)


for program_name in PAGES:
    add(program_name)


@suite.case("va-client: each verb has its section with just its options")
def _():
    page = sections(need_program("va-client"))
    verbs = [re.split("  +", line.strip())[0] for line in
             run([program("va-client"), "help"], check=True).stdout.split("\n\n")[0].splitlines()]
    assert len(verbs) > 20
    for verb in verbs:
        text = run([program("va-client"), *verb.split(), "--help"], check=True).stdout
        usage = text.split("\n")[0].replace("Usage: va-client ", "")
        assert usage in page, "the page has no section: %s" % usage
        own = help_options(text) - page["OPTIONS"]
        # A letter that means something else here than everywhere stands here, too.
        assert own <= page[usage], "%s: %s" % (verb, sorted(own - page[usage]))
        assert page[usage] <= help_options(text), "%s: %s" % (
            verb, sorted(page[usage] - help_options(text)))
    headed = [h for h in page if h.split(" [")[0] in verbs]
    assert len(headed) == len(verbs), set(headed) ^ set(verbs)


@suite.case("the man pages are clean roff")
def _():
    need("mandoc")
    for page in sorted(set(PAGES.values())):
        path = os.path.join(SRC, page)
        if os.path.exists(path):
            r = run(["mandoc", "-T", "lint", "-W", "warning", path])
            assert r.returncode == 0, "%s: %s" % (page, r.stdout)


suite.main()
