"""`penstock top`, `engines` and `workers`: what a server is doing, live on a terminal and once elsewhere."""

import json
import re
import signal

import pytest

from fake_engine import MODEL, FakeEngine
from penstock import create_batch, finished, line, penstock
from terminal import Terminal

TOTAL = 20
FIRST = 5  # so many lines are answered before the engine holds its answers back


@pytest.fixture
def engine():
    with FakeEngine(answers=FIRST) as engine:
        yield engine


@pytest.fixture
def server(new_server, engine):
    return new_server("--engine", engine.url, "--slots", "4", models=())


@pytest.fixture
def run(server, tmp_path):
    return lambda *words, **env: penstock(*words, folder=tmp_path, env={"PENSTOCK_URL": server.url} | env)


@pytest.fixture
def batch(server, engine):
    """One that stands still in the middle."""
    client = server.client()
    batch = create_batch(client, [line(f"line {n}", {"model": MODEL}) for n in range(TOTAL)])
    yield batch
    engine.release()
    finished(server.client(server.place.key or "any"), batch)


def until_it_stands(terminal):
    terminal.until(rf"{FIRST}/{TOTAL} +0 ")


def test_a_terminal_shows_it_live_and_is_as_before_afterwards(server, engine, batch, tmp_path):
    with Terminal(tmp_path, server.url, "top", columns=100, rows=20) as terminal:
        terminal.until(re.escape("\x1b[?1049h"))
        until_it_stands(terminal)
        assert not terminal.is_as_shells_like_it()
        engine.release()
        terminal.until(r"penstock at http://\S+: 0 batches")
        terminal.type("xq")
        assert terminal.ended() == 0
        assert terminal.is_as_shells_like_it()
    assert re.search(r"\n" + re.escape(engine.url) + " +remote +ready ", terminal.shown)
    assert terminal.shown.endswith("\x1b[?25h\x1b[?1049l")


def test_it_fits_a_terminal_that_changes_its_size_and_ctrl_c_ends_it(server, batch, tmp_path):
    with Terminal(tmp_path, server.url, "top", columns=100, rows=20) as terminal:
        until_it_stands(terminal)
        server.process.send_signal(signal.SIGSTOP)  # what it still tells would make it be drawn anew a few times
        try:
            for columns in range(40, 29, -1):
                terminal.resize(columns, 6)
                terminal.until(rf"(?s)\x1b\[H\x1b\[1mpenstock.{{{columns - 8}}}\x1b\[0m.*\x1b\[J")
        finally:
            server.process.send_signal(signal.SIGCONT)
        terminal.type("\x03")
        assert terminal.ended() == 0
        assert terminal.is_as_shells_like_it()
    screens = re.findall(r"\x1b\[H(.*?)\x1b\[J", terminal.shown, re.DOTALL)
    lines = re.sub(r"\x1b\[[0-9]*[mK]", "", screens[-1]).split("\r\n")
    assert len(lines) <= 6 and max(map(len, lines)) == 30


def test_it_goes_on_when_the_server_comes_back(server, engine, batch, tmp_path):
    with Terminal(tmp_path, server.url, "top", columns=150, rows=20) as terminal:
        until_it_stands(terminal)
        server.kill()
        terminal.until("waiting: ")
        engine.release()
        server.start()
        terminal.until(r"penstock at http://\S+: 0 batches\x1b\[0m\x1b\[K\r\n[^w]")
        terminal.type("q")
        assert terminal.ended() == 0


def test_elsewhere_it_is_printed_once(run, batch):
    done = run("top")
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout and batch.id in done.stdout
    told = json.loads(run("top", "--json").stdout)
    assert [one["id"] for one in told["queue"]["data"]] == [batch.id]


def test_engines_and_workers_are_listed(run, engine, batch):
    heads, row = run("engines").stdout.splitlines()
    assert heads.split()[:3] == ["ENGINE", "KIND", "STATE"]
    assert row.split()[:3] == [engine.url, "remote", "ready"]
    (worker,) = [json.loads(one) for one in run("workers", "--json").stdout.splitlines()]
    assert worker["is_worker"] is True
    heads, row = run("workers").stdout.splitlines()
    assert (heads.split()[0], row.split()[0]) == ("PROCESS", worker["id"])


def test_a_key_without_the_scope_sees_the_queue_alone(run, server, batch):
    server.place.key = server.make_key()
    key = server.make_key(scopes="batches")
    done = run("top", PENSTOCK_API_KEY=key)
    assert done.returncode == 0, done.stderr
    assert batch.id in done.stdout and "needs the scope monitor" in done.stdout
    refused = run("engines", PENSTOCK_API_KEY=key)
    assert refused.returncode == 4 and "monitor" in refused.stderr
