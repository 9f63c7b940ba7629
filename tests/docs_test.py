#!/usr/bin/env python3
"""Whether docs are true: in docs/reliability.md and docs/security.md every fault and every threat has a row with a test, and
the tests that they name are there; docs/cli.md has the exit codes of the program; docs/troubleshooting.md has every reason for which the
dashboard says that a batch waits."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
FAULTS = 44
ROW = re.compile(r"\| (\d+) \|(.*)\|")
EXIT_CODE = re.compile(r"^constexpr int \w+ = (\d+); +// (.+)$", re.MULTILINE)
TEST = re.compile(r"`(test_\w+|[A-Z]\w+\.\w+)`")


def tests():
    """The names of all tests, as `test_name` and `Suite.Name`."""
    for path in (ROOT / "tests").rglob("*.py"):
        yield from re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
    for path in (ROOT / "src").rglob("*_test.cpp"):
        yield from map(".".join, re.findall(r"^TEST(?:_[FP])?\((\w+), (\w+)\)", path.read_text(), re.MULTILINE))


def is_shown(row):
    return TEST.search(row) or "not yet" in row


def names(text, known):
    for name in TEST.findall(text):
        if name not in known:
            yield f"there is no test {name}"


def threats(text, known):
    rows = text.partition("| threat | rule |")[2].splitlines()[2:]
    if not rows:
        yield "there is no table of threats"
    for row in rows:
        if len(row.split(" | ")) != 3:
            yield f"this is no row of threat, rule and test: {row}"
        elif not is_shown(row):
            yield f"it has no test, and does not say that it is not yet to be shown: {row}"
    yield from names(text, known)


def faults(text, known):
    rows = {int(number): rest for number, rest in ROW.findall(text)}
    for number in range(1, FAULTS + 1):
        if number not in rows:
            yield f"fault {number} has no row"
        elif not is_shown(rows[number]):
            yield f"fault {number} has no test, and does not say that it is not yet to be shown"
    yield from names(text, known)
    for name in known:
        if re.match(r"test_fault_|\w+\.Fault\d", name) and f"`{name}`" not in text:
            yield f"{name} is in no row"


def exit_codes(text, header):
    described = {code: words.strip() for code, words in ROW.findall(text.partition("## Exit codes")[2])}
    there = dict(EXIT_CODE.findall(header))
    for code in sorted(described.keys() | there.keys(), key=int):
        if described.get(code) != there.get(code):
            yield f"docs/cli.md and base/exit_codes.h do not say the same of exit code {code}"


def reasons(text, page):
    """`page` has functions whose texts are the reasons; what they fill in is left out."""
    code = re.search(r"function whyNoEngine.*?^}.*?function whyItWaits.*?^}", page, re.DOTALL | re.MULTILINE)
    said = re.findall(r"return (?:\"([^\"]+)\"|`(.+)`);", code[0]) if code else []
    if len(said) < 10:
        yield "the reasons in src/web/batch.ts are not found"
    for reason in ("".join(pair) for pair in said):
        for part in re.split(r"\$\{[^}]*\}", reason):
            if len(part) > 5 and part.strip(" .:") not in text:
                yield f"docs/troubleshooting.md has nothing on: {reason}"


if __name__ == "__main__":
    known = set(tests())
    found = [*faults((ROOT / "docs/reliability.md").read_text(), known), *threats((ROOT / "docs/security.md").read_text(), known)]
    found += exit_codes((ROOT / "docs/cli.md").read_text(), (ROOT / "src/base/exit_codes.h").read_text())
    found += reasons((ROOT / "docs/troubleshooting.md").read_text(), (ROOT / "src/web/batch.ts").read_text())
    print("\n".join(found) or "docs/reliability.md and docs/security.md name tests that exist; docs/cli.md has the exit codes")
    sys.exit(bool(found))
