"""What is deleted is gone: nothing that the server keeps has a byte of it, neither while it runs nor after a crash."""

import json
import os
import re
import secrets
import time
from pathlib import Path

import httpx2
import pytest

from fake_engine import MODEL as FAKE_MODEL
from fake_engine import FakeEngine
from penstock import create_batch, finished, jsonl, line, output_lines

LINES = 600
PIECE = 24  # bytes of a result group as it is stored, which nothing else has


def word():
    return f"word{secrets.token_hex(8)}"


class Words:
    """What nobody may find any more: words of a batch's files and their names, and pieces of its result groups, which are
    compressed."""

    def __init__(self):
        self.name, self.custom_id, self.prompt, self.answer = word(), word(), word(), word()
        self.pieces = set()

    def reply(self, body):
        """An answer that cannot be compressed well, and is found in what is."""
        text = secrets.token_hex(300)
        if self.prompt in str(body):
            text += self.answer
        status, answer = FakeEngine._greet(body)
        answer = json.loads(answer)
        answer["choices"][0]["message"]["content"] = text
        return status, json.dumps(answer).encode()

    def lines(self, model):
        yield line(self.custom_id, {"model": model, "messages": [{"role": "user", "content": f"Say {self.prompt}."}]})
        yield from (line(f"line {n}", {"model": model}) for n in range(1, LINES))

    def look_at_groups(self, server):
        for row in server.place.rows("SELECT lines FROM result_groups"):
            stored = bytes(row["lines"])
            self.pieces |= {stored[at : at + PIECE] for at in range(16, len(stored) - PIECE, 997)}

    def needles(self):
        return [each.encode() for each in (self.name, self.custom_id, self.prompt, self.answer)] + sorted(self.pieces)


def open_files(pid):
    """What the process has open that has no name."""
    for path in map(Path, (entry.path for entry in os.scandir(f"/proc/{pid}/fd"))):
        try:
            if os.readlink(path).endswith(" (deleted)") and path.is_file():
                yield path
        except FileNotFoundError:
            pass  # it was closed meanwhile


def kept(server):
    """All that the server keeps, as pairs of where it is and its bytes."""
    place = server.place
    paths = [path for root in {server.folder, place.blobs} for path in root.rglob("*") if path.is_file()]
    if hasattr(place, "s3"):
        paths += [path for path in place.s3.objects.glob(".sgwtmp/**/*") if path.is_file()]
    if server.is_running():
        paths += open_files(server.process.pid)
    for path in paths:
        try:
            yield path, path.read_bytes()
        except FileNotFoundError:
            pass  # it was removed meanwhile
    if place.is_shared:
        # In PostgreSQL's own files are its log and dead rows for a while; that is the database's, and in no table.
        tables = place.rows("SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema()")
        for table in (row["table_name"] for row in tables):
            for row in place.rows(f'SELECT * FROM "{table}"'):
                for value in row.values():
                    yield table, value if isinstance(value, bytes) else str(value).encode()


def found(server, needles):
    """Which of them are somewhere, and where one of them is."""
    return {needle: where for where, content in kept(server) for needle in needles if needle in content}


def assert_gone(server, needles):
    """Soon, while it runs; then in what a crash leaves; then after the next start."""
    places = lambda: set(found(server, needles).values())
    deadline = time.monotonic() + 10
    while places() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert places() == set()
    server.kill()
    assert places() == set()
    server.start()
    assert places() == set()


def ended_batch(server, words):
    """Of which everything can be found."""
    client = server.client()
    content = jsonl(words.lines(FAKE_MODEL))
    made = client.uploads.create(filename=f"{words.name}.jsonl", purpose="batch", bytes=len(content), mime_type="text/jsonl")
    half = len(content) // 2
    parts = [client.uploads.parts.create(made.id, data=piece).id for piece in (content[:half], content[half:])]
    file = client.uploads.complete(made.id, part_ids=parts).file
    batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    batch = finished(client, batch)
    assert batch.request_counts.completed == batch.request_counts.total
    words.look_at_groups(server)
    everything = found(server, words.needles())
    words.pieces &= set(everything)  # without those across the end of a page
    assert len(words.pieces) > 100
    assert everything.keys() >= set(words.needles())
    return batch


@pytest.fixture
def words():
    return Words()


@pytest.fixture
def server(new_server, words):
    with FakeEngine(reply=words.reply) as engine:
        yield new_server("--engine", engine.url, models=())


def test_nothing_is_left_of_a_deleted_batch(server, words):
    client = server.client()
    batch = ended_batch(server, words)
    for file in (batch.input_file_id, batch.output_file_id):
        assert client.files.delete(file).deleted
    assert_gone(server, words.needles())
    assert client.batches.retrieve(batch.id).output_file_id == batch.output_file_id


def test_nothing_is_left_when_the_server_dies_right_after_the_deletion(server, words):
    client = server.client()
    batch = ended_batch(server, words)
    for file in (batch.input_file_id, batch.output_file_id):
        assert client.files.delete(file).deleted
    server.kill()
    server.start()
    assert_gone(server, words.needles())


def test_answers_are_gone_with_their_file_though_the_input_stays(server, words):
    batch = ended_batch(server, words)
    server.client().files.delete(batch.output_file_id)
    assert_gone(server, [words.answer.encode(), *words.pieces])
    assert found(server, [words.prompt.encode()])
    answer = httpx2.get(f"{server.url}/v1/batches/{batch.id}/results")
    assert (answer.status_code, answer.content) == (200, b"")


def test_nothing_is_left_of_what_a_real_engine_was_asked(new_server):
    server = new_server("--slots", "2", "--context", "512")
    client = server.client()
    secret = word()
    # Long enough to be copied from one slot to another, by a file.
    shared = f"The secret is {secret}. " + " ".join(f"Say nothing of rule {n} to those who know rule {n + 1}." for n in range(22))
    asked = [{"role": "system", "content": shared}]
    lines = [line(f"{n}", {"messages": [*asked, {"role": "user", "content": f"Say {n}."}], "max_tokens": 10}) for n in range(4)]
    bad = line("bad", {"messages": [{"role": "nobody", "content": [{"type": "unknown", "text": secret}]}]})
    batch = finished(client, create_batch(client, [*lines, bad]))
    assert batch.request_counts.completed == 4
    answers = "\n".join(one["response"]["body"]["choices"][0]["message"]["content"] for one in output_lines(client, batch))
    needles = [secret.encode(), *(phrase.strip().encode() for phrase in re.findall("[A-Za-z ]{20,}", answers))]
    assert len(needles) > 1 and found(server, needles).keys() == set(needles)
    for file in (batch.input_file_id, batch.output_file_id, batch.error_file_id):
        client.files.delete(file)
    # What a slot held is no text, and can be read all the same.
    assert not [path for path in (server.folder / "data/slots").rglob("*") if path.is_file()]
    assert_gone(server, needles)
