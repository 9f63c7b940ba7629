"""The official clients for Node, Go and Java, each through the whole life of some batches: upload to cancel.

The programs stand in tests/clients/. They are set up in build/clients/, and again only when something of theirs changed.
"""

import hashlib
import re
import shutil
import subprocess

import pytest

from fake_engine import FakeEngine
from penstock import CLEAN_ENV, ROOT, parse, wait_until

pytestmark = pytest.mark.local

SOURCES = ROOT / "tests/clients"
BUILD = ROOT / "build/clients"
INPUT = SOURCES / "input.jsonl"


def run(*command, folder, **env):
    """Its output goes to pytest, which shows it when the test fails."""
    subprocess.run(command, cwd=folder, env=CLEAN_ENV | {k: str(v) for k, v in env.items()}, check=True, timeout=600)


def need(tool, at_least, *version_command):
    """Skips the test when the tool is missing or too old, and else says which version there is."""
    wanted = f"{tool} {'.'.join(map(str, at_least))} or newer"
    if not shutil.which(version_command[0]):
        pytest.skip(f"needs {wanted}, which is not installed")
    answer = subprocess.run(version_command, capture_output=True, text=True, env=CLEAN_ENV)
    version = re.search(r"(\d+)\.(\d+)", answer.stdout + answer.stderr)
    if not version or tuple(map(int, version.groups())) < at_least:
        pytest.skip(f"needs {wanted}; here is {version[0] if version else 'one that does not say its version'}")
    return version[0]


def files_in(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def set_up(sources, tool_version, build):
    """Runs build(folder) unless the folder is already built from the same sources."""
    folder = BUILD / sources.name
    digest = hashlib.sha256(tool_version.encode())
    for path in files_in(sources):
        digest.update(f"\n{path}\n".encode() + path.read_bytes())
    note = folder / "built-from"
    if not note.exists() or note.read_text() != digest.hexdigest():
        note.unlink(missing_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
        build(folder)
        note.write_text(digest.hexdigest())
    return folder


def node_package(sources, at_least):
    """A copy of the package with what it depends on."""
    version = need("Node", at_least, "node", "--version")
    need("npm", (9, 0), "npm", "--version")

    def build(folder):
        for path in files_in(sources):  # Node looks for packages beside the program
            shutil.copy(path, folder)
        run("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", folder=folder, npm_config_cache=BUILD / "npm-cache")

    return set_up(sources, version, build)


def node():
    return ["node", node_package(SOURCES / "node", (20, 0)) / "main.js"]


def go():
    # The version that the pinned client's go.mod asks for.
    version = need("Go", (1, 26), "go", "version")

    def build(folder):
        run(
            *("go", "build", "-buildvcs=false", "-o", folder / "client", "."),
            folder=SOURCES / "go",
            GOTOOLCHAIN="local",
            GOFLAGS="-mod=readonly -modcacherw",  # else `rm -r build` could not remove the cache
            GOPATH=folder / "gopath",
            GOMODCACHE=folder / "gopath/pkg/mod",
            GOCACHE=folder / "cache",
        )

    return [set_up(SOURCES / "go", version, build) / "client"]


def java():
    version = need("Java", (17, 0), "javac", "-version")
    need("Maven", (3, 6), "mvn", "--version")

    def build(folder):
        shutil.rmtree(folder / "lib", ignore_errors=True)
        options = [f"-Dmaven.repo.local={folder / 'repository'}", f"-Doutput={folder}"]
        run("mvn", "--batch-mode", "--strict-checksums", "--no-transfer-progress", *options, "compile", folder=SOURCES / "java")

    folder = set_up(SOURCES / "java", version, build)
    return ["java", "-cp", f"{folder / 'classes'}:{folder / 'lib'}/*", "Client"]


@pytest.mark.parametrize("language", [node, go, java])
def test_official_client_goes_through_the_whole_life_of_a_batch(new_server, language):
    command = language()
    # The program runs three batches of the input to their end. Then it fills the queue with batches that stay.
    with FakeEngine(answers=3 * len(parse(INPUT.read_text()))) as engine:
        server = new_server("--engine", engine.url, env={"MAX_QUEUE_DEPTH": "3"}, models=())
        client = server.client()
        program = subprocess.Popen([*command, f"{server.url}/v1", INPUT], env=CLEAN_ENV)
        try:
            wait_until(
                lambda: any(batch.status == "cancelling" for batch in client.batches.list()),
                "the program cancels its running batch",
                process=program,
            )
            engine.release()
            assert program.wait(60) == 0
        finally:
            program.kill()
            program.wait()
