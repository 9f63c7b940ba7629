#!/usr/bin/env python3
"""P8: what one slow engine among several costs. README.md says what the numbers mean."""

import argparse
import contextlib
import json
import random
import tempfile
from pathlib import Path

import lab


def write_input(path, lines, seed):
    rng = random.Random(seed)
    with open(path, "w") as out:
        for i in range(lines):
            out.write(lab.batch_line(f"request-{i:05}", {
                "model": "mock",
                "messages": [{"role": "user", "content": lab.sentence(rng, lab.lognormal(rng, 300, 0.7, 40, 4000))}],
                "max_tokens": lab.lognormal(rng, 40, 0.6, 8, 160), "ignore_eos": True}))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=20_000)
    parser.add_argument("--engines", type=int, default=4, help="the slow one among them")
    parser.add_argument("--slower", type=float, default=10)
    parser.add_argument("--sequences", type=int, default=64, help="of an engine, and requests in flight at it")
    parser.add_argument("--speed", type=float, default=4, help="of the engines' time against the clock's")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--bin", type=Path, default=lab.ROOT / "build/release", help="where the programs are")
    args = parser.parse_args()

    with tempfile.TemporaryDirectory(prefix="penstock-p8-") as name:
        folder = Path(name)
        input_path = folder / "input.jsonl"
        write_input(input_path, args.lines, args.seed)
        flags = ("--speed", args.speed, "--sequences", args.sequences)

        # A quick one has this rate while it is full.
        sample = args.lines // args.engines
        full = sample - args.sequences + 1
        with lab.mock_engine(args.bin, folder, *flags) as engine:
            lab.closed_loop(args.bin / "bench/closed_loop", input_path, engine.url, args.sequences, sample)
            rate = full / engine.stats(full)["until_seconds"]
        ideal = args.lines / (rate * (args.engines - 1 + 1 / args.slower))

        with contextlib.ExitStack() as stack:
            engines = [stack.enter_context(lab.mock_engine(args.bin, folder, *flags)) for _ in range(args.engines - 1)]
            engines.append(stack.enter_context(lab.mock_engine(args.bin, folder, *flags, "--slower", args.slower)))
            urls = [flag for engine in engines for flag in ("--engine", engine.url)]
            makespan = lab.run(args.bin / "penstock", folder, input_path, args.lines, *urls,
                               "--slots", args.sequences)[0] * args.speed
            stats = [engine.stats() for engine in engines]
    print(json.dumps({
        "benchmark": "slow_engine", "lines": args.lines, "engines": args.engines, "slower": args.slower,
        "sequences": args.sequences, "speed": args.speed, "seed": args.seed,
        "lines_per_second": round(rate, 1), "ideal_seconds": round(ideal, 1), "penstock_seconds": round(makespan, 1),
        "ratio": round(makespan / ideal, 3),
        "engine_ratio": round(max(s["span_seconds"] for s in stats) / ideal, 3),
        "last_answer_seconds": [round(s["span_seconds"], 1) for s in stats],
        "answers": [s["finished"] for s in stats],
        "late_seconds": round(sum(s["late_seconds"] for s in stats), 1)}))


if __name__ == "__main__":
    main()
