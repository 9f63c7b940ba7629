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
    """Use it as a context manager. It answers the first `answers` requests and holds the others until release().

    `reply` makes other answers than a greeting: from a request's JSON to a status and the bytes of a body. With a `key` it
    refuses all who do not bring that.
    """

    def __init__(self, answers=10**9, reply=None, key=None):
        self.bodies = []  # of all requests, as they came
        self.headers = []  # and theirs
        self.asked = Counter()  # by the text of the last message
        self.answered = Counter()
        self.key = key
        self.refused = set()  # texts that are answered with status 400
        self._left = answers
        self._reply = reply or self._greet
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

    def _answer(self, content):
        body = json.loads(content)
        text = str(body["messages"][-1]["content"])
        with self._lock:
            self.bodies.append(content)
            self.asked[text] += 1
            self._left -= 1
            hold = self._left < 0
        if hold:
            self._released.wait(60)
        with self._lock:
            self.answered[text] += 1
        if text in self.refused:
            return 400, b'{"error": {"message": "No.", "type": "invalid_request_error"}}'
        return self._reply(body)

    @staticmethod
    def _greet(body):
        message = {"role": "assistant", "content": f"You said: {body['messages'][-1]['content']}"}
        answer = {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": MODEL,
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
        }
        return 200, json.dumps(answer).encode()

    def _handler(engine):
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # head and body in one packet: sent apart, the second would wait for the first to be acknowledged

            def parse_request(self):
                if not super().parse_request():
                    return False
                if engine.key and self.headers["Authorization"] != f"Bearer {engine.key}":
                    self.send_error(401)
                    return False
                return True

            def do_GET(self):
                models = {"object": "list", "data": [{"id": MODEL, "object": "model", "created": 1, "owned_by": "test"}]}
                self.reply(200, json.dumps(models).encode())

            def do_POST(self):
                engine.headers.append(dict(self.headers))
                self.reply(*engine._answer(self.rfile.read(int(self.headers["Content-Length"]))))

            def reply(self, status, content):
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
