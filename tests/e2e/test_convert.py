"""Tables of prompts to batches and back: `penstock convert`, and `penstock run` of a table in one step."""

import csv
import json
import os
import resource
import signal
import subprocess

import pytest

import fake_engine
from fake_engine import FakeEngine
from penstock import BINARY, CLEAN_ENV, penstock, wait_until

pytestmark = pytest.mark.local

ROWS = [
    {"id": "zebra", "text": 'He said "no", twice'},
    {"id": "apple", "text": "two\nlines; and ünïcode 😀"},
    {"id": "bad", "text": "refuse me"},
    {"id": "last", "text": " "},
]
MODEL = ["--model", fake_engine.MODEL]


def write_table(path, rows, encoding="utf-8", **dialect):
    with path.open("w", newline="", encoding=encoding) as file:
        writer = csv.DictWriter(file, list(rows[0]), **dialect)
        writer.writeheader()
        writer.writerows(rows)


def table(path, **dialect):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, **dialect))


def make(folder, *arguments):
    done = penstock("convert", *arguments, folder=folder)
    assert done.returncode == 0, done.stderr
    return done.stderr


def assert_answered(rows):
    assert [{"id": row["id"], "text": row["text"]} for row in rows] == ROWS
    for row in rows:
        if row["id"] == "bad":
            assert (row["answer"], row["error"], row["output_tokens"]) == ("", "No.", "")
        else:
            assert row["answer"] == f"You said: Repeat: {row['text']}"
            assert (row["error"], row["finish_reason"], row["input_tokens"], row["output_tokens"]) == ("", "stop", "3", "2")


@pytest.fixture
def engine():
    with FakeEngine() as engine:
        engine.refused.add("Repeat: refuse me")
        yield engine


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_csv_becomes_a_batch_and_its_answers_a_csv(tmp_path, engine, delimiter):
    write_table(tmp_path / "prompts.csv", ROWS, encoding="utf-8-sig", delimiter=delimiter)
    said = make(tmp_path, "prompts.csv", "-o", "batch.jsonl", *MODEL, "--prompt", "Repeat: {text}", "--id", "id")
    assert said == "4 requests in batch.jsonl\n"
    done = penstock("run", "batch.jsonl", "-o", "answers.jsonl", "--engine", engine.url, folder=tmp_path)
    assert done.returncode == 1, done.stderr
    said = make(tmp_path, "answers.jsonl", "-o", "answers.csv", "--join", "prompts.csv", "--id", "id")
    assert said == "3 answers and 1 errors in answers.csv\n"
    assert_answered(table(tmp_path / "answers.csv", delimiter=delimiter))


def test_a_csv_is_run_to_a_csv_in_one_step(tmp_path, engine):
    write_table(tmp_path / "prompts.csv", ROWS)
    arguments = ["prompts.csv", "-o", "answers.csv", "--prompt", "Repeat: {text}", "--engine", engine.url]
    done = penstock("run", *arguments, *MODEL, folder=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "(see answers.csv)" in done.stderr
    assert_answered(table(tmp_path / "answers.csv"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answers.csv", "prompts.csv"]

    done = penstock("run", *arguments, "--errors", "e.jsonl", *MODEL, folder=tmp_path)
    assert (done.returncode, "--errors is for requests" in done.stderr) == (2, True)
    done = penstock("run", *arguments, folder=tmp_path)
    assert (done.returncode, "--model NAME" in done.stderr) == (2, True)


def test_an_interrupted_run_of_a_table_goes_on_where_it_was(tmp_path):
    texts = [f"line {n}" for n in range(40)]
    (tmp_path / "prompts.txt").write_text("\n".join(texts))
    with FakeEngine(answers=10) as engine:
        command = ["run", "prompts.txt", "-o", "answers.jsonl", "--slots", "4", "--engine", engine.url, *MODEL]
        with (tmp_path / "log").open("wb") as log:
            process = subprocess.Popen([BINARY, *command], cwd=tmp_path, env=CLEAN_ENV, stdout=log, stderr=log)
        try:
            wait_until(lambda: sum(engine.asked.values()) == 14, "the engine holds back", process=process)
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == 130
        finally:
            process.kill()
            process.wait()
        answered = dict(engine.answered)
        engine.release()
        done = penstock(*command, folder=tmp_path)
        assert done.returncode == 0, done.stderr
    assert [engine.asked[text] for text in answered] == [1] * 10
    rows = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert [(row["text"], row["answer"]) for row in rows] == [(text, f"You said: {text}") for text in texts]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answers.jsonl", "log", "prompts.txt"]


def peak(folder, *arguments):
    """The most memory in KiB that `penstock convert` has held."""
    pid = subprocess.Popen([BINARY, "convert", *arguments], cwd=folder, env=CLEAN_ENV, stderr=subprocess.DEVNULL).pid
    _, status, usage = os.wait4(pid, 0)
    assert status == 0
    return usage.ru_maxrss


def test_memory_does_not_grow_with_the_rows(tmp_path):
    text = "x" * 400
    with (tmp_path / "few.csv").open("w") as few, (tmp_path / "many.csv").open("w") as many:
        for file, count in ((few, 100), (many, 100_000)):
            file.write("text\n" + f"{text}\n" * count)
    grown = peak(tmp_path, "many.csv", "-o", "many.jsonl", "--model", "m") - peak(
        tmp_path, "few.csv", "-o", "few.jsonl", "--model", "m"
    )
    assert grown < 4_000, f"{grown} KiB more for 40 MB"


def test_what_would_be_lost_or_makes_no_sense_is_refused(tmp_path):
    (tmp_path / "p.csv").write_text("text\na\n")
    for arguments, words in [
        (["p.csv", "-o", "p.csv", *MODEL], "p.csv would be written over"),
        (["p.csv", "-o", "b.jsonl", "--prompt", "x"], "--prompt is for prompts, and those need a --model"),
        (["p.csv", "-o", "b.jsonl", *MODEL, "--excel"], "--excel is for answers"),
        (["p.csv", "-o", "b.jsonl", *MODEL, "--template", "p.csv", "--prompt", "x"], "excludes"),
        (["none.csv", "-o", "b.jsonl", *MODEL], "none.csv"),
        (["p.csv", "-o", "b.jsonl", *MODEL, "--endpoint", "/v1/x"], "/v1/embeddings"),
        (["p.csv", "-o", "a.jsonl", "--excel"], "--excel is for a .csv"),
        (["p.csv", "-o", "a.csv", "--id", "text"], "--id names a column of the table of --join"),
    ]:
        done = penstock("convert", *arguments, folder=tmp_path)
        assert done.returncode == 2
        assert words in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
    assert (tmp_path / "p.csv").read_text() == "text\na\n"
    assert [path.name for path in tmp_path.iterdir()] == ["p.csv"]


def test_what_cannot_be_written_leaves_nothing_behind(tmp_path):
    (tmp_path / "p.csv").write_text("text\n" + "a\n" * 100_000)

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))

    (tmp_path / "b.jsonl").write_text("old")
    words = [BINARY, "convert", "p.csv", "-o", "b.jsonl", *MODEL]
    done = subprocess.run(words, cwd=tmp_path, env=CLEAN_ENV, capture_output=True, text=True, preexec_fn=limit)
    assert done.returncode == 70
    assert "cannot write b.jsonl.part: File too large" in done.stderr
    assert (tmp_path / "b.jsonl").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.jsonl", "p.csv"]
