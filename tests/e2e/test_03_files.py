"""Contract, section 3: files."""

import json
import shutil
import subprocess
import time

import httpx2
import openai
import pytest

from fake_engine import MODEL, FakeEngine
from penstock import blobs, create_batch, finished, jsonl, line, refused, upload, wait_until

HOUR = 3600
DAY = 24 * HOUR
CONTENTS = {
    "byte order mark": b"\xef\xbb\xbf{}\n",
    "Windows line ends": b"{}\r\n{}\r\n",
    "no newline at the end": b"{}\n{}",
    "blank lines": b"\n\n{}\n \n\n",
    "not UTF-8": b"\xff\xfe\x00\x80",
    "every byte": bytes(range(256)) * 257,
    "what looks like the boundary": b"\r\n--x\r\n\r\n--x--\r\n--y--\r\n\r\n--",
    "one byte": b"\n",
    "more than a buffer": bytes(n * n % 251 for n in range(1_000_003)),
}


@pytest.fixture(scope="module")
def file(shared_server):
    return shared_server.client().files.create(file=("digits.txt", b"0123456789"), purpose="user_data")


def part(disposition, content=b""):
    """One part of a form. Both are taken word for word."""
    return b"--x\r\nContent-Disposition: form-data; %s\r\n\r\n%s\r\n" % (disposition, content)


FILE = part(b'name="file"; filename="a.jsonl"', b"{}\n")
PURPOSE = part(b'name="purpose"', b"user_data")
ANCHOR = part(b'name="expires_after[anchor]"', b"created_at")
SECONDS = part(b'name="expires_after[seconds]"', b"3600")


def post(server, *parts, end=b"--x--\r\n"):
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    return httpx2.post(f"{server.url}/v1/files", content=b"".join(parts) + end, headers=headers, timeout=60)


def named(server, disposition):
    """The name under which a file comes back that was sent with that Content-Disposition."""
    answer = post(server, PURPOSE, part(b'name="file"' + disposition, b"x"))
    assert answer.status_code == 200, answer.text
    return answer.json()["filename"]


# --- what is sent


@pytest.mark.parametrize(
    "parts",
    [
        [FILE, PURPOSE, ANCHOR, SECONDS],
        [PURPOSE, FILE, SECONDS, ANCHOR],
        [SECONDS, ANCHOR, PURPOSE, FILE],
        [b"a preamble\r\n", PURPOSE, part(b'name="other"; filename="b.txt"', b"ignored"), ANCHOR, FILE, SECONDS],
        [b"--x\r\nX: y\r\ncontent-disposition:form-data;name=purpose\r\n\r\nuser_data\r\n", FILE, ANCHOR, SECONDS],
    ],
)
def test_parts_of_the_form_come_in_any_order(client, shared_server, parts):
    answer = post(shared_server, *parts).json()
    assert (answer["filename"], answer["purpose"], answer["bytes"]) == ("a.jsonl", "user_data", 3)
    assert answer["expires_at"] == answer["created_at"] + HOUR
    assert client.files.content(answer["id"]).read() == b"{}\n"


@pytest.mark.parametrize("content", CONTENTS)
def test_content_comes_back_byte_for_byte(client, content):
    file = upload(client, CONTENTS[content])
    assert file.bytes == len(CONTENTS[content])
    assert client.files.content(file.id).read() == CONTENTS[content]


def test_content_comes_back_however_it_was_cut(client, shared_server):
    content = b"--x\r\n--\r\n--y\r\n\r--x\n--x\r\n\r\n-"
    body = PURPOSE + part(b'name="file"', content) + b"--x--"
    for size in (1, 2, 3, 7, 64):
        pieces = (body[n : n + size] for n in range(0, len(body), size))
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        answer = httpx2.post(f"{shared_server.url}/v1/files", content=pieces, headers=headers).json()
        assert client.files.content(answer["id"]).read() == content


def test_file_name_is_decoded_as_browsers_encode_it(shared_server):
    assert named(shared_server, b'; filename="a%22b%0D%0Ac.txt"') == 'a"b\r\nc.txt'
    assert named(shared_server, b'; filename="100%.txt"') == "100%.txt"
    assert named(shared_server, b'; filename="a%20b%2Fc%zz%.txt"') == "a%20b%2Fc%zz%.txt"
    assert named(shared_server, b'; filename="a\\b+c;d.txt"') == "a\\b+c;d.txt"
    assert named(shared_server, '; filename="ünïcode 😀.txt"'.encode()) == "ünïcode 😀.txt"
    assert named(shared_server, b"") == "upload"


def test_file_name_of_the_official_client_comes_back(client):
    for name in ('quote " and\r\nline.jsonl', "50%22 off.jsonl", "日本語 ü.jsonl", "a;b=c.jsonl", " spaces .jsonl"):
        assert client.files.create(file=(name, b"x"), purpose="user_data").filename == name.replace("%22", '"')
    assert client.files.create(file=b"x", purpose="user_data").filename == "upload"


@pytest.mark.local
@pytest.mark.parametrize("name", [b"../../../evil.jsonl", b"/tmp/evil.jsonl", b"a\x00b.jsonl", b"x" * 300, b".jsonl", b"tmp"])
def test_file_name_never_reaches_the_disk(client, shared_server, name):
    before = {path for path in shared_server.folder.rglob("*") if path.is_file()}
    answer = post(shared_server, PURPOSE, part(b'name="file"; filename="%s"' % name, b"x")).json()
    assert answer["filename"] == name.decode()
    assert client.files.content(answer["id"]).read() == b"x"
    new = {path for path in shared_server.folder.rglob("*") if path.is_file()} - before
    assert new == {shared_server.folder / "data/blobs" / answer["id"]}
    assert client.files.delete(answer["id"]).deleted
    assert {path for path in shared_server.folder.rglob("*") if path.is_file()} == before


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
def test_curl_uploads_a_large_file(client, shared_server, tmp_path):
    content = CONTENTS["more than a buffer"] * 2  # above 1 MB it waits for "100 Continue"
    (tmp_path / "large.txt").write_bytes(content)
    command = ["curl", "-sS", "-v", f"{shared_server.url}/v1/files", "-F", "purpose=user_data", "-F", "file=@large.txt"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30)
    assert "Expect: 100-continue" in done.stderr
    assert client.files.content(json.loads(done.stdout)["id"]).read() == content


@pytest.mark.parametrize("purpose", ["assistants", "batch", "fine-tune", "vision", "user_data", "evals"])
def test_purpose_is_taken(client, purpose):
    assert client.files.create(file=("a.jsonl", b"{}"), purpose=purpose).purpose == purpose


@pytest.mark.parametrize("purpose", ["", "Batch", "batch_output", "assistants_output", "nonsense", "batch\n"])
def test_other_purpose_is_refused_and_named(client, purpose):
    failure = refused(lambda: client.files.create(file=("a.jsonl", b"{}"), purpose=purpose), "Supported values are")
    assert (failure.param, failure.code) == ("purpose", "invalid_value")


@pytest.mark.parametrize(
    ("parts", "param"),
    [
        ([FILE], "purpose"),
        ([PURPOSE], "file"),
        ([], "file"),
        ([FILE, FILE, PURPOSE], None),
        ([FILE, part(b'name="purpose"', b"batch" * 1000)], None),
        ([FILE, part(b'name="purpose"', b"\xff\x00")], "purpose"),
        ([PURPOSE, part(b'name="file"; filename="\xff.txt"', b"x")], "file"),
        ([FILE, part(b'filename="x"', b"x"), PURPOSE], None),
        ([FILE, PURPOSE, part(b'name="unclosed', b"")], None),
        ([FILE, PURPOSE, b"--x\r\n" + b"X: y\r\n" * 10_000], None),
    ],
)
def test_form_that_is_not_as_it_should_be_is_refused_and_leaves_nothing(shared_server, parts, param):
    kept = blobs(shared_server)
    answer = post(shared_server, *parts)
    assert answer.status_code == 400
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert answer.json()["error"]["param"] == param
    assert blobs(shared_server) == kept
    assert not shared_server.place.unfinished()


def test_unclosed_form_is_refused(shared_server):
    for end in (b"", b"--x", b"--y--\r\n"):
        assert post(shared_server, PURPOSE, FILE, end=end).status_code == 400


# --- files for batches


@pytest.mark.parametrize("name", ["input.json", "input.jsonl.gz", "input.JSONL", "jsonl", "upload", "input.jsonl/"])
def test_file_for_a_batch_must_be_named_jsonl(client, name):
    failure = refused(lambda: upload(client, b"{}", name), "Invalid file format for Batch API. Must be .jsonl")
    assert failure.param == "file"


def test_empty_file_for_a_batch_is_refused_and_any_other_is_taken(client):
    assert refused(lambda: upload(client, b"")).code == "empty_file"
    assert client.files.create(file=("a.txt", b""), purpose="user_data").bytes == 0


@pytest.mark.parametrize(
    ("purpose", "megabytes", "status"),
    [(b"batch", 200, 200), (b"batch", 210, 413), (b"user_data", 210, 200), (b"user_data", 540, 413)],
)
def test_file_has_at_most_200_megabytes_for_a_batch_and_512_else(client, shared_server, purpose, megabytes, status):
    kept = blobs(shared_server)

    def pieces():
        yield part(b'name="purpose"', purpose)
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n'
        for _ in range(megabytes):
            yield b"x" * 1_000_000
        yield b"\r\n--x--\r\n"

    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = httpx2.post(f"{shared_server.url}/v1/files", content=pieces(), headers=headers, timeout=60)
    assert answer.status_code == status
    if status == 200:
        assert answer.json()["bytes"] == megabytes * 1_000_000
        client.files.delete(answer.json()["id"])
    else:
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert blobs(shared_server) == kept


# --- the file object


def test_file_says_what_it_is(client, shared_server):
    before = int(time.time())
    file = upload(client, b"{}\n", "input.jsonl")
    raw = httpx2.get(f"{shared_server.url}/v1/files/{file.id}").json()
    assert {"id", "object", "bytes", "created_at", "filename", "purpose", "status", "expires_at", "status_details"} <= set(raw)
    assert file.id.startswith("file-")
    assert (file.object, file.bytes, file.filename, file.purpose) == ("file", 3, "input.jsonl", "batch")
    assert before <= file.created_at <= time.time()
    assert client.files.retrieve(file.id) == file


def test_file_is_processed_at_once(client):
    start = time.monotonic()
    file = upload(client, b"{}\n")
    assert file.status == "processed"
    assert client.files.wait_for_processing(file.id, poll_interval=100).status == "processed"
    assert time.monotonic() - start < 5


# --- expiry


def test_file_for_a_batch_expires_after_thirty_days_and_others_never(client):
    file = upload(client, b"{}\n")
    assert file.expires_at == file.created_at + 30 * DAY
    assert client.files.create(file=("a.txt", b"x"), purpose="user_data").expires_at is None


@pytest.mark.parametrize("purpose", ["batch", "user_data"])
@pytest.mark.parametrize("seconds", [HOUR, HOUR + 1, 30 * DAY])
def test_file_expires_as_asked(client, purpose, seconds):
    expiry = {"anchor": "created_at", "seconds": seconds}
    file = client.files.create(file=("a.jsonl", b"x"), purpose=purpose, expires_after=expiry)
    assert file.expires_at == file.created_at + seconds


@pytest.mark.parametrize(
    "fields",
    [
        {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3599"},
        {"expires_after[anchor]": "created_at", "expires_after[seconds]": "2592001"},
        {"expires_after[anchor]": "created_at", "expires_after[seconds]": "-3600"},
        {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600.0"},
        {"expires_after[anchor]": "created_at", "expires_after[seconds]": "1h"},
        {"expires_after[anchor]": "created_at", "expires_after[seconds]": "9" * 30},
        {"expires_after[anchor]": "created_at", "expires_after[seconds]": ""},
        {"expires_after[anchor]": "now", "expires_after[seconds]": "3600"},
        {"expires_after[anchor]": "created_at"},
        {"expires_after[seconds]": "3600"},
        {"expires_after": '{"anchor": "created_at", "seconds": 3600}'},
        {"expires_after": "3600"},
        {"expires_after.anchor": "created_at", "expires_after.seconds": "3600"},
        {"expires_after[hours]": "1"},
    ],
)
def test_other_expiry_is_refused(shared_server, fields):
    answer = httpx2.post(f"{shared_server.url}/v1/files", data=fields | {"purpose": "batch"}, files={"file": ("a.jsonl", b"x")})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "expires_after"


def test_expired_file_is_gone_with_its_bytes_once_no_batch_reads_it(new_server):
    def age(file_id):
        """Makes the file expire now."""
        server.place.rows("UPDATE files SET expires_ms = ? WHERE id = ?", int(time.time() * 1000), file_id)

    def gone(file_id):
        for call in (client.files.retrieve, client.files.content, client.files.delete):
            refused(lambda: call(file_id), f"No such File object: {file_id}", 404)
        refused(lambda: client.batches.create(input_file_id=file_id, endpoint="/v1/chat/completions", completion_window="24h"))
        assert file_id not in [file.id for file in client.files.list()]

    with FakeEngine(answers=0) as engine:
        server = new_server("--engine", engine.url, models=())
        client = server.client()
        batch = create_batch(client, [line("one", {"model": MODEL})])
        wait_until(lambda: engine.asked, "the batch runs")
        kept, unread = upload(client, b"{}").id, upload(client, b"{}").id
        for file_id in (batch.input_file_id, unread):
            age(file_id)
            gone(file_id)
        upload(client, b"{}")  # a new file wakes who removes the late ones
        wait_until(lambda: unread not in blobs(server), "the expired file's bytes are gone")
        assert {batch.input_file_id, kept} <= set(blobs(server))
        server.kill()
        server.start()  # the batch goes on, though its input has expired
        engine.release()
        assert finished(client, batch).request_counts.completed == 1
        wait_until(lambda: batch.input_file_id not in blobs(server), "the input's bytes are gone")
        assert client.files.retrieve(kept).id == kept


# --- deletion and content


def test_deleted_file_is_gone_everywhere(client, shared_server):
    file = upload(client, jsonl([line("one")]))
    deleted = httpx2.delete(f"{shared_server.url}/v1/files/{file.id}")
    assert deleted.json() == {"id": file.id, "object": "file", "deleted": True}
    for call in (client.files.retrieve, client.files.content, client.files.delete):
        failure = refused(lambda: call(file.id), status=404)
        assert (failure.body["message"], failure.param) == (f"No such File object: {file.id}", "id")
    refused(lambda: client.batches.create(input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h"))
    assert file.id not in [one.id for one in client.files.list()]
    assert file.id not in blobs(shared_server)


def test_content_is_sent_as_bytes_and_not_as_json(client, shared_server, file):
    answer = httpx2.get(f"{shared_server.url}/v1/files/{file.id}/content", headers={"Accept": "application/binary"})
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-length"] == "10"
    assert answer.headers["accept-ranges"] == "bytes"
    with client.files.with_streaming_response.content(file.id) as stream:
        assert b"".join(stream.iter_bytes()) == answer.content == b"0123456789"


@pytest.mark.parametrize(
    ("wanted", "status", "first", "end"),
    [
        ("bytes=0-0", 206, 0, 1),
        ("bytes=2-4", 206, 2, 5),
        ("bytes=5-", 206, 5, 10),
        ("bytes=-3", 206, 7, 10),
        ("bytes=-99", 206, 0, 10),
        ("bytes=0-99999999999999999999", 206, 0, 10),
        ("BYTES=9-9", 206, 9, 10),
        ("bytes=10-", 416, None, None),
        ("bytes=10-12", 416, None, None),
        ("bytes=-0", 416, None, None),
        ("bytes=99999999999999999999-", 416, None, None),
        ("bytes=4-2", 200, 0, 10),
        ("bytes=0-1,3-4", 200, 0, 10),
        ("bytes=", 200, 0, 10),
        ("bytes=-", 200, 0, 10),
        ("bytes=a-b", 200, 0, 10),
        ("bytes=1", 200, 0, 10),
        ("lines=0-1", 200, 0, 10),
        ("0-1", 200, 0, 10),
        ("bytes=0x1-5", 200, 0, 10),
        ("bytes=+1-5", 200, 0, 10),
        ("bytes=--1", 200, 0, 10),
    ],
)
def test_range_gives_the_right_bytes_or_all(shared_server, file, wanted, status, first, end):
    answer = httpx2.get(f"{shared_server.url}/v1/files/{file.id}/content", headers={"Range": wanted})
    assert answer.status_code == status
    if status == 416:
        assert answer.headers["content-range"] == "bytes */10"
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    else:
        assert answer.content == b"0123456789"[first:end]
        assert answer.headers.get("content-range") == (f"bytes {first}-{end - 1}/10" if status == 206 else None)


def test_range_is_ignored_where_it_does_not_apply(shared_server, file):
    url = f"{shared_server.url}/v1/files/{file.id}/content"
    for condition in ('"some-etag"', "Wed, 25 Nov 2026 00:00:00 GMT"):
        answer = httpx2.get(url, headers={"Range": "bytes=0-1", "If-Range": condition})
        assert (answer.status_code, answer.content) == (200, b"0123456789")
    assert httpx2.head(url, headers={"Range": "bytes=0-1"}).status_code == 200
    assert "content-range" not in httpx2.get(f"{shared_server.url}/v1/files/{file.id}", headers={"Range": "bytes=0-1"}).headers


def test_fault_40_download_under_way_outlives_the_deletion(client):
    content = b"x" * 8_000_000  # more than sockets hold
    file = client.files.create(file=("a.txt", content), purpose="user_data")
    with client.files.with_streaming_response.content(file.id) as stream:
        pieces = stream.iter_bytes()
        first = next(pieces)
        client.files.delete(file.id)
        assert first + b"".join(pieces) == content
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(file.id)
