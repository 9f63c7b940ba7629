"""Following a batch as events: what it is, whenever that has changed, until it has ended."""

import json

import httpx2
import pytest

from fake_engine import MODEL, FakeEngine
from penstock import create_batch, finished, line

TOTAL = 60
FIRST = 20  # so many lines are answered before the engine holds its answers back


def events(server, batch):
    """The batch objects one by one, as they come. Who stops asking for more closes the connection."""
    with httpx2.stream("GET", f"{server.url}/v1/batches/{batch.id}/events", timeout=240) as response:
        assert response.status_code == 200
        assert response.headers["content-type"] == "text/event-stream"
        lines = response.iter_lines()
        for kind in lines:
            assert kind == "event: batch"
            name, _, data = next(lines).partition(": ")
            assert name == "data"
            assert next(lines) == ""
            yield json.loads(data)


@pytest.fixture
def engine():
    with FakeEngine(answers=FIRST) as engine:
        yield engine


@pytest.fixture
def server(new_server, engine):
    return new_server("--engine", engine.url, "--slots", "4", models=())


def create(server):
    return create_batch(server.client(), [line(f"line {n}", {"model": MODEL}) for n in range(TOTAL)])


def get(server, batch):
    return httpx2.get(f"{server.url}/v1/batches/{batch.id}").json()


def until_completed_are(stream, completed):
    seen = []
    for one in stream:
        seen.append(one)
        if one["request_counts"]["completed"] == completed:
            return seen
    raise AssertionError("the stream ended")


def test_events_tell_of_a_batch_from_its_creation_to_its_end(server, engine):
    batch = create(server)
    stream = events(server, batch)
    seen = until_completed_are(stream, FIRST)
    engine.release()
    seen += stream
    assert [one["id"] for one in seen] == [batch.id] * len(seen)
    assert all(one != other for one, other in zip(seen, seen[1:]))
    counts = [one["request_counts"]["completed"] for one in seen]
    assert counts == sorted(counts)
    assert seen[-1]["status"] == "completed"
    assert seen[-1] == get(server, batch)
    assert list(events(server, batch)) == [seen[-1]]


def test_a_follower_sees_that_the_batch_is_cancelled(server, engine):
    batch = create(server)
    stream = events(server, batch)
    until_completed_are(stream, FIRST)
    server.client().batches.cancel(batch.id)
    assert next(one for one in stream if one["status"] != "in_progress")["status"] == "cancelling"
    engine.release()
    assert list(stream)[-1]["status"] == "cancelled"


@pytest.mark.local
def test_two_followers_see_the_same_end_of_a_real_batch(shared_server, client):
    batch = create_batch(client, [line(f"line {n}") for n in range(10)])
    one, other = events(shared_server, batch), events(shared_server, batch)
    assert next(one)["id"] == next(other)["id"] == batch.id
    assert list(one)[-1] == list(other)[-1] == get(shared_server, batch)


def test_a_batch_that_failed_validation_is_one_event(client, shared_server):
    batch = finished(client, create_batch(client, b"bad\n"))
    (only,) = events(shared_server, batch)
    assert only["status"] == "failed"
    assert httpx2.get(f"{shared_server.url}/v1/batches/batch_unknown/events").status_code == 404


def test_head_of_an_endless_stream_ends(server):
    batch = create(server)
    for path in ("events", "results?stream=true"):
        assert httpx2.head(f"{server.url}/v1/batches/{batch.id}/{path}", timeout=5).status_code == 200
