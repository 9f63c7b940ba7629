"""What the benchmarks share: processes that are started, watched and stopped, a small HTTP client, and seeded input."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
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


def median(values):
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def quantile(values, q):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]
