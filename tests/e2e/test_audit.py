"""The audit that ends every test finds each kind of damage to a data folder."""

import json
import re
import shutil
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import httpx2
import pytest

from audit import audit
from fake_engine import MODEL, FakeEngine
from penstock import create_batch, finished, line, upload, wait_until


pytestmark = pytest.mark.local


def audit_folder(data, *arguments, **options):
    return audit(data / "penstock.db", data / "blobs", *arguments, **options)


def ask(*names):
    return [line(name, {"model": MODEL}) for name in names]


@pytest.fixture(scope="module")
def scene(new_module_server, tmp_path_factory):
    """A copy of a data folder, with the ids of what is in it: batches that are completed, retried, cancelled, failed and
    half done, an upload with a part, a deleted file. Its server runs on."""
    held, released = [], threading.Event()

    def reply(body):
        if "held" in body["messages"][0]["content"]:
            held.append(body)
            released.wait(60)
        return FakeEngine._greet(body)

    with FakeEngine(reply=reply) as engine:
        server = new_module_server("--engine", engine.url, "--slots", "1", models=())
        client = server.client()
        ids = SimpleNamespace(url=server.url, folder=tmp_path_factory.mktemp("copy"))

        engine.refused = {"Say hello to bad."}
        done = finished(client, create_batch(client, ask("a", "b", "c", "bad"), metadata={"webhook_url": "nowhere"}))
        ids.done, ids.input, ids.output, ids.error = done.id, done.input_file_id, done.output_file_id, done.error_file_id
        engine.refused = set()
        retry = httpx2.post(f"{server.url}/v1/batches/{done.id}/retry").json()["id"]
        assert finished(client, SimpleNamespace(id=retry)).request_counts.completed == 4
        ids.failed = finished(client, create_batch(client, b"{}")).id
        cut = create_batch(client, ask("x", "held y", "z"))
        wait_until(lambda: len(held) == 1, "a line is held")
        httpx2.post(f"{server.url}/v1/batches/{cut.id}/pause").raise_for_status()  # so that z is never sent
        client.batches.cancel(cut.id)
        released.set()
        assert finished(client, cut).request_counts.failed > 0
        released.clear()
        client.files.delete(upload(client, b"{}").id)
        ids.upload = client.uploads.create(filename="a.txt", purpose="user_data", mime_type="text/plain", bytes=5).id
        ids.part = client.uploads.parts.create(ids.upload, data=b"hello").id
        ids.half = create_batch(client, ask("1", "held 2", "3")).id
        wait_until(lambda: client.batches.retrieve(ids.half).request_counts.completed == 1, "a line is saved")

        shutil.copytree(server.folder / "data/blobs", ids.folder / "blobs")
        with closing(sqlite3.connect(server.folder / "data/penstock.db")) as db:
            with closing(sqlite3.connect(ids.folder / "penstock.db")) as copy:
                db.backup(copy)
        yield ids
        released.set()


def test_nothing_is_found_where_all_is_well(scene):
    assert audit_folder(scene.folder, scene.url) == []


def sql(*statements):
    """Changes rows. `:done` and so on are the ids of the scene; `done_seq` and `half_seq` number those batches."""

    def damage(data, ids):
        with closing(sqlite3.connect(data / "penstock.db", isolation_level=None)) as db:
            for statement in statements:
                for name in ("done", "half"):
                    statement = statement.replace(f"{name}_seq", f"(SELECT seq FROM batches WHERE id = :{name})")
                assert db.execute(statement, vars(ids) | {"folder": None}).rowcount > 0, "nothing was changed"

    return damage


def of_batch(name, change):
    return sql(f"UPDATE batches SET {change} WHERE id = :{name}")


def write(name, content=b"x"):
    """A blob of that name, or of that of the scene, anew."""
    return lambda data, ids: (data / "blobs" / getattr(ids, name, name)).write_bytes(content)


def remove(name):
    return lambda data, ids: (data / "blobs" / name.format(**vars(ids))).unlink()


def edit(name, change):
    """The blob's lines changed, and the size in its row too."""

    def damage(data, ids):
        path = data / "blobs" / getattr(ids, name)
        path.write_text("".join(change(path.read_text().splitlines(keepends=True))))
        sql(f"UPDATE files SET bytes = {path.stat().st_size} WHERE id = :{name}")(data, ids)

    return damage


def changed(number, **keys):
    """Changes keys of that line; ... removes one."""

    def change(lines):
        one = json.loads(lines[number]) | keys
        lines[number] = json.dumps({key: value for key, value in one.items() if value is not ...}) + "\n"
        return lines

    return change


def free_page_too_many(data, ids):
    with (data / "penstock.db").open("r+b") as db:
        db.seek(39)  # the last byte of their number
        count = db.read(1)[0]
        db.seek(39)
        db.write(bytes([count + 1]))


DAMAGES = {
    # every line once
    "a line lost": (edit("output", lambda lines: lines[1:]), "output has 2 lines and the counts say 3"),
    "a line lost with its count": (
        [edit("output", lambda lines: lines[1:]), of_batch("done", "completed = 2, total = 3")],
        "its result groups have requests beyond 3",
    ),
    "which line is lost": (edit("output", lambda lines: lines[1:]), "requests have no line: a$"),
    "a line twice": (edit("output", lambda lines: lines[:1] + lines), "requests have more than one line: 0"),
    "lines in another order": (edit("output", lambda lines: lines[::-1]), "has request 1 behind 2"),
    "another custom_id": (edit("output", changed(0, custom_id="new")), "custom_id 'new', which request 0 has not"),
    "no more lines of the input": (edit("input", lambda lines: lines[:3]), "it has 4 lines and its input 3"),
    "a key too few": (edit("output", changed(1, error=...)), "output:2 is no output line"),
    "no JSON": (edit("output", lambda lines: [lines[0].replace('"usage"', "NaN")] + lines[1:]), "output:1 is no output line"),
    "an error among the answers": (edit("output", changed(1, error={"code": "x"})), "output:2 is no good answer"),
    "a torn last line": (edit("output", lambda lines: [*lines, '{"id']), "output does not end with a newline"),
    "an answer among the errors": (
        edit("error", changed(0, response={"status_code": 200, "body": {}})),
        "error:1 is a good answer",
    ),
    "a line's id": (edit("output", changed(0, id="a")), "output:1 is no output line"),
    # counts
    "a completed line too many": (of_batch("done", "completed = 4"), "of 4 lines 4 are completed and 1 failed"),
    "usage": (of_batch("done", "output_tokens = 7"), r"used \[9, 0, 6, 0\] tokens and it says \[9, 0, 7, 0\]"),
    "counts frozen too early": (of_batch("half", "completed = 1"), "its counts are frozen, at 1 completed"),
    "a sum of a span": (
        sql("UPDATE spans SET failed = 1 WHERE batch_seq = half_seq"),
        r"span 0 counts 1 completed and 1 failed lines, and its result groups \[1, 0\]",
    ),
    "total": (of_batch("half", "total = 4"), "its spans end at 3 of 4 lines"),
    "a gap between spans": (sql("UPDATE spans SET first_entry = 1"), "span 0 begins at 1, and the one before ends at 0"),
    "a group lost": (sql("DELETE FROM result_groups WHERE batch_seq = half_seq"), "span 0 counts 1 completed"),
    "a request saved twice": (
        sql(
            "INSERT INTO result_groups (batch_seq, span_number, entries, lines, lines_size)"
            " SELECT batch_seq, span_number, entries, lines, lines_size FROM result_groups WHERE batch_seq = half_seq"
        ),
        "requests are in its result groups twice: 0",
    ),
    "a size of a group": (sql("UPDATE result_groups SET lines_size = 1"), "says [0-9]+ and 1 bytes"),
    # states
    "an unknown file": (of_batch("done", "output_file_id = 'file-0'"), "output_file_id is file-0, which is unknown"),
    "an unknown input": (of_batch("half", "input_file_id = 'file-0'"), "input_file_id is file-0, which is unknown"),
    "a file before the end": (of_batch("half", "output_file_id = :output"), "output_file_id is .* already"),
    "an empty file": (
        [edit("error", lambda lines: []), of_batch("done", "failed = 0, total = 3")],
        "error_file_id names an empty file",
    ),
    "two ends": (of_batch("done", "expired_ms = 1"), r"it has the times of \['completed', 'expired'\]"),
    "no end": (of_batch("failed", "failed_ms = NULL"), r"it has the times of \[\]"),
    "no errors": (of_batch("failed", "error_total = 0"), "it has 0 errors"),
    "a retry of nothing": (of_batch("half", "retry_of = 'batch_0'"), "it retries batch_0, which is unknown"),
    "a span left": (sql("UPDATE spans SET batch_seq = done_seq"), "1 spans are left"),
    "late": (of_batch("half", "expires_ms = created_ms - 61000"), r"it should have ended \d+ s ago"),
    "a dead owner": (sql("UPDATE spans SET owner = 'worker_0'"), "worker_0 holds 1 spans and is dead"),
    "a dead driver": (of_batch("half", "driver = 'server_0'"), "in_progress.*server_0 sees to it and is dead"),
    # deliveries
    "an end that is not told": (sql("DELETE FROM deliveries WHERE batch_id = :done"), "these are not told: nowhere"),
    "an end that is told twice": (
        sql(
            "INSERT INTO deliveries (id, project, batch_id, kind, receiver, destination, event, body, status, next_ms,"
            " created_ms, ended_ms) SELECT 'wh_0', project, batch_id, kind, receiver, destination, event, body, status,"
            " next_ms, created_ms, ended_ms FROM deliveries WHERE batch_id = :done"
        ),
        "these are told twice: .*nowhere",
    ),
    "an end told too early": (
        sql("UPDATE deliveries SET batch_id = :half WHERE batch_id = :done"),
        "in_progress.*1 are to be told of its end already",
    ),
    "another event": (
        sql("UPDATE deliveries SET event = 'batch.failed' WHERE batch_id = :done"),
        "wh_.* tells of batch.failed",
    ),
    "a delivery without its end": (
        sql("UPDATE deliveries SET status = 'pending' WHERE batch_id = :done"),
        "wh_.* is pending and ended at",
    ),
    "a delivery of a dead owner": (
        sql("UPDATE deliveries SET owner = 'server_0' WHERE batch_id = :done"),
        "server_0 holds wh_.* and is dead",
    ),
    # blobs and rows
    "a blob of nobody": (write("file-0"), "blobs without a row: file-0"),
    "a plan of nobody": (write("plan-file-0"), "blobs without a row: plan-file-0"),
    "a part of nobody": (write("part_0"), "blobs without a row: part_0"),
    "a half-written blob": (write("tmp/file-0.1"), r"half-written blobs: file-0\.1"),
    "no blob": (remove("{output}"), "rows without their blob: file-.*-output"),
    "no plan": (remove("plan-{input}"), "rows without their blob: plan-file-"),
    "no part": (remove("{part}"), "rows without their blob: part_"),
    "a cut blob": (write("output"), "has 1 bytes and [0-9]+ in its row"),
    "a short plan": (lambda data, ids: write(f"plan-{ids.input}")(data, ids), "has 1 bytes for 4 lines"),
    "a file there and deleted": (
        sql("INSERT INTO deleted_files (id, seq) VALUES (:input, 1)"),
        "files are there and deleted: file-",
    ),
    "a part of an ended upload": (
        sql("UPDATE uploads SET status = 'cancelled'"),
        "part_.* is left of upload_.*, which has ended",
    ),
    "an upload without its file": (sql("UPDATE uploads SET status = 'completed'"), "is completed and has the file None"),
    "an upload's file unknown": (
        sql("UPDATE uploads SET status = 'completed', file_id = 'file-0'"),
        "upload_.* names file-0, which is unknown",
    ),
    "an idempotency key of nothing": (
        sql("INSERT INTO idempotency_keys VALUES ('k', 'r', 'batch_0', 1)"),
        "the idempotency key k names batch_0",
    ),
    # the database
    "a free page too many": (free_page_too_many, "reelist: size is"),
    "a reference": (sql("UPDATE spans SET batch_seq = 99"), "a row of spans names a row of batches that is not there"),
    "garbage": (lambda data, ids: (data / "penstock.db").write_bytes(b"garbage" * 1000), "the database cannot be read"),
    # the API
    "a file not in the list": (
        sql("INSERT INTO files (id, filename, purpose, bytes, created_ms) VALUES ('file-0', 'a', 'batch', 1, 1)"),
        "GET /v1/files lists [0-9]+, and there are [0-9]+: file-0",
    ),
    "a batch not in the rows": (sql("DELETE FROM batches WHERE id = :failed"), "GET /v1/batches lists 5, and there are 4: batch_"),
    "another name": (sql("UPDATE files SET filename = 'b' WHERE id = :input"), "filename is input.jsonl in the API and b"),
    "other counts": (of_batch("done", "failed = 2"), "request_counts is .* in the API and .*'failed': 2"),
    "other usage": (of_batch("done", "cached_tokens = 2"), "usage is .* in the API and .*'cached_tokens': 2"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_found(scene, tmp_path, name):
    damages, expected = DAMAGES[name]
    data = Path(shutil.copytree(scene.folder, tmp_path / "data"))
    for damage in damages if isinstance(damages, list) else [damages]:
        damage(data, scene)
    faults = audit_folder(data, scene.url)
    assert any(re.search(expected, fault) for fault in faults), faults


def test_what_a_crash_leaves_is_no_fault_until_the_next_start(scene, tmp_path):
    data = Path(shutil.copytree(scene.folder, tmp_path / "data"))
    write("file-0")(data, scene)
    write("tmp/file-0.1")(data, scene)
    assert audit_folder(data, crashed=True) == []
    assert len(audit_folder(data)) == 3  # two blobs, and a process that says it lives
