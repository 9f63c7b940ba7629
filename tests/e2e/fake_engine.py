"""An engine that answers at once, remembers what it was asked, and can hold its answers back."""

import json
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MODEL = "fake-model"


class Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # connections that come at once; with the default of 5 some would wait for seconds


class FakeEngine:
    """Use it as a context manager. It answers the first `answers` requests and holds the others until release()."""

    def __init__(self, answers=10**9):
        self.asked = Counter()  # by the text of the last message
        self.answered = Counter()
        self.refused = set()  # texts that are answered with status 400
        self._left = answers
        self._lock = threading.Lock()
        self._released = threading.Event()
        self._server = Listener(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def release(self):
        self._released.set()

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.release()
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, body):
        text = body["messages"][-1]["content"]
        with self._lock:
            self.asked[text] += 1
            self._left -= 1
            hold = self._left < 0
        if hold:
            self._released.wait(60)
        with self._lock:
            self.answered[text] += 1
        message = {"role": "assistant", "content": f"You said: {text}"}
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": MODEL,
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
        }

    def _handler(engine):
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                self.reply({"object": "list", "data": [{"id": MODEL, "object": "model", "created": 1, "owned_by": "test"}]})

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                answer = engine._answer(body)
                if body["messages"][-1]["content"] in engine.refused:
                    self.reply({"error": {"message": "No.", "type": "invalid_request_error"}}, 400)
                else:
                    self.reply(answer)

            def reply(self, answer, status=200):
                content = json.dumps(answer).encode()
                try:
                    self.send_response(status)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(content)))
                    self.end_headers()
                    self.wfile.write(content)
                except OSError:
                    self.close_connection = True  # the client was killed while it waited

            def log_message(self, *_):
                pass

        return Handler
