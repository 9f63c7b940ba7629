"""Traces: W3C's traceparent in and out, and what a collector is sent."""

import time

import pytest

from collector import Collector
from fake_engine import MODEL as FAKE
from fake_engine import FakeEngine
from many import lines, slow_engine
from penstock import create_batch, finished, line, wait_until
from receiver import Receiver
from test_metrics import value

pytestmark = pytest.mark.quick

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
HOOKS = ("--webhook-allow", "127.0.0.1")


def traced(collector, engine, share="1"):
    return ("--engine", engine.url, "--slots", "4", "--otlp-endpoint", collector.endpoint, "--trace-lines", share)


def sent_to(spans):
    return sorted(headers.get("traceparent") for headers in spans)


def test_a_batch_is_a_part_of_the_trace_of_who_created_it(new_server):
    failures = [500]

    def reply(body):
        return (failures.pop(), b"{}") if failures else FakeEngine._greet(body)

    with FakeEngine(reply=reply) as engine, Collector() as collector, Receiver() as hook:
        engine.refused.add("Say hello to bad.")
        server = new_server(*traced(collector, engine), *HOOKS, models=())
        client = server.client()
        before = time.time_ns()
        batch = create_batch(client, [line(name, {"model": FAKE}) for name in ("a", "b", "bad")],
                             extra_headers={"traceparent": TRACEPARENT}, extra_body={"webhook": {"url": hook.url}})
        finished(client, batch)
        collector.wait_for("POST webhook")
        after = time.time_ns()

        (request,) = collector.named("POST /v1/batches")
        (whole,) = collector.named("batch")
        (validate,) = collector.named("validate")
        (run,) = collector.named("run")
        (finalize,) = collector.named("finalize")
        (webhook,) = collector.named("POST webhook")
        of_lines, attempts = collector.named("line"), collector.named("POST /v1/chat/completions")
        assert len(of_lines) == 3 and len(attempts) == 4
        assert len(collector.spans) == 6 + 3 + 4

        assert {span.trace for span in collector.spans} == {TRACE}
        assert len({span.id for span in collector.spans}) == len(collector.spans)
        assert (request.parent, request.kind) == (PARENT, "server")
        assert (whole.parent, whole.kind) == (request.id, "internal")
        for part in (validate, run, finalize, webhook):
            assert part.parent == whole.id
        assert {one.parent for one in of_lines} == {run.id}
        assert {one.parent for one in attempts} == {one.id for one in of_lines}
        assert {one.kind for one in (*attempts, webhook)} == {"client"}
        assert {one.kind for one in (validate, run, finalize, *of_lines)} == {"internal"}

        # To the millisecond in which they begin and end.
        early, late = before - 2_000_000, after + 2_000_000
        assert all(early < span.start <= span.end < late for span in collector.spans)
        assert request.start <= whole.start <= validate.start <= validate.end <= run.start <= run.end == finalize.start
        assert finalize.end == whole.end
        by_id = {span.id: span for span in collector.spans}
        assert all(by_id[one.parent].start <= one.start <= one.end <= by_id[one.parent].end for one in (*attempts, *of_lines))

        assert request.attributes == {"http.request.method": "POST", "http.route": "/v1/batches",
                                      "http.response.status_code": 200}
        assert whole.attributes["penstock.batch.id"] == batch.id
        assert (whole.attributes["penstock.lines.completed"], whole.attributes["penstock.lines.failed"]) == (2, 1)
        assert sorted(one.attributes["penstock.line.index"] for one in of_lines) == [0, 1, 2]
        assert [one.error for one in of_lines if one.error] == ["the engine refused it"]
        assert sorted(one.attributes["http.response.status_code"] for one in attempts) == [200, 200, 400, 500]
        assert sorted(filter(None, (one.error for one in attempts))) == ["the engine answered 400", "the engine answered 500"]
        assert webhook.attributes == {"penstock.event": "batch.completed", "http.response.status_code": 200}

        assert sent_to(engine.headers) == sorted(f"00-{TRACE}-{one.id}-01" for one in attempts)
        assert sent_to(headers for _, headers, _ in hook.requests) == [f"00-{TRACE}-{webhook.id}-01"]
        told = str(collector.requests)
        for word in ("hello", "custom", batch.input_file_id, "You said"):
            assert word not in told


def test_a_trace_of_its_own_outlives_a_kill(new_server):
    with slow_engine(0.05) as engine, Collector() as collector:
        server = new_server(*traced(collector, engine), models=())
        client = server.client()
        batch = create_batch(client, lines(60))
        collector.wait_for("line")
        server.kill()
        server.start()
        finished(client, batch)
        (whole,) = collector.wait_for("batch")
        (run,) = collector.named("run")
        assert (whole.parent, run.parent) == ("", whole.id)
        assert {span.trace for span in collector.spans} == {whole.trace}
        of_lines = collector.named("line")
        assert {one.parent for one in of_lines} == {run.id}
        assert run.start <= min(one.start for one in of_lines)
        assert "POST /v1/batches" not in {span.name for span in collector.spans}  # nobody had asked for its trace


def test_the_same_share_of_the_lines_is_traced_each_time(new_server):
    with FakeEngine() as engine, Collector() as collector:
        server = new_server(*traced(collector, engine, "0.25"), models=())
        batch = finished(server.client(), create_batch(server.client(), lines(400)))
        collector.wait_for("batch")
        drawn = collector.named("line")
        assert 60 < len(drawn) < 140
        assert len(drawn) == sum("traceparent" in headers for headers in engine.headers)
        assert batch.request_counts.completed == 400


def test_who_wants_no_trace_gets_none(new_server):
    """By the flag of its traceparent."""
    with FakeEngine() as engine, Collector() as collector:
        server = new_server(*traced(collector, engine), models=())
        client = server.client()
        finished(client, create_batch(client, lines(3), extra_headers={"traceparent": TRACEPARENT[:-1] + "0"}))
        finished(client, create_batch(client, lines(1)))
        collector.wait_for("batch")
        assert TRACE not in {span.trace for span in collector.spans}
        assert len(collector.named("line")) == 1


def test_without_a_collector_nothing_is_traced_and_the_trace_is_kept(new_server):
    """A server that sends spans goes on with it, when it takes the batch over."""
    with FakeEngine(answers=0) as engine, Collector() as collector:
        server = new_server("--engine", engine.url, models=())
        client = server.client()
        batch = create_batch(client, lines(1), extra_headers={"traceparent": TRACEPARENT})
        wait_until(lambda: engine.headers, "the line is with the engine")
        assert "traceparent" not in engine.headers[0]
        server.kill()
        engine.release()
        server.env["OTEL_EXPORTER_OTLP_ENDPOINT"] = collector.endpoint
        server.start()
        finished(client, batch)
        (whole,) = collector.wait_for("batch")
        assert (whole.trace, whole.parent) == (TRACE, PARENT)


def test_a_collector_that_is_away_is_tried_again_and_one_that_refuses_is_not(new_server):
    with FakeEngine() as engine, Collector(status=503) as collector:
        server = new_server(*traced(collector, engine), models=())
        client = server.client()
        finished(client, create_batch(client, lines(2)))
        wait_until(lambda: collector.requests, "it was asked")
        assert value(server, "penstock_trace_spans_total") == 0
        collector.status = 200
        collector.wait_for("batch")
        exported = len(collector.spans)
        wait_until(lambda: value(server, "penstock_trace_spans_total", outcome="exported") == exported, "all are counted")
        assert value(server, "penstock_trace_spans_total", outcome="dropped") == 0

        collector.status = 400
        finished(client, create_batch(client, lines(2)))
        wait_until(lambda: value(server, "penstock_trace_spans_total", outcome="dropped") > 0, "spans are dropped")
        assert len(collector.spans) == exported


@pytest.mark.many
def test_a_worker_goes_on_with_the_trace_of_the_server(deployment):
    with slow_engine() as engine, Collector() as collector:
        settings = ("--otlp-endpoint", collector.endpoint, "--trace-lines", "1")
        server = deployment.server(*settings)
        deployment.worker(engine, *settings)
        client = server.client()
        finished(client, create_batch(client, lines(5), extra_headers={"traceparent": TRACEPARENT}))
        collector.wait_for("batch")
        collector.wait_for("line", 5)
        (run,) = collector.named("run")
        assert {span.trace for span in collector.spans} == {TRACE}
        assert {one.parent for one in collector.named("line")} == {run.id}
