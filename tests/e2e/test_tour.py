"""docs/tour.md: all its commands, in their order, as they stand there but for the port, by a shell and a real model."""

import csv
import re
import subprocess

import pytest

from penstock import BINARY, CLEAN_ENV, GGUF, LLAMA_SERVER, MODEL, ROOT, free_port, wait_until

pytestmark = pytest.mark.local

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", (ROOT / "docs/tour.md").read_text(), re.M | re.S))


def blocks(section, language="sh"):
    return [text for its_language, text in BLOCK.findall(SECTIONS[section]) if its_language == language]


def test_the_tour_leads_from_a_csv_to_answers_in_a_csv(tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/penstock").symlink_to(BINARY)
    (tmp_path / "penstock.toml").write_text(f'llama_server = "{LLAMA_SERVER}"\n[models]\n"{MODEL}" = "{GGUF}"\n')
    port = free_port()
    env = CLEAN_ENV | {
        "PATH": f"{tmp_path}/bin:{CLEAN_ENV['PATH']}",
        "HOME": str(tmp_path),
        "LLAMA_ARG_THREADS": "1",  # others work on this machine too
        "PENSTOCK_LISTEN": f"127.0.0.1:{port}",
        "PENSTOCK_URL": f"http://127.0.0.1:{port}",
    }

    def sh(commands):
        done = subprocess.run(["sh", "-ec", commands], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{commands}{done.stdout}{done.stderr}"
        return done.stdout

    def assert_answered():
        with (tmp_path / "answers.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert [(row["id"], row["text"]) for row in rows] == prompts
        assert all(row["answer"] and not row["error"] for row in rows)
        (tmp_path / "answers.csv").unlink()

    (table,) = blocks("A table in, a table out", "csv")
    (tmp_path / "prompts.csv").write_text(table)
    assert (ROOT / "examples/prompts.csv").read_text() == table
    prompts = [(row["id"], row["text"]) for row in csv.DictReader(table.splitlines())]
    assert len(prompts) == 3

    (one_step,) = blocks("A table in, a table out")
    sh(one_step)
    assert_answered()
    (in_steps,) = blocks("The same in steps")
    sh(in_steps)
    assert_answered()

    serve, submit, look = blocks("With a server")
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(serve.split(), cwd=tmp_path, env=env, stdout=log, stderr=log)
    try:
        wait_until(lambda: str(port) in (tmp_path / "log").read_text(), "it serves", process=server)
        (tmp_path / "answers.jsonl").unlink()
        sh(submit)
        assert_answered()
        (tmp_path / "answers.jsonl").unlink()
        assert "completed" in sh(look)
        assert (tmp_path / "answers.jsonl").read_text().count("\n") == len(prompts)
    finally:
        server.terminate()
        server.wait()
