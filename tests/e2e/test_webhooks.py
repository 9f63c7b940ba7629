"""Who is told when a batch has ended: events, their signatures and their ways through faults."""

import json
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx2
import openai
import pytest

from fake_engine import MODEL, FakeEngine
from penstock import CLEAN_ENV, create_batch, finished, jsonl, line, refused, upload, wait_until
from receiver import Receiver, endless, holding, redirecting
from test_clients import node
from test_keys import command, refusal

SECRET = "whsec_cGVuc3RvY2stcGVuc3RvY2stcGVuc3RvY2s="
ALL_EVENTS = ["batch.completed", "batch.failed", "batch.expired", "batch.cancelled"]
ALLOW = ("--webhook-allow", "127.0.0.1")


@pytest.fixture
def engine():
    with FakeEngine() as engine:
        yield engine


@pytest.fixture
def receiver():
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def server(new_server, engine):
    return new_server("--engine", engine.url, *ALLOW, models=())


def lines(count=2):
    return [line(f"line {n}", {"model": MODEL}) for n in range(count)]


def create(server, metadata=None, **webhook):
    extra = {"webhook": webhook} if webhook else {}
    return create_batch(server.client(), lines(), metadata=metadata, extra_body=extra)


def run(server, metadata=None, **webhook):
    return finished(server.client(), create(server, metadata, **webhook))


def deliveries(server, batch):
    return server.client().batches.retrieve(batch.id).model_extra["deliveries"]


def settled(server, batch, count=1):
    """Its deliveries, when none is pending that was not tried."""

    def all_tried():
        found = deliveries(server, batch)
        return len(found) == count and all(one["status"] != "pending" or one["last_error"] for one in found) and found

    return wait_until(all_tried, "each delivery was tried", 30)


def the_one(server, batch):
    return settled(server, batch)[0]


def call(server, method, path, status=200):
    answer = httpx2.request(method, f"{server.url}/v1/{path}")
    assert answer.status_code == status, answer.text
    return answer.json()


def test_the_official_client_accepts_what_is_told_of_an_ended_batch(server, receiver):
    client = server.client()
    endpoint = client.webhooks.create(name="all", url=receiver.url, event_types=["batch.completed"])
    client.webhooks.create(name="others", url=receiver.url, event_types=["batch.failed", "batch.cancelled"])
    elsewhere = receiver.url.replace("/hook", "/unsigned")
    batch = run(server, {"webhook_url": elsewhere}, url=receiver.url + "&own", secret=SECRET)
    found = settled(server, batch, 3)
    assert {one["status"] for one in found} == {"delivered"}
    assert {one["url"] for one in found} == {receiver.url, elsewhere, receiver.url + "&own"}
    assert sorted(one["id"] for one in found) == sorted(receiver.ids()) and "." not in "".join(receiver.ids())
    assert all(one["attempts"] == 1 and one["delivered_at"] and not one["next_attempt_at"] for one in found)

    shown = client.batches.retrieve(batch.id)
    assert shown.model_extra["webhook"] == {"url": receiver.url + "&own", "events": ALL_EVENTS}
    assert SECRET not in shown.to_json()
    assert client.batches.list(limit=1).data[0] == shown

    event = receiver.events()[0]
    assert receiver.events() == 3 * [event]
    assert event["id"].startswith("evt_") and event["created_at"] == batch.completed_at
    assert (event["object"], event["type"], event["data"]) == ("event", "batch.completed", {"id": batch.id})
    assert (event["batch_id"], event["status"]) == (batch.id, "completed")
    assert (event["output_file_id"], event["error_file_id"]) == (batch.output_file_id, None)
    assert event["request_counts"] == {"total": 2, "completed": 2, "failed": 0}

    signed = 0
    for path, headers, body in receiver.requests:
        assert headers["Content-Type"] == "application/json"
        if path.startswith("/unsigned"):
            assert "webhook-signature" not in headers
            continue
        secret = SECRET if path.endswith("&own") else endpoint.signing_secret
        assert client.webhooks.unwrap(body, headers, secret=secret).data.id == batch.id
        with pytest.raises(openai.InvalidWebhookSignatureError):
            client.webhooks.unwrap(body.replace("completed", "cancelled"), headers, secret=secret)
        signed += 1
    assert signed == 2


@pytest.mark.local
def test_the_official_client_for_node_accepts_it(server, receiver):
    command = node()
    batch = run(server, url=receiver.url, secret=SECRET)
    settled(server, batch)
    _, headers, body = receiver.requests[0]
    told = json.dumps({"body": body, "headers": headers, "secret": SECRET})
    program = [command[0], command[1].with_name("unwrap.js")]
    answer = subprocess.run(program, input=told, capture_output=True, text=True, env=CLEAN_ENV, timeout=60)
    assert answer.stdout == "batch.completed\n", answer.stderr


def test_failed_and_cancelled_batches_are_told_of_when_that_was_asked_for(server, engine, receiver):
    client = server.client()
    faulty = client.batches.create(
        input_file_id=upload(client, jsonl(lines()) + b"{}\n").id,
        endpoint="/v1/chat/completions",
        completion_window="24h",
        extra_body={"webhook": {"url": receiver.url, "events": ["batch.failed"]}},
    )
    assert finished(client, faulty).status == "failed"
    settled(server, faulty)
    assert receiver.events()[0]["status"] == "failed"
    assert receiver.events()[0]["request_counts"] == {"total": 0, "completed": 0, "failed": 0}
    batch = run(server, url=receiver.url, events=["batch.failed"])
    assert deliveries(server, batch) == []

    cancelled = create(server, url=receiver.url, secret="short")
    client.batches.cancel(cancelled.id)
    assert finished(client, cancelled).status == "cancelled"
    settled(server, cancelled)
    _, headers, body = receiver.requests[-1]
    assert client.webhooks.unwrap(body, headers, secret="short").type == "batch.cancelled"


def test_a_retry_of_a_batch_tells_the_same_receiver(server, engine, receiver):
    engine.refused = {"Say hello to line 1."}
    old = run(server, url=receiver.url, secret=SECRET)
    engine.refused = set()
    new = server.client().batches.retrieve(call(server, "POST", f"batches/{old.id}/retry")["id"])
    settled(server, finished(server.client(), new))
    assert {one["batch_id"] for one in receiver.events()} == {old.id, new.id}


def test_endpoints_are_those_of_the_official_client(server, receiver):
    client = server.client()
    assert client.webhooks.event_types.list().data == ALL_EVENTS
    made = client.webhooks.create(name="first", url=receiver.url, event_types=["batch.completed", "batch.completed"])
    assert made.event_types == ["batch.completed"]
    assert made.signing_secret.startswith("whsec_") and made.signing_secret.endswith(made.signing_secret_hint[-4:])
    seen = client.webhooks.retrieve(made.id)
    assert seen.model_dump() == {k: v for k, v in made.model_dump().items() if k != "signing_secret"}
    other = client.webhooks.create(name="other", url=receiver.url, event_types=ALL_EVENTS)
    assert [one.id for one in client.webhooks.list(limit=1)] == [other.id, made.id]

    changed = client.webhooks.update(made.id, name="renamed", event_types=ALL_EVENTS)
    assert (changed.name, changed.url, changed.event_types) == ("renamed", receiver.url, ALL_EVENTS)
    assert client.webhooks.test(made.id, event_type="batch.failed").status_code == 200
    _, headers, body = receiver.requests[0]
    assert client.webhooks.unwrap(body, headers, secret=made.signing_secret).type == "batch.failed"

    rotated = client.webhooks.rotate_secret(made.id, keep_old_secret_active_for_24_hours=True)
    assert rotated.signing_secret != made.signing_secret
    client.webhooks.test(made.id, event_type="batch.failed")
    _, headers, body = receiver.requests[1]
    for secret in (made.signing_secret, rotated.signing_secret):
        client.webhooks.unwrap(body, headers, secret=secret)
    client.webhooks.rotate_secret(made.id)
    client.webhooks.test(made.id, event_type="batch.failed")
    _, headers, body = receiver.requests[2]
    with pytest.raises(openai.InvalidWebhookSignatureError):
        client.webhooks.unwrap(body, headers, secret=rotated.signing_secret)

    assert client.webhooks.test(made.id, event_type="batch.failed").success is True
    receiver.status = 500
    failed = client.webhooks.test(made.id, event_type="batch.failed")
    assert (failed.status_code, failed.success) == (500, False)
    assert client.webhooks.delete(made.id).deleted
    refused(lambda: client.webhooks.retrieve(made.id), made.id, 404)
    refused(lambda: client.webhooks.test(made.id, event_type="batch.failed"), made.id, 404)
    assert [one.id for one in client.webhooks.list()] == [other.id]


@pytest.mark.parametrize(
    "webhook, param",
    [
        ("no object", "webhook"),
        ({}, "webhook.url"),
        ({"url": 7}, "webhook.url"),
        ({"url": "ftp://example.com"}, "webhook.url"),
        ({"url": "https://example.com", "events": ["batch.done"]}, "webhook.events"),
        ({"url": "https://example.com", "events": []}, "webhook.events"),
        ({"url": "https://example.com", "secret": "whsec_no base64"}, "webhook.secret"),
        ({"url": "http://10.1.2.3/"}, "webhook.url"),
        ({"url": "http://[::1]:8080/"}, "webhook.url"),
        ({"url": "http://169.254.169.254/latest/meta-data"}, "webhook.url"),
    ],
)
def test_what_can_never_be_told_is_refused_at_once(server, webhook, param):
    client = server.client()
    with pytest.raises(openai.BadRequestError) as failure:
        create_batch(client, lines(), extra_body={"webhook": webhook})
    assert failure.value.param == param
    assert not client.batches.list().data


def test_fault_43_a_receiver_that_was_down_is_told_later_under_the_same_id(server):
    with Receiver() as receiver:
        port = receiver.port
    batch = run(server, url=receiver.url, secret=SECRET)
    one = the_one(server, batch)
    assert (one["status"], one["attempts"], one["last_error"]) == ("pending", 1, "could not be connected to")
    assert 4 <= one["next_attempt_at"] - time.time() + 5 <= 11
    with Receiver(port=port) as receiver:
        wait_until(lambda: the_one(server, batch)["status"] == "delivered", "the second attempt goes well", 30)
        assert receiver.ids() == [one["id"]]
    assert the_one(server, batch)["last_error"] is None


def test_fault_43_dead_letters_are_listed_retried_and_deleted(server):
    with Receiver(410) as receiver:
        # Of an endpoint: what the batch itself has named is missed by the audit.
        endpoint = server.client().webhooks.create(name="all", url=receiver.url, event_types=ALL_EVENTS)
        batch = run(server)
        dead = the_one(server, batch)
        assert (dead["status"], dead["attempts"]) == ("dead", 1) and "410" in dead["last_error"]
        assert [one["id"] for one in call(server, "GET", "deliveries?status=dead")["data"]] == [dead["id"]]
        assert call(server, "GET", "deliveries?status=pending")["data"] == []
        assert call(server, "GET", f"deliveries?batch_id={batch.id}&limit=1")["data"] == [dead]
        receiver.status = 204
        server.client().webhooks.update(endpoint.id, name="back")
        call(server, "POST", f"deliveries/{dead['id']}/retry")
        wait_until(lambda: the_one(server, batch)["status"] == "delivered", "it was sent again", 30)
        assert receiver.ids() == 2 * [dead["id"]]
        call(server, "POST", f"deliveries/{dead['id']}/retry", 409)
    assert call(server, "GET", f"deliveries/{dead['id']}")["status"] == "delivered"
    assert call(server, "DELETE", f"deliveries/{dead['id']}")["deleted"]
    assert deliveries(server, batch) == []
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/retry")):
        call(server, method, f"deliveries/{dead['id']}{path}", 404)
    call(server, "GET", "deliveries?status=lost", 400)
    call(server, "GET", "deliveries?after=wh_unknown", 404)


def test_fault_43_dead_letters_are_seen_to_on_the_machine_beside_a_running_server(server, receiver):
    client = server.client()
    endpoint = client.webhooks.create(name="all", url=receiver.url, event_types=ALL_EVENTS)
    receiver.status = 410
    batch = run(server)
    dead = the_one(server, batch)
    assert json.loads(command(server, "deliveries", "list", "--json"))["data"] == [dead]
    _, row = command(server, "deliveries", "list", "--status", "dead", "--batch", batch.id).splitlines()
    assert row.split()[:6] == [dead["id"], "proj_default", batch.id, f"127.0.0.1:{receiver.port}", "dead", "1"] and "410" in row
    for others in (("--status", "pending"), ("--batch", "batch_1"), ("--project", "proj_1")):
        assert dead["id"] not in command(server, "deliveries", "list", *others)
    receiver.status = 200
    client.webhooks.update(endpoint.id, name="back")
    command(server, "deliveries", "retry", dead["id"])
    wait_until(lambda: the_one(server, batch)["status"] == "delivered", "it was sent again", 30)
    assert receiver.ids() == 2 * [dead["id"]]
    assert "has reached its receiver" in refusal(server, "deliveries", "retry", dead["id"])
    assert json.loads(command(server, "deliveries", "delete", dead["id"], "--json"))["deleted"]
    assert deliveries(server, batch) == []
    for words in (("retry", dead["id"]), ("delete", dead["id"]), ("list", "--status", "lost")):
        assert words[-1] in refusal(server, "deliveries", *words)
    entries = server.place.rows("SELECT action, key_id FROM audit_log WHERE object_id = ? ORDER BY seq", dead["id"])
    assert entries == [{"action": f"delivery.{one}", "key_id": None} for one in ("retried", "deleted")]


def test_fault_43_an_endpoint_that_is_gone_hears_of_nothing_until_it_is_changed(server, receiver):
    client = server.client()
    endpoint = client.webhooks.create(name="gone", url=receiver.url, event_types=ALL_EVENTS)
    receiver.status = 410
    assert the_one(server, run(server))["status"] == "dead"
    assert client.webhooks.retrieve(endpoint.id).model_extra["disabled_at"]
    assert deliveries(server, run(server)) == []
    receiver.status = 200
    assert client.webhooks.update(endpoint.id, name="back").model_extra["disabled_at"] is None
    assert the_one(server, run(server))["status"] == "delivered"


def test_fault_43_a_project_tests_one_endpoint_at_a_time(server, receiver):
    client = server.client()
    released = threading.Event()
    with Receiver(answer=holding(released)) as silent:
        slow = client.webhooks.create(name="slow", url=silent.url, event_types=ALL_EVENTS)
        quick = client.webhooks.create(name="quick", url=receiver.url, event_types=ALL_EVENTS)
        sample = {"event_type": "batch.failed"}
        with ThreadPoolExecutor(1) as other:
            first = other.submit(httpx2.post, f"{server.url}/v1/webhook_endpoints/{slow.id}/test", json=sample)
            wait_until(lambda: silent.requests, "it is called")
            second = httpx2.post(f"{server.url}/v1/webhook_endpoints/{quick.id}/test", json=sample)
            assert (second.status_code, second.json()["error"]["code"]) == (429, "rate_limit_exceeded")
            assert not receiver.requests
            released.set()
            assert first.result().status_code == 200
        assert httpx2.post(f"{server.url}/v1/webhook_endpoints/{quick.id}/test", json=sample).status_code == 200


def test_fault_43_what_is_gone_is_the_address_that_was_called(server, receiver):
    client = server.client()
    endpoint = client.webhooks.create(name="moves", url=receiver.url, event_types=ALL_EVENTS)
    receiver.status = 500
    batch = run(server)
    failed = the_one(server, batch)
    client.webhooks.update(endpoint.id, url=receiver.url + "&moved")
    receiver.status = 410
    call(server, "POST", f"deliveries/{failed['id']}/retry")
    wait_until(lambda: deliveries(server, batch)[0]["status"] == "dead", "it is dead")
    assert client.webhooks.retrieve(endpoint.id).model_extra["disabled_at"]


def test_fault_43_a_slow_receiver_holds_up_neither_batches_nor_others(server, receiver):
    released = threading.Event()
    with Receiver(answer=holding(released)) as slow:
        held = [run(server, url=slow.url) for _ in range(4)]
        assert the_one(server, run(server, url=receiver.url))["status"] == "delivered"
        wait_until(lambda: len(slow.requests) == 2, "two attempts are under way there")
        released.set()
        for batch in held:
            wait_until(lambda: the_one(server, batch)["status"] == "delivered", "it was told", 30)
        assert len(slow.requests) == 4


def test_fault_43_redirects_are_not_followed(server, receiver):
    with Receiver(answer=redirecting(receiver.url)) as redirector:
        one = the_one(server, run(server, url=redirector.url))
    assert (one["status"], one["last_error"]) == ("pending", "answered 302, and redirects are not followed")
    assert receiver.requests == []


def test_fault_43_an_endless_answer_is_cut(server):
    with Receiver(answer=endless) as hostile:
        one = the_one(server, run(server, url=hostile.url))
    assert one["status"] == "delivered"


def test_fault_43_what_is_not_public_is_called_by_nobody_who_only_names_it(new_server, engine, receiver):
    server = new_server("--engine", engine.url, models=())
    client = server.client()
    refused(lambda: create(server, url=receiver.url), "webhook_allow")
    refused(lambda: client.webhooks.create(name="own", url=receiver.url, event_types=ALL_EVENTS), "webhook_allow")
    endpoint = client.webhooks.create(name="by name", url=f"http://localhost:{receiver.port}/", event_types=ALL_EVENTS)
    refused(lambda: client.webhooks.test(endpoint.id, event_type="batch.failed"), "its address is not public")
    batch = run(server, {"webhook_url": receiver.url})
    found = settled(server, batch, 2)
    assert {(one["status"], one["last_error"]) for one in found} == {("dead", "its address is not public")}
    client.webhooks.delete(endpoint.id)
    one = the_one(server, run(server, {"webhook_url": "no URL at all"}))
    assert (one["status"], one["last_error"]) == ("dead", "its URL cannot be used")
    assert receiver.requests == []


def test_fault_43_what_was_not_acknowledged_before_a_kill_is_told_again_under_the_same_id(server):
    released = threading.Event()
    with Receiver(answer=holding(released)) as receiver:
        batch = run(server, url=receiver.url, secret=SECRET)
        wait_until(lambda: receiver.requests, "the first attempt is under way")
        server.kill()
        released.set()
        server.start()
        one = wait_until(lambda: (found := the_one(server, batch))["status"] == "delivered" and found, "told again", 30)
        assert receiver.ids() == 2 * [one["id"]] and one["attempts"] == 2
        assert receiver.requests[0][2] == receiver.requests[1][2]

        # What was acknowledged is not.
        again = run(server, url=receiver.url)
        assert the_one(server, again)["status"] == "delivered"
        server.kill()
        server.start()
        assert the_one(server, again)["attempts"] == 1
        assert len(receiver.requests) == 3
