"""Contract, section 1: HTTP in general."""

import json
import socket
import time
from contextlib import ExitStack

import httpx2
import openai
import pytest

from penstock import Connection, blobs, refused, wait_until

ENVELOPE = {"message", "type", "param", "code"}
JSON = {"Content-Type": "application/json"}
FORM_TYPE = "multipart/form-data"
FORM = {"Content-Type": f"{FORM_TYPE}; boundary=x"}
PART = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n'
KIBIBYTE = 1024
MEBIBYTE = 1024 * KIBIBYTE

# Method, path, what else is sent, and the statuses that are right.
REFUSALS = {
    "unknown route": ("GET", "/v1/nowhere", {}, {404}),
    "route outside of /v1": ("GET", "/files", {}, {404}),
    "trailing slash": ("GET", "/v1/files/", {}, {404}),
    "unknown file": ("GET", "/v1/files/file-unknown", {}, {404}),
    "unknown content": ("GET", "/v1/files/file-unknown/content", {}, {404}),
    "unknown batch": ("GET", "/v1/batches/batch_unknown", {}, {404}),
    "unknown upload": ("POST", "/v1/uploads/upload_unknown/cancel", {}, {404}),
    "unknown model": ("GET", "/v1/models/unknown", {}, {404}),
    "other method": ("PUT", "/v1/files", {}, {405}),
    "method nobody knows": ("BREW", "/v1/files", {}, {405}),
    "bad parameter": ("GET", "/v1/files?limit=abc", {}, {400}),
    "malformed path": ("GET", "/v1/files/%zz", {}, {400}),
    "name that is not UTF-8": ("GET", "/v1/files/%FF%C3", {}, {404}),
    "name with NUL": ("GET", "/v1/files/%00", {}, {404}),
    "name that looks like a path": ("GET", "/v1/files/..%2F..%2Flock/content", {}, {404}),
    "name that goes up": ("GET", "/v1/files/%2e%2e/content", {}, {404}),
    "name that is encoded twice": ("GET", "/v1/files/%252e%252e%252flock/content", {}, {404}),
    "name with backslashes": ("GET", "/v1/files/..%5C..%5Clock/content", {}, {404}),
    "name with a line break": ("GET", "/v1/files/a%0d%0aX:%20y", {}, {404}),
    "name that is SQL": ("DELETE", "/v1/files/'%20OR%20''='", {}, {404}),
    "batch that looks like a path": ("GET", "/v1/batches/..%2F..%2Flock/results", {}, {404}),
    "upload that looks like a path": ("POST", "/v1/uploads/..%2F..%2Flock/cancel", {}, {404}),
    "path in a path": ("GET", "/v1/files/batches/../content", {}, {404}),
    "path without a name": ("GET", "/v1/files//content", {}, {404}),
    "parameter that is not UTF-8": ("GET", "/v1/files?after=%FF", {}, {404}),
    "JSON of 2 MiB": ("POST", "/v1/batches", {"content": b'"' + b"x" * 2 * MEBIBYTE + b'"', "headers": JSON}, {413}),
    "form where JSON is needed": ("POST", "/v1/batches", {"data": {"endpoint": "/v1/embeddings"}}, {400, 415}),
    "multipart where JSON is needed": ("POST", "/v1/uploads", {"files": {"file": b"x"}}, {400, 415}),
    "JSON where a form is needed": ("POST", "/v1/files", {"json": {"purpose": "batch"}}, {400, 415}),
    "no body where a form is needed": ("POST", "/v1/files", {}, {400, 415}),
    "form without a boundary": ("POST", "/v1/files", {"content": b"x", "headers": {"Content-Type": FORM_TYPE}}, {400}),
    "form that is none": ("POST", "/v1/files", {"content": b"hello", "headers": FORM}, {400}),
    "form cut short": ("POST", "/v1/files", {"content": PART + b"abc", "headers": FORM}, {400}),
    "head of 40 KiB": ("GET", "/v1/files", {"headers": {"X-Long": "x" * 40 * KIBIBYTE}}, {431}),
    "300 headers": ("GET", "/v1/files", {"headers": {f"X-{n}": "x" for n in range(300)}}, {431}),
    "target of 40 KiB": ("GET", "/v1/files?" + "x" * 40 * KIBIBYTE, {}, {414, 431}),
}

# Word for word, since no client would send them.
MALFORMED = {
    "no HTTP": b"hello\r\n\r\n",
    "no Host": b"GET /v1/files HTTP/1.1\r\n\r\n",
    "other version": b"GET /v1/files HTTP/2.0\r\nHost: localhost\r\n\r\n",
    "bare line feeds": b"GET /v1/files HTTP/1.1\nHost: localhost\n\n",
    "folded header": b"GET /v1/files HTTP/1.1\r\nHost: localhost\r\nX: b\r\n c\r\n\r\n",
    "length that is none": b"POST /v1/batches HTTP/1.1\r\nHost: localhost\r\nContent-Length: abc\r\n\r\n",
    "negative length": b"POST /v1/batches HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    "two lengths that agree": b"POST /v1/batches HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    "two lengths": b"POST /v1/batches HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "length and chunks": b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "other coding": b"POST /v1/batches HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\n",
    "chunk that is none": b"POST /v1/batches HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "bare line feed in a chunk's extension": b'POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0;a="\n"\r\n\r\n',
    "folded trailer": b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: b\r\n c\r\n\r\n",
    "space before the colon": b"GET /v1/files HTTP/1.1\r\nHost : localhost\r\n\r\n",
    "header without a colon": b"GET /v1/files HTTP/1.1\r\nHost: localhost\r\nX\r\n\r\n",
    "control character in the path": b"GET /v1/files/\x1b[2J HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "NUL in the path": b"GET /v1/files/\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "absolute target": b"GET http://localhost/v1/files HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "HTTP/0.9": b"GET /v1/files\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "bytes that are not UTF-8": b"GET /v1/\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n",
}

BAD_JSON = {
    "nothing": b"",
    "cut short": b'{"purpose": "batch"',
    "NaN": b'{"bytes": NaN}',
    "trailing comma": b'{"bytes": 1,}',
    "single quotes": b"{'bytes': 1}",
    "two values": b"{} {}",
    "NUL": b'{"purpose": "a\x00b"}',
    "NUL behind it": b"{}\x00",
    "invalid UTF-8": b'{"purpose": "\xff"}',
    "UTF-16": '{"bytes": 1}'.encode("utf-16"),
    "lone surrogate": rb'{"purpose": "\ud800"}',
    "array": b"[]",
    "string": b'"batch"',
    "number": b"1",
    "null": b"null",
    "200,000 levels deep": b"[" * 200_000 + b"]" * 200_000,
    "200,000 levels of objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
}


def request(server, method, path, **options):
    return httpx2.request(method, server.url + path, **options)


def check_refusal(status, headers, body, allowed):
    assert status in allowed, body
    assert headers["content-type"] == "application/json"
    error = json.loads(body.decode("utf-8"))["error"]
    assert set(error) == ENVELOPE
    assert error["message"] and error["type"] == "invalid_request_error"
    assert error["code"] is None or isinstance(error["code"], str)
    assert headers["x-request-id"]
    assert headers["openai-processing-ms"].isdigit()


@pytest.fixture
def connect(shared_server):
    """Opens connections that are closed after the test."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(Connection(shared_server))


@pytest.mark.parametrize("case", REFUSALS)
def test_refusal_has_an_error_with_all_four_keys(shared_server, case):
    method, path, options, allowed = REFUSALS[case]
    answer = request(shared_server, method, path, **options)
    check_refusal(answer.status_code, answer.headers, answer.content, allowed)


@pytest.mark.parametrize("case", MALFORMED)
def test_fault_44_malformed_request_is_refused_and_its_connection_closed(connect, case):
    connection = connect()
    connection.send(MALFORMED[case])
    check_refusal(*connection.answer(), {400, 404, 405})
    if case != "bytes that are not UTF-8":
        assert connection.is_closed()


def test_fault_44_id_is_matched_whole_before_it_is_used(client, shared_server):
    file = client.files.create(file=("a.txt", b"hello"), purpose="user_data")
    with httpx2.Client(base_url=f"{shared_server.url}/v1/files/") as http:
        for other in (f"{file.id}%00", f"{file.id}%20", f"{file.id}%0a", f"{file.id}%2f", f"..%2fblobs%2f{file.id}", file.id.upper(), "%25"):
            for method, path in (("GET", other), ("GET", f"{other}/content"), ("DELETE", other)):
                answer = http.request(method, path)
                check_refusal(answer.status_code, answer.headers, answer.content, {404})
    assert client.files.content(file.id).content == b"hello"


@pytest.mark.parametrize("path", ["/v1/batches", "/v1/uploads"])
@pytest.mark.parametrize("case", BAD_JSON)
def test_body_that_is_no_json_object_is_refused(shared_server, path, case):
    answer = request(shared_server, "POST", path, content=BAD_JSON[case], headers=JSON)
    check_refusal(answer.status_code, answer.headers, answer.content, {400})


def test_other_method_of_a_known_path_is_told_which_are_allowed(shared_server):
    for method, path, allowed in [
        ("PATCH", "/v1/files", {"GET", "POST"}),
        ("PUT", "/v1/files/file-1", {"GET", "DELETE"}),
        ("POST", "/v1/files/file-1", {"GET", "DELETE"}),
        ("POST", "/v1/files/file-1/content", {"GET"}),
        ("DELETE", "/v1/files/file-1/content", {"GET"}),
        ("GET", "/v1/uploads", {"POST"}),
        ("GET", "/v1/uploads/upload_1/parts", {"POST"}),
        ("DELETE", "/v1/batches", {"GET", "POST"}),
        ("GET", "/v1/batches/batch_1/cancel", {"POST"}),
        ("DELETE", "/v1/models", {"GET"}),
    ]:
        answer = request(shared_server, method, path)
        assert answer.status_code == 405, (method, path)
        assert set(answer.headers["allow"].split(", ")) == allowed, (method, path)
        assert len(answer.headers["allow"].split(", ")) == len(allowed)


def test_every_answer_has_an_id_of_its_own_and_says_how_long_it_took(shared_server):
    paths = ("/v1/files", "/v1/models", "/v1/nowhere", "/healthz") * 2
    answers = [request(shared_server, "GET", path) for path in paths]
    assert len({answer.headers["x-request-id"] for answer in answers}) == len(answers)
    assert all(answer.headers["openai-processing-ms"].isdigit() for answer in answers)


def test_client_sees_typed_errors_with_their_fields(client):
    for call, type_ in [
        (lambda: client.get("/nowhere", cast_to=object), openai.NotFoundError),
        (lambda: client.files.retrieve("file-unknown"), openai.NotFoundError),
        (lambda: client.files.create(file=("a.jsonl", b"x"), purpose="nonsense"), openai.BadRequestError),
    ]:
        failure = refused(call, status={openai.NotFoundError: 404, openai.BadRequestError: 400}[type_])
        assert type(failure) is type_
        assert failure.request_id == failure.response.headers["x-request-id"]
        assert failure.type == "invalid_request_error"
        assert failure.body["message"] in str(failure)
    assert (failure.param, failure.code) == ("purpose", "invalid_value")
    assert client.files.list()._request_id


def test_client_does_not_retry_a_refusal(shared_server):
    sent = []
    http_client = openai.DefaultHttpxClient(event_hooks={"request": [sent.append]})
    client = openai.OpenAI(base_url=f"{shared_server.url}/v1", api_key="any", http_client=http_client)
    for call in (
        lambda: client.files.retrieve("file-unknown"),
        lambda: client.files.create(file=("a.json", b"x"), purpose="batch"),
        lambda: client.delete("/models", cast_to=object),
        lambda: client.post("/batches", body={"metadata": {"k": "v" * 2 * MEBIBYTE}}, cast_to=object),
        lambda: client.get("/files", cast_to=object, options={"headers": {"X-Long": "x" * 40 * KIBIBYTE}}),
    ):
        with pytest.raises(openai.APIStatusError):
            call()
    assert len(sent) == 5


def test_without_a_configured_key_any_key_or_none_works(shared_server):
    for headers in ({}, {"Authorization": "Bearer anything"}, {"Authorization": "Basic eDp5"}, {"Authorization": ""}):
        assert request(shared_server, "GET", "/v1/files?limit=1", headers=headers).status_code == 200


def test_unknown_headers_parameters_and_fields_are_ignored(shared_server):
    headers = {
        "OpenAI-Organization": "org-1",
        "OpenAI-Project": "proj-1",
        "OpenAI-Beta": "assistants=v2",
        "X-Stainless-Lang": "python",
        "X-Stainless-Retry-Count": "2",
        "Accept": "application/binary",
        "Accept-Encoding": "gzip, deflate, br",
    }
    assert request(shared_server, "GET", "/v1/files?limit=1&colour=blue&x&&=y", headers=headers).status_code == 200
    upload = {"filename": "a.txt", "purpose": "user_data", "bytes": 1, "mime_type": "text/plain", "colour": "blue"}
    assert request(shared_server, "POST", "/v1/uploads?colour=blue", json=upload, headers=headers).status_code == 200
    form = {"purpose": "user_data", "colour": "blue"}
    answer = request(shared_server, "POST", "/v1/files?x=1", data=form, files={"file": ("a.txt", b"x")}, headers=headers)
    assert answer.status_code == 200


@pytest.mark.parametrize("headers", [JSON, {}])
def test_post_without_a_body_is_no_error_where_none_is_needed(client, shared_server, headers):
    upload = client.uploads.create(filename="a.txt", purpose="user_data", bytes=1, mime_type="text/plain")
    answer = request(shared_server, "POST", f"/v1/uploads/{upload.id}/cancel", content=b"", headers=headers)
    assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
    assert request(shared_server, "POST", "/v1/batches/batch_unknown/cancel", content=b"", headers=headers).status_code == 404


def test_head_is_answered_like_get_without_the_body(client, shared_server, connect):
    file = client.files.create(file=("a.txt", b"hello"), purpose="user_data")
    connection = connect()
    for path, length in ((f"/v1/files/{file.id}/content", "5"), (f"/v1/files/{file.id}", None), ("/v1/files/file-unknown", None)):
        connection.send(f"HEAD {path} HTTP/1.1\r\nHost: localhost\r\n\r\nGET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        status, headers, _ = connection.answer(has_body=False)
        get_status, get_headers, _ = connection.answer()
        assert (status, headers["Content-Length"]) == (get_status, get_headers["Content-Length"])
        assert length in (None, headers["Content-Length"])


def test_pipelined_requests_are_answered_in_order(connect):
    connection = connect()
    names = [f"file-{n}" for n in range(20)]
    connection.send(b"".join(f"GET /v1/files/{name} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() for name in names))
    answers = [json.loads(connection.answer()[2]) for _ in names]
    assert [answer["error"]["message"] for answer in answers] == [f"No such File object: {name}" for name in names]


def test_refusal_leaves_the_connection_open_for_the_next_request(connect):
    connection = connect()
    connection.send(b"POST /v1/nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000)
    assert connection.answer()[0] == 404
    connection.send(b"POST /v1/batches HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\n{")
    assert connection.answer()[0] == 400
    connection.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert connection.answer()[0] == 200


def test_slow_sender_is_understood(connect):
    connection = connect()
    for byte in b"POST /v1/batches HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}":
        connection.send(bytes([byte]))
    status, _, body = connection.answer()
    assert (status, json.loads(body)["error"]["code"]) == (400, "missing_required_parameter")


UPLOAD = b'{"filename": "a.txt", "purpose": "user_data", "bytes": 1, "mime_type": "text/plain"}'


def test_client_that_waits_for_continue_is_told_to_go_on(connect):
    connection = connect()
    head = b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n"
    connection.send(head % (b"/v1/uploads", len(UPLOAD)))
    assert connection.answer(has_body=False)[0] == 100
    connection.send(UPLOAD)
    assert connection.answer()[0] == 200
    connection.send(head % (b"/v1/nowhere", 10**9))
    assert connection.answer()[0] == 404  # and so it need not send the body


def test_chunked_body_is_taken(shared_server, connect):
    pieces = (UPLOAD[n : n + 7] for n in range(0, len(UPLOAD), 7))
    answer = request(shared_server, "POST", "/v1/uploads", content=pieces, headers=JSON)
    assert answer.request.headers["transfer-encoding"] == "chunked"
    assert answer.status_code == 200
    connection = connect()
    chunks = b"".join(b"%X;a=b\r\n%c\r\n" % (1, byte) for byte in UPLOAD) + b"0\r\nTrailer: x\r\n\r\n"
    connection.send(b"POST /v1/uploads HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks)
    assert connection.answer()[0] == 200


def test_idle_and_half_open_connections_do_not_hold_others_up(shared_server, connect):
    for begun in (b"", b"GET /v1/fi", b"POST /v1/batches HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{"):
        for _ in range(100):
            connect().send(begun)
    form = b"POST /v1/files HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\nContent-Length: 9999\r\n\r\n"
    connect().send(form + PART)
    start = time.monotonic()
    for _ in range(10):
        assert request(shared_server, "GET", "/v1/files?limit=1").status_code == 200
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("chunked", [False, True])
def test_client_that_leaves_in_mid_upload_leaves_no_file(client, shared_server, chunked):
    kept = blobs(shared_server)
    files = [file.id for file in client.files.list()]
    unfinished = shared_server.place.unfinished
    wait_until(lambda: not unfinished(), "nobody else is writing")
    framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: 90000000"
    content = PART + b"x" * 20_000_000  # more than S3 gets at once
    with Connection(shared_server) as connection:
        connection.send(b"POST /v1/files HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n" + framing)
        connection.send(b"\r\n\r\n" + (b"%x\r\n%s\r\n" % (len(content), content) if chunked else content))
        wait_until(unfinished, "the server has begun to write")
    wait_until(lambda: not unfinished(), "what was written is gone")
    assert blobs(shared_server) == kept
    assert [file.id for file in client.files.list()] == files


def test_client_that_leaves_before_its_answer_harms_nobody(shared_server):
    for _ in range(50):
        with socket.create_connection(("127.0.0.1", shared_server.port)) as connection:
            connection.sendall(b"GET /v1/files HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20)
    assert request(shared_server, "GET", "/healthz").status_code == 200
