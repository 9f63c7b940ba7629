"""Answers that a remote engine is asked for as streams: they are the same, and no proxy sees a silent connection."""

import json
import select
import socket
import threading
import time

import pytest

from fake_engine import MODEL, FakeEngine
from penstock import create_batch, engine_url, finished, line, output_lines

pytestmark = pytest.mark.local

IDLE = 1  # seconds of silence after which the proxy cuts a connection


class ImpatientProxy:
    """Passes bytes on to an engine and back, and closes connections on which none flow."""

    def __init__(self, port):
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._pass_on, args=(connection,), daemon=True).start()

    def _pass_on(self, near):
        with near, socket.create_connection(("127.0.0.1", self._port)) as far:
            while ready := select.select([near, far], [], [], IDLE)[0]:
                for side in ready:
                    content = side.recv(65536)
                    if not content:
                        return
                    (far if side is near else near).sendall(content)


class SlowEngine(FakeEngine):
    """Takes longer for its first answer than the proxy has patience, unless it may stream it."""

    def _handler(engine):
        class Handler(super()._handler()):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status, content = engine._answer(json.dumps(body).encode())
                if body.get("stream"):
                    self._stream(json.loads(content))
                elif len(engine.bodies) == 1:
                    self.connection.recv(1)  # until the proxy has closed it
                    self.close_connection = True
                else:
                    self.reply(status, content)

            def _stream(self, answer):
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                self.wfile.flush()
                (choice,) = answer.pop("choices")
                usage = answer.pop("usage")
                answer["object"] += ".chunk"
                text = choice.pop("message")["content"]
                pieces = [text[n : n + 4] for n in range(0, len(text), 4)]
                choices = [{"index": 0, "delta": {"content": piece}, "finish_reason": None} for piece in pieces]
                events = [answer | {"choices": [one]} for one in choices]
                events.append(answer | {"choices": [{"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}]})
                events.append(answer | {"choices": [], "usage": usage})
                for event in [*map(json.dumps, events), "[DONE]"]:
                    time.sleep(2 * IDLE / len(events))
                    content = f"data: {event}\n\n".encode()
                    self.wfile.write(b"%x\r\n%b\r\n" % (len(content), content))
                    self.wfile.flush()
                self.wfile.write(b"0\r\n\r\n")

        return Handler


@pytest.mark.parametrize("streamed", [False, True])
def test_a_proxy_that_cuts_silent_connections_cuts_no_streamed_answer(new_server, streamed):
    with SlowEngine() as engine, ImpatientProxy(int(engine.url.rpartition(":")[2])) as proxy:
        client = new_server("--engine", proxy.url, *["--stream-answers"] * streamed, models=()).client()
        sent = line("a", {"model": MODEL, "stream": False})
        batch = finished(client, create_batch(client, [sent]))
    assert len(engine.bodies) == (1 if streamed else 2)
    (output,) = output_lines(client, batch)
    assert output["response"]["body"] == json.loads(FakeEngine._greet(sent["body"])[1])
    assert batch.usage.total_tokens == 5


CHAT = {"messages": [{"role": "user", "content": "Name three colours."}], "max_tokens": 5}
CASES = {
    "/v1/chat/completions": [CHAT | {"n": 2, "logprobs": True, "top_logprobs": 2}, CHAT | {"stop": [","]}],
    "/v1/completions": [{"prompt": "Once upon a time", "max_tokens": 5, "logprobs": 2}],
    "/v1/responses": [{"input": "Name three colours.", "max_output_tokens": 5}],
}
OF_EACH_RUN = ("id", "created", "created_at", "completed_at", "timings")


def without(names, value):
    """The value without members of these names."""
    if isinstance(value, dict):
        return {name: without(names, member) for name, member in value.items() if name not in names}
    return [without(names, one) for one in value] if isinstance(value, list) else value


def test_a_streamed_answer_is_the_one_that_the_real_engine_gives_without_a_stream(shared_server, new_server):
    # No prompt is kept and one line runs at a time: otherwise the engine itself could calculate something else.
    same = {"temperature": 0, "cache_prompt": False}
    engine = ("--engine", engine_url(shared_server), "--slots", "1")
    plain, streamed = (new_server(*engine, *more, models=()).client() for more in ([], ["--stream-answers"]))
    for endpoint, bodies in CASES.items():
        lines = [line(str(n), body | same, url=endpoint) for n, body in enumerate(bodies)]
        for one in lines if endpoint == "/v1/responses" else []:
            del one["body"]["max_tokens"]
        outputs = []
        for client in plain, streamed:
            batch = finished(client, create_batch(client, lines, endpoint=endpoint))
            assert batch.error_file_id is None
            outputs.append([without(OF_EACH_RUN, one["response"]["body"]) for one in output_lines(client, batch)])
        assert outputs[0] == outputs[1]
        assert all(body["usage"] for body in outputs[0])
