"""POST /v1/batches: what a batch may be, and how a wrong one is refused. The engine holds its answers back."""

import itertools
import json

import httpx2
import openai
import pytest

import fake_engine
from fake_engine import FakeEngine
from penstock import create_batch, error_lines, finished, jsonl, line, output_lines, upload

ENDPOINTS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses")
ABSENT = object()


@pytest.fixture(scope="module")
def server(new_module_server):
    with FakeEngine(answers=0) as engine:
        yield new_module_server("--engine", engine.url, models=(), env={"MAX_QUEUE_DEPTH": "0"})


@pytest.fixture(scope="module")
def file_id(server):
    return upload(server.client(), [line("one", {"model": fake_engine.MODEL})]).id


@pytest.fixture
def post(server, file_id):
    """Creates a batch from a good request with some changes, and gives the answer as it came."""

    def post(**changes):
        good = {"input_file_id": file_id, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        body = {key: value for key, value in (good | changes).items() if value is not ABSENT}
        return httpx2.post(f"{server.url}/v1/batches", json=body)

    return post


def refused(answer, param=None, code=None):
    """The message of a refusal, which must have OpenAI's shape."""
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    if param:
        assert error["param"] == param
    if code:
        assert error["code"] == code
    assert error["message"]
    return error["message"]


def test_creation_answers_at_once_with_a_validating_batch(post, file_id):
    batch = post().json()
    assert batch["id"].startswith("batch_")
    assert (batch["object"], batch["status"], batch["input_file_id"]) == ("batch", "validating", file_id)
    assert (batch["endpoint"], batch["completion_window"]) == ("/v1/chat/completions", "24h")
    assert batch["metadata"] is None


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_endpoint_is_offered(post, endpoint):
    assert post(endpoint=endpoint).json()["endpoint"] == endpoint


OTHERS = ("/v1/moderations", "/v1/images/generations", "/v1/images/edits", "/v1/videos", "/v1/nonsense", "")
NEARLY = ("/v1/chat/completions/", "/V1/chat/completions", " /v1/chat/completions", "v1/chat/completions")


@pytest.mark.parametrize("endpoint", OTHERS + NEARLY)
def test_other_endpoint_is_refused_with_those_that_are_offered(post, endpoint):
    message = refused(post(endpoint=endpoint), "endpoint", "invalid_value")
    supported = "', '".join(ENDPOINTS)
    assert message == f"Invalid value: '{endpoint}'. Supported values are: '{supported}'."


@pytest.mark.parametrize("window", ["1h", "24H", "24h ", "24", "1d", "86400", ""])
def test_completion_window_is_24h_and_nothing_else(post, window):
    message = refused(post(completion_window=window), "completion_window", "invalid_value")
    assert message == f"Invalid value: '{window}'. Supported values are: '24h'."


@pytest.mark.parametrize("value", [ABSENT, None], ids=["absent", "null"])
@pytest.mark.parametrize("name", ["input_file_id", "endpoint", "completion_window"])
def test_missing_parameter_is_named(post, name, value):
    message = refused(post(**{name: value}), name, "missing_required_parameter")
    assert message == f"Missing required parameter: '{name}'."


@pytest.mark.parametrize("value", [7, 1.5, True, [], {}], ids=str)
@pytest.mark.parametrize("name", ["input_file_id", "endpoint", "completion_window"])
def test_parameter_of_a_wrong_type_is_named(post, name, value):
    assert name in refused(post(**{name: value}), name, "invalid_type")


BODIES = {
    "empty": b"",
    "an array": b"[]",
    "a string": b'"batch"',
    "null": b"null",
    "NaN": b'{"input_file_id": NaN}',
    "a trailing comma": b'{"endpoint": "/v1/embeddings",}',
    "single quotes": b"{'endpoint': 1}",
    "a comment": b'{"endpoint": 1 /* one */}',
    "two values": b"{} {}",
    "half of it": b'{"input_file_id": "file-',
    "a NUL": b'{"endpoint": "\0"}',
    "a NUL behind it": b"{}\0",
    "invalid UTF-8": b'{"endpoint": "\xff"}',
    "UTF-16": '{"endpoint": "x"}'.encode("utf-16"),
    "200,000 levels": b"[" * 200_000 + b"]" * 200_000,
    "200,000 levels of objects": b'{"metadata":' * 60_000,
    "too long": b'{"endpoint": "' + b"x" * 2_000_000 + b'"}',
}


@pytest.mark.parametrize("case", BODIES)
def test_body_that_is_no_json_object_is_refused(server, case):
    answer = httpx2.post(f"{server.url}/v1/batches", content=BODIES[case], headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 413)
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_form_is_refused(server, file_id):
    fields = {"input_file_id": file_id, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    assert httpx2.post(f"{server.url}/v1/batches", data=fields).status_code in (400, 415)
    assert httpx2.post(f"{server.url}/v1/batches", files={"input_file_id": b"x"}).status_code in (400, 415)


def test_unknown_fields_are_ignored(post):
    answer = post(colour="green", nested={"a": [1, {"b": None}]}, status="completed", id="batch_mine")
    assert answer.status_code == 200
    assert answer.json()["status"] == "validating"
    assert answer.json()["id"] != "batch_mine"


METADATA = {
    "absent": ABSENT,
    "null": None,
    "empty": {},
    "16 pairs": {f"key {n}": f"value {n}" for n in range(16)},
    "key of 64 characters": {"k" * 64: "v"},
    "key of 64 emoji": {"😀" * 64: "v"},
    "value of 512 characters": {"k": "v" * 512},
    "value of 512 emoji": {"k": "😀" * 512},
    "empty key and value": {"": ""},
    "odd characters": {"\u0000": '\u0000"\\\n\u2028', "é": "e\u0301", " a ": " b "},
    "JSON in a value": {"settings": json.dumps({"a": [1, 2.50]})},
}


@pytest.mark.parametrize("case", METADATA)
def test_metadata_comes_back_unchanged(server, post, case):
    metadata = METADATA[case]
    created = post(metadata=metadata).json()
    expected = None if metadata is ABSENT else metadata
    assert created["metadata"] == expected
    assert httpx2.get(f"{server.url}/v1/batches/{created['id']}").json()["metadata"] == expected
    assert httpx2.get(f"{server.url}/v1/batches").json()["data"][0]["metadata"] == expected


BAD_METADATA = {
    "a string": "owner=me",
    "an array": [["a", "b"]],
    "a number": 7,
    "17 pairs": {f"key {n}": "v" for n in range(17)},
    "key of 65 characters": {"é" * 65: "v"},
    "value of 513 characters": {"k": "é" * 513},
}


@pytest.mark.parametrize("case", BAD_METADATA)
def test_metadata_past_its_limits_is_refused(post, case):
    answer = post(metadata=BAD_METADATA[case])
    assert "metadata" in refused(answer)
    assert answer.json()["error"]["param"].startswith("metadata")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (["a"], "an array"),
        ({"a": "b"}, "an object"),
        (7, "an integer"),
        (1.5, "a number"),
        (True, "a boolean"),
        (None, "null"),
    ],
    ids=str,
)
def test_metadata_value_that_is_no_string_is_named_with_its_type(post, value, words):
    message = refused(post(metadata={"good": "x", "tags": value}), "metadata.tags", "invalid_type")
    assert message == f"Invalid type for 'metadata.tags': expected a string, but got {words} instead."


def test_metadata_stays_in_every_final_status(client):
    metadata = {"owner": "tests 😀"}
    completed = create_batch(client, [line("one", {"max_tokens": 1})], metadata=metadata)
    failed = create_batch(client, b"no JSON\n", metadata=metadata)
    cancelled = client.batches.cancel(create_batch(client, [line("one")], metadata=metadata).id)
    assert cancelled.metadata == metadata
    ended = [finished(client, batch) for batch in (completed, failed, cancelled)]
    assert [batch.status for batch in ended] == ["completed", "failed", "cancelled"]
    assert [batch.metadata for batch in ended] == [metadata] * 3


@pytest.mark.parametrize(("seconds", "expected"), [(3600, 3600), (2_592_000, 2_592_000), (None, 30 * 86_400)])
def test_output_expires_as_asked_or_after_30_days(client, seconds, expected):
    expires_after = {"anchor": "created_at", "seconds": seconds} if seconds else None
    lines = [line("good", {"max_tokens": 1}), line("bad", {"temperature": "hot"})]
    batch = finished(client, create_batch(client, lines, extra_body={"output_expires_after": expires_after}))
    for file_id in (batch.output_file_id, batch.error_file_id):
        file = client.files.retrieve(file_id)
        assert file.expires_at == file.created_at + expected


@pytest.mark.parametrize(
    "value",
    [
        {"anchor": "created_at", "seconds": 3599},
        {"anchor": "created_at", "seconds": 2_592_001},
        {"anchor": "created_at", "seconds": -1},
        {"anchor": "created_at", "seconds": 10**20},
        {"anchor": "created_at", "seconds": "3600"},
        {"anchor": "created_at", "seconds": 3600.5},
        {"anchor": "created_at", "seconds": None},
        {"anchor": "created_at"},
        {"anchor": "completed_at", "seconds": 3600},
        {"anchor": 1, "seconds": 3600},
        {"seconds": 3600},
        {},
        3600,
        "3600",
        [],
    ],
    ids=str,
)
def test_wrong_output_expires_after_is_named(post, value):
    answer = post(output_expires_after=value)
    assert "output_expires_after" in refused(answer)
    assert answer.json()["error"]["param"].startswith("output_expires_after")


@pytest.mark.parametrize("name", ["file-unknown", "", "../../etc/passwd", "file-" + "x" * 5000, "\0", "😀"], ids=repr)
def test_unknown_file_is_refused_with_its_name(post, name):
    assert name in refused(post(input_file_id=name), "input_file_id")


def test_deleted_file_is_unknown(server, post):
    client = server.client()
    file = upload(client, [line("one")])
    client.files.delete(file.id)
    assert file.id in refused(post(input_file_id=file.id), "input_file_id")


def test_file_for_something_else_is_refused_with_its_purpose(server, post):
    file = server.client().files.create(file=("input.jsonl", jsonl([line("one")])), purpose="user_data")
    assert "user_data" in refused(post(input_file_id=file.id), "input_file_id")


def test_output_of_a_batch_is_no_input(client):
    batch = finished(client, create_batch(client, [line("one", {"max_tokens": 1})]))
    with pytest.raises(openai.BadRequestError, match="batch_output"):
        client.batches.create(
            input_file_id=batch.output_file_id, endpoint="/v1/chat/completions", completion_window="24h"
        )


def test_refused_creation_leaves_no_batch(server, post):
    newest = post().json()["id"]
    changes = [{"input_file_id": "file-unknown"}, {"endpoint": "/v1/x"}, {"completion_window": "1h"}, {"metadata": "x"}]
    changes += [{"output_expires_after": 1}, {"endpoint": None}, {"priority": 9}]
    for change in changes:
        refused(post(**change))
    assert httpx2.get(f"{server.url}/v1/batches").json()["data"][0]["id"] == newest


def test_bad_content_fails_the_batch_and_not_its_creation(server, post):
    client = server.client()
    created = post(input_file_id=upload(client, b"no JSON\n").id)
    assert (created.status_code, created.json()["status"]) == (200, "validating")
    assert finished(client, client.batches.retrieve(created.json()["id"])).status == "failed"


def test_one_file_serves_many_batches_at_once(client):
    file = upload(client, [line("a", {"max_tokens": 1}), line("bad", {"temperature": "hot"})])
    made = [
        client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
        for _ in range(3)
    ]
    ended = [finished(client, batch) for batch in made]
    assert [batch.status for batch in ended] == ["completed"] * 3
    for batch in ended:
        assert [one["custom_id"] for one in output_lines(client, batch)] == ["a"]
        assert [one["custom_id"] for one in error_lines(client, batch)] == ["bad"]
    files = itertools.chain.from_iterable((batch.output_file_id, batch.error_file_id) for batch in ended)
    assert len(set(files)) == 6
