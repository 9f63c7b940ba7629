"""Every step by which a program changes a folder, as witness.cpp saw it."""

import struct
import subprocess
from collections import namedtuple
from pathlib import Path

HEADER = struct.Struct("<cQqIII")

Step = namedtuple("Step", "kind inode offset name new_name bytes")


def build(folder):
    """The library to load before all others."""
    library = folder / "witness.so"
    source = Path(__file__).with_name("witness.cpp")
    subprocess.run(["g++", "-std=c++20", "-O1", "-shared", "-fPIC", "-o", library, source], check=True)
    return library


def environment(library, folder, log="", kill=""):
    return {
        "LD_PRELOAD": str(library),
        "WITNESS_FOLDER": str(folder),
        "WITNESS_LOG": str(log),
        "WITNESS_KILL": kill,
    }


def read(log):
    content = Path(log).read_bytes()
    steps, at = [], 0
    while at < len(content):
        kind, inode, offset, *sizes = HEADER.unpack_from(content, at)
        at += HEADER.size
        parts = []
        for size in sizes:
            parts.append(content[at : at + size])
            at += size
        steps.append(Step(kind.decode(), inode, offset, parts[0].decode(), parts[1].decode(), parts[2]))
    return steps
