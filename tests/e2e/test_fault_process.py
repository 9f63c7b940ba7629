"""What becomes of a process that stands still, throws, is started twice or gets much to do.

The memory test takes 100,000 lines; with MILLION=1 in the environment 1,000,000, which last longer.
"""

import os
import re
import signal
import sqlite3
import subprocess
from contextlib import closing, contextmanager
from pathlib import Path

import httpx2
import pytest

from fake_engine import MODEL, FakeEngine
from penstock import ROOT, create_batch, finished, line, penstock, refused, upload, wait_until

INSTANT_ENGINE = ROOT / "build/release/bench/instant_engine"
FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
LINES = 1_000_000 if os.environ.get("MILLION") else 100_000
SERVE = ("serve", "--listen", "127.0.0.1:0", "--data", "data")


def questions(count):
    return [line(f"{n}", {"model": MODEL}) for n in range(count)]


@pytest.mark.local
@pytest.mark.skipif(not FAKETIME, reason="libfaketime is not installed")
def test_fault_08_a_server_that_was_stopped_for_three_leases_goes_on(new_server, tmp_path):
    clock = tmp_path / "clock"
    clock.write_text("+0s")
    env = {"LD_PRELOAD": str(FAKETIME), "FAKETIME_TIMESTAMP_FILE": str(clock), "FAKETIME_NO_CACHE": "1"}
    with FakeEngine(answers=10) as engine:
        server = new_server("--engine", engine.url, "--slots", "4", env=env, models=())
        client = server.client()
        batch = create_batch(client, questions(1000))
        wait_until(lambda: len(engine.bodies) == 14, "all slots wait")
        server.process.send_signal(signal.SIGSTOP)
        clock.write_text("+31s")  # of all its clocks
        engine.release()
        server.process.send_signal(signal.SIGCONT)
        batch = finished(client, batch)
    assert (batch.status, batch.request_counts.completed) == ("completed", 1000)
    assert set(engine.asked.values()) == {1}


@contextmanager
def unreadable(path):
    """Meanwhile to open it is an accident, which it is not when the file is missing."""
    aside = path.with_name("aside")
    path.rename(aside)
    path.symlink_to(path)
    yield
    path.unlink()
    aside.rename(path)


@pytest.mark.local
def test_fault_09_an_exception_in_a_handler_or_a_task_harms_no_other(new_server):
    with FakeEngine() as engine:
        server = new_server("--engine", engine.url, models=())
        client = server.client()
        file = upload(client, questions(2))
        with unreadable(server.folder / "data/blobs" / file.id):
            failure = refused(lambda: client.files.content(file.id), "had an error", 500)
            assert failure.body["type"] == "server_error"
            batch = client.batches.create(
                input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
            )
            wait_until(lambda: "loading lines" in server.log.read_text(), "the task that reads the file has failed")
            assert client.batches.retrieve(batch.id).request_counts.completed == 0
        assert finished(client, batch).request_counts.completed == 2


@pytest.mark.local
def test_fault_11_a_second_server_on_a_data_folder_is_refused_in_one_line(new_server):
    with FakeEngine() as engine:
        server = new_server("--engine", engine.url, models=())
        second = penstock(*SERVE, "--engine", engine.url, folder=server.folder, timeout=20)
        assert second.returncode == 2
        assert re.fullmatch(r".*another penstock uses the folder .*/data; .*\n", second.stderr)
        assert finished(server.client(), create_batch(server.client(), questions(1))).status == "completed"


@pytest.mark.local
def test_fault_11_a_database_of_a_newer_program_is_refused_in_one_line(new_server):
    with FakeEngine() as engine:
        server = new_server("--engine", engine.url, models=())
        server.kill()
        with closing(sqlite3.connect(server.folder / "data/penstock.db")) as db, db:
            (known,) = db.execute("SELECT version FROM schema_version").fetchone()
            for table in ("schema_version", "schema_oldest_program"):
                db.execute(f"UPDATE {table} SET version = version + 100")
        newer = penstock(*SERVE, "--engine", engine.url, folder=server.folder, timeout=20)
        assert newer.returncode == 2
        assert re.fullmatch(rf".*penstock\.db: its schema is version {known + 100}, .*use a newer penstock\n", newer.stderr)
        with closing(sqlite3.connect(server.folder / "data/penstock.db")) as db, db:
            for table in ("schema_version", "schema_oldest_program"):
                db.execute(f"UPDATE {table} SET version = version - 100")
        server.start()


@contextmanager
def instant_engine():
    with subprocess.Popen([INSTANT_ENGINE, "--model", MODEL], stdout=subprocess.PIPE, text=True) as engine:
        try:
            yield f"http://127.0.0.1:{int(engine.stdout.readline())}"
        finally:
            engine.terminate()


def memory_max(pid):
    """The most memory that the process has had."""
    kilobytes = re.search(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(kilobytes[1]) << 10


def test_fault_12_many_lines_take_little_memory(new_server):
    env = {"MAX_REQUESTS_PER_JOB": "0", "MAX_TOTAL_QUEUED_REQUESTS": "0", "MAX_BATCH_FILE_BYTES": str(1 << 40)}
    with instant_engine() as url:
        server = new_server("--engine", url, "--slots", "64", env=env, models=())
        client = server.client()
        batch = create_batch(client, questions(LINES))
        batch = finished(client, batch)
        assert (batch.status, batch.request_counts.completed) == ("completed", LINES)
        assert memory_max(server.process.pid) < server.place.memory + 100 * LINES
        output = client.files.content(batch.output_file_id).read()
        assert [int(number) for number in re.findall(rb'"custom_id":"(\d+)"', output)] == list(range(LINES))
        for file in (batch.input_file_id, batch.output_file_id):  # so that the audits need not read them
            client.files.delete(file)
