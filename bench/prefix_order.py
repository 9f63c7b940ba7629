#!/usr/bin/env python3
"""P3: what Penstock's order of lines makes of an engine's prefix cache, against the file's order. README.md says what
the numbers mean."""

import argparse
import json
import random
import re
import tempfile
from pathlib import Path

import lab
import utilisation

BLOCK_TOKENS, TOKEN_BYTES = 16, 4  # of the mock engine


class Text:
    """Sizes of the parts of a prompt, in characters, and those parts, no two alike."""

    def __init__(self, seed, prefix_chars, own_chars):
        self.rng = random.Random(seed)
        self.prefix_chars, self.own_chars = prefix_chars, own_chars

    def of(self, size):
        return f"{self.rng.getrandbits(32):08x} {lab.sentence(self.rng, size - 9)}"

    def own(self):
        return self.of(self.rng.randint(self.own_chars // 2, self.own_chars * 3 // 2))


def system_prompt(text, groups, lines):
    """The lines of a group have their system prompt in common."""
    for _ in range(groups):
        shared = text.of(text.prefix_chars)
        for _ in range(lines // groups):
            yield [{"role": "system", "content": shared}, {"role": "user", "content": text.own()}]


def document(text, groups, lines):
    """One short system prompt for all. The lines of a group begin their user message with the same document."""
    system = text.of(120)
    for _ in range(groups):
        shared = text.of(text.prefix_chars)
        for _ in range(lines // groups):
            yield [{"role": "system", "content": system}, {"role": "user", "content": f"{shared}\n\n{text.own()}"}]


def tree(text, groups, lines):
    """Half of the prefix is a system prompt, shared by the groups of a tenth; three eighths a document, shared by a
    group; the rest one of four questions about it, with several texts each."""
    for group in range(groups):
        if group % max(1, groups // 10) == 0:
            system = text.of(text.prefix_chars // 2)
        shared = text.of(text.prefix_chars * 3 // 8)
        questions = [text.of(text.prefix_chars // 8) for _ in range(4)]
        for i in range(lines // groups):
            yield [{"role": "system", "content": system}, {"role": "user", "content": shared},
                   {"role": "assistant", "content": questions[i % 4]}, {"role": "user", "content": text.own()}]


def nothing(text, groups, lines):
    """No two lines begin alike."""
    for _ in range(lines):
        yield [{"role": "system", "content": text.of(text.prefix_chars)}, {"role": "user", "content": text.own()}]


SHAPES = {"system_prompt": system_prompt, "document": document, "tree": tree, "nothing": nothing}


def write_input(path, prompts, model, answer_tokens):
    with open(path, "w") as out:
        for i, messages in enumerate(prompts):
            out.write(lab.batch_line(f"request-{i:05}", {
                "model": model, "messages": messages, "max_tokens": answer_tokens, "ignore_eos": True,
                "temperature": 0}))


def optimal_cached_tokens(prompts):
    """With a cache that forgets nothing: of each distinct beginning, the first computation finds nothing, and all
    others do. The mock engine renders prompts and cuts them into blocks like this."""
    known, cached = {}, 0
    for messages in prompts:
        rendered = "".join(f"{m['role']}\n{m['content']}\n" for m in messages).encode()
        size = BLOCK_TOKENS * TOKEN_BYTES
        tokens = -(-len(rendered) // TOKEN_BYTES)
        node = 0
        for block in range(tokens // BLOCK_TOKENS):
            key = (node, rendered[block * size:(block + 1) * size])
            if key in known and block < (tokens - 1) // BLOCK_TOKENS:  # the last token is always computed
                cached += BLOCK_TOKENS
            node = known.setdefault(key, len(known) + 1)
    return cached


def on_mock_engine(args, folder, shape):
    text = Text(args.seed, args.prefix_chars, args.own_chars)
    prompts = list(SHAPES[shape](text, args.groups, args.lines))
    text.rng.shuffle(prompts)
    input_path = folder / "input.jsonl"
    write_input(input_path, prompts, "mock", args.answer_tokens)

    prefix_blocks = args.groups * args.prefix_chars // (BLOCK_TOKENS * TOKEN_BYTES)
    own_blocks = (args.own_chars * 3 // 2 // TOKEN_BYTES + args.answer_tokens) // BLOCK_TOKENS + 2
    blocks = prefix_blocks // args.cache_part + args.in_flight * own_blocks

    def measure(send):
        with lab.mock_engine(args.bin, folder, "--speed", args.speed, "--sequences", args.in_flight,
                             "--blocks", blocks) as engine:
            send(engine)
            return engine.stats()

    in_file_order = measure(lambda engine: lab.closed_loop(
        args.bin / "bench/closed_loop", input_path, engine.url, args.in_flight))
    by_penstock = measure(lambda engine: lab.run(
        args.bin / "penstock", folder, input_path, args.lines, "--engine", engine.url, "--slots", args.in_flight))
    optimum = optimal_cached_tokens(prompts)
    return {
        "prompt_tokens": by_penstock["prompt_tokens"],
        "optimum": round(optimum / by_penstock["prompt_tokens"], 3),
        **({"file_order_of_optimum": round(in_file_order["cached_tokens"] / optimum, 3),
            "penstock_of_optimum": round(by_penstock["cached_tokens"] / optimum, 3),
            "cached_gain": round(by_penstock["cached_tokens"] / in_file_order["cached_tokens"], 2)} if optimum else {}),
        "file_order_seconds": round(in_file_order["span_seconds"], 1),
        "penstock_seconds": round(by_penstock["span_seconds"], 1),
        "throughput": round(in_file_order["span_seconds"] / by_penstock["span_seconds"], 3),
        "late_seconds": round(in_file_order["late_seconds"] + by_penstock["late_seconds"], 1),
    }


def on_llama_server(args, folder, shape):
    text = Text(args.seed, args.prefix_chars, args.own_chars)
    prompts = list(SHAPES[shape](text, args.groups, args.lines))
    text.rng.shuffle(prompts)
    input_path = folder / "input.jsonl"
    write_input(input_path, prompts, utilisation.MODEL, args.answer_tokens)

    def measure(send):
        with utilisation.llama_server(args, folder) as engine:
            seconds = send(engine)
            conn = lab.connection(engine.url)
            conn.request("GET", "/metrics")
            metrics = conn.getresponse().read().decode()
            computed, cached = (
                int(re.search(rf"^llamacpp:{name} (\d+)", metrics, re.MULTILINE)[1])
                for name in ("prompt_tokens_total", "prompt_tokens_cached_total"))
            return seconds, computed, cached

    loop = measure(lambda engine: lab.closed_loop(
        args.bin / "bench/closed_loop", input_path, engine.url, args.slots)["seconds"])
    penstock = measure(lambda engine: lab.run(
        args.bin / "penstock", folder, input_path, args.lines, "--engine", engine.url, "--slots", args.slots)[0])
    return {
        "file_order_computed": loop[1], "penstock_computed": penstock[1],
        "file_order_cached": loop[2], "penstock_cached": penstock[2],
        "file_order_seconds": round(loop[0], 1), "penstock_seconds": round(penstock[0], 1),
        "computed_ratio": round(penstock[1] / loop[1], 3), "throughput": round(loop[0] / penstock[0], 3),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--llama-server", type=Path, nargs="?", const=lab.ROOT / "build/llama/bin/llama-server",
                        help="a real engine, with far fewer and shorter lines unless told otherwise")
    parser.add_argument("--shapes", nargs="*", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--lines", type=int)
    parser.add_argument("--groups", type=int)
    parser.add_argument("--prefix-chars", type=int)
    parser.add_argument("--own-chars", type=int, default=240, help="of each line, on the average")
    parser.add_argument("--answer-tokens", type=int)
    parser.add_argument("--cache-part", type=int, default=5, help="the mock's cache has room for 1/N of the prefixes")
    parser.add_argument("--in-flight", type=int, default=32, help="at the mock engine")
    parser.add_argument("--speed", type=float, default=10, help="of the mock engine's time against the clock's")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--bin", type=Path, default=lab.ROOT / "build/release", help="where the programs are")
    parser.add_argument("--slots", type=int, default=2, help="of llama-server")
    parser.add_argument("--threads", type=int, default=1, help="of llama-server")
    parser.add_argument("--gguf", type=Path, default=lab.ROOT / "build/models/SmolLM2-135M-Instruct.Q4_1.gguf")
    args = parser.parse_args()
    sizes = {"lines": (4_000, 48), "groups": (200, 8), "prefix_chars": (2_048, 600), "answer_tokens": (64, 8)}
    for name, (mock, real) in sizes.items():
        if getattr(args, name) is None:
            setattr(args, name, real if args.llama_server else mock)

    result = {"benchmark": "prefix_order", "engine": "llama-server" if args.llama_server else "mock",
              "in_flight": args.slots if args.llama_server else args.in_flight, "seed": args.seed,
              **{name: getattr(args, name) for name in sizes}}
    for shape in args.shapes:
        with tempfile.TemporaryDirectory(prefix="penstock-p3-") as name:
            measure = on_llama_server if args.llama_server else on_mock_engine
            result[shape] = measure(args, Path(name), shape)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
