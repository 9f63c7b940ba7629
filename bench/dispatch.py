#!/usr/bin/env python3
"""P1: what Penstock itself costs a line. README.md says what the numbers mean."""

import argparse
import json
import os
import random
import tempfile
import time
from pathlib import Path

import lab

CLOSED_LOOP_LINES_MAX = 50_000


def write_input(path, lines, seed):
    """About 580 bytes a line: a short instruction and a review of about 280 characters."""
    rng = random.Random(seed)
    reviews = [lab.sentence(rng, rng.randint(230, 330)) for _ in range(2_000)]
    with open(path, "w") as out:
        for i in range(lines):
            out.write(lab.batch_line(f"request-{i:07}", {
                "model": "bench",
                "messages": [
                    {"role": "system", "content": "Classify the review as positive, negative or mixed, and say why."},
                    {"role": "user", "content": reviews[rng.randrange(len(reviews))]}],
                "max_tokens": 64, "temperature": 0}))


def check_output(conn, file_id, lines):
    """Every custom_id once and in the order of the input."""
    conn.request("GET", f"/v1/files/{file_id}/content")
    response = conn.getresponse()
    count = 0
    for count, line in enumerate(response, start=1):
        answer = json.loads(line)
        if answer["custom_id"] != f"request-{count - 1:07}" or answer["response"]["status_code"] != 200:
            raise SystemExit(f"output line {count} is not the answer to input line {count}: {line!r}")
    if count != lines:
        raise SystemExit(f"{count} output lines for {lines} input lines")


def one_run(args, folder, input_path, env=None):
    engine = lab.Process([args.bin / "bench/instant_engine"], folder / "engine.log")
    with engine:
        engine_url = f"http://127.0.0.1:{int(engine.process.stdout.readline())}"
        limit = lab.closed_loop(args.bin / "bench/closed_loop", input_path, engine_url, args.slots,
                                min(args.lines, CLOSED_LOOP_LINES_MAX))
        with lab.serve(args.bin, folder, "--engine", engine_url, "--slots", args.slots, env=env) as (server, url):
            conn = lab.connection(url)
            start = time.monotonic()
            file_id = lab.upload(conn, input_path)
            upload_seconds = time.monotonic() - start
            upload_rss = server.peak_rss_mb()
            if args.pause:
                print(f"penstock is process {server.process.pid}", flush=True)
                time.sleep(args.pause)

            server_cpu, engine_cpu, start = server.cpu_seconds(), engine.cpu_seconds(), time.monotonic()
            batch, gets = lab.wait_for_end(conn, server, lab.create_batch(conn, file_id))
            seconds = time.monotonic() - start
            server_cpu, engine_cpu = server.cpu_seconds() - server_cpu, engine.cpu_seconds() - engine_cpu
            if batch["status"] != "completed" or batch["request_counts"]["failed"] > 0:
                raise SystemExit(f"the batch did not complete: {json.dumps(batch)}")
            peak_rss = server.peak_rss_mb()
            check_output(conn, batch["output_file_id"], args.lines)
    rate = args.lines / seconds
    return {
        "lines_per_second": rate,
        "server_cpu_us_per_line": server_cpu * 1e6 / args.lines,
        "engine_cpu_us_per_line": engine_cpu * 1e6 / args.lines,
        "peak_rss_mb": peak_rss,
        "upload_peak_rss_mb": upload_rss,
        "upload_mb_per_s": os.path.getsize(input_path) / 1e6 / upload_seconds,
        "get_p99_ms": lab.quantile(gets, 0.99) * 1e3,
        "closed_loop_per_second": limit["requests_per_second"],
        "closed_loop_cpu_us": limit["cpu_us_per_request"],
        "ratio": rate / limit["requests_per_second"],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=50_000)
    parser.add_argument("--slots", type=int, default=64, help="requests in flight")
    parser.add_argument("--runs", type=int, default=3, help="each on a fresh data folder; medians are printed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--bin", type=Path, default=lab.ROOT / "build/release", help="where the programs are")
    parser.add_argument("--scratch", help="where data folders go: the disk under test (default: the temporary folder)")
    parser.add_argument("--pause", type=float, default=0, help="seconds before the batch, to attach a profiler")
    args = parser.parse_args()

    with tempfile.TemporaryDirectory(prefix="penstock-dispatch-", dir=args.scratch) as name:
        input_path = Path(name) / "input.jsonl"
        write_input(input_path, args.lines, args.seed)
        runs = []
        for number in range(args.runs):
            folder = Path(name) / f"run-{number}"
            folder.mkdir()
            runs.append(one_run(args, folder, input_path))
        line_bytes = os.path.getsize(input_path) / args.lines
    result = {"benchmark": "dispatch", "lines": args.lines, "line_bytes": round(line_bytes), "slots": args.slots,
              "runs": args.runs, "seed": args.seed}
    for key in runs[0]:
        result[key] = round(lab.median([run[key] for run in runs]), 3 if key == "ratio" else 1)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
