#!/usr/bin/env python3
"""P2 on llama-server: what Penstock makes of it, prefixes copied between its slots, against a bare client and a plain
llama-server. README.md says what the numbers mean."""

import argparse
import json
import random
import tempfile
from pathlib import Path

import lab

MODEL = "smollm2"
CONTEXT = 1024  # tokens a slot
PREFIX_CHARS, OWN_CHARS = 2_900, 200  # some 610 and 43 tokens


def shared(prefixes, output_tokens):
    """A long system prompt of several, taken in turns, and a question of its own."""
    def lines(rng, count):
        texts = [lab.sentence(rng, PREFIX_CHARS) for _ in range(prefixes)]
        for i in range(count):
            yield [{"role": "system", "content": texts[i % prefixes]},
                   {"role": "user", "content": lab.sentence(rng, OWN_CHARS)}], output_tokens
    return lines


def alone(rng, count):
    for _ in range(count):
        yield [{"role": "user", "content": lab.sentence(rng, 300)}], 32


# The lines, and what a plain llama-server is given: its best of several numbers of slots, and its cache in memory.
WORKS = {
    "one_prefix": (shared(1, 32), [(8, "0")]),
    "four_prefixes": (shared(4, 32), [(8, "0"), (8, "8192")]),
    "no_prefix": (alone, [(32, "0")]),
    "one_prefix_one_token": (shared(1, 1), [(8, "0")]),
}


def write_input(path, lines, seed, count):
    rng = random.Random(seed)
    with open(path, "w") as out:
        for i, (messages, tokens) in enumerate(lines(rng, count)):
            out.write(lab.batch_line(f"request-{i:05}", {
                "model": MODEL, "messages": messages, "max_tokens": tokens, "ignore_eos": True, "temperature": 0}))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=200)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--slots", type=int, default=16, help="of Penstock's llama-server")
    parser.add_argument("--works", default=",".join(WORKS))
    parser.add_argument("--bin", type=Path, default=lab.ROOT / "build/release", help="where the programs are")
    parser.add_argument("--llama-server", type=Path, default=lab.ROOT / "build/llama/bin/llama-server")
    parser.add_argument("--gguf", type=Path, default=lab.ROOT / "build/models/SmolLM2-135M-Instruct.Q4_0.gguf")
    args = parser.parse_args()

    result = {"benchmark": "shared_prefix", "lines": args.lines, "runs": args.runs, "slots": args.slots}
    with tempfile.TemporaryDirectory(prefix="penstock-prefix-") as name:
        folder = Path(name)
        input_path = folder / "input.jsonl"
        for work in args.works.split(","):
            lines, plains = WORKS[work]
            write_input(input_path, lines, args.seed, args.lines)
            plain_rates, rates = {plain: [] for plain in plains}, []
            for _ in range(args.runs):
                for slots, cache_ram in plains:
                    with lab.llama_server(args, folder, MODEL, slots, CONTEXT, cache_ram=cache_ram) as (_, url):
                        limit = lab.closed_loop(args.bin / "bench/closed_loop", input_path, url, slots)
                    plain_rates[slots, cache_ram].append(args.lines / limit["seconds"])
                makespan, _, _ = lab.run(args.bin / "penstock", folder, input_path, args.lines, "--slots", args.slots,
                                         "--context", CONTEXT, "--llama-server", args.llama_server,
                                         "--model", f"{MODEL}={args.gguf}")
                rates.append(args.lines / makespan)
            figures = {"penstock_per_second": round(lab.median(rates), 2)}
            for (slots, cache_ram), plain in plain_rates.items():
                name = f"plain_{slots}" + ("_cached" if cache_ram != "0" else "")
                figures[f"{name}_per_second"] = round(lab.median(plain), 2)
                figures[f"over_{name}"] = round(lab.median([a / b for a, b in zip(rates, plain)]), 2)
            result[work] = figures
    print(json.dumps(result))


if __name__ == "__main__":
    main()
