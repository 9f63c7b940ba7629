"""Cancelling a batch, at every moment of its life."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx2
import openai
import pytest

import fake_engine
from fake_engine import FakeEngine
from penstock import create_batch, error_lines, finished, line, output_lines, wait_until


@pytest.fixture
def held(new_server):
    """An engine that answers two lines and holds the others back, and a server of one slot before it."""
    with FakeEngine(answers=2) as engine:
        yield engine, new_server("--engine", engine.url, "--slots", "1", models=())


def lines(count):
    return [line(f"line {n}", {"model": fake_engine.MODEL}) for n in range(count)]


def running(engine, server):
    """A batch of six lines: two are done, one is under way."""
    batch = create_batch(server.client(), lines(6))
    wait_until(lambda: sum(engine.asked.values()) == 3, "the third line is with the engine")
    wait_until(lambda: server.client().batches.retrieve(batch.id).request_counts.completed == 2, "two lines are saved")
    return batch


def refused(server, batch):
    """What cancelling says of a batch that has ended. Without the header every client would try twice more."""
    answer = httpx2.post(f"{server.url}/v1/batches/{batch.id}/cancel")
    assert answer.status_code == 409
    assert answer.headers["x-should-retry"] == "false"
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["type"], error["code"]) == ("invalid_request_error", None)
    return error["message"]


@pytest.mark.local
def test_cancelled_batch_of_the_real_model_keeps_what_is_done_and_names_the_rest(client):
    total = 200
    batch = create_batch(client, [line(f"line {n}", {"max_tokens": 16}) for n in range(total)])
    wait_until(lambda: client.batches.retrieve(batch.id).request_counts.completed > 0, "a first line is done")

    cancelled = client.batches.cancel(batch.id)
    assert cancelled.status in ("cancelling", "cancelled")
    assert cancelled.cancelling_at
    batch = finished(client, batch)
    assert batch.status == "cancelled"
    assert batch.cancelled_at >= batch.cancelling_at
    assert batch.completed_at is None

    done = output_lines(client, batch)
    given_up = error_lines(client, batch)
    assert 0 < len(done) < total
    assert batch.request_counts.completed == len(done)
    assert Counter(one["custom_id"] for one in done + given_up) == Counter(f"line {n}" for n in range(total))
    for one in given_up:
        assert set(one) == {"id", "custom_id", "response", "error"}
        assert one["response"] is None
        assert one["error"]["code"] == "batch_cancelled"
        assert one["error"]["message"]
    assert batch.usage.total_tokens == sum(one["response"]["body"]["usage"]["total_tokens"] for one in done)


def test_cancel_answers_cancelling_and_lines_under_way_may_finish(held):
    engine, server = held
    client = server.client()
    batch = running(engine, server)
    cancelled = client.batches.cancel(batch.id)
    assert (cancelled.id, cancelled.status) == (batch.id, "cancelling")
    assert cancelled.cancelling_at >= batch.created_at
    assert cancelled.cancelled_at is None
    assert client.batches.retrieve(batch.id).status == "cancelling"
    again = client.batches.cancel(batch.id)
    assert (again.status, again.cancelling_at) == ("cancelling", cancelled.cancelling_at)

    engine.release()
    batch = finished(client, batch)
    assert (batch.status, batch.cancelling_at) == ("cancelled", cancelled.cancelling_at)
    assert [one["custom_id"] for one in output_lines(client, batch)] == ["line 0", "line 1", "line 2"]
    assert [one["custom_id"] for one in error_lines(client, batch)] == ["line 3", "line 4", "line 5"]
    assert (batch.request_counts.completed, batch.request_counts.failed, batch.request_counts.total) == (3, 3, 6)
    assert sum(engine.asked.values()) == 3
    assert client.batches.cancel(batch.id) == batch


def test_completed_batch_cannot_be_cancelled(client, shared_server):
    batch = finished(client, create_batch(client, [line("one", {"max_tokens": 1})]))
    assert refused(shared_server, batch) == "Cannot cancel a batch with status 'completed'."
    with pytest.raises(openai.ConflictError):
        client.batches.cancel(batch.id)
    assert client.batches.retrieve(batch.id) == batch


def test_failed_batch_cannot_be_cancelled(client, shared_server):
    batch = finished(client, create_batch(client, b"no JSON\n"))
    assert refused(shared_server, batch) == "Cannot cancel a batch with status 'failed'."
    assert client.batches.retrieve(batch.id) == batch


@pytest.mark.parametrize("content", [None, b"", b"{}", b'{"reason": "late"}'], ids=repr)
def test_cancel_needs_no_body(held, content):
    engine, server = held
    batch = running(engine, server)
    url = f"{server.url}/v1/batches/{batch.id}/cancel"
    answer = httpx2.post(url, content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 200
    assert answer.json()["status"] == "cancelling"
    engine.release()
    assert finished(server.client(), batch).status == "cancelled"


def test_fault_39_batch_that_is_cancelled_as_soon_as_it_is_made_names_all_its_lines(new_server):
    with FakeEngine() as engine:
        gone = engine.url  # so that none is sent before the cancel
    client = new_server("--engine", gone, models=()).client()
    total = 20_000
    batch = finished(client, client.batches.cancel(create_batch(client, lines(total)).id))
    assert batch.status == "cancelled"
    assert [one["custom_id"] for one in error_lines(client, batch)] == [f"line {n}" for n in range(total)]
    assert (batch.request_counts.failed, batch.request_counts.total) == (total, total)


def test_fault_39_cancel_outlives_a_kill(held):
    engine, server = held
    batch = running(engine, server)
    assert server.client().batches.cancel(batch.id).status == "cancelling"
    server.kill()
    server.start()
    client = server.client()
    batch = finished(client, batch)
    assert batch.status == "cancelled"
    assert [one["custom_id"] for one in output_lines(client, batch)] == ["line 0", "line 1"]
    assert len(error_lines(client, batch)) == 4


def test_fault_39_many_cancels_at_once_agree(held):
    engine, server = held
    batch = running(engine, server)
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: server.client().batches.cancel(batch.id), range(10)))
    assert {answer.status for answer in answers} == {"cancelling"}
    assert len({answer.cancelling_at for answer in answers}) == 1
    engine.release()
    assert finished(server.client(), batch).status == "cancelled"


def test_fault_39_cancel_and_completion_have_one_winner(new_server):
    with FakeEngine() as engine:
        server = new_server("--engine", engine.url, "--slots", "2", models=(), env={"MAX_QUEUE_DEPTH": "0"})
        client = server.client()
        batches = [create_batch(client, lines(4)) for _ in range(30)]

        def cancel(batch):
            return httpx2.post(f"{server.url}/v1/batches/{batch.id}/cancel").status_code

        with ThreadPoolExecutor(4) as pool:
            statuses = list(pool.map(cancel, batches))
        for batch, status in zip(batches, statuses):
            batch = finished(client, batch)
            assert (status, batch.status) in ((200, "cancelled"), (409, "completed"))
            assert (batch.cancelled_at is None) == (batch.completed_at is not None)
            output, errors = output_lines(client, batch), error_lines(client, batch)
            assert Counter(one["custom_id"] for one in output + errors) == Counter(f"line {n}" for n in range(4))
            assert batch.request_counts.completed == len(output)
