#!/usr/bin/env python3
"""Whether a database and its blobs hold what Penstock promises, after any run. It reads them and, of a server that runs,
the API, and changes nothing:

    audit.py --data DIR [--database URL] [--blobs DIR] [--url URL [--key KEY] | --crashed]

It prints a line for each fault and exits with 1 when there is one. On a server at work what is half done at the moment
can look like a fault: look again. Files that were deleted are not missed; deliveries that were are.
"""

import argparse
import json
import re
import struct
import sys
import time
import urllib.request
from collections import Counter
from pathlib import Path

from place import IDENTITY, Database

ENDS = ("completed", "failed", "expired", "cancelled")
TOKENS = ("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens")
LINE_KEYS = {"id", "custom_id", "response", "error"}
LINE_ID = re.compile("batch_req_[0-9a-f]{40}")  # the batch, and the request's index in 8 digits
FAILED_BIT = 0x8000_0000  # see src/store/store_spans.cpp
PLAN_ENTRY_SIZE = 16
LATE_MAX_MS = 60_000
DEFAULT_PROJECT = "proj_default"
SHOWN_MAX = 5  # of a kind, in one fault


def audit(database, blobs, url=None, crashed=False, littered=False, key=None):
    """The faults, in words. `database` is a path or a URL and `blobs` a folder. `url` is that of a server that runs on
    them; `crashed` says that the last one was killed, so that what it had under way still lies about; `littered` says
    that one was killed earlier, and what it left may be anybody's; `key` is one of the default project, where the server
    has any."""
    try:
        with Database(database) as db:
            db.freeze()
            return list(Audit(db, Path(blobs)).faults(url, crashed, crashed or littered, key))
    except Database.errors() as error:
        return [f"the database cannot be read: {error}"]


def some(things):
    things = sorted(map(str, things))
    return ", ".join(things[:SHOWN_MAX]) + (f" and {len(things) - SHOWN_MAX} more" if len(things) > SHOWN_MAX else "")


def refuse(constant):
    raise ValueError(f"{constant} is no JSON")


def parse(text):
    """The object that the bytes of a line are, or None."""
    try:
        value = json.loads(text.decode(), parse_constant=refuse)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def tokens_of(body):
    """What an answer says it used, as the server counts it."""
    usage = body.get("usage")
    if not isinstance(usage, dict):
        return [0] * len(TOKENS)

    def first(*paths):
        for path in paths:
            value = usage
            for key in path.split("/"):
                value = value.get(key) if isinstance(value, dict) else None
            if type(value) is int and 0 <= value < 1 << 63:
                return value
        return 0

    return [
        first("prompt_tokens", "input_tokens"),
        first("prompt_tokens_details/cached_tokens", "input_tokens_details/cached_tokens"),
        first("completion_tokens", "output_tokens"),
        first("completion_tokens_details/reasoning_tokens", "output_tokens_details/reasoning_tokens"),
    ]


class Audit:
    def __init__(self, db, blobs):
        self.db = db
        self.blobs = blobs
        self.files = {row["id"]: row for row in db.rows("SELECT * FROM files ORDER BY seq DESC")}
        self.deleted = {row["id"] for row in db.rows("SELECT id FROM deleted_files")}
        self.batches = {row["id"]: row for row in db.rows("SELECT * FROM batches ORDER BY seq DESC")}
        self.uploads = {row["id"]: row for row in db.rows("SELECT * FROM uploads")}
        self.parts = {row["id"]: row for row in db.rows("SELECT * FROM upload_parts")}
        self.deliveries = db.rows("SELECT * FROM deliveries ORDER BY seq")

    def faults(self, url, crashed, littered, key):
        yield from self.of_database()
        yield from self.of_blobs(littered)
        for batch in self.batches.values():
            for check in (self.of_state, self.of_spans, self.of_lines, self.of_deliveries):
                yield from (f"{batch['id']} ({batch['status']}): {fault}" for fault in check(batch))
        if not crashed:
            yield from self.of_leases(url)
        if url:
            yield from self.of_time()
            yield from self.of_api(url, key)

    def of_database(self):
        if not self.db.is_postgres:
            for row in self.db.rows("PRAGMA integrity_check"):
                if row["integrity_check"] != "ok":
                    yield f"integrity_check: {row['integrity_check']}"
            for row in self.db.rows("PRAGMA foreign_key_check"):
                yield f"a row of {row['table']} names a row of {row['parent']} that is not there"
        if both := self.deleted & set(self.files):
            yield f"files are there and deleted: {some(both)}"
        for upload in self.uploads.values():
            if (upload["status"] == "completed") != (upload["file_id"] is not None):
                yield f"{upload['id']} is {upload['status']} and has the file {upload['file_id']}"
            if upload["file_id"] and upload["file_id"] not in self.deleted | set(self.files):
                yield f"{upload['id']} names {upload['file_id']}, which is unknown"
        for part in self.parts.values():
            upload = self.uploads.get(part["upload_id"])
            if upload and upload["status"] != "pending":
                yield f"{part['id']} is left of {part['upload_id']}, which has ended"
        made = self.deleted | set(self.files) | set(self.uploads) | set(self.batches)
        for row in self.db.rows("SELECT key, object_id FROM idempotency_keys"):
            if row["object_id"] not in made:
                yield f"the idempotency key {row['key']} names {row['object_id']}, which is unknown"

    def of_blobs(self, littered):
        """No blob without its row and no row without its blob, and all of their sizes."""
        rows = self.files | self.parts
        sizes = {one.name: one.stat().st_size for one in self.blobs.glob("*") if one.is_file() and one.name != IDENTITY}
        plans = {f"plan-{name}": row for name, row in self.files.items()}
        wanted = {f"plan-{name}" for name, row in self.files.items() if row["lines"] is not None}
        to_come = set()  # files of batches that were stopped as they ended, and will be written again
        for batch in self.batches.values():
            if batch["status"] in ("in_progress", "finalizing"):
                wanted.add(f"plan-{batch['input_file_id']}")
            if batch["status"] not in ENDS:
                to_come |= {f"file-{batch['id'].partition('_')[2]}-{kind}" for kind in ("output", "error")}
        if missing := (set(rows) | wanted) - set(sizes):
            yield f"rows without their blob: {some(missing)}"
        if not littered:
            if unknown := set(sizes) - set(rows) - set(plans) - to_come:
                yield f"blobs without a row: {some(unknown)}"
            if half := [one.name for one in (self.blobs / "tmp").glob("*")]:
                yield f"half-written blobs: {some(half)}"
        for name, size in sizes.items():
            if name in rows and size != rows[name]["bytes"]:
                yield f"{name} has {size} bytes and {rows[name]['bytes']} in its row"
            lines = plans[name]["lines"] if name in plans else None
            if lines is not None and size != lines * PLAN_ENTRY_SIZE:
                yield f"{name} has {size} bytes for {lines} lines"

    def of_state(self, batch):
        status = batch["status"]
        ended = [end for end in ENDS if batch[f"{end}_ms"] is not None]
        if ended != [end for end in ENDS if end == status]:
            yield f"it has the times of {ended}"
        if batch["retry_of"] and batch["retry_of"] not in self.batches:
            yield f"it retries {batch['retry_of']}, which is unknown"
        for key in ("input_file_id", "output_file_id", "error_file_id"):
            if batch[key] is None:
                continue
            if batch[key] not in self.deleted and batch[key] not in self.files:
                yield f"{key} is {batch[key]}, which is unknown"
            elif key != "input_file_id" and (status not in ENDS or status == "failed"):
                yield f"{key} is {batch[key]} already"
            elif batch[key] in self.files and self.files[batch[key]]["bytes"] == 0:
                yield f"{key} names an empty file"
        total, done, failed = batch["total"], batch["completed"], batch["failed"]
        if status in ENDS:
            if done + failed != total or status == "failed" and total != 0:
                yield f"of {total} lines {done} are completed and {failed} failed"
        elif done or failed or any(batch[one] for one in TOKENS):
            yield f"its counts are frozen, at {done} completed and {failed} failed"
        if (status == "failed") != (batch["error_total"] > 0):
            yield f"it has {batch['error_total']} errors"

    def of_spans(self, batch):
        """The spans are all of the batch's lines, and their sums those of the result groups; no line is saved twice."""
        spans = self.db.rows("SELECT * FROM spans WHERE batch_seq = ? ORDER BY number", batch["seq"])
        if batch["status"] in ENDS and spans:
            yield f"{len(spans)} spans are left"
        if spans or batch["status"] in ("in_progress", "finalizing"):
            first = 0
            for span in spans:
                if span["first_entry"] != first:
                    yield f"span {span['number']} begins at {span['first_entry']}, and the one before ends at {first}"
                first = span["first_entry"] + span["entries"]
            if first != batch["total"]:
                yield f"its spans end at {first} of {batch['total']} lines"

        saved = {span["number"]: [0, 0] for span in spans}
        indices = Counter()
        for group in self.db.rows(
            "SELECT seq, span_number, entries, lines_size FROM result_groups WHERE batch_seq = ?", batch["seq"]
        ):
            size = 0
            counts = saved.setdefault(group["span_number"], [0, 0])
            for index, length in struct.iter_unpack("<II", group["entries"]):
                indices[index] += 1
                counts[length >= FAILED_BIT] += 1
                size += length & ~FAILED_BIT
            if size != group["lines_size"]:
                yield f"result group {group['seq']} says {size} and {group['lines_size']} bytes"
        for span in spans:
            if saved[span["number"]] != [span["completed"], span["failed"]]:
                yield (
                    f"span {span['number']} counts {span['completed']} completed and {span['failed']} failed lines,"
                    f" and its result groups {saved[span['number']]}"
                )
        if twice := [index for index, count in indices.items() if count > 1]:
            yield f"requests are in its result groups twice: {some(twice)}"
        if beyond := [index for index in indices if index >= batch["total"]]:
            yield f"its result groups have requests beyond {batch['total']}: {some(beyond)}"

    def of_lines(self, batch):
        """Every request of an ended batch has its line, in one of its files, in order, and what they used adds up."""
        if batch["status"] not in ENDS or batch["status"] == "failed":
            return
        names = self.custom_ids(batch)
        if names is not None and batch["total"] not in (0, len(names)):
            yield f"it has {batch['total']} lines and its input {len(names)}"
        found, whole = [], True
        for kind, count in (("output", batch["completed"]), ("error", batch["failed"])):
            name = batch[f"{kind}_file_id"]
            content = self.content(name) if name else b""
            if content is None:
                whole = False
                continue
            lines = content.split(b"\n")
            if lines.pop():
                yield f"{name} does not end with a newline"
            if len(lines) != count:
                yield f"{name or f'no {kind} file'} has {len(lines)} lines and the counts say {count}"
            before, used = -1, [0] * len(TOKENS)
            for number, text in enumerate(lines, 1):
                line = parse(text)
                if line is None or set(line) != LINE_KEYS or not LINE_ID.fullmatch(line["id"]):
                    yield f"{name}:{number} is no output line"
                    continue
                index = int(line["id"][-8:], 16)
                found.append(index)
                if index <= before:
                    yield f"{name}:{number} has request {index} behind {before}"
                before = index
                if names is not None and line["custom_id"] != (names[index] if index < len(names) else None):
                    yield f"{name}:{number} has custom_id {line['custom_id']!r}, which request {index} has not"
                response = line["response"] or {}
                good = line["error"] is None and response.get("status_code") == 200
                if good != (kind == "output"):
                    yield f"{name}:{number} is {'a good' if good else 'no good'} answer"
                if good:
                    used = [a + b for a, b in zip(used, tokens_of(response["body"]))]
            said = [batch[one] for one in TOKENS]
            # With dedupe, what lines share is counted once.
            if kind == "output" and used != said and not (batch["dedupe"] and all(map(int.__ge__, used, said))):
                yield f"its lines used {used} tokens and it says {said}"
        counts = Counter(found)
        if twice := [index for index, count in counts.items() if count > 1]:
            yield f"requests have more than one line: {some(twice)}"
        if whole and (lost := set(range(batch["total"])) - set(counts)):
            yield f"requests have no line: {some(names[index] if names else index for index in lost)}"

    def of_deliveries(self, batch):
        """Whom it named for its end has one delivery of that; before it nobody has any."""
        found = [row for row in self.deliveries if row["batch_id"] == batch["id"]]
        if batch["status"] not in ENDS:
            if found:
                yield f"{len(found)} are to be told of its end already"
            return
        for row in found:
            if (row["ended_ms"] is None) != (row["status"] == "pending"):
                yield f"{row['id']} is {row['status']} and ended at {row['ended_ms']}"
            if row["event"] != f"batch.{batch['status']}":
                yield f"{row['id']} tells of {row['event']}"
        told = Counter(row["receiver"] for row in found)
        if twice := [receiver for receiver, count in told.items() if count > 1]:
            yield f"these are told twice: {some(twice)}"
        webhook = json.loads(batch["webhook"] or "{}")
        urls = {webhook["url"]} if f"batch.{batch['status']}" in webhook.get("events", ()) else set()
        urls |= {json.loads(batch["metadata"] or "{}").get("webhook_url") or ""} - {""}
        if untold := urls - {json.loads(receiver).get("url") for receiver in told}:
            yield f"these are not told: {some(untold)}"
        sinks = json.loads(batch["sinks"] or "[]") if batch["output_file_id"] or batch["error_file_id"] else []
        if missed := [sink for sink in sinks if sink not in map(json.loads, told)]:
            yield f"these are not brought its results: {some(missed)}"

    def content(self, name):
        """The bytes of a file; None when it was deleted, or its blob is gone, which is a fault of its own."""
        path = self.blobs / name
        return path.read_bytes() if name in self.files and path.exists() else None

    def custom_ids(self, batch):
        """Of the requests of its input, by their index; None when the file was deleted."""
        content = self.content(batch["input_file_id"])
        if content is None:
            return None
        lines = (parse(text) for text in content.removeprefix(b"\xef\xbb\xbf").split(b"\n") if text.strip(b" \t\r"))
        return [line and line.get("custom_id") for line in lines]

    def of_leases(self, url):
        """Who holds spans is alive, and so is who sees to a batch; without a running process nobody is."""
        alive = {row["id"] for row in self.db.rows("SELECT id FROM processes WHERE alive = 1")}
        if alive and not url:
            yield f"nothing runs, and these say that they live: {some(alive)}"
        for row in self.deliveries:
            if row["owner"] and row["owner"] not in alive:
                yield f"{row['owner']} holds {row['id']} and is dead"
        for row in self.db.rows(
            "SELECT owner, COUNT(*) AS spans FROM spans WHERE entries > completed + failed AND owner IS NOT NULL GROUP BY owner"
        ):
            if row["owner"] not in alive:
                yield f"{row['owner']} holds {row['spans']} spans and is dead"
        for batch in self.batches.values() if url else ():
            if batch["status"] not in ENDS and batch["driver"] not in alive:
                yield f"{batch['id']} ({batch['status']}): {batch['driver']} sees to it and is dead"

    def of_time(self):
        for batch in self.batches.values():
            late = time.time() * 1000 - batch["expires_ms"]
            if batch["status"] not in ENDS and late > LATE_MAX_MS:
                yield f"{batch['id']} ({batch['status']}): it should have ended {late / 1000:.0f} s ago"

    def of_api(self, url, key):
        """The lists of the API are the rows of the default project, and so is what they say."""
        now = time.time() * 1000
        late = lambda row: row["expires_ms"] and row["expires_ms"] <= now
        own = lambda rows: {name: row for name, row in rows.items() if row["project"] == DEFAULT_PROJECT}
        files = {name: row for name, row in own(self.files).items() if not late(row)}
        for kind, rows, expected in (("files", files, self.shown_file), ("batches", own(self.batches), self.shown_batch)):
            listed = list(everything(f"{url}/v1/{kind}", key))
            names = [one["id"] for one in listed]
            if names != list(rows):
                yield f"GET /v1/{kind} lists {len(names)}, and there are {len(rows)}: {some(set(names) ^ set(rows))}"
            for one in listed:
                for name, value in expected(rows[one["id"]]).items() if one["id"] in rows else ():
                    if one[name] != value:
                        yield f"{one['id']}: {name} is {one[name]} in the API and {value} in the database"

    @staticmethod
    def shown_file(row):
        return {key: row[key] for key in ("filename", "purpose", "bytes")} | times(row, "created", "expires")

    @staticmethod
    def shown_batch(row):
        """What moves no more."""
        shown = {key: row[key] for key in ("input_file_id", "endpoint", "retry_of")} | times(row, "created", "expires")
        shown["dedupe"] = bool(row["dedupe"])
        if row["status"] not in ENDS:
            return shown
        usage = {
            "input_tokens": row["input_tokens"],
            "input_tokens_details": {"cached_tokens": row["cached_tokens"]},
            "output_tokens": row["output_tokens"],
            "output_tokens_details": {"reasoning_tokens": row["reasoning_tokens"]},
            "total_tokens": row["input_tokens"] + row["output_tokens"],
        }
        counts = {key: row[key] for key in ("total", "completed", "failed")}
        shown |= {key: row[key] for key in ("status", "model", "output_file_id", "error_file_id")}
        shown |= times(row, "in_progress", "finalizing", "cancelling", *ENDS)
        return shown | {"request_counts": counts, "usage": usage}


def times(row, *names):
    """As the API shows them, in seconds."""
    return {f"{name}_at": row[f"{name}_ms"] // 1000 if row[f"{name}_ms"] is not None else None for name in names}


def everything(url, key):
    """All objects of a list, over its pages."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    after = ""
    while True:
        with urllib.request.urlopen(urllib.request.Request(f"{url}?limit=100{after}", headers=headers), timeout=30) as answer:
            page = json.load(answer)
        yield from page["data"]
        if not page["has_more"]:
            return
        after = f"&after={page['last_id']}"


def main():
    parser = argparse.ArgumentParser(description="Checks that a database and its blobs hold what Penstock promises.")
    parser.add_argument("--data", default="penstock-data", metavar="DIR", help="of the server")
    parser.add_argument("--database", metavar="URL", help="postgres://…, when it is not in the folder")
    parser.add_argument("--blobs", metavar="DIR", help="when they are not in the folder")
    server = parser.add_mutually_exclusive_group()
    server.add_argument("--url", help="of the server that runs on the folder")
    server.add_argument("--crashed", action="store_true", help="the server was killed and not started again")
    parser.add_argument("--key", help="one of the default project, where the server has any")
    arguments = parser.parse_args()
    data = Path(arguments.data)
    database, blobs = arguments.database or data / "penstock.db", arguments.blobs or data / "blobs"
    faults = audit(database, blobs, arguments.url, arguments.crashed, key=arguments.key)
    print("\n".join(faults) or "no faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
