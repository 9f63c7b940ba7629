"""Following the results of a batch: every line once, whatever breaks on the way."""

import json
import os
import socket
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

from fake_engine import MODEL, FakeEngine
from penstock import create_batch, error_lines, finished, line, output_lines, wait_until

TOTAL = 60
FIRST = 20  # so many lines are answered before the engine holds its answers back


def results_url(server, batch):
    return f"{server.url}/v1/batches/{batch.id}/results"


def results(server, batch, **params):
    """The lines one by one, as they come. Who stops asking for more closes the connection."""
    with httpx2.stream("GET", results_url(server, batch), params=params, timeout=240) as response:
        assert response.status_code == 200
        assert response.headers["content-type"] == "application/x-ndjson"
        for text in response.iter_lines():
            yield json.loads(text)


def follow(server, batch, **params):
    return results(server, batch, stream="true", **params)


def take(lines, count):
    taken = [next(lines) for _ in range(count)]
    lines.close()
    return taken


def by_id(lines):
    return sorted(lines, key=lambda one: one["id"])


def assert_each_line_once(client, batch, received):
    batch = client.batches.retrieve(batch.id)
    assert Counter(one["id"] for one in received) == Counter({one["id"]: 1 for one in received})
    assert by_id(received) == by_id(output_lines(client, batch) + error_lines(client, batch))


@pytest.fixture
def engine():
    with FakeEngine(answers=FIRST) as engine:
        yield engine


@pytest.fixture
def server(new_server, engine):
    return new_server("--engine", engine.url, "--slots", "4", models=())


@pytest.fixture
def batch(server, engine):
    """Its first lines are saved, and the next are with the engine."""
    batch = create_batch(server.client(), [line(f"line {n}", {"model": MODEL}) for n in range(TOTAL)])
    wait_until(lambda: len(list(results(server, batch))) == FIRST, "the first lines are saved")
    return batch


@pytest.mark.local
def test_two_followers_see_every_line_of_a_running_batch(shared_server, client):
    lines = [line(f"line {n}") for n in range(20)]
    lines[7]["body"]["temperature"] = "hot"
    batch = create_batch(client, lines)
    with ThreadPoolExecutor() as threads:
        one, other = threads.map(lambda _: list(follow(shared_server, batch)), range(2))
    batch = client.batches.retrieve(batch.id)
    assert batch.status == "completed"
    assert len(one) == 20
    assert one == other == list(results(shared_server, batch))
    assert_each_line_once(client, batch, one)
    assert [one["custom_id"] for one in error_lines(client, batch)] == ["line 7"]


def test_lines_come_while_the_batch_runs_and_a_cut_follower_goes_on_where_it_was(server, engine, batch):
    received = take(follow(server, batch), 7)
    received += take(follow(server, batch, after=received[-1]["id"]), FIRST - 7)
    assert list(results(server, batch, after=received[-1]["id"])) == []
    engine.release()
    received += follow(server, batch, after=received[-1]["id"])
    client = server.client()
    assert client.batches.retrieve(batch.id).status == "completed"
    assert len(received) == TOTAL
    assert_each_line_once(client, batch, received)


def test_a_follower_of_a_killed_server_goes_on_when_it_is_back(server, engine, batch):
    received = []

    def until_it_breaks():
        with pytest.raises(httpx2.TransportError):
            for one in follow(server, batch):
                received.append(one)

    with ThreadPoolExecutor() as threads:
        follower = threads.submit(until_it_breaks)
        wait_until(lambda: len(received) == FIRST, "the follower has all that is saved")
        server.kill()
        follower.result(20)
    engine.release()
    server.start()
    received += follow(server, batch, after=received[-1]["id"])
    client = server.client()
    assert finished(client, batch).request_counts.completed == TOTAL
    assert len(received) == TOTAL
    assert_each_line_once(client, batch, received)


def test_followers_of_a_cancelled_batch_are_told_of_the_lines_that_were_not_run(server, engine, batch):
    client = server.client()
    with ThreadPoolExecutor() as threads:
        follower = threads.submit(lambda: list(follow(server, batch)))
        client.batches.cancel(batch.id)
        engine.release()
        batch = finished(client, batch)
        received = follower.result(20)
    assert batch.status == "cancelled"
    assert len(received) == TOTAL
    assert_each_line_once(client, batch, received)
    assert list(follow(server, batch, after=received[-3]["id"])) == received[-2:]


def test_what_cannot_be_followed_is_refused(server, batch):
    ask = lambda path, **params: httpx2.get(f"{server.url}/v1/batches/{path}/results", params=params)
    assert ask("batch_unknown").status_code == 404
    for params in ({"after": "batch_req_1"}, {"after": "batch_req_" + 40 * "0"}, {"stream": "yes"}):
        refused = ask(batch.id, **params)
        assert refused.status_code == 400
        assert refused.json()["error"]["param"] in params


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_idle_followers_cost_little_leave_nothing_behind_and_do_not_hold_up_the_end(server, engine, batch):
    pid = server.process.pid
    open_files = lambda: len(list(Path(f"/proc/{pid}/fd").iterdir()))
    before = open_files()
    followers = []
    for n in range(100):
        follower = socket.create_connection(("127.0.0.1", server.port))
        path = "results?stream=true" if n % 2 else "events"
        follower.sendall(f"GET /v1/batches/{batch.id}/{path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        followers.append(follower)
    for follower in followers:
        assert follower.recv(100).startswith(b"HTTP/1.1 200")
    used, start = cpu_seconds(pid), time.monotonic()
    time.sleep(3)
    assert cpu_seconds(pid) - used < 0.25 * (time.monotonic() - start)

    assert open_files() >= before + 100
    for follower in followers[:90]:
        follower.close()
    wait_until(lambda: open_files() <= before + 12, "those that have gone are forgotten")
    server.process.terminate()
    engine.release()
    assert server.process.wait(10) == 0
