"""Contract, section 4: uploads, files that come in parts."""

import hashlib
from concurrent.futures import ThreadPoolExecutor

import httpx2
import openai
import pytest

from fake_engine import MODEL, FakeEngine
from penstock import blobs, finished, jsonl, line, output_lines, refused, wait_until

HOUR = 3600
PART_MAX = 64 * 1024 * 1024


@pytest.fixture(scope="module")
def server(new_module_server):
    with FakeEngine() as engine:
        yield new_module_server("--engine", engine.url, models=())


@pytest.fixture
def client(server):
    return server.client()


def create(client, size, name="notes.txt", purpose="user_data", **options):
    return client.uploads.create(filename=name, purpose=purpose, bytes=size, mime_type="text/plain", **options)


def send(client, upload, *contents):
    """Sends the parts one after the other and returns their ids."""
    return [client.uploads.parts.create(upload.id, data=content).id for content in contents]


def part_blobs(server):
    return [name for name in blobs(server) if name.startswith("part")]


def test_file_sent_in_chunks_is_the_input_of_a_batch(client):
    content = jsonl([line(f"line {n}", {"model": MODEL}) for n in range(100)])
    upload = client.uploads.upload_file_chunked(
        file=content,
        filename="input.jsonl",
        bytes=len(content),
        mime_type="application/jsonl",
        purpose="batch",
        part_size=1000,
        md5=hashlib.md5(content).hexdigest(),
    )
    assert upload.status == "completed"
    assert client.files.content(upload.file.id).read() == content
    batch = client.batches.create(
        input_file_id=upload.file.id, endpoint="/v1/chat/completions", completion_window="24h"
    )
    batch = finished(client, batch)
    assert batch.status == "completed"
    assert [one["custom_id"] for one in output_lines(client, batch)] == [f"line {n}" for n in range(100)]


def test_upload_says_what_it_is_from_creation_to_completion(client):
    upload = create(client, 5, "input.jsonl", "batch")
    assert upload.id.startswith("upload_")
    assert (upload.object, upload.status, upload.bytes) == ("upload", "pending", 5)
    assert (upload.filename, upload.purpose) == ("input.jsonl", "batch")
    assert upload.expires_at == upload.created_at + HOUR
    assert upload.file is None
    assert "file" in upload.model_fields_set

    part = client.uploads.parts.create(upload.id, data=b"hello")
    assert part.id.startswith("part_")
    assert (part.object, part.upload_id) == ("upload.part", upload.id)
    assert upload.created_at <= part.created_at <= upload.expires_at

    completed = client.uploads.complete(upload.id, part_ids=[part.id])
    assert completed.status == "completed"
    assert completed.file == client.files.retrieve(completed.file.id)
    assert (completed.file.filename, completed.file.purpose, completed.file.bytes) == ("input.jsonl", "batch", 5)
    assert completed.file.expires_at == completed.file.created_at + 30 * 24 * HOUR
    assert completed.to_dict() | {"status": "pending", "file": None} == upload.to_dict()


def test_file_expires_as_the_upload_asked(client):
    upload = create(client, 1, expires_after={"anchor": "created_at", "seconds": 2 * HOUR})
    file = client.uploads.complete(upload.id, part_ids=send(client, upload, b"x")).file
    assert file.expires_at == file.created_at + 2 * HOUR
    upload = create(client, 1)
    assert client.uploads.complete(upload.id, part_ids=send(client, upload, b"x")).file.expires_at is None


def test_whole_file_and_upload_have_the_same_rules(client, server):
    def whole(seconds=HOUR, purpose="batch", name="input.jsonl"):
        expiry = {"anchor": "created_at", "seconds": seconds}
        return client.files.create(file=(name, b"x"), purpose=purpose, expires_after=expiry)

    def in_parts(seconds=HOUR, purpose="batch", name="input.jsonl"):
        upload = create(client, 1, name, purpose, expires_after={"anchor": "created_at", "seconds": seconds})
        return client.uploads.complete(upload.id, part_ids=send(client, upload, b"x")).file

    for make in (whole, in_parts):
        file = make()
        assert file.expires_at == file.created_at + HOUR
        assert refused(lambda: make(seconds=HOUR - 1), "3600 to 2592000").param == "expires_after"
        assert refused(lambda: make(purpose="nonsense"), "Supported values are").param == "purpose"
        refused(lambda: make(name="input.json"), "Must be .jsonl")
    for form in ({"expires_after[anchor]": "created_at"}, {"expires_after[seconds]": "3600"}, {"expires_after": "3600"}):
        answer = httpx2.post(f"{server.url}/v1/files", data=form | {"purpose": "batch"}, files={"file": ("a.jsonl", b"x")})
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == "expires_after"


def test_parts_sent_in_parallel_are_joined_in_the_order_that_complete_names(client, server):
    contents = [bytes([65 + n]) * (100_000 + n) for n in range(16)]
    upload = create(client, sum(map(len, contents)))
    with ThreadPoolExecutor(16) as pool:
        part_ids = list(pool.map(lambda content: send(client, upload, content)[0], contents))
    assert len(set(part_ids)) == 16
    file = client.uploads.complete(upload.id, part_ids=part_ids[::-1]).file
    assert client.files.content(file.id).read() == b"".join(contents[::-1])
    assert not part_blobs(server)


def test_part_that_complete_does_not_name_is_left_out(client, server):
    upload = create(client, 4)
    first, _, last = send(client, upload, b"ab", b"left out", b"cd")
    file = client.uploads.complete(upload.id, part_ids=[last, first]).file
    assert client.files.content(file.id).read() == b"cdab"
    assert not part_blobs(server)


def test_completion_that_does_not_fit_can_be_tried_again(client, server):
    files = len(blobs(server))
    upload, other = create(client, 4), create(client, 4)
    first, second, third = send(client, upload, b"ab", b"cd", b"e")
    (foreign,) = send(client, other, b"cd")
    md5 = hashlib.md5(b"abcd").hexdigest()
    complete = client.uploads.complete
    assert refused(lambda: complete(upload.id, part_ids=[first]), "2 bytes").param == "part_ids"
    refused(lambda: complete(upload.id, part_ids=[first, second, third]), "5 bytes")
    for wrong in ([], [first, foreign], [first, "part_unknown"], [first, first], [first, ""], [first, "../lock"]):
        assert refused(lambda part_ids=wrong: complete(upload.id, part_ids=part_ids)).param == "part_ids"
    for wrong in (hashlib.md5(b"cdab").hexdigest(), "abc", ""):
        assert refused(lambda value=wrong: complete(upload.id, part_ids=[first, second], md5=value)).param == "md5"
    file = complete(upload.id, part_ids=[first, second], md5=md5.upper()).file
    assert client.files.content(file.id).read() == b"abcd"
    client.uploads.cancel(other.id)
    assert len(blobs(server)) == files + 1
    assert not server.place.unfinished()


def test_cancelled_upload_keeps_nothing(client, server):
    upload = create(client, 5)
    send(client, upload, b"hello", b"again")
    assert len(part_blobs(server)) == 2
    cancelled = client.uploads.cancel(upload.id)
    assert (cancelled.status, cancelled.file) == ("cancelled", None)
    assert not part_blobs(server)


@pytest.mark.parametrize("end", ["completed", "cancelled"])
def test_ended_upload_refuses_everything(client, server, end):
    upload = create(client, 5)
    part_ids = send(client, upload, b"hello")
    if end == "completed":
        client.uploads.complete(upload.id, part_ids=part_ids)
    else:
        client.uploads.cancel(upload.id)
    files = blobs(server)
    refused(lambda: send(client, upload, b"more"), end)
    refused(lambda: client.uploads.complete(upload.id, part_ids=part_ids), end)
    refused(lambda: client.uploads.cancel(upload.id), end)
    assert blobs(server) == files


def test_of_many_completions_at_once_one_makes_a_file(client, server):
    content = b"x" * 1_000_000
    upload = create(client, len(content), "once.txt")
    part_ids = send(client, upload, content)
    files = len(client.files.list(purpose="user_data").data)

    def complete(_):
        try:
            return client.uploads.complete(upload.id, part_ids=part_ids).file.id
        except openai.BadRequestError as e:
            return e

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(complete, range(8)))
    (winner,) = [one for one in outcomes if isinstance(one, str)]
    assert client.files.content(winner).read() == content
    assert len(client.files.list(purpose="user_data").data) == files + 1
    known = {file.id for file in client.files.list()}
    assert {name for name in blobs(server) if name.startswith("file")} == known
    assert not part_blobs(server)


def test_completions_and_cancels_that_cross_leave_one_winner_and_no_parts(client, server):
    for _ in range(5):
        upload = create(client, 10)
        part_ids = send(client, upload, b"0123456789")
        calls = [lambda: client.uploads.complete(upload.id, part_ids=part_ids), lambda: client.uploads.cancel(upload.id)] * 3

        def outcome(call):
            try:
                return call().status
            except openai.BadRequestError:
                return None

        with ThreadPoolExecutor(len(calls)) as pool:
            outcomes = [one for one in pool.map(outcome, calls) if one]
        assert len(outcomes) == 1
        assert not part_blobs(server)


@pytest.mark.parametrize(
    ("change", "param", "code"),
    [
        ({"purpose": "nonsense"}, "purpose", "invalid_value"),
        ({"purpose": "batch_output"}, "purpose", "invalid_value"),
        ({"filename": "input.json"}, "filename", "invalid_file_format"),
        ({"filename": 7}, "filename", "invalid_type"),
        ({"filename": None}, "filename", "missing_required_parameter"),
        ({"mime_type": None}, "mime_type", "missing_required_parameter"),
        ({"purpose": None}, "purpose", "missing_required_parameter"),
        ({"bytes": None}, "bytes", "missing_required_parameter"),
        ({"bytes": "5"}, "bytes", "invalid_type"),
        ({"bytes": 1.5}, "bytes", "invalid_type"),
        ({"bytes": 0}, "bytes", "integer_below_min_value"),
        ({"bytes": -1}, "bytes", "integer_below_min_value"),
        ({"bytes": 8 * 1024**3 + 1}, "bytes", "integer_above_max_value"),
        ({"expires_after": {"anchor": "created_at", "seconds": 3599}}, "expires_after", "invalid_value"),
        ({"expires_after": {"anchor": "now", "seconds": 3600}}, "expires_after", "invalid_value"),
    ],
)
def test_bad_parameter_of_an_upload_is_named(client, change, param, code):
    good = {"filename": "input.jsonl", "purpose": "batch", "bytes": 5, "mime_type": "application/jsonl"}
    failure = refused(lambda: client.uploads.create(**(good | change)))
    assert (failure.param, failure.code) == (param, code)


def test_every_purpose_is_taken_up_to_eight_gigabytes(client):
    for purpose in ("assistants", "fine-tune", "vision", "user_data", "evals"):
        assert create(client, 8 * 1024**3, purpose=purpose).purpose == purpose


def test_input_file_of_a_batch_has_the_same_limit_as_a_whole_file(new_server):
    with FakeEngine() as engine:
        client = new_server("--engine", engine.url, env={"MAX_BATCH_FILE_BYTES": "1000"}, models=()).client()
        refused(lambda: create(client, 1001, "input.jsonl", "batch"), "at most 1000", 413)
        assert create(client, 1000, "input.jsonl", "batch").status == "pending"
        assert create(client, 1001, "input.jsonl", "user_data").status == "pending"


def test_part_has_at_most_64_mebibytes(client, server):
    upload = create(client, PART_MAX + 1)
    part_ids = send(client, upload, b"x" * PART_MAX, b"y")
    refused(lambda: send(client, upload, b"x" * (PART_MAX + 1)), str(PART_MAX), 413)
    assert len(part_blobs(server)) == 2
    file = client.uploads.complete(upload.id, part_ids=part_ids).file
    assert client.files.content(file.id).read() == b"x" * PART_MAX + b"y"


def test_part_needs_a_form_with_data(client, server):
    upload = create(client, 5)
    url = f"{server.url}/v1/uploads/{upload.id}/parts"
    for request in (
        {"json": {"data": "hello"}},
        {"files": {"file": b"hello"}},
        {"files": {"data": b""}},
        {"files": [("data", b"hello"), ("data", b"again")]},
    ):
        answer = httpx2.post(url, **request)
        assert answer.status_code in (400, 415), request
        assert answer.json()["error"]["message"]
    assert not part_blobs(server)


def test_completion_that_is_not_as_it_should_be_is_refused(client, server):
    upload = create(client, 5)
    url = f"{server.url}/v1/uploads/{upload.id}/complete"
    for body in (b"", b"{", b"[]", b"{}", b'{"part_ids": null}', b'{"part_ids": "part_1"}', b'{"part_ids": [1]}'):
        answer = httpx2.post(url, content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 400, body
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_unknown_upload_is_not_found(client):
    class unknown:
        id = "upload_unknown"

    refused(lambda: send(client, unknown, b"x"), unknown.id, 404)
    refused(lambda: client.uploads.complete(unknown.id, part_ids=["part_1"]), unknown.id, 404)
    refused(lambda: client.uploads.cancel(unknown.id), unknown.id, 404)


@pytest.mark.local
def test_pending_upload_goes_on_after_a_kill_and_what_nobody_names_is_gone(new_server):
    with FakeEngine() as engine:
        server = new_server("--engine", engine.url, models=())
        client = server.client()
        content = jsonl([line("one", {"model": MODEL}), line("two", {"model": MODEL})])
        upload = create(client, len(content), "input.jsonl", "batch")
        part_ids = send(client, upload, content[:50])
        server.kill()
        (server.folder / "data/blobs/part_0123").write_bytes(b"stored, but not yet known when the server died")

        server.start()
        assert part_blobs(server) == part_ids
        part_ids += send(client, upload, content[50:])
        file = client.uploads.complete(upload.id, part_ids=part_ids).file
        server.kill()

        server.start()
        assert blobs(server) == [file.id, f"plan-{file.id}"]
        refused(lambda: client.uploads.cancel(upload.id), "completed")
        batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
        assert finished(client, batch).request_counts.completed == 2


def test_upload_expires_after_an_hour_and_its_parts_go(new_server):
    with FakeEngine() as engine:
        server = new_server("--engine", engine.url, models=())
        client = server.client()
        late, other = create(client, 5), create(client, 5)
        part_ids = send(client, late, b"hello")
        kept = send(client, other, b"world")
        server.place.rows(
            "UPDATE uploads SET created_ms = created_ms - ?, expires_ms = expires_ms - ? WHERE id = ?",
            *(HOUR * 1000, HOUR * 1000, late.id),
        )
        for _ in range(2):  # by the clock alone, and after a start that has cleaned up
            refused(lambda: send(client, late, b"more"), "expired")
            refused(lambda: client.uploads.complete(late.id, part_ids=part_ids), "expired")
            refused(lambda: client.uploads.cancel(late.id), "expired")
            server.kill()
            server.start()
            wait_until(lambda: part_blobs(server) == kept, "only the parts of the pending upload are left")
        assert client.uploads.complete(other.id, part_ids=kept).status == "completed"
