"""A batch whose file has a bad line fails, runs nothing, and names each bad line."""

import json

import pytest

from penstock import OTHER_MODEL, create_batch, finished, jsonl, line

GOOD = line("good")


def without(key):
    bad = line("bad")
    del bad[key]
    return bad


def without_in_body(key):
    bad = line("bad")
    del bad["body"][key]
    return bad


CASES = {
    "not JSON": (b"{nope", "invalid_json_line", None),
    "two values": (b"{} {}", "invalid_json_line", None),
    "NaN": (json.dumps(line("bad", {"temperature": float("nan")})).encode(), "invalid_json_line", None),
    "invalid UTF-8": (b'{"custom_id": "\xff"}', "invalid_json_line", None),
    "no custom_id": (without("custom_id"), "missing_required_parameter", "custom_id"),
    "no method": (without("method"), "missing_required_parameter", "method"),
    "no url": (without("url"), "missing_required_parameter", "url"),
    "no body": (without("body"), "missing_required_parameter", "body"),
    "another url": (line("bad", url="/v1/embeddings"), "invalid_url", "url"),
    "another method": (line("bad", method="GET"), "invalid_method", "method"),
    "custom_id again": (line("good"), "duplicate_custom_id", "custom_id"),
    "stream": (line("bad", {"stream": True}), "streaming_unsupported", "body.stream"),
    "no model": (without_in_body("model"), "invalid_request", "body.model"),
    "no messages": (without_in_body("messages"), "invalid_request", "body.messages"),
    "second model": (line("bad", {"model": OTHER_MODEL}), "mismatched_model", "body.model"),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_line_fails_the_batch_and_is_named(client, case):
    bad, code, param = CASES[case]
    content = jsonl([GOOD]) + (bad if isinstance(bad, bytes) else json.dumps(bad).encode()) + b"\n" + jsonl([line("later")])
    batch = finished(client, create_batch(client, content))
    assert batch.status == "failed"
    assert batch.failed_at >= batch.created_at
    assert batch.output_file_id is batch.error_file_id is None
    (error,) = batch.errors.data
    assert (error.code, error.param, error.line) == (code, param, 2)
    assert error.message


def test_unknown_model_is_named(client):
    batch = finished(client, create_batch(client, [line("one", {"model": "no-such-model"})]))
    error = batch.errors.data[0]
    assert (error.code, error.param, error.line) == ("model_not_found", "body.model", 1)
    assert error.message == "The provided model 'no-such-model' is not supported by the Batch API."


def test_every_bad_line_is_named_by_its_physical_number(client):
    content = jsonl([line("a")]) + b"{bad\n" + b"\r\n" + jsonl([line("b")]) + b"[]\n" + jsonl([line("a")]) + b"\n \n"
    batch = finished(client, create_batch(client, content))
    assert batch.status == "failed"
    lines = [error.line for error in batch.errors.data]
    # The blank line in the middle may be named or skipped; it is counted either way.
    assert [number for number in lines if number != 3] == [2, 5, 6]


def test_file_with_no_lines_is_empty(client):
    batch = finished(client, create_batch(client, b"\n  \r\n"))
    assert batch.status == "failed"
    assert batch.errors.data[0].code == "empty_file"


def test_thousands_of_bad_lines_make_a_bounded_answer(client):
    batch = create_batch(client, b"{bad\n" * 10_000)
    assert finished(client, batch).status == "failed"
    answer = client.batches.with_raw_response.retrieve(batch.id)
    assert len(answer.content) < 8_000_000


def test_windows_line_ends_and_a_last_line_without_newline_are_fine(client):
    content = jsonl([line("a"), line("b")]).replace(b"\n", b"\r\n").rstrip()
    batch = finished(client, create_batch(client, content))
    assert batch.request_counts.completed == 2


def test_too_many_lines_are_refused_with_the_limit(new_server):
    client = new_server(env={"MAX_REQUESTS_PER_JOB": "3"}).client()
    batch = finished(client, create_batch(client, [line(str(n)) for n in range(4)]))
    assert batch.status == "failed"
    assert batch.errors.data[0].code == "too_many_tasks"
    assert "3" in batch.errors.data[0].message
