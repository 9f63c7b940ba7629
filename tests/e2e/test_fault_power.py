"""A power cut at any moment of a small life of a server loses nothing that was confirmed.

The life is recorded once. From the record comes the disk as a cut at a chosen moment could have left it, and a server is
started on that. Moments are those right after an answer, and some of the others; CUT=everywhere in the environment takes
all. Each is tried with the least that may be left, and with a part of what was not yet written for good.
"""

import os
import random
import shutil
import sqlite3
import tempfile
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import witness
from conftest import check
from life import Engine, Life, assert_right, live_each, told
from power import Disk

pytestmark = pytest.mark.local

CUT = os.environ.get("CUT")
OTHERS = 40  # moments that are not right after an answer


@dataclass
class Record:
    """A life with every step by which its server's folder changed."""

    folder: Path
    steps: list
    done: dict
    confirmed_at: dict

    def done_after(self, answers):
        return {name: answer for name, answer in self.done.items() if self.confirmed_at[name] <= answers}


@dataclass
class Cut:
    moment: int  # as many steps were taken
    answers: int  # as many of them were answers
    how: str
    folder: Path
    faults: list = field(default_factory=list)


def is_answer(step):
    return step.kind == "a" and step.bytes.startswith(b"HTTP/1.1 ")


def record_life(library, new_folder, live):
    """What a server's folder and its client saw of `live`."""
    folder, log = new_folder("recorded"), new_folder("record") / "log"
    with Engine() as engine:
        life = Life(folder, engine)
        life.start(witness.environment(library, folder, log))
        live(life)
        life.stop()
        life.close()
    steps = witness.read(log)
    assert sum(map(is_answer, steps)) == life.answers
    return Record(folder, steps, life.done, life.confirmed_at)


@pytest.fixture(scope="module")
def record(witness_library, tmp_path_factory):
    return record_life(witness_library, tmp_path_factory.mktemp, Life.live)


def test_fault_29_the_record_is_all_that_changed_the_folder(record, tmp_path):
    disk = Disk(record.folder)
    for step in record.steps:
        disk.take(step)
    disk.copy(tmp_path)
    real, rebuilt = (
        {
            path.relative_to(folder): path.read_bytes()
            for path in (folder / "data").rglob("*")
            if path.is_file() and path.suffix != ".db-shm"
        }
        for folder in (record.folder, tmp_path)
    )
    assert real.keys() == rebuilt.keys()
    assert [path for path in real if real[path] != rebuilt[path]] == []


def test_fault_29_a_blob_is_whole_for_good_before_it_has_its_name(record):
    disk = Disk(record.folder)
    renamed = 0
    for step in record.steps:
        if step.kind == "r":
            folder, name = disk.find(step.name)
            assert not folder.names[name].later, f"{step.new_name} can be there and not whole"
            renamed += 1
        if step.kind in "wt":
            assert Path(step.name).parent.name != "blobs", f"{step.name} has its name and is written"
        disk.take(step)
    assert renamed > 5


def cuts(record, folder):
    """The disks that power cuts may leave."""
    disk = Disk(record.folder)
    moments = range(1, len(record.steps) + 1)
    chosen = set(moments if CUT == "everywhere" else random.Random(29).sample(moments, OTHERS))
    answers = 0
    for moment, step in enumerate(record.steps, 1):
        disk.take(step)
        answers += is_answer(step)
        if moment not in chosen and not (is_answer(step) and answers in record.confirmed_at.values()):
            continue
        for how, chance in (("least", None), ("part", random.Random(moment))):
            target = Path(tempfile.mkdtemp(dir=folder))
            disk.cut(target, chance)
            yield Cut(moment, answers, how, target)


def go_on(record, cut):
    """Starts a server on what the cut has left."""
    with Engine() as engine:
        done = record.done_after(cut.answers)
        life = Life(cut.folder, engine, done)
        life.begun = {*done, *list(record.done)[: len(done) + 1]}
        if "cancelled" in done:
            engine.cancelled.set()
        cut.faults = told(faults_after(life))
        life.close()
    if not cut.faults:
        shutil.rmtree(cut.folder)
    return cut


def faults_after(life):
    if "deleted" in life.done:
        for prefix in ("", "plan-"):
            if (life.server.folder / "data/blobs" / f"{prefix}{life.done['file']['id']}").exists():
                yield f"the {prefix or 'file'} was deleted, and its bytes are back"
    life.server.start()
    yield from life.lost()
    life.live()
    yield from life.lost()
    yield from life.wrong()
    check(life.server)


def test_fault_29_what_was_confirmed_outlives_a_power_cut(record, tmp_path):
    tried = live_each(lambda cut: go_on(record, cut), cuts(record, tmp_path))
    assert_right(tried)
    assert {cut.answers for cut in tried} >= set(record.confirmed_at.values())


def test_fault_29_what_was_confirmed_outlives_a_power_cut_while_the_log_is_copied(witness_library, tmp_path_factory):
    """SQLite copies its log into the database now and then, and begins the log anew over the old one."""

    def live(life):
        for number in range(700):
            life.step(number, life.create_upload)

    record = record_life(witness_library, tmp_path_factory.mktemp, live)
    disk = Disk(record.folder)
    chance = random.Random(29)
    answers, copied, began_anew = 0, 0, 0
    for step in record.steps:
        disk.take(step)
        answers += is_answer(step)
        if not answers:
            continue
        copies = step.kind == "w" and step.name.endswith(".db")
        begins = step.kind == "w" and step.name.endswith(".db-wal") and step.offset == 0
        copied, began_anew = copied + copies, began_anew + begins
        if not begins and chance.random() > (0.1 if copies else 0.002):
            continue
        for one in (None, chance):
            folder = tmp_path_factory.mktemp("cut")
            disk.cut(folder, one)
            with closing(sqlite3.connect(folder / "data/penstock.db")) as db:
                assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
                there = {name for (name,) in db.execute("SELECT id FROM uploads")}
            assert {upload["id"] for upload in record.done_after(answers).values()} <= there
    assert copied > 20 and began_anew > 0
