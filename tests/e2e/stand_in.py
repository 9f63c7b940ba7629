#!/usr/bin/env python3
"""A program in the place of vLLM or SGLang: takes their options, serves one model, and answers with a greeting.

    stand_in.py --port PORT [--host HOST] --served-model-name NAME …

Its environment says what it does besides: it waits START seconds before it listens, and for each answer TAKES seconds
and until there is a file GATE; notes when it starts and what it is asked in the file LOG; and fails when another one holds the file DEVICE.
"""

import fcntl
import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler

from fake_engine import FakeEngine, Listener


def option(name, default=None):
    return sys.argv[sys.argv.index(name) + 1] if name in sys.argv else default


NAME = option("--served-model-name")


def note(**what):
    with open(os.environ["LOG"], "a") as log:
        log.write(json.dumps({"model": NAME, "pid": os.getpid(), **what}) + "\n")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def do_GET(self):
        self.reply(200, json.dumps({"object": "list", "data": [{"id": NAME, "object": "model"}]}).encode())

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        note(asked=body["messages"][-1]["content"])
        time.sleep(float(os.environ.get("TAKES", 0)))
        while "GATE" in os.environ and not os.path.exists(os.environ["GATE"]):
            time.sleep(0.01)
        self.reply(*FakeEngine._greet(body))

    def reply(self, status, content):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


if device := os.environ.get("DEVICE"):
    held = open(device, "w")
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        sys.exit("the device is in use")
note(argv=sys.argv[1:])
print("loading", NAME, flush=True)
time.sleep(float(os.environ.get("START", 0)))
Listener((option("--host", "127.0.0.1"), int(option("--port"))), Handler).serve_forever()
