"""What the server says of itself in /openapi.json, and whether its answers are so."""

import re

import httpx2
import requests
import schemathesis
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from penstock import ROOT, Server

SOURCE = ROOT / "src/api/openapi.json"
HEAD_CHECKS = [status_code_conformance, content_type_conformance, response_headers_conformance]

DESCRIPTION = schemathesis.openapi.from_path(SOURCE)
OPERATIONS = DESCRIPTION.raw_schema["paths"]


def methods(template):
    return {method.upper() for method in OPERATIONS[template] if method != "parameters"}


def template_of(path):
    """The described path that fits; the longest wins. Only the names of models may have slashes."""
    patterns = {one: re.escape(one).replace(r"\{name\}", ".+").replace(r"\{id\}", "[^/]+") for one in OPERATIONS}
    return max((one for one, pattern in patterns.items() if re.fullmatch(pattern, path)), key=len, default=None)


def check(response):
    """Raises AssertionError when an answer of the server is not as described. `response` is of httpx2."""
    path = response.request.url.raw_path.decode().partition("?")[0]
    method = response.request.method.replace("HEAD", "GET")
    template = template_of(path)
    if response.status_code in (408, 431):
        return  # no request was understood, whatever its path
    if template is None:
        assert response.status_code == 404, "the path is not described"
    elif method == "OPTIONS" and response.status_code == 204:  # a browser asks for a page if it may
        assert set(response.headers["access-control-allow-methods"].split(", ")) == methods(template)
    elif method not in methods(template):
        assert response.status_code == 405, "the method is not described"
        assert set(response.headers["allow"].split(", ")) == methods(template)
    else:
        # Of a stream only the head: its content is the test's to read.
        has_json = response.headers.get("content-type") == "application/json" and response.request.method != "HEAD"
        answer = schemathesis.Response(
            status_code=response.status_code,
            headers={name: [value] for name, value in response.headers.items()},
            content=response.read() if has_json else b"",
            request=requests.Request(method, str(response.request.url)).prepare(),
            elapsed=0,
            verify=False,
        )
        checks = [*HEAD_CHECKS, response_schema_conformance] if has_json else HEAD_CHECKS
        names = re.findall(r"{(\w+)}", template)
        case = DESCRIPTION[template][method].Case(path_parameters=dict.fromkeys(names, "which one does not matter"))
        try:
            case.validate_response(answer, checks=checks)
        except FailureGroup as found:
            raise AssertionError("\n".join(map(str, found.exceptions))) from None


faults = []  # of the answers so far, in words


def watch():
    """From now on every answer of every running server that comes through httpx2, as those of the official client do, is
    checked. A fault raises nothing, since a client would make an error of its own of that: it goes into `faults`."""
    send = httpx2.Client.send

    def send_and_check(client, request, **options):
        response = send(client, request, **options)
        if request.url.port in [server.port for server in Server.all]:
            try:
                check(response)
            except Exception as fault:
                faults.append(f"{request.method} {request.url} is answered with {response.status_code}:\n{fault}")
        return response

    httpx2.Client.send = send_and_check
