"""Several processes share the work: what becomes of it when one dies, stands still or is told to stop, and how a server
that runs nothing decides what others run."""

import re
import signal
import threading
import time
from collections import Counter

import httpx2
import pytest

import place as places
from fake_engine import FakeEngine
from many import TAKES_OVER_WITHIN, assert_answered_once, lines, named_engine, said, slow_engine
from penstock import (
    MODEL,
    Worker,
    children,
    create_batch,
    error_lines,
    finished,
    line,
    output_lines,
    penstock,
    upload,
    wait_until,
)

pytestmark = pytest.mark.many

LEASE = 5  # seconds
HEARS_WITHIN = 2  # seconds: a worker, of what was done to a batch


def asked(engine):
    return sum(engine.asked.values())


@pytest.mark.quick
def test_fault_07_a_worker_that_is_killed_is_taken_over_from(deployment):
    with named_engine("first", answers=0) as first, named_engine("second") as second:
        server = deployment.server()
        client = server.client()
        dying = deployment.worker(first)
        batch = create_batch(client, lines(600))
        wait_until(lambda: asked(first) == 4, "its slots wait")
        held = set(first.asked)
        deployment.worker(second)
        dying.kill()
        died = time.monotonic()
        wait_until(lambda: held <= set(second.asked), "its lines are sent by the other", 60)
        assert time.monotonic() - died < TAKES_OVER_WITHIN
        assert_answered_once(client, finished(client, batch), 600)


def test_fault_08_a_worker_that_stood_still_for_three_leases_drops_its_answers(deployment):
    with named_engine("first", answers=0) as first, named_engine("second", answers=500) as second:
        server = deployment.server()
        client = server.client()
        still = deployment.worker(first)
        batch = create_batch(client, lines(512))  # one span
        wait_until(lambda: asked(first) == 4, "its slots wait")
        held = set(first.asked)
        still.process.send_signal(signal.SIGSTOP)
        stopped = time.monotonic()
        deployment.worker(second)
        wait_until(lambda: asked(second) == 504, "the other has taken over", 60)
        first.release()
        time.sleep(max(0, stopped + 3 * LEASE - time.monotonic()))
        still.process.send_signal(signal.SIGCONT)
        other = create_batch(client, lines(8, "other"))  # which the first one runs: all slots of the second are taken
        assert finished(client, other, 60).request_counts.completed == 8
        assert asked(first) == 4 + 8
        second.release()
        batch = finished(client, batch)
        assert_answered_once(client, batch, 512)
        said_by = Counter(one["response"]["body"]["choices"][0]["message"]["content"].split()[0] for one in output_lines(client, batch))
        assert said_by == {"second": 512}
        assert held <= set(second.asked)


@pytest.mark.quick
def test_fault_10_a_worker_that_is_told_to_stop_saves_what_it_has_and_gives_the_rest_away_at_once(deployment):
    with FakeEngine(answers=0) as first, FakeEngine() as second:
        server = deployment.server()
        client = server.client()
        leaving = deployment.worker(first)
        batch = create_batch(client, lines(512))  # one span
        wait_until(lambda: asked(first) == 4, "its slots wait")
        held = set(first.asked)
        deployment.worker(second)
        leaving.process.terminate()
        threading.Timer(1, first.release).start()
        assert leaving.process.wait(20) == 0
        left = time.monotonic()
        wait_until(lambda: second.asked, "the other has its span")
        assert time.monotonic() - left < LEASE  # so it did not wait for that
        assert_answered_once(client, finished(client, batch), 512)
        assert asked(first) == 4 and not held & set(second.asked)


@pytest.mark.quick
def test_two_workers_share_a_batch_and_every_line_is_sent_once(deployment):
    with slow_engine(0.005) as first, slow_engine(0.005) as second:
        servers = deployment.server(), deployment.server()
        for engine in (first, second):
            deployment.worker(engine)
        batch = create_batch(servers[0].client(), lines(3000))
        assert_answered_once(servers[1].client(), finished(servers[1].client(), batch), 3000)
        assert set((first.asked + second.asked).values()) == {1}
        assert min(asked(first), asked(second)) > 500


# --- who runs nothing decides what others run


@pytest.fixture
def held(deployment):
    """Two servers, and a worker whose engine holds its answers back."""
    with FakeEngine(answers=0) as engine:
        servers = deployment.server("--completion-windows", "24h,5s"), deployment.server()
        deployment.worker(engine, slots=2)
        yield *servers, engine


def post(server, batch, action="", **body):
    answer = httpx2.post(f"{server.url}/v1/batches/{batch.id}{action and '/' + action}", json=body, timeout=30)
    assert answer.status_code == 200, answer.text


def test_fault_39_a_batch_is_cancelled_while_another_process_holds_its_lines(held):
    first, second, engine = held
    batch = create_batch(first.client(), lines(600))
    wait_until(lambda: asked(engine) == 2, "lines are held")
    second.client().batches.cancel(batch.id)
    time.sleep(HEARS_WITHIN)
    engine.release()
    batch = finished(first.client(), batch, 30)
    assert (batch.status, batch.request_counts.completed) == ("cancelled", 2)
    assert Counter(one["error"]["code"] for one in error_lines(first.client(), batch)) == {"batch_cancelled": 598}
    assert finished(first.client(), create_batch(first.client(), lines(3, "next"))).request_counts.completed == 3
    assert asked(engine) == 2 + 3


def test_a_batch_is_paused_and_goes_on_while_another_process_holds_its_lines(held):
    first, second, engine = held
    batch = create_batch(first.client(), lines(600))
    wait_until(lambda: asked(engine) == 2, "lines are held")
    post(second, batch, "pause")
    other = create_batch(first.client(), lines(2, "other"))
    time.sleep(HEARS_WITHIN)
    engine.release()
    assert finished(second.client(), other, 60).request_counts.completed == 2
    wait_until(lambda: first.client().batches.retrieve(batch.id).request_counts.completed == 2, "what was held is saved")
    assert asked(engine) == 2 + 2
    post(first, batch, "resume")
    assert_answered_once(second.client(), finished(second.client(), batch), 600)
    assert set(engine.asked.values()) == {1}


def test_a_priority_that_another_process_was_told_is_followed(held):
    first, second, engine = held
    client = first.client()
    running = create_batch(client, lines(2, "running"))
    wait_until(lambda: asked(engine) == 2, "lines are held")
    low, high = create_batch(client, lines(1, "low")), create_batch(client, lines(1, "high"))
    post(second, high, priority=1)
    wait_until(lambda: client.batches.retrieve(high.id).model_extra["queue_position"] < 3, "the queue has its order")
    engine.release()
    for batch in (running, low, high):
        assert finished(client, batch).status == "completed"
    assert list(engine.asked)[2:] == [said(0, "high"), said(0, "low")]


def test_fault_24_a_batch_expires_while_another_process_holds_its_lines(held):
    first, second, engine = held
    file = upload(first.client(), lines(3))
    batch = first.client().batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="5s")
    wait_until(lambda: asked(engine) == 2, "lines are held")
    batch = finished(second.client(), batch, 60)
    assert (batch.status, batch.request_counts.failed) == ("expired", 3)
    assert batch.expired_at <= batch.expires_at + 5
    engine.release()
    assert finished(second.client(), create_batch(second.client(), lines(3, "next"))).request_counts.completed == 3


def test_forty_clients_of_three_servers_get_no_more_into_the_queue_than_it_takes(deployment):
    servers = [deployment.server("--accept-when-offline") for _ in range(3)]
    files = [upload(server.client(), lines(1)).id for server in servers]
    statuses = Counter()
    start = threading.Barrier(40)

    def create(server, file):
        body = {"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        start.wait()
        answer = httpx2.post(f"{server.url}/v1/batches", json=body, timeout=60)
        if answer.status_code == 429:
            assert "Queue full (20/20 jobs)" in answer.text
        statuses[answer.status_code] += 1

    threads = [threading.Thread(target=create, args=(servers[n % 3], files[(n + 1) % 3])) for n in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == {200: 20, 429: 20}
    seen = [[batch.id for batch in server.client().batches.list(limit=100).data] for server in servers]
    assert len(set(seen[0])) == 20 and seen[0] == seen[1] == seen[2]


# --- the real model


def test_real_models_of_two_workers_answer_what_two_servers_are_asked_and_one_of_them_dies(deployment, new_server):
    servers = deployment.server(), deployment.server()
    workers = [new_server(kind=Worker, place=deployment.place) for _ in range(2)]
    wait_until(lambda: all(children(worker.process.pid) for worker in workers), "both have their llama-server")
    batches = [create_batch(servers[n % 2].client(), [line(f"line {i}") for i in range(8)]) for n in range(4)]
    client = servers[0].client()
    wait_until(lambda: client.batches.retrieve(batches[0].id).request_counts.completed, "lines are done", 120)
    workers[0].kill()
    for batch in batches:
        batch = finished(client, batch)
        assert_answered_once(client, batch, 8)
        assert batch.model == MODEL


# --- what does not fit together is refused


def refusal(place, blobs, folder):
    """What a server with the place's database and those blobs says."""
    settings = place.arguments(folder / "data")
    settings[settings.index("--blobs") + 1] = blobs
    serve = ("serve", "--no-worker", "--listen", "127.0.0.1:0", *settings)
    started = penstock(*serve, folder=folder, env=place.env, timeout=20)
    assert started.returncode == 2
    assert len(started.stderr.splitlines()) == 1
    return started.stderr


def test_fault_11_processes_whose_blobs_lie_in_different_places_are_refused(deployment, tmp_path):
    server = deployment.server()
    words = f"blobs: {tmp_path}/elsewhere is not where the files of this database are"
    for _ in range(2):
        assert words in refusal(deployment.place, tmp_path / "elsewhere", tmp_path)
    assert upload(server.client(), lines(1)).id


def test_fault_11_another_database_with_the_same_place_of_blobs_is_refused(deployment, tmp_path):
    server = deployment.server()
    file = upload(server.client(), lines(1))
    with places.new(tmp_path) as other:
        settings = deployment.place.arguments(tmp_path)
        blobs = settings[settings.index("--blobs") + 1]
        for _ in range(2):
            assert f"blobs: {blobs} is not where" in refusal(other, blobs, tmp_path)
    assert server.client().files.content(file.id).read()


def test_fault_11_a_database_of_a_newer_program_is_refused_unless_that_allows_it_and_older_processes_go_on(deployment, tmp_path):
    with FakeEngine() as engine:
        server = deployment.server()
        deployment.worker(engine)
        deployment.place.rows("UPDATE schema_version SET version = version + 1")
        late = deployment.server()  # a newer program runs beside it
        late_client = late.client()
        assert_answered_once(late_client, finished(late_client, create_batch(late_client, lines(20))), 20)
        deployment.place.rows("UPDATE schema_oldest_program SET version = (SELECT version FROM schema_version)")
        arguments = deployment.place.arguments(tmp_path / "data")
        newer = penstock("serve", "--no-worker", "--listen", "127.0.0.1:0", *arguments, folder=tmp_path, env=deployment.place.env, timeout=20)
        assert newer.returncode == 2
        assert re.fullmatch(r".*its schema is version \d+, .*use a newer penstock\n", newer.stderr)
        client = server.client()
        assert_answered_once(client, finished(client, create_batch(client, lines(20))), 20)
