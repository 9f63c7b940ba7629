"""An engine that misbehaves as its requests ask for.

The text of a request's last message may hold one fault in brackets, `[hang]`, or `[hang 2]` for the first two requests
of that text alone. Whatever has no fault (left) gets a good answer that holds the SHA-256 of the request's body.
"""

import hashlib
import json
import re
import socket
import struct
import threading
import time
from collections import Counter

MODEL = "fault-model"
HUGE = 500 << 20

RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER with no time to linger


class Gone(Exception):
    """The connection is to be closed."""


class FaultEngine:
    """Use it as a context manager; it listens from then on. All attributes may be changed while it runs.

    `key`: requests without it get 401; those for the models only if `guards_models`.
    `capacity`: with more at a time, requests get 429.
    `seconds`: that a good answer takes.
    `restarts`: a moment after a crash it listens again by itself.
    `holding`: requests wait for release().
    """

    def __init__(self, model=MODEL, key=None, guards_models=True, capacity=10**9, seconds=0, restarts=False):
        self.models = [model]
        self.key = key
        self.guards_models = guards_models
        self.capacity = capacity
        self.seconds = seconds
        self.restarts = restarts
        self.holding = False

        self.asked = Counter()  # by the text of the last message
        self.arrivals = []  # when each request came, and how many were under way then
        self.refusals = []  # when each 429 was sent
        self.strays = []  # texts of requests for a model that it did not serve
        self.given_up = Counter()  # by text: the client closed the connection under it
        self.crashes = 0
        self.waiting = 0  # requests, for release()
        self._released = 0
        self._under_way = 0
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._connections = set()
        self._listener = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.restarts = False
        self.crash()

    def start(self):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(128)
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def crash(self):
        """As when its process is killed: it no longer listens, and all connections are reset."""
        with self._lock:
            listener, self._listener = self._listener, None
            connections, self._connections = self._connections, set()
            self.crashes += 1
            self._changed.notify_all()
        if listener:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        for connection in connections:
            reset(connection)
        if self.restarts:
            threading.Timer(0.05, self.start).start()

    def release(self, count=10**9):
        """Lets so many of the waiting requests go on; without a count, all, and no more will wait."""
        with self._lock:
            if count == 10**9:
                self.holding = False
            self._released = count
            self._changed.notify_all()

    # --- connections

    def _accept(self, listener):
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                alive = listener is self._listener
                if alive:
                    self._connections.add(connection)
            if not alive:
                reset(connection)
                continue
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        reader = connection.makefile("rb")
        try:
            while head := read_head(reader):
                method, headers = head
                body = reader.read(int(headers.get("content-length", 0)))
                if method == "GET":
                    self._list_models(connection, headers)
                else:
                    self._answer(connection, headers, body)
                if connection not in self._connections:
                    break
        except (Gone, OSError, ValueError):
            pass
        finally:
            with self._lock:
                self._connections.discard(connection)
            reader.close()
            connection.close()

    def _may(self, headers):
        return self.key is None or headers.get("authorization") == f"Bearer {self.key}"

    def _list_models(self, connection, headers):
        if self.guards_models and not self._may(headers):
            return send(connection, 401, error("Who are you?"))
        send(connection, 200, {"object": "list", "data": [{"id": name, "object": "model"} for name in self.models]})

    def _answer(self, connection, headers, body):
        request = json.loads(body)
        text = str(request["messages"][-1]["content"])
        with self._lock:
            self.asked[text] += 1
            times = self.asked[text]
            self._under_way += 1
            under_way = self._under_way
            self.arrivals.append((time.monotonic(), under_way))
            if request["model"] not in self.models:
                self.strays.append(text)
        try:
            if not self._may(headers):
                return send(connection, 401, error("Who are you?"))
            if request["model"] not in self.models:
                return send(connection, 404, error("There is no such model."))
            if self.holding:
                self._wait_for_release()
            if under_way > self.capacity:
                with self._lock:
                    self.refusals.append(time.monotonic())
                return send(connection, 429, error("Not so many at a time."), "Retry-After: 0.3")
            fault = re.search(r"\[(\w+)(?: (\d+))?\]", text)
            if fault and times <= int(fault[2] or times):
                getattr(self, f"fault_{fault[1]}")(connection, text)
            if not fault or times > int(fault[2] or times) or fault[1] in ("swap", "replace"):
                time.sleep(self.seconds)
                send(connection, 200, good_answer(body))
        finally:
            with self._lock:
                self._under_way -= 1

    def _wait_for_release(self):
        with self._lock:
            self.waiting += 1
            crashes = self.crashes
            while self.holding and not self._released and self.crashes == crashes:
                self._changed.wait(30)
            self.waiting -= 1
            self._released = max(0, self._released - 1)
            if self.crashes != crashes:
                raise Gone

    # --- faults

    def fault_hang(self, connection, text):
        if connection.recv(1) == b"":
            self.given_up[text] += 1
        raise Gone

    def fault_reset(self, connection, _):
        reset(connection)
        raise Gone

    def fault_close(self, connection, _):
        raise Gone

    def fault_crash(self, connection, _):
        self.crash()
        raise Gone

    def fault_swap(self, *_):
        """A good answer; from now on it has another model."""
        self.models = ["another"]

    def fault_replace(self, connection, _):
        """A good answer, the last one: another process is there already, with another model."""
        with self._lock:
            self._connections.discard(connection)
        self.crash()
        self.models = ["another"]
        self.start()

    def fault_halfcrash(self, connection, _):
        connection.sendall(head(200, 1000) + b'{"choices": [')
        time.sleep(0.05)
        self.crash()
        raise Gone

    def fault_half(self, connection, _):
        connection.sendall(head(200, 1000) + b'{"choices": [')
        raise Gone

    def fault_halfreset(self, connection, _):
        connection.sendall(head(200, 1000) + b'{"choices": [')
        time.sleep(0.05)  # what it has sent may arrive
        reset(connection)
        raise Gone

    def fault_garbage(self, connection, _):
        connection.sendall(b"\x00\xff\x80 this is no HTTP\r\n\r\n")
        raise Gone

    def fault_html(self, connection, _):
        send_bytes(connection, 200, b"<html>Welcome</html>", "Content-Type: text/html")

    def fault_drip(self, connection, text):
        connection.sendall(head(200, 1000) + b"{")
        connection.settimeout(1)
        while True:
            try:
                if connection.recv(1) == b"":
                    self.given_up[text] += 1
                    raise Gone
            except TimeoutError:
                connection.sendall(b" ")

    def fault_huge(self, connection, text):
        """500 MB in pieces of a MB, without saying so before."""
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
        piece = b"100000\r\n" + b"x" * (1 << 20) + b"\r\n"
        try:
            for _ in range(HUGE >> 20):
                connection.sendall(piece)
        except OSError:
            self.given_up[text] += 1
        raise Gone

    def fault_hugesized(self, connection, text):
        connection.sendall(head(200, HUGE))
        self.fault_hang(connection, text)

    def fault_status(self, connection, text):
        """`status 500` stands somewhere behind the brackets."""
        status = int(re.search(r"status (\d+)", text)[1])
        send(connection, status, error(f"This is {status}."))

    def fault_unavailable(self, connection, _):
        send(connection, 503, error("In a moment."), "Retry-After: 0.1")

    def fault_newlines(self, connection, _):
        answer = good_answer(b"")
        answer["text"] = "one\ntwo\r\n\u2028three"
        send_bytes(connection, 200, b"\n" + json.dumps(answer, indent=2).replace("\n", "\r\n").encode() + b"\n")

    def fault_nul(self, connection, _):
        send(connection, 200, good_answer(b"") | {"text": "a\0b"})

    def fault_rawnul(self, connection, _):
        send_bytes(connection, 200, b'{"text": "a\0b"}')

    def fault_latin(self, connection, _):
        send_bytes(connection, 200, b'{"text": "caf\xe9"}')

    def fault_nan(self, connection, _):
        send_bytes(connection, 200, b'{"logprob": NaN}')


def reset(connection):
    try:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        connection.shutdown(socket.SHUT_RD)  # wakes the thread that reads from it
    except OSError:
        pass
    connection.close()


def read_head(reader):
    """The method and the headers of the next request; nothing when there is none."""
    first = reader.readline()
    if not first:
        return None
    headers = {}
    while (text := reader.readline().strip()) != b"":
        name, _, value = text.decode().partition(":")
        headers[name.lower()] = value.strip()
    return first.split()[0].decode(), headers


def head(status, size, *headers):
    lines = [f"HTTP/1.1 {status} -", "Content-Type: application/json", f"Content-Length: {size}", *headers]
    return "\r\n".join([*lines, "", ""]).encode()


def send_bytes(connection, status, content, *headers):
    connection.sendall(head(status, len(content), *headers) + content)


def send(connection, status, answer, *headers):
    send_bytes(connection, status, json.dumps(answer).encode(), *headers)


def error(message):
    return {"error": {"message": message, "type": "an_error"}}


def good_answer(body):
    return {
        "object": "chat.completion",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Yes."}, "finish_reason": "stop"}],
        "echo": hashlib.sha256(body).hexdigest(),
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    }
