#!/usr/bin/env python3
"""P9: what loading the dashboard costs, and what others feel of one that is open. README.md says what the numbers mean."""

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import lab
from dispatch import write_input

PLACES = ("none", "queue", "log")


def browser(args, *words, **options):
    program = args.browser_programs / "measure.mjs"
    if not program.exists():
        raise SystemExit(f"{program} is missing: the browser tests (tests/e2e/test_dashboard.py) bring it")
    env = {**os.environ, "CHROMIUM": args.chromium}
    return subprocess.Popen(["node", program, *words], stdout=subprocess.PIPE, text=True, env=env, **options)


@contextlib.contextmanager
def dashboard(args, url):
    """A browser with the dashboard. Yields what goes to a place and returns when something stands there."""
    page = browser(args, "open", url, stdin=subprocess.PIPE)

    def go(place):
        page.stdin.write(place + "\n")
        page.stdin.flush()
        if page.stdout.readline() != "open\n":
            raise SystemExit("the dashboard does not open")

    with page:
        yield go
        page.stdin.close()


def load(args, folder):
    with lab.serve(args.bin, folder, "--no-worker") as (_, url):
        with browser(args, "load", url, str(args.loads)) as page:
            loads = json.loads(page.stdout.read())
    first = loads[0]
    result = {"files": first["files"], "gzip_bytes": first["bytes"], "plain_bytes": first["bytes_plain"]}
    for key in ("first_paint_ms", "first_contentful_paint_ms", "ready_ms"):
        values = [one[key] for one in loads]
        result[f"{key}_min"], result[key] = round(min(values), 1), round(lab.median(values), 1)
    return result


def run_batch(args, folder, input_path, place):
    """What each GET of it took meanwhile, in seconds, with the dashboard open at that place."""
    engine = lab.Process([args.bin / "bench/instant_engine"], folder / "engine.log")
    with engine, contextlib.ExitStack() as stack:
        engine_url = f"http://127.0.0.1:{int(engine.process.stdout.readline())}"
        server, url = stack.enter_context(lab.serve(args.bin, folder, "--engine", engine_url, "--slots", args.slots))
        conn = lab.connection(url)
        file_id = lab.upload(conn, input_path)
        go = stack.enter_context(dashboard(args, url)) if place != "none" else None
        if go:
            go("#/queue")
        batch_id = lab.create_batch(conn, file_id)
        if place == "log":
            go(f"#/batches/{batch_id}/log")
        batch, gets = lab.wait_for_end(conn, server, batch_id)
        if batch["status"] != "completed" or batch["request_counts"]["failed"] > 0:
            raise SystemExit(f"the batch did not complete: {json.dumps(batch)}")
    return gets


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=50_000)
    parser.add_argument("--slots", type=int, default=64, help="requests in flight")
    parser.add_argument("--runs", type=int, default=5, help="of each place, in turn, each on a fresh data folder")
    parser.add_argument("--loads", type=int, default=10, help="of the page")
    parser.add_argument("--bin", type=Path, default=lab.ROOT / "build/release", help="where the programs are")
    parser.add_argument("--browser-programs", type=Path, default=lab.ROOT / "build/clients/browser")
    parser.add_argument("--chromium", default=shutil.which("chromium"))
    parser.add_argument("--scratch", help="where data folders go (default: the temporary folder)")
    args = parser.parse_args()

    with tempfile.TemporaryDirectory(prefix="penstock-dashboard-", dir=args.scratch) as name:
        folder = Path(name)
        (folder / "load").mkdir()
        result = {"benchmark": "dashboard", "lines": args.lines, "slots": args.slots, "runs": args.runs, **load(args, folder / "load")}
        write_input(folder / "input.jsonl", args.lines, 1)
        gets = {place: [] for place in PLACES}
        for number in range(args.runs):
            for place in PLACES:
                (folder / f"{place}-{number}").mkdir()
                gets[place] += run_batch(args, folder / f"{place}-{number}", folder / "input.jsonl", place)
        for place, took in gets.items():
            result[f"{place}_gets"] = len(took)
            result[f"{place}_get_median_ms"] = round(lab.median(took) * 1e3, 1)
            result[f"{place}_get_p99_ms"] = round(lab.quantile(took, 0.99) * 1e3, 1)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
