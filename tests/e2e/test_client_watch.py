"""The command line follows a batch: through restarts, to its files, on a terminal and when it is interrupted."""

import re
import signal
import subprocess
from contextlib import contextmanager

import pytest

from fake_engine import MODEL, FakeEngine
from middleman import Middleman
from penstock import BINARY, CLEAN_ENV, create_batch, finished, line, parse, penstock, wait_until
from terminal import Terminal

TOTAL = 40
FIRST = 10  # so many lines are answered before the engine holds its answers back


@pytest.fixture
def engine():
    with FakeEngine(answers=FIRST) as engine:
        yield engine


@pytest.fixture
def server(new_server, engine):
    return new_server("--engine", engine.url, "--slots", "4", models=())


def create(server, total=TOTAL):
    return create_batch(server.client(), [line(f"line {n}", {"model": MODEL}) for n in range(total)])


@contextmanager
def running(folder, server, *words, env=None):
    """A command that runs; what it prints goes to `out` and `err` in the folder."""
    with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
        environment = CLEAN_ENV | {"PENSTOCK_URL": server.url} | (env or {})
        process = subprocess.Popen([BINARY, *words], cwd=folder, env=environment, stdout=out, stderr=err)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def until_shown(folder, process, words, name="err"):
    wait_until(lambda: re.search(words, (folder / name).read_text()), f"it shows {words}", process=process)


def test_a_watch_goes_on_when_the_server_comes_back(server, engine, tmp_path):
    batch = create(server)
    with Terminal(tmp_path, server.url, "watch", batch.id, "-o", "answers.jsonl") as terminal:
        terminal.until(rf"{FIRST}/{TOTAL} lines")
        server.kill()
        terminal.until("waiting: ")
        engine.release()
        server.start()
        terminal.until(rf"{TOTAL} of {TOTAL} lines answered, 0 failed")
        assert terminal.ended() == 0
    answers = parse((tmp_path / "answers.jsonl").read_text())
    assert [one["custom_id"] for one in answers] == [f"line {n}" for n in range(TOTAL)]


def test_followed_results_go_on_behind_the_last_line_when_the_server_comes_back(server, engine, tmp_path):
    batch = create(server)
    with running(tmp_path, server, "results", batch.id, "--follow") as process:
        wait_until(lambda: (tmp_path / "out").read_text().count("\n") == FIRST, "it prints them", process=process)
        server.kill()
        until_shown(tmp_path, process, "waiting: ")
        engine.release()
        server.start()
        assert process.wait(60) == 0, (tmp_path / "err").read_text()
    printed = parse((tmp_path / "out").read_text())
    assert sorted(one["custom_id"] for one in printed) == sorted(f"line {n}" for n in range(TOTAL))


def test_results_as_they_are_now_do_not_wait(server, engine, tmp_path):
    batch = create(server)
    client = server.client()
    wait_until(lambda: client.batches.retrieve(batch.id).request_counts.completed == FIRST, "the first are saved")
    done = penstock("results", "last", folder=tmp_path, env={"PENSTOCK_URL": server.url})
    assert (done.returncode, len(parse(done.stdout))) == (0, FIRST)
    engine.release()
    finished(client, batch)


def test_ctrl_c_leaves_the_batch_running_and_says_so(server, engine, tmp_path):
    batch = create(server)
    with running(tmp_path, server, "watch", batch.id, "--json") as process:
        until_shown(tmp_path, process, f'"completed":{FIRST},', "out")
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
    assert f"interrupted; the batch goes on: penstock watch {batch.id}\n" in (tmp_path / "err").read_text()
    engine.release()
    assert finished(server.client(), batch).request_counts.completed == TOTAL


def test_a_key_that_is_revoked_ends_the_watch(server, engine, tmp_path):
    server.place.key = server.make_key()
    made = server.tool("keys", "create", "--name", "short", "--scopes", "files,batches")
    key, key_id = made.stdout.strip(), made.stderr.split()[0]
    batch = create_batch(server.client(key), [line(f"line {n}", {"model": MODEL}) for n in range(TOTAL)])
    with running(tmp_path, server, "watch", batch.id, "--json", env={"PENSTOCK_API_KEY": key}) as process:
        until_shown(tmp_path, process, f'"completed":{FIRST},', "out")
        assert server.tool("keys", "revoke", key_id).returncode == 0
        engine.release()
        assert process.wait(30) == 4
    assert "PENSTOCK_API_KEY" in (tmp_path / "err").read_text()
    finished(server.client(server.place.key), batch)


def test_a_download_goes_on_where_an_earlier_one_stopped(server, engine, tmp_path):
    engine.release()
    batch = finished(server.client(), create(server))
    content = server.client().files.content(batch.output_file_id).content
    part = tmp_path / f".answers.jsonl.{batch.output_file_id}.part"
    kept = b"?" * 100  # not what the server has, to tell them from what is brought now
    part.write_bytes(kept)
    with Middleman(server) as between:
        path = f"/v1/files/{batch.output_file_id}/content"
        between.lose = {("GET", path): 1}
        done = penstock("fetch", batch.id, "-o", "answers.jsonl", folder=tmp_path, env={"PENSTOCK_URL": between.url})
        assert [headers["Range"] for headers in between.of("GET", path)] == ["bytes=100-"] * 2
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "answers.jsonl").read_bytes() == kept + content[100:]
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_a_part_that_is_too_long_is_no_part_of_the_file(server, engine, tmp_path):
    engine.release()
    batch = finished(server.client(), create(server))
    part = tmp_path / f".answers.jsonl.{batch.output_file_id}.part"
    part.write_bytes(b"?" * 1_000_000)
    words = ("fetch", batch.id, "-o", "answers.jsonl")
    assert penstock(*words, folder=tmp_path, env={"PENSTOCK_URL": server.url}).returncode == 3
    assert not (tmp_path / "answers.jsonl").exists()
    assert penstock(*words, folder=tmp_path, env={"PENSTOCK_URL": server.url}).returncode == 0
    assert len(parse((tmp_path / "answers.jsonl").read_text())) == TOTAL


def test_a_terminal_shows_a_bar_that_fits(server, engine, tmp_path):
    batch = create(server)
    with Terminal(tmp_path, server.url, "watch", batch.id, columns=50) as terminal:
        terminal.until(r"\r\[=+ +\] 10/40 lines")
        terminal.resize(40, 24)
        engine.release()
        terminal.until(r"40 of 40 lines answered")
        assert terminal.ended() == 0
    bars = re.findall(r"\r(\[[^\x1b]*)\x1b\[K", terminal.shown)
    assert bars and all(len(one) < 50 for one in bars)
    assert len(bars[-1]) < 40
