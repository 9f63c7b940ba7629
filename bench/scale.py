#!/usr/bin/env python3
"""What several workers on one PostgreSQL gain, how soon one takes over when another dies, and what a line costs there.
README.md says what the numbers mean."""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import dispatch
import lab

sys.path.insert(0, str(lab.ROOT / "tests"))
import services  # noqa: E402


class Shared:
    """A private PostgreSQL, and an S3 store if one can be had, else a folder. Each installation is a database of it and
    a prefix."""

    def __init__(self, stack, folder):
        self.postgres = stack.enter_context(services.Postgres(fsync=True))
        self.folder, self.installations = folder, 0
        try:
            self.s3 = stack.enter_context(services.S3())
        except services.Missing as why:
            print(f"scale.py: a folder in place of S3: {why}", file=sys.stderr)
            self.s3 = None

    def query(self, database, statement):
        return subprocess.run([self.postgres.programs / "psql", "-qAt", "-c", statement, "-d",
                               self.postgres.socket_url.replace("/postgres?", f"/{database}?")],
                              check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()

    def new(self):
        """The name of an empty installation and its environment."""
        self.installations += 1
        name = f"penstock_{self.installations}"
        self.query("postgres", f"CREATE DATABASE {name}")
        env = {"PENSTOCK_DATABASE": self.postgres.url.replace("/postgres", f"/{name}")}
        if not self.s3:
            return name, env | {"PENSTOCK_BLOBS": str(self.folder / name)}
        return name, env | {
            "PENSTOCK_BLOBS": f"s3://{services.BUCKET}/{name}", "AWS_ENDPOINT_URL": self.s3.url,
            "AWS_REGION": services.REGION, "AWS_ACCESS_KEY_ID": self.s3.key, "AWS_SECRET_ACCESS_KEY": self.s3.secret}


@contextlib.contextmanager
def installation(args, shared, folder, count):
    """A server and so many workers with an engine each. Yields the database's name, the server, its URL, the workers
    and the engines' URLs."""
    folder.mkdir()
    name, env = shared.new()
    with contextlib.ExitStack() as stack:
        server, url = stack.enter_context(lab.serve(args.bin, folder, "--no-worker", env=env))
        workers, engines = [], []
        for number in range(count):
            engine = stack.enter_context(lab.Process(
                [args.bin / "bench/instant_engine", "--delay-ms", args.delay_ms], folder / f"engine-{number}.log"))
            engines.append(f"http://127.0.0.1:{int(engine.process.stdout.readline())}")
            workers.append(stack.enter_context(lab.Process(
                [args.bin / "penstock", "worker", "--engine", engines[-1], "--slots", args.slots, "--data",
                 folder / f"worker-{number}"], folder / f"worker-{number}.log", env)))
        time.sleep(2)  # until each has seen the others
        yield name, server, url, workers, engines


def run_batch(url, server, input_path):
    """Returns the batch when it has completed, and the seconds from its creation until then."""
    conn = lab.connection(url)
    file_id = lab.upload(conn, input_path)
    start = time.monotonic()
    batch, _ = lab.wait_for_end(conn, server, lab.create_batch(conn, file_id))
    return batch, time.monotonic() - start


def check(url, batch, lines):
    if batch["status"] != "completed" or batch["request_counts"]["failed"] > 0:
        raise SystemExit(f"the batch did not complete: {json.dumps(batch)}")
    dispatch.check_output(lab.connection(url), batch["output_file_id"], lines)


def timed(args, shared, folder, input_path, count):
    """Seconds of the batch, and of its requests by the engines' watches."""
    with installation(args, shared, folder, count) as (_, server, url, _, engines):
        batch, seconds = run_batch(url, server, input_path)
        check(url, batch, args.lines)
        stats = [lab.get_json(lab.connection(engine), "/stats") for engine in engines]
        return seconds, max(s["last_answer"] for s in stats) - min(s["first_request"] for s in stats)


def taken_over(args, shared, folder, input_path):
    """Seconds from the death of one of two workers until the other has all that it held."""
    with installation(args, shared, folder, 2) as (name, server, url, workers, _):
        conn = lab.connection(url)
        batch_id = lab.create_batch(conn, lab.upload(conn, input_path))

        def held():
            rows = shared.query(name, "SELECT owner, COUNT(*) FROM spans WHERE owner IS NOT NULL"
                                      " AND entries > completed + failed GROUP BY owner")
            return dict(row.split("|") for row in rows)

        owners = held()
        while len(owners) < 2:
            time.sleep(0.05)
            owners = held()
        workers[0].process.send_signal(signal.SIGKILL)
        killed = time.monotonic()
        workers[0].process.wait()
        # The dead one is whose row stands still.
        beats = dict(row.split("|") for row in shared.query(name, "SELECT id, beats FROM processes"))
        time.sleep(2.5)
        now = dict(row.split("|") for row in shared.query(name, "SELECT id, beats FROM processes"))
        dead, = [owner for owner in owners if beats[owner] == now[owner]]
        while dead in held():
            time.sleep(0.05)
        seconds = time.monotonic() - killed
        batch, _ = lab.wait_for_end(conn, server, batch_id)
        check(url, batch, args.lines)
        return seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=12_800)
    parser.add_argument("--workers", type=int, default=4, help="with an engine each, against one with one")
    parser.add_argument("--slots", type=int, default=16, help="requests at a time and engine")
    parser.add_argument("--delay-ms", type=int, default=50, help="that an engine takes for each")
    parser.add_argument("--runs", type=int, default=3, help="medians are printed")
    parser.add_argument("--dispatch-lines", type=int, default=50_000, help="with an engine that answers at once")
    parser.add_argument("--bin", type=Path, default=lab.ROOT / "build/release", help="where the programs are")
    parser.add_argument("--scratch", help="where data folders go (default: the temporary folder)")
    args = parser.parse_args()
    tempfile.tempdir = args.scratch

    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="penstock-scale-")))
        input_path, large_path = folder / "input.jsonl", folder / "large.jsonl"
        dispatch.write_input(input_path, args.lines, 1)
        dispatch.write_input(large_path, args.dispatch_lines, 1)
        shared = Shared(stack, folder)
        one, many, deaths, embedded, apart = [], [], [], [], []
        for run in range(args.runs):
            one.append(timed(args, shared, folder / f"one-{run}", input_path, 1))
            many.append(timed(args, shared, folder / f"many-{run}", input_path, args.workers))
            deaths.append(taken_over(args, shared, folder / f"death-{run}", input_path))
            for kind, results, env in (("embedded", embedded, {}), ("apart", apart, shared.new()[1])):
                place = folder / f"{kind}-{run}"
                place.mkdir()
                asked = argparse.Namespace(bin=args.bin, slots=64, lines=args.dispatch_lines, pause=0)
                results.append(dispatch.one_run(asked, place, large_path, env))

    def median(values, digits=2):
        return round(lab.median(list(values)), digits)

    print(json.dumps({
        "benchmark": "scale", "lines": args.lines, "workers": args.workers, "slots": args.slots,
        "delay_ms": args.delay_ms, "runs": args.runs, "blobs": "s3" if shared.s3 else "folder",
        "load": round(os.getloadavg()[0], 1),
        "one_seconds": median(s for s, _ in one), "many_seconds": median(s for s, _ in many),
        "gain": median((a / b for (a, _), (b, _) in zip(one, many))),
        "engine_gain": median((a / b for (_, a), (_, b) in zip(one, many))),
        "ideal_seconds": round(args.lines * args.delay_ms / 1e3 / args.slots / args.workers, 2),
        "takeover_seconds": median(deaths), "takeover_seconds_max": round(max(deaths), 2),
        "dispatch_lines": args.dispatch_lines,
        **{f"{kind}_{key}": median((run[key] for run in runs), 1)
           for kind, runs in (("embedded", embedded), ("apart", apart))
           for key in ("lines_per_second", "server_cpu_us_per_line", "upload_mb_per_s")}}))


if __name__ == "__main__":
    main()
