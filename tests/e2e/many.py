"""Servers without workers, and workers, that share a place: what the tests of many processes need."""

import threading
import time

import httpx2

from fake_engine import MODEL, FakeEngine
from penstock import Worker, line, output_lines, wait_until

TAKES_OVER_WITHIN = 15  # seconds, from the death of a process; its lease is a third of that
GOES_ON_WITHIN = 5 + 5  # seconds, from when the database is back; half of it for machines that are busy


def lines(count, name="line"):
    return [line(f"{name} {n}", {"model": MODEL}) for n in range(count)]


def said(n, name="line"):
    return f"Say hello to {name} {n}."


def named_engine(name, **options):
    """One whose answers tell whose they are."""

    def reply(body):
        status, content = FakeEngine._greet(body)
        return status, content.replace(b"You said", name.encode() + b" said")

    return FakeEngine(reply=reply, **options)


def slow_engine(seconds=0.03, **options):
    """One that gives the faults of a test time to meet it at work."""

    def reply(body):
        time.sleep(seconds)
        return FakeEngine._greet(body)

    return FakeEngine(reply=reply, **options)


class Deployment:
    """Processes that share a place. `through` says by which ports those that are made next reach it."""

    def __init__(self, new_server, place):
        self._new_server = new_server
        self.place = place

    def server(self, *arguments, **through):
        return self._new_server("--no-worker", *arguments, models=(), place=self.place.through(**through))

    def worker(self, engine, *arguments, slots=4, **through):
        settings = ("--engine", engine.url, "--slots", str(slots), *arguments)
        return self._new_server(*settings, models=(), kind=Worker, place=self.place.through(**through))


class Prober:
    """Asks servers all the time, and remembers answers that are neither good nor 503 with a time to come again."""

    def __init__(self, *servers, path="batches?limit=1"):
        self.wrong = []
        self.statuses = set()
        self._urls = [f"{server.url}/v1/{path}" for server in servers]
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(url,), daemon=True) for url in self._urls]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._end.set()
        for thread in self._threads:
            thread.join(60)

    def _ask(self, url):
        with httpx2.Client(timeout=60) as client:
            while not self._end.wait(0.02):
                try:
                    answer = client.get(url)
                except httpx2.TransportError as error:
                    self.wrong.append(repr(error))
                    continue
                self.statuses.add(answer.status_code)
                if answer.status_code != 200 and not is_told_to_come_again(answer):
                    self.wrong.append(f"{answer.status_code} {answer.headers} {answer.text}")


def is_told_to_come_again(answer):
    return answer.status_code == 503 and answer.headers.get("Retry-After", "").isdigit()


def completed(server, batch):
    """How many of its lines are, or None while the server cannot tell."""
    answer = httpx2.get(f"{server.url}/v1/batches/{batch.id}", timeout=60)
    return answer.json()["request_counts"]["completed"] if answer.status_code == 200 else None


def wait_for_progress(server, batch, total, seconds=60):
    """Until more of its lines are completed than when it first told, or all."""
    before = []

    def more():
        now = completed(server, batch)
        if now is not None:
            before.append(now)
        return before and (before[-1] > before[0] or before[-1] == total)

    wait_until(more, "more lines are completed", seconds)


def assert_answered_once(client, batch, total):
    """Every line of a completed batch has one answer; that its files agree with the database is for the audit."""
    assert (batch.status, batch.request_counts.completed) == ("completed", total)
    names = [one["custom_id"] for one in output_lines(client, batch)]
    assert names == [f"line {n}" for n in range(total)]
