"""The input file: the bytes that make its lines, and the faults that fail a batch before anything runs."""

import json
from collections import Counter

import httpx2
import pytest

import fake_engine
from fake_engine import FakeEngine
from penstock import OTHER_MODEL, create_batch, error_lines, finished, jsonl, line, output_lines

GOOD = line("good")
UNPARSEABLE = "This line is not parseable as valid JSON."
WRONG_URL = "The URL provided for this request does not match the batch endpoint."


@pytest.fixture(scope="module")
def engine():
    with FakeEngine() as engine:
        yield engine


@pytest.fixture(scope="module")
def fast(new_module_server, engine):
    """A client of a server whose engine answers at once whatever it is asked."""
    return new_module_server("--engine", engine.url, models=()).client()


def easy(custom_id, body=None, **overrides):
    return line(custom_id, {"model": fake_engine.MODEL} | (body or {}), **overrides)


def answered(client, content):
    """The custom_ids of a batch that must complete without a failed line."""
    batch = finished(client, create_batch(client, content))
    assert batch.status == "completed", batch.errors
    assert batch.request_counts.failed == 0
    return [one["custom_id"] for one in output_lines(client, batch)]


def faults(client, content, **options):
    """The errors of a batch that must fail."""
    batch = finished(client, create_batch(client, content, **options))
    assert batch.status == "failed"
    assert batch.failed_at >= batch.created_at
    assert batch.output_file_id is batch.error_file_id is None
    assert all(error.message for error in batch.errors.data)
    return batch.errors.data


def codes(errors):
    return [(error.code, error.line) for error in errors]


# --- faults of a line


def without(key):
    return {name: value for name, value in line("bad").items() if name != key}


def without_in_body(key):
    bad = line("bad")
    del bad["body"][key]
    return bad


def nested(depth):
    return json.dumps(line("bad", {"x": "HERE"})).replace('"HERE"', "[" * depth + "]" * depth).encode()


STREAMING = "Chat Completions: Streaming is not supported in the Batch API."
DUPLICATE = (
    "The custom_id 'good' for this request is a duplicate of another request. The custom_id parameter must be unique "
    "for each request in a batch."
)
MISMATCH = (
    f"The model '{OTHER_MODEL}' for this request does not match the rest of the batch. Each batch must contain requests "
    "for a single model."
)
# The line, its code and param, and its message or words of it.
CASES = {
    "not JSON": (b"{nope", "invalid_json_line", None, UNPARSEABLE),
    "two values": (b"{} {}", "invalid_json_line", None, UNPARSEABLE),
    "two requests on a line": (json.dumps(line("x")).encode() * 2, "invalid_json_line", None, UNPARSEABLE),
    "half of a line": (json.dumps(line("x")).encode()[:-9], "invalid_json_line", None, UNPARSEABLE),
    "NaN": (json.dumps(line("bad", {"seed": float("nan")})).encode(), "invalid_json_line", None, UNPARSEABLE),
    "Infinity": (json.dumps(line("bad", {"seed": float("inf")})).encode(), "invalid_json_line", None, UNPARSEABLE),
    "trailing comma": (b'{"custom_id": "x",}', "invalid_json_line", None, UNPARSEABLE),
    "invalid UTF-8": (b'{"custom_id": "\xff"}', "invalid_json_line", None, UNPARSEABLE),
    "overlong UTF-8": (b'{"custom_id": "\xc0\xaf"}', "invalid_json_line", None, UNPARSEABLE),
    "UTF-8 of a surrogate": (b'{"custom_id": "\xed\xa0\x80"}', "invalid_json_line", None, UNPARSEABLE),
    "raw control character": (b'{"custom_id": "a\tb"}', "invalid_json_line", None, UNPARSEABLE),
    "NUL": (b"\0", "invalid_json_line", None, UNPARSEABLE),
    "NULs and blanks": (b" \0\0 ", "invalid_json_line", None, UNPARSEABLE),
    "NUL behind the object": (json.dumps(line("bad")).encode() + b"\0", "invalid_json_line", None, UNPARSEABLE),
    "lone surrogate": (json.dumps(line("\ud800")).encode(), "invalid_json_line", None, UNPARSEABLE),
    "lone surrogate in the body": (json.dumps(line("bad", {"user": "\udc00"})).encode(), "invalid_json_line", None, ""),
    "byte order mark within the file": (
        b"\xef\xbb\xbf" + json.dumps(line("bad")).encode(),
        "invalid_json_line",
        None,
        UNPARSEABLE,
    ),
    "100,000 levels": (nested(100_000), "invalid_json_line", None, UNPARSEABLE),
    "an array": ([line("bad")], "invalid_request", None, "object"),
    "a string": ("text", "invalid_request", None, "object"),
    "null": (b"null", "invalid_request", None, "object"),
    "empty object": ({}, "missing_required_parameter", "custom_id", "Missing required parameter: 'custom_id'."),
    "no custom_id": (without("custom_id"), "missing_required_parameter", "custom_id", "'custom_id'"),
    "no method": (without("method"), "missing_required_parameter", "method", "Missing required parameter: 'method'."),
    "no url": (without("url"), "missing_required_parameter", "url", "Missing required parameter: 'url'."),
    "no body": (without("body"), "missing_required_parameter", "body", "Missing required parameter: 'body'."),
    "custom_id a number": (line(7), "invalid_type", "custom_id", "custom_id"),
    "method an array": (line("bad", method=["POST"]), "invalid_type", "method", "method"),
    "url a number": (line("bad") | {"url": 1}, "invalid_type", "url", "url"),
    "body a string": (line("bad") | {"body": "{}"}, "invalid_type", "body", "body"),
    "body an array": (line("bad") | {"body": []}, "invalid_type", "body", "body"),
    "model a number": (line("bad", {"model": 4}), "invalid_type", "body.model", "model"),
    "another url": (line("bad") | {"url": "/v1/embeddings"}, "invalid_url", "url", WRONG_URL),
    "url with a slash behind": (line("bad") | {"url": "/v1/chat/completions/"}, "invalid_url", "url", WRONG_URL),
    "url in capitals": (line("bad") | {"url": "/v1/Chat/Completions"}, "invalid_url", "url", WRONG_URL),
    "whole url": (line("bad") | {"url": "https://api.openai.com/v1/chat/completions"}, "invalid_url", "url", WRONG_URL),
    "another method": (line("bad", method="GET"), "invalid_method", "method", "method"),
    "method in small letters": (line("bad", method="post"), "invalid_method", "method", "method"),
    "custom_id again": (line("good"), "duplicate_custom_id", "custom_id", DUPLICATE),
    "custom_id again, escaped": (
        json.dumps(line("good")).replace('"good"', '"g\\u006fod"').encode(),
        "duplicate_custom_id",
        "custom_id",
        DUPLICATE,
    ),
    "stream": (line("bad", {"stream": True}), "streaming_unsupported", "body.stream", STREAMING),
    "no model": (without_in_body("model"), "invalid_request", "body.model", "Model parameter is required."),
    "no messages": (without_in_body("messages"), "invalid_request", "body.messages", "Messages parameter is required."),
    "second model": (line("bad", {"model": OTHER_MODEL}), "mismatched_model", "body.model", MISMATCH),
    "key twice": (b'{"custom_id": "a", ' + json.dumps(line("b")).encode()[1:], "invalid_request", "custom_id", "twice"),
}


@pytest.mark.parametrize("case", CASES)
def test_fault_38_bad_line_fails_the_batch_and_is_named(client, case):
    bad, code, param, words = CASES[case]
    content = jsonl([GOOD]) + (bad if isinstance(bad, bytes) else json.dumps(bad).encode()) + b"\n" + jsonl([line("later")])
    (error,) = faults(client, content)
    assert (error.code, error.param, error.line) == (code, param, 2)
    assert words in error.message


def test_unknown_model_is_named(client):
    (error,) = faults(client, [line("one", {"model": "no-such-model"})])
    assert (error.code, error.param, error.line) == ("model_not_found", "body.model", 1)
    assert error.message == "The provided model 'no-such-model' is not supported by the Batch API."


def test_each_endpoint_needs_its_own_field(client):
    for endpoint, field in {
        "/v1/completions": "prompt",
        "/v1/embeddings": "input",
        "/v1/responses": "input",
        "/v1/chat/completions": "messages",
    }.items():
        bad = line("bad", url=endpoint)
        bad["body"].pop("messages", None)
        (error,) = faults(client, [bad], endpoint=endpoint)
        assert (error.code, error.param) == ("invalid_request", f"body.{field}")


def test_stream_false_or_null_is_fine(client):
    assert answered(client, [line("a", {"stream": False, "max_tokens": 1}), line("b", {"stream": None, "max_tokens": 1})])


def test_batch_with_a_bad_line_runs_nothing(fast, engine):
    asked = len(engine.bodies)
    faults(fast, jsonl([easy(str(n)) for n in range(50)]) + b"bad\n")
    assert len(engine.bodies) == asked


def test_fault_38_every_bad_line_has_one_entry_with_its_physical_number_in_line_order(client):
    bad = [b"{bad", b"", b"[]", b" \t\r", json.dumps(line("good")).encode(), b"{}"]
    content = b"\n\n" + jsonl([GOOD]) + b"\n".join(bad) + b"\n \n"
    errors = faults(client, content)
    assert codes(errors) == [
        ("invalid_json_line", 4),
        ("invalid_request", 6),
        ("duplicate_custom_id", 8),
        ("missing_required_parameter", 9),
    ]


def test_line_with_many_faults_has_one_entry(client):
    bad = {"custom_id": 7, "method": "GET", "url": "/nowhere", "body": {"stream": True}}
    assert len(faults(client, [GOOD, bad])) == 1


def test_fault_38_the_first_100_errors_are_told_and_how_many_there_are(client):
    batch = finished(client, create_batch(client, jsonl([GOOD]) + b"{bad\n" * 10_000))
    assert batch.status == "failed"
    assert [error.line for error in batch.errors.data] == list(range(2, 102))
    assert batch.errors.model_extra["total"] == 10_000


def test_ten_thousand_long_bad_lines_make_a_bounded_answer(client):
    long_id = "x" * 2_000
    batch = create_batch(client, jsonl([line(long_id, {"max_tokens": 1})] * 10_000))
    assert finished(client, batch).status == "failed"
    answer = client.batches.with_raw_response.retrieve(batch.id)
    assert len(answer.content) < 8_000_000
    assert len(client.batches.with_raw_response.list(limit=100).content) < 8_000_000


# --- no lines, too many lines


@pytest.mark.parametrize("content", [b"\n", b"\n  \r\n", b" ", b"\xef\xbb\xbf", b"\xef\xbb\xbf\r\n\t\n"], ids=repr)
def test_fault_38_file_without_a_request_is_empty(client, content):
    (error,) = faults(client, content)
    assert (error.code, error.param, error.line) == ("empty_file", None, None)
    assert error.message == "The input file is empty. Please ensure that the batch contains at least one request."


def many(count, field='[{"role":"user","content":"x"}]', url="/v1/chat/completions"):
    """So many short lines, made fast."""
    name = "input" if url == "/v1/embeddings" else "messages"
    body = f'{{"model":"{fake_engine.MODEL}","{name}":{field}}}'
    return "".join(f'{{"custom_id":"{n}","method":"POST","url":"{url}","body":{body}}}\n' for n in range(count)).encode()


def test_fault_38_50001_lines_are_refused_with_the_limit(fast):
    (error,) = faults(fast, many(50_001))
    assert (error.code, error.param, error.line) == ("too_many_tasks", None, None)
    assert "50001" in error.message and "50000" in error.message


def test_50000_lines_are_taken_with_blank_ones_between_them(new_server):
    with FakeEngine(answers=0) as engine:
        client = new_server("--engine", engine.url, models=()).client()
        batch = create_batch(client, many(50_000).replace(b"\n", b"\n\n"))
        assert batch.request_counts.total == 50_000
        client.batches.cancel(batch.id)


@pytest.mark.parametrize("way", ["purpose first", "file first", "in parts"])
def test_a_good_file_is_validated_while_it_comes(fast, way):
    content = many(1_000)
    if way == "in parts":
        pieces = {"file": content, "filename": "in.jsonl", "bytes": len(content), "part_size": 10_000}
        file_id = fast.uploads.upload_file_chunked(**pieces, mime_type="application/jsonl", purpose="batch").file.id
    else:
        parts = [("purpose", (None, "batch")), ("file", ("in.jsonl", content))]
        answer = httpx2.post(f"{fast.base_url}files", files=parts if way == "purpose first" else parts[::-1])
        file_id = answer.json()["id"]
    batch = fast.batches.create(input_file_id=file_id, endpoint="/v1/chat/completions", completion_window="24h")
    assert (batch.request_counts.total, batch.model) == (1_000, fake_engine.MODEL)
    assert finished(fast, batch).request_counts.completed == 1_000


def test_embeddings_may_have_50000_inputs_over_all_lines(fast):
    url = "/v1/embeddings"
    (error,) = faults(fast, many(3, json.dumps(["a"] * 16_667), url), endpoint=url)
    assert (error.code, error.line) == ("too_many_tasks", None)
    assert "50001" in error.message and "50000" in error.message


def test_a_million_lines_are_validated_where_the_limit_is_raised(new_server):
    total = 1_000_000
    with FakeEngine(answers=0) as engine:
        client = new_server("--engine", engine.url, models=(), env={"MAX_REQUESTS_PER_JOB": str(total)}).client()
        batch = create_batch(client, many(total))
        assert batch.request_counts.total == total


# --- what is not validation


def test_what_the_engine_refuses_fails_its_line_alone(client):
    bad = {
        "temperature": {"temperature": "hot"},
        "max_tokens": {"max_tokens": "many"},
        "messages": {"messages": "none"},
        "context": {"messages": [{"role": "user", "content": "word " * 20_000}]},
    }
    lines = [line("good", {"max_tokens": 1})] + [line(name, body) for name, body in bad.items()]
    batch = finished(client, create_batch(client, lines))
    assert batch.status == "completed"
    assert [one["custom_id"] for one in output_lines(client, batch)] == ["good"]
    failed = error_lines(client, batch)
    assert [one["custom_id"] for one in failed] == list(bad)
    assert {one["response"]["status_code"] for one in failed} == {400}


# --- bytes


def test_windows_line_ends_and_a_last_line_without_newline_are_fine(fast):
    content = jsonl([easy("a"), easy("b")]).replace(b"\n", b"\r\n").rstrip()
    assert answered(fast, content) == ["a", "b"]


def test_fault_38_byte_order_mark_loses_no_line(fast):
    assert answered(fast, b"\xef\xbb\xbf" + jsonl([easy("a"), easy("b")])) == ["a", "b"]


@pytest.mark.parametrize("tail", [b"\n", b"\n\n\n", b"\r\n\r\n", b"  \t \n \n", b"   "], ids=repr)
def test_blank_lines_at_the_end_are_skipped(fast, tail):
    assert answered(fast, jsonl([easy("a"), easy("b")]) + tail) == ["a", "b"]


def test_blank_lines_in_front_and_in_the_middle_are_skipped(fast):
    assert answered(fast, b"\n \r\n" + jsonl([easy("a")]) + b"\n\t\n" + jsonl([easy("b")])) == ["a", "b"]


def test_blanks_around_a_request_are_fine(fast):
    assert answered(fast, b"  \t" + jsonl([easy("a")]).rstrip() + b" \t\r\n") == ["a"]


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\u0085", "\u000b", "\u000c", "\u001c"], ids=ascii)
def test_only_line_feeds_end_lines(fast, engine, character):
    # JSON has the last three only escaped; the others stand in the file as they are.
    one = json.dumps(easy(f"a{character}b", {"user": character}), ensure_ascii=character < " ").encode()
    assert answered(fast, one + b"\n" + jsonl([easy("c")])) == [f"a{character}b", "c"]


def test_a_lone_carriage_return_ends_no_line(fast):
    assert codes(faults(fast, jsonl([easy("a")]).replace(b"\n", b"\r") + jsonl([easy("b")]))) == [("invalid_json_line", 1)]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_other_encodings_of_unicode_fail(fast, encoding):
    errors = faults(fast, jsonl([easy("a"), easy("b")]).decode().encode(encoding))
    assert {error.code for error in errors} == {"invalid_json_line"}


def test_nul_is_never_blank(fast):
    assert codes(faults(fast, jsonl([easy("a")]) + b"\0\0\0\n" + jsonl([easy("b")]) + b"\0")) == [
        ("invalid_json_line", 2),
        ("invalid_json_line", 4),
    ]


def test_custom_ids_keep_every_character(fast):
    ids = ["A", "a", " a", "a ", "\ta", "é", "e\u0301", "\uff41", "a\u200b", "x\u0000a", "x\u0000b", "", " ", "ß", "ss"]
    ids += ["😀", '"', "\\", "/", "\u2028", "\r\n", "null", "1", "1.0", "\ufeffa", "\x7f", "İ", "i"]
    assert answered(fast, [easy(one) for one in ids]) == ids


def test_custom_id_of_a_megabyte_stays_whole(fast):
    long_id = "é" * 500_000
    assert answered(fast, [easy("a"), easy(long_id), easy("b")]) == ["a", long_id, "b"]


def test_custom_ids_that_differ_after_a_long_prefix_are_two(fast):
    prefix = "x" * 1_000_000
    assert answered(fast, [easy(prefix + "a"), easy(prefix + "b"), easy(prefix)]) == [prefix + "a", prefix + "b", prefix]


def test_custom_id_may_stand_in_other_batches_too(fast):
    for _ in range(2):
        assert answered(fast, [easy("the same")]) == ["the same"]


def test_body_reaches_the_engine_byte_for_byte(fast, engine):
    body = (
        '{ "messages":[{"content":"\\u00e9\\/é","role":"user"}],\t"seed":123456789012345678901234567890,'
        f'"model":"{fake_engine.MODEL}", "zero":-0.0,"exact":1.10,"huge":1e400, "nul":"a\\u0000b",'
        ' "schema":{"z":1,"a":2,"z2":{ }},"temperature":1,"temperature":2 }'
    )
    raw = f'{{"body":{body} ,"url":"/v1/chat/completions","custom_id":"raw","method":"POST"}}\n'
    assert answered(fast, raw.encode()) == ["raw"]
    assert engine.bodies[-1] == body.encode()


def test_unknown_keys_of_a_line_are_ignored(fast):
    assert answered(fast, [easy("a", extra={"b": [1]}, id="x")]) == ["a"]


def test_nesting_of_a_hundred_levels_is_fine(fast):
    content = json.dumps(easy("deep", {"x": "HERE"})).replace('"HERE"', "[" * 100 + "]" * 100) + "\n"
    assert answered(fast, content.encode()) == ["deep"]


def test_lines_of_four_megabytes_do_not_harm_their_neighbours(fast):
    big = {"messages": [{"role": "user", "content": "x" * 4_000_000}]}
    lines = [easy(f"big {n}", big) if n % 3 == 1 else easy(f"small {n}") for n in range(9)]
    assert Counter(answered(fast, lines)) == Counter(one["custom_id"] for one in lines)
