"""The log: one event a line, as text or JSON, and nothing of what lines and answers say."""

import json
import re

import httpx2
import pytest

from fake_engine import MODEL as FAKE
from fake_engine import FakeEngine
from penstock import create_batch, finished, line

pytestmark = pytest.mark.local

WORD = "xylograph"


def used(new_server, *settings):
    """A server that has run a batch, and an id of a request to it."""

    def reply(body):
        status, content = FakeEngine._greet(body)
        return (500, content) if "bad" in str(body) else (status, content)

    with FakeEngine(reply=reply) as engine:
        server = new_server("--engine", engine.url, "--line-attempts", "1", *settings, models=())
        names = (f"{WORD} 1", f"{WORD} bad")
        batch = finished(server.client(), create_batch(server.client(), [line(name, {"model": FAKE}) for name in names]))
        request = httpx2.get(f"{server.url}/v1/batches?limit=1", headers={"Authorization": f"Bearer {WORD}"})
        return server.log.read_text(), batch, request.headers["x-request-id"]


def test_json_has_one_object_a_line(new_server):
    log, batch, request = used(new_server, "--log-format", "json", "--log-level", "debug")
    events = [json.loads(one) for one in log.splitlines()]
    for event in events:
        assert {"time", "level", "message"} <= event.keys() <= {"time", "level", "message", "batch", "request_id"}
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", event["time"])
        assert event["level"] in ("debug", "info", "warn", "error")
    told = [event["message"] for event in events if event.get("batch") == batch.id]
    assert told == [f"2 lines for {FAKE}", "completed, 1 lines answered, 1 failed"]
    (asked,) = [event for event in events if event.get("request_id") == request]
    assert asked["level"] == "debug"
    assert re.fullmatch(r"GET /v1/batches 200 in \d+\.\d ms", asked["message"])
    assert WORD not in log


def test_text_tells_no_requests_unless_debugging(new_server):
    log, batch, request = used(new_server)
    assert f"info  batch {batch.id}: 2 lines for {FAKE}\n" in log
    assert request not in log and WORD not in log
