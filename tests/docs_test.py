#!/usr/bin/env python3
"""Whether docs/reliability.md is true: every fault has a row, and every test that it names is there."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
FAULTS = 44
ROW = re.compile(r"\| (\d+) \|(.*)\|")
TEST = re.compile(r"`(test_\w+|\w+Test\.\w+)`")


def tests():
    """The names of all tests, as `test_name` and `Suite.Name`."""
    for path in (ROOT / "tests").rglob("*.py"):
        yield from re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
    for path in (ROOT / "src").rglob("*_test.cpp"):
        yield from map(".".join, re.findall(r"^TEST(?:_[FP])?\((\w+), (\w+)\)", path.read_text(), re.MULTILINE))


def faults(text, known):
    rows = {int(number): rest for number, rest in ROW.findall(text)}
    for number in range(1, FAULTS + 1):
        if number not in rows:
            yield f"fault {number} has no row"
        elif not TEST.search(rows[number]) and "not yet" not in rows[number]:
            yield f"fault {number} has no test, and does not say that it is not yet to be shown"
    for name in TEST.findall(text):
        if name not in known:
            yield f"there is no test {name}"
    for name in known:
        if re.match(r"test_fault_|\w+\.Fault\d", name) and f"`{name}`" not in text:
            yield f"{name} is in no row"


if __name__ == "__main__":
    found = list(faults((ROOT / "docs/reliability.md").read_text(), set(tests())))
    print("\n".join(found) or "docs/reliability.md names tests that exist")
    sys.exit(bool(found))
