#!/usr/bin/env python3
"""P7: what people who use an engine directly feel of a batch on it, and what the batch loses. README.md says what the
numbers mean."""

import argparse
import asyncio
import json
import random
import tempfile
import time
from pathlib import Path

import lab

BATCH_LINES = 50_000  # more than are done


def write_input(path, seed):
    """All lines cost the same, so that tokens a second are a rate of work."""
    rng = random.Random(seed)
    with open(path, "w") as out:
        for i in range(BATCH_LINES):
            out.write(lab.batch_line(f"request-{i:05}", {
                "model": "mock", "messages": [{"role": "user", "content": lab.sentence(rng, 600)}],
                "max_tokens": 64, "ignore_eos": True}))


async def ask(port, rng, ttfts):
    """One request of a person's program, and the seconds until its first token."""
    body = json.dumps({
        "model": "mock", "messages": [{"role": "user", "content": lab.sentence(rng, rng.randint(400, 2000))}],
        "max_tokens": lab.lognormal(rng, 60, 0.5, 10, 200), "ignore_eos": True, "stream": True}).encode()
    start = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                 b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    await reader.readuntil(b"data: ")
    ttfts.append(time.monotonic() - start)
    if not (await reader.read()).endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n"):
        raise RuntimeError("an answer broke off")
    writer.close()


async def burst(args, engine, seed, ttfts):
    """Requests at random times for so long, and then until all are answered."""
    rng = random.Random(seed)
    port = int(engine.url.rsplit(":", 1)[1])
    async with asyncio.TaskGroup() as group:
        end = time.monotonic() + args.burst_seconds / args.speed
        while time.monotonic() < end:
            await asyncio.sleep(rng.expovariate(args.rate * args.speed))
            group.create_task(ask(port, random.Random(rng.getrandbits(64)), ttfts))


class BatchRate:
    """Tokens that the engine makes in a second of its time, while nobody but the batch uses it. Lines would be counted
    when they end: those that a burst interrupts, in the burst."""

    def __init__(self, args, engine, url, batch_id):
        self.args, self.engine, self.url, self.path = args, engine, url, f"/v1/batches/{batch_id}"

    def look(self):
        batch = lab.get_json(lab.connection(self.url), self.path)
        if batch["status"] not in ("validating", "in_progress"):
            raise SystemExit(f"the batch is over too soon: {json.dumps(batch)}")
        self.time, self.tokens = time.monotonic(), self.engine.stats()["generated_tokens"]

    def since(self):
        """Tokens and seconds since the last look."""
        time_before, tokens_before = self.time, self.tokens
        self.look()
        return self.tokens - tokens_before, (self.time - time_before) * self.args.speed


def rate(parts):
    return sum(tokens for tokens, _ in parts) / sum(seconds for _, seconds in parts)


async def measure(args, folder):
    alone, together, in_idle = [], [], []
    engine_flags = ("--speed", args.speed, "--sequences", args.sequences)
    write_input(folder / "input.jsonl", args.seed)
    with lab.mock_engine(args.bin, folder, *engine_flags) as engine:
        for number in range(args.bursts):
            await burst(args, engine, args.seed + number, alone)

    # A fresh engine, since the same prompts come again.
    with lab.mock_engine(args.bin, folder, *engine_flags) as engine:
        flags = ("--slots", args.slots) if args.slots else ()
        environment = {"PENSTOCK_SHARED_ENGINES": "false" if args.not_shared else "true"}
        with lab.serve(args.bin, folder, "--engine", engine.url, *flags, env=environment) as (_, url):
            conn = lab.connection(url)
            batch = BatchRate(args, engine, url, lab.create_batch(conn, lab.upload(conn, folder / "input.jsonl")))
            await asyncio.sleep(args.warm_up_seconds / args.speed)
            batch.look()
            await asyncio.sleep(args.free_seconds / args.speed)
            free = batch.since()
            for number in range(args.bursts):
                await burst(args, engine, args.seed + number, together)
                batch.look()
                await asyncio.sleep(args.idle_seconds / args.speed)
                in_idle.append(batch.since())
        late = engine.stats()["late_seconds"]

    def ms(ttfts, q):
        return lab.quantile(ttfts, q) * args.speed * 1e3

    return {
        "requests": len(alone),
        "ttft_alone_p50_ms": round(ms(alone, 0.5), 1), "ttft_p50_ms": round(ms(together, 0.5), 1),
        "ttft_alone_p95_ms": round(ms(alone, 0.95), 1), "ttft_p95_ms": round(ms(together, 0.95), 1),
        "ttft_alone_p99_ms": round(ms(alone, 0.99), 1), "ttft_p99_ms": round(ms(together, 0.99), 1),
        "p95_ratio": round(ms(together, 0.95) / ms(alone, 0.95), 2),
        "p99_ratio": round(ms(together, 0.99) / ms(alone, 0.99), 2),
        "batch_free_per_second": round(rate([free]), 1),
        "batch_idle_per_second": round(rate(in_idle), 1),
        "batch_idle_ratio": round(rate(in_idle) / rate([free]), 3),
        "late_seconds": round(late, 1),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=15, help="interactive requests a second, in a burst")
    parser.add_argument("--bursts", type=int, default=5)
    parser.add_argument("--burst-seconds", type=float, default=6)
    parser.add_argument("--idle-seconds", type=float, default=10, help="between bursts, while the batch runs")
    parser.add_argument("--warm-up-seconds", type=float, default=10, help="of the batch")
    parser.add_argument("--free-seconds", type=float, default=15, help="of the batch alone")
    parser.add_argument("--sequences", type=int, default=256, help="of the engine")
    parser.add_argument("--slots", type=int, default=0, help="a fixed number in flight; 0 leaves it to Penstock")
    parser.add_argument("--not-shared", action="store_true", help="Penstock is not told that others use the engine")
    parser.add_argument("--speed", type=float, default=1,
                        help="of the engine's time against the clock's; Penstock's reaction does not get faster")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--bin", type=Path, default=lab.ROOT / "build/release", help="where the programs are")
    args = parser.parse_args()

    with tempfile.TemporaryDirectory(prefix="penstock-p7-") as name:
        result = asyncio.run(measure(args, Path(name)))
    print(json.dumps({
        "benchmark": "courtesy", "rate": args.rate, "bursts": args.bursts, "sequences": args.sequences,
        "slots": args.slots, "shared": not args.not_shared, "speed": args.speed, "seed": args.seed, **result}))


if __name__ == "__main__":
    main()
