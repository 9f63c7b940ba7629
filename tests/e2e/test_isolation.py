"""No project sees what is another's, changes it, or learns that it is there.

The calls are made from the description of the API, so that a new route is asked for too, or fails here.
"""

import json
import re
from dataclasses import dataclass

import httpx2
import pytest

from description import DESCRIPTION, OPERATIONS
from fake_engine import MODEL, FakeEngine
from penstock import create_batch, finished, line, wait_until

pytestmark = pytest.mark.quick

WORD = "xylograph"  # in whatever the owner says or is answered

# What an id stands for: in the path, in the query, in the body.
IN_PATH = {
    "/v1/files/{id}": "file",
    "/v1/uploads/{id}": "upload",
    "/v1/batches/{id}": "batch",
    "/v1/webhook_endpoints/{id}": "endpoint",
    "/v1/deliveries/{id}": "delivery",
}
IN_QUERY = {
    ("/v1/files", "after"): "file",
    ("/v1/batches", "after"): "batch",
    ("/v1/batches/{id}/results", "after"): None,  # of a line; the batch is in the path
    ("/v1/batches/{id}/lines", "after"): None,  # an index
    ("/v1/batches/{id}/lines", "custom_id"): None,
    ("/v1/batches/{id}/comparison", "after"): None,
    ("/v1/batches/{id}/comparison", "with"): "batch",
    ("/v1/webhook_endpoints", "after"): "endpoint",
    ("/v1/deliveries", "after"): "delivery",
    ("/v1/deliveries", "batch_id"): "batch",
}
IN_BODY = {("/v1/batches", "input_file_id"): "file", ("/v1/uploads/{id}/complete", "part_ids"): "part"}

# What makes a request right but for its ids.
BODIES = {
    "/v1/batches": {"endpoint": "/v1/chat/completions", "completion_window": "24h"},
    "/v1/batches/{id}": {"priority": 1},
    "/v1/uploads/{id}/complete": {"part_ids": ["part_0"]},
    "/v1/webhook_endpoints/{id}": {"name": "mine now"},
}


def operations():
    """Method and path of all that a project's own keys may ask for."""
    for path, methods in OPERATIONS.items():
        if not path.startswith("/v1/organization/"):
            yield from ((method.upper(), path, what) for method, what in methods.items() if method != "parameters")


def resolved(schema):
    """The description's object behind a reference."""
    while "$ref" in schema:
        found = DESCRIPTION.raw_schema
        for step in schema["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        schema = found
    return schema


def query_parameters(path, operation):
    all_of = OPERATIONS[path].get("parameters", []) + operation.get("parameters", [])
    return [one["name"] for one in map(resolved, all_of) if one["in"] == "query"]


def body_properties(operation):
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    return resolved(content.get("schema", {})).get("properties", {})


@dataclass
class Call:
    """One call that names an id of that kind."""

    kind: str
    method: str
    path: str
    parameter: str | None = None  # of the query
    field: str | None = None  # of the body

    def __str__(self):
        return f"{self.method} {self.path} {self.parameter or self.field or ''}".strip()

    def make(self, client, id, filler):
        path = self.path.replace("{id}", filler if self.parameter or self.field else id)
        options = {}
        if self.parameter:
            options["params"] = {self.parameter: id}
        if self.path.endswith("/parts"):
            options["files"] = {"data": b"{}\n"}
        elif self.method == "POST":
            body = dict(BODIES.get(self.path, {}))
            if self.field:
                body[self.field] = [id] if self.field.endswith("s") else id
            options["json"] = body
        return client.request(self.method, path, **options)


def calls():
    for method, path, operation in operations():
        if "{id}" in path:
            kind = next((kind for start, kind in IN_PATH.items() if path.startswith(start)), None)
            assert kind, f"{method} {path}: say above what its id stands for"
            yield Call(kind, method, path)
        for name in query_parameters(path, operation):
            if name in ("after", "with") or name.endswith("_id"):
                assert (path, name) in IN_QUERY, f"{method} {path}: say above what its parameter {name} stands for"
                if kind := IN_QUERY[path, name]:
                    yield Call(kind, method, path, parameter=name)
        for name in body_properties(operation):
            if re.search(r"_ids?$", name):
                assert (path, name) in IN_BODY, f"{method} {path}: say above what its field {name} stands for"
                yield Call(IN_BODY[path, name], method, path, field=name)


CALLS = list(calls())


class Party:
    """A project with a key of its own."""

    def __init__(self, server, name):
        self.project, self.key = server.make_project(name)
        self.openai = server.client(self.key)
        self.http = httpx2.Client(base_url=server.url, headers={"Authorization": f"Bearer {self.key}"})


@pytest.fixture(scope="module")
def world(new_module_server):
    """The owner has one of everything; the stranger has nothing but an upload, to name in paths."""
    with FakeEngine(reply=lambda body: (200, json.dumps(answer(body)).encode())) as engine:
        server = new_module_server("--engine", engine.url, "--webhook-allow", "127.0.0.1", models=())
        owner, stranger = Party(server, "owner"), Party(server, "stranger")
        lines = [line(f"{WORD}-{n}", {"model": MODEL, "messages": [{"role": "user", "content": WORD}]}) for n in range(3)]
        hook = {"url": f"http://127.0.0.1:1/{WORD}", "name": WORD, "event_types": ["batch.completed"]}
        endpoint = owner.http.post("/v1/webhook_endpoints", json=hook).raise_for_status().json()
        done = finished(owner.openai, create_batch(owner.openai, lines, metadata={"word": WORD}))
        assert done.status == "completed"
        waiting = create_batch(owner.openai, lines, metadata={"word": WORD})
        owner.http.post(f"/v1/batches/{waiting.id}/pause").raise_for_status()
        made = owner.openai.uploads.create(filename=f"{WORD}.jsonl", purpose="batch", bytes=3, mime_type="text/plain")
        part = owner.openai.uploads.parts.create(made.id, data=b"{}\n")
        delivery = owner.http.get("/v1/deliveries").raise_for_status().json()["data"][0]
        ids = {
            "file": [done.input_file_id, done.output_file_id],
            "batch": [done.id, waiting.id],
            "upload": [made.id],
            "part": [part.id],
            "endpoint": [endpoint["id"]],
            "delivery": [delivery["id"]],
        }
        filler = stranger.openai.uploads.create(filename="a.jsonl", purpose="batch", bytes=3, mime_type="text/plain").id
        yield server, owner, stranger, ids, filler


def answer(body):
    message = {"role": "assistant", "content": f"{WORD}, indeed"}
    return {"id": "x", "object": "chat.completion", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}


def like(id):
    """An id that is nobody's."""
    return re.sub(r"[0-9a-f]{8}$", "00000000", id)


def essence(response, id):
    """What an answer says, but for the id and what every answer has of its own."""
    own = ("x-request-id", "openai-processing-ms", "date")
    headers = {name: value for name, value in response.headers.items() if name not in own}
    return response.status_code, headers, response.text.replace(id, "ID")


@pytest.mark.parametrize("call", CALLS, ids=str)
def test_id_of_another_project_is_answered_as_an_unknown_one(world, call):
    server, owner, stranger, ids, filler = world
    for id in ids[call.kind]:
        theirs, unknown = call.make(stranger.http, id, filler), call.make(stranger.http, like(id), filler)
        assert essence(theirs, id) == essence(unknown, like(id))
        if call.parameter != "batch_id":  # a filter finds nothing
            assert 400 <= theirs.status_code < 500


def test_lists_and_logs_tell_nothing_of_another_project(world):
    server, owner, stranger, ids, filler = world
    of_the_owner = re.compile("|".join([WORD, owner.key, *sum(ids.values(), [])]))
    for method, path, operation in operations():
        if method == "GET" and "{id}" not in path and "{name}" not in path:
            with stranger.http.stream("GET", path) as answer:  # of events, which go on for ever, the first ones
                text = next(answer.iter_text()) if path == "/v1/events" else answer.read().decode()
            assert not of_the_owner.search(text), path
    log = server.log.read_text()
    assert WORD not in log and owner.key not in log and stranger.key not in log


def test_nothing_that_a_stranger_tries_changes_anything(world):
    server, owner, stranger, ids, filler = world

    def state():
        paths = [f"/v1/files/{id}/content" for id in ids["file"]] + [f"/v1/batches/{id}" for id in ids["batch"]]
        paths += ["/v1/files", "/v1/batches", "/v1/webhook_endpoints"]
        return [re.sub(r'"(estimated|queue)_\w+": ?[^,}]+', "", owner.http.get(path).raise_for_status().text) for path in paths]

    before = state()
    for call in CALLS:
        for id in ids[call.kind]:
            call.make(stranger.http, id, filler)
    assert state() == before
    added = owner.http.post(f"/v1/uploads/{ids['upload'][0]}/complete", json={"part_ids": ids["part"]})
    assert added.status_code == 200  # it was not cancelled, and has no part of the stranger's


def test_an_idempotency_key_is_a_projects_own(world):
    server, owner, stranger, ids, filler = world
    made = []
    for party in (owner, stranger):
        content = {"file": ("a.jsonl", b'{"a": 1}\n')}
        sent = party.http.post("/v1/files", files=content, data={"purpose": "batch"}, headers={"Idempotency-Key": "one"})
        made.append(sent.raise_for_status().json()["id"])
    assert made[0] != made[1]


def test_health_tells_of_engines_to_who_may_know(new_server):
    nowhere = "http://127.0.0.1:1"
    server = new_server("--engine", nowhere, models=())

    def health(key=None):
        return httpx2.get(f"{server.url}/healthz", headers={"Authorization": f"Bearer {key}"} if key else {}).json()

    wait_until(lambda: nowhere in str(health().get("reasons")), "without keys everybody is told")
    _, key = server.make_project("one")
    assert nowhere in str(health(server.place.key)["reasons"])
    assert health(key) == health("psk_wrong") == health() == {"status": "degraded"}


def test_keys_of_a_project_may_not_ask_for_what_admins_may(world):
    server, owner, stranger, ids, filler = world
    for path, methods in OPERATIONS.items():
        if path.startswith("/v1/organization/"):
            for method in methods.keys() - {"parameters"}:
                asked = stranger.http.request(method.upper(), path.replace("{id}", "proj_default"))
                assert asked.status_code == 403, f"{method} {path}"
