"""Beyond OpenAI's API: running a batch's failed lines again, and pausing it."""

import time
from collections import Counter

import httpx2
import pytest

from fake_engine import MODEL, FakeEngine
from penstock import create_batch, error_lines, finished, line, output_lines, wait_until


@pytest.fixture
def engine():
    with FakeEngine() as engine:
        yield engine


@pytest.fixture
def held_engine():
    """Answers two lines and holds the others until it is released."""
    with FakeEngine(answers=2) as engine:
        yield engine


def serve(new_server, engine):
    return new_server("--engine", engine.url, "--slots", "2", models=())


def lines(count):
    return [line(f"line {n}", {"model": MODEL}) for n in range(count)]


def said(n):
    return f"Say hello to line {n}."


def post(server, path):
    return httpx2.post(f"{server.url}/v1/batches/{path}")


def act(server, batch, action):
    answer = post(server, f"{batch.id}/{action}")
    assert answer.status_code == 200, answer.text
    return server.client().batches.retrieve(answer.json()["id"])


def ids(answers):
    return [one["custom_id"] for one in answers]


def test_a_retry_runs_only_the_failed_lines_again_and_its_output_has_all_answers(new_server, engine):
    server = serve(new_server, engine)
    client = server.client()
    engine.refused = {said(3), said(700)}
    old = finished(client, create_batch(client, lines(1000), metadata={"team": "blue"}))
    assert (old.request_counts.completed, old.request_counts.failed) == (998, 2)

    engine.refused = {said(700)}
    new = act(server, old, "retry")
    assert new.model_extra["retry_of"] == old.id
    assert (new.input_file_id, new.endpoint, new.metadata) == (old.input_file_id, old.endpoint, old.metadata)
    new = finished(client, new)
    assert engine.asked[said(3)] == engine.asked[said(700)] == 2
    assert sum(engine.asked.values()) == 1002
    assert (new.request_counts.total, new.request_counts.completed, new.request_counts.failed) == (1000, 999, 1)
    output = output_lines(client, new)
    assert ids(output) == [f"line {n}" for n in range(1000) if n != 700]
    assert len({one["id"] for one in output}) == 999
    assert [one for one in output if one["custom_id"] != "line 3"] == output_lines(client, old)
    assert ids(error_lines(client, new)) == ["line 700"]
    assert new.usage.total_tokens == sum(one["response"]["body"]["usage"]["total_tokens"] for one in output)

    engine.refused = set()
    newest = finished(client, act(server, new, "retry"))
    assert ids(output_lines(client, newest)) == [f"line {n}" for n in range(1000)]
    assert newest.error_file_id is None
    assert client.batches.retrieve(old.id) == old


def test_a_cancelled_batch_goes_on_where_it_was_by_a_retry(new_server):
    def reply(body):
        time.sleep(0.01)  # so that the cancel comes before the last line
        return FakeEngine._greet(body)

    with FakeEngine(answers=2, reply=reply) as engine:
        server = serve(new_server, engine)
        client = server.client()
        batch = create_batch(client, lines(300))
        wait_until(lambda: len(engine.asked) == 4, "two lines are answered and two held back")
        client.batches.cancel(batch.id)
        engine.release()
        batch = finished(client, batch)
        answered = len(engine.asked)  # on PostgreSQL also lines that were sent before the worker had heard
        assert (batch.status, len(error_lines(client, batch))) == ("cancelled", 300 - answered)
        assert answered < 200

        retried = finished(client, act(server, batch, "retry"))
        assert retried.status == "completed"
        assert ids(output_lines(client, retried)) == [f"line {n}" for n in range(300)]
        assert set(engine.asked.values()) == {1}


def test_what_cannot_be_retried_says_why_and_makes_no_batch(new_server, held_engine):
    server = serve(new_server, held_engine)
    client = server.client()
    running = create_batch(client, lines(5))
    wait_until(lambda: len(held_engine.asked) == 4, "it runs")
    refusal = post(server, f"{running.id}/retry")
    assert refusal.status_code == 409
    assert refusal.headers["x-should-retry"] == "false"
    assert "'in_progress'" in refusal.json()["error"]["message"]
    held_engine.release()
    assert "all of its lines were answered" in post(server, f"{finished(client, running).id}/retry").text
    failed = finished(client, create_batch(client, b"no JSON\n"))
    assert "faults" in post(server, f"{failed.id}/retry").text
    assert post(server, "batch_unknown/retry").status_code == 404
    assert len(client.batches.list().data) == 2


def test_a_retry_whose_files_were_deleted_is_refused(new_server, engine):
    server = serve(new_server, engine)
    client = server.client()
    engine.refused = {said(1)}
    batch = finished(client, create_batch(client, lines(2)))
    client.files.delete(batch.output_file_id)
    assert "output file was deleted" in post(server, f"{batch.id}/retry").text
    client.files.delete(batch.input_file_id)
    assert "input file was deleted" in post(server, f"{batch.id}/retry").text


def test_a_paused_batch_sends_nothing_and_goes_on_when_it_is_resumed(new_server, held_engine):
    server = serve(new_server, held_engine)
    client = server.client()
    batch = create_batch(client, lines(20))
    wait_until(lambda: len(held_engine.asked) == 4, "two lines are answered and two held back")
    paused = act(server, batch, "pause")
    assert paused.status == "in_progress"
    assert paused.model_extra["paused_at"]
    assert act(server, batch, "pause").model_extra["paused_at"] == paused.model_extra["paused_at"]

    held_engine.release()
    wait_until(lambda: client.batches.retrieve(batch.id).request_counts.completed == 4, "the lines under way are done")
    other = finished(client, create_batch(client, [line("other", {"model": MODEL})]))
    assert other.status == "completed"
    assert len(held_engine.asked) == 5, "a line of the paused batch was sent"

    assert act(server, batch, "resume").model_extra["paused_at"] is None
    batch = finished(client, batch)
    assert ids(output_lines(client, batch)) == [f"line {n}" for n in range(20)]
    assert set(held_engine.asked.values()) == {1}


def test_a_waiting_batch_can_be_paused_and_stays_so_over_a_restart(new_server, held_engine):
    server = serve(new_server, held_engine)
    client = server.client()
    first = create_batch(client, lines(4))
    wait_until(lambda: len(held_engine.asked) == 4, "the first batch holds both slots")
    second = create_batch(client, [line("second", {"model": MODEL})])
    paused = act(server, second, "pause")
    assert paused.model_extra["queue_position"] is None
    assert paused.model_extra["estimated_completion_time"] is None
    server.kill()
    held_engine.release()
    server.start()
    assert finished(client, first).request_counts.completed == 4
    finished(client, create_batch(client, [line("third", {"model": MODEL})]))
    assert client.batches.retrieve(second.id).status == "validating"
    act(server, second, "resume")
    assert finished(client, second).request_counts.completed == 1


def test_a_paused_batch_can_be_cancelled_and_an_ended_one_is_not_paused(new_server, held_engine):
    server = serve(new_server, held_engine)
    client = server.client()
    batch = create_batch(client, lines(10))
    wait_until(lambda: len(held_engine.asked) == 4, "it runs")
    act(server, batch, "pause")
    client.batches.cancel(batch.id)
    held_engine.release()
    batch = finished(client, batch)
    assert batch.status == "cancelled"
    assert Counter(ids(output_lines(client, batch) + error_lines(client, batch))) == Counter(f"line {n}" for n in range(10))
    for action in ("pause", "resume"):
        refusal = post(server, f"{batch.id}/{action}")
        assert refusal.status_code == 409
        assert refusal.json()["error"]["message"] == f"Cannot {action} a batch with status 'cancelled'."
        assert post(server, f"batch_unknown/{action}").status_code == 404
