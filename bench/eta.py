#!/usr/bin/env python3
"""How far estimated times are from what came true, at half of the time. README.md says what the numbers mean."""

import argparse
import contextlib
import json
import random
import tempfile
import threading
import time
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import lab
import utilisation

POLL_SECONDS = 0.25
SECOND_CUT_OFF = 0.5  # on the average: the API shows whole seconds


def write_input(path, lines, prompt_chars, rng):
    """Answers have lognormal lengths, set by max_tokens, whatever the prompt is."""
    with open(path, "w") as out:
        for i in range(lines):
            tokens = min(utilisation.TOKENS_MAX, max(utilisation.TOKENS_MIN, round(rng.lognormvariate(2.9, 0.7))))
            prompt = lab.sentence(rng, rng.randint(prompt_chars // 2, prompt_chars * 3 // 2))
            out.write(lab.batch_line(f"request-{i:05}", {
                "model": utilisation.MODEL, "messages": [{"role": "user", "content": prompt}],
                "max_tokens": tokens, "ignore_eos": True, "temperature": 0}))


def simulated_engine(token_seconds, prompt_weight):
    """Takes its time for each token, of the prompt less, however many requests it has: a large GPU's manner."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self):
            self.reply({"object": "list", "data": [
                {"id": utilisation.MODEL, "object": "model", "created": 0, "owned_by": "bench"}]})

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            prompt, answer = len(body["messages"][0]["content"]) // 4, body["max_tokens"]
            time.sleep(token_seconds * (prompt_weight * prompt + answer))
            self.reply({
                "id": "chatcmpl-1", "object": "chat.completion", "created": 0, "model": utilisation.MODEL,
                "choices": [{"index": 0, "message": {"role": "assistant", "content": "word " * answer},
                             "finish_reason": "length"}],
                "usage": {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}})

        def reply(self, answer):
            content = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


def seconds(iso_time):
    return datetime.fromisoformat(iso_time).timestamp() + SECOND_CUT_OFF


def watch(conn, server, created):
    """What was estimated when, and what came true: {batch: [(time, start, completion)]}, {batch: (start, end)}."""
    estimates, truth = {batch_id: [] for batch_id in created}, {}
    while len(truth) < len(created):
        server.check()
        time.sleep(POLL_SECONDS)
        queue = {batch["id"]: batch for batch in lab.get_json(conn, "/v1/queue")["data"]}
        now = time.time()
        for batch_id, seen in estimates.items():
            if batch := queue.get(batch_id):
                seen.append((now, seconds(batch["estimated_start_time"]), seconds(batch["estimated_completion_time"])))
            elif batch_id not in truth:
                batch = lab.get_json(conn, f"/v1/batches/{batch_id}")
                if batch["status"] != "completed" or batch["request_counts"]["failed"] > 0:
                    raise SystemExit(f"the batch did not complete: {json.dumps(batch)}")
                truth[batch_id] = batch["in_progress_at"] + SECOND_CUT_OFF, now
    return estimates, truth


def error_at_half(created, came, estimates):
    """`estimates`: (time, estimate) in their order. Positive: it came sooner than was said."""
    half = (created + came) / 2
    said = [estimate for at, estimate in estimates if at <= half][-1]
    return (said - came) / (came - half)


def one_run(args, folder, seed):
    rng = random.Random(seed)
    lengths = [int(chars) for chars in args.prompt_chars.split(",")]
    with contextlib.ExitStack() as stack:
        if args.simulated:
            engine_url = simulated_engine(args.token_ms / 1e3, args.prompt_weight)
        else:
            engine_url = stack.enter_context(utilisation.llama_server(args, folder)).url
        server, url = stack.enter_context(
            lab.serve(args.bin, folder, "--engine", engine_url, "--slots", args.slots))
        conn = lab.connection(url)
        files = []
        for number in range(args.batches):
            path = folder / f"input-{number}.jsonl"
            write_input(path, args.lines, lengths[number % len(lengths)], rng)
            files.append(lab.upload(conn, path))
        created = {lab.create_batch(conn, file_id): time.time() for file_id in files}
        estimates, truth = watch(conn, server, created)

    completion, start = [], []
    for number, (batch_id, at) in enumerate(created.items()):
        began, ended = truth[batch_id]
        completion.append(error_at_half(at, ended, [(t, said) for t, _, said in estimates[batch_id]]))
        if number > 0:  # the first has no time to wait
            start.append(error_at_half(at, began, [(t, said) for t, said, _ in estimates[batch_id]]))
    return completion, start, max(ended for _, ended in truth.values()) - min(created.values())


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--simulated", action="store_true", help="an engine whose speed is steady, not a llama-server")
    parser.add_argument("--batches", type=int, default=4, help="created at once")
    parser.add_argument("--lines", type=int, default=200, help="of each batch")
    parser.add_argument("--prompt-chars", default="80", help="mean lengths of the batches' prompts, in turn: 80,800")
    parser.add_argument("--slots", type=int, default=8, help="requests in flight")
    parser.add_argument("--runs", type=int, default=3, help="each on a fresh data folder and engine")
    parser.add_argument("--seed", type=int, default=1, help="of the first run; the next has the next")
    parser.add_argument("--token-ms", type=float, default=40, help="simulated: for a token of an answer")
    parser.add_argument("--prompt-weight", type=float, default=0.1, help="simulated: a prompt's token against that")
    parser.add_argument("--threads", type=int, default=0, help="of llama-server; fewer than cores on a busy machine")
    parser.add_argument("--bin", type=Path, default=lab.ROOT / "build/release", help="where the programs are")
    parser.add_argument("--llama-server", type=Path, default=lab.ROOT / "build/llama/bin/llama-server")
    parser.add_argument("--gguf", type=Path, default=lab.ROOT / "build/models/SmolLM2-135M-Instruct.Q4_1.gguf")
    args = parser.parse_args()

    completion, start, took = [], [], []
    with tempfile.TemporaryDirectory(prefix="penstock-eta-") as name:
        for number in range(args.runs):
            folder = Path(name) / f"run-{number}"
            folder.mkdir()
            run = one_run(args, folder, args.seed + number)
            for results, result in zip((completion, start, took), run):
                results.append(result)

    def summary(errors):
        sizes = [abs(error) for run in errors for error in run]
        return {"median": round(lab.median(sizes), 3), "worst": round(max(sizes), 3),
                "errors": [[round(error, 3) for error in run] for run in errors]}

    print(json.dumps({
        "benchmark": "eta", "engine": "simulated" if args.simulated else "llama-server", "batches": args.batches,
        "lines": args.lines, "prompt_chars": args.prompt_chars, "slots": args.slots, "runs": args.runs,
        "seed": args.seed, "seconds": [round(t, 1) for t in took],
        "completion": summary(completion), "start": summary(start) if args.batches > 1 else None}))


if __name__ == "__main__":
    main()
