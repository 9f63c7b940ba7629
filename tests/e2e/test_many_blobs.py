"""S3 is away, slow or too busy, or breaks off: clients are told to come again, lines under way go on, and batches end when it
is back."""

import time

import httpx2
import pytest

import services
from fake_engine import FakeEngine
from many import assert_answered_once, is_told_to_come_again, lines, slow_engine
from penstock import create_batch, finished, jsonl, upload, wait_until
from place import PostgresAndS3
from proxy import Proxy

pytestmark = pytest.mark.many


@pytest.fixture(autouse=True)
def needs_s3(place):
    place.was_away = True
    if not isinstance(place, PostgresAndS3):
        pytest.skip("it needs --store postgres+s3")


@pytest.fixture(scope="module")
def toxiproxy():
    try:
        with services.Toxiproxy() as toxiproxy:
            yield toxiproxy
    except services.Missing as why:
        pytest.skip(str(why))


def send(server, content, purpose="batch", name="a.jsonl"):
    return httpx2.post(f"{server.url}/v1/files", data={"purpose": purpose}, files={"file": (name, content)}, timeout=120)


def goes_through(deployment, port, spoil, mend):
    """A batch whose blobs are away from when its first lines are under way until all of them are answered."""
    with FakeEngine(answers=0) as engine:
        server = deployment.server(s3=port)
        deployment.worker(engine, s3=port)
        client = server.client()
        batch = create_batch(client, lines(100))
        wait_until(lambda: len(engine.asked) == 4, "its slots wait")
        spoil()
        answers = send(server, jsonl(lines(3))), httpx2.get(f"{server.url}/v1/files/{batch.input_file_id}/content", timeout=60)
        assert all(map(is_told_to_come_again, answers)), [(one.status_code, one.text) for one in answers]
        engine.release()
        counted = lambda: client.batches.retrieve(batch.id).request_counts.completed
        wait_until(lambda: counted() >= 4, "what was under way is saved")
        time.sleep(2)  # for it to try what it cannot
        assert client.batches.retrieve(batch.id).status in ("in_progress", "finalizing")
        mend()
        assert_answered_once(client, finished(client, batch), 100)
        assert set(engine.asked.values()) == {1}
        assert send(server, jsonl(lines(3))).status_code == 200


@pytest.mark.quick
def test_fault_32_s3_is_away_in_the_middle_of_a_batch(deployment, place, toxiproxy):
    way = toxiproxy.proxy(place.s3.port)
    goes_through(deployment, way.port, way.cut, way.mend)


def test_fault_32_s3_says_503_in_the_middle_of_a_batch(deployment, place):
    with Proxy(place.s3.port) as proxy:
        goes_through(deployment, proxy.port, proxy.answer_503, lambda: proxy.answer_503(False))


def test_fault_32_s3_is_slow(deployment, place, toxiproxy):
    way = toxiproxy.proxy(place.s3.port)
    way.spoil("latency", latency=300, jitter=100)
    with slow_engine(0.001) as engine:
        server = deployment.server(s3=way.port)
        deployment.worker(engine, s3=way.port)
        client = server.client()
        assert_answered_once(client, finished(client, create_batch(client, lines(1000))), 1000)


def test_fault_32_an_upload_whose_parts_break_off_leaves_nothing_and_can_be_sent_again(deployment, place, toxiproxy):
    way = toxiproxy.proxy(place.s3.port)
    server = deployment.server(s3=way.port)
    content = b"x" * 40_000_000
    kept = place.names()
    way.spoil("limit_data", "upstream", bytes=1_000_000)  # of a connection: no part fits
    assert is_told_to_come_again(send(server, content, "user_data", "a.txt"))
    way.mend()
    assert server.client().files.list().data == []
    wait_until(lambda: not place.unfinished(), "its parts are gone")
    assert place.names() == kept
    file = send(server, content, "user_data", "a.txt").json()
    assert server.client().files.content(file["id"]).read() == content
