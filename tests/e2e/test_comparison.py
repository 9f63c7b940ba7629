"""Two batches side by side, line by line."""

import json

import httpx2
import pytest

from fake_engine import MODEL, FakeEngine
from penstock import create_batch, finished, line

pytestmark = pytest.mark.quick


def answer(request):
    text = request["messages"][0]["content"]
    if text.startswith("refuse"):
        return 400, json.dumps({"error": {"message": f"No: {text}"}}).encode()
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 1}}
    return 200, json.dumps({"id": id(request), "choices": [{"message": {"content": text.upper()}}], "usage": usage}).encode()


def batch_of(client, texts):
    lines = [line(name, {"model": MODEL, "messages": [{"role": "user", "content": text}]}) for name, text in texts.items()]
    return finished(client, create_batch(client, lines))


@pytest.fixture(scope="module")
def world(new_module_server):
    with FakeEngine(reply=answer) as engine:
        server = new_module_server("--engine", engine.url, models=())
        client = server.client()
        common = {f"line {n}": f"text {n}" for n in range(30)}
        left = batch_of(client, {"only é left": "a", **common, "changed": "one", "broken": "refuse it", "both": "refuse"})
        right = batch_of(client, {"changed": "two", "both": "refuse", **common, "broken": "now fine", "only right": "b"})
        yield server, left, right


def compare(server, left, right, status=200, **query):
    answer = httpx2.get(f"{server.url}/v1/batches/{left}/comparison", params={"with": right, **query})
    assert answer.status_code == status, answer.text
    return answer.json()


def test_lines_are_compared_by_their_custom_ids(world):
    server, left, right = world
    found = compare(server, left.id, right.id, show="different")
    assert found["totals"] == {"same": 31, "different": 2, "only_left": 1, "only_right": 1}
    assert [one["custom_id"] for one in found["data"]] == ["changed", "broken"]
    changed, broken = found["data"]
    usage = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}
    usage |= {"input_tokens_details": {"cached_tokens": 1}, "output_tokens_details": {"reasoning_tokens": 0}}
    assert changed["left"] == {"status": "completed", "text": "ONE", "usage": usage}
    assert changed["right"]["text"] == "TWO"
    assert (broken["left"]["status"], broken["left"]["text"]) == ("failed", "No: refuse it")
    assert (broken["right"]["status"], broken["right"]["text"]) == ("completed", "NOW FINE")
    ends = compare(server, left.id, right.id, show="only_one")["data"]
    assert [(one["custom_id"], one["verdict"]) for one in ends] == [("only é left", "only_left"), ("only right", "only_right")]
    assert ends[0]["right"] is None and ends[1]["left"] is None


def test_pages_of_a_comparison_follow_each_other(world):
    server, left, right = world
    seen, query = [], {"limit": 10}
    while True:
        page = compare(server, left.id, right.id, **query)
        seen += [one["custom_id"] for one in page["data"]]
        if not page["has_more"]:
            break
        query["after"] = page["last_id"]
    assert len(seen) == len(set(seen)) == 35
    assert seen[:2] == ["only é left", "line 0"] and seen[-1] == "only right"


def test_what_cannot_be_compared_is_told(world):
    server, left, right = world
    assert compare(server, left.id, "batch_unknown", status=404)["error"]["param"] == "with"
    assert compare(server, "batch_unknown", left.id, status=404)
    for query, name in ({"show": "some"}, "show"), ({"limit": 0}, "limit"), ({"after": "x"}, "after"):
        assert compare(server, left.id, right.id, status=400, **query)["error"]["param"] == name
    missing = httpx2.get(f"{server.url}/v1/batches/{left.id}/comparison")
    assert (missing.status_code, missing.json()["error"]["param"]) == (400, "with")


def test_a_batch_that_goes_on_is_not_compared(new_server):
    with FakeEngine(answers=1) as engine:
        server = new_server("--engine", engine.url, models=())
        client = server.client()
        done = batch_of(client, {"one": "a"})
        running = create_batch(client, [line("one", {"model": MODEL})])
        assert "not ended" in compare(server, done.id, running.id, status=409)["error"]["message"]
