"""The batch object: its keys, its times, its counts, its usage and its states."""

import time

import httpx2
import openai
import pytest

import fake_engine
from fake_engine import FakeEngine
from penstock import FINAL, MODEL, OTHER_MODEL, create_batch, finished, line, output_lines, wait_until

KEYS = {
    "id",
    "object",
    "endpoint",
    "errors",
    "input_file_id",
    "completion_window",
    "status",
    "output_file_id",
    "error_file_id",
    "created_at",
    "in_progress_at",
    "expires_at",
    "finalizing_at",
    "completed_at",
    "failed_at",
    "expired_at",
    "cancelling_at",
    "cancelled_at",
    "request_counts",
    "metadata",
    "model",
    "usage",
}
REQUIRED = ("id", "object", "endpoint", "input_file_id", "completion_window", "status", "created_at", "expires_at")
TIMES = ("in_progress_at", "finalizing_at", "completed_at", "failed_at", "expired_at", "cancelling_at", "cancelled_at")
# Each times that a batch in this status has; the others are null.
TIMES_OF = {
    "validating": set(),
    "in_progress": {"in_progress_at"},
    "completed": {"in_progress_at", "finalizing_at", "completed_at"},
    "failed": {"failed_at"},
    "cancelled": {"in_progress_at", "cancelling_at", "cancelled_at"},
}


@pytest.fixture(scope="module")
def batches(new_module_server):
    """A server and the id of a batch of its in each status, by status. They stay so: the engine answers one line alone."""
    with FakeEngine(answers=1) as engine:
        server = new_module_server("--engine", engine.url, "--slots", "1", models=())
        client = server.client()
        one, two = ([line(name, {"model": fake_engine.MODEL}) for name in names] for names in ("a", "ab"))
        made = {"completed": finished(client, create_batch(client, one)), "failed": create_batch(client, b"no JSON\n")}
        made["in_progress"] = create_batch(client, two)
        wait_until(lambda: sum(engine.asked.values()) == 2, "the second batch's line is with the engine")
        made["validating"] = create_batch(client, one)
        made["cancelled"] = client.batches.cancel(create_batch(client, one).id)
        for status in ("failed", "cancelled"):
            assert finished(client, made[status]).status == status
        yield server, {status: batch.id for status, batch in made.items()}


def get(server, path):
    answer = httpx2.get(f"{server.url}/v1/batches{path}")
    assert answer.status_code == 200
    return answer.json()


@pytest.mark.parametrize("status", TIMES_OF)
def test_every_key_is_there_in_every_status(batches, status):
    server, ids = batches
    batch = get(server, f"/{ids[status]}")
    assert batch["status"] == status
    assert KEYS <= set(batch)
    assert all(batch[key] is not None for key in REQUIRED)
    assert batch["object"] == "batch"
    has = {key for key in TIMES if batch[key] is not None}
    # A batch that was cancelled while it waited has never been in progress.
    assert has == TIMES_OF[status] or (status == "cancelled" and has == TIMES_OF[status] - {"in_progress_at"})
    assert (batch["errors"] is not None) == (status == "failed")
    assert (batch["output_file_id"] is not None) == (status == "completed")
    assert (batch["error_file_id"] is not None) == (status == "cancelled")


def test_list_shows_the_same_object_as_retrieve(batches):
    server, ids = batches
    estimates = ("estimated_start_time", "estimated_completion_time")  # these move with the clock
    plain = lambda batch: {key: value for key, value in batch.items() if key not in estimates}
    listed = {batch["id"]: plain(batch) for batch in get(server, "")["data"]}
    assert listed == {batch_id: plain(get(server, f"/{batch_id}")) for batch_id in ids.values()}


def test_created_batch_has_every_key_too(batches):
    server, _ = batches
    batch = create_batch(server.client(), [line("a", {"model": fake_engine.MODEL})])
    assert KEYS <= set(batch.model_dump())
    assert batch.expires_at == batch.created_at + 86_400
    client = server.client()
    client.batches.cancel(batch.id)
    finished(client, batch)


def test_times_are_whole_unix_seconds_in_their_order(batches):
    server, ids = batches
    batch = get(server, f"/{ids['completed']}")
    times = [batch[key] for key in ("created_at", "in_progress_at", "finalizing_at", "completed_at")]
    assert all(type(t) is int for t in times)
    assert times == sorted(times)
    assert abs(times[0] - time.time()) < 120
    assert batch["expires_at"] == batch["created_at"] + 86_400


def test_counts_and_usage_are_zero_before_the_first_answer(batches):
    server, ids = batches
    for status in ("validating", "failed"):
        batch = get(server, f"/{ids[status]}")
        counts = batch["request_counts"]
        assert (counts["completed"], counts["failed"]) == (0, 0)
        assert batch["usage"] == {
            "input_tokens": 0,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": 0,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 0,
        }
    assert get(server, f"/{ids['in_progress']}")["request_counts"]["total"] == 2


def test_errors_are_a_list_of_code_message_param_and_line(batches):
    server, ids = batches
    errors = get(server, f"/{ids['failed']}")["errors"]
    assert errors["object"] == "list"
    message = "This line is not parseable as valid JSON."
    assert errors["data"] == [{"code": "invalid_json_line", "message": message, "param": None, "line": 1}]


@pytest.mark.local
def test_model_is_that_of_the_lines(client):
    for model in (MODEL, OTHER_MODEL):
        batch = finished(client, create_batch(client, [line("one", {"model": model, "max_tokens": 1})]))
        assert batch.request_counts.completed == 1
        assert batch.model == model


@pytest.mark.local
def test_counts_never_go_down_and_add_up_at_the_end(client):
    total = 16
    lines = [line(f"line {n}", {"max_tokens": 2}) for n in range(total)]
    lines[5]["body"]["temperature"] = "hot"
    batch = create_batch(client, lines)
    seen, statuses = [], [batch.status]

    def ended():
        current = client.batches.retrieve(batch.id)
        counts = current.request_counts
        seen.append((counts.completed, counts.failed))
        statuses.append(current.status)
        assert counts.completed + counts.failed <= counts.total or counts.total == 0
        return current if current.status in FINAL else None

    ended_batch = wait_until(ended, "the batch has ended", 240)
    for one, next_one in zip(seen, seen[1:]):
        assert one[0] <= next_one[0] and one[1] <= next_one[1]
    assert seen[-1] == (total - 1, 1)
    assert ended_batch.request_counts.total == total
    order = ["validating", "in_progress", "finalizing", "completed"]
    assert [order.index(status) for status in statuses] == sorted(order.index(status) for status in statuses)
    assert statuses[0] == "validating" and statuses[-1] == "completed"


def test_usage_is_the_sum_over_the_output_lines(client):
    # The last line fails and adds nothing.
    lines = [line(f"line {n}", {"max_tokens": n + 1}) for n in range(3)] + [line("bad", {"temperature": "hot"})]
    batch = finished(client, create_batch(client, lines))
    usages = [one["response"]["body"]["usage"] for one in output_lines(client, batch)]
    assert len(usages) == 3
    assert batch.usage.input_tokens == sum(usage["prompt_tokens"] for usage in usages) > 0
    assert batch.usage.output_tokens == sum(usage["completion_tokens"] for usage in usages) > 0
    assert batch.usage.total_tokens == sum(usage["total_tokens"] for usage in usages)
    cached = sum(usage["prompt_tokens_details"]["cached_tokens"] for usage in usages)
    assert batch.usage.input_tokens_details.cached_tokens == cached
    assert batch.usage.output_tokens_details.reasoning_tokens == 0


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
def test_ended_batch_has_one_end_and_never_changes(batches, status):
    server, ids = batches
    before = get(server, f"/{ids[status]}")
    ends = ("completed_at", "failed_at", "expired_at", "cancelled_at")
    assert [key for key in ends if before[key] is not None] == [f"{status}_at"]
    httpx2.post(f"{server.url}/v1/batches/{ids[status]}/cancel")
    httpx2.post(f"{server.url}/v1/batches/{ids[status]}", json={"priority": 1})
    httpx2.delete(f"{server.url}/v1/files/{before['input_file_id']}")
    assert get(server, f"/{ids[status]}") == before


def test_batch_outlives_its_output_file(client):
    batch = finished(client, create_batch(client, [line("one", {"max_tokens": 1})]))
    client.files.delete(batch.output_file_id)
    assert client.batches.retrieve(batch.id) == batch


@pytest.mark.parametrize("batch_id", ["batch_unknown", "file-1", "😀", "a'b\"c", "x" * 3000], ids=repr)
def test_unknown_batch_is_not_found_by_its_id(client, batch_id):
    for call in (client.batches.retrieve, client.batches.cancel):
        with pytest.raises(openai.NotFoundError) as failure:
            call(batch_id)
        assert failure.value.body["message"] == f"No batch found with id '{batch_id}'."
        assert failure.value.type == "invalid_request_error"
