#!/usr/bin/env python3
"""P4: how soon a batch begins, shows results and ends. README.md says what the numbers mean."""

import argparse
import json
import tempfile
import threading
import time
from pathlib import Path

import dispatch
import lab

FIRST_POLL_SECONDS = 0.002


def first_line(url, batch_id, times):
    """Follows the results from the batch's creation, and notes when their first line came."""
    conn = lab.connection(url)
    conn.request("GET", f"/v1/batches/{batch_id}/results?stream=true")
    if not conn.getresponse().readline():
        raise RuntimeError("the results ended without a line")
    times.append(time.monotonic())
    conn.close()


def first_count(url, batch_id):
    """When the batch first said that lines are completed."""
    conn = lab.connection(url)
    while lab.get_json(conn, f"/v1/batches/{batch_id}")["request_counts"]["completed"] == 0:
        time.sleep(FIRST_POLL_SECONDS)
    return time.monotonic()


def time_gets(url, path, stop, times):
    """What a GET takes on this machine, from a program that has little to do."""
    conn = lab.connection(url)
    while not stop.wait(lab.POLL_SECONDS):
        start = time.perf_counter()
        lab.get_json(conn, path)
        times.append(time.perf_counter() - start)


def one_run(args, folder, input_path):
    with lab.Process([args.bin / "bench/instant_engine", "--delay-ms", args.delay_ms], folder / "engine.log") as engine:
        engine_url = f"http://127.0.0.1:{int(engine.process.stdout.readline())}"
        with lab.serve(args.bin, folder, "--engine", engine_url, "--slots", args.slots) as (server, url):
            conn = lab.connection(url)
            file_id = lab.upload(conn, input_path)
            batch_id = lab.create_batch(conn, file_id)
            created, lines = time.monotonic(), []
            follower = threading.Thread(target=first_line, args=(url, batch_id, lines))
            follower.start()
            counted = first_count(url, batch_id)
            follower.join()
            with_engine = []
            stop = threading.Event()
            others = threading.Thread(target=time_gets, args=(engine_url, "/stats", stop, with_engine))
            others.start()
            batch, gets = lab.wait_for_end(conn, server, batch_id)
            ended = time.monotonic()
            stop.set()
            others.join()
            if batch["status"] != "completed" or batch["request_counts"]["failed"] > 0:
                raise SystemExit(f"the batch did not complete: {json.dumps(batch)}")
            seen = lab.get_json(lab.connection(engine_url), "/stats")
    return {
        "first_request_ms": (seen["first_request"] - created) * 1e3,
        "first_count_ms": (counted - created) * 1e3,
        "first_line_ms": (lines[0] - created) * 1e3,
        "end_ms": (ended - seen["last_answer"]) * 1e3,
        "get_p99_ms": lab.quantile(gets, 0.99) * 1e3,
        "engine_get_p99_ms": lab.quantile(with_engine, 0.99) * 1e3,
        "lines_per_second": args.lines / (seen["last_answer"] - seen["first_request"]),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=100_000)
    parser.add_argument("--delay-ms", type=int, default=20, help="of the engine, for each answer")
    parser.add_argument("--slots", type=int, default=64, help="requests in flight")
    parser.add_argument("--runs", type=int, default=3, help="each on a fresh data folder; medians are printed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--bin", type=Path, default=lab.ROOT / "build/release", help="where the programs are")
    parser.add_argument("--scratch", help="where data folders go: the disk under test (default: the temporary folder)")
    args = parser.parse_args()

    with tempfile.TemporaryDirectory(prefix="penstock-p4-", dir=args.scratch) as name:
        input_path = Path(name) / "input.jsonl"
        dispatch.write_input(input_path, args.lines, args.seed)
        runs = []
        for number in range(args.runs):
            folder = Path(name) / f"run-{number}"
            folder.mkdir()
            runs.append(one_run(args, folder, input_path))
    result = {"benchmark": "first_result", "lines": args.lines, "delay_ms": args.delay_ms, "slots": args.slots,
              "runs": args.runs, "seed": args.seed,
              "lines_per_second_max": round(args.slots / args.delay_ms * 1e3, 1)}
    for key in runs[0]:
        result[key] = round(lab.median([run[key] for run in runs]), 1)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
