#!/usr/bin/env python3
"""Proves that the tests of reliability can fail: breaks one promise at a time in a copy of the tree, and expects the test
that guards it to fail.

    mutants.py [NAME…]

Builds in build/mutants; with ccache a mutant costs the file that it changes.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
COPY = ROOT / "build/mutants"


class Mutant(NamedTuple):
    file: str
    old: str
    new: str
    target: str  # what is built
    test: tuple  # what must fail then, and passes without the change


SIMULATION = ("build/release/src/batch_test", "--gtest_filter=SimulationTest.W*")
POWER_CUTS = (sys.executable, "-m", "pytest", "-q", "-x", "tests/e2e/test_fault_power.py")

MUTANTS = {
    "results are taken from who has lost the span": Mutant(
        "src/store/store_spans.cpp", "AND token = $9 RETURNING", "AND $9 = $9 RETURNING", "batch_test", SIMULATION
    ),
    "beats do not tell the living from the dead": Mutant(
        "src/store/store_processes.cpp", "UPDATE processes SET beats = beats + 1,", "UPDATE processes SET beats = beats,", "batch_test", SIMULATION
    ),
    "counts are from memory": Mutant(
        "src/batch/lifecycle.cpp",
        "{end, files.output, files.errors, files.counts}",
        "{end, files.output, files.errors, "
        "{batch.counts.total, batch.counts.completed, batch.counts.total - batch.counts.completed}}",
        "batch_test",
        SIMULATION,
    ),
    "slots go to one project after the other": Mutant(
        "src/batch/dispatcher.cpp",
        "  std::sort(levels.begin(), levels.end());\n",
        "",
        "batch_test",
        ("build/release/src/batch_test", "--gtest_filter=FairDispatchTest.*"),
    ),
    "a file is not synced": Mutant(
        "src/blob/local.cpp",
        "    sync_file(fd_.get());\n    if (::renameat",
        "    if (::renameat",
        "penstock",
        POWER_CUTS,
    ),
    "a file has its name before it is whole": Mutant(
        "src/blob/local.cpp",
        """    flush();
    sync_file(fd_.get());
    if (::renameat(tmp_directory_, tmp_name_.c_str(), directory_, key_.c_str()) != 0) fail("rename");
""",
        """    if (::renameat(tmp_directory_, tmp_name_.c_str(), directory_, key_.c_str()) != 0) fail("rename");
    flush();
    sync_file(fd_.get());
""",
        "penstock",
        POWER_CUTS,
    ),
    "a file's name is not synced": Mutant(
        "src/blob/local.cpp", "renamed_ = true;\n    sync_directory(directory_);", "renamed_ = true;", "penstock", POWER_CUTS
    ),
    "commits are not synced": Mutant(
        "src/sql/sqlite.cpp", "synchronous = FULL", "synchronous = OFF", "penstock", POWER_CUTS
    ),
}


def run(command, **options):
    environment = os.environ | {"CCACHE_BASEDIR": str(COPY), "CCACHE_NOHASHDIR": "1"}
    return subprocess.run(command, cwd=COPY, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)


def build(target):
    done = run(["cmake", "--build", "--preset", "release", "--target", target])
    if done.returncode:
        raise SystemExit(f"{done.stdout}\n{target} could not be built")


def prepare():
    """A copy of the tree as git has it or would have it, with the tools that were built beside it."""
    files = subprocess.run(["git", "ls-files", "-z", "-co", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True)
    for name in filter(None, files.stdout.decode().split("\0")):
        source, copy = ROOT / name, COPY / name
        if not source.exists():
            continue
        copy.parent.mkdir(parents=True, exist_ok=True)
        if not copy.exists() or copy.read_bytes() != source.read_bytes():
            shutil.copy2(source, copy)
    for name in ("llama", "models", "venv"):
        link = COPY / "build" / name
        link.parent.mkdir(exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(ROOT / "build" / name)
    if run(["cmake", "--preset", "release"]).returncode:
        raise SystemExit("the copy could not be configured")


def is_caught(mutant):
    file = COPY / mutant.file
    text = file.read_text()
    if text.count(mutant.old) != 1:
        raise SystemExit(f"{mutant.file} does not have exactly once:\n{mutant.old}")
    file.write_text(text.replace(mutant.old, mutant.new))
    try:
        build(mutant.target)
        return run(mutant.test).returncode != 0
    finally:
        file.write_text(text)


def main():
    parser = argparse.ArgumentParser(description="Breaks one promise at a time and expects a test to fail.")
    parser.add_argument("names", nargs="*", choices=[*MUTANTS, []], metavar="NAME")
    names = parser.parse_args().names or MUTANTS
    prepare()
    for target, test in sorted({(MUTANTS[name].target, MUTANTS[name].test) for name in names}):
        build(target)
        if (done := run(test)).returncode:
            raise SystemExit(f"{done.stdout}\nwithout any change, {' '.join(test)} fails")
    missed = []
    for name in names:
        start = time.monotonic()
        caught = is_caught(MUTANTS[name])
        missed += [] if caught else [name]
        print(f"{'caught' if caught else 'MISSED'}  {name} ({time.monotonic() - start:.0f} s)", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
