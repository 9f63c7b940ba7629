"""Without a worker a batch is refused, and nothing else is. A worker that loads its model, is busy or drains is there.

The minute after which a worker counts as gone passes in no time here: libfaketime sets the server's clock. With
PASS_THE_MINUTE=1 in the environment one more test lets it pass for real.
"""

import os
import re
import time
from contextlib import ExitStack

import httpx2
import openai
import pytest

from fake_engine import MODEL, FakeEngine
from penstock import clock_set, create_batch, finished, line, needs_faketime, output_lines, upload, wait_until

LINES = [line("one", {"model": MODEL}), line("two", {"model": MODEL})]



@pytest.fixture
def new_engine():
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(FakeEngine(**options))


def worker(server):
    return httpx2.get(f"{server.url}/v1/queue").json()["worker"]


def last_sign(server):
    """When a worker last gave a sign, in Unix seconds; asked of the database, which answers while the server does not."""
    return server.place.rows("SELECT MAX(seen_ms) AS last FROM processes WHERE is_worker = 1")[0]["last"] / 1000


def refusal(client):
    with pytest.raises(openai.InternalServerError) as failure:
        create_batch(client, LINES)
    assert failure.value.status_code == 503
    assert failure.value.body["type"] == "server_error"
    assert failure.value.body["code"] == "worker_offline"
    assert 1 <= int(failure.value.response.headers["retry-after"]) <= 30
    return failure.value.body["message"]


def loading(new_server, tmp_path):
    """A server whose model takes longer to load than any test."""
    program = tmp_path / "slow-llama-server"
    program.write_text("#!/bin/sh\nexec sleep 600\n")
    program.chmod(0o755)
    return new_server("--llama-server", program)


def busy(new_server, engine):
    """A server whose worker waits for a line's answer, and has one more to send."""
    server = new_server("--engine", engine.url, "--slots", "1", models=())
    create_batch(server.client(), LINES)
    wait_until(lambda: engine.asked, "a line is with the engine")
    return server


def test_without_a_worker_files_are_taken_and_shown_and_batches_refused(new_server):
    server = new_server("--no-worker", models=())
    client = server.client()
    assert refusal(client) == "Worker offline (never seen)"
    file = upload(client, LINES)
    assert client.files.retrieve(file.id) == file
    assert file in client.files.list().data
    assert client.batches.list().data == []
    queue = httpx2.get(f"{server.url}/v1/queue").json()
    assert (queue["data"], queue["depth"], queue["max_depth"]) == ([], 0, 20)
    assert queue["worker"] == {"status": "offline", "last_seen_at": None}


@needs_faketime
def test_a_killed_worker_is_missed_after_a_minute(new_server, new_engine):
    server = new_server("--engine", new_engine().url, models=())
    client = server.client()
    assert worker(server)["status"] == "online"
    server.kill()
    sign = last_sign(server)
    assert time.time() - 30 < sign < time.time()

    server.command.append("--no-worker")
    server.start()
    first, second = create_batch(client, LINES), create_batch(client, LINES)
    assert worker(server) == {"status": "online", "last_seen_at": int(sign)}
    server.kill()

    server.env |= clock_set(FAKETIME="+61s")
    server.start()
    ago = re.fullmatch(r"Worker offline \(last seen (\d+)s ago\)", refusal(client))
    assert 61 <= int(ago[1]) < 121
    assert worker(server) == {"status": "offline", "last_seen_at": int(sign)}
    assert client.batches.retrieve(first.id).status == "validating"
    assert httpx2.post(f"{server.url}/v1/batches/{first.id}", json={"priority": 1}).json()["priority"] == 1
    assert finished(client, client.batches.cancel(second.id)).status == "cancelled"
    server.kill()

    server.command.remove("--no-worker")
    server.start()
    assert finished(client, first).status == "completed"
    assert finished(client, create_batch(client, LINES)).status == "completed"


def test_a_worker_that_loads_or_is_busy_or_drains_goes_on_giving_signs(new_server, new_engine, tmp_path):
    engine, last_engine = new_engine(answers=0), new_engine(answers=0)
    servers = [loading(new_server, tmp_path), busy(new_server, engine)]
    draining = busy(new_server, last_engine)
    draining.process.terminate()
    since = time.time()
    for server in [*servers, draining]:
        wait_until(lambda: last_sign(server) > since, "the worker has given one more sign", 30)
    assert draining.process.poll() is None
    for server in servers:
        assert worker(server)["status"] == "online"
        assert create_batch(server.client(), LINES).status == "validating"
    last_engine.release()
    assert draining.process.wait(20) == 0


def test_batches_are_queued_without_a_worker_when_the_operator_wants_that(new_server, new_engine):
    server = new_server("--no-worker", "--accept-when-offline", models=())
    client = server.client()
    batch = create_batch(client, LINES)
    assert worker(server) == {"status": "offline", "last_seen_at": None}
    assert client.batches.retrieve(batch.id).status == "validating"
    server.kill()
    server.command.remove("--no-worker")
    server.command += ["--engine", new_engine().url]
    server.start()
    batch = finished(client, batch)
    assert [one["custom_id"] for one in output_lines(client, batch)] == ["one", "two"]


@pytest.mark.skipif(not os.environ.get("PASS_THE_MINUTE"), reason="it lasts a minute; PASS_THE_MINUTE=1 lets it")
def test_after_a_real_minute_the_dead_worker_is_missed_and_the_others_are_not(new_server, new_engine, tmp_path):
    others = [loading(new_server, tmp_path), busy(new_server, new_engine(answers=0))]
    server = new_server("--engine", new_engine().url, models=())
    client = server.client()
    server.kill()
    server.command.append("--no-worker")
    server.start()
    sign = last_sign(server)

    time.sleep(sign + 59 - time.time())
    create_batch(client, LINES)
    time.sleep(sign + 61.5 - time.time())
    assert refusal(client) == "Worker offline (last seen 61s ago)"
    for other in others:
        assert last_sign(other) > time.time() - 15
        assert worker(other)["status"] == "online"
        create_batch(other.client(), LINES)
