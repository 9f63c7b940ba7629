#!/usr/bin/env python3
"""How many of what so many engines need, and what limits them first: the table of docs/scale.md, in Markdown.

Nothing is measured here. Constants are what the program does, and what the benchmarks beside this file measured.
"""

import argparse
import math

# What the program does.
SESSIONS = 4 + 4 + 1 + 1      # of a process with the database, at most: writing, reading, beats, listening (store/db.cpp)
BEATS = 1                     # of a process, a second (batch/fleet.h)
SAVE_AFTER = 0.050            # seconds that an answer waits for others to be saved with (cli/app.cpp)
CLAIM_LINES = 2048            # that a worker takes at once (batch/dispatcher.cpp)
RESULTS_KEPT = 3600           # seconds after a batch's end (batch/lifecycle.h)
PLAN_BYTES = 16               # of a line, in the object store (model/types.h)
ENTRY_BYTES = 8               # of a line, in the database, beside its answer (store/store_spans.cpp)

# What was measured; bench/README.md says how, and on what.
DATABASE_LINES = 50_000       # a second, in transactions of 256, saved for 4 and 16 workers (bench/work_queue.py)
COMMIT = 0.002                # seconds of a transaction that saves results, with a disk that syncs in one
UPLOAD_BYTES = 250e6          # a second and core: received, checked and written (bench/dispatch.py)


def count(value):
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.1f}"


def size(value):
    for unit in ("B", "KB", "MB", "GB", "TB", "PB"):
        if value < 1000 or unit == "PB":
            return f"{value:.3g} {unit}" if value < 100 else f"{value:.0f} {unit}"
        value /= 1000


def plan(engines, args):
    lines = engines * args.lines_per_engine
    workers = max(2, math.ceil(engines / args.engines_per_worker))
    bytes_in, bytes_out = lines * args.input_bytes, lines * args.output_bytes
    # Two, so that one may die, and one more for each core that uploads and downloads keep busy half the time.
    servers = 2 + math.floor((bytes_in + bytes_out) / (UPLOAD_BYTES / 2))
    processes = workers + servers
    # A worker saves again when an answer has come, SAVE_AFTER has gone by and its last transaction has ended; those of
    # one batch are saved one after another.
    each = lines / workers
    saves = min(workers / (1 / each + SAVE_AFTER + COMMIT), 1 / COMMIT)
    stored = args.output_bytes / args.compression + ENTRY_BYTES
    return {
        "lines a second": count(lines),
        "requests under way": count(engines * args.in_flight),
        "workers": count(workers),
        "servers": count(servers),
        "database: sessions at most": count(processes * SESSIONS),
        "database: beats a second": count(processes * BEATS),
        "database: rows read for beats, a second": count(processes * processes * BEATS),
        "database: transactions that save results, a second": count(saves),
        "… lines in each": count(lines / saves),
        "… seconds until an answer is saved, at most": f"{max(1 / each + SAVE_AFTER + COMMIT, workers * COMMIT):.2f}",
        "database: claims a second": count(lines / CLAIM_LINES),
        "database: bytes written a second": size(2 * lines * stored),
        "database: results kept for an hour": size(lines * stored * RESULTS_KEPT),
        "database: part of its lines a second": f"{lines / DATABASE_LINES:.0%}",
        "object store: written a second": size(bytes_in + bytes_out + lines * PLAN_BYTES),
        f"object store: kept for {args.days} days": size(
            (bytes_in + bytes_out + lines * PLAN_BYTES) * 86_400 * args.days),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", type=int, nargs="+", default=[10, 100, 1_000, 10_000])
    parser.add_argument("--lines-per-engine", type=float, default=10, help="a second")
    parser.add_argument("--in-flight", type=int, default=256, help="requests at a time and engine")
    parser.add_argument("--engines-per-worker", type=int, default=16)
    parser.add_argument("--input-bytes", type=int, default=2_000, help="of a line")
    parser.add_argument("--output-bytes", type=int, default=1_500, help="of a line")
    parser.add_argument("--compression", type=float, default=3, help="how many times smaller answers are stored")
    parser.add_argument("--days", type=int, default=30, help="that files are kept")
    args = parser.parse_args()

    plans = [plan(engines, args) for engines in args.engines]
    print("| engines | " + " | ".join(count(engines) for engines in args.engines) + " |")
    print("|---|" + "---:|" * len(plans))
    for name in plans[0]:
        print(f"| {name} | " + " | ".join(one[name] for one in plans) + " |")


if __name__ == "__main__":
    main()
