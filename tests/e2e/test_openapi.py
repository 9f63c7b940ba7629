"""The server's description of itself: it is served, the checks with it bite, and Schemathesis finds no fault with it."""

import json
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from description import DESCRIPTION, SOURCE, check
from fake_engine import MODEL, FakeEngine
from penstock import CLEAN_ENV, create_batch, finished, line, penstock, upload, wait_until

UNLIMITED = {"MAX_QUEUE_DEPTH": "0", "MAX_TOTAL_QUEUED_REQUESTS": "0"}
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,"
    "response_headers_conformance,unsupported_method,allow_header_conformance,negative_data_rejection,"
    "use_after_free,ensure_resource_availability"
)
# The same requests in every run, and half of the ids that they name are of things that are there.
CONFIG = """
request-timeout = 10
warnings = false
cache.enabled = false
[generation]
deterministic = true
max-examples = 25
[dictionaries]
files.values = {files}
uploads.values = {uploads}
parts.values = {parts}
batches.values = {batches}
projects.values = {projects}
keys.values = {keys}
endpoints.values = {endpoints}
deliveries.values = {deliveries}
[[operations]]
include-path-regex = "^/v1/files/"
parameters = {{ "path.id" = {{ dictionary = "files", probability = 0.5 }} }}
[[operations]]
include-path-regex = "^/v1/uploads/"
parameters = {{ "path.id" = {{ dictionary = "uploads", probability = 0.5 }}, "body.part_ids[*]" = {{ dictionary = "parts", probability = 0.5 }} }}
[[operations]]
include-path-regex = "^/v1/batches/"
parameters = {{ "path.id" = {{ dictionary = "batches", probability = 0.5 }} }}
[[operations]]
include-path-regex = "^/v1/organization/projects/"
parameters = {{ "path.id" = {{ dictionary = "projects", probability = 0.5 }} }}
[[operations]]
include-path-regex = "^/v1/organization/api_keys/"
parameters = {{ "path.id" = {{ dictionary = "keys", probability = 0.5 }} }}
[[operations]]
include-path-regex = "^/v1/webhook_endpoints/"
parameters = {{ "path.id" = {{ dictionary = "endpoints", probability = 0.5 }} }}
[[operations]]
include-path-regex = "^/v1/deliveries/"
parameters = {{ "path.id" = {{ dictionary = "deliveries", probability = 0.5 }} }}
[[operations]]
include-operation-id = "getEvents"
max-stream-events = 1
[[operations]]
include-operation-id = "getSystemEvents"
max-stream-events = 1
[[operations]]
include-operation-id = "getResults"
parameters = {{ "query.stream" = false }}
[[operations]]
include-operation-id = "createBatch"
parameters = {{ "body.input_file_id" = {{ dictionary = "files", probability = 0.5 }} }}
"""


@pytest.fixture
def server(new_server):
    with FakeEngine() as engine:
        yield new_server("--engine", engine.url, env=UNLIMITED, models=())


def some_of_everything(client):
    """Ids to name: batches that are completed and failed, their files, uploads with parts, who was to be told, projects and
    keys."""
    nowhere = {"name": "nowhere", "url": "http://localhost:1/", "event_types": ["batch.completed", "batch.failed"]}
    endpoints = [client.webhooks.create(**nowhere).id for _ in range(5)]
    batches = [finished(client, create_batch(client, [line("one", {"model": name})])) for name in [MODEL, "unknown"] * 3]
    files = [batch.output_file_id or batch.input_file_id for batch in batches] + [upload(client, b"{}\n").id for _ in range(5)]
    uploads = [client.uploads.create(filename="a.jsonl", purpose="batch", bytes=3, mime_type="any").id for _ in range(5)]
    parts = [client.uploads.parts.create(one, data=b"{}\n").id for one in uploads]
    projects = [client.admin.organization.projects.create(name="a project").id for _ in range(5)]
    deliveries = [one["id"] for one in client.get("/deliveries", cast_to=object)["data"]]
    keys = [client.post("/organization/api_keys", cast_to=dict, body={"name": "a key"})["id"] for _ in range(5)]
    ids = {"batches": [batch.id for batch in batches], "files": files, "uploads": uploads, "parts": parts}
    return ids | {"endpoints": endpoints, "deliveries": deliveries, "projects": projects, "keys": keys}


def test_served_description_is_the_source_with_the_version(server, tmp_path):
    version = penstock("--version", folder=tmp_path).stdout.split()[-1]
    source = json.loads(SOURCE.read_text().replace("@PROJECT_VERSION@", version))
    assert httpx2.get(f"{server.url}/openapi.json").json() == source
    DESCRIPTION.validate()


@pytest.mark.parametrize(
    "change",
    [
        {"status_code": 201},
        {"method": "PUT"},
        {"path": "/v1/nothing"},
        {"headers": {"content-type": "text/plain"}},
        {"headers": {"x-request-id": "1"}},
        {"headers": {"openai-processing-ms": None}},
        {"body": {"another key": 1}},
        {"body": {"filename": None}},
        {"body": {"created_at": "today"}},
    ],
    ids=str,
)
def test_answer_that_is_not_as_described_is_found(server, change):
    good = httpx2.get(f"{server.url}/v1/files/{upload(server.client(), b'{}').id}")

    def answer(status_code=200, method="GET", path=good.request.url.path, headers=(), body=()):
        headers = {k: v for k, v in (dict(good.headers) | dict(headers)).items() if v is not None}
        request = httpx2.Request(method, f"{server.url}{path}")
        return httpx2.Response(status_code, headers=headers, json=good.json() | dict(body), request=request)

    check(answer())
    with pytest.raises(AssertionError):
        check(answer(**change))


def test_schemathesis_finds_no_fault(server, tmp_path):
    server.place.key = server.make_key()  # else it would make the first one itself, and be refused from then on
    wait_until(lambda: httpx2.get(f"{server.url}/v1/models").status_code == 401, "the server has heard of the key", 5)
    client = server.client(server.place.key)
    config = tmp_path / "schemathesis.toml"
    config.write_text(CONFIG.format(**some_of_everything(client)))
    program = [Path(sys.executable).with_name("schemathesis"), "--no-color", "--config-file", config]
    options = ["--checks", CHECKS, "--continue-on-failure", "--header", f"Authorization: Bearer {client.api_key}"]
    run = subprocess.run(
        [*program, "run", f"{server.url}/openapi.json", *options],
        cwd=tmp_path,
        env=CLEAN_ENV,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert " error " not in server.log.read_text()
