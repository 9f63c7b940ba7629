"""A data folder of each version is opened as it was left: nothing is missing, and what was under way goes on.

tests/golden/record.py makes such a folder.
"""

import hashlib
import json
import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path

import httpx2
import pytest

from fake_engine import FakeEngine
from penstock import clock_set, finished, needs_faketime, output_lines

pytestmark = pytest.mark.local

GOLDEN = sorted(Path(__file__).parents[1].glob("golden/*.tar.gz"))


@pytest.fixture
def engine():
    with FakeEngine() as made:
        yield made


def schema(data):
    with closing(sqlite3.connect(f"file:{data}/penstock.db?mode=ro", uri=True)) as db:
        return db.execute("SELECT type, name, sql FROM sqlite_schema ORDER BY name").fetchall()


def is_in(old, new):
    """Whether all that an object said is what it says now; it may say more."""
    if isinstance(old, dict) and isinstance(new, dict):
        return all(key in new and is_in(value, new[key]) for key, value in old.items())
    return old == new


@needs_faketime
@pytest.mark.parametrize("archive", GOLDEN, ids=lambda path: path.name.partition(".")[0])
def test_a_folder_of_an_earlier_version_is_whole_and_goes_on(archive, new_server, engine):
    server = new_server("--engine", engine.url, models=())
    new_schema = schema(server.folder / "data")
    server.kill()
    with tarfile.open(archive) as tar:
        for path in (server.folder / "data").glob("penstock.db*"):
            path.unlink()
        tar.extractall(server.folder, filter="data")
    expected = json.loads((server.folder / "expected.json").read_text())
    server.env |= clock_set(FAKETIME=f"@{int(expected['time']) + 1}", FAKETIME_FMT="%s")
    server.start()
    client = server.client()
    assert schema(server.folder / "data") == new_schema

    files = {file.id: file for file in client.files.list()}
    for name, file in expected["files"].items():
        assert is_in(file["object"], files[name].to_dict())
        assert hashlib.sha256(client.files.content(name).content).hexdigest() == file["sha256"]
    for name, batch in expected["batches"].items():
        assert is_in(batch, client.batches.retrieve(name).to_dict())

    left = expected["left"]
    for name, lines in left["batches"].items():
        if client.batches.retrieve(name).model_extra["paused_at"]:
            httpx2.post(f"{server.url}/v1/batches/{name}/resume").raise_for_status()
        batch = finished(client, client.batches.retrieve(name))
        assert batch.status == "completed"
        assert len({one["custom_id"] for one in output_lines(client, batch)}) == lines
    assert sum(engine.asked.values()) == sum(left["batches"].values()) - left["answered"]

    upload = left["upload"]
    part = client.uploads.parts.create(upload_id=upload["id"], data=upload["rest"].encode())
    completed = client.uploads.complete(upload_id=upload["id"], part_ids=[*upload["part_ids"], part.id])
    assert client.files.content(completed.file.id).content == b"a" * 1000 + b"b" * 500
