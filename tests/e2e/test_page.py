"""The dashboard's files as the server gives them, and who it says that asks. What the page does is the browser tests'."""

import re

import httpx2
import pytest

from fake_engine import FakeEngine

pytestmark = pytest.mark.quick


@pytest.fixture(scope="module")
def server(new_module_server):
    with FakeEngine() as engine:
        yield new_module_server("--engine", engine.url, models=())


def get(server, path, **headers):
    return httpx2.get(server.url + path, headers={"Accept-Encoding": "identity", **headers})


def test_the_page_is_for_everybody_and_may_load_only_what_comes_with_it(server):
    page = get(server, "/")
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["cache-control"] == "no-cache"
    policy = page.headers["content-security-policy"].split("; ")
    assert {"default-src 'none'", "script-src 'self'", "connect-src 'self'", "frame-ancestors 'none'"} < set(policy)
    assert not any("unsafe" in one for one in policy)
    assert httpx2.head(server.url + "/").status_code == 200


def test_who_has_the_page_is_not_sent_it_again(server):
    page = get(server, "/")
    again = get(server, "/", **{"If-None-Match": page.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == page.headers["etag"]
    assert get(server, "/", **{"If-None-Match": 'W/"of another build"'}).status_code == 200


def test_what_the_page_loads_is_there_compressed_or_not_and_stays(server):
    page = get(server, "/").text
    for path in re.findall(r'(?:src|href)="(/(?:assets/|favicon)[^"]+)"', page):
        plain, compressed = get(server, path), get(server, path, **{"Accept-Encoding": "br, gzip"})
        assert (plain.status_code, compressed.status_code) == (200, 200)
        assert "content-encoding" not in plain.headers
        assert compressed.headers.get("content-encoding") == "gzip"
        assert compressed.content == plain.content
        assert ("immutable" in plain.headers["cache-control"]) == path.startswith("/assets/")
    assert get(server, "/assets/unknown.js").status_code == 404
    assert get(server, "/assets/..%2Findex.html").status_code == 404


def test_a_key_is_told_for_whom_it_acts_and_what_it_may_do(new_server):
    with FakeEngine() as engine:
        server = new_server("--engine", engine.url, models=())
        nobody = httpx2.get(f"{server.url}/v1/whoami").json()
        assert (nobody["is_open"], nobody["key_id"], nobody["project_id"]) == (True, None, "proj_default")
        assert {"files", "batches", "admin"} <= set(nobody["scopes"])
        project, key = server.make_project("night work")
        server.place.key = server.make_key()  # for the audit
        told = httpx2.get(f"{server.url}/v1/whoami", headers={"Authorization": f"Bearer {key}"}).json()
        assert (told["project_id"], told["project_name"]) == (project, "night work")
        assert (told["is_open"], told["scopes"]) == (False, ["files", "batches"])
        assert told["key_id"].startswith("key_")
        assert httpx2.get(f"{server.url}/v1/whoami").status_code == 401
