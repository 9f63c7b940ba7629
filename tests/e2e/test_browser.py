"""What browsers are told of the answers, and of pages of other origins."""

import httpx2
import pytest

from description import OPERATIONS, methods
from penstock import Connection, create_batch, line

PAGE = "https://app.example.com"
ASK = {"Origin": PAGE, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
SECURITY = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@pytest.fixture(scope="module")
def open_server(new_module_server):
    """Lets in the pages of two origins."""
    return new_module_server("--no-worker", "--cors-origins", f"{PAGE},http://127.0.0.1:3000", models=())


def cors_headers(answer):
    return {name for name in answer.headers if name.startswith("access-control-") or name == "vary"}


def is_secure(headers):
    """Each of the headers is there, once."""
    return {name: [value for key, value in headers if key.lower() == name.lower()] for name in SECURITY} == {
        name: [value] for name, value in SECURITY.items()
    }


def test_every_answer_has_the_headers_that_keep_browsers_from_mischief(client, shared_server):
    file = client.files.create(file=("a.html", b"<script>alert(1)</script>"), purpose="user_data")
    for method, path in [
        ("GET", "/v1/files"),
        ("GET", f"/v1/files/{file.id}/content"),
        ("GET", "/v1/files/file-unknown"),
        ("GET", "/v1/nowhere"),
        ("PUT", "/v1/files"),
        ("OPTIONS", "/v1/files"),
        ("DELETE", f"/v1/files/{file.id}"),
        ("GET", "/healthz"),
        ("GET", "/openapi.json"),
    ]:
        answer = httpx2.request(method, shared_server.url + path)
        assert is_secure(answer.headers.multi_items()), (method, path, answer.headers)
    with httpx2.stream("GET", f"{shared_server.url}/v1/batches/{create_batch(client, [line('a')]).id}/events") as events:
        assert is_secure(events.headers.multi_items())
    with Connection(shared_server) as connection:
        connection.send(b"hello\r\n\r\n")
        assert is_secure(connection.answer()[1].items())


def test_pages_of_other_origins_are_let_in_only_where_the_operator_says_so(shared_server):
    for method, headers, status in (("OPTIONS", ASK, 405), ("GET", {}, 200)):
        answer = httpx2.request(method, f"{shared_server.url}/v1/files", headers=headers)
        assert answer.status_code == status
        assert not cors_headers(answer)


def test_browser_that_asks_for_a_page_is_told_the_methods_of_the_route(open_server):
    with httpx2.Client(base_url=open_server.url) as browser:
        for template in OPERATIONS:
            path = template.format(id="which", name="one/does/not/matter")
            answer = browser.options(path, headers=ASK)
            assert (answer.status_code, answer.content) == (204, b"")
            assert set(answer.headers["access-control-allow-methods"].split(", ")) == methods(template)
            assert answer.headers["access-control-allow-origin"] == PAGE
            assert {"authorization", "content-type", "idempotency-key"} <= set(answer.headers["access-control-allow-headers"].split(", "))
            assert 0 < int(answer.headers["access-control-max-age"]) <= 7200
            assert answer.headers["vary"] == "Origin"
            assert "access-control-allow-credentials" not in answer.headers
        assert browser.options("/v1/nowhere", headers=ASK).status_code == 404


@pytest.mark.parametrize("origin", ["https://evil.example", f"{PAGE}.evil.example", f"{PAGE}:444", "http://app.example.com", "null"])
def test_page_of_an_origin_that_is_not_named_is_told_nothing(open_server, origin):
    answer = httpx2.options(f"{open_server.url}/v1/files", headers=ASK | {"Origin": origin})
    assert (answer.status_code, cors_headers(answer)) == (405, {"vary"})


def test_page_that_is_let_in_may_read_answers_and_their_headers(open_server):
    for path, status in (("/v1/files", 200), ("/v1/files/file-unknown", 404), ("/v1/nowhere", 404)):
        answer = httpx2.get(open_server.url + path, headers={"Origin": PAGE})
        assert answer.status_code == status
        assert answer.headers["access-control-allow-origin"] == PAGE
        exposed = set(answer.headers["access-control-expose-headers"].split(", "))
        assert {"x-request-id", "retry-after", "x-should-retry", "x-ratelimit-remaining-requests"} <= exposed
        assert answer.headers["vary"] == "Origin"
    assert cors_headers(httpx2.get(f"{open_server.url}/v1/files")) == {"vary"}
