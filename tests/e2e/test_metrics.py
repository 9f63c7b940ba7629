"""What /metrics tells, in both formats, as official parsers read them; and that docs/metrics.md lists it."""

import re
import subprocess

import httpx2
import pytest
from prometheus_client import parser
from prometheus_client.openmetrics import parser as openmetrics

from fake_engine import FakeEngine
from fake_engine import MODEL as FAKE
from many import lines, slow_engine
from penstock import ROOT, create_batch, finished, free_port, line, wait_until

pytestmark = pytest.mark.quick

OPEN_METRICS = {"Accept": "application/openmetrics-text;version=1.0.0"}
PROMTOOL = ROOT / "build/tools/promtool"


def page(server, headers=None):
    answer = httpx2.get(f"{server.url}/metrics", headers=headers or {})
    assert answer.status_code == 200, answer.text
    return answer


def families(text):
    """By the names that their samples have, as the text format has them."""
    return {family.name + "_total" * (family.type == "counter"): family for family in parser.text_string_to_metric_families(text)}


def value(server, name, **labels):
    """The sum over all samples of that name with these labels."""
    found = families(page(server).text)
    samples = [one for family in found.values() for one in family.samples if one.name == name]
    return sum(one.value for one in samples if labels.items() <= one.labels.items())


def documented():
    """Type and labels by name."""
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \|([^|]*)\|", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE)
    return {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}


def told(found):
    """Type and labels by name, of families that have samples."""
    labels = {name: set().union(*(set(sample.labels) - {"le"} for sample in family.samples)) for name, family in found.items()}
    return {name: (family.type, labels[name]) for name, family in found.items()}


@pytest.fixture
def used_server(new_server):
    """One that has run three lines, of which the engine refused one."""
    with FakeEngine() as engine:
        engine.refused.add("Say hello to bad.")
        server = new_server("--engine", engine.url, "--slots", "2", models=())
        batch = create_batch(server.client(), [line(name, {"model": FAKE}) for name in ("a", "b", "bad")])
        finished(server.client(), batch)
        server.batch = batch
        yield server


def test_what_is_told_is_what_is_documented(used_server):
    text = page(used_server)
    assert text.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    kinds = {name: ("gauge" if kind == "info" else kind, labels) for name, (kind, labels) in documented().items()}
    found = told(families(text.text))
    found["penstock_deadline_slack_seconds"] = ("gauge", set())  # there is none now
    assert found == kinds

    text = page(used_server, OPEN_METRICS)
    assert text.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    strict = {family.name: family for family in openmetrics.text_string_to_metric_families(text.text)}
    suffixes = {"counter": "_total", "info": "_info"}
    assert {name + suffixes.get(family.type, ""): family.type for name, family in strict.items()} == {
        name: kind for name, (kind, _) in documented().items()}


def test_lines_tokens_and_requests_are_counted(used_server):
    server = used_server
    assert value(server, "penstock_lines_total", model=FAKE, outcome="completed") == 2
    assert value(server, "penstock_lines_total", model=FAKE, outcome="failed") == 1
    assert value(server, "penstock_tokens_total", model=FAKE, kind="input") == 6
    assert value(server, "penstock_tokens_total", model=FAKE, kind="output") == 4
    assert value(server, "penstock_line_duration_seconds_count", model=FAKE) == 3
    assert value(server, "penstock_commit_lines_sum") == 3
    assert 0 < value(server, "penstock_commit_duration_seconds_sum") < 60
    assert value(server, "penstock_batches_ended_total", status="completed") == 1
    assert value(server, "penstock_uploaded_bytes_total") == server.client().files.list(purpose="batch").data[0].bytes
    assert value(server, "penstock_engine_state", state="ready") == 1
    assert value(server, "penstock_engine_slots") == 2
    assert value(server, "penstock_workers") == 1
    assert value(server, "penstock_http_requests_total", route="/v1/batches", method="POST", status="2xx") == 1
    assert value(server, "penstock_http_request_duration_seconds_count", route="/v1/batches", method="POST") == 1
    httpx2.get(f"{server.url}/v1/batches/batch_unknown")
    assert value(server, "penstock_http_requests_total", route="/v1/batches/{id}", status="4xx") == 1
    assert value(server, "process_open_fds") > 5
    assert value(server, "process_resident_memory_bytes") > 1 << 20


def test_nothing_that_clients_name_is_told(used_server):
    httpx2.request("PURGE", f"{used_server.url}/v1/xylograph")
    text = page(used_server).text
    assert value(used_server, "penstock_http_requests_total", route="other", method="other", status="4xx") == 1
    for word in (used_server.batch.id, used_server.batch.input_file_id, "xylograph", "PURGE", "input.jsonl", "proj_"):
        assert word not in text


def test_the_queue_is_told_by_priority_and_state(new_server):
    with FakeEngine(answers=0) as engine:
        server = new_server("--engine", engine.url, "--slots", "2", models=())
        client = server.client()
        running = create_batch(client, [line(f"{n}", {"model": FAKE}) for n in range(5)])
        wait_until(lambda: len(engine.bodies) == 2, "two lines are with the engine")
        waiting = create_batch(client, [line(f"{n}", {"model": FAKE}) for n in range(3)])
        paused = create_batch(client, [line("late", {"model": FAKE})], extra_body={"priority": -1})
        httpx2.post(f"{server.url}/v1/batches/{paused.id}/pause")

        def queued():
            return {(one.labels["priority"], one.labels["state"]): one.value
                    for one in families(page(server).text)["penstock_queue_lines"].samples if one.value}

        wait_until(lambda: queued() == {("0", "running"): 5, ("0", "waiting"): 3, ("-1", "paused"): 1}, "all is told")
        assert value(server, "penstock_queue_batches") == 3
        assert value(server, "penstock_engine_slots_busy") == 2
        assert 0 <= value(server, "penstock_queue_oldest_waiting_seconds") < 3600
        assert 86_000 < value(server, "penstock_deadline_slack_seconds") <= 86_400
        engine.release()
        for batch in (running, waiting):
            finished(client, batch)
        httpx2.post(f"{server.url}/v1/batches/{paused.id}/resume")
        finished(client, paused)


def test_retries_are_told_by_their_reasons(new_server):
    statuses = [503, 500, 200]

    def reply(body):
        status = statuses.pop(0)
        return FakeEngine._greet(body) if status == 200 else (status, b"{}")

    with FakeEngine(reply=reply) as engine:
        server = new_server("--engine", engine.url, models=())
        finished(server.client(), create_batch(server.client(), [line("a", {"model": FAKE})]))
        assert value(server, "penstock_line_retries_total", reason="overloaded") == 1
        assert value(server, "penstock_line_retries_total", reason="server_error") == 1
        assert value(server, "penstock_line_retries_total") == 2


def test_metrics_need_a_key_that_may_see_them(new_server):
    with FakeEngine() as engine:
        server = new_server("--engine", engine.url, models=())
        server.place.key = server.make_key()
        user = server.make_key(scopes="files,batches")

        def status(key):
            return httpx2.get(f"{server.url}/metrics", headers={"Authorization": f"Bearer {key}"} if key else {}).status_code

        wait_until(lambda: status(None) == 401, "the key is known")
        assert status(user) == 403
        assert status(server.place.key) == 200


@pytest.mark.local
def test_a_port_for_monitoring_needs_no_key_and_tells_nothing_else(new_server):
    port = free_port()
    with FakeEngine() as engine:
        server = new_server("--engine", engine.url, "--metrics-listen", f"127.0.0.1:{port}", models=())
        server.place.key = server.make_key()
        url = f"http://127.0.0.1:{port}"
        assert families(httpx2.get(f"{url}/metrics").text).keys() == families(page(server, {
            "Authorization": f"Bearer {server.place.key}"}).text).keys()
        assert httpx2.get(f"{url}/v1/batches").status_code == 404
        assert httpx2.post(f"{url}/metrics").status_code == 405


@pytest.mark.many
def test_a_worker_tells_what_it_does_and_all_tell_the_queue(deployment):
    port = free_port()
    with slow_engine() as engine:
        server = deployment.server()
        worker = deployment.worker(engine, "--metrics-listen", f"127.0.0.1:{port}")
        worker.url = f"http://127.0.0.1:{port}"
        finished(server.client(), create_batch(server.client(), lines(20)))
        assert value(worker, "penstock_lines_total", outcome="completed") == 20
        assert "penstock_lines_total" not in families(page(server).text)
        wait_until(lambda: value(server, "penstock_workers") == value(worker, "penstock_workers") == 1, "both know of the worker")
        worker.url = None


def test_promtool_finds_nothing_to_say(used_server):
    if not PROMTOOL.exists():
        pytest.skip("promtool is missing: scripts/tools.sh brings it")
    done = subprocess.run([PROMTOOL, "check", "metrics"], input=page(used_server).text, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
