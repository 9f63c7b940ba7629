"""A way to another port that loses what it is told to lose, between a process of a test and its database or its store."""

import socket
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler


class Proxy:
    """Use it as a context manager. What toxiproxy can do is left to that; this one looks at what is said."""

    def __init__(self, upstream):
        self._upstream = upstream
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self._listener.getsockname()[1]
        self._connections = set()
        self._lock = threading.Lock()
        self._busy = False
        self._to_lose = 0
        self.lost = 0  # replies

    def lose_commits(self, count):
        """Of the next so many COMMITs the database does what they say, and the connection ends instead of the reply."""
        with self._lock:
            self._to_lose = count

    def answer_503(self, busy=True):
        """Whether HTTP requests are answered with 503 here, in the words of S3."""
        self._busy = busy
        self.cut()

    def cut(self):
        """Ends all connections. New ones are taken."""
        with self._lock:
            ends, self._connections = self._connections, set()
        for one in ends:
            self._end(one)

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._end(self._listener)
        self._listener.close()
        self.cut()

    @staticmethod
    def _end(one):
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)

    def _accept(self):
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        with client:
            if self._busy:
                with suppress(OSError):
                    Busy(client, None, None)
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._upstream))
            except OSError:
                return
            with server:
                with self._lock:
                    self._connections |= {client, server}
                there = threading.Thread(target=self._pump, args=(client, server), daemon=True)
                there.start()
                self._pump(server, client, self._is_lost)
                there.join()
                with self._lock:
                    self._connections -= {client, server}

    def _pump(self, source, sink, is_lost=lambda content: False):
        for one in (source, sink):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with suppress(OSError):
            while (content := source.recv(1 << 16)) and not is_lost(content):
                sink.sendall(content)
        self._end(source)
        self._end(sink)

    def _is_lost(self, content):
        if b"COMMIT\0" not in content:  # the database's word for a transaction that it has committed
            return False
        with self._lock:
            if self._to_lose == 0:
                return False
            self._to_lose -= 1
            self.lost += 1
            return True


class Busy(BaseHTTPRequestHandler):
    """An S3 that wants to be asked less."""

    def parse_request(self):
        if not super().parse_request():
            return False
        left = int(self.headers.get("Content-Length", 0))
        while left > 0 and (content := self.rfile.read(min(left, 1 << 16))):
            left -= len(content)
        body = b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>SlowDown</Code><Message>Please reduce.</Message></Error>'
        self.send_response(503)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        return False

    def log_message(self, *_):
        pass
