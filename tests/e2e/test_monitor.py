"""What people watch: engines, processes, figures over time, what changes, settings, readiness, and what older dashboards read."""

import json
import time
from contextlib import ExitStack, contextmanager

import httpx2
import pytest

from fake_engine import MODEL, FakeEngine
from many import lines
from penstock import create_batch, finished, line, wait_until

pytestmark = pytest.mark.quick


def get(server, path, key=None, **query):
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    answer = httpx2.get(f"{server.url}{path}", params=query, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


@contextmanager
def following(server, key=None, **query):
    """Gives events, as topic and content."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    with httpx2.stream("GET", f"{server.url}/v1/events", params=query, headers=headers, timeout=60) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"] == "text/event-stream"

        def events():
            rows = answer.iter_lines()
            for row in rows:
                if row.startswith("event: "):
                    yield row.removeprefix("event: "), json.loads(next(rows).removeprefix("data: "))

        yield events()


def test_engines_are_told_with_what_they_do(new_server):
    with FakeEngine(answers=30) as engine:
        server = new_server("--engine", engine.url, "--engine", "http://127.0.0.1:1", "--slots", "4", models=())
        client = server.client()
        batch = create_batch(client, [line(f"line {n}", {"model": MODEL}) for n in range(60)])
        wait_until(lambda: client.batches.retrieve(batch.id).request_counts.completed == 30, "the engine holds the rest")
        up, down = get(server, "/v1/engines")["data"]
        (worker,) = get(server, "/v1/workers")["data"]
        assert (up["name"], up["kind"], up["models"], up["state"], up["reason"]) == (engine.url, "remote", [MODEL], "ready", None)
        assert (up["slots"], up["slots_busy"], up["waiting"], up["lines"], up["shared"]) == (4, 4, 26, 30, False)
        assert up["lines_per_second"] > 0 and up["tokens_per_second"] == pytest.approx(2 * up["lines_per_second"], rel=0.1)
        assert (down["name"], down["models"], down["state"], down["slots"]) == ("http://127.0.0.1:1", [], "down", 0)
        assert "127.0.0.1:1" in down["reason"] or "refused" in down["reason"]
        assert up["worker_id"] == down["worker_id"] == worker["id"]
        assert (worker["is_worker"], worker["engines"], worker["slots"], worker["slots_busy"]) == (True, 2, 4, 4)
        assert (worker["pid"], worker["draining"], worker["disk_low"]) == (server.process.pid, False, False)
        assert worker["last_seen_at"] >= worker["started_at"] > time.time() - 600
        engine.release()
        finished(client, batch)


@pytest.mark.many
def test_processes_of_one_database_know_each_other_and_sum_up_what_they_do(deployment):
    with FakeEngine() as engine:
        server, worker = deployment.server(), deployment.worker(engine)
        client = server.client()

        def known():
            return sorted((one["is_worker"], one["pid"], one["engines"]) for one in get(server, "/v1/workers")["data"])

        there = [(False, server.process.pid, 0), (True, worker.process.pid, 1)]
        wait_until(lambda: known() == there, "the server has heard of the worker")
        wait_until(lambda: get(server, "/v1/stats")["points"], "the first step")
        finished(client, create_batch(client, lines(40)))
        wait_until(lambda: sum(one["lines"] for one in get(server, "/v1/stats")["points"]) == 40, "all lines count")
        (told,) = get(server, "/v1/engines")["data"]
        assert (told["name"], told["lines"], told["state"]) == (engine.url, 40, "ready")
        points = get(server, "/v1/stats")["points"]
        assert sum(one["output_tokens"] for one in points) == 80
        assert (points[-1]["queued_lines"], points[-1]["queued_batches"], points[-1]["slots"]) == (0, 0, 4)
        assert get(server, "/v1/stats", since=points[-1]["at"])["points"] in ([], get(server, "/v1/stats")["points"][-1:])
        coarse = get(server, "/v1/stats", step=60)
        assert coarse["step"] == 60 and sum(one["lines"] for one in coarse["points"]) == 40


@pytest.mark.parametrize("query", ["step=7", "since=x", "since=-1"])
def test_a_wrong_parameter_of_stats_is_named(shared_server, query):
    answer = httpx2.get(f"{shared_server.url}/v1/stats?{query}")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, query.partition("=")[0])


def test_followers_are_told_at_first_and_when_something_has_changed(new_server):
    with FakeEngine(answers=0) as engine:
        server = new_server("--engine", engine.url, models=())
        client = server.client()
        with following(server) as events:
            seen = {}
            while len(seen) < 6:
                topic, content = next(events)
                seen.setdefault(topic, content)
            assert set(seen) == {"queue", "batches", "deliveries", "engines", "workers", "stats"}
            assert seen["stats"]["step"] == 5 and len(seen["stats"]["points"]) == 1
            assert seen["queue"]["data"] == seen["batches"]["data"] == []
        with following(server, topics="workers,batches") as events:  # workers change: when they were seen last
            told = [next(events)[0] for _ in range(4)]
            assert told == ["workers", "batches", "workers", "workers"], "what is as it was is not told again"
        with following(server, topics="batches,queue") as events:
            assert {next(events)[0], next(events)[0]} == {"batches", "queue"}
            batch = create_batch(client, [line("one", {"model": MODEL})])
            changed = dict(next(events) for _ in range(2))
            assert changed["queue"]["data"][0]["id"] == changed["batches"]["data"][0]["id"] == batch.id
            engine.release()
            assert any(topic == "batches" and content["data"][0]["status"] == "completed" for topic, content in events)


def test_many_followers_are_told_the_same(new_server):
    with FakeEngine(answers=0) as engine, ExitStack() as stack:
        server = new_server("--engine", engine.url, models=())
        followers = [stack.enter_context(following(server, topics="workers,stats")) for _ in range(8)]
        for events in followers:
            told = [next(events)[0] for _ in range(4)]  # of some seconds, in which all look at the same moments
            assert {"workers", "stats"} <= set(told)


def test_topics_need_their_scopes_and_are_the_callers_own(new_server):
    with FakeEngine() as engine:
        server = new_server("--engine", engine.url, models=())
        admin = server.place.key = server.make_key(scopes="files,batches,admin")
        _, other = server.make_project("other")
        monitor = server.make_key(scopes="batches,monitor")

        def refusal(key, topics):
            answer = httpx2.get(f"{server.url}/v1/events?topics={topics}", headers={"Authorization": f"Bearer {key}"})
            return answer.status_code, answer.json()["error"]

        status, error = refusal(other, "queue,engines")
        assert (status, error["code"]) == (403, "missing_scope") and "engines" in error["message"]
        status, error = refusal(admin, "queue,weather")
        assert (status, error["param"]) == (400, "topics") and "weather" in error["message"]
        client = server.client(admin)
        finished(client, create_batch(client, [line("one", {"model": MODEL})]))
        with following(server, other) as events:
            first = dict(next(events) for _ in range(3))
            assert set(first) == {"queue", "batches", "deliveries"} and first["batches"]["data"] == []
        with following(server, monitor, topics="engines,batches") as events:
            first = dict(next(events) for _ in range(2))
            assert len(first["engines"]["data"]) == len(first["batches"]["data"]) == 1


@pytest.fixture(scope="module")
def some_batches(new_module_server):
    """A server with three batches: one that has completed, one that was not good, and one that goes on."""
    with FakeEngine(answers=3) as engine:
        server = new_module_server("--engine", engine.url, "--slots", "3", models=())
        client = server.client()
        good = create_batch(client, lines(3), metadata={"Team": 'the "Night" 100%'})
        bad = create_batch(client, [line("one", {"model": "unknown"})])
        finished(client, good), finished(client, bad)
        running = create_batch(client, lines(2), metadata={"team": "day"})
        wait_until(lambda: client.batches.retrieve(running.id).status == "in_progress", "it has begun")
        yield server, good, bad, running


def test_lists_of_batches_are_filtered(some_batches):
    server, good, bad, running = some_batches

    def found(**query):
        return [one["id"] for one in get(server, "/v1/batches", **query)["data"]]

    assert found(status="completed") == [good.id]
    assert found(status="failed") == [bad.id]
    assert found(status="in_progress") == [running.id]
    assert found(status="validating") == []
    assert found(model=MODEL) == [running.id, good.id]
    assert found(model="other") == []
    assert found(search="night") == found(search='"NIGHT" 100%') == [good.id]
    assert found(search="team") == [running.id, good.id]
    assert found(search="10_%") == found(search="nothing") == []
    assert found(search=bad.id[-20:].upper()) == [bad.id]
    assert found(created_after=good.created_at - 1000) == [running.id, bad.id, good.id]
    assert found(created_after=running.created_at + 1000) == found(created_before=good.created_at) == []
    assert found(created_before=running.created_at + 1000, status="completed") == [good.id]
    page = get(server, "/v1/batches", search="team", limit=1)
    assert page["has_more"] and page["last_id"] == running.id
    assert found(search="team", limit=1, after=running.id) == [good.id]
    for query, name in ({"status": "lost"}, "status"), ({"created_after": "x"}, "created_after"):
        answer = httpx2.get(f"{server.url}/v1/batches", params=query)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, name)


def test_older_dashboards_find_history_and_sums(some_batches):
    server, good, bad, running = some_batches
    history = get(server, "/v1/jobs/history", limit=2)
    assert [one["batch_id"] for one in history["jobs"]] == [running.id, bad.id]
    assert (history["total"], history["limit"], history["offset"], history["has_more"]) == (3, 2, 0, True)
    (job,) = get(server, "/v1/jobs/history", offset=2, end_date=int(time.time()) + 100)["jobs"]
    assert (job["batch_id"], job["status"], job["model"], job["total_requests"]) == (good.id, "completed", MODEL, 3)
    assert (job["completed_requests"], job["total_tokens"], job["has_errors"]) == (3, 15, False)
    assert job["duration"] > 0 and job["token_throughput"] == pytest.approx(15 / job["duration"])
    stats = get(server, "/v1/jobs/stats")
    assert (stats["total_jobs"], stats["success_rate"]) == (3, 0.5)
    assert stats["by_status"] == {"completed": 1, "failed": 1, "in_progress": 1}
    assert stats["by_model"] == {MODEL: 2}
    assert (stats["completed_requests"], stats["output_tokens"], stats["input_tokens"]) == (3, 6, 9)
    assert sum(one["jobs"] for one in stats["timeline"]) == 3 and len(stats["timeline"]) == 24
    assert get(server, "/v1/jobs/stats", status="completed")["total_requests"] == 3
    assert get(server, "/health") == get(server, "/healthz")


def test_settings_tell_values_and_sources_and_no_secrets(new_server):
    with FakeEngine(key="sesame-1") as engine:
        environment = {"PENSTOCK_ENGINE_KEY": "sesame-1"}
        server = new_server("--engine", engine.url, "--slots", "3", env=environment, models=())
        answer = get(server, "/v1/settings")
        settings = {one["key"]: one for one in answer["data"]}
        assert (settings["slots"]["value"], settings["slots"]["source"]) == ("3", "flag")
        assert (settings["engine_key"]["value"], settings["engine_key"]["source"]) == ("(hidden)", "environment")
        assert (settings["context"]["source"], bool(settings["context"]["help"])) == ("default", True)
        assert "sesame-1" not in json.dumps(answer)


def test_a_server_is_ready_unless_it_is_about_to_end(new_server):
    with FakeEngine(answers=0) as engine:
        server = new_server("--engine", engine.url, models=())
        client = server.client()
        assert get(server, "/readyz") == get(server, "/ready") == {"status": "ready"}
        create_batch(client, [line("one", {"model": MODEL})])
        wait_until(lambda: get(server, "/v1/engines")["data"][0]["slots_busy"] == 1, "the line is under way")
        server.process.terminate()
        wait_until(lambda: httpx2.get(f"{server.url}/readyz").status_code == 503, "it drains")
        answer = httpx2.get(f"{server.url}/readyz").json()
        assert answer == {"status": "not_ready", "reasons": ["The server is about to end."]}
        assert get(server, "/v1/workers")["data"][0]["draining"]
        engine.release()
        server.process.wait(30)
