"""`penstock run`: one file in, one file out, and an exit code that says how it went."""

import re
import signal
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest

import fake_engine
from fake_engine import FakeEngine
from penstock import (
    BINARY,
    CLEAN_ENV,
    GGUF,
    LLAMA_SERVER,
    children,
    jsonl,
    line,
    parse,
    penstock,
    wait_until,
    wait_until_gone,
    write_config,
)

pytestmark = pytest.mark.local

TOTAL = 60
SLOTS = 4
FIRST = 20  # so many lines are answered before the engine holds its answers back


def write_input(folder, lines):
    (folder / "in.jsonl").write_bytes(lines if isinstance(lines, bytes) else jsonl(lines))


def read_output(folder, name="out.jsonl"):
    return parse((folder / name).read_text())


def run(folder, *arguments, **options):
    return penstock("run", "in.jsonl", "-o", "out.jsonl", *arguments, folder=folder, **options)


def test_every_line_is_answered_in_input_order(tmp_path):
    lines = [line(name) for name in ("zebra", "ünïcode 😀", "aardvark")]
    write_input(tmp_path, lines)
    done = run(tmp_path, "--config", write_config(tmp_path))
    assert done.returncode == 0, done.stderr
    output = read_output(tmp_path)
    assert [one["custom_id"] for one in output] == [one["custom_id"] for one in lines]
    for one in output:
        assert set(one) == {"id", "custom_id", "response", "error"}
        assert one["response"]["body"]["choices"][0]["message"]["content"]


def test_failed_lines_make_exit_code_1_and_stand_in_the_errors_file(tmp_path):
    write_input(tmp_path, [line("good"), line("bad", {"temperature": "hot"})])
    done = run(tmp_path, "--errors", "err.jsonl", "--config", write_config(tmp_path))
    assert done.returncode == 1, done.stderr
    assert [one["custom_id"] for one in read_output(tmp_path)] == ["good"]
    (failed,) = read_output(tmp_path, "err.jsonl")
    assert failed["custom_id"] == "bad"
    assert failed["response"]["status_code"] == 400


def test_bad_file_is_exit_code_2_with_line_numbers_and_no_output(tmp_path):
    good = jsonl([line("a", {"model": fake_engine.MODEL})])
    write_input(tmp_path, good + b"{bad\n" + good)
    with FakeEngine() as engine:
        done = run(tmp_path, "--engine", engine.url)
    assert done.returncode == 2
    assert re.search(r"in\.jsonl:2: .*not parseable", done.stderr)
    assert re.search(r"in\.jsonl:3: .*duplicate", done.stderr)
    assert not (tmp_path / "out.jsonl").exists()
    assert not engine.asked


def test_model_can_be_named_on_the_command_line(tmp_path):
    write_input(tmp_path, [line("one", {"model": "mine"})])
    done = run(tmp_path, "--llama-server", LLAMA_SERVER, "--model", f"mine={GGUF}")
    assert done.returncode == 0, done.stderr
    assert len(read_output(tmp_path)) == 1


def test_progress_is_plain_lines_when_not_on_a_terminal(tmp_path):
    write_input(tmp_path, [line(str(n), {"model": fake_engine.MODEL}) for n in range(TOTAL)])
    with FakeEngine() as engine:
        done = run(tmp_path, "--engine", engine.url)
    assert done.returncode == 0, done.stderr
    shown = done.stdout + done.stderr
    assert str(TOTAL) in shown
    assert "\r" not in shown and "\x1b" not in shown


def test_file_that_is_not_there_is_exit_code_2_and_one_line(tmp_path):
    done = run(tmp_path)
    assert done.returncode == 2
    assert "in.jsonl" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_run_whose_model_no_engine_serves_says_so_while_it_waits(tmp_path):
    write_input(tmp_path, [line("1", {"model": "other"})])
    engine = FakeEngine()  # it listens, and does not answer yet
    log = tmp_path / "log"
    with log.open("wb") as out:
        command = [BINARY, "run", "in.jsonl", "-o", "out.jsonl", "--engine", engine.url]
        process = subprocess.Popen(command, cwd=tmp_path, env=CLEAN_ENV, stdout=out, stderr=out)
    try:
        wait_until(lambda: "0/1 lines" in log.read_text(), "the batch waits", process=process)
        with engine:
            words = f"waiting: no engine serves the model other; they serve: {fake_engine.MODEL}"
            wait_until(lambda: words in log.read_text(), "the reason is told", process=process)
    finally:
        process.kill()
        process.wait()


@contextmanager
def running(folder, engine):
    """`penstock run` on TOTAL lines, after the first lines were answered and while the others wait for the engine."""
    write_input(folder, [line(str(n), {"model": fake_engine.MODEL}) for n in range(TOTAL)])
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [BINARY, "run", "in.jsonl", "-o", "out.jsonl", "--engine", engine.url, "--slots", str(SLOTS)],
            cwd=folder,
            env=CLEAN_ENV,
            stdout=log,
            stderr=log,
        )
    try:
        # A line is sent when an answer has been taken, so all the first answers have been taken by then.
        wait_until(lambda: sum(engine.asked.values()) == FIRST + SLOTS, "the engine holds back", process=process)
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_interrupted_run_goes_on_where_it_was(tmp_path, how):
    with FakeEngine(answers=FIRST) as engine, running(tmp_path, engine) as process:
        if how == signal.SIGKILL:
            wait_until(
                lambda: f"{FIRST}/{TOTAL}" in (tmp_path / "log").read_text(),
                "the progress says that the answers are saved",
                process=process,
            )
        process.send_signal(how)
        assert process.wait(10) == (130 if how == signal.SIGINT else -signal.SIGKILL)
        assert not (tmp_path / "out.jsonl").exists()
        answered = dict(engine.answered)

        engine.release()
        done = run(tmp_path, "--engine", engine.url)
        assert done.returncode == 0, done.stderr
    assert [one["custom_id"] for one in read_output(tmp_path)] == [str(n) for n in range(TOTAL)]
    assert len(answered) == FIRST
    assert [engine.asked[text] for text in answered] == [1] * FIRST


def test_changed_input_does_not_go_on_with_the_old_one(tmp_path):
    with FakeEngine(answers=FIRST) as engine, running(tmp_path, engine) as process:
        process.send_signal(signal.SIGINT)
        process.wait(10)
        engine.release()
        write_input(tmp_path, [line("another", {"model": fake_engine.MODEL})])
        done = run(tmp_path, "--engine", engine.url)
    assert done.returncode == 2
    assert "interrupted run of another input" in done.stderr
    assert not (tmp_path / "out.jsonl").exists()


def test_interrupted_run_takes_its_engine_with_it(tmp_path):
    write_input(tmp_path, [line(str(n), {"max_tokens": 100}) for n in range(50)])
    command = [BINARY, "run", "in.jsonl", "-o", "out.jsonl", "--config", write_config(tmp_path)]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=tmp_path, env=CLEAN_ENV, stdout=log, stderr=log)
    try:
        engines = wait_until(lambda: children(process.pid), "the engine has been started", process=process)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        wait_until_gone(engines)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


@pytest.mark.parametrize("output, errors", [("/dev/null", None), ("out.jsonl", "/dev/null"), ("out.jsonl", "out.jsonl"),
                                            ("in.jsonl", None), ("out.jsonl", "no/such/folder/x"), ("folder", None)])
def test_a_file_that_must_not_be_replaced_is_refused_before_anything_is_run(tmp_path, output, errors):
    (tmp_path / "in.jsonl").write_text("{}\n")
    (tmp_path / "folder").mkdir()
    options = ["--errors", errors] if errors else []
    for command in (["run", "in.jsonl", "--engine", "http://127.0.0.1:9"], ["submit", "in.jsonl", "--url", "http://127.0.0.1:9"]):
        done = penstock(*command, "-o", output, *options, folder=tmp_path, timeout=20)
        assert done.returncode == 2, done.stderr
        (message,) = done.stderr.splitlines()
        assert (errors or output).rpartition("/x")[0] in message or (errors or output) in message
    assert (tmp_path / "in.jsonl").read_text() == "{}\n" and Path("/dev/null").is_char_device()
