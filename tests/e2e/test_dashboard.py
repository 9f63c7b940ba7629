"""The dashboard in a real browser. What it does there stands in tests/browser/dashboard.mjs."""

import shutil
import subprocess

import pytest

from fake_engine import MODEL as FAKE_MODEL
from fake_engine import FakeEngine
from penstock import ROOT, create_batch, finished, jsonl, line, wait_until
from test_clients import node_package

pytestmark = pytest.mark.local


@pytest.fixture(scope="module")
def browser():
    """The command that does a scenario, less its name."""
    chromium = shutil.which("chromium")
    if not chromium:
        pytest.skip("needs Chromium, which is not installed")
    program = node_package(ROOT / "tests/browser", (18, 0)) / "dashboard.mjs"
    return ["env", f"CHROMIUM={chromium}", "node", program]


def run(browser, scenario, server, *arguments):
    subprocess.run([*browser, scenario, server.url, *map(str, arguments)], check=True, timeout=120)


def test_dropped_file_is_run_to_its_end_and_its_answers_are_shown(browser, shared_server):
    run(browser, "watch", shared_server, jsonl([line("one"), line("two"), line("three")]).decode())


def test_faults_of_a_file_are_shown_by_line(browser, shared_server):
    lines = [line("one"), line("two", {"model": None}), line("three"), line("one"), line("five")]
    run(browser, "faults", shared_server, jsonl(lines).decode(), 2, 4)


def test_what_runs_is_paused_and_cancelled(browser, new_server):
    with FakeEngine(answers=2) as engine:
        server = new_server("--engine", engine.url, models=())
        client = server.client()
        batch = create_batch(client, [line(f"line {n}", {"model": FAKE_MODEL}) for n in range(40)])
        wait_until(lambda: client.batches.retrieve(batch.id).request_counts.completed == 2, "two lines are answered")
        program = subprocess.Popen([*browser, "cancel", server.url, batch.id])
        try:
            cancelling = lambda: client.batches.retrieve(batch.id).status == "cancelling"
            wait_until(cancelling, "the page cancels the batch", process=program)
            engine.release()
            assert program.wait(60) == 0
        finally:
            program.kill()
            program.wait()


def test_failed_lines_are_shown_and_run_again(browser, new_server):
    with FakeEngine() as engine:
        engine.refused.add("Say hello to odd.")
        server = new_server("--engine", engine.url, models=())
        client = server.client()
        names = ["first", "odd", "last"]
        batch = finished(client, create_batch(client, [line(name, {"model": FAKE_MODEL}) for name in names]))
        engine.refused.clear()
        run(browser, "retry", server, batch.id, "odd", "No.")


def test_answers_of_two_batches_are_compared(browser, new_server):
    with FakeEngine() as engine:
        server = new_server("--engine", engine.url, models=())
        client = server.client()
        for _ in range(2):
            finished(client, create_batch(client, [line(name, {"model": FAKE_MODEL}) for name in ("even", "odd")]))
            engine.refused.add("Say hello to odd.")
        run(browser, "compare", server, "odd")


def test_key_opens_as_much_as_its_scopes_say(browser, new_server):
    server = new_server("--no-worker", models=())
    server.place.key = server.make_key()
    run(browser, "login", server, server.place.key, server.make_key(scopes="files"))


def test_page_connects_again_when_the_server_is_back(browser, new_server):
    server = new_server("--no-worker", models=())
    program = subprocess.Popen([*browser, "reconnect", server.url], stdout=subprocess.PIPE, text=True)
    try:
        assert program.stdout.readline() == "live\n"
        server.kill()
        assert program.stdout.readline() == "alone\n"
        server.start()
        assert program.wait(60) == 0
    finally:
        program.kill()
        program.wait()


def test_all_pages_fit_on_a_phone_and_are_reached_by_keyboard(browser, shared_server):
    run(browser, "phone", shared_server)
