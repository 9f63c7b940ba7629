"""A way to a server that looks at whole requests, and loses answers that it is told to lose."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx2


class Middleman:
    """Use it as a context manager. It waits for whole answers: nobody follows anything through it."""

    def __init__(self, server):
        self.asked = []  # method, path, headers
        self.lose = {}  # how many answers to (method, path) get lost
        self._server = server
        self._listener = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._listener.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._listener.server_port}"

    def of(self, method, path):
        """The headers of the requests for it."""
        return [headers for *what, headers in self.asked if what == [method, path]]

    def __enter__(self):
        threading.Thread(target=self._listener.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self._listener.shutdown()
        self._listener.server_close()

    def _handler(middleman):
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def forward(self):
                what, content = (self.command, self.path), self.rfile.read(int(self.headers["Content-Length"] or 0))
                middleman.asked.append((*what, self.headers))
                answer = httpx2.request(
                    self.command, middleman._server.url + self.path, content=content, headers=list(self.headers.items())
                )
                if middleman.lose.get(what, 0) > 0:
                    middleman.lose[what] -= 1
                    self.close_connection = True
                    return
                self.send_response(answer.status_code)
                for name in ("Content-Type", "Content-Range"):
                    if name in answer.headers:
                        self.send_header(name, answer.headers[name])
                self.send_header("Content-Length", str(len(answer.content)))
                self.end_headers()
                self.wfile.write(answer.content)

            do_GET = do_POST = do_DELETE = forward

            def log_message(self, *_):
                pass

        return Handler
