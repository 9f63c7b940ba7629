"""Results that are brought to sinks: docs/sinks.md as it stands, kills, failures and what is refused."""

import gzip
import json
import re
import threading
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

import httpx2
import pytest

import place as places
import services
from fake_engine import MODEL, FakeEngine, Listener
from penstock import ROOT, create_batch, error_lines, finished, line, output_lines, parse, refused, wait_until

DOCS = (ROOT / "docs/sinks.md").read_text()
TOKEN = "a-token-for-the-sinks"


class Receiver:
    """An HTTP server that remembers what it was sent. Use it as a context manager."""

    def __init__(self):
        self.requests = []  # (method, path, headers, body)
        self.failures = 0  # so many requests are answered with 503
        self.limit = None  # requests above so many are held until they are given up
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._server = Listener(("127.0.0.1", 0), self._handler())
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()

    def lines(self, path="/lines"):
        return [one for method, at, _, body in self.requests if at == path for one in parse(body.decode())]

    def _handler(receiver):
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1

            def take(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with receiver._lock:
                    receiver.requests.append((self.command, self.path, self.headers, body))
                    hold = receiver.limit is not None and len(receiver.requests) > receiver.limit
                    status = 503 if receiver.failures > 0 else 201
                    receiver.failures -= 1
                if hold:
                    receiver._ended.wait(60)
                self.send_response(status)
                self.send_header("Content-Length", "0")
                try:
                    self.end_headers()
                except OSError:
                    self.close_connection = True

            do_POST = do_PUT = take

            def log_message(self, *_):
                pass

        return Handler


@pytest.fixture
def receiver():
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def engine():
    with FakeEngine() as engine:
        yield engine


@pytest.fixture
def server_with(new_server, engine, tmp_path):
    """Makes servers with those sinks."""

    def make(sinks, *arguments, **options):
        config = tmp_path / "sinks.toml"
        config.write_text(sinks)
        return new_server("--engine", engine.url, "--config", config, *arguments, models=(), **options)

    return make


def http_sink(receiver, **settings):
    settings = {"type": "http", "url": f"{receiver.url}/lines"} | settings
    return "[sinks.receiver]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items())


def lines_of(count):
    return [line(f"line {n}", {"model": MODEL}) for n in range(count)]


def deliveries(client, batch):
    """The batch's deliveries to sinks."""
    return client.batches.retrieve(batch.id).deliveries


def ended(client, batch):
    """Waits until all are delivered or dead, and returns them."""
    finished(client, batch)

    def all_ended():
        found = deliveries(client, batch)
        return found if found and all(one["status"] != "pending" for one in found) else None

    return wait_until(all_ended, "the results were brought")


def tried(client, batch):
    """Waits until the only one has failed once, and returns it."""
    finished(client, batch)
    return wait_until(lambda: next((one for one in deliveries(client, batch) if one["last_error"]), None), "an attempt failed")


def retry(server, delivery):
    httpx2.post(f"{server.url}/v1/deliveries/{delivery['id']}/retry").raise_for_status()


@contextmanager
def postgres():
    try:
        with services.Postgres() as server:
            yield server
    except services.Missing as why:
        pytest.skip(str(why))


@contextmanager
def s3():
    try:
        with services.S3() as server:
            yield server
    except services.Missing as why:
        pytest.skip(str(why))


def documented(replacements):
    """The configuration of docs/sinks.md with other addresses."""
    text = "\n".join(re.findall(r"```toml\n(.*?)```", DOCS, re.DOTALL))
    for theirs, ours in replacements.items():
        assert theirs in text
        text = text.replace(theirs, ours)
    return text


def answer_of(one):
    return one["response"]["body"]["choices"][0]["message"]["content"]


@pytest.mark.local
def test_documented_sinks_bring_every_line(server_with, receiver, engine, tmp_path):
    folder = tmp_path / "brought"
    folder.mkdir()
    table = re.search(r"```sql\n(.*?)```", DOCS, re.DOTALL)[1]
    with postgres() as database, s3() as storage, places.Database(database.url) as answers:
        answers.rows(table)
        server = server_with(
            documented(
                {
                    "https://results.example.com": receiver.url,
                    "https://label-studio.example.com": receiver.url,
                    "my-bucket": services.BUCKET,
                    "/srv/results": str(folder),
                }
            ),
            env={
                "RECEIVER_TOKEN": TOKEN,
                "LABEL_STUDIO_TOKEN": TOKEN,
                "ANSWERS_DATABASE": database.url,
                "AWS_ENDPOINT_URL": storage.url,
                "AWS_ACCESS_KEY_ID": storage.key,
                "AWS_SECRET_ACCESS_KEY": storage.secret,
                "AWS_REGION": services.REGION,
            },
        )
        client = server.client()
        lines = lines_of(12)
        engine.refused.add(lines[5]["body"]["messages"][-1]["content"])
        names = re.findall(r"^\[sinks\.(.+)\]$", DOCS, re.MULTILINE)
        batch = create_batch(client, lines, extra_body={"sinks": names})
        brought = ended(client, batch)
        assert Counter(one["status"] for one in brought) == {"delivered": len(names)}
        assert [one["sink"] for one in brought] == names
        batch = client.batches.retrieve(batch.id)
        output, errors = output_lines(client, batch), error_lines(client, batch)
        assert (len(output), len(errors)) == (11, 1)
        content = {name: client.files.content(file).read() for name, file in files_of(batch).items()}

        # Lines over HTTP.
        assert receiver.lines() == output + errors
        ((headers, body),) = [(headers, body) for _, path, headers, body in receiver.requests if path == "/lines"]
        assert headers["Content-Type"] == "application/x-ndjson" and headers["Authorization"] == f"Bearer {TOKEN}"
        assert headers["Penstock-Batch-Id"] == batch.id and headers["Idempotency-Key"] == f"{brought[0]['id']}-0"
        assert brought[0]["bytes_delivered"] == len(body)

        # Files over HTTP, into S3, and to a command.
        assert {path: body for method, path, _, body in receiver.requests if method == "PUT"} == {
            f"/dav/{batch.id}/{name}.jsonl": body for name, body in content.items()
        }
        for name, body in content.items():
            assert (storage.objects / "results" / batch.id / f"{name}.jsonl").read_bytes() == body
        assert gzip.decompress((folder / f"{batch.id}.jsonl.gz").read_bytes()) == content["output"] + content["errors"]

        # Label Studio's import, as its API reference has it: POST of a JSON array of tasks, with a token.
        ((method, headers, body),) = [
            (method, headers, body) for method, path, headers, body in receiver.requests if path == "/api/projects/1/import"
        ]
        assert method == "POST" and headers["Content-Type"] == "application/json"
        assert headers["Authorization"] == f"Token {TOKEN}"
        assert json.loads(body) == [
            {"data": {"text": answer_of(one), "custom_id": one["custom_id"], "line_id": one["id"]}} for one in output
        ]

        # Rows of PostgreSQL.
        def rows():
            return {row["id"]: row for row in answers.rows("SELECT * FROM answers")}

        expected = {
            one["id"]: {
                "id": one["id"],
                "custom_id": one["custom_id"],
                "answer": None if one in errors else answer_of(one),
                "tokens": None if one in errors else 5,
                "usage": None if one in errors else one["response"]["body"]["usage"],
                "error": None,
            }
            for one in output + errors
        }
        assert rows() == expected

        # What is brought again takes the place of what is there.
        answers.rows("UPDATE answers SET answer = 'old'")
        server.kill()
        server.place.rows("UPDATE deliveries SET status = 'pending', position = 0, ended_ms = NULL WHERE destination = 'answers'")
        server.start()
        ended(server.client(), batch)
        assert rows() == expected

        told = server.log.read_text()
        assert TOKEN not in told and database.password not in told and storage.secret not in told


def files_of(batch):
    return {"output": batch.output_file_id, "errors": batch.error_file_id}


def test_killed_in_the_middle_it_goes_on_and_every_line_arrives_with_its_id(server_with, receiver):
    total, group, before = 3000, 100, 7
    server = server_with(http_sink(receiver, lines_per_request=group))
    client = server.client()
    receiver.limit = before
    batch = create_batch(client, lines_of(total), extra_body={"sinks": ["receiver"]})
    wait_until(lambda: len(receiver.requests) > before, "some groups were brought")
    server.kill()
    receiver.limit = None
    server.start()
    (delivery,) = ended(client, batch)
    assert delivery["status"] == "delivered"

    batch = client.batches.retrieve(batch.id)
    expected = {one["custom_id"]: one["id"] for one in output_lines(client, batch)}
    assert len(expected) == total
    arrived = receiver.lines()
    assert {one["custom_id"]: one["id"] for one in arrived} == expected
    # Only the group that was on its way is brought twice, or one whose acknowledgement was not noted in time.
    assert total + group <= len(arrived) <= total + 2 * group
    keys = Counter((headers["Idempotency-Key"], body) for _, _, headers, body in receiver.requests)
    assert len(keys) == total // group and set(keys.values()) <= {1, 2}
    assert delivery["bytes_delivered"] == len(client.files.content(batch.output_file_id).read())


def test_a_receiver_that_fails_for_a_while_gets_all_of_it_later(server_with, receiver):
    receiver.failures = 1
    server = server_with(http_sink(receiver))
    client = server.client()
    batch = create_batch(client, lines_of(5), extra_body={"sinks": ["receiver"]})
    failed = tried(client, batch)
    assert (failed["status"], failed["attempts"], failed["last_error"]) == ("pending", 1, "it answered with status 503")
    retry(server, failed)
    (delivery,) = ended(client, batch)
    assert (delivery["status"], delivery["id"]) == ("delivered", failed["id"])
    assert receiver.lines() == 2 * output_lines(client, client.batches.retrieve(batch.id))
    assert len({headers["Idempotency-Key"] for _, _, headers, _ in receiver.requests}) == 1


def test_results_that_were_deleted_before_are_not_brought(server_with, receiver):
    receiver.failures = 1
    server = server_with(http_sink(receiver))
    client = server.client()
    batch = create_batch(client, lines_of(2), extra_body={"sinks": ["receiver"]})
    failed = tried(client, batch)
    client.files.delete(client.batches.retrieve(batch.id).output_file_id)
    retry(server, failed)
    (delivery,) = ended(client, batch)
    assert delivery["status"] == "dead"
    assert delivery["last_error"] == "the results were deleted before they were delivered"
    assert len(receiver.requests) == 1


def test_a_batch_that_fails_has_no_results_to_bring(server_with, receiver):
    server = server_with(http_sink(receiver))
    client = server.client()
    batch = create_batch(client, b"no JSON\n", extra_body={"sinks": ["receiver"]})
    assert finished(client, batch).status == "failed"
    assert deliveries(client, batch) == []


def test_a_batch_may_name_a_url_where_that_is_allowed(server_with, receiver):
    server = server_with("", "--webhook-allow", "127.0.0.1")
    client = server.client()
    batch = create_batch(client, lines_of(3), extra_body={"sinks": [{"url": f"{receiver.url}/lines"}]})
    (delivery,) = ended(client, batch)
    assert delivery["status"] == "delivered"
    assert receiver.lines() == output_lines(client, client.batches.retrieve(batch.id))


def test_sinks_that_cannot_be_are_refused(server_with, receiver):
    server = server_with(http_sink(receiver))
    client = server.client()

    def refusal(sinks):
        return refused(lambda: create_batch(client, lines_of(1), extra_body={"sinks": sinks}))

    for sinks, param, words in (
        (["elsewhere"], "sinks[0]", "Invalid 'sinks[0]': there is no sink 'elsewhere'. Known are: 'receiver'."),
        (["receiver", "receiver"], "sinks[1]", "Invalid 'sinks[1]': it is named twice."),
        ("receiver", "sinks", "Invalid type for 'sinks': expected an array, but got a string instead."),
        ([7], "sinks[0]", "Invalid type for 'sinks[0]': expected the name of a sink or an object with a url, but got an integer instead."),
        ([{"name": "receiver"}], "sinks[0]", "Invalid 'sinks[0]': expected a url."),
        ([f"n{n}" for n in range(9)], "sinks", "Invalid 'sinks': expected at most 8, but got 9."),
    ):
        failure = refusal(sinks)
        assert (failure.param, failure.body["message"]) == (param, words)
    for url in ("http://127.0.0.1/", "http://[::1]/", "http://169.254.169.254/", "ftp://example.com", "unix:/tmp/x.sock"):
        assert refusal([{"url": url}]).param == "sinks[0].url"
    assert not receiver.requests


def test_a_batch_whose_sink_is_not_there_any_more_is_not_retried(server_with, receiver, engine, tmp_path):
    engine.refused = {"Say hello to line 1."}
    server = server_with(http_sink(receiver))
    client = server.client()
    batch = create_batch(client, lines_of(2), extra_body={"sinks": ["receiver"]})
    ended(client, batch)
    engine.refused = set()
    server.kill()
    (tmp_path / "sinks.toml").write_text(http_sink(receiver).replace("receiver", "other", 1))
    server.start()
    path = f"{server.url}/v1/batches/{batch.id}/retry"
    refusal = httpx2.post(path)
    assert refusal.status_code == 400 and refusal.json()["error"]["param"] == "sinks[0]"
    assert "there is no sink 'receiver'. Known are: 'other'." in refusal.json()["error"]["message"]
    assert client.batches.list().data == [client.batches.retrieve(batch.id)]
