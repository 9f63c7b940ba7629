"""API keys and projects: who may do what. Quotas are elsewhere."""

import json
import re

import httpx2
import pytest

from description import OPERATIONS
from fake_engine import MODEL, FakeEngine
from penstock import Connection, Server, create_batch, finished, line, penstock, refused, upload, wait_until

pytestmark = pytest.mark.quick

HEARD_WITHIN = 5  # seconds; it is 1, and machines are busy
DAY = 86_400

# Every route, by what it needs, with ids that are unknown.
ROUTES = {
    "files": [
        ("POST", "files"),
        ("GET", "files"),
        ("GET", "files/file-unknown"),
        ("DELETE", "files/file-unknown"),
        ("GET", "files/file-unknown/content"),
        ("POST", "uploads"),
        ("POST", "uploads/upload_unknown/parts"),
        ("POST", "uploads/upload_unknown/complete"),
        ("POST", "uploads/upload_unknown/cancel"),
    ],
    "batches": [
        ("POST", "batches"),
        ("GET", "batches"),
        ("GET", "batches/batch_unknown"),
        ("POST", "batches/batch_unknown"),
        ("POST", "batches/batch_unknown/cancel"),
        ("POST", "batches/batch_unknown/retry"),
        ("POST", "batches/batch_unknown/pause"),
        ("POST", "batches/batch_unknown/resume"),
        ("GET", "batches/batch_unknown/results"),
        ("GET", "batches/batch_unknown/events"),
        ("GET", "batches/batch_unknown/lines"),
        ("GET", "batches/batch_unknown/comparison"),
        ("GET", "queue"),
        ("GET", "events?topics=unknown"),
        ("GET", "jobs/history"),
        ("GET", "jobs/stats"),
        ("POST", "webhook_endpoints"),
        ("GET", "webhook_endpoints"),
        ("GET", "webhook_endpoints/we_unknown"),
        ("POST", "webhook_endpoints/we_unknown"),
        ("DELETE", "webhook_endpoints/we_unknown"),
        ("POST", "webhook_endpoints/we_unknown/rotate_secret"),
        ("POST", "webhook_endpoints/we_unknown/test"),
        ("GET", "webhook_event_types"),
        ("GET", "deliveries"),
        ("GET", "deliveries/wh_unknown"),
        ("DELETE", "deliveries/wh_unknown"),
        ("POST", "deliveries/wh_unknown/retry"),
    ],
    "admin": [
        ("GET", "organization/projects"),
        ("POST", "organization/projects"),
        ("GET", "organization/projects/proj_unknown"),
        ("POST", "organization/projects/proj_unknown"),
        ("POST", "organization/projects/proj_unknown/archive"),
        ("GET", "organization/api_keys"),
        ("POST", "organization/api_keys"),
        ("GET", "organization/api_keys/key_unknown"),
        ("DELETE", "organization/api_keys/key_unknown"),
        ("POST", "organization/api_keys/key_unknown/rotate"),
        ("GET", "organization/audit_logs"),
        ("GET", "settings"),
    ],
    "monitor": [("GET", "/metrics"), ("GET", "engines"), ("GET", "workers"), ("GET", "stats")],
    None: [("GET", "models"), ("GET", "models/unknown"), ("GET", "whoami")],
}


def at(path):
    """Routes above are those of the API, but for those with a slash."""
    return path if path.startswith("/") else f"/v1/{path}"


def command(server, *words):
    """What it prints."""
    done = server.tool(*words)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def refusal(server, *words):
    """The one line that says what is wrong."""
    done = server.tool(*words)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    (message,) = done.stderr.splitlines()
    return message


def key_id(server, key):
    """By the ends of the key, which alone are shown."""
    keys = json.loads(command(server, "keys", "list", "--json"))["data"]
    return next(one["id"] for one in keys if one["redacted_value"] == f"{key[:8]}…{key[-4:]}")


def status(server, key, path="models", method="GET"):
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return httpx2.request(method, f"{server.url}{at(path)}", headers=headers).status_code


def ask(server, key, path, method="GET", **body):
    answer = httpx2.request(method, f"{server.url}/v1/organization/{path}", headers={"Authorization": f"Bearer {key}"}, **body)
    return answer


@pytest.fixture
def open_server(new_server):
    """Without a key."""
    with FakeEngine() as engine:
        yield new_server("--engine", engine.url, models=())


@pytest.fixture(scope="module")
def closed(new_module_server):
    """A server and a key that may do everything. Tests may add keys and projects, and leave that one alone."""
    with FakeEngine() as engine:
        server = new_module_server("--engine", engine.url, models=())
        yield server, first_key(server)


def first_key(server):
    key = server.make_key()
    for one in server.place.processes:
        one.place.key = key  # for the audit
        wait_until(lambda: status(one, None) == 401, "every server has heard of the key", HEARD_WITHIN)
    return key


def test_without_keys_everything_is_allowed_and_the_first_key_ends_that_within_a_second(open_server):
    assert "there are no API keys" in open_server.log.read_text()
    file = upload(open_server.client(), [line("one", {"model": MODEL})])
    key = first_key(open_server)
    assert "API key" in refused(lambda: open_server.client().files.list(), status=401).message
    # What was made before is the default project's, and so is the key.
    client = open_server.client(key)
    assert [one.id for one in client.files.list()] == [file.id]
    batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    assert finished(client, batch).status == "completed"
    assert httpx2.get(f"{open_server.url}/healthz").status_code == 200
    assert httpx2.get(f"{open_server.url}/openapi.json").status_code == 200


@pytest.mark.local
def test_without_keys_other_sites_pages_are_refused(open_server):
    def get(**headers):
        return httpx2.get(f"{open_server.url}/v1/files", headers=headers)

    assert get().status_code == 200
    for name, value in (("Host", "evil.example"), ("Origin", "https://evil.example"), ("Origin", "null")):
        answer = get(**{name: value})
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, f"foreign_{name.lower()}")


def test_without_a_key_every_route_is_refused(closed):
    server, _ = closed
    for method, path in (route for routes in ROUTES.values() for route in routes):
        answer = httpx2.request(method, f"{server.url}{at(path)}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key"), path
        assert answer.headers["WWW-Authenticate"] == "Bearer"
    for unknown in ("nowhere", "files/file-1/nowhere"):
        assert status(server, None, unknown) == 404
    assert status(server, None, "files", "PUT") == 405


def test_what_is_no_key_is_refused_and_not_repeated(closed):
    server, key = closed
    mistyped = key[:-1] + ("y" if key[-1] == "x" else "x")
    for wrong in ("any", "psk_", mistyped, key.upper(), f"{key} {key}"):
        answer = httpx2.get(f"{server.url}/v1/files", headers={"Authorization": f"Bearer {wrong}"})
        assert answer.status_code == 401
        assert wrong not in answer.text


@pytest.mark.parametrize("scope", [scope for scope in ROUTES if scope])
def test_each_route_needs_its_scope(closed, scope):
    server, _ = closed
    key = server.make_key(scopes=scope)
    for needed, routes in ROUTES.items():
        for method, path in routes:
            answer = httpx2.request(method, f"{server.url}{at(path)}", headers={"Authorization": f"Bearer {key}"})
            if needed in (scope, None) or (scope, needed) == ("admin", "monitor"):
                assert answer.status_code in (200, 400, 404), path
            else:
                error = answer.json()["error"]
                assert (answer.status_code, error["code"]) == (403, "missing_scope"), path
                assert error["message"].endswith(f"Missing scopes: {needed}.")


@pytest.mark.local
def test_every_described_route_is_tried_with_every_scope():
    tried = {
        f"{method} {at(re.sub('[a-z_-]*unknown', '*', path.partition('?')[0]))}"
        for routes in ROUTES.values()
        for method, path in routes
    }
    described = {
        f"{method.upper()} {re.sub('{.*}', '*', path)}"
        for path, methods in OPERATIONS.items()
        for method, operation in methods.items()
        if method != "parameters" and operation.get("security") != []
    }
    assert tried == described


def test_nobody_without_a_key_can_make_the_server_read_a_body(closed):
    server, _ = closed
    with Connection(server) as connection:
        head = "POST /v1/files HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"
        connection.send(f"{head}Content-Length: 200000000\r\nExpect: 100-continue\r\n\r\n".encode())
        assert connection.answer()[0] == 401  # and not 100
        assert connection.is_closed()


def test_a_key_ends_when_it_expires(closed):
    server, _ = closed
    key = server.make_key("--expires", "2s")
    assert status(server, key) == 200
    wait_until(lambda: status(server, key) == 401, "it has expired", 2 + HEARD_WITHIN)


def test_a_rotated_key_gives_way_to_a_new_one_after_the_overlap(closed):
    server, _ = closed
    old = server.make_key(scopes="files")
    new = command(server, "keys", "rotate", key_id(server, old))
    assert status(server, old) == status(server, new) == 200
    assert status(server, new, "batches") == 403
    last = command(server, "keys", "rotate", key_id(server, new), "--overlap", "0s")
    wait_until(lambda: status(server, new) == 401, "the key has given way", HEARD_WITHIN)
    assert status(server, old) == status(server, last) == 200
    keys = {one["id"]: one for one in json.loads(command(server, "keys", "list", "--json"))["data"]}
    rotated = keys[key_id(server, old)]
    assert DAY - 60 < rotated["expires_at"] - rotated["created_at"] < DAY + 60
    assert "expired" in refusal(server, "keys", "rotate", key_id(server, new))


def test_fault_41_a_revoked_key_is_refused_and_its_streams_end(new_server):
    with FakeEngine(answers=0) as engine:
        server = new_server("--engine", engine.url, models=())
        admin, key = first_key(server), server.make_key()
        batch = create_batch(server.client(key), [line("one", {"model": MODEL})])
        headers = {"Authorization": f"Bearer {key}"}
        with httpx2.stream("GET", f"{server.url}/v1/batches/{batch.id}/events", headers=headers) as stream:
            events = stream.iter_lines()
            assert next(events) == "event: batch"
            assert ask(server, admin, f"api_keys/{key_id(server, key)}", "DELETE").json()["deleted"]
            wait_until(lambda: status(server, key) == 401, "the key is refused", HEARD_WITHIN)
            engine.release()
            with pytest.raises(httpx2.TransportError):
                for event in events:
                    assert '"status":"completed"' not in event
        assert finished(server.client(admin), batch).status == "completed"


@pytest.mark.many
def test_fault_41_a_key_that_one_server_revokes_is_refused_by_another(deployment):
    one, other = deployment.server(), deployment.server()
    admin, key = first_key(one), one.make_key()
    assert status(one, key) == status(other, key) == 200
    id = key_id(one, key)
    assert ask(one, admin, f"api_keys/{id}", "DELETE").status_code == 200
    wait_until(lambda: status(other, key) == 401, "the other refuses it too", HEARD_WITHIN)
    assert status(other, admin) == 200


def test_the_keys_of_an_archived_project_are_refused(closed):
    server, admin = closed
    project = command(server, "projects", "create", "one that ends")
    key = server.make_key("--project", project)
    file = upload(server.client(key), b"{}\n", name="notes.jsonl")
    refused(lambda: server.client(admin).files.retrieve(file.id), status=404)
    assert command(server, "projects", "archive", project) == project
    wait_until(lambda: status(server, key) == 401, "the key is refused", HEARD_WITHIN)
    assert "archived" in refusal(server, "keys", "create", "--name", "late", "--project", project)
    assert "default" in refusal(server, "projects", "archive", "proj_default")


def test_projects_by_the_official_client(closed):
    server, key = closed
    projects = server.client(key).admin.organization.projects
    made = projects.create(name="Ünser project", extra_body={"weight": 3, "limits": {"queued_lines": 100}})
    assert (made.name, made.status, made.archived_at) == ("Ünser project", "active", None)
    assert made.weight == 3
    none = dict.fromkeys(("stored_bytes", "active_batches", "queued_lines", "requests_per_second"))
    assert made.limits == none | {"queued_lines": 100}
    changed = projects.update(made.id, name="Another", extra_body={"limits": {"queued_lines": None, "stored_bytes": 0}})
    assert (changed.name, changed.weight, changed.limits) == ("Another", 3, none | {"stored_bytes": 0})
    assert projects.retrieve(made.id) == changed
    others = [projects.create(name=f"page {n}").id for n in range(3)]
    ids = [one.id for one in projects.list(limit=2)]
    assert ids[0] == "proj_default" and ids[-4:] == [made.id, *others] and len(ids) == len(set(ids))
    assert projects.archive(made.id).status == "archived"
    assert made.id not in [one.id for one in projects.list()]
    assert made.id in [one.id for one in projects.list(include_archived=True)]
    refused(lambda: projects.archive("proj_default"), "default", status=409)
    refused(lambda: projects.retrieve("proj_unknown"), "proj_unknown", status=404)
    refused(lambda: projects.create(name=""), "name")
    refused(lambda: projects.create(name="x" * 257), "name")
    limits = ({"stored_bytes": -1}, {"queued_lines": "1"}, 1)
    for body in ({"weight": 0}, {"weight": 1.5}, *({"limits": one} for one in limits)):
        refused(lambda: projects.update(made.id, extra_body=body))


def test_keys_over_the_api(closed):
    server, admin = closed
    made = ask(server, admin, "api_keys", "POST", json={"name": "ci", "scopes": ["batches"], "expires_in_seconds": DAY}).json()
    key = made.pop("value")
    assert (made["scopes"], made["expires_at"] - made["created_at"]) == (["batches"], DAY)
    assert ask(server, admin, f"api_keys/{made['id']}").json() == made
    assert status(server, key, "batches") == 200 and status(server, key, "files") == 403

    rotated = ask(server, admin, f"api_keys/{made['id']}/rotate", "POST", json={"overlap_seconds": 0}).json()
    assert (rotated["name"], rotated["scopes"]) == ("ci", ["batches"])
    assert status(server, rotated["value"], "batches") == 200
    wait_until(lambda: status(server, key, "batches") == 401, "it has given way", HEARD_WITHIN)
    assert ask(server, admin, f"api_keys/{made['id']}/rotate", "POST").status_code == 409

    project = ask(server, admin, "projects", "POST", json={"name": "of its own"}).json()["id"]
    other = ask(server, admin, "api_keys", "POST", json={"name": "other", "project_id": project}).json()
    assert (other["project_id"], other["scopes"]) == (project, ["files", "batches"])
    page = ask(server, admin, f"api_keys?project_id={project}").json()
    assert [one["id"] for one in page["data"]] == [other["id"]] and "value" not in page["data"][0]

    assert ask(server, admin, f"api_keys/{other['id']}", "DELETE").json() == {
        "id": other["id"],
        "object": "organization.api_key.deleted",
        "deleted": True,
    }
    assert ask(server, admin, f"api_keys/{other['id']}").json()["revoked_at"]
    for path, method, code in (("api_keys/key_unknown", "GET", 404), ("api_keys/key_unknown", "DELETE", 404)):
        assert ask(server, admin, path, method).status_code == code
    for body in ({"name": 1}, {"scopes": []}, {"scopes": ["all"]}, {"expires_in_seconds": 0}):
        assert ask(server, admin, "api_keys", "POST", json={"name": "a"} | body).status_code == 400
    assert ask(server, admin, "api_keys", "POST", json={"name": "a", "project_id": "proj_unknown"}).status_code == 404


def test_the_last_key_of_an_administrator_stays(open_server):
    admin = first_key(open_server)
    project = ask(open_server, admin, "projects", "POST", json={"name": "of its own"}).json()["id"]
    id = key_id(open_server, admin)
    assert ask(open_server, admin, f"api_keys/{id}", "DELETE").status_code == 409
    body = {"name": "next", "scopes": ["admin"], "project_id": project}
    second = ask(open_server, admin, "api_keys", "POST", json=body).json()["value"]
    assert ask(open_server, second, f"api_keys/{id}", "DELETE").status_code == 200
    assert ask(open_server, second, f"projects/{project}/archive", "POST").status_code == 409
    # On the machine itself everything is possible, and a server without living keys lets nobody in.
    command(open_server, "keys", "revoke", key_id(open_server, second))
    wait_until(lambda: status(open_server, second) == 401, "it is refused", HEARD_WITHIN)
    assert status(open_server, None) == 401
    open_server.place.key = open_server.make_key()


class PublicServer(Server):
    """One at an address of which it cannot be sure that only this machine reaches it, and that is 127.0.0.1."""

    def words(self):
        return ["serve", "--listen", f"127.1:{self.port}"]


@pytest.mark.local
def test_a_public_address_needs_a_key(new_server, tmp_path):
    with FakeEngine() as engine:
        settings = ("--engine", engine.url)
        for host in ("0.0.0.0", "127.1", "[::]"):
            refused = penstock("serve", "--listen", f"{host}:0", *settings, folder=tmp_path)
            assert refused.returncode == 2
            assert re.fullmatch(r"penstock: listen: \S+ can be called .* --insecure\n", refused.stderr)
        server = new_server(*settings, "--insecure", models=(), kind=PublicServer)
        assert "may do everything" in server.log.read_text()
        assert httpx2.get(f"{server.url}/v1/files", headers={"Host": "penstock.example"}).status_code == 200
        key = first_key(server)
        server.kill()
        server.command.remove("--insecure")
        server.start()
        assert "plain text" in server.log.read_text()
        assert (status(server, None), status(server, key)) == (401, 200)


def test_keys_are_made_and_ended_on_the_machine_with_a_server_and_without(place, new_server, tmp_path):
    """The key alone is printed, for a shell to catch."""
    server = Server(tmp_path, models=(), place=place)
    Server.all.remove(server)
    place.processes.remove(server)
    made = server.tool("keys", "create", "--name", "first")
    assert re.fullmatch(r"psk_[0-9A-Za-z]{33}\n", made.stdout) and made.stdout.strip() not in made.stderr
    id = re.match(r"(key_\w+) of proj_default in .*, scopes: files,batches, expires: never", made.stderr)[1]
    place.key = made.stdout.strip()
    listed = server.tool("keys", "list").stdout
    assert id in listed and place.key[:8] in listed and place.key not in listed
    for words, what in {
        ("keys", "create", "--name", "a", "--scopes", "all"): "files, batches, admin and monitor",
        ("keys", "create", "--name", "a", "--expires", "soon"): "90d",
        ("keys", "create", "--name", "a", "--project", "proj_1"): "proj_1",
        ("keys", "create", "--name", ""): "name",
        ("keys", "revoke", "key_1"): "key_1",
        ("keys", "rotate", "key_1"): "key_1",
        ("projects", "set", "proj_1"): "proj_1",
        ("projects", "set", "proj_default", "--weight", "0"): "weight",
        ("projects", "set", "proj_default", "--queued-lines", "few"): "queued_lines",
    }.items():
        assert what in refusal(server, *words)
    shown = json.loads(command(server, "projects", "set", "proj_default", "--json", "--weight", "2", "--stored-bytes", "5"))
    assert (shown["weight"], shown["limits"]["stored_bytes"]) == (2, 5)
    shown = json.loads(command(server, "projects", "set", "proj_default", "--json", "--stored-bytes", "none"))
    assert (shown["weight"], shown["limits"]["stored_bytes"]) == (2, None)
    assert "Default" in command(server, "projects", "list")
    project = json.loads(command(server, "projects", "create", "other", "--json"))["id"]
    assert json.loads(command(server, "keys", "create", "--name", "a", "--project", project, "--json"))["value"]
    (only,) = json.loads(command(server, "keys", "list", "--project", project, "--json"))["data"]
    assert only["project_id"] == project
    assert id in server.tool("keys", "revoke", id).stderr
    assert "revoked" in command(server, "keys", "list")
    if not place.is_shared:
        nothing = penstock("keys", "list", "--data", tmp_path / "elsewhere", folder=tmp_path)
        assert nothing.returncode == 2 and "there is no database" in nothing.stderr
        assert not (tmp_path / "elsewhere").exists()


def test_a_schema_of_an_earlier_version_is_left_to_its_servers(open_server):
    open_server.place.rows("UPDATE schema_version SET version = version - 1")
    assert "start a server of this version first" in refusal(open_server, "keys", "list")
    open_server.place.rows("UPDATE schema_version SET version = version + 1")
    assert "proj_default" in command(open_server, "projects", "list")


def test_a_key_is_nowhere_but_with_its_owner(open_server):
    place = open_server.place
    admin = first_key(open_server)
    body = {"name": "over the API", "scopes": ["files"]}
    other = ask(open_server, admin, "api_keys", "POST", json=body).json()["value"]
    last = ask(open_server, admin, f"api_keys/{key_id(open_server, other)}/rotate", "POST").json()["value"]
    assert status(open_server, last, "files") == 200
    assert status(open_server, f"{last}x", "files") == 401
    tables = ("api_keys", "projects", "audit_log", "files", "batches")
    kept = " ".join(str(place.rows(f"SELECT * FROM {table}")) for table in tables)
    kept = kept.encode() + b"".join(path.read_bytes() for path in open_server.folder.rglob("*") if path.is_file())
    assert admin[:8].encode() in kept
    for key in (admin, other, last):
        assert key.encode() not in kept and key[8:-4].encode() not in kept
    actions = place.rows("SELECT action, key_id, object_id FROM audit_log ORDER BY seq")
    assert [one["action"] for one in actions] == ["api_key.created"] * 3 + ["api_key.rotated"]
    assert [one["key_id"] for one in actions] == [None] + [key_id(open_server, admin)] * 3
    assert actions[3]["object_id"] == key_id(open_server, other)


def test_the_last_use_of_a_key_is_told(closed):
    server, admin = closed
    key = server.make_key()
    id = key_id(server, key)
    assert ask(server, admin, f"api_keys/{id}").json()["last_used_at"] is None
    assert status(server, key) == 200
    used = wait_until(lambda: ask(server, admin, f"api_keys/{id}").json()["last_used_at"], "its use is told", HEARD_WITHIN)
    assert used >= ask(server, admin, f"api_keys/{id}").json()["created_at"]
