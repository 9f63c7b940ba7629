"""Projects share the engines by their weights, and each has at most what its quotas say (rows 41 and 42)."""

import httpx2
import pytest

from fault_engine import MODEL, FaultEngine
from penstock import create_batch, finished, line, upload, wait_until

LINES = 50_000  # as many as a batch may have


def some_lines(name, count):
    return [line(f"{name}{n}", {"model": MODEL, "messages": [{"role": "user", "content": f"{name} {n}"}]}) for n in range(count)]


@pytest.fixture
def engine():
    with FaultEngine(seconds=0.05) as made:
        yield made


def create_from(server, file):
    good = {"input_file_id": file.id, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    return httpx2.post(f"{server.url}/v1/batches", json=good, timeout=60)


def asked(engine, name):
    return sum(times for text, times in engine.asked.copy().items() if text.startswith(name))


def set_quota(server, quota, limit):
    """Of the project of all that come without a key."""
    done = server.tool("projects", "set", "proj_default", f"--{quota}", "none" if limit is None else limit)
    assert done.returncode == 0, done.stderr


def test_fault_42_a_million_lines_of_one_project_keep_anothers_first_line_waiting_for_a_slot_alone(new_server, engine):
    limits = {"MAX_QUEUE_DEPTH": "0", "MAX_TOTAL_QUEUED_REQUESTS": "0"}
    server = new_server("--engine", engine.url, "--slots", "4", env=limits, models=())
    client = server.client()
    file = upload(client, some_lines("many", LINES))
    for _ in range(1_000_000 // LINES):
        assert create_from(server, file).status_code == 200
    wait_until(lambda: asked(engine, "many") > 20, "the first lines are asked")

    _, key = server.make_project("other", "--weight", "3")
    create_batch(server.client(key), some_lines("other", 1_000))
    before = asked(engine, "many")
    wait_until(lambda: asked(engine, "other") > 0, "the other's first line is asked", seconds=10)
    assert asked(engine, "many") - before <= 4 / 0.05  # as many as 4 slots answer within a second

    before = asked(engine, "many"), asked(engine, "other")
    wait_until(lambda: asked(engine, "other") >= before[1] + 120, "more of the other's are asked")
    assert 20 <= asked(engine, "many") - before[0] <= 60  # a third as many: 40


def test_fault_41_what_a_quota_does_not_allow_is_refused_and_clients_do_not_try_again(new_server, engine):
    engine.holding = True
    server = new_server("--engine", engine.url, "--slots", "4", models=())
    client = server.client()
    file = upload(client, some_lines("a", 100))

    def is_refused(answer, words):
        assert (answer.status_code, answer.headers["x-should-retry"]) == (429, "false")
        assert "retry-after" not in answer.headers
        error = answer.json()["error"]
        assert (error["code"], error["type"]) == ("quota_exceeded", "rate_limit_error")
        assert words in error["message"]

    set_quota(server, "active-batches", 1)
    running = create_from(server, file).json()
    is_refused(create_from(server, file), "1 of 1 batches are in use")
    set_quota(server, "active-batches", None)
    set_quota(server, "queued-lines", 150)
    is_refused(create_from(server, file), "100 of 150 lines are in use, and this needs 100 more")

    set_quota(server, "stored-bytes", file.bytes + 100_000)
    small, large = b"x" * 60_000, b"x" * 1_000_000
    bring = lambda content, url=f"{server.url}/v1/files", **fields: httpx2.post(
        url, files={fields.get("name", "file"): ("a.txt", content)}, data={"purpose": "user_data"}
    )
    is_refused(bring(large), "this needs ")
    kept = bring(small).json()
    is_refused(bring(small), f"{file.bytes + 60_000} of {file.bytes + 100_000} bytes are in use, and this needs 60")
    wanted = {"filename": "a.txt", "purpose": "user_data", "mime_type": "text/plain"}
    is_refused(httpx2.post(f"{server.url}/v1/uploads", json=wanted | {"bytes": 1_000_000}), "this needs 1000000 more")
    made = httpx2.post(f"{server.url}/v1/uploads", json=wanted | {"bytes": 40_000}).json()
    parts = f"{server.url}/v1/uploads/{made['id']}/parts"
    first = bring(b"x" * 40_000, parts, name="data")
    is_refused(bring(b"x", parts, name="data"), "this needs 1 more")
    is_refused(bring(large, parts, name="data"), "this needs ")
    done = httpx2.post(f"{server.url}/v1/uploads/{made['id']}/complete", json={"part_ids": [first.json()["id"]]})
    assert done.json()["status"] == "completed"
    is_refused(bring(b"x"), "this needs 1 more")
    client.files.delete(kept["id"])
    assert bring(small).status_code == 200

    set_quota(server, "stored-bytes", 1)
    engine.release()
    batch = finished(client, client.batches.retrieve(running["id"]))  # a quota keeps no batch from its end
    assert (batch.status, batch.request_counts.completed) == ("completed", 100)


def test_requests_past_the_rate_are_refused_for_a_moment(new_server, engine):
    server = new_server("--engine", engine.url, models=())
    get = lambda path: httpx2.get(f"{server.url}{path}")
    assert "x-ratelimit-limit-requests" not in get("/v1/batches").headers
    set_quota(server, "requests-per-second", 1)
    wait_until(lambda: "x-ratelimit-limit-requests" in get("/v1/batches").headers, "the limit holds", seconds=5)
    answers = [get("/v1/batches") for _ in range(12)]
    good, bad = ([one for one in answers if one.status_code == status] for status in (200, 429))
    assert len(good) + len(bad) == 12 and bad
    for answer in answers:
        assert answer.headers["x-ratelimit-limit-requests"] == "1"
        assert int(answer.headers["x-ratelimit-remaining-requests"]) == 0
        assert 1 <= int(answer.headers["x-ratelimit-reset-requests"].removesuffix("ms")) <= 1_000
    assert bad[0].headers["retry-after"] == "1" and "x-should-retry" not in bad[0].headers
    assert bad[0].json()["error"]["code"] == "rate_limit_exceeded"
    assert all(get("/healthz").status_code == 200 for _ in range(12))
    wait_until(lambda: get("/v1/batches").status_code == 200, "they are taken again", seconds=5)
    set_quota(server, "requests-per-second", None)  # for the audit
    wait_until(lambda: "x-ratelimit-limit-requests" not in get("/v1/batches").headers, "there is no limit", seconds=5)
