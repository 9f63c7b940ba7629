"""kill -9 at every step by which a small life of a server changes its disk or tells somebody something.

A first life shows which steps there are. Then one of them is the last of a life, left undone or half done, and a restart
goes on from what is there; and so on with the next. A normal run takes every step that is rare and some of the others.
KILL=everywhere in the environment takes all, both undone and half done, and KILL="r 3 during" that one.
"""

import os
import random
import shutil
import signal
import sqlite3
import struct
import tempfile
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import witness
from conftest import check
from fake_engine import MODEL, FakeEngine
from life import TEXTS, Died, Engine, Life, assert_right, live_each, told
from penstock import create_batch, finished, line, wait_until

pytestmark = pytest.mark.local

KILL = os.environ.get("KILL")
OF_MANY = 16  # taken of a kind that has many steps


@dataclass
class Death:
    """How a life was cut short, how the server's disk was then, and what was wrong afterwards."""

    kill: str
    folder: Path
    at: set = field(default_factory=set)  # the steps of the life that had begun and were not confirmed
    was: dict = field(default_factory=dict)  # the statuses of the batches, by the names of their input files
    faults: list = field(default_factory=list)


def live_and_die(folder, library, kill, log):
    """A life that ends at that step, and what comes after it; None when there was no such step."""
    death = Death(kill, folder)
    with Engine() as engine, Engine() as second_engine:
        life = Life(folder, engine)
        try:
            life.start(witness.environment(library, folder, log, kill))
            life.live()
            life.stop()
            death = None
        except Died:
            assert life.server.process.wait(10) == -signal.SIGKILL
            death.at = life.begun - set(life.done)
            death.faults = told(faults_after(life, death, second_engine))
        life.close()
    if not death or not death.faults:
        shutil.rmtree(folder)
    return death


def faults_after(life, death, second_engine):
    """Goes on with the life on what its server left; what is wrong then, in words."""
    saved = set()
    if life.answers:  # there is a database
        check(life.server)
        death.was, saved = left_in(life.server.folder / "data")
    before = life.engine.asked
    life.use(second_engine)
    life.server.start()
    check(life.server)
    yield from life.lost()
    life.live()
    yield from life.lost()
    yield from life.wrong()
    check(life.server)

    after = life.engine.asked
    if again := [text for text in saved if after[text]]:
        yield f"sent after the restart, though their answers were saved: {again}"
    if twice := [text for asked in (before, after) for text in asked if asked[text] > 1]:
        yield f"sent twice by one process: {twice}"
    if death.was.get("input.jsonl") == "validating" and any(before[text] for text in TEXTS["input.jsonl"]):
        yield "sent before the batch was validated"
    if death.was.get("parts.jsonl") in ("cancelling", "cancelled") and any(after[text] for text in TEXTS["parts.jsonl"]):
        yield "sent after the restart, though the batch was being cancelled"
    if any(asked[text] for asked in (before, after) for text in TEXTS["faulty.jsonl"]):
        yield "sent, of a faulty file"


def left_in(data):
    """The statuses of the batches by the names of their input files, and the texts of the lines that are answered."""
    with closing(sqlite3.connect(f"file:{data}/penstock.db?mode=ro", uri=True)) as db:
        batches = db.execute(
            "SELECT batches.seq, filename, batches.status FROM batches JOIN files ON files.id = batches.input_file_id"
        ).fetchall()
        groups = db.execute("SELECT batch_seq, entries FROM result_groups").fetchall()
    names = {seq: name for seq, name, _ in batches}
    saved = {
        TEXTS[names[seq]][index]
        for seq, entries in groups
        if seq in names
        for index, _ in struct.iter_unpack("<II", entries)
    }
    return {name: status for _, name, status in batches}, saved


def choose(steps):
    """Where to kill, of the steps that a whole life had."""
    if KILL and KILL != "everywhere":
        return [KILL]
    kills = []
    for kind, count in Counter(step.kind for step in steps).items():
        numbers = range(1, count + 1)
        if KILL:
            kills += [f"{kind} {number} {how}" for number in numbers for how in ("before", "during")]
            continue
        if count > 2 * OF_MANY:
            numbers = random.Random(kind).sample(numbers, OF_MANY)
        kills += [f"{kind} {number} {('before', 'during')[place % 2]}" for place, number in enumerate(numbers)]
    return kills


@pytest.fixture(scope="module")
def deaths(tmp_path_factory, witness_library):
    folder = tmp_path_factory.mktemp("lives")
    log = folder / "log"

    def live(kill, log=""):
        return live_and_die(Path(tempfile.mkdtemp(dir=folder)), witness_library, kill, log)

    assert live("", log) is None
    kills = choose(witness.read(log))
    deaths = live_each(live, kills)
    if not any(death.faults for death in deaths):
        assert len(deaths) > 0.9 * len(kills), "many steps were not there a second time"
    return deaths


def test_fault_01_killed_during_an_upload(deaths):
    uploading = {"file", "faulty file", "part 0", "part 1", "joined file"}
    assert_right([death for death in deaths if death.at & uploading])


def test_fault_02_killed_after_an_answer(deaths):
    assert_right(deaths)


def test_fault_03_killed_in_validating(deaths):
    assert_right([death for death in deaths if "validating" in death.was.values()])


def test_fault_04_killed_in_in_progress(deaths):
    assert_right([death for death in deaths if "in_progress" in death.was.values()])


def test_fault_04_lines_that_run_again_after_a_kill_are_few(new_server):
    total, answered, slots, saved_together = 1500, 1000, 16, 256
    with FakeEngine(answers=answered) as engine:
        server = new_server("--engine", engine.url, "--slots", str(slots), models=())
        client = server.client()
        batch = create_batch(client, [line(f"{n}", {"model": MODEL}) for n in range(total)])
        wait_until(lambda: len(engine.bodies) == answered + slots, "the engine holds its answers back")
        server.kill()
        check(server)
        engine.release()
        server.start()
        assert finished(client, batch).request_counts.completed == total
        again = len(engine.bodies) - total
        assert len(engine.asked) == total
        # Those under way, and the answers of one transaction that was and one that waited to be one.
        assert slots <= again <= slots + 2 * saved_together


def test_fault_05_killed_in_finalizing(deaths):
    assert_right([death for death in deaths if "finalizing" in death.was.values()])


def test_fault_06_killed_in_cancelling(deaths):
    assert_right([death for death in deaths if "cancelling" in death.was.values()])
