import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

import description
import place as places
import services
import witness
from audit import audit
from many import Deployment
from penstock import BINARY, GGUF, LLAMA_SERVER, MODEL, OTHER_MODEL, Server


def pytest_addoption(parser):
    parser.addoption("--store", choices=places.STORES, default=places.STORES[0], help="where the servers keep what they have")


def pytest_configure(config):
    for file in (BINARY, LLAMA_SERVER, GGUF):
        if not file.exists():
            pytest.exit(f"{file} is missing; scripts/test.sh builds all that these tests need", returncode=2)
    description.watch()
    try:
        places.use(config.getoption("store"))
    except services.Missing as why:
        pytest.exit(str(why), returncode=2)


def pytest_unconfigure():
    places.end()


def pytest_collection_modifyitems(config, items):
    elsewhere = "many" if config.getoption("store") == "sqlite" else "local"
    left_out = [item for item in items if item.get_closest_marker(elsewhere)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if not item.get_closest_marker(elsewhere)]


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
    """Fails when the audit finds a fault in what the server keeps; processes that run may first end what they are at, and
    take over what a dead one held."""
    where = server.place
    told = [secret for secret in (*where.secrets, where.key) if secret and secret in server.log.read_text(errors="replace")]
    assert not told, f"the log of {server.folder} tells passwords or keys"
    running = [one for one in where.processes if one.is_running()]
    url = next((one.url for one in running if one.url), None)
    died = lambda one: one.process and one.process.returncode or where.is_shared and one.was_killed  # unseen, if just now
    crashed = not running and any(map(died, where.processes))
    deadline = time.monotonic() + (15 if where.is_shared else 5)
    while faults := audit(where.database, where.blobs, url, crashed, where.is_littered(), where.key):
        if not running or time.monotonic() > deadline:
            raise AssertionError(f"the audit of {server.folder} found:\n" + "\n".join(faults))
        time.sleep(0.1)


@contextmanager
def servers(session, folder):
    """A maker of servers, and of workers. In the end they are stopped, and audited before and after it if no test has failed
    meanwhile."""
    failed_before = session.testsfailed

    checked = []

    def check_if_passed(server):
        if session.testsfailed == failed_before and all(checked):
            checked.append(False)  # of many that share a place one tells enough
            check(server)
            checked[-1] = True

    with ExitStack() as stack:

        def make(*arguments, kind=Server, place=None, **options):
            folder_of_its_own = Path(tempfile.mkdtemp(dir=folder))
            place = place or stack.enter_context(places.new(folder_of_its_own))
            server = kind(folder_of_its_own, *arguments, place=place, **options)
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


@pytest.fixture
def place(tmp_path):
    """One that the processes of a test share."""
    with places.new(Path(tempfile.mkdtemp(dir=tmp_path))) as place:
        yield place


@pytest.fixture
def deployment(place, new_server):
    """Makes servers without workers, and workers, that share `place`."""
    return Deployment(new_server, place)


@pytest.fixture(scope="module")
def new_module_server(request, tmp_path_factory):
    """Makes servers for all tests of a file and stops them after the last one."""
    with servers(request.session, tmp_path_factory.mktemp("servers")) as make:
        yield make


@pytest.fixture(scope="session")
def witness_library(tmp_path_factory):
    return witness.build(tmp_path_factory.mktemp("witness"))
