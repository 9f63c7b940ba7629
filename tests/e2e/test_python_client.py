"""The official Python client, unchanged, against a server with a real model."""

import httpx2
import openai
import pytest

from penstock import (
    OTHER_MODEL,
    create_batch,
    error_lines,
    finished,
    line,
    output_lines,
    upload,
    wait_until,
)

PARTS = [{"type": "text", "text": "Good morning."}, {"type": "text", "text": "Answer in one word."}]
SCHEMA = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"], "additionalProperties": False}
LINES = [
    line("zebra"),
    line("with parts", {"messages": [{"role": "user", "content": PARTS}]}),
    line("refused by the engine", {"temperature": "hot"}),
    line("ünïcode 😀", {"messages": [{"role": "user", "content": "Bonjour ! こんにちは 😀"}]}),
    line("json", {"max_tokens": 16, "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}}),
    line("newer limit", {"max_tokens": None, "max_completion_tokens": 3}),
    line("also refused", {"max_tokens": "many"}),
    line("aardvark"),
]
REFUSED = ["refused by the engine", "also refused"]
ANSWERED = [one["custom_id"] for one in LINES if one["custom_id"] not in REFUSED]


@pytest.fixture(scope="module")
def batch(shared_server):
    """One finished batch, which the tests below look at from all sides."""
    client = shared_server.client()
    return finished(client, create_batch(client, LINES, metadata={"owner": "tests 😀"}))


def test_batch_completes_and_counts_its_lines(batch):
    assert batch.status == "completed"
    assert (batch.request_counts.total, batch.request_counts.completed, batch.request_counts.failed) == (8, 6, 2)
    assert batch.errors is None
    assert batch.metadata == {"owner": "tests 😀"}
    assert batch.endpoint == "/v1/chat/completions"
    assert batch.completion_window == "24h"
    assert batch.expires_at == batch.created_at + 24 * 60 * 60
    assert batch.created_at <= batch.in_progress_at <= batch.finalizing_at <= batch.completed_at
    assert batch.failed_at is batch.expired_at is batch.cancelled_at is batch.cancelling_at is None


def test_output_comes_in_input_order_with_all_four_keys(client, batch):
    lines = output_lines(client, batch)
    assert [one["custom_id"] for one in lines] == ANSWERED
    for one in lines:
        assert set(one) == {"id", "custom_id", "response", "error"}
        assert one["id"].startswith("batch_req_")
        assert one["error"] is None
        assert one["response"]["status_code"] == 200
        assert one["response"]["request_id"]
        assert one["response"]["body"]["object"] == "chat.completion"
        assert one["response"]["body"]["choices"][0]["message"]["content"]
    assert len({one["id"] for one in lines}) == len(lines)
    assert len({one["response"]["request_id"] for one in lines}) == len(lines)


def test_line_that_the_engine_refuses_stands_in_the_error_file(client, batch):
    lines = error_lines(client, batch)
    assert [one["custom_id"] for one in lines] == REFUSED
    for one in lines:
        assert set(one) == {"id", "custom_id", "response", "error"}
        assert one["error"] is None
        assert one["response"]["status_code"] == 400
        assert one["response"]["body"]["error"]["message"]


def test_usage_is_the_sum_over_the_output_lines(client, batch):
    usages = [one["response"]["body"]["usage"] for one in output_lines(client, batch)]
    assert batch.usage.input_tokens == sum(usage["prompt_tokens"] for usage in usages)
    assert batch.usage.output_tokens == sum(usage["completion_tokens"] for usage in usages)
    assert batch.usage.total_tokens == sum(usage["total_tokens"] for usage in usages)
    cached = sum(usage["prompt_tokens_details"]["cached_tokens"] for usage in usages)
    assert batch.usage.input_tokens_details.cached_tokens == cached
    assert batch.usage.output_tokens_details.reasoning_tokens == 0


def test_limits_and_schemas_of_a_line_reach_the_model(client, batch):
    bodies = {one["custom_id"]: one["response"]["body"] for one in output_lines(client, batch)}
    assert bodies["newer limit"]["usage"]["completion_tokens"] <= 3
    assert bodies["json"]["choices"][0]["message"]["content"].strip().startswith("{")


def test_result_files_say_what_they_are(client, batch):
    for file_id in (batch.output_file_id, batch.error_file_id):
        file = client.files.retrieve(file_id)
        assert file.purpose == "batch_output"
        assert file.filename.endswith(".jsonl")
        assert file.bytes == len(client.files.content(file_id).read())


def test_batch_without_failures_has_no_error_file(client):
    batch = finished(client, create_batch(client, [line("one")]))
    assert batch.status == "completed"
    assert batch.error_file_id is None


def test_batch_whose_lines_all_fail_is_completed_without_an_output_file(client):
    batch = finished(client, create_batch(client, [line("one", {"temperature": "hot"})]))
    assert batch.status == "completed"
    assert batch.output_file_id is None
    assert (batch.request_counts.completed, batch.request_counts.failed) == (0, 1)


@pytest.mark.parametrize(
    ("endpoint", "body", "object_"),
    [
        ("/v1/completions", {"prompt": "The capital of France is"}, "text_completion"),
        ("/v1/responses", {"input": "Say hello.", "max_output_tokens": 4}, "response"),
    ],
)
def test_other_endpoints_are_answered_too(client, endpoint, body, object_):
    lines = [line("a", body, endpoint), line("b", body, endpoint)]
    batch = finished(client, create_batch(client, lines, endpoint))
    assert batch.status == "completed"
    bodies = [one["response"]["body"] for one in output_lines(client, batch)]
    assert [body["object"] for body in bodies] == [object_, object_]
    total = sum(body["usage"]["total_tokens"] for body in bodies)
    assert batch.usage.total_tokens == total > 0


def test_each_configured_model_can_be_asked(client):
    batch = finished(client, create_batch(client, [line("one", {"model": OTHER_MODEL})]))
    assert batch.request_counts.completed == 1
    assert batch.model == OTHER_MODEL


def test_unknown_things_are_not_found(client):
    for call in (client.batches.retrieve, client.batches.cancel):
        with pytest.raises(openai.NotFoundError, match="batch_unknown"):
            call("batch_unknown")


def test_finished_batch_cannot_be_cancelled(client, batch):
    with pytest.raises(openai.ConflictError, match="Cannot cancel a batch with status 'completed'."):
        client.batches.cancel(batch.id)
    # Without this header every client would try the hopeless call twice more.
    with pytest.raises(openai.ConflictError) as failure:
        client.batches.cancel(batch.id)
    assert failure.value.response.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    ("change", "param", "code"),
    [
        ({"input_file_id": "file-unknown"}, "input_file_id", None),
        ({"endpoint": "/v1/nonsense"}, "endpoint", "invalid_value"),
        ({"completion_window": "1h"}, "completion_window", None),
        ({"metadata": {"tags": ["a"]}}, "metadata.tags", "invalid_type"),
        ({"metadata": {"k": "v" * 513}}, None, None),
    ],
)
def test_bad_parameter_of_a_batch_is_named(client, change, param, code):
    good = {"input_file_id": upload(client, [line("one")]).id, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    with pytest.raises(openai.BadRequestError) as failure:
        client.batches.create(**(good | change))
    assert failure.value.type == "invalid_request_error"
    assert failure.value.request_id
    if param:
        assert failure.value.param == param
    if code:
        assert failure.value.code == code


def test_missing_parameter_of_a_batch_is_named(shared_server):
    answer = httpx2.post(f"{shared_server.url}/v1/batches", json={"endpoint": "/v1/chat/completions", "completion_window": "24h"})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"] == "Missing required parameter: 'input_file_id'."
    assert (error["param"], error["code"]) == ("input_file_id", "missing_required_parameter")


def test_input_of_an_unfinished_batch_cannot_be_deleted(client):
    batch = create_batch(client, [line(f"line {n}") for n in range(4)])
    with pytest.raises(openai.BadRequestError, match="input of a batch that has not finished"):
        client.files.delete(batch.input_file_id)
    assert finished(client, batch).request_counts.completed == 4
    assert client.files.delete(batch.input_file_id).deleted


def test_unfinished_batch_has_all_keys(client, shared_server):
    batch = create_batch(client, [line("one")])
    raw = httpx2.get(f"{shared_server.url}/v1/batches/{batch.id}").json()
    times = "created_at in_progress_at expires_at finalizing_at completed_at failed_at expired_at cancelling_at cancelled_at"
    others = (
        "id object endpoint errors input_file_id completion_window status output_file_id error_file_id request_counts metadata"
    )
    assert set(f"{times} {others}".split()) <= set(raw)
    finished(client, batch)


def test_counts_never_go_down(client):
    batch = create_batch(client, [line(f"line {n}") for n in range(24)])
    seen = []

    def ended():
        current = client.batches.retrieve(batch.id)
        seen.append(current.request_counts.completed)
        return current.status == "completed"

    wait_until(ended, "the batch is completed", 120)
    assert seen == sorted(seen)
    assert seen[-1] == 24
