"""The command line at a server: from a file to its answers, and what it ends with when that does not work."""

import json
import re

import httpx2
import pytest

import fake_engine
from fake_engine import FakeEngine
from middleman import Middleman
from penstock import create_batch, finished, free_port, jsonl, line, output_lines, parse, penstock


@pytest.fixture
def run(shared_server, tmp_path):
    """Runs a command at the server that has the real model."""
    return lambda *words, url=shared_server.url: penstock(*words, folder=tmp_path, env={"PENSTOCK_URL": url})


@pytest.fixture
def write(tmp_path):
    def write(lines, name="in.jsonl"):
        (tmp_path / name).write_bytes(lines if isinstance(lines, bytes) else jsonl(lines))

    return write


def test_a_file_becomes_a_file_of_answers(run, write, tmp_path, client):
    lines = [line(name) for name in ("zebra", "ünïcode 😀", "aardvark")]
    write(lines)
    (tmp_path / "out.errors.jsonl").write_text("of an earlier one")
    done = run("submit", "in.jsonl", "-o", "out.jsonl")
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"batch_\w+\n", done.stdout)
    assert "3 of 3 lines answered, 0 failed" in done.stderr
    assert "\r" not in done.stderr and "\x1b" not in done.stderr
    batch = client.batches.retrieve(done.stdout.strip())
    assert parse((tmp_path / "out.jsonl").read_text()) == output_lines(client, batch)
    assert client.files.retrieve(batch.input_file_id).filename == "in.jsonl"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]


def test_failed_lines_make_exit_code_1_and_stand_in_the_errors_file(run, write, tmp_path):
    write([line("good"), line("bad", {"temperature": "hot"})])
    done = run("submit", "in.jsonl", "-o", "out.jsonl", "--errors", "err.jsonl")
    assert done.returncode == 1, done.stderr
    assert "1 failed (see err.jsonl)" in done.stderr
    assert [one["custom_id"] for one in parse((tmp_path / "out.jsonl").read_text())] == ["good"]
    assert [one["custom_id"] for one in parse((tmp_path / "err.jsonl").read_text())] == ["bad"]


def test_faults_of_the_file_are_told_by_line(run, write, tmp_path):
    write(jsonl([line("a")]) + b"{bad\n" + jsonl([line("a")]))
    done = run("submit", "in.jsonl", "-o", "out.jsonl")
    assert done.returncode == 5
    assert re.search(r"^in\.jsonl:2: .*not parseable", done.stderr, re.MULTILINE)
    assert re.search(r"^in\.jsonl:3: .*duplicate", done.stderr, re.MULTILINE)
    assert not (tmp_path / "out.jsonl").exists()


def test_all_that_a_batch_may_be_told(run, write):
    write([line("1", {"input": "x", "temperature": 0}, url="/v1/embeddings")])
    options = ["--priority", "-1", "--dedupe", "--metadata", "a=1", "--metadata", "b=x=y", "--webhook", "https://8.8.8.8/x"]
    done = run("submit", "in.jsonl", "--json", "--window", "24h", *options)
    assert done.returncode == 0, done.stderr
    batch = json.loads(done.stdout)
    assert (batch["endpoint"], batch["priority"], batch["dedupe"]) == ("/v1/embeddings", -1, True)
    assert batch["metadata"] == {"a": "1", "b": "x=y"}
    assert batch["webhook"]["url"] == "https://8.8.8.8/x"
    run("cancel", batch["id"], "--wait")  # it may have ended


def test_a_create_whose_answer_is_lost_is_sent_again_and_done_once(run, write, shared_server, client):
    before = {batch.id for batch in client.batches.list()}
    write([line("one")])
    with Middleman(shared_server) as between:
        between.lose = {("POST", "/v1/files"): 1, ("POST", "/v1/batches"): 1}
        done = run("submit", "in.jsonl", url=between.url)
        keys = {headers["Idempotency-Key"] for headers in between.of("POST", "/v1/batches")}
        assert len(between.of("POST", "/v1/batches")) == len(between.of("POST", "/v1/files")) == 2
    assert done.returncode == 0, done.stderr
    assert len(keys) == 1
    made = {batch.id for batch in client.batches.list()} - before
    assert made == {done.stdout.strip()}
    finished(client, client.batches.retrieve(*made))


def test_what_is_refused_leaves_no_file_behind(run, write, client):
    before = {file.id for file in client.files.list()}
    write([line("one")])
    done = run("submit", "in.jsonl", "--sink", "nowhere")
    assert done.returncode == 4
    assert done.stderr == "penstock: Invalid 'sinks[0]': there is no sink 'nowhere'. None is configured.\n"
    assert {file.id for file in client.files.list()} == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["submit", "in.jsonl"], "penstock: there is no file in.jsonl"),
        (["submit", "../in.jsonl", "-o", "no/out.jsonl"], "penstock: there is no"),
        (["watch", "../files"], "penstock: '../files' is no id of a batch"),
        (["list", "--status", "done"], "penstock: --status: "),
        (["list", "--url", "ftp://x"], 'penstock: --url: "ftp://x" is no usable URL'),
        (["list", "--profile", "none"], "penstock: there is no profile 'none': "),
        (["list", "--profile", "none", "--url", "http://x"], "penstock: --"),
    ],
)
def test_wrong_commands_are_exit_code_2_and_one_line(run, words, said):
    done = run(*words)
    assert done.returncode == 2
    (told,) = done.stderr.splitlines()
    assert told.startswith(said)
    assert done.stdout == ""


def test_a_server_that_is_not_there_is_exit_code_3_and_one_line(run, write):
    write([line("one")])
    url = f"http://127.0.0.1:{free_port()}"
    for words in (["submit", "in.jsonl"], ["watch", "batch_1"], ["list"], ["cancel", "batch_1"]):
        done = run(*words, url=url)
        assert done.returncode == 3
        (told,) = done.stderr.splitlines()
        assert "Connection refused; is `penstock serve` running there?" in told


def test_an_unknown_batch_is_exit_code_4_and_one_line(run, shared_server):
    for word in ("watch", "show", "results", "cancel", "retry", "pause", "resume"):
        done = run(word, "batch_1")
        assert done.returncode == 4
        (told,) = done.stderr.splitlines()
        assert "batch_1" in told


def test_batches_are_listed_and_shown(run, client):
    batch = finished(client, create_batch(client, [line("one")], metadata={"who": "me\x1b[31m"}))
    listed = run("list", "--limit", "1").stdout.splitlines()
    assert [words.split()[:3] for words in listed] == [["ID", "STATUS", "LINES"], [batch.id, "completed", "1/1"]]
    shown = run("show", "last").stdout
    assert re.search(rf"^id +{batch.id}$", shown, re.MULTILINE)
    assert re.search(r"^metadata +who=me\?\[31m$", shown, re.MULTILINE)
    asked = httpx2.get(f"{client.base_url}batches/{batch.id}").json()
    assert json.loads(run("show", batch.id, "--json").stdout) == asked
    assert [json.loads(one)["id"] for one in run("list", "--json", "--limit", "101").stdout.splitlines()][0] == batch.id


def test_models_of_the_server_are_listed_and_those_of_the_configuration_too(run, shared_server):
    served = {model["id"] for model in httpx2.get(f"{shared_server.url}/v1/models").json()["data"]}
    assert run("models").stdout.splitlines() == ["MODEL", *sorted(served)]
    assert {json.loads(one)["id"] for one in run("models", "--json").stdout.splitlines()} == served
    assert run("models", "list").returncode == 0


def test_a_batch_is_retried_and_paused_and_resumed(new_server, tmp_path):
    with FakeEngine(answers=3) as engine:
        engine.refused.add("Say hello to bad.")
        server = new_server("--engine", engine.url, "--slots", "2", models=())

        def run(*words):
            return penstock(*words, folder=tmp_path, env={"PENSTOCK_URL": server.url})

        lines = [line(name, {"model": fake_engine.MODEL}) for name in ("good", "bad")]
        (tmp_path / "in.jsonl").write_bytes(jsonl(lines))
        submitted = run("submit", "in.jsonl", "--watch")
        assert submitted.returncode == 1
        assert f"1 failed (see penstock fetch {submitted.stdout.strip()} -o FILE)" in submitted.stderr
        engine.refused.clear()
        retried = run("retry", "last", "-o", "out.jsonl")
        assert retried.returncode == 0, retried.stderr
        assert json.loads(run("show", retried.stdout.strip(), "--json").stdout)["retry_of"] == submitted.stdout.strip()
        assert len(parse((tmp_path / "out.jsonl").read_text())) == 2

        run("submit", "in.jsonl")  # the engine answers no more
        paused = run("pause", "last")
        assert paused.returncode == 0 and "penstock resume batch_" in paused.stderr
        assert "it is paused" in run("show", "last").stdout
        assert run("resume", "last").returncode == 0
        refused = run("fetch", "last", "-o", "late.jsonl")
        assert refused.returncode == 4 and "penstock watch batch_" in refused.stderr
        run("submit", "in.jsonl")  # it has no line under way
        cancelled = run("cancel", "last", "--wait")
        assert cancelled.returncode == 0, cancelled.stderr
        assert run("watch", "last").returncode == 7
        assert run("fetch", "last", "-o", "late.jsonl").returncode == 7


def test_an_expired_batch_is_exit_code_6_and_what_was_answered_is_brought(new_server, tmp_path):
    with FakeEngine(answers=1) as engine:
        server = new_server("--engine", engine.url, "--slots", "1", "--completion-windows", "24h,2s", models=())
        (tmp_path / "in.jsonl").write_bytes(jsonl(line(str(n), {"model": fake_engine.MODEL}) for n in range(3)))
        words = ("submit", "in.jsonl", "--window", "2s", "-o", "out.jsonl", "--json")
        done = penstock(*words, folder=tmp_path, env={"PENSTOCK_URL": server.url})
        engine.release()
    assert done.returncode == 6, done.stderr
    assert len(parse((tmp_path / "out.jsonl").read_text())) == 1
    assert len(parse((tmp_path / "out.errors.jsonl").read_text())) == 2
    told = [json.loads(one) for one in done.stdout.splitlines()]
    assert [told[0]["status"], told[-1]["status"]] == ["validating", "expired"]


def test_a_key_comes_from_a_profile_or_the_environment(new_server, tmp_path):
    with FakeEngine() as engine:
        server = new_server("--engine", engine.url, models=())
        server.place.key = server.make_key()
        project, key = server.make_project("another")
        (tmp_path / "penstock").mkdir()
        config, key_file = tmp_path / "penstock/config.toml", tmp_path / "penstock/a.key"
        config.write_text(f'[profiles.another]\nurl = "{server.url}/v1"\nkey_file = "a.key"\n')
        key_file.write_text(key + "\n")
        (tmp_path / "in.jsonl").write_bytes(jsonl([line("one", {"model": fake_engine.MODEL})]))

        def run(*words, **variables):
            environment = {"XDG_CONFIG_HOME": str(tmp_path)} | {f"PENSTOCK_{name}": value for name, value in variables.items()}
            return penstock(*words, folder=tmp_path, env=environment)

        key_file.chmod(0o640)
        done = run("list", "--profile", "another")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == f"penstock: {key_file} holds a key, and others can read it: chmod 600 {key_file}\n"
        key_file.chmod(0o600)
        done = run("submit", "in.jsonl", "-o", "out.jsonl", PROFILE="another")
        assert done.returncode == 0, done.stderr
        batch = done.stdout.strip()
        assert run("show", batch, URL=server.url, API_KEY=key).returncode == 0
        assert run("show", batch, URL=server.url, API_KEY=server.place.key).returncode == 4  # of another project
        done = run("show", batch, URL=server.url, PROFILE="another")
        assert done.returncode == 4
        (told,) = done.stderr.splitlines()
        assert told.endswith("Put a key into PENSTOCK_API_KEY or a profile.")
