import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

import description
import place
import services
import witness
from audit import audit
from penstock import BINARY, GGUF, LLAMA_SERVER, MODEL, OTHER_MODEL, Server


def pytest_addoption(parser):
    parser.addoption("--store", choices=place.STORES, default=place.STORES[0], help="where the servers keep what they have")


def pytest_configure(config):
    for file in (BINARY, LLAMA_SERVER, GGUF):
        if not file.exists():
            pytest.exit(f"{file} is missing; scripts/test.sh builds all that these tests need", returncode=2)
    description.watch()
    try:
        place.use(config.getoption("store"))
    except services.Missing as why:
        pytest.exit(str(why), returncode=2)


def pytest_unconfigure():
    place.end()


def pytest_collection_modifyitems(config, items):
    if config.getoption("store") == "sqlite":
        return
    local = [item for item in items if item.get_closest_marker("local")]
    config.hook.pytest_deselected(items=local)
    items[:] = [item for item in items if item not in local]


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


def check(server):
    """Fails when the audit finds a fault in what the server keeps; one that runs may first end what it is at."""
    code = server.process.poll()
    where = server.place
    now = {"url": server.url if code is None else None, "crashed": code not in (None, 0), "littered": where.is_littered}
    deadline = time.monotonic() + 5
    while faults := audit(where.database, where.blobs, **now):
        if code is not None or time.monotonic() > deadline:
            raise AssertionError(f"the audit of {server.folder} found:\n" + "\n".join(faults))
        time.sleep(0.1)


@contextmanager
def servers(session, folder):
    """A maker of servers. In the end they are stopped, and audited before and after it if no test has failed meanwhile."""
    failed_before = session.testsfailed

    def check_if_passed(server):
        if session.testsfailed == failed_before:
            check(server)

    with ExitStack() as stack:

        def make(*arguments, **options):
            server = Server(Path(tempfile.mkdtemp(dir=folder)), *arguments, **options)
            stack.callback(server.place.close)
            stack.callback(check_if_passed, server)
            stack.callback(server.stop)
            server.start()
            stack.callback(check_if_passed, server)
            return server

        yield make


@pytest.fixture(scope="session")
def shared_server(request, tmp_path_factory):
    """A server with the real model, for all tests that leave it running."""
    with servers(request.session, tmp_path_factory.mktemp("server")) as make:
        yield make(models=(MODEL, OTHER_MODEL))


@pytest.fixture
def client(shared_server):
    return shared_server.client()


@pytest.fixture
def new_server(request, tmp_path):
    """Makes servers of the test's own and stops them after it."""
    with servers(request.session, tmp_path) as make:
        yield make


@pytest.fixture(scope="module")
def new_module_server(request, tmp_path_factory):
    """Makes servers for all tests of a file and stops them after the last one."""
    with servers(request.session, tmp_path_factory.mktemp("servers")) as make:
        yield make


@pytest.fixture(scope="session")
def witness_library(tmp_path_factory):
    return witness.build(tmp_path_factory.mktemp("witness"))
