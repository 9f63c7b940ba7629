import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest

import description
from penstock import BINARY, GGUF, LLAMA_SERVER, MODEL, OTHER_MODEL, Server


def pytest_configure():
    for file in (BINARY, LLAMA_SERVER, GGUF):
        if not file.exists():
            pytest.exit(f"{file} is missing; scripts/test.sh builds all that these tests need", returncode=2)
    description.watch()


@pytest.fixture(autouse=True)
def answers_are_as_described():
    yield
    faults = description.faults[:]
    description.faults.clear()
    assert not faults, "answers that are not as src/api/openapi.json says:\n" + "\n".join(faults)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.failed:
        for server in Server.all:
            log = server.log.read_text(errors="replace") if server.log.exists() else ""
            report.sections.append((f"log of {server.url}", "\n".join(log.splitlines()[-40:])))
    return report


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory):
    """A server with the real model, for all tests that leave it running."""
    server = Server(tmp_path_factory.mktemp("server"), models=(MODEL, OTHER_MODEL))
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.fixture
def client(shared_server):
    return shared_server.client()


def makes_servers(folder):
    with ExitStack() as stack:

        def make(*arguments, **options):
            server = Server(Path(tempfile.mkdtemp(dir=folder)), *arguments, **options)
            stack.callback(server.stop)
            return server.start()

        yield make


@pytest.fixture
def new_server(tmp_path):
    """Makes servers of the test's own and stops them after it."""
    yield from makes_servers(tmp_path)


@pytest.fixture(scope="module")
def new_module_server(tmp_path_factory):
    """Makes servers for all tests of a file and stops them after the last one."""
    yield from makes_servers(tmp_path_factory.mktemp("servers"))
