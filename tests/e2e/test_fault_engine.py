"""What an engine can do to the lines that it is sent, fault by fault: none of it loses, repeats or mixes up a line."""

import hashlib
import json
import time
from types import SimpleNamespace

import httpx2
import pytest

from fault_engine import MODEL, FaultEngine
from penstock import create_batch, error_lines, finished, line, output_lines, upload, wait_until

pytestmark = pytest.mark.local


def lines(*texts, model=MODEL):
    return [line(text, {"model": model, "messages": [{"role": "user", "content": text}]}) for text in texts]


def some(count, name="line"):
    return [f"{name} {n}" for n in range(count)]


def start(new_server, *engines, slots=8, env=None, **options):
    """A server before the engines, with a client."""
    arguments = [argument for engine in engines for argument in ("--engine", engine.url)]
    for name, value in options.items():
        arguments += [f"--{name.replace('_', '-')}", str(value)]
    server = new_server(*arguments, "--slots", str(slots), env=env, models=())
    return SimpleNamespace(server=server, client=server.client())


def echo_of(one):
    """What a good answer to the line holds."""
    return hashlib.sha256(json.dumps(one["body"]).encode()).hexdigest()


def assert_all_answered(client, batch, sent):
    assert batch.status == "completed"
    assert batch.error_file_id is None
    output = output_lines(client, batch)
    assert [one["custom_id"] for one in output] == [one["custom_id"] for one in sent]
    assert [one["response"]["body"]["echo"] for one in output] == [echo_of(one) for one in sent]


def health(server):
    answer = httpx2.get(f"{server.url}/healthz")
    assert answer.status_code == 200
    return answer.json()


# --- one batch of lines, each with its fault

BROKEN = ("half", "halfreset", "garbage", "html", "rawnul", "latin", "nan")
FAILED = (500, 502, 504)
REFUSED = (400, 404, 413, 422)

MIXED = [
    *some(20),
    *(f"[{fault} 1] once" for fault in (*BROKEN, "reset", "close", "hang", "drip", "unavailable")),
    *(f"[hang 1] {n}" for n in range(8)),  # more than there are slots
    *(f"[unavailable 5] {n}" for n in range(2)),  # more often than a line has attempts
    *(f"[{fault}] always" for fault in (*BROKEN, "hang", "drip", "huge", "hugesized", "newlines", "nul")),
    *(f"[status 1] once, status {status}" for status in FAILED),
    *(f"[status] always, status {status}" for status in (*FAILED, *REFUSED)),
]


@pytest.fixture(scope="module")
def mixed(new_module_server):
    """A batch that has met every fault of a single line, of two attempts of a second each."""
    with FaultEngine() as engine:
        scene = start(new_module_server, engine, slots=8, line_timeout=1, line_attempts=2)
        sent = lines(*MIXED)
        batch = finished(scene.client, create_batch(scene.client, sent), 60)
        assert batch.status == "completed"
        output = {one["custom_id"]: one["response"] for one in output_lines(scene.client, batch)}
        errors = {one["custom_id"]: one for one in error_lines(scene.client, batch)}
        with open(f"/proc/{scene.server.process.pid}/status") as status:
            peak = next(int(text.split()[1]) << 10 for text in status if text.startswith("VmHWM"))
        yield SimpleNamespace(
            engine=engine,
            sent={one["custom_id"]: one for one in sent},
            output=output,
            errors=errors,
            peak=peak,
        )


def assert_answered(scene, text, times):
    assert scene.output[text]["body"]["echo"] == echo_of(scene.sent[text])
    assert scene.engine.asked[text] == times


def assert_failed(scene, text, code, times):
    assert scene.errors[text]["response"] is None
    assert scene.errors[text]["error"]["code"] == code
    assert scene.engine.asked[text] == times


def test_faults_of_other_lines_do_no_harm(mixed):
    assert set(mixed.output) | set(mixed.errors) == set(MIXED)
    for text in some(20):
        assert mixed.output[text]["body"]["echo"] == echo_of(mixed.sent[text])


@pytest.mark.parametrize("fault", ["reset", "close"])
def test_fault_13_closed_before_headers_is_sent_again(mixed, fault):
    assert_answered(mixed, f"[{fault} 1] once", 2)


@pytest.mark.parametrize("fault", BROKEN)
def test_fault_14_broken_answer_is_an_attempt_and_never_in_the_output(mixed, fault):
    assert_answered(mixed, f"[{fault} 1] once", 2)
    assert_failed(mixed, f"[{fault}] always", "invalid_engine_response", 2)


def test_fault_15_hanging_line_is_given_up_and_sent_again_and_its_slot_is_free(mixed):
    for text in ("[hang 1] once", *(f"[hang 1] {n}" for n in range(8))):
        assert_answered(mixed, text, 2)
        assert mixed.engine.given_up[text] == 1
    assert_failed(mixed, "[hang] always", "request_timeout", 2)


def test_fault_16_unavailable_engine_spends_no_attempts(mixed):
    assert_answered(mixed, "[unavailable 1] once", 2)
    for n in range(2):
        assert_answered(mixed, f"[unavailable 5] {n}", 6)


@pytest.mark.parametrize("status", FAILED)
def test_fault_17_failing_engine_is_asked_again_and_then_cited(mixed, status):
    assert_answered(mixed, f"[status 1] once, status {status}", 2)
    text = f"[status] always, status {status}"
    assert mixed.engine.asked[text] == 2
    assert mixed.errors[text]["error"] is None
    assert mixed.errors[text]["response"]["status_code"] == status
    assert mixed.errors[text]["response"]["body"]["error"]["message"] == f"This is {status}."


@pytest.mark.parametrize("status", REFUSED)
def test_fault_18_refused_line_is_not_sent_again(mixed, status):
    text = f"[status] always, status {status}"
    assert mixed.engine.asked[text] == 1
    assert mixed.errors[text]["error"] is None
    assert mixed.errors[text]["response"]["status_code"] == status
    assert mixed.errors[text]["response"]["body"]["error"]["message"] == f"This is {status}."


def test_fault_20_endless_answers_are_cut_and_memory_is_bounded(mixed):
    assert_failed(mixed, "[huge] always", "response_too_large", 1)
    assert_failed(mixed, "[hugesized] always", "response_too_large", 1)
    assert mixed.engine.given_up["[huge] always"] == mixed.engine.given_up["[hugesized] always"] == 1
    assert mixed.peak < 350 << 20


def test_fault_20_dripping_answer_is_a_timeout(mixed):
    assert_answered(mixed, "[drip 1] once", 2)
    assert_failed(mixed, "[drip] always", "request_timeout", 2)
    assert mixed.engine.given_up["[drip] always"] == 2


def test_fault_21_odd_characters_keep_one_valid_line_each(mixed):
    # Whether each line of the files is JSON is what parsing them has shown.
    assert mixed.output["[newlines] always"]["body"]["text"] == "one\ntwo\r\n\u2028three"
    assert mixed.output["[nul] always"]["body"]["text"] == "a\0b"
    for fault in ("rawnul", "latin", "nan"):
        assert_failed(mixed, f"[{fault}] always", "invalid_engine_response", 2)


# --- engines that come and go


def test_fault_13_lines_wait_for_an_engine_that_refuses_and_spend_nothing(new_server):
    engine = FaultEngine()
    scene = start(new_server, engine, line_attempts=1)
    sent = lines(*some(20))
    batch = create_batch(scene.client, sent)
    wait_until(lambda: health(scene.server)["status"] == "degraded", "the engine is missed")
    assert "connect" in health(scene.server)["reasons"][0]
    with engine:
        assert_all_answered(scene.client, finished(scene.client, batch, 20), sent)
        assert set(engine.asked.values()) == {1}
        assert health(scene.server) == {"status": "ok"}


def test_fault_13_lines_of_an_engine_that_is_gone_go_to_another(new_server):
    with FaultEngine() as dying, FaultEngine() as living:
        dying.holding = living.holding = True
        scene = start(new_server, dying, living, slots=4, line_attempts=1)
        sent = lines(*some(8))
        batch = create_batch(scene.client, sent)
        wait_until(lambda: dying.waiting == living.waiting == 4, "both are busy")
        dying.crash()
        living.release()
        assert_all_answered(scene.client, finished(scene.client, batch, 20), sent)
        assert sum(living.asked.values()) == 8


def test_fault_16_overloaded_engine_is_given_less_and_left_alone_as_it_asks(new_server):
    with FaultEngine() as engine:
        engine.holding = True
        scene = start(new_server, engine, slots=16, line_attempts=1)
        sent = lines(*some(60))
        batch = create_batch(scene.client, sent)
        wait_until(lambda: engine.waiting == 16, "it has a line for each slot")
        engine.capacity = 0
        engine.release(16)
        wait_until(lambda: engine.waiting == 8, "it is asked again")
        assert len(engine.refusals) == 16
        assert engine.arrivals[16][0] >= engine.refusals[0] + 0.3
        wait_until(lambda: time.monotonic() > engine.refusals[0] + 0.6, "more could have come")
        assert len(engine.arrivals) == 24
        engine.capacity = 16
        engine.release()
        assert_all_answered(scene.client, finished(scene.client, batch, 30), sent)


def test_fault_19_refused_key_fails_no_line_and_is_told(new_server):
    with (
        FaultEngine("open", key="new", guards_models=False) as open_engine,
        FaultEngine("shut", key="new") as shut_engine,
    ):
        scene = start(new_server, open_engine, shut_engine, line_attempts=1, env={"PENSTOCK_ENGINE_KEY": "old"})
        wait_until(lambda: httpx2.get(f"{scene.server.url}/v1/models").json()["data"], "one shows its models")
        shut_engine.key = "old"
        wait_until(lambda: len(httpx2.get(f"{scene.server.url}/v1/models").json()["data"]) == 2, "both do")
        shut_engine.key = "new"
        sent = {model: lines(*some(10), model=model) for model in ("open", "shut")}
        batches = {model: create_batch(scene.client, sent[model]) for model in sent}

        def reasons():
            return " ".join(health(scene.server).get("reasons", []))

        wait_until(lambda: f"{open_engine.url}: it refuses our key" in reasons(), "one is in trouble")
        wait_until(lambda: shut_engine.url in reasons(), "the other is too")
        assert open_engine.asked
        assert all(scene.client.batches.retrieve(one.id).request_counts.failed == 0 for one in batches.values())
        open_engine.key = shut_engine.key = "old"
        for model, batch in batches.items():
            assert_all_answered(scene.client, finished(scene.client, batch, 20), sent[model])
        assert health(scene.server) == {"status": "ok"}


@pytest.mark.parametrize("fault", ["[crash]", "[halfcrash]"])
def test_fault_22_line_that_kills_its_engine_each_time_ends_and_the_others_do_not(new_server, fault):
    with FaultEngine(restarts=True, seconds=0.005) as engine:
        scene = start(new_server, engine, slots=8, line_attempts=1)
        sent = lines(*some(20, "before"), fault, *some(20, "after"))
        batch = finished(scene.client, create_batch(scene.client, sent), 30)
        assert batch.status == "completed"
        assert [one["custom_id"] for one in output_lines(scene.client, batch)] == some(20, "before") + some(20, "after")
        (failed,) = error_lines(scene.client, batch)
        assert (failed["custom_id"], failed["error"]["code"]) == (fault, "engine_crashed")
        assert engine.asked[fault] == engine.crashes == 4


@pytest.mark.parametrize("change", ["swap", "replace"])
def test_fault_23_lines_for_a_model_that_is_gone_wait_and_are_sent_to_no_other(new_server, change):
    with FaultEngine() as engine:
        scene = start(new_server, engine, slots=1, line_attempts=1)
        sent = lines(f"[{change}]", *some(10))
        batch = create_batch(scene.client, sent)
        listed = lambda: [one["id"] for one in httpx2.get(f"{scene.server.url}/v1/models").json()["data"]]
        wait_until(lambda: listed() == ["another"], "the change is seen")
        wait_until(lambda: scene.client.batches.retrieve(batch.id).request_counts.completed == 1, "one line is saved")
        assert scene.client.batches.retrieve(batch.id).request_counts.failed == 0
        # What has become of an engine that goes on, one line may have to find out.
        assert len(engine.strays) <= (1 if change == "swap" else 0)
        engine.models = [MODEL]
        assert_all_answered(scene.client, finished(scene.client, batch, 20), sent)


def test_fault_24_batch_without_engines_expires_with_what_is_done(new_server):
    with FaultEngine() as engine:
        engine.holding = True
        scene = start(new_server, engine, slots=2, completion_windows="24h,2s")
        sent = lines(*some(6))
        batch = scene.client.batches.create(
            input_file_id=upload(scene.client, sent).id, endpoint="/v1/chat/completions", completion_window="2s"
        )
        wait_until(lambda: engine.waiting == 2, "two lines are with the engine")
        engine.release(1)
        wait_until(lambda: scene.client.batches.retrieve(batch.id).request_counts.completed == 1, "one is done")
        engine.crash()
        batch = finished(scene.client, batch, 20)
        assert batch.status == "expired"
        (done,) = output_lines(scene.client, batch)
        failed = error_lines(scene.client, batch)
        assert sorted([done["custom_id"], *(one["custom_id"] for one in failed)]) == some(6)
        assert {one["error"]["code"] for one in failed} == {"batch_expired"}


def test_fault_25_engine_that_is_back_begins_slowly(new_server):
    with FaultEngine() as engine:
        engine.holding = True
        scene = start(new_server, engine, slots=8)
        sent = lines(*some(40))
        batch = create_batch(scene.client, sent)
        wait_until(lambda: engine.waiting == 8, "a new engine has all that it takes")
        engine.crash()
        wait_until(lambda: health(scene.server)["status"] == "degraded", "all have failed")
        engine.arrivals.clear()
        engine.start()
        for size in (1, 2, 4, 8):
            wait_until(lambda: engine.waiting == size, f"{size} lines are with the engine")
            assert max(under_way for _, under_way in engine.arrivals) == size
            engine.release(size)
            wait_until(lambda: engine.waiting != size or size == 8, "they are answered")
        engine.release()
        assert_all_answered(scene.client, finished(scene.client, batch, 20), sent)
