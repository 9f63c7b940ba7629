"""docs/engines.md: its examples are run as they stand there, but for ports and what is not on this machine."""

import json
import re
import shlex
import subprocess

import pytest

import fake_engine
from fake_engine import FakeEngine
from penstock import BINARY, CLEAN_ENV, GGUF, LLAMA_SERVER, ROOT, free_port, parse
from test_managed import STAND_IN

pytestmark = pytest.mark.local

SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", (ROOT / "docs/engines.md").read_text(), re.M | re.S))
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
LINES = dict(BLOCK.findall((ROOT / "docs/engines.md").read_text().partition("\n## ")[0]))["json"]


def blocks(section, language):
    return [text for its_language, text in BLOCK.findall(SECTIONS[section]) if its_language == language]


class Example:
    """A folder as the page presumes it, and a shell there that finds all programs."""

    def __init__(self, folder):
        self.folder = folder
        (folder / "bin").mkdir()
        for name, program in {"penstock": BINARY, "llama-server": LLAMA_SERVER, "vllm": STAND_IN}.items():
            (folder / "bin" / name).symlink_to(program)
        (folder / "models").mkdir()
        (folder / "models/chat.gguf").symlink_to(GGUF)
        (folder / "build").symlink_to(ROOT / "build")
        (folder / "lines.jsonl").write_text(LINES)
        self.env = CLEAN_ENV | {"PATH": f"{folder}/bin:{CLEAN_ENV['PATH']}", "LOG": str(folder / "stand-in.log")}
        self.env["LLAMA_ARG_THREADS"] = "1"  # others work on this machine too

    def configure(self, text):
        (self.folder / "penstock.toml").write_text(text)

    def sh(self, commands):
        sh = ["sh", "-ec", commands]
        done = subprocess.run(sh, cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def assert_answered(self):
        answers = parse((self.folder / "answers.jsonl").read_text())
        assert [answer["custom_id"] for answer in answers] == ["sky", "sea"]
        assert all(answer["response"]["body"]["choices"][0]["message"]["content"] for answer in answers)


@pytest.fixture
def example(tmp_path):
    return Example(tmp_path)


def without_what_differs(command):
    """The words behind the program, without the names that are new each time."""
    words = shlex.split(command)[1:] if isinstance(command, str) else command
    text = "\n".join(words)
    return re.sub(r"(--(?:port|host|slot-save-path|model)\n)(?!127\.)\S+", r"\1…", text).split("\n")


def test_managed_llama_cpp_answers(example):
    (config,) = blocks("Managed llama.cpp", "toml")
    (commands,) = blocks("Managed llama.cpp", "sh")
    example.configure(config.replace('"7"', '"1"'))
    assert example.sh(commands).startswith("chat: ok\n")
    example.assert_answered()


def test_managed_llama_cpp_is_started_as_the_page_says(example):
    (config,) = blocks("Managed llama.cpp", "toml")
    (command,) = blocks("Managed llama.cpp", "")
    program = example.folder / "note-arguments"
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@" > "$LOG"\nexit 1\n')
    program.chmod(0o755)
    example.configure(config.replace("build/llama/bin/llama-server", str(program)))
    example.sh("penstock run lines.jsonl -o answers.jsonl || [ $? = 70 ]")
    noted = (example.folder / "stand-in.log").read_text().splitlines()
    assert without_what_differs(noted) == without_what_differs(command)


def test_a_llama_server_of_the_users_own_answers(example):
    command, run = blocks("A llama-server of your own", "sh")
    port = str(free_port())
    words = shlex.split(command.replace("8080", port))
    with (example.folder / "log").open("w") as log:
        server = subprocess.Popen(words, cwd=example.folder, env=example.env, stdout=log, stderr=log)
    try:
        example.sh(run.replace("8080", port))
    finally:
        server.kill()
        server.wait()
    example.assert_answered()


def test_a_remote_api_with_a_key_answers(example, monkeypatch):
    monkeypatch.setattr(fake_engine, "MODEL", "chat")
    (config,) = blocks("A remote API with a key", "toml")
    (commands,) = blocks("A remote API with a key", "sh")
    with FakeEngine(key="sk-example") as engine:
        example.configure(config.replace("https://api.example.com", engine.url))
        example.sh(commands)
    example.assert_answered()


@pytest.mark.parametrize("section", ["Managed vLLM", "SGLang"])
def test_managed_vllm_and_sglang_are_started_as_the_page_says(example, section):
    config = blocks(section, "toml")[0]
    (command,) = blocks(section, "")
    example.configure(config.replace("/opt/sglang/bin/python3", str(STAND_IN)))
    example.sh("penstock run lines.jsonl -o answers.jsonl")
    example.assert_answered()
    notes = map(json.loads, (example.folder / "stand-in.log").read_text().splitlines())
    (noted,) = (note["argv"] for note in notes if "argv" in note)
    assert without_what_differs(noted) == without_what_differs(command)


def test_models_are_added_listed_and_checked_by_command(example):
    (commands,) = blocks("Managed models", "sh")
    said = example.sh(commands)
    for words in ("\nchat   llama.cpp ", "\nlarge  vllm ", "\nchat: ok\n", "\nlarge: ok\n"):
        assert words in said, said


@pytest.mark.parametrize("section", SECTIONS)
def test_every_configuration_is_taken(example, section):
    for config in blocks(section, "toml"):
        example.configure(config)
        shown = example.sh("penstock serve --print-config")
        for key in re.findall(r"^(\w+) = ", config.partition("[")[0], re.M):
            assert re.search(rf"^{key} = .*penstock\.toml$", shown, re.M), shown
        for name in re.findall(r"^\[models\.(\w+)\]", config, re.M):
            assert f'\n"{name}" = ' in shown
