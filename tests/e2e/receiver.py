"""Where webhooks are sent: it keeps what comes, and answers as it is told."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler

from fake_engine import Listener


class Receiver:
    """Use it as a context manager. `answer` gets the handler of each request, when all of it has been read."""

    def __init__(self, status=200, answer=None, port=0):
        self.requests = []  # (path, headers, body) of each, as they came
        self.status = status
        self._answer = answer or self.say_status
        self._server = Listener(("127.0.0.1", port), self._handler())
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}/hook?from=penstock"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()

    def say_status(self, handler):
        handler.send_response(self.status)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    def ids(self):
        return [headers["webhook-id"] for _, headers, _ in self.requests]

    def events(self):
        return [json.loads(body) for _, _, body in self.requests]

    def _handler(receiver):
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                receiver.requests.append((self.path, dict(self.headers), body))
                try:
                    receiver._answer(self)
                except OSError:
                    self.close_connection = True  # the sender has had enough

            def log_message(self, *_):
                pass

        return Handler


def holding(released):
    """An answer that waits for the event, and is good then."""

    def answer(handler):
        released.wait(60)
        handler.send_response(200)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def endless(handler):
    handler.send_response(200)
    handler.end_headers()
    for _ in range(10_000):
        handler.wfile.write(b"more and more" * 1000)
        time.sleep(0.001)


def redirecting(to):
    def answer(handler):
        handler.send_response(302)
        handler.send_header("Location", to)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer
