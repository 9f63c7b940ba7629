"""GET /v1/organization/audit_logs: who did what to which id, in OpenAI's shape, and no content."""

import json

import httpx2
import openai
import pytest

from fake_engine import MODEL, FakeEngine
from penstock import clock_set, create_batch, finished, line, needs_faketime, refused, upload, wait_until
from receiver import Receiver

SECRET = "thewordthatnobodymayread"


def audit_logs(server, **filters):
    """By the official client's own walk over all pages, the oldest first."""
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", admin_api_key="any", max_retries=0)
    entries = [entry.to_dict(mode="json") for entry in client.admin.organization.audit_logs.list(limit=3, **filters)]
    return entries[::-1]


def done(entries):
    """What was done to which id."""
    return [(entry["type"], entry[entry["type"]]["id"]) for entry in entries]


def post(server, path, **options):
    answer = httpx2.post(f"{server.url}/v1/batches/{path}", **options)
    assert answer.status_code == 200, answer.text
    return answer.json()


def the_one(client, batch, status):
    """The batch's only delivery, when it has that status."""

    def found():
        (delivery,) = client.batches.retrieve(batch.id).deliveries
        return delivery["status"] == status and delivery

    return wait_until(found, f"it is {status}")


@pytest.fixture
def engine():
    with FakeEngine() as engine:
        yield engine


@pytest.fixture
def server(new_server, engine):
    return new_server("--engine", engine.url, models=())


def test_what_is_done_to_files_and_uploads_is_in_the_audit_log(server):
    client = server.client()
    file = upload(client, [line(SECRET, {"model": MODEL})], name=f"{SECRET}.jsonl")
    described = dict(filename=f"{SECRET}.txt", purpose="user_data", bytes=len(SECRET), mime_type="text/plain")
    whole = client.uploads.create(**described)
    part = client.uploads.parts.create(whole.id, data=SECRET.encode())
    made = client.uploads.complete(whole.id, part_ids=[part.id]).file
    given_up = client.uploads.create(**described)
    client.uploads.cancel(given_up.id)
    client.files.delete(file.id)
    client.files.delete(made.id)

    entries = audit_logs(server)
    assert done(entries) == [
        ("file.created", file.id),
        ("upload.created", whole.id),
        ("upload.part_created", whole.id),
        ("upload.completed", whole.id),
        ("file.created", made.id),
        ("upload.created", given_up.id),
        ("upload.cancelled", given_up.id),
        ("file.deleted", file.id),
        ("file.deleted", made.id),
    ]
    assert {entry["project"]["id"] for entry in entries} == {"proj_default"}
    assert SECRET not in json.dumps(entries)


def test_what_is_done_to_batches_is_in_the_audit_log(server, engine):
    engine.refused = {f"Say hello to {SECRET}."}
    client = server.client()
    batch = finished(client, create_batch(client, [line(SECRET, {"model": MODEL})], metadata={SECRET: SECRET}))
    again = post(server, f"{batch.id}/retry")
    finished(client, client.batches.retrieve(again["id"]))
    assert done(audit_logs(server, event_types=["batch.created", "batch.retried"])) == [
        ("batch.created", batch.id),
        ("batch.retried", batch.id),
        ("batch.created", again["id"]),
    ]


def test_what_holds_up_a_batch_is_in_the_audit_log(new_server):
    with FakeEngine(answers=0) as engine:
        server = new_server("--engine", engine.url, models=())
        client = server.client()
        batch = create_batch(client, [line("held", {"model": MODEL})])
        wait_until(lambda: engine.asked, "the line was sent")
        post(server, f"{batch.id}/pause")
        post(server, f"{batch.id}/resume")
        post(server, batch.id, json={"priority": 1})
        client.batches.cancel(batch.id)
        engine.release()
        assert finished(client, batch).status == "cancelled"
    entries = audit_logs(server, resource_ids=[batch.id])
    assert [entry["type"] for entry in entries] == [f"batch.{one}" for one in ("created", "paused", "resumed", "updated", "cancelled")]


def test_what_is_done_to_webhooks_and_deliveries_is_in_the_audit_log(new_server, engine):
    server = new_server("--engine", engine.url, "--webhook-allow", "127.0.0.1", models=())
    client = server.client()

    def ask(method, path, status=200):
        assert httpx2.request(method, f"{server.url}/v1/{path}").status_code == status

    with Receiver(410) as receiver:
        described = dict(url=f"{receiver.url}&{SECRET}", event_types=["batch.completed"])
        endpoint = client.webhooks.create(name=SECRET, **described).id
        batch = finished(client, create_batch(client, [line("one", {"model": MODEL})]))
        delivery = the_one(client, batch, "dead")["id"]
        for name in ("enabled again", "enabled again", SECRET):
            client.webhooks.update(endpoint, name=name)
        client.webhooks.rotate_secret(endpoint)
        client.webhooks.test(endpoint, event_type="batch.failed")
        receiver.status = 200
        ask("POST", f"deliveries/{delivery}/retry")
        the_one(client, batch, "delivered")
    ask("POST", f"deliveries/{delivery}/retry", 409)
    ask("DELETE", f"deliveries/{delivery}")
    ask("DELETE", f"deliveries/{delivery}", 404)
    client.webhooks.delete(endpoint)
    refused(lambda: client.webhooks.delete(endpoint), status=404)
    entries = audit_logs(server)
    assert [one for one in done(entries) if one[1] in (endpoint, delivery)] == [
        ("webhook_endpoint.created", endpoint),
        ("webhook_endpoint.updated", endpoint),
        ("webhook_endpoint.updated", endpoint),
        ("webhook_endpoint.secret_rotated", endpoint),
        ("delivery.retried", delivery),
        ("delivery.deleted", delivery),
        ("webhook_endpoint.deleted", endpoint),
    ]
    assert SECRET not in json.dumps(entries)


def test_an_entry_names_the_request(server):
    answer = server.client().files.with_raw_response.create(file=("a.txt", b"a"), purpose="user_data")
    (entry,) = audit_logs(server)
    assert entry["request_id"] == answer.headers["x-request-id"]
    assert entry["actor"] is None
    assert abs(entry["effective_at"] - answer.parse().created_at) <= 1


def test_what_is_refused_or_was_done_already_has_no_entry(server):
    client = server.client()
    key = {"Idempotency-Key": "one"}
    files = {client.files.create(file=("a.jsonl", b"{}\n"), purpose="batch", extra_headers=key).id for _ in range(2)}
    (file,) = files
    asked = dict(input_file_id=file, endpoint="/v1/chat/completions", completion_window="24h", extra_headers=key)
    (batch,) = {client.batches.create(**asked).id for _ in range(2)}
    refused(lambda: client.files.delete("file-unknown"), status=404)
    refused(lambda: client.batches.cancel("batch_unknown"), status=404)
    refused(lambda: client.files.create(file=("a.txt", b"{}\n"), purpose="batch"))
    assert done(audit_logs(server)) == [("file.created", file), ("batch.created", batch)]


def test_filters_narrow_and_what_they_do_not_know_is_nothing(server):
    client = server.client()
    one, two = (client.files.create(file=("a.txt", b"a"), purpose="user_data").id for _ in range(2))
    client.files.delete(one)
    assert done(audit_logs(server, resource_ids=[one])) == [("file.created", one), ("file.deleted", one)]
    assert done(audit_logs(server, resource_ids=[one, two], event_types=["file.created"])) == [
        ("file.created", one),
        ("file.created", two),
    ]
    assert len(audit_logs(server, project_ids=["proj_default"])) == 3
    assert audit_logs(server, project_ids=["proj_other"]) == []
    assert audit_logs(server, actor_ids=["key_unknown"]) == []


def test_pages_are_followed_and_what_is_no_place_is_refused(server):
    client = server.client()
    files = [client.files.create(file=("a.txt", b"a"), purpose="user_data").id for _ in range(7)]
    assert done(audit_logs(server)) == [("file.created", one) for one in files]  # in pages of 3
    for query in ("after=file-1", "after=audit_log-x", "after=audit_log--1", "limit=0", "limit=101"):
        answer = httpx2.get(f"{server.url}/v1/organization/audit_logs?{query}")
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, query.partition("=")[0])


@needs_faketime
def test_a_file_that_expired_has_an_entry_and_entries_go_after_a_year(new_server):
    with FakeEngine() as engine:
        server = new_server("--engine", engine.url, models=(), env=clock_set(FAKETIME="-31d"))
        client = server.client()
        file = client.files.create(file=("a.jsonl", b"{}\n"), purpose="batch").id
        server.kill()
        server.env |= clock_set(FAKETIME="+0d")
        server.start()
        wait_until(lambda: len(audit_logs(server)) == 2, "the file has expired")
        entries = audit_logs(server)
        assert done(entries) == [("file.created", file), ("file.expired", file)]
        assert entries[1]["actor"] is None and entries[1]["request_id"] is None

        server.kill()
        server.env |= clock_set(FAKETIME="+364d")
        server.start()
        wait_until(lambda: len(audit_logs(server)) == 1, "the first entry is a year old")
        assert done(audit_logs(server)) == [("file.expired", file)]
