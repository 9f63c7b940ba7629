"""What the benchmarks share: processes that are started, watched and stopped, a small HTTP client, and seeded input."""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
POLL_SECONDS = 0.02
STALL_SECONDS = 60
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")

# Whoever ends a benchmark early ends what it started, too.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))


class Process:
    """A program under measurement. Its standard error goes to a file, whose end is shown when something fails."""

    def __init__(self, argv, log, env=None):
        self.name = Path(argv[0]).name
        self.log = Path(log)
        with open(self.log, "w") as err:
            self.process = subprocess.Popen(
                [str(a) for a in argv], stdout=subprocess.PIPE, stderr=err, text=True,
                env={**os.environ, **(env or {})})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process.stdout.close()

    def check(self):
        if self.process.poll() is not None:
            raise SystemExit(f"{self.name} ended with {self.process.returncode}:\n{self.last_words()}")

    def last_words(self):
        return "".join(self.log.read_text(errors="replace").splitlines(keepends=True)[-20:])

    def cpu_seconds(self):
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND  # utime and stime of all threads

    def main_thread_seconds(self):
        """How long the main thread ran, and how long it was ready to run and had to wait for a core."""
        pid = self.process.pid
        ran, waited, _ = Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()
        return int(ran) / 1e9, int(waited) / 1e9

    def peak_rss_mb(self):
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
        raise RuntimeError("no VmHWM")


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost")
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)


def connection(url):
    """`http://HOST:PORT` or `unix:PATH`."""
    if url.startswith("unix:"):
        return UnixConnection(url.removeprefix("unix:"))
    return http.client.HTTPConnection(url.removeprefix("http://"))


def get_json(conn, path):
    conn.request("GET", path)
    response = conn.getresponse()
    body = response.read()
    if response.status != 200:
        raise RuntimeError(f"GET {path}: {response.status} {body[:500]!r}")
    return json.loads(body)


def wait_until_answers(process, url, path, seconds=60):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        process.check()
        with contextlib.suppress(OSError, RuntimeError, http.client.HTTPException):
            return get_json(connection(url), path)
        time.sleep(0.02)
    raise SystemExit(f"{process.name} does not answer GET {path}:\n{process.last_words()}")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@contextlib.contextmanager
def serve(folder_of_programs, folder, *flags, env=None):
    """A Penstock with a fresh data folder in `folder`. Yields its process and its URL."""
    port = free_port()
    server = Process(
        [folder_of_programs / "penstock", "serve", "--listen", f"127.0.0.1:{port}", "--data", folder / "data", *flags],
        folder / "server.log",
        # Only what is still unset: the environment may ask for other limits.
        {key: os.environ.get(key, value) for key, value in {
            "MAX_REQUESTS_PER_JOB": "0", "MAX_TOTAL_QUEUED_REQUESTS": "0",
            "MAX_BATCH_FILE_BYTES": str(10**12), **(env or {})}.items()})
    with server:
        url = f"http://127.0.0.1:{port}"
        wait_until_answers(server, url, "/healthz")
        yield server, url


def upload(conn, path):
    """A streamed multipart upload, as the OpenAI client sends it. Returns the file's id."""
    boundary = "bench-5f0c6d1e"
    head = (f'--{boundary}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="input.jsonl"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n").encode()
    tail = f"\r\n--{boundary}--\r\n".encode()
    conn.putrequest("POST", "/v1/files")
    conn.putheader("Content-Type", f"multipart/form-data; boundary={boundary}")
    conn.putheader("Content-Length", str(len(head) + os.path.getsize(path) + len(tail)))
    conn.endheaders(head)
    with open(path, "rb") as f:
        while chunk := f.read(1 << 18):
            conn.send(chunk)
    conn.send(tail)
    response = conn.getresponse()
    body = response.read()
    if response.status != 200:
        raise SystemExit(f"POST /v1/files: {response.status} {body!r}")
    return json.loads(body)["id"]


def create_batch(conn, file_id):
    body = json.dumps({"input_file_id": file_id, "endpoint": "/v1/chat/completions", "completion_window": "24h"})
    conn.request("POST", "/v1/batches", body, {"Content-Type": "application/json"})
    response = conn.getresponse()
    answer = response.read()
    if response.status != 200:
        raise SystemExit(f"POST /v1/batches: {response.status} {answer!r}")
    return json.loads(answer)["id"]


def wait_for_end(conn, server, batch_id):
    """Polls until the batch has ended. Returns the batch and what each GET took."""
    gets, news, counts = [], time.monotonic(), None
    while True:
        server.check()
        start = time.perf_counter()
        batch = get_json(conn, f"/v1/batches/{batch_id}")
        gets.append(time.perf_counter() - start)
        if batch["status"] in ("completed", "failed", "expired", "cancelled"):
            return batch, gets
        state = (batch["status"], batch["request_counts"])
        if state != counts:
            news, counts = time.monotonic(), state
        elif time.monotonic() - news > STALL_SECONDS:
            raise SystemExit(f"nothing moves any more, at {state}:\n{server.last_words()}")
        time.sleep(POLL_SECONDS)


def run(program, folder, input_path, lines, *flags, env=None):
    """`penstock run` of that file. Returns the batch's makespan and the output tokens, by its own summary, and the wall
    time of the whole command."""
    start = time.monotonic()
    done = subprocess.run([str(a) for a in (program, "run", input_path, "-o", folder / "output.jsonl", *flags)],
                          stderr=subprocess.PIPE, text=True, env={**os.environ, **(env or {})})
    wall = time.monotonic() - start
    summary = re.search(r"(\d+) output tokens, ([\d.]+) s,", done.stderr)
    if done.returncode != 0 or not summary:
        raise SystemExit(f"penstock run ended with {done.returncode}:\n{done.stderr}")
    with open(folder / "output.jsonl") as f:
        count = sum(1 for _ in f)
    if count != lines:
        raise SystemExit(f"{count} output lines for {lines} input lines")
    return float(summary[2]), int(summary[1]), wall


class MockEngine:
    """A running mock_engine."""

    def __init__(self, process, url):
        self.process, self.url = process, url

    def stats(self, finished=None):
        """mock_engine.cpp says what they are. `until_seconds` and `mean_in_flight` are until so many have
        finished."""
        return get_json(connection(self.url), "/stats" + (f"?finished={finished}" if finished else ""))


@contextlib.contextmanager
def mock_engine(folder_of_programs, folder, *flags):
    number = len(list(folder.glob("mock_engine-*.log")))
    process = Process([folder_of_programs / "bench/mock_engine", *flags], folder / f"mock_engine-{number}.log")
    with process:
        yield MockEngine(process, f"http://127.0.0.1:{int(process.process.stdout.readline())}")


@contextlib.contextmanager
def llama_server(args, folder, model, slots, context, *flags, cache_ram="0"):
    """A fresh one, with keys and values apart for each slot. `args` names the program and the GGUF."""
    path = folder / "llama.sock"
    path.unlink(missing_ok=True)
    process = Process(
        [args.llama_server, "--model", args.gguf, "--alias", model, "--host", path, "--parallel", slots,
         "--ctx-size", slots * context, "--no-kv-unified", "--cache-ram", cache_ram, "--no-ui", *flags],
        folder / "llama-server.log")
    with process:
        url = f"unix:{path}"
        wait_until_answers(process, url, "/health")
        yield process, url


def closed_loop(program, path, engine, in_flight, lines=None):
    """The limit: what a bare client gets out of the same engine."""
    argv = [str(program), str(path), "--engine", engine, "--in-flight", str(in_flight)]
    if lines:
        argv += ["--lines", str(lines)]
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise SystemExit(f"closed_loop ended with {done.returncode}: {done.stdout}")
    return json.loads(done.stdout)


WORDS = (
    "the battery lasts two days and screen is bright enough outdoors but keyboard feels loud delivery took nine "
    "longer than promised support answered within an hour would buy this machine again price fair speakers weak "
    "update broke camera returned it after week refund came quickly box was damaged colour differs from picture"
).split()


def sentence(rng, size):
    text = ""
    while len(text) < size:
        text += rng.choice(WORDS) + " "
    return text[:size].strip()


def batch_line(custom_id, body):
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body}) + "\n"


def lognormal(rng, median, sigma, low, high):
    return min(high, max(low, round(median * rng.lognormvariate(0, sigma))))


def median(values):
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def quantile(values, q):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]
