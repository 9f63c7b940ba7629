"""Single lines of a batch, while it runs and afterwards: requests and answers side by side, filters, search."""

import json

import httpx2
import pytest

from fake_engine import MODEL, FakeEngine
from penstock import create_batch, finished, line, wait_until

pytestmark = pytest.mark.quick

LINES = 300  # of several spans
FAILED = {3, 77, 299}


def custom_id(n):
    return f'n {n} "é"' if n % 2 else f"n {n} e"


def body(n):
    return {"model": MODEL, "messages": [{"role": "user", "content": str(n)}]}


def requests():
    return [line(custom_id(n), body(n)) for n in range(LINES)]


def answer(request):
    n = int(request["messages"][0]["content"])
    if n in FAILED:
        return 400, json.dumps({"error": {"message": f"no {n}"}}).encode()
    text = "x" * 70_000 if n == 5 else f"answer {n}"
    return 200, json.dumps({"choices": [{"message": {"content": text}}], "usage": {"completion_tokens": 1}}).encode()


class Lines:
    """Asks for them, of one batch."""

    def __init__(self, server, batch):
        self.url = f"{server.url}/v1/batches/{batch.id}/lines"

    def page(self, **query):
        return httpx2.get(self.url, params=query).raise_for_status().json()

    def all(self, **query):
        found, page = [], self.page(**query)
        while True:
            found += page["data"]
            if not page["has_more"]:
                return found
            page = self.page(**{**query, "after": page["last_id"]})


def indices(lines):
    return [one["index"] for one in lines]


def check_line(one, status):
    n = one["index"]
    assert (one["custom_id"], one["status"]) == (custom_id(n), status)
    assert one["request"] == {"method": "POST", "url": "/v1/chat/completions", "body": {**body(n), "max_tokens": 6}}
    if status == "pending":
        assert (one["response"], one["error"]) == (None, None)
    elif status == "failed":
        assert one["response"]["status_code"] == 400
        assert one["response"]["body"]["error"]["message"] == f"no {n}"
    elif n == 5:
        assert (one["response"]["body"], one["truncated"]) == (None, True)
    else:
        assert one["response"]["body"]["choices"][0]["message"]["content"] == f"answer {n}"


def status_of(n):
    return "failed" if n in FAILED else "completed"


def test_lines_of_a_batch_that_has_ended(new_server):
    with FakeEngine(reply=answer) as engine:
        server = new_server("--engine", engine.url, models=())
        client = server.client()
        batch = finished(client, create_batch(client, requests()))
    assert (batch.request_counts.completed, batch.request_counts.failed) == (LINES - len(FAILED), len(FAILED))
    lines = Lines(server, batch)
    page = lines.page()
    assert indices(page["data"]) == list(range(20))
    assert (page["first_id"], page["last_id"], page["has_more"]) == ("0", "19", True)
    all_of = lines.all(limit=100)
    assert indices(all_of) == list(range(LINES))
    for one in all_of:
        check_line(one, status_of(one["index"]))
    assert indices(lines.all(status="failed")) == sorted(FAILED)
    assert set(indices(lines.all(status="completed", limit=100))) == set(range(LINES)) - FAILED
    assert lines.all(status="pending") == []
    assert indices(lines.page(after=298)["data"]) == [299]
    assert indices(lines.all(custom_id='n 29 "é')) == [29]
    assert indices(lines.all(custom_id="7", status="failed")) == [77]
    assert lines.all(custom_id="N 2") == []

    client.files.delete(batch.input_file_id)
    assert [one["request"] for one in lines.page(limit=2)["data"]] == [None, None]
    client.files.delete(batch.output_file_id)
    assert indices(lines.all()) == sorted(FAILED)


def test_lines_of_a_batch_that_runs(new_server):
    with FakeEngine(reply=answer, answers=100) as engine:
        server = new_server("--engine", engine.url, "--slots", "4", models=())
        client = server.client()
        batch = create_batch(client, requests())
        wait_until(lambda: client.batches.retrieve(batch.id).request_counts.completed >= 90, "most have answers")
        lines = Lines(server, batch)
        all_of = lines.all(limit=100)
        assert indices(all_of) == list(range(LINES))
        states = {}
        for one in all_of:
            states.setdefault(one["status"], set()).add(one["index"])
            check_line(one, one["status"])
        assert len(states["pending"]) >= LINES - 100
        assert set(indices(lines.all(status="pending", limit=100))) == states["pending"]
        assert set(indices(lines.all(status="completed", limit=7))) == states["completed"]
        assert set(indices(lines.all(status="failed"))) == states.get("failed", set())
        wanted = [n for n in range(LINES) if "11" in str(n)]
        assert indices(lines.all(custom_id="11", limit=3)) == wanted
        assert indices(lines.all(custom_id='29 "é')) == [29, 129, 229]
        pending = {n for n in wanted if n in states["pending"]}
        assert set(indices(lines.all(custom_id="11", status="pending", limit=2))) == pending
        engine.release()
        assert finished(client, batch).status == "completed"


def test_a_batch_that_was_not_found_good_has_no_lines(client, shared_server):
    batch = finished(client, create_batch(client, [line("one", {"model": "unknown"})]))
    assert batch.status == "failed"
    page = Lines(shared_server, batch).page()
    assert (page["data"], page["first_id"], page["last_id"], page["has_more"]) == ([], None, None, False)


@pytest.mark.parametrize("query", ["after=x", "after=-1", "after=4294967296", "limit=0", "limit=101", "status=lost"])
def test_a_wrong_parameter_is_named(shared_server, query):
    answer = httpx2.get(f"{shared_server.url}/v1/batches/batch_unknown/lines?{query}")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, query.partition("=")[0])
