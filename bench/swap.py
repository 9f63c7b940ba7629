#!/usr/bin/env python3
"""How often two models that share a device are swapped, and how long that takes. README.md says what the numbers mean."""

import argparse
import json
import random
import tempfile
import time
from datetime import datetime
from pathlib import Path

import lab
import utilisation

MODELS = ("model-a", "model-b")


def write_input(path, model, lines, rng):
    with open(path, "w") as out:
        for i in range(lines):
            out.write(lab.batch_line(f"request-{i:05}", {
                "model": model, "messages": [{"role": "user", "content": lab.sentence(rng, 80)}],
                "max_tokens": 8, "ignore_eos": True, "temperature": 0}))


def write_config(args, folder):
    config = folder / "config.toml"
    config.write_text(
        f'llama_server = "{args.llama_server}"\nslots = {args.slots}\n'
        f"llama_server_args = {json.dumps(utilisation.thread_flags(args))}\n"
        + "[models]\n" + "".join(f'{model} = "{args.gguf}"\n' for model in MODELS))
    return config


def run_batches(conn, server, file_ids):
    for batch_id in [lab.create_batch(conn, file_id) for file_id in file_ids]:
        batch, _ = lab.wait_for_end(conn, server, batch_id)
        if batch["status"] != "completed" or batch["request_counts"]["failed"] > 0:
            raise SystemExit(f"the batch did not complete: {json.dumps(batch)}")


def swaps(log):
    """Of each: seconds until the old program had ended, and until the new one was ready, by the server's log."""
    found, began, ended = [], None, None
    for row in log.read_text().splitlines():
        if " makes room for " in row:
            began = datetime.fromisoformat(row.split()[0])
        elif began and row.endswith(": ended, for another model"):
            ended = datetime.fromisoformat(row.split()[0])
        elif began and ended and " is ready: " in row:
            ready = datetime.fromisoformat(row.split()[0])
            found.append(((ended - began).total_seconds(), (ready - began).total_seconds()))
            began = ended = None
    return found


def start_seconds(args, folder):
    """What llama-server alone takes from its start until it answers."""
    start = time.monotonic()
    with utilisation.llama_server(args, folder):
        return time.monotonic() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, default=8, help="of each queue; their models alternate")
    parser.add_argument("--lines", type=int, default=16, help="of each batch")
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=0, help="of llama-server; fewer than cores on a busy machine")
    parser.add_argument("--bin", type=Path, default=lab.ROOT / "build/release", help="where the programs are")
    parser.add_argument("--llama-server", type=Path, default=lab.ROOT / "build/llama/bin/llama-server")
    parser.add_argument("--gguf", type=Path, default=lab.ROOT / "build/models/SmolLM2-135M-Instruct.Q4_1.gguf")
    args = parser.parse_args()
    rng = random.Random(args.seed)

    with tempfile.TemporaryDirectory(prefix="penstock-swap-") as name:
        folder = Path(name)
        log = folder / "server.log"
        with lab.serve(args.bin, folder, "--config", write_config(args, folder)) as (server, url):
            conn = lab.connection(url)
            files = {}
            for model in MODELS:
                write_input(folder / f"{model}.jsonl", model, args.lines, rng)
                files[model] = lab.upload(conn, folder / f"{model}.jsonl")
            order = [MODELS[i % 2] for i in range(args.batches)]
            run_batches(conn, server, [files[MODELS[0]]])  # it is loaded

            run_batches(conn, server, [files[model] for model in order])
            queued = len(swaps(log))
            starts = []
            for model in reversed(order):
                run_batches(conn, server, [files[model]])
                starts.append(start_seconds(args, folder))
            timed = swaps(log)[queued:]

    swap = lab.median([total for _, total in timed])
    start = lab.median(starts)
    print(json.dumps({
        "benchmark": "swap", "batches": args.batches, "lines": args.lines, "slots": args.slots, "seed": args.seed,
        "queued_swaps": queued, "swaps_in_order": args.batches - 1, "timed_swaps": len(timed),
        "swap_seconds": round(swap, 3), "end_seconds": round(lab.median([end for end, _ in timed]), 3),
        "start_seconds": round(start, 3), "ratio": round(swap / start, 2)}))


if __name__ == "__main__":
    main()
