"""The database is away, or loses what it was to say: nobody is told that all is well, nothing is lost, nothing is done twice,
and it goes on by itself. Servers and workers share a PostgreSQL of the test's own."""

import threading
import time
from contextlib import contextmanager

import httpx2
import pytest

import services
from fake_engine import FakeEngine
from many import (
    GOES_ON_WITHIN,
    TAKES_OVER_WITHIN,
    Deployment,
    Prober,
    assert_answered_once,
    completed,
    is_told_to_come_again,
    lines,
    slow_engine,
    wait_for_progress,
)
from penstock import create_batch, finished, jsonl, upload, wait_until
from place import Database, Postgres
from proxy import Proxy

pytestmark = pytest.mark.many

TOTAL = 4000  # more than a worker claims at once


@pytest.fixture(scope="module")
def cluster():
    with services.Postgres() as cluster:
        yield cluster


@pytest.fixture
def place(cluster, tmp_path):
    with Postgres(tmp_path, cluster) as place:
        place.was_away = True
        yield place


@pytest.fixture
def proxy(cluster):
    with Proxy(cluster.port) as proxy:
        yield proxy


@pytest.fixture
def toxiproxy():
    try:
        with services.Toxiproxy() as toxiproxy:
            yield toxiproxy
    except services.Missing as why:
        pytest.skip(str(why))


@contextmanager
def at_work(deployment, **through):
    """Two servers and two workers in the middle of a batch: the servers, the engines and the batch."""
    with slow_engine() as first, slow_engine() as second:
        servers = deployment.server(**through), deployment.server(**through)
        for engine in (first, second):
            deployment.worker(engine, slots=8, **through)
        batch = create_batch(servers[0].client(), lines(TOTAL))
        wait_until(lambda: first.asked and second.asked, "both work")
        yield servers, (first, second), batch


def assert_lost_nothing(servers, engines, batch):
    """Also, no process lost what it held: no line was sent again."""
    client = servers[1].client()
    assert_answered_once(client, finished(client, batch), TOTAL)
    assert set((engines[0].asked + engines[1].asked).values()) == {1}


def assert_goes_on(servers, batch):
    """The database is there again since just now."""
    since = time.monotonic()
    for server in servers:
        wait_until(lambda: completed(server, batch) is not None, "the server answers", 60)
    wait_for_progress(servers[0], batch, TOTAL)
    assert time.monotonic() - since < GOES_ON_WITHIN


def end_sessions(cluster, place):
    with Database(cluster.url) as admin:
        admin.rows("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = ?", place.name)


@pytest.mark.quick
def test_fault_30_the_database_restarts_in_the_middle_of_a_batch(deployment, cluster):
    with at_work(deployment) as (servers, engines, batch):
        with Prober(*servers) as prober:
            for _ in range(2):
                wait_for_progress(servers[0], batch, TOTAL)
                cluster.stop(cluster.IMMEDIATE)
                refused = [server_refusal(server) for server in servers]
                cluster.start()
                assert_goes_on(servers, batch)
                assert all(map(is_told_to_come_again, refused)), [(one.status_code, one.text) for one in refused]
        assert not prober.wrong, prober.wrong[:3]
        assert prober.statuses == {200, 503}
        assert_lost_nothing(servers, engines, batch)


def server_refusal(server):
    return httpx2.post(f"{server.url}/v1/files", data={"purpose": "batch"}, files={"file": ("a.jsonl", jsonl(lines(1)))}, timeout=60)


def test_fault_30_sessions_with_the_database_are_ended_each_second(deployment, cluster, place):
    with at_work(deployment) as (servers, engines, batch):
        with Prober(*servers) as prober:
            for _ in range(4):
                time.sleep(1)
                end_sessions(cluster, place)
            assert_goes_on(servers, batch)
        assert not prober.wrong, prober.wrong[:3]
        assert_lost_nothing(servers, engines, batch)


def test_fault_30_the_database_can_only_be_read_for_a_while(deployment, cluster, place):
    with at_work(deployment) as (servers, engines, batch):
        with Prober(*servers) as prober:
            with Database(cluster.url) as admin:
                admin.rows(f"ALTER DATABASE {place.name} SET default_transaction_read_only = on")
                end_sessions(cluster, place)
                time.sleep(2)
                refused = [server_refusal(server) for server in servers]
                admin.rows(f"ALTER DATABASE {place.name} RESET default_transaction_read_only")
                end_sessions(cluster, place)
            assert_goes_on(servers, batch)
        assert all(map(is_told_to_come_again, refused)), [(one.status_code, one.text) for one in refused]
        assert not prober.wrong, prober.wrong[:3]
        assert_lost_nothing(servers, engines, batch)


@pytest.mark.quick
def test_fault_31_the_replies_to_commits_are_lost(proxy, deployment):
    with at_work(deployment, database=proxy.port) as (servers, engines, batch):
        for n in range(1, 13):
            proxy.lose_commits(1)
            wait_until(lambda: proxy.lost == n, "a reply is lost")
            time.sleep(0.2)
        assert_lost_nothing(servers, engines, batch)


def test_fault_31_a_create_whose_commit_is_not_confirmed_makes_one_batch(proxy, deployment):
    with FakeEngine() as engine:
        server = deployment.server("--accept-when-offline", database=proxy.port)
        client = server.client()
        body = {"input_file_id": upload(client, lines(3)).id, "endpoint": "/v1/chat/completions", "completion_window": "24h"}

        def create():
            return httpx2.post(f"{server.url}/v1/batches", json=body, headers={"Idempotency-Key": "once"}, timeout=60)

        for _ in range(5):
            proxy.lose_commits(1)
            if (answer := create()).status_code != 200:
                assert is_told_to_come_again(answer), (answer.status_code, answer.text)
        assert proxy.lost
        proxy.lose_commits(0)
        made = wait_until(lambda: (answer := create()).status_code == 200 and answer.json()["id"], "it is created", 30)
        assert [batch.id for batch in client.batches.list().data] == [made]
        deployment.worker(engine)
        assert_answered_once(client, finished(client, client.batches.retrieve(made)), 3)


def test_fault_33_a_worker_that_sees_its_engine_and_not_the_database_sends_nothing_more(toxiproxy, deployment, cluster):
    with slow_engine(0.1) as first, slow_engine(0.01) as second:
        way = toxiproxy.proxy(cluster.port)
        server = deployment.server()
        client = server.client()
        deployment.worker(first, database=way.port)
        batch = create_batch(client, lines(600))
        wait_until(lambda: first.asked, "it works")
        way.spoil("timeout", timeout=0)
        way.spoil("timeout", "upstream", timeout=0)
        lost = time.monotonic()
        other = deployment.worker(second)
        wait_until(lambda: second.asked, "the other has its span", 60)
        taken_over = time.monotonic()
        sent = sum(first.asked.values())
        assert taken_over - lost < TAKES_OVER_WITHIN
        assert_answered_once(client, finished(client, batch), 600)
        assert sum(first.asked.values()) == sent
        other.process.terminate()
        assert other.process.wait(20) == 0
        way.mend()
        assert_answered_once(client, finished(client, create_batch(client, lines(20))), 20)
        assert sum(first.asked.values()) == sent + 20
