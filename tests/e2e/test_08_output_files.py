"""The output file and the error file of a batch."""

import json
from collections import Counter

import pytest

import fake_engine
from fake_engine import FakeEngine
from penstock import create_batch, error_lines, finished, line, output_lines

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
    return finished(client, create_batch(client, LINES))


def test_output_has_the_answered_lines_in_input_order_with_all_four_keys(client, batch):
    lines = output_lines(client, batch)
    assert [one["custom_id"] for one in lines] == ANSWERED
    for one in lines:
        assert set(one) == {"id", "custom_id", "response", "error"}
        assert set(one["response"]) == {"status_code", "request_id", "body"}
        assert one["id"].startswith("batch_req_")
        assert one["error"] is None
        assert one["response"]["status_code"] == 200


def test_request_that_the_engine_refused_stands_in_the_error_file_with_its_response(client, batch):
    lines = error_lines(client, batch)
    assert [one["custom_id"] for one in lines] == REFUSED
    for one in lines:
        assert set(one) == {"id", "custom_id", "response", "error"}
        assert one["error"] is None
        assert one["response"]["status_code"] == 400
        assert one["response"]["body"]["error"]["message"]


def test_ids_and_request_ids_are_unique(client, batch):
    lines = output_lines(client, batch) + error_lines(client, batch)
    assert len({one["id"] for one in lines}) == len(LINES)
    assert len({one["response"]["request_id"] for one in lines}) == len(LINES)
    assert all(one["response"]["request_id"] for one in lines)


def test_body_is_the_chat_completion_of_the_engine(client, batch):
    for one in output_lines(client, batch):
        body = one["response"]["body"]
        assert {"id", "object", "created", "model", "choices", "usage"} <= set(body)
        assert body["object"] == "chat.completion"
        (choice,) = body["choices"]
        assert choice["index"] == 0
        assert choice["message"]["role"] == "assistant"
        assert choice["message"]["content"]
        assert choice["finish_reason"] in ("stop", "length")


def test_limits_and_schemas_of_a_line_reach_the_model(client, batch):
    bodies = {one["custom_id"]: one["response"]["body"] for one in output_lines(client, batch)}
    assert bodies["newer limit"]["usage"]["completion_tokens"] <= 3
    assert bodies["zebra"]["usage"]["completion_tokens"] <= 6
    assert bodies["json"]["choices"][0]["message"]["content"].strip().startswith("{")


def test_nothing_is_lost_and_the_counts_are_those_of_the_files(client, batch):
    output, errors = output_lines(client, batch), error_lines(client, batch)
    assert Counter(one["custom_id"] for one in output + errors) == Counter(one["custom_id"] for one in LINES)
    counts = batch.request_counts
    assert (counts.total, counts.completed, counts.failed) == (len(LINES), len(output), len(errors))


def test_result_files_are_utf_8_jsonl_with_a_newline_after_each_line(client, batch):
    for file_id in (batch.output_file_id, batch.error_file_id):
        content = client.files.content(file_id).read()
        text = content.decode("utf-8")
        assert text.endswith("}\n") and "\r" not in text and "\n\n" not in text
        for one in text[:-1].split("\n"):
            assert isinstance(json.loads(one), dict)


def test_result_files_say_what_they_are(client, batch):
    listed = {file.id for file in client.files.list(purpose="batch_output")}
    for file_id in (batch.output_file_id, batch.error_file_id):
        file = client.files.retrieve(file_id)
        assert (file.object, file.purpose, file.status) == ("file", "batch_output", "processed")
        assert file.filename.endswith(".jsonl")
        assert file.bytes == len(client.files.content(file_id).read())
        assert file_id in listed


def test_batch_without_failures_has_no_error_file(client):
    batch = finished(client, create_batch(client, [line("one", {"max_tokens": 1})]))
    assert (batch.status, batch.request_counts.failed) == ("completed", 0)
    assert batch.error_file_id is None


def test_batch_whose_lines_all_fail_is_completed_without_an_output_file(client):
    batch = finished(client, create_batch(client, [line(name, {"temperature": "hot"}) for name in "ab"]))
    assert batch.status == "completed"
    assert batch.output_file_id is None
    assert [one["custom_id"] for one in error_lines(client, batch)] == ["a", "b"]
    assert (batch.request_counts.total, batch.request_counts.completed, batch.request_counts.failed) == (2, 0, 2)
    assert batch.usage.total_tokens == 0


@pytest.mark.parametrize(
    ("endpoint", "body", "object_"),
    [
        ("/v1/completions", {"prompt": "The capital of France is", "max_tokens": 2}, "text_completion"),
        ("/v1/responses", {"input": "Say hello.", "max_output_tokens": 2}, "response"),
    ],
)
def test_other_endpoints_are_answered_in_their_own_words(client, endpoint, body, object_):
    lines = [line("a", body, endpoint), line("b", body, endpoint)]
    batch = finished(client, create_batch(client, lines, endpoint))
    assert batch.status == "completed"
    bodies = [one["response"]["body"] for one in output_lines(client, batch)]
    assert [body["object"] for body in bodies] == [object_, object_]
    total = sum(body["usage"]["total_tokens"] for body in bodies)
    assert batch.usage.total_tokens == total > 0


# What an engine may answer: status, body, and the file in which its line stands.
ANSWERS = {
    "odd": (200, b'{\n  "z": 1,\r\n "seed": 123456789012345678901234567890, "a": [1.0, "\\u00e9\xc3\xa9\\u2028"]\n}\n', "output"),
    "refused": (400, b'{"error": {"message": "no", "type": "invalid_request_error", "param": "x", "code": "y"}}', "error"),
    "unknown": (404, b'{"error": {"message": "no such model"}}', "error"),
    "unprocessable": (422, b'{"detail": [{"loc": ["body"]}]}', "error"),
    "no JSON": (400, b"<html>Bad Request</html>", "error"),
    "too large": (413, b"", "error"),
}


@pytest.fixture(scope="module")
def odd(new_module_server):
    """By custom_id the line of a batch whose engine gives each of ANSWERS, with the name of its file."""
    reply = lambda body: ANSWERS[body["messages"][0]["content"]][:2]
    with FakeEngine(reply=reply) as engine:
        client = new_module_server("--engine", engine.url, models=()).client()
        ask = lambda name: {"model": fake_engine.MODEL, "messages": [{"role": "user", "content": name}]}
        batch = finished(client, create_batch(client, [line(name, ask(name)) for name in ANSWERS]))
        assert batch.status == "completed"
        texts = {"output": client.files.content(batch.output_file_id), "error": client.files.content(batch.error_file_id)}
        yield {json.loads(one)["custom_id"]: (name, one) for name, text in texts.items() for one in text.read().splitlines()}


@pytest.mark.parametrize("name", ANSWERS)
def test_answer_of_200_goes_to_the_output_and_every_other_to_the_error_file(odd, name):
    status, _, expected = ANSWERS[name]
    where, text = odd[name]
    assert where == expected
    one = json.loads(text)
    assert one["response"]["status_code"] == status
    assert one["error"] is None


def test_answer_stands_in_its_line_as_it_came_less_its_newlines(odd):
    for name in ("odd", "refused", "unprocessable"):
        assert ANSWERS[name][1].replace(b"\n", b"").replace(b"\r", b"") in odd[name][1]


def test_answer_that_is_no_json_becomes_an_error_object(odd):
    for name in ("no JSON", "too large"):
        error = json.loads(odd[name][1])["response"]["body"]["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert str(ANSWERS[name][0]) in error["message"]
