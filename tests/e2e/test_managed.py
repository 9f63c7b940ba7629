"""Engines that the server starts itself: any program, and models that take turns on a device."""

import json
import os
import signal
import sys
from collections import Counter
from pathlib import Path

import httpx2
import pytest

from penstock import (
    MODEL,
    OTHER_MODEL,
    children,
    create_batch,
    error_lines,
    finished,
    line,
    output_lines,
    penstock,
    wait_until,
)

pytestmark = pytest.mark.local

STAND_IN = Path(__file__).with_name("stand_in.py")


class StandIns:
    """Models of one device, each served by a stand-in, and what these note."""

    def __init__(self, folder):
        self.log = folder / "stand-ins.jsonl"
        self.device = folder / "device"
        self.gate = folder / "gate"
        self.config = folder / "models.toml"
        self.config.write_text("")

    def add(self, name, engine="command", takes=0, start=0, more="", gate=False):
        command = f'command = ["{sys.executable}", "{STAND_IN}", "--served-model-name", "{{name}}", "--port", "{{port}}"]'
        if engine != "command":
            command = f'program = "{STAND_IN}"\npath = "some/model"'
        env = {"LOG": self.log, "DEVICE": self.device, "TAKES": takes, "START": start}
        if gate:
            env["GATE"] = self.gate
        env = ", ".join(f'{key} = "{value}"' for key, value in env.items())
        with self.config.open("a") as config:
            config.write(f'[models."{name}"]\nengine = "{engine}"\n{command}\n{more}\nenv = {{ {env} }}\n')
        return self

    def server(self, new_server, *arguments):
        return new_server("--config", self.config, *arguments, models=())

    def notes(self):
        return [json.loads(one) for one in self.log.read_text().splitlines()] if self.log.exists() else []

    def starts(self):
        return [note for note in self.notes() if "argv" in note]

    def asked(self):
        """The texts that were asked, in order."""
        return [note["asked"] for note in self.notes() if "asked" in note]


def lines(model, count):
    return [
        line(f"{n}", {"model": model, "messages": [{"role": "user", "content": f"{model} {n}"}]}) for n in range(count)
    ]


def assert_done(client, batch, count):
    batch = finished(client, batch)
    assert (batch.status, batch.request_counts.completed) == ("completed", count)


def swaps(server):
    """Which model made room for which, in order."""
    return [
        (words[-5], words[-1])
        for words in (row.split() for row in server.log.read_text().splitlines() if " makes room for " in row)
    ]


def test_vllm_is_started_with_its_own_options_waited_for_and_started_again(new_server, tmp_path):
    stand_ins = StandIns(tmp_path).add("large", "vllm", takes=0.05, start=0.3, more='context = 1024\nslots = 2\nargs = ["-x"]')
    server = stand_ins.server(new_server)
    client = server.client()
    assert [model.id for model in client.models.list()] == ["large"]
    assert httpx2.get(f"{server.url}/healthz").json()["reasons"] == ["engine large: it is loading its model"]
    batch = create_batch(client, lines("large", 20))
    wait_until(lambda: len(stand_ins.asked()) >= 4, "it has been asked")
    (first,) = stand_ins.starts()
    os.kill(first["pid"], signal.SIGKILL)
    assert_done(client, batch, 20)
    first, second = (start["argv"] for start in stand_ins.starts())
    port = first.index("--port") + 1
    assert first[:port] == ["serve", "some/model", "--served-model-name", "large", "--host", "127.0.0.1", "--port"]
    assert first[port + 1 :] == ["--max-model-len", "1024", "--max-num-seqs", "2", "-x"]
    assert second[:port] == first[:port]
    log = (server.folder / "data/logs/large.log").read_text()
    assert log.count("loading large\n") == 2
    assert "penstock: it ended with signal 9 (Killed)\n" in log


def test_models_of_one_device_take_turns_and_no_line_is_asked_twice(new_server, tmp_path):
    stand_ins = StandIns(tmp_path).add("a", gate=True).add("b")
    server = stand_ins.server(new_server)
    client = server.client()
    batches = [create_batch(client, lines(model, 10)) for model in "abab"]
    wait_until(lambda: server.log.read_text().count(" 10 lines for ") == 4, "all are in the queue")
    stand_ins.gate.touch()
    for batch in batches:
        assert_done(client, batch, 10)
    asked = stand_ins.asked()
    assert set(Counter(asked).values()) == {2}  # in two batches each
    assert [model.id for model in client.models.list()] == ["a", "b"]
    # What is there of a model is done before the other's turn comes, so the batches are few stays.
    assert swaps(server) == [("a", "b")]
    assert "the device is in use" not in server.log.read_text()  # one program began when the other had ended
    assert httpx2.get(f"{server.url}/healthz").json() == {"status": "ok"}


def test_a_batch_of_higher_priority_takes_the_device_at_once(new_server, tmp_path):
    stand_ins = StandIns(tmp_path).add("a", takes=0.1, more="slots = 1").add("b", takes=0.01, more="slots = 1")
    server = stand_ins.server(new_server)
    client = server.client()
    long = create_batch(client, lines("a", 30))
    wait_until(lambda: len(stand_ins.asked()) >= 2, "it is under way")
    urgent = create_batch(client, lines("b", 5), extra_body={"priority": 1})
    assert_done(client, urgent, 5)
    assert_done(client, long, 30)
    asked = stand_ins.asked()
    assert set(Counter(asked).values()) == {1}
    first, last = asked.index("b 0"), asked.index("b 4")
    assert last - first == 4, "nothing of the other model while it is loaded"
    assert 2 <= first < 30
    assert swaps(server) == [("a", "b"), ("b", "a")]


def test_a_batch_that_is_given_a_higher_priority_takes_the_device_too(new_server, tmp_path):
    stand_ins = StandIns(tmp_path).add("a", takes=0.1, more="slots = 1").add("b")
    server = stand_ins.server(new_server)
    client = server.client()
    long = create_batch(client, lines("a", 30))
    wait_until(lambda: len(stand_ins.asked()) >= 2, "it is under way")
    other = create_batch(client, lines("b", 5))
    httpx2.post(f"{server.url}/v1/batches/{other.id}", json={"priority": 1}).raise_for_status()
    assert_done(client, other, 5)
    assert client.batches.retrieve(long.id).status == "in_progress"
    client.batches.cancel(long.id)


def test_a_model_gives_its_device_away_when_others_have_waited_long_enough(new_server, tmp_path):
    stand_ins = StandIns(tmp_path).add("a", takes=0.1, more="slots = 1").add("b")
    server = stand_ins.server(new_server, "--swap-after", "1")
    client = server.client()
    long = create_batch(client, lines("a", 30))
    wait_until(lambda: len(stand_ins.asked()) >= 2, "it is under way")
    other = create_batch(client, lines("b", 5))
    assert_done(client, other, 5)
    assert_done(client, long, 30)
    asked = stand_ins.asked()
    assert set(Counter(asked).values()) == {1}
    assert asked.index("b 0") < len(asked) - 6
    assert swaps(server) == [("a", "b"), ("b", "a")]


def test_models_of_other_devices_run_side_by_side(new_server, tmp_path):
    stand_ins = StandIns(tmp_path)
    stand_ins.add("a", takes=0.05, more='device = "one"\nslots = 1')
    stand_ins.device = tmp_path / "other-device"
    stand_ins.add("b", takes=0.05, more='device = "two"\nslots = 1')
    server = stand_ins.server(new_server)
    client = server.client()
    batches = [create_batch(client, lines(model, 20)) for model in "ab"]
    for batch in batches:
        assert_done(client, batch, 20)
    models = [text[0] for text in stand_ins.asked()]
    assert models.index("b") < 20 and models.index("a") < 20
    assert swaps(server) == []


def test_an_engine_that_does_not_start_is_told_of_and_holds_no_device(new_server, tmp_path):
    stand_ins = StandIns(tmp_path)
    stand_ins.config.write_text('[models.broken]\nengine = "command"\ncommand = ["sh", "-c", "echo no GPU {port}; exit 3"]\n')
    stand_ins.add("b")
    server = stand_ins.server(new_server)
    client = server.client()
    broken = create_batch(client, lines("broken", 2))
    assert_done(client, create_batch(client, lines("b", 5)), 5)
    health = httpx2.get(f"{server.url}/healthz").json()
    assert health["reasons"] == ["engine broken: it ended with exit code 3"]
    assert client.batches.retrieve(broken.id).status == "validating"  # it waits
    assert "no GPU" in (server.folder / "data/logs/broken.log").read_text()
    assert "no GPU" in server.log.read_text()
    assert swaps(server) == [("broken", "b")]  # and not back, for nothing
    client.batches.cancel(broken.id)
    batch = finished(client, broken)
    assert [one["error"]["code"] for one in error_lines(client, batch)] == ["batch_cancelled"] * 2


def test_run_ends_with_the_last_words_of_an_engine_that_does_not_start(tmp_path):
    (tmp_path / "penstock.toml").write_text(
        '[models.other]\nengine = "command"\ncommand = ["sleep", "600", "{port}"]\n'
        '[models.broken]\nengine = "command"\ncommand = ["sh", "-c", "echo no GPU {port}; exit 3"]\n'
    )
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines("broken", 2)))
    done = penstock("run", "in.jsonl", "-o", "out.jsonl", folder=tmp_path)
    assert done.returncode == 70
    assert "engine broken: it ended with exit code 3" in done.stderr
    assert "no GPU" in done.stderr
    assert not (tmp_path / "out.jsonl").exists()


def test_the_real_model_under_two_names_is_swapped_with_one_llama_server_at_a_time(new_server):
    server = new_server(models=(MODEL, OTHER_MODEL), env={"PENSTOCK_LLAMA_SERVER_ARGS": "--threads,1"})
    client = server.client()
    batches = [create_batch(client, [line("1", {"model": model})]) for model in (OTHER_MODEL, MODEL, OTHER_MODEL)]
    most = 0

    def all_ended():
        nonlocal most
        most = max(most, len(children(server.process.pid)))
        return all(client.batches.retrieve(batch.id).status == "completed" for batch in batches)

    wait_until(all_ended, "all batches have ended", 240)
    assert most == 1
    for batch in batches:
        (answer,) = output_lines(client, client.batches.retrieve(batch.id))
        assert answer["response"]["status_code"] == 200
    assert len(swaps(server)) <= 2
    assert {model.id for model in client.models.list()} == {MODEL, OTHER_MODEL}
