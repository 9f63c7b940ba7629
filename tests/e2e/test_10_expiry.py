"""A batch that is not through at the end of its completion window expires. The engine holds most of its answers back."""

import time
from types import SimpleNamespace

import httpx2
import openai
import pytest

import fake_engine
from fake_engine import FakeEngine
from penstock import create_batch, error_lines, finished, line, output_lines, upload, wait_until

MESSAGE = "This request could not be executed before the completion window expired."


def lines(name, count):
    return [line(f"{name} {n}", {"model": fake_engine.MODEL}) for n in range(count)]


@pytest.fixture(scope="module")
def scene(new_module_server):
    """`running` expires with three lines done and two under way, `queued` before its turn; then `later` completes. Which
    three is up to the engine's threads."""
    with FakeEngine(answers=3) as engine:
        windows = ("--completion-windows", "24h,5s,3s")
        server = new_module_server("--engine", engine.url, "--slots", "2", *windows, models=())
        client = server.client()

        def create(name, count, window):
            file = upload(client, lines(name, count))
            return client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window=window)

        running = create("running", 10, "5s")
        wait_until(lambda: sum(engine.asked.values()) == 5, "two of its lines are held back")
        queued, later = create("queued", 4, "3s"), create("later", 2, "24h")
        expired = [finished(client, batch, 30) for batch in (running, queued)]
        engine.release()
        yield SimpleNamespace(
            server=server,
            client=client,
            running=expired[0],
            queued=expired[1],
            later=finished(client, later),
        )


@pytest.mark.parametrize(("name", "seconds"), [("running", 5), ("queued", 3)])
def test_batch_expires_at_the_end_of_its_window(scene, name, seconds):
    batch = getattr(scene, name)
    assert (batch.status, batch.completion_window) == ("expired", f"{seconds}s")
    assert batch.expires_at == batch.created_at + seconds
    assert batch.expires_at <= batch.expired_at <= batch.expires_at + 5
    assert batch.completed_at is batch.failed_at is batch.cancelled_at is batch.cancelling_at is None
    assert batch.errors is None


def test_finished_lines_of_an_expired_batch_stand_in_the_output_file(scene):
    output = output_lines(scene.client, scene.running)
    assert len(output) == 3
    assert all(one["response"]["status_code"] == 200 for one in output)
    assert scene.running.usage.total_tokens == sum(one["response"]["body"]["usage"]["total_tokens"] for one in output)


@pytest.mark.parametrize(("name", "done", "total"), [("running", 3, 10), ("queued", 0, 4)])
def test_all_other_lines_stand_in_the_error_file_as_batch_expired(scene, name, done, total):
    batch = getattr(scene, name)
    errors = error_lines(scene.client, batch)
    answered = {one["custom_id"] for one in output_lines(scene.client, batch)}
    others = [f"{name} {n}" for n in range(total) if f"{name} {n}" not in answered]
    assert [one["custom_id"] for one in errors] == others
    for one in errors:
        assert set(one) == {"id", "custom_id", "response", "error"}
        assert one["response"] is None
        assert one["error"] == {"code": "batch_expired", "message": MESSAGE}
    counts = batch.request_counts
    assert (counts.total, counts.completed, counts.failed) == (total, done, total - done)


def test_queued_batch_that_expired_has_no_output_file(scene):
    assert scene.queued.output_file_id is None
    assert scene.queued.in_progress_at is None


def test_expired_batch_cannot_be_cancelled(scene):
    with pytest.raises(openai.ConflictError, match="Cannot cancel a batch with status 'expired'.") as failure:
        scene.client.batches.cancel(scene.running.id)
    assert failure.value.response.headers["x-should-retry"] == "false"
    assert scene.client.batches.retrieve(scene.running.id) == scene.running


def test_batch_behind_an_expired_one_runs_and_nothing_late_is_saved(scene):
    assert scene.later.status == "completed"
    assert [one["custom_id"] for one in output_lines(scene.client, scene.later)] == ["later 0", "later 1"]
    assert scene.client.batches.retrieve(scene.running.id) == scene.running
    assert len(output_lines(scene.client, scene.running)) == 3


def test_windows_that_are_not_configured_are_refused_with_those_that_are(scene):
    good = {"input_file_id": "file-x", "endpoint": "/v1/chat/completions"}
    answer = httpx2.post(f"{scene.server.url}/v1/batches", json=good | {"completion_window": "30m"})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["message"] == "Invalid value: '30m'. Supported values are: '24h', '5s', '3s'."
    assert (error["param"], error["code"]) == ("completion_window", "invalid_value")


def test_batch_that_expires_while_the_server_is_down_expires_at_its_start(new_server):
    with FakeEngine(answers=1) as engine:
        server = new_server("--engine", engine.url, "--slots", "1", "--completion-windows", "2s", models=())
        client = server.client()
        file = upload(client, lines("line", 3))
        batch = client.batches.create(
            input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="2s"
        )
        wait_until(lambda: client.batches.retrieve(batch.id).request_counts.completed == 1, "a line is done")
        server.kill()
        time.sleep(max(0, batch.expires_at + 1 - time.time()))
        server.start()
        batch = finished(server.client(), batch, 10)
        assert batch.status == "expired"
        assert [one["custom_id"] for one in output_lines(server.client(), batch)] == ["line 0"]
        assert [one["custom_id"] for one in error_lines(server.client(), batch)] == ["line 1", "line 2"]


@pytest.mark.local
def test_the_real_model_completes_within_a_short_window(new_server):
    client = new_server("--completion-windows", "24h,100s").client()
    file = upload(client, [line("one", {"max_tokens": 1})])
    batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="100s")
    assert batch.expires_at == batch.created_at + 100
    assert finished(client, batch).status == "completed"
