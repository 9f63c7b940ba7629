#!/usr/bin/env python3
"""P6: what the queue costs a line, on SQLite and on a private PostgreSQL. README.md says what the numbers mean."""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import lab

sys.path.insert(0, str(lab.ROOT / "tests"))
import services  # noqa: E402


def psql(server, *commands):
    command = [server.programs / "psql", "-qAt", "-d", server.socket_url, *(f"-c{command}" for command in commands)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True,
                          env=os.environ | {"PGOPTIONS": "--client-min-messages=warning"}).stdout


def cpu_seconds(server):
    """Of the database's processes, once those of the sessions have ended."""
    while psql(server, "SELECT pid FROM pg_stat_activity WHERE datname = 'queue'"):
        time.sleep(0.05)
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return sum(map(int, fields[11:15])) / lab.TICKS_PER_SECOND


def start(args, database, workers, group, *flags):
    command = [args.bin / "bench/work_queue", database, "--workers", workers, "--lines", args.lines, "--group", group,
               *flags]
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{command[0]} ended with {done.returncode}")
    return json.loads(done.stdout)


def one_run(args, database, workers, group, hold, server=None):
    """The queue, and the database's own rate just after."""
    used = cpu_seconds(server) if server else 0
    result = start(args, database, workers, group, *["--hold"] * hold)
    if server:
        result["database_cpu_us_per_line"] = (cpu_seconds(server) - used) * 1e6 / args.lines
    bare = start(args, database, workers, group, "--bare", result["stored_bytes_per_line"])
    rate, limit = result["lines_per_second"], bare["lines_per_second"]
    return result | {"bare_lines_per_second": limit, "ratio": rate / limit}


def on_sqlite(args, group, hold):
    with tempfile.TemporaryDirectory(prefix="penstock-queue-") as folder:
        return one_run(args, f"{folder}/penstock.db", 1, group, hold)


def on_postgres(args, server, workers, group, hold):
    psql(server, "DROP DATABASE IF EXISTS queue", "CREATE DATABASE queue", "CHECKPOINT")
    return one_run(args, server.socket_url.replace("/postgres?", "/queue?"), workers, group, hold, server)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--group", type=int, nargs="+", default=[256, 2048], help="lines a transaction")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 4, 16], help="on PostgreSQL")
    parser.add_argument("--runs", type=int, default=3, help="rounds of the whole series; medians are printed")
    parser.add_argument("--bin", type=Path, default=lab.ROOT / "build/release", help="where the programs are")
    parser.add_argument("--scratch", help="where databases go: the disk under test (default: the temporary folder)")
    args = parser.parse_args()
    tempfile.tempdir = args.scratch

    rounds = []
    with contextlib.ExitStack() as stack:
        try:
            server = stack.enter_context(services.Postgres(fsync=True))
        except services.Missing as why:
            print(f"work_queue.py: SQLite alone: {why}", file=sys.stderr)
            server = None
        for _ in range(args.runs):
            runs = []
            for group in args.group:
                runs += [on_sqlite(args, group, hold) for hold in (False, True)]
                runs += [on_postgres(args, server, workers, group, hold)
                         for workers in (args.workers if server else []) for hold in (False, True)]
            rounds.append(runs)
    for runs in zip(*rounds):
        result = {"benchmark": "work_queue"} | runs[0] | {"runs": args.runs, "load": round(os.getloadavg()[0], 1)}
        del result["kind"]
        for key in ("lines_per_second", "client_cpu_us_per_line", "database_cpu_us_per_line", "bare_lines_per_second",
                    "ratio"):
            if key in result:
                result[key] = round(lab.median([run[key] for run in runs]), 2)
        print(json.dumps(result))


if __name__ == "__main__":
    main()
