"""The dashboard's pages of the system, the deliveries and the administration, in a real browser: what it does there
stands in tests/browser/pages.mjs."""

import subprocess
from contextlib import contextmanager

import httpx2
import pytest

from fake_engine import MODEL, FakeEngine
from penstock import create_batch, finished, free_port, line, wait_until
from receiver import Receiver
from test_dashboard import browser  # noqa: F401  a fixture
from test_keys import status
from test_webhooks import ALL_EVENTS, ALLOW, deliveries

pytestmark = pytest.mark.local


@pytest.fixture
def server(new_server):
    with FakeEngine() as engine:
        yield new_server("--engine", engine.url, *ALLOW, models=())


@contextmanager
def scenario(browser, name, server, *arguments):
    """While it is done; ends when it has gone well. What it says can be read in between."""
    command = [*browser[:-1], browser[-1].with_name("pages.mjs"), name, server.url, *arguments]
    program = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield program
        assert program.wait(120) == 0, program.stdout.read()
    finally:
        program.kill()
        program.wait()


def says(program):
    words = program.stdout.readline()
    assert words, "it ended before"
    return words.removesuffix("\n")


def run_one(server):
    client = server.client()
    return finished(client, create_batch(client, [line(f"line {n}", {"model": MODEL}) for n in range(3)]))


def test_engines_workers_and_charts_show_what_happens(browser, new_server):
    with FakeEngine() as engine:
        away = f"http://127.0.0.1:{free_port()}"
        server = new_server("--engine", engine.url, "--engine", away, models=())
        with scenario(browser, "system", server, away, MODEL) as program:
            assert says(program) == "watches"
            run_one(server)


def test_webhook_is_added_tested_and_deleted(browser, server):
    with Receiver() as receiver, scenario(browser, "webhook", server, receiver.url) as program:
        assert says(program).startswith("whsec_")
    (event,) = receiver.events()
    assert event["type"] == "batch.expired"


def test_dead_letters_are_seen_and_sent_again(browser, server):
    with Receiver(410) as receiver:
        client = server.client()
        endpoint = client.webhooks.create(name="all ends", url=receiver.url, event_types=ALL_EVENTS)
        batches = []
        for _ in range(2):
            client.webhooks.update(endpoint.id, name="all ends")  # enables it again
            batch = run_one(server)
            dead = lambda: [one for one in deliveries(server, batch) if one["status"] == "dead"]
            wait_until(dead, "the letter is dead")
            batches.append(batch.id)
        with scenario(browser, "letters", server, *batches) as program:
            assert says(program) == "has seen it"
            receiver.status = 204
    assert len(receiver.requests) == 3


def test_first_key_is_made_and_a_project_with_its_own(browser, server):
    with scenario(browser, "keys", server) as program:
        server.place.key = says(program)  # for the audit
        rotated, revoked = says(program), says(program)
        for key, wanted in ((None, 401), (rotated, 401), (revoked, 401), (server.place.key, 200)):
            wait_until(lambda: status(server, key) == wanted, "the server has heard of the key")
    projects = httpx2.get(f"{server.url}/v1/organization/projects", headers={"Authorization": f"Bearer {server.place.key}"})
    night = next(one for one in projects.json()["data"] if one["name"] == "Night")
    assert (night["limits"]["active_batches"], night["limits"]["queued_lines"]) == (2, None)


def test_all_pages_keep_the_rules_of_accessibility(browser, server):
    client = server.client()
    client.webhooks.create(name="all ends", url=f"http://127.0.0.1:{free_port()}/", event_types=ALL_EVENTS)
    batch = run_one(server)
    with scenario(browser, "accessible", server, batch.id):
        pass
