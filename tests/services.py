#!/usr/bin/env python3
"""Private servers of what Penstock can stand on, for tests: on loopback, in temporary folders, gone when their user is.

    services.py run postgres s3 moto toxiproxy -- COMMAND…

runs the command with those that are named, and with their addresses in its environment:

    postgres   PENSTOCK_TEST_POSTGRES, the URL of a PostgreSQL server on which databases may be made
    s3         PENSTOCK_TEST_S3_ENDPOINT, _BUCKET, _KEY, _SECRET and _REGION of a versitygw, which checks signatures
    moto       PENSTOCK_TEST_MOTO_… in the same way, of a stand-in for S3 that does not check them
    toxiproxy  PENSTOCK_TEST_TOXIPROXY, the URL of its API

One that cannot run here is left out, with a line that says why: tests that want it see no address, and skip.
"""

import argparse
import ctypes
import json
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path

TOOLS = Path(__file__).parents[1] / "build/tools"
STARTS_WITHIN = 60  # seconds
BUCKET = "penstock"
REGION = "us-east-1"

_libc = ctypes.CDLL(None)


class Missing(Exception):
    """A service cannot run here."""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(command, death_signal=signal.SIGKILL, **options):
    """Starts a process that gets the signal when this one ends, however it ends."""
    PR_SET_PDEATHSIG = 1
    return subprocess.Popen(command, preexec_fn=lambda: _libc.prctl(PR_SET_PDEATHSIG, int(death_signal)), **options)


class Service:
    """A process with a port and a folder of its own, which stay the same over restarts."""

    death_signal = signal.SIGKILL

    def __init__(self):
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix=f"penstock-{type(self).__name__.lower()}-"))
        self.log = self.folder / "log"
        self.process = None
        try:
            self.prepare()
            self.start()
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def prepare(self):
        """Makes what it needs before its first start."""

    def command(self):
        raise NotImplementedError

    def is_up(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def start(self, **options):
        with self.log.open("ab") as log:
            self.process = start(
                self.command(), self.death_signal, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **options
            )
        deadline = time.monotonic() + STARTS_WITHIN
        while not self.is_up():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{type(self).__name__} did not start:\n{self.log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.02)

    def stop(self, how=None):
        """Ends it with that signal; start() goes on with what it had."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(how or self.death_signal)
            self.process.wait(STARTS_WITHIN)

    def close(self):
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


class Postgres(Service):
    """A cluster of Debian's PostgreSQL. What it has committed outlives its processes, and with `fsync` a power cut too."""

    death_signal = signal.SIGQUIT  # at once, without a checkpoint

    IMMEDIATE = signal.SIGQUIT
    FAST = signal.SIGINT

    def __init__(self, fsync=False):
        self.fsync = fsync
        # It refuses to run as root.
        self.user = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
        if not found or self.user and "postgres" not in (one.pw_name for one in pwd.getpwall()):
            raise Missing("PostgreSQL is not installed")
        self.programs = found[-1].parent
        self.password = secrets.token_hex(16)
        super().__init__()
        self.url = f"postgres://penstock:{self.password}@127.0.0.1:{self.port}/postgres"
        self.socket_url = f"postgres://penstock@/postgres?host={self.folder}&port={self.port}"

    def prepare(self):
        password_file = self.folder / "password"
        password_file.write_text(self.password)
        if self.user:
            for path in (self.folder, password_file):
                shutil.chown(path, "postgres", "postgres")
        made = subprocess.run(
            [
                *(self.programs / "initdb", "--pgdata", "data", "--username", "penstock", "--pwfile", password_file),
                *("--auth-host", "scram-sha-256", "--auth-local", "trust"),  # nobody else can open the folder
                *("--encoding", "UTF8", "--locale", "C.UTF-8", "--wal-segsize", "16" if self.fsync else "1", "--no-sync"),
            ],
            cwd=self.folder,
            capture_output=True,
            text=True,
            **self.user,
        )
        if made.returncode != 0:
            raise RuntimeError(made.stderr)

    def command(self):
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": self.folder,
            "max_connections": 200,
            "fsync": "on" if self.fsync else "off",
            "full_page_writes": "on" if self.fsync else "off",
        }
        return [self.programs / "postgres", "-D", "data", *(f"--{name}={value}" for name, value in settings.items())]

    def is_up(self):
        # An open port is not enough: it can be recovering still.
        asked = [self.programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(asked, env=os.environ | {"PGCONNECT_TIMEOUT": "5"}).returncode == 0

    def start(self):
        super().start(**self.user)

    def environment(self):
        return {"PENSTOCK_TEST_POSTGRES": self.url}


class Store(Service):
    """An S3 server with a bucket."""

    names = ""  # of the settings, in the environment

    def __init__(self):
        self.key = "penstock"
        self.secret = secrets.token_hex(16)
        super().__init__()
        self.url = f"http://127.0.0.1:{self.port}"

    def environment(self):
        settings = {"ENDPOINT": self.url, "BUCKET": BUCKET, "KEY": self.key, "SECRET": self.secret, "REGION": REGION}
        return {f"PENSTOCK_TEST_{self.names}_{name}": value for name, value in settings.items()}


class S3(Store):
    """versitygw, whose objects are the files of a folder."""

    names = "S3"

    def __init__(self):
        if not (TOOLS / "versitygw").exists():
            raise Missing("versitygw is not built: scripts/tools.sh does it")
        super().__init__()

    def prepare(self):
        self.objects = self.folder / "objects" / BUCKET
        self.objects.mkdir(parents=True)
        (self.folder / "about").mkdir()

    def command(self):
        return [
            *(TOOLS / "versitygw", "--port", f"127.0.0.1:{self.port}", "--region", REGION, "--keep-alive", "--quiet"),
            *("posix", "--sidecar", self.folder / "about", self.folder / "objects"),  # not every file system has the attributes that it would use
        ]

    def name_of_upload(self, path):
        """The key of what is uploaded in parts to that path, which ends in a hash of it; nothing when that has ended."""
        about = self.folder / "about" / path.relative_to(self.objects.parent) / "meta/objname"
        return about.read_text() if path.exists() and about.exists() else ""

    def start(self):
        super().start(env=os.environ | {"ROOT_ACCESS_KEY": self.key, "ROOT_SECRET_KEY": self.secret})


class Moto(Store):
    names = "MOTO"

    def command(self):
        return [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]

    def start(self):
        super().start(env=os.environ | {"AWS_DEFAULT_REGION": REGION})
        # It has forgotten what it had.
        urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{self.port}/{BUCKET}", method="PUT")).close()


class Toxiproxy(Service):
    """A server of proxies that spoil connections; one process has any number of them."""

    def __init__(self):
        if not (TOOLS / "toxiproxy").exists():
            raise Missing("toxiproxy is not built: scripts/tools.sh does it")
        super().__init__()
        self.url = f"http://127.0.0.1:{self.port}"

    def command(self):
        return [TOOLS / "toxiproxy", "-host", "127.0.0.1", "-port", str(self.port)]

    def environment(self):
        return {"PENSTOCK_TEST_TOXIPROXY": self.url}

    def proxy(self, upstream):
        return Proxy(self.url, upstream)


class Proxy:
    """A way to the port `upstream` that can be spoilt."""

    def __init__(self, api, upstream):
        self.api = api
        self.port = free_port()
        self.name = f"to-{upstream}-{self.port}"
        self._call("POST", "proxies", name=self.name, listen=f"127.0.0.1:{self.port}", upstream=f"127.0.0.1:{upstream}")

    def cut(self):
        """Ends its connections and takes no new ones."""
        self._call("POST", f"proxies/{self.name}", enabled=False)

    def mend(self):
        """Takes away all that spoils it."""
        self._call("POST", f"proxies/{self.name}", enabled=True)
        for toxic in self._call("GET", f"proxies/{self.name}/toxics"):
            self._call("DELETE", f"proxies/{self.name}/toxics/{toxic['name']}")

    def spoil(self, kind, stream="downstream", **attributes):
        """With one of toxiproxy's toxics, e.g. `timeout` (with timeout=0: all bytes are lost), `latency`, `limit_data`."""
        self._call("POST", f"proxies/{self.name}/toxics", type=kind, stream=stream, attributes=attributes)

    def _call(self, method, path, **body):
        content = json.dumps(body).encode() if body else None
        with urllib.request.urlopen(urllib.request.Request(f"{self.api}/{path}", content, method=method)) as answer:
            return json.loads(answer.read() or b"null")


SERVICES = {"postgres": Postgres, "s3": S3, "moto": Moto, "toxiproxy": Toxiproxy}


def run(names, command):
    """Runs the command with those services, and returns what it exits with."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    signal.signal(signal.SIGINT, lambda *_: sys.exit(128 + signal.SIGINT))
    environment = dict(os.environ)
    with ExitStack() as stack:
        for name in names:
            try:
                environment |= stack.enter_context(SERVICES[name]()).environment()
            except Missing as why:
                print(f"services.py: no {name}: {why}", file=sys.stderr)
        process = start(command, signal.SIGTERM, env=environment)
        try:
            return process.wait()
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, usage="services.py run NAME… -- COMMAND…"
    )
    parser.add_argument("run", choices=["run"])
    parser.add_argument("names", nargs="+", choices=SERVICES)
    arguments, separator, command = [*sys.argv[1:]], "--", []
    if separator in arguments:
        cut = arguments.index(separator)
        arguments, command = arguments[:cut], arguments[cut + 1 :]
    names = parser.parse_args(arguments).names
    if not command:
        parser.error("there is no command")
    status = run(names, command)
    return 128 - status if status < 0 else status


if __name__ == "__main__":
    sys.exit(main())
