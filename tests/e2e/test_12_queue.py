"""The queue: what it takes, who goes first, and what the waiting are told. The engine holds its answers back."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone

import httpx2
import openai
import pytest

from fake_engine import MODEL, FakeEngine
from penstock import create_batch, error_lines, finished, line, output_lines, upload, wait_until


@pytest.fixture
def engine():
    with FakeEngine(answers=0) as engine:
        yield engine


@pytest.fixture
def start(new_server, engine):
    """Starts a server of one slot before the engine."""
    return lambda **env: new_server("--engine", engine.url, "--slots", "1", env=env, models=())


@pytest.fixture
def server(start):
    return start()


def some_lines(name, count):
    return [line(f"{name} {n}", {"model": MODEL}) for n in range(count)]


def one_line(name):
    return [line(name, {"model": MODEL})]


def create(client, name, **extra):
    return create_batch(client, one_line(name), extra_body=extra)


def create_from(server, file, **extra):
    """The answer as it came."""
    good = {"input_file_id": file.id, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    return httpx2.post(f"{server.url}/v1/batches", json=good | extra, timeout=60)


def greetings(*names):
    return [f"Say hello to {name}." for name in names]


def position(client, batch):
    return client.batches.retrieve(batch.id).model_extra["queue_position"]


def running_and_four_waiting(client, engine):
    running = create(client, "running")
    wait_until(lambda: engine.asked, "the first batch's line is with the engine")
    names = {"first": {}, "low": {"priority": -1}, "high": {"metadata": {"priority": "1"}}, "second": {"priority": 0}}
    waiting = {name: create(client, name, **extra) for name, extra in names.items()}
    counted = lambda: all(client.batches.retrieve(batch.id).request_counts.total == 1 for batch in waiting.values())
    wait_until(counted, "all four have been validated")
    return running, waiting


# --- a busy worker


def test_five_batches_at_once_are_all_accepted_and_run_in_their_order(server, engine):
    client = server.client()
    batches = [create(client, str(n)) for n in range(5)]
    wait_until(lambda: engine.asked, "the first batch's line is with the engine")
    assert sum(engine.asked.values()) == 1
    engine.release()
    for batch in batches:
        assert finished(client, batch).request_counts.completed == 1
    assert list(engine.asked) == greetings(*"01234")


def test_busy_worker_refuses_nothing(server, engine):
    client = server.client()
    create(client, "running")
    wait_until(lambda: engine.asked, "the first batch's line is with the engine")
    file = upload(client, one_line("one"))
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: create_from(server, file).status_code, range(10)))
    assert answers == [200] * 10


def test_files_are_checked_at_once_while_another_batch_runs(server, engine):
    client = server.client()
    create(client, "running")
    wait_until(lambda: engine.asked, "the first batch's line is with the engine")
    bad, good = create_batch(client, b"no JSON\n"), create_batch(client, some_lines("good", 3))
    assert finished(client, bad, 10).status == "failed"
    wait_until(lambda: client.batches.retrieve(good.id).request_counts.total == 3, "the lines are counted")
    assert client.batches.retrieve(good.id).status == "validating"


# --- full


def full(answer, words):
    """Whether it is a refusal that clients retry, with such words."""
    assert answer.status_code == 429
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "rate_limit_error"
    assert error["message"] == words
    assert 1 <= int(answer.headers["retry-after"]) <= 30
    assert answer.headers.get("x-should-retry") != "false"


def test_the_21st_batch_is_refused_until_one_ends(server, engine):
    client = server.client()
    file = upload(client, one_line("one"))
    batches = [create_from(server, file).json()["id"] for _ in range(20)]
    wait_until(lambda: engine.asked, "one of them runs, and has its place all the same")
    full(create_from(server, file), "Queue full (20/20 jobs). Try again later.")
    with pytest.raises(openai.RateLimitError, match=r"Queue full \(20/20 jobs\). Try again later."):
        create(client, "one")
    assert len(client.batches.list(limit=100).data) == 20

    engine.release()
    for batch_id in batches:
        assert finished(client, client.batches.retrieve(batch_id)).status == "completed"
    assert create_from(server, file).status_code == 200


def test_full_queue_still_reads_and_takes_files(start):
    server = start(MAX_QUEUE_DEPTH="1")
    client = server.client()
    batch = create(client, "one")
    full(create_from(server, upload(client, one_line("two"))), "Queue full (1/1 jobs). Try again later.")
    assert client.batches.retrieve(batch.id).status in ("validating", "in_progress")
    assert client.files.retrieve(batch.input_file_id).status == "processed"


def test_40_clients_at_once_get_exactly_20_places(server):
    file = upload(server.client(), one_line("one"))
    barrier = threading.Barrier(40)

    def create(_):
        barrier.wait()
        return create_from(server, file)

    with ThreadPoolExecutor(40) as pool:
        answers = list(pool.map(create, range(40)))
    assert sorted(answer.status_code for answer in answers) == [200] * 20 + [429] * 20
    for answer in answers:
        if answer.status_code == 429:
            full(answer, "Queue full (20/20 jobs). Try again later.")
    assert len({answer.json()["id"] for answer in answers if answer.status_code == 200}) == 20


@pytest.mark.parametrize("end", ["cancelled", "failed"])
def test_batch_that_ends_without_running_frees_its_place(start, end):
    server = start(MAX_QUEUE_DEPTH="2")
    client = server.client()
    create(client, "running")
    waiting = create_batch(client, one_line("waiting") if end == "cancelled" else b"no JSON\n")
    if end == "cancelled":
        client.batches.cancel(waiting.id)
    assert finished(client, waiting).status == end
    assert create(client, "next").status == "validating"
    with pytest.raises(openai.RateLimitError):
        create(client, "one too many")


def test_depth_of_zero_is_no_limit(start):
    server = start(MAX_QUEUE_DEPTH="0")
    file = upload(server.client(), one_line("one"))
    assert {create_from(server, file).status_code for _ in range(25)} == {200}


def test_full_number_of_queued_requests_refuses_the_next_batch_and_says_so(start):
    server = start(MAX_TOTAL_QUEUED_REQUESTS="3")
    client = server.client()
    batch = create_batch(client, some_lines("line", 3))
    # Lines count once they have been read.
    wait_until(lambda: client.batches.retrieve(batch.id).request_counts.total == 3, "its lines are counted")
    file = upload(client, one_line("one"))
    full(create_from(server, file), "Queue full (3 of at most 3 requests are queued). Try again later.")
    assert len(client.batches.list().data) == 1
    client.batches.cancel(batch.id)


# --- order


def test_high_goes_before_normal_before_low_and_the_first_come_first_within(server, engine):
    client = server.client()
    running, waiting = running_and_four_waiting(client, engine)
    engine.release()
    for batch in [running, *waiting.values()]:
        assert finished(client, batch).request_counts.completed == 1
    assert list(engine.asked) == greetings("running", "high", "first", "second", "low")


def test_running_batch_is_not_interrupted_by_one_of_higher_priority(server, engine):
    client = server.client()
    running = create_batch(client, some_lines("running", 5), extra_body={"priority": -1})
    wait_until(lambda: engine.asked, "its first line is with the engine")
    high = create(client, "high", priority=1)
    wait_until(lambda: position(client, high) == 1, "the other one waits")
    engine.release()
    finished(client, running)
    finished(client, high)
    assert list(engine.asked) == greetings(*(f"running {n}" for n in range(5)), "high")


@pytest.mark.parametrize("priority", [-1, 0, 1])
def test_priority_is_an_integer_of_three(server, priority):
    client = server.client()
    batch = create(client, "one", priority=priority)
    assert batch.model_extra["priority"] == priority
    assert client.batches.retrieve(batch.id).model_extra["priority"] == priority


def test_priority_is_normal_where_nothing_is_said(server):
    client = server.client()
    assert create(client, "one").model_extra["priority"] == 0
    assert create(client, "two", priority=None).model_extra["priority"] == 0


WRONG = [{"priority": value} for value in (2, -2, 5, 0.5, "high", True, [1], 10**30)]


@pytest.mark.parametrize("extra", [*WRONG, {"metadata": {"priority": "urgent"}}], ids=str)
def test_wrong_priority_is_refused_and_leaves_no_batch(server, extra):
    client = server.client()
    with pytest.raises(openai.BadRequestError) as failure:
        create(client, "one", **extra)
    assert failure.value.param == ("priority" if "priority" in extra else "metadata.priority")
    assert client.batches.list().data == []


def test_priority_can_be_changed_while_waiting(server, engine):
    client = server.client()
    running, waiting = running_and_four_waiting(client, engine)
    change = lambda batch, body: httpx2.post(f"{server.url}/v1/batches/{batch.id}", json=body)
    assert change(waiting["low"], {"priority": 1}).json()["priority"] == 1
    assert change(waiting["high"], {"priority": -1}).json()["priority"] == -1
    refused = change(waiting["first"], {"priority": 7})
    assert refused.status_code == 400 and refused.json()["error"]["param"] == "priority"
    engine.release()
    for batch in [running, *waiting.values()]:
        finished(client, batch)
    assert list(engine.asked) == greetings("running", "low", "first", "second", "high")
    assert change(running, {"priority": 1}).status_code == 409


# --- what the waiting are told


def test_waiting_batch_is_validating_and_knows_its_place_and_when_its_turn_comes(server, engine):
    client = server.client()
    running, waiting = running_and_four_waiting(client, engine)
    assert {name: position(client, batch) for name, batch in waiting.items()} == {"high": 1, "first": 2, "second": 3, "low": 4}
    now = datetime.now(timezone.utc)
    starts = []
    for name in ("high", "first", "second", "low"):
        batch = client.batches.retrieve(waiting[name].id)
        assert batch.status == "validating"
        times = [batch.model_extra[f"estimated_{what}_time"] for what in ("start", "completion")]
        for text in times:
            time.strptime(text, "%Y-%m-%dT%H:%M:%SZ")
        start, completion = map(datetime.fromisoformat, times)
        assert -5 < (start - now).total_seconds() < 3600
        assert start <= completion
        starts.append(start)
    assert starts == sorted(starts)


def test_running_and_ended_batches_have_no_place(server, engine):
    client = server.client()
    running, waiting = running_and_four_waiting(client, engine)
    assert client.batches.retrieve(running.id).status == "in_progress"
    assert position(client, running) is None
    engine.release()
    for batch in [running, *waiting.values()]:
        ended = finished(client, batch).model_extra
        assert ended["queue_position"] is ended["estimated_start_time"] is ended["estimated_completion_time"] is None


def test_lists_and_the_queue_show_the_places_too(server, engine):
    client = server.client()
    running, waiting = running_and_four_waiting(client, engine)
    listed = {batch.id: batch for batch in client.batches.list()}
    assert listed[waiting["high"].id].model_extra["queue_position"] == 1
    queue = httpx2.get(f"{server.url}/v1/queue").json()["data"]
    order = [running, *(waiting[name] for name in ("high", "first", "second", "low"))]
    assert {batch["id"]: batch["queue_position"] for batch in queue} == dict(zip([b.id for b in order], [None, 1, 2, 3, 4]))
    assert [batch["id"] for batch in queue if batch["queue_position"]] == [batch.id for batch in order[1:]]


def test_cancelled_batch_leaves_the_queue_and_the_next_move_up(server, engine):
    client = server.client()
    running, waiting = running_and_four_waiting(client, engine)
    cancelled = finished(client, client.batches.cancel(waiting["high"].id))
    assert cancelled.status == "cancelled"
    assert [one["error"]["code"] for one in error_lines(client, cancelled)] == ["batch_cancelled"]
    wait_until(lambda: position(client, waiting["first"]) == 1, "the next one has moved up")
    engine.release()
    finished(client, waiting["low"])
    assert list(engine.asked) == greetings("running", "first", "second", "low")


# --- one after another, without a gap


def test_next_batch_fills_the_slots_that_the_last_lines_of_the_one_before_leave_free(new_server):
    arrivals = []  # (the batch, how many lines of the first one had been answered by then)
    answered = []
    lock = threading.Lock()

    def reply(body):
        name = body["messages"][0]["content"][:1]
        with lock:
            arrivals.append((name, answered.count("A")))
        time.sleep(0.5)
        with lock:
            answered.append(name)
        return 200, b'{"object": "chat.completion"}'

    asking = lambda name: [
        line(f"{name}{n}", {"model": MODEL, "messages": [{"role": "user", "content": f"{name}{n}"}]}) for n in range(6)
    ]
    with FakeEngine(reply=reply) as engine:
        client = new_server("--engine", engine.url, "--slots", "4", models=()).client()
        batches = [create_batch(client, asking(name)) for name in "AB"]
        for batch in batches:
            assert finished(client, batch).request_counts.completed == 6
    # Four at a time. The last two of A share the second round with the first two of B, in whatever order its threads
    # take them up.
    rounds = [sorted(name for name, _ in arrivals[at : at + 4]) for at in (0, 4, 8)]
    assert rounds == [["A"] * 4, ["A", "A", "B", "B"], ["B"] * 4]
    assert next(done for name, done in arrivals if name == "B") < 6, "B waited until A was through"


@pytest.mark.local
def test_two_batches_of_the_real_model_run_one_after_the_other(client):
    first = create_batch(client, [line(f"a {n}", {"max_tokens": 1}) for n in range(12)])
    second = create_batch(client, [line(f"b {n}", {"max_tokens": 1}) for n in range(4)])
    first, second = finished(client, first), finished(client, second)
    assert (len(output_lines(client, first)), len(output_lines(client, second))) == (12, 4)
    assert first.in_progress_at <= second.in_progress_at
