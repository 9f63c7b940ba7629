#!/usr/bin/env python3
"""P2: how full Penstock keeps a real engine, against a bare client. README.md says what the numbers mean."""

import argparse
import contextlib
import json
import random
import re
import tempfile
import time
from pathlib import Path

import lab

MODEL = "smollm2"
CONTEXT = 4096  # tokens a slot, as Penstock's default
TOKENS_MIN, TOKENS_MAX = 4, 64


def write_input(path, lines, seed):
    """Short prompts. The lengths of answers are fixed by max_tokens with ignore_eos, so both sides do the same work."""
    rng = random.Random(seed)
    with open(path, "w") as out:
        for i in range(lines):
            tokens = min(TOKENS_MAX, max(TOKENS_MIN, round(rng.lognormvariate(2.9, 0.7))))
            out.write(lab.batch_line(f"request-{i:05}", {
                "model": MODEL, "messages": [{"role": "user", "content": lab.sentence(rng, rng.randint(40, 120))}],
                "max_tokens": tokens, "ignore_eos": True, "temperature": 0}))


def thread_flags(args):
    return ["--threads", str(args.threads)] if args.threads else []


class Engine:
    """A llama-server under load, and what it did since it was ready. Its main thread computes."""

    def __init__(self, process, url):
        self.process, self.url = process, url
        self.start, self.busy = time.monotonic(), sum(process.main_thread_seconds())

    def idle_seconds(self):
        return time.monotonic() - self.start - (sum(self.process.main_thread_seconds()) - self.busy)

    def steps(self):
        """How many batches it has computed, and how many of its slots were busy in the average one."""
        conn = lab.connection(self.url)
        conn.request("GET", "/metrics")
        text = conn.getresponse().read().decode()
        return tuple(float(re.search(rf"^llamacpp:{name} (\S+)", text, re.MULTILINE)[1])
                     for name in ("n_decode_total", "n_busy_slots_per_decode"))


@contextlib.contextmanager
def llama_server(args, folder):
    """A fresh one with empty caches, started as Penstock's managed engine starts its own (command_template())."""
    with lab.llama_server(args, folder, MODEL, args.slots, CONTEXT, "--metrics", *thread_flags(args)) as (process, url):
        yield Engine(process, url)


def penstock_run(args, folder, input_path, *flags):
    environment = {"PENSTOCK_LLAMA_SERVER_ARGS": ",".join(thread_flags(args))}
    return lab.run(args.bin / "penstock", folder, input_path, args.lines, "--slots", args.slots, *flags,
                   env=environment)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=200)
    parser.add_argument("--slots", type=int, default=8, help="sequences of the engine, and requests in flight")
    parser.add_argument("--runs", type=int, default=3, help="pairs of closed loop and Penstock, one after the other")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=0,
                        help="of llama-server; fewer than cores on a busy machine")
    parser.add_argument("--no-managed", action="store_true", help="leave out the run with an engine of Penstock's own")
    parser.add_argument("--bin", type=Path, default=lab.ROOT / "build/release", help="where the programs are")
    parser.add_argument("--llama-server", type=Path, default=lab.ROOT / "build/llama/bin/llama-server")
    parser.add_argument("--gguf", type=Path, default=lab.ROOT / "build/models/SmolLM2-135M-Instruct.Q4_1.gguf")
    args = parser.parse_args()

    loops, loop_idle, loop_steps, tokens = [], [], [], set()
    makespans, walls, penstock_idle, penstock_steps = [], [], [], []
    with tempfile.TemporaryDirectory(prefix="penstock-p2-") as name:
        folder = Path(name)
        input_path = folder / "input.jsonl"
        write_input(input_path, args.lines, args.seed)
        for _ in range(args.runs):
            with llama_server(args, folder) as engine:
                limit = lab.closed_loop(args.bin / "bench/closed_loop", input_path, engine.url, args.slots)
                loop_idle.append(engine.idle_seconds())
                loop_steps.append(engine.steps())
            loops.append(limit["seconds"])
            tokens.add(limit["output_tokens"])
            with llama_server(args, folder) as engine:
                makespan, output, wall = penstock_run(args, folder, input_path, "--engine", engine.url)
                penstock_idle.append(engine.idle_seconds())
                penstock_steps.append(engine.steps())
            makespans.append(makespan)
            walls.append(wall)
            tokens.add(output)
        managed = None
        if not args.no_managed:
            managed = penstock_run(args, folder, input_path,
                                   "--llama-server", args.llama_server, "--model", f"{MODEL}={args.gguf}")
            tokens.add(managed[1])
    if len(tokens) != 1:
        raise SystemExit(f"the runs did not do the same work: output tokens {sorted(tokens)}")

    result = {
        "benchmark": "utilisation", "lines": args.lines, "slots": args.slots,
        "threads": args.threads, "runs": args.runs,
        "seed": args.seed,
        "output_tokens": tokens.pop(),
        "closed_loop_seconds": round(lab.median(loops), 2),
        "penstock_seconds": round(lab.median(makespans), 2),
        "penstock_wall_seconds": round(lab.median(walls), 2),
        "ratio": round(lab.median([b / a for a, b in zip(loops, makespans)]), 3),
        "wall_ratio": round(lab.median([b / a for a, b in zip(loops, walls)]), 3),
        "steps_ratio": round(lab.median([b[0] / a[0] for a, b in zip(loop_steps, penstock_steps)]), 3),
        "closed_loop_busy_slots": round(lab.median([busy for _, busy in loop_steps]), 2),
        "penstock_busy_slots": round(lab.median([busy for _, busy in penstock_steps]), 2),
        "closed_loop_idle_seconds": round(lab.median(loop_idle), 2),
        "penstock_idle_seconds": round(lab.median(penstock_idle), 2),
        "ratios": [round(b / a, 3) for a, b in zip(loops, makespans)],
    }
    if managed:
        result |= {"managed_seconds": round(managed[0], 2), "managed_wall_seconds": round(managed[2], 2)}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
