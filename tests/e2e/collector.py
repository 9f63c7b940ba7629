"""A collector of traces that reads what it is sent as strictly as OpenTelemetry's own schema has it."""

import base64
import json
import re
from dataclasses import dataclass

from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from penstock import wait_until
from receiver import Receiver

BYTES = {"traceId": 32, "spanId": 16, "parentSpanId": 16}  # hexadecimal digits, where JSON of other messages has Base64
NUMBERS_AS_TEXT = ("startTimeUnixNano", "endTimeUnixNano", "intValue")  # as all of 64 bits


@dataclass
class Span:
    trace: str
    id: str
    parent: str
    name: str
    kind: str
    start: int  # nanoseconds
    end: int
    attributes: dict
    error: str | None  # None: it did not fail


def decoded(body):
    """The spans of one request. Fails on what OTLP's JSON does not have."""

    def as_protobuf_has_it(members):
        for key, value in members.items():
            if key in BYTES:
                assert re.fullmatch(f"[0-9a-f]{{{BYTES[key]}}}", value), f"{key} is {value}"
                members[key] = base64.b64encode(bytes.fromhex(value)).decode()
            assert key not in NUMBERS_AS_TEXT or isinstance(value, str), f"{key} is {value!r}"
        return members

    message = json_format.ParseDict(json.loads(body, object_hook=as_protobuf_has_it), ExportTraceServiceRequest())
    for of_resource in message.resource_spans:
        resource = values(of_resource.resource.attributes)
        assert resource["service.name"] == "penstock" and resource["service.version"] and resource["service.instance.id"]
        for of_scope in of_resource.scope_spans:
            for span in of_scope.spans:
                failed = span.status.code == span.status.STATUS_CODE_ERROR
                yield Span(span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex(), span.name,
                           span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(), span.start_time_unix_nano,
                           span.end_time_unix_nano, values(span.attributes), span.status.message if failed else None)


def values(attributes):
    found = {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}
    assert len(found) == len(attributes), "an attribute stands twice"
    return found


class Collector(Receiver):
    """Use it as a context manager. It keeps `spans` of what it answers with `status` 200."""

    def __init__(self, **options):
        super().__init__(answer=self._take, **options)
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.spans = []
        self.faults = []

    def _take(self, handler):
        path, headers, body = self.requests[-1]
        if self.status == 200:
            try:
                assert (path, headers["Content-Type"]) == ("/v1/traces", "application/json")
                self.spans += decoded(body)
            except Exception as fault:  # the test tells of it
                self.faults.append(repr(fault))
        self.say_status(handler)

    def named(self, name):
        return [span for span in self.spans if span.name == name]

    def wait_for(self, name, count=1):
        """The spans of that name, once there are so many."""
        wait_until(lambda: self.faults or len(self.named(name)) >= count, f"there are {count} spans {name}")
        assert not self.faults
        return self.named(name)
