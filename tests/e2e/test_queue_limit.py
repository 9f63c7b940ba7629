"""Limits of the queue. The engine holds its answers back, so that batches stay unfinished for as long as the test needs."""

from concurrent.futures import ThreadPoolExecutor

import openai
import pytest

from fake_engine import MODEL, FakeEngine
from penstock import create_batch, finished, line, upload, wait_until

LINES = [line("one", {"model": MODEL})]


@pytest.fixture
def engine():
    with FakeEngine(answers=0) as engine:
        yield engine


def start(new_server, engine, **env):
    return new_server("--engine", engine.url, env=env, models=()).client()


def test_full_queue_refuses_the_next_batch_until_one_ends(new_server, engine):
    client = start(new_server, engine, MAX_QUEUE_DEPTH="2")
    waiting = [create_batch(client, LINES) for _ in range(2)]
    with pytest.raises(openai.RateLimitError) as failure:
        create_batch(client, LINES)
    assert failure.value.body["message"] == "Queue full (2/2 jobs). Try again later."
    assert 1 <= int(failure.value.response.headers["retry-after"]) <= 30
    assert len(client.batches.list().data) == 2

    engine.release()
    for batch in waiting:
        assert finished(client, batch).status == "completed"
    assert finished(client, create_batch(client, LINES)).status == "completed"


def test_many_clients_at_once_get_exactly_the_free_places(new_server, engine):
    client = start(new_server, engine, MAX_QUEUE_DEPTH="5")
    file = upload(client, LINES)

    def create(_):
        try:
            client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
            return "created"
        except openai.RateLimitError:
            return "refused"

    with ThreadPoolExecutor(20) as pool:
        outcomes = list(pool.map(create, range(20)))
    assert outcomes.count("created") == 5


def test_full_number_of_queued_requests_refuses_the_next_batch(new_server, engine):
    client = start(new_server, engine, MAX_TOTAL_QUEUED_REQUESTS="2")
    create_batch(client, [line("a", {"model": MODEL}), line("b", {"model": MODEL})])
    # Lines count once they have been read, and the engine being asked says that they have been.
    wait_until(lambda: sum(engine.asked.values()) == 2, "both lines are with the engine")
    with pytest.raises(openai.RateLimitError, match="2 of at most 2 requests"):
        create_batch(client, LINES)
    assert len(client.batches.list().data) == 1
