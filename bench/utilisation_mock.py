#!/usr/bin/env python3
"""P2: how full Penstock keeps engines with many sequences, against a bare client. README.md has what it measures."""

import argparse
import contextlib
import json
import random
import tempfile
from pathlib import Path

import lab

SYSTEM_PROMPTS = 32
SYSTEM_CHARS = 1600


def write_input(path, lines, seed):
    """max_tokens with ignore_eos fixes the lengths of answers, so all sides do the same work."""
    rng = random.Random(seed)
    systems = [lab.sentence(rng, SYSTEM_CHARS) for _ in range(SYSTEM_PROMPTS)]
    with open(path, "w") as out:
        for i in range(lines):
            out.write(lab.batch_line(f"request-{i:05}", {
                "model": "mock",
                "messages": [
                    {"role": "system", "content": rng.choice(systems)},
                    {"role": "user", "content": lab.sentence(rng, lab.lognormal(rng, 400, 0.8, 40, 8000))}],
                "max_tokens": lab.lognormal(rng, 120, 0.7, 8, 512), "ignore_eos": True}))


@contextlib.contextmanager
def engines(args, folder, count=1):
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(lab.mock_engine(args.bin, folder, "--speed", args.speed,
                                                   "--sequences", args.sequences, "--blocks", args.blocks))
               for _ in range(count)]


def share_in_flight(engine, lines, in_flight):
    """Of `in_flight`, from the first request until fewer than that are left to do."""
    return engine.stats(lines - in_flight + 1)["mean_in_flight"] / in_flight


def penstock_run(args, folder, input_path, lines, running, *flags):
    """The makespan by Penstock's summary, in the engine's time."""
    urls = [flag for engine in running for flag in ("--engine", engine.url)]
    return lab.run(args.bin / "penstock", folder, input_path, lines, *urls, *flags)[0] * args.speed


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=2_000)
    parser.add_argument("--sequences", type=int, default=256, help="of an engine")
    parser.add_argument("--blocks", type=int, default=24_576,
                        help="of an engine's cache; with fewer, more in flight is not better")
    parser.add_argument("--runs", type=int, default=3, help="pairs of closed loop and Penstock, one after the other")
    parser.add_argument("--engines", type=int, default=4, help="for the run with several, which has as many more lines")
    parser.add_argument("--sweep", type=int, nargs="*", default=[64, 128, 256, 512],
                        help="fixed numbers of requests in flight, against the one that Penstock finds")
    parser.add_argument("--speed", type=float, default=4, help="of the engines' time against the clock's")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--bin", type=Path, default=lab.ROOT / "build/release", help="where the programs are")
    args = parser.parse_args()

    loops, makespans, spans, loop_shares, shares, late = [], [], [], [], [], 0
    with tempfile.TemporaryDirectory(prefix="penstock-p2-") as name:
        folder = Path(name)
        input_path = folder / "input.jsonl"
        write_input(input_path, args.lines, args.seed)
        slots = ("--slots", args.sequences)
        for _ in range(args.runs):
            with engines(args, folder) as (engine,):
                lab.closed_loop(args.bin / "bench/closed_loop", input_path, engine.url, args.sequences)
                loops.append(engine.stats()["span_seconds"])
                loop_shares.append(share_in_flight(engine, args.lines, args.sequences))
                late += engine.stats()["late_seconds"]
            with engines(args, folder) as (engine,):
                makespans.append(penstock_run(args, folder, input_path, args.lines, [engine], *slots))
                spans.append(engine.stats()["span_seconds"])
                shares.append(share_in_flight(engine, args.lines, args.sequences))
                late += engine.stats()["late_seconds"]

        result = {
            "benchmark": "utilisation_mock", "lines": args.lines, "sequences": args.sequences, "blocks": args.blocks,
            "speed": args.speed, "runs": args.runs, "seed": args.seed,
            "closed_loop_seconds": round(lab.median(loops), 1),
            "penstock_seconds": round(lab.median(makespans), 1),
            "ratio": round(lab.median([b / a for a, b in zip(loops, makespans)]), 3),
            "engine_ratio": round(lab.median([b / a for a, b in zip(loops, spans)]), 3),
            "closed_loop_in_flight": round(lab.median(loop_shares), 4),
            "penstock_in_flight": round(lab.median(shares), 4),
            "late_seconds": round(late, 1),
        }

        if args.sweep:
            def span(*flags):
                with engines(args, folder) as (engine,):
                    penstock_run(args, folder, input_path, args.lines, [engine], *flags)
                    return engine.stats()["span_seconds"]

            fixed = {n: span("--slots", n) for n in args.sweep}
            found = span()
            best = min(fixed, key=fixed.get)
            result |= {"fixed_seconds": {n: round(seconds, 1) for n, seconds in fixed.items()}, "best_fixed": best,
                       "found_seconds": round(found, 1), "found_ratio": round(found / fixed[best], 3)}

        if args.engines > 1:
            write_input(input_path, args.lines * args.engines, args.seed)
            with engines(args, folder, args.engines) as running:
                many = penstock_run(args, folder, input_path, args.lines * args.engines, running, *slots)
            result |= {"engines": args.engines, "engines_seconds": round(many, 1),
                       "engines_gain": round(args.engines * lab.median(makespans) / many, 2)}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
