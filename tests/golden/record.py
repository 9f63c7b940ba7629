#!/usr/bin/env python3
"""Records a data folder as the built binary leaves it, for later versions to be tested with: record.py ARCHIVE.tar.gz

The server is killed with work of every kind before, under and behind it. What its API said just before, and what is
left to be answered, stand in expected.json beside the data.
"""

import hashlib
import io
import json
import sys
import tarfile
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "e2e"))

from openai.types import Batch  # noqa: E402

from fake_engine import MODEL, FakeEngine  # noqa: E402
from penstock import Server, create_batch, finished, line, upload, wait_until  # noqa: E402

BEFORE = 4  # requests of other batches that the engine answers before
ANSWERED = 290  # lines of the batch that is under way: more than a span


def lines(prefix, count):
    return [line(f"{prefix}-{number}", {"model": MODEL}) for number in range(count)]


def work(client, engine):
    """Does a bit of everything; returns what is left to be done."""
    engine.refused.add("Say hello to mixed-1.")
    mixed = finished(client, create_batch(client, lines("mixed", 3), metadata={"kind": "mixed"}))
    engine.refused.clear()
    finished(client, client.post(f"/batches/{mixed.id}/retry", cast_to=Batch))
    finished(client, create_batch(client, b"no request\n"))
    client.files.delete(upload(client, b"to be deleted\n", "deleted.jsonl").id)
    client.files.create(file=("notes.txt", b"notes"), purpose="user_data")
    parts = [b"a" * 1000, b"b" * 500]
    for complete in (True, False):
        made = client.uploads.create(filename="parts.txt", purpose="user_data", mime_type="text/plain", bytes=1500)
        ids = [client.uploads.parts.create(upload_id=made.id, data=part).id for part in parts[: 2 if complete else 1]]
        if complete:
            client.uploads.complete(upload_id=made.id, part_ids=ids)

    running = create_batch(client, lines("running", 300))
    wait_until(
        lambda: client.batches.retrieve(running.id).request_counts.completed == ANSWERED, "lines of a batch are answered"
    )
    cancelled = client.batches.cancel(create_batch(client, lines("cancelled", 2)).id)
    finished(client, cancelled)
    paused = create_batch(client, lines("paused", 2))
    client.post(f"/batches/{paused.id}/pause", cast_to=Batch)
    waiting = create_batch(client, lines("waiting", 2), extra_body={"priority": 1})
    return {
        "upload": {"id": made.id, "part_ids": ids, "rest": parts[1].decode()},
        "batches": {running.id: 300, paused.id: 2, waiting.id: 2},
        "answered": ANSWERED,
    }


def main():
    archive = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder, FakeEngine(answers=BEFORE + ANSWERED) as engine:
        server = Server(Path(folder), "--engine", engine.url, "--slots", "4", models=())
        server.start()
        client = server.client()
        expected = {"left": work(client, engine), "time": time.time()}
        expected["files"] = {
            file.id: {"object": file.to_dict(), "sha256": hashlib.sha256(client.files.content(file.id).content).hexdigest()}
            for file in client.files.list()
        }
        expected["batches"] = {
            batch.id: batch.to_dict() for batch in client.batches.list() if batch.id not in expected["left"]["batches"]
        }
        server.kill()
        server.stop()
        with tarfile.open(archive, "w:gz") as tar:
            for path in ("penstock.db", "penstock.db-wal", "blobs"):
                tar.add(Path(folder) / "data" / path, f"data/{path}")
            text = json.dumps(expected, indent=1).encode()
            member = tarfile.TarInfo("expected.json")
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text))


if __name__ == "__main__":
    main()
