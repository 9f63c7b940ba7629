"""Batches with `dedupe`: of lines that ask the same one is sent, and each has its own line of the output."""

import json

import httpx2
import pytest

from fake_engine import MODEL, FakeEngine
from penstock import create_batch, error_lines, finished, line, output_lines, wait_until


def some_lines(*texts, **body):
    messages = ([{"role": "user", "content": text}] for text in texts)
    body = {"model": MODEL, "temperature": 0} | body
    return [line(f"{n}", body | {"messages": one}) for n, one in enumerate(messages)]


@pytest.fixture
def engine():
    with FakeEngine() as made:
        yield made


@pytest.fixture
def server(new_server, engine):
    return new_server("--engine", engine.url, models=())


def test_equal_lines_are_asked_once_and_each_is_answered(server, engine):
    client = server.client()
    texts = ["same", "other", "same", "same", "other"]
    batch = finished(client, create_batch(client, some_lines(*texts), extra_body={"dedupe": True}))
    assert batch.model_extra["dedupe"] is True
    assert (batch.request_counts.completed, batch.request_counts.failed) == (5, 0)
    assert engine.asked == {"same": 1, "other": 1}
    output = output_lines(client, batch)
    assert [one["custom_id"] for one in output] == [*"01234"]
    contents = [one["response"]["body"]["choices"][0]["message"]["content"] for one in output]
    assert contents == [f"You said: {text}" for text in texts]
    assert len({one["id"] for one in output}) == len({one["response"]["request_id"] for one in output}) == 5
    assert all(one["response"]["body"]["usage"]["total_tokens"] == 5 for one in output)
    assert batch.usage.total_tokens == 10


def test_without_it_and_of_lines_that_may_be_answered_in_many_ways_each_is_asked(server, engine):
    client = server.client()
    same = ["same"] * 3
    for lines, extra, asked in [
        (some_lines(*same), {}, 3),
        (some_lines(*same), {"dedupe": False}, 6),
        (some_lines(*same, temperature=0.5), {"dedupe": True}, 9),
        (some_lines(*same, temperature=0.5, seed=1), {"dedupe": True}, 10),
    ]:
        assert finished(client, create_batch(client, lines, extra_body=extra)).request_counts.completed == 3
        assert engine.asked["same"] == asked


def test_a_retry_is_deduped_as_its_batch_was(server, engine):
    client = server.client()
    engine.refused.add("bad")
    lines = some_lines("bad", "good", "bad", "good", "bad")
    old = finished(client, create_batch(client, lines, extra_body={"dedupe": True}))
    assert [one["custom_id"] for one in error_lines(client, old)] == ["0", "2", "4"]
    assert engine.asked == {"bad": 1, "good": 1}
    engine.refused.clear()
    made = httpx2.post(f"{server.url}/v1/batches/{old.id}/retry").json()
    assert made["dedupe"] is True
    batch = finished(client, client.batches.retrieve(made["id"]))
    assert (batch.request_counts.completed, batch.usage.total_tokens) == (5, 10)
    assert engine.asked == {"bad": 2, "good": 1}


@pytest.mark.parametrize("value", [1, "true", [], {}], ids=str)
def test_something_else_than_a_boolean_is_refused(server, value):
    client = server.client()
    file = client.files.create(file=("in.jsonl", json.dumps(line("a")).encode()), purpose="batch")
    body = {"input_file_id": file.id, "endpoint": "/v1/chat/completions", "completion_window": "24h", "dedupe": value}
    answer = httpx2.post(f"{server.url}/v1/batches", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "dedupe")


def test_after_a_kill_what_was_not_saved_is_asked_again_and_each_line_is_there_once(new_server):
    with FakeEngine(answers=1) as engine:
        server = new_server("--engine", engine.url, "--slots", "1", models=())
        client = server.client()
        batch = create_batch(client, some_lines(*["first"] * 3, *["second"] * 4), extra_body={"dedupe": True})
        wait_until(lambda: client.batches.retrieve(batch.id).request_counts.completed == 3, "the first ones are saved")
        wait_until(lambda: engine.asked["second"] == 1, "the second ones are asked")
        server.kill()
        engine.release()
        server.start()
        batch = finished(client, batch)
        assert engine.asked == {"first": 1, "second": 2}
        assert [one["custom_id"] for one in output_lines(client, batch)] == [*"0123456"]
        assert batch.usage.total_tokens == 10
