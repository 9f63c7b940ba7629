"""The built binary as the tests drive it: a server to start, kill and start again, and `penstock run`."""

import http.client
import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import httpx2
import openai
import pytest

import place as places

ROOT = Path(__file__).parents[2]
BINARY = ROOT / "build/release/penstock"
LLAMA_SERVER = ROOT / "build/llama/bin/llama-server"
GGUF = ROOT / "build/models/SmolLM2-135M-Instruct.Q4_1.gguf"
MODEL = "smollm2-135m-instruct"
OTHER_MODEL = "the-same-under-another-name"

FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
needs_faketime = pytest.mark.skipif(not FAKETIME, reason="libfaketime is not installed")

STOPS_WITHIN = 45  # seconds: lines under way have 30, what they answered 5 more to be saved

FINAL = ("completed", "failed", "expired", "cancelled")

# The settings of whoever runs the tests must not leak into them.
CLEAN_ENV = {k: v for k, v in os.environ.items() if not k.startswith(("PENSTOCK_", "MAX_"))}


def wait_until(condition, what, seconds=60, process=None):
    """Polls `condition` until it gives something true, and returns that. Gives up at once when `process` has ended."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        if process and process.poll() is not None:
            raise AssertionError(f"the process ended with {process.returncode} before {what}")
        time.sleep(0.02)
    raise AssertionError(f"waited {seconds} s in vain until {what}")


def write_config(folder, models=(MODEL,)):
    """A config file with the real llama-server and the real model under each of the names."""
    config = folder / "config.toml"
    config.write_text(f'llama_server = "{LLAMA_SERVER}"\n[models]\n' + "".join(f'"{name}" = "{GGUF}"\n' for name in models))
    return config


def clock_set(**how):
    """Environment of a server whose wall clock libfaketime sets. Its other clock, which waits go by, is left alone."""
    return {"LD_PRELOAD": str(FAKETIME), "FAKETIME_DONT_FAKE_MONOTONIC": "1", **how}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def children(pid):
    """The ids of the process's child processes."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended while we looked
        if int(fields[1]) == pid:
            found.append(int(stat.parent.name))
    return found


def engine_url(server):
    """Where the llama-server that serves MODEL for that server can be asked by another one."""
    for child in children(server.process.pid):
        arguments = Path(f"/proc/{child}/cmdline").read_text().split("\0")
        if arguments[arguments.index("--alias") + 1] == MODEL:
            return f"unix:{arguments[arguments.index('--host') + 1]}"
    raise AssertionError("it has none")


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until_gone(pids, seconds=10):
    wait_until(lambda: not any(map(is_running, pids)), f"processes {pids} have ended", seconds)


class Server:
    """`penstock serve` on a data folder and a port of its own, and a place that others may share, which stay the same over
    restarts."""

    all = []  # those not stopped yet, for their logs to be shown when a test fails

    def __init__(self, folder, *arguments, env=None, models=(MODEL,), place=None):
        self.folder = folder
        self.place = place or places.new(folder)
        self.log = folder / "log"
        self.env = CLEAN_ENV | self.place.env | (env or {})
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.command = [BINARY, *self.words(), *self.place.arguments(folder / "data"), *arguments]
        if models:
            self.command += ["--config", write_config(folder, models)]
        self.process = None
        self.was_killed = False
        self.place.processes.append(self)
        Server.all.append(self)

    def words(self):
        """What it is told before its settings."""
        return ["serve", "--listen", f"127.0.0.1:{self.port}"]

    def start(self):
        self.launch()
        wait_until(self.answers, f"{self.url}/healthz answers")
        return self

    def launch(self):
        """Starts it and does not wait until it answers."""
        with self.log.open("ab") as log:
            # In its own folder, so that no penstock.toml of the repository is read.
            self.process = subprocess.Popen(self.command, cwd=self.folder, env=self.env, stdout=log, stderr=log)

    def answers(self):
        assert self.process.poll() is None, f"penstock serve ended with {self.process.returncode}:\n{self.log.read_text()}"
        try:
            return httpx2.get(f"{self.url}/healthz").status_code == 200
        except httpx2.TransportError:
            return False

    def kill(self):
        self.was_killed = True
        self.process.kill()
        self.process.wait()

    def stop(self):
        Server.all.remove(self)
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOPS_WITHIN)
            except subprocess.TimeoutExpired:
                self.kill()
                raise AssertionError(f"penstock serve did not end within {STOPS_WITHIN} s of SIGTERM") from None

    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def tool(self, *words):
        """Runs `penstock keys …` or the like on its database, whether it runs or not."""
        database = ("--database", self.place.database) if self.place.is_shared else ()
        return penstock(*words, "--data", self.folder / "data", *database, folder=self.folder)

    def make_key(self, *words, scopes="files,batches,admin"):
        """Of the default project. The audit needs one that lives to the end, in `place.key`."""
        made = self.tool("keys", "create", "--name", "a test", "--scopes", scopes, *words)
        assert made.returncode == 0, made.stderr
        return made.stdout.strip()

    def make_project(self, name, *limits):
        """Its id, and a key of its own. From then on nothing is asked for without one, and `place.key` is an admin's."""
        self.place.key = self.place.key or self.make_key()
        made = self.tool("projects", "create", name, *limits)
        assert made.returncode == 0, made.stderr
        project = made.stdout.strip()
        return project, self.make_key("--project", project, scopes="files,batches")

    def client(self, key="any"):
        # Without retries a test sees each answer as it came.
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, admin_api_key=key, max_retries=0)


class Worker(Server):
    """`penstock worker`, which has no API."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.url = None

    def words(self):
        return ["worker"]

    def start(self):
        self.launch()
        wait_until(self.has_joined, "the worker works", process=self.process)
        return self

    def has_joined(self):
        return "working, " in self.log.read_text()


class Connection:
    """A connection on which a test says every byte itself."""

    def __init__(self, server):
        self._socket = socket.create_connection(("127.0.0.1", server.port), timeout=20)
        self._file = self._socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()
        self._socket.close()

    def send(self, content):
        self._socket.sendall(content)

    def answer(self, has_body=True):
        """The next answer: its status, headers and body."""
        status = int(self._file.readline().split()[1])
        headers = http.client.parse_headers(self._file)
        return status, headers, self._file.read(int(headers["Content-Length"])) if has_body else b""

    def is_closed(self):
        """Whether the server says no more and closes."""
        return self._file.read() == b""


def blobs(server):
    """The names of the files that the server keeps."""
    return server.place.names()


def refused(call, words="", status=400):
    """Calls, expects a refusal and returns it."""
    with pytest.raises(openai.APIStatusError, match=words or None) as failure:
        call()
    assert failure.value.status_code == status
    assert set(failure.value.body) == {"message", "type", "param", "code"}
    return failure.value


def line(custom_id, body=None, url="/v1/chat/completions", **overrides):
    """One line of an input file. `body` is added to that of a short, answerable question."""
    default = {"model": MODEL, "max_tokens": 6}
    if url == "/v1/chat/completions":
        default["messages"] = [{"role": "user", "content": f"Say hello to {custom_id}."}]
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": default | (body or {}), **overrides}


def jsonl(lines):
    return "".join(json.dumps(one) + "\n" for one in lines).encode()


def parse(text):
    return [json.loads(one) for one in text.split("\n") if one]  # splitlines() would cut at U+2028 too


def upload(client, lines, name="input.jsonl"):
    content = lines if isinstance(lines, bytes) else jsonl(lines)
    return client.files.create(file=(name, content), purpose="batch")


def create_batch(client, lines, endpoint="/v1/chat/completions", **options):
    file = upload(client, lines)
    return client.batches.create(input_file_id=file.id, endpoint=endpoint, completion_window="24h", **options)


def finished(client, batch, seconds=240):
    """Waits for the batch to end, and returns it."""

    def ended():
        current = client.batches.retrieve(batch.id)
        return current if current.status in FINAL else None

    return wait_until(ended, f"{batch.id} has ended", seconds)


def output_lines(client, batch):
    return parse(client.files.content(batch.output_file_id).text) if batch.output_file_id else []


def error_lines(client, batch):
    return parse(client.files.content(batch.error_file_id).text) if batch.error_file_id else []


def penstock(*arguments, folder, env=None, timeout=120):
    """Runs the binary to its end in `folder`."""
    env = CLEAN_ENV | (env or {})
    return subprocess.run([BINARY, *map(str, arguments)], cwd=folder, env=env, capture_output=True, text=True, timeout=timeout)
