"""Who goes first, who waits, and what the waiting are told. One slot, and an engine that holds its answers back."""

import time

import httpx2
import openai
import pytest

from fake_engine import MODEL, FakeEngine
from penstock import create_batch, finished, line, wait_until


@pytest.fixture
def engine():
    with FakeEngine(answers=0) as engine:
        yield engine


@pytest.fixture
def server(new_server, engine):
    return new_server("--engine", engine.url, "--slots", "1", models=())


def one_line(name):
    return [line(name, {"model": MODEL})]


def create(client, name, **extra):
    return create_batch(client, one_line(name), extra_body=extra)


def position(client, batch):
    return client.batches.retrieve(batch.id).model_extra["queue_position"]


def running_and_four_waiting(client, engine):
    running = create(client, "running")
    wait_until(lambda: engine.asked, "the first batch's line is with the engine")
    names = {"first": {}, "low": {"priority": -1}, "high": {"metadata": {"priority": "1"}}, "second": {"priority": 0}}
    waiting = {name: create(client, name, **extra) for name, extra in names.items()}
    validated = lambda: all(client.batches.retrieve(batch.id).model for batch in waiting.values())
    wait_until(validated, "all four have been validated")
    return running, waiting


def test_batches_that_come_while_one_runs_are_accepted_and_run_by_priority_then_arrival(server, engine):
    client = server.client()
    running, waiting = running_and_four_waiting(client, engine)
    engine.release()
    for batch in [running, *waiting.values()]:
        assert finished(client, batch).request_counts.completed == 1
    said = [f"Say hello to {name}." for name in ("running", "high", "first", "second", "low")]
    assert list(engine.asked) == said


def test_a_waiting_batch_is_validating_and_knows_its_place_and_when_its_turn_comes(server, engine):
    client = server.client()
    running, waiting = running_and_four_waiting(client, engine)
    assert client.batches.retrieve(running.id).status == "in_progress"
    assert position(client, running) is None
    assert {name: position(client, batch) for name, batch in waiting.items()} == {"high": 1, "first": 2, "second": 3, "low": 4}
    starts = []
    for name in ("high", "first", "second", "low"):
        batch = client.batches.retrieve(waiting[name].id)
        assert batch.status == "validating"
        start, completion = batch.model_extra["estimated_start_time"], batch.model_extra["estimated_completion_time"]
        for text in (start, completion):
            time.strptime(text, "%Y-%m-%dT%H:%M:%SZ")
        assert start <= completion
        starts.append(start)
    assert starts == sorted(starts)

    listed = {batch.id: batch for batch in client.batches.list()}
    assert listed[waiting["high"].id].model_extra["queue_position"] == 1
    queue = httpx2.get(f"{server.url}/v1/queue").json()["data"]
    assert [batch["queue_position"] for batch in queue if batch["id"] != running.id] == [1, 2, 3, 4]


def test_priority_can_be_changed_while_waiting(server, engine):
    client = server.client()
    running, waiting = running_and_four_waiting(client, engine)
    change = lambda batch, body: httpx2.post(f"{server.url}/v1/batches/{batch.id}", json=body)
    assert change(waiting["low"], {"priority": 1}).json()["priority"] == 1
    assert change(waiting["high"], {"priority": -1}).json()["priority"] == -1
    refused = change(waiting["first"], {"priority": 7})
    assert refused.status_code == 400 and refused.json()["error"]["param"] == "priority"
    engine.release()
    for batch in [running, *waiting.values()]:
        finished(client, batch)
    assert list(engine.asked) == [f"Say hello to {name}." for name in ("running", "low", "first", "second", "high")]
    assert change(running, {"priority": 1}).status_code == 409


def test_a_waiting_batch_can_be_cancelled_and_frees_its_place(server, engine):
    client = server.client()
    running, waiting = running_and_four_waiting(client, engine)
    cancelled = client.batches.cancel(waiting["high"].id)
    assert finished(client, cancelled).status == "cancelled"
    wait_until(lambda: position(client, waiting["first"]) == 1, "the next one has moved up")
    engine.release()
    finished(client, waiting["low"])
    assert "Say hello to high." not in engine.asked


def test_a_wrong_priority_is_refused_and_leaves_no_batch(server):
    client = server.client()
    for extra in ({"priority": 5}, {"priority": "high"}, {"metadata": {"priority": "urgent"}}):
        with pytest.raises(openai.BadRequestError) as failure:
            create(client, "one", **extra)
        assert failure.value.param in ("priority", "metadata.priority")
    assert client.batches.list().data == []
