"""Settings: flags over environment over config file over defaults, and one clear line for each mistake."""

import tomllib

import pytest

from penstock import penstock

pytestmark = pytest.mark.local

ALL = """\
listen = "127.0.0.1:1111"
data = "from-file"
engines = ["http://127.0.0.1:1"]
slots = 1
llama_server = "tools/llama-server"
max_queue_depth = 1
max_requests_per_job = 2
max_total_queued_requests = 3

[models]
a = "models/a.gguf"
"""


def settings(folder, *arguments, env=None):
    done = penstock("serve", "--print-config", *arguments, folder=folder, env=env)
    assert done.returncode == 0, done.stderr
    return tomllib.loads(done.stdout)


def refusal(folder, *arguments, env=None):
    """The one line that says what is wrong."""
    done = penstock("serve", "--print-config", *arguments, folder=folder, env=env)
    assert done.returncode == 2
    (message,) = done.stderr.strip().splitlines()
    return message


def test_defaults_need_no_config_file(tmp_path):
    shown = settings(tmp_path)
    assert shown["listen"] == "127.0.0.1:4080"
    assert shown["max_queue_depth"] == 20
    assert shown["max_requests_per_job"] == 50_000
    assert shown["max_total_queued_requests"] == 1_000_000
    assert shown["engines"] == []


def test_config_file_in_the_current_folder_is_read(tmp_path):
    (tmp_path / "penstock.toml").write_text(ALL)
    shown = settings(tmp_path)
    assert shown["listen"] == "127.0.0.1:1111"
    assert shown["engines"] == ["http://127.0.0.1:1"]
    assert (shown["max_queue_depth"], shown["max_requests_per_job"], shown["max_total_queued_requests"]) == (1, 2, 3)


def test_paths_in_a_config_file_are_relative_to_it(tmp_path):
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "my.toml").write_text(ALL)
    shown = settings(tmp_path, "--config", "elsewhere/my.toml")
    for path, expected in [
        (shown["llama_server"], "tools/llama-server"),
        (shown["models"]["a"], "models/a.gguf"),
        (shown["data"], "from-file"),
    ]:
        assert (tmp_path / path).resolve() == (folder / expected).resolve()


def test_environment_wins_over_the_file_and_flags_over_both(tmp_path):
    (tmp_path / "penstock.toml").write_text(ALL)
    env = {
        "PENSTOCK_LISTEN": "127.0.0.1:2222",
        "PENSTOCK_SLOTS": "2",
        "PENSTOCK_ENGINES": "http://127.0.0.1:2,http://127.0.0.1:3",
        "MAX_QUEUE_DEPTH": "0",
    }
    shown = settings(tmp_path, env=env)
    assert (shown["listen"], shown["slots"], shown["max_queue_depth"]) == ("127.0.0.1:2222", 2, 0)
    assert shown["engines"] == ["http://127.0.0.1:2", "http://127.0.0.1:3"]
    shown = settings(tmp_path, "--listen", "127.0.0.1:3333", "--engine", "http://127.0.0.1:4", env=env)
    assert (shown["listen"], shown["slots"]) == ("127.0.0.1:3333", 2)
    assert shown["engines"] == ["http://127.0.0.1:4"]


def test_printed_settings_can_be_read_back(tmp_path):
    (tmp_path / "penstock.toml").write_text(ALL)
    first = penstock("serve", "--print-config", folder=tmp_path).stdout
    (tmp_path / "again.toml").write_text(first)
    assert settings(tmp_path, "--config", "again.toml") == tomllib.loads(first)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("slotz = 3\n", ["slotz", "slots"]),
        ('slots = "many"\n', ["slots"]),
        ("slots = -1\n", ["slots"]),
        ('listen = "nowhere"\n', ["listen", "HOST:PORT"]),
        ("max_queue_depth = -1\n", ["max_queue_depth"]),
        ("engines = 5\n", ["engines"]),
        ('engines = ["ftp://x"]\n', ["engines", "http"]),
        ("[models]\na = 1\n", ["models", "a"]),
        ("listen = \n", ["penstock.toml"]),
    ],
)
def test_mistake_in_the_file_is_one_line_naming_the_key(tmp_path, content, words):
    (tmp_path / "penstock.toml").write_text(content)
    message = refusal(tmp_path)
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PENSTOCK_SLOTS", "x"),
        ("PENSTOCK_LISTEN", "x"),
        ("MAX_QUEUE_DEPTH", "x"),
        ("MAX_QUEUE_DEPTH", "-1"),
        ("PENSTOCK_ENGINES", "x"),
    ],
)
def test_mistake_in_the_environment_is_one_line_naming_the_variable(tmp_path, name, value):
    assert name in refusal(tmp_path, env={name: value})


@pytest.mark.parametrize(
    "arguments", [["--slots", "x"], ["--listen", "x"], ["--engine", "x"], ["--config", "nowhere.toml"], ["--nonsense"]]
)
def test_mistake_on_the_command_line_is_one_line_naming_the_flag_or_value(tmp_path, arguments):
    message = refusal(tmp_path, *arguments)
    assert arguments[0] in message or arguments[-1] in message
