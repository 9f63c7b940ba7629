"""penstock models: list, check and add."""

import os
import shutil
import struct

import pytest

from penstock import GGUF, LLAMA_SERVER, penstock

pytestmark = pytest.mark.local

CONFIG = f"""\
# A comment that stays.
llama_server = "{LLAMA_SERVER}"   # as it is
slots    =   2

[models] # mine
"first" = "{GGUF}"
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "penstock.toml").write_text(CONFIG)
    return tmp_path


def models(folder, *arguments, code=0):
    done = penstock("models", *arguments, folder=folder)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code != 2 else done.stderr


def with_other_numbers(folder, **numbers):
    """A copy of the real model whose header says something else: its u32 values by their key's end."""
    content = bytearray(GGUF.read_bytes()[: 2 << 20])
    for name, value in numbers.items():
        key = name.encode()
        at = content.index(key + struct.pack("<I", 4)) + len(key) + 4
        content[at : at + 4] = struct.pack("<I", value)
    (folder / "other.gguf").write_bytes(content)
    os.truncate(folder / "other.gguf", GGUF.stat().st_size)  # the weights are not looked at
    return folder / "other.gguf"


def test_list_shows_what_each_model_is_and_needs(folder):
    with (folder / "penstock.toml").open("a") as config:
        config.write('[models.large]\npath = "some/model"\nengine = "vllm"\ndevice = "gpu0"\nslots = 99\n')
    header, first, large = models(folder, "list").splitlines()
    assert header.split() == ["NAME", "ENGINE", "SIZE", "QUANTISATION", "CONTEXT", "SLOTS", "DEVICE", "MEMORY"]
    assert first.split()[:8] == ["first", "llama.cpp", "94", "MB", "Q4_1", "4096", "2", "default"]
    assert " fits: 387 MB of " in first
    assert large.split()[:7] == ["large", "vllm", "-", "-", "-", "99", "gpu0"]


def test_check_tells_the_header_the_memory_and_what_would_be_better(folder):
    said = models(folder, "check")
    for words in (
        "first: ok\n",
        "llama with 135M parameters in Q4_1, 94 MB; 30 layers of 9 heads, 3 of them for keys and values; "
        "49152 tokens in its vocabulary; trained for a context of 8192; a chat template\n",
        "2 x 4096 tokens of context take 387 MB: 94 MB of weights, 180 MB for the contexts, 114 MB to compute with; ",
        "Q4_1 is slow on CPUs",
    ):
        assert words in said
    assert models(folder, "check", "first").startswith("first: ok\n")
    assert "'second' is not among the configured models" in models(folder, "check", "second", code=2)


def test_check_tells_all_that_is_wrong(folder):
    (folder / "cut.gguf").write_bytes(GGUF.read_bytes()[:1000])
    (folder / "half.gguf").write_bytes(GGUF.read_bytes()[: 50 << 20])
    (folder / "no.gguf").write_text("something else")
    large = with_other_numbers(folder, head_count_kv=1_000_000)
    with (folder / "penstock.toml").open("a") as config:
        config.write(f'missing = "missing.gguf"\ncut = "cut.gguf"\nhalf = "half.gguf"\nno = "no.gguf"\nlarge = "{large}"\n')
        config.write('[models.vllm]\npath = "x"\nengine = "vllm"\nprogram = "no-such-vllm"\n')
        config.write(f'[models.forced]\npath = "{large}"\nslots = 1\n')
        config.write(f'[models.gpu]\npath = "{large}"\ndevice = "gpu0"\nslots = 0\n[devices]\ngpu0.memory = "24GB"\n')
    text = (folder / "penstock.toml").read_text().replace("slots    =   2\n", "")
    (folder / "penstock.toml").write_text(text)
    said = models(folder, "check", code=1)
    for words in (
        "missing: cannot be served\n  models.missing: there is no file ",
        "cut.gguf: it is cut short\n",
        "half.gguf: it is cut short: weights are missing\n",
        "no.gguf: it is no GGUF file\n",
        "models.large: it needs 29297.1 GB (",
        "29296.9 GB for 1 x 4096 tokens of context, ",
        "set slots to load it all the same\n",
        "models.vllm: there is no program 'no-such-vllm'\n",
        "forced: ok\n",
        "it is loaded because its slots are set\n",
        "and device gpu0 has 24.0 GB; take a smaller quantisation, ",
    ):
        assert words in said, said
    refused = penstock("serve", "--data", "data", folder=folder)
    assert refused.returncode == 2
    assert refused.stderr.startswith("penstock: models.missing: there is no file ")


def test_a_model_that_cannot_fit_is_refused_at_the_start_with_the_figures(folder):
    large = with_other_numbers(folder, head_count_kv=1_000_000)
    refused = penstock("serve", "--data", "data", "--model", large, "--llama-server", LLAMA_SERVER, "--slots", "0", folder=folder)
    assert refused.returncode == 2
    (message,) = refused.stderr.splitlines()
    assert "models.other: it needs 29297.1 GB (" in message
    assert "set slots to load it all the same" in message


def test_add_appends_a_model_and_leaves_the_rest_of_the_file_as_it_is(folder):
    shutil.copy(GGUF, folder / "copy.gguf")
    (folder / "penstock.toml").chmod(0o640)
    said = models(folder, "add", "some/model", "copy.gguf", "--device", "gpu0")
    assert "added to penstock.toml\nsome/model: ok\n" in said
    text = (folder / "penstock.toml").read_text()
    assert text == CONFIG + '\n[models."some/model"]\npath = "copy.gguf"\ndevice = "gpu0"\n'
    assert (folder / "penstock.toml").stat().st_mode & 0o777 == 0o640
    assert models(folder, "list").count("fits") == 2
    assert "there is a model 'some/model' already" in models(folder, "add", "some/model", "copy.gguf", code=2)
    assert (folder / "penstock.toml").read_text() == text


def test_add_begins_a_file_where_there_is_none_with_a_path_that_starts_at_its_folder(tmp_path):
    (tmp_path / "there").mkdir()
    shutil.copy(GGUF, tmp_path / "copy.gguf")
    models(tmp_path, "add", "a", "copy.gguf", "--config", "there/new.toml")
    assert (tmp_path / "there/new.toml").read_text() == '[models."a"]\npath = "../copy.gguf"\n'
    models(tmp_path, "add", "b", "Qwen/Qwen3-8B", "--engine", "vllm", "--config", "there/new.toml")
    assert (tmp_path / "there/new.toml").read_text().endswith('[models."b"]\npath = "Qwen/Qwen3-8B"\nengine = "vllm"\n')


@pytest.mark.parametrize(
    ("config", "arguments", "words"),
    [
        ("", ["a", "missing.gguf"], "there is no file"),
        ("", ["a", "penstock.toml"], "no GGUF file"),
        ("", ["a", str(GGUF), "--engine", "ollama"], "llama.cpp, vllm, sglang or command"),
        ("models = { b = 'b.gguf' }\n", ["a", str(GGUF)], "add it by hand"),
        ("slots = \n", ["a", str(GGUF)], "penstock.toml"),
    ],
)
def test_add_refuses_in_one_line_and_changes_nothing(tmp_path, config, arguments, words):
    (tmp_path / "penstock.toml").write_text(config)
    (message,) = models(tmp_path, "add", *arguments, code=2).splitlines()
    assert words in message
    assert (tmp_path / "penstock.toml").read_text() == config
