"""What happens when the machine runs out of something, breaks, or stops the server. A test is named after its row of the
fault table: each fault has its one outcome."""

import json
import os
import resource
import shutil
import signal
import subprocess
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx2
import openai
import pytest

import fake_engine
from fake_engine import FakeEngine
from penstock import (
    Connection,
    blobs,
    clock_set,
    create_batch,
    finished,
    jsonl,
    line,
    needs_faketime,
    refused,
    upload,
    wait_until,
)

pytestmark = pytest.mark.local

needs_strace = pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")


@pytest.fixture
def new_engine():
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(FakeEngine(**options))


def lines(count, name="line"):
    return [line(f"{name} {n}", {"model": fake_engine.MODEL}) for n in range(count)]


def health(server):
    answer = httpx2.get(f"{server.url}/healthz")
    return answer.status_code, answer.json()


def draining(new_server, engine):
    """A server that was told to end while a line is with its engine, and a second one waits; and its batch."""
    server = new_server("--engine", engine.url, "--slots", "1", models=())
    batch = create_batch(server.client(), lines(2))
    wait_until(lambda: engine.asked, "a line is with the engine")
    server.process.send_signal(signal.SIGTERM)
    wait_until(lambda: health(server) == (503, {"status": "draining"}), "the server drains")
    return server, batch


def test_fault_10_a_draining_server_takes_nothing_new_and_answers_the_rest(new_server, new_engine):
    engine = new_engine(answers=0)
    server, batch = draining(new_server, engine)
    client = server.client()
    other = {"input_file_id": batch.input_file_id, "endpoint": batch.endpoint, "completion_window": "24h"}
    parts = {"filename": "a.txt", "purpose": "user_data", "bytes": 1, "mime_type": "text/plain"}
    for call in (
        lambda: client.files.create(file=("a.txt", b"x"), purpose="user_data"),
        lambda: client.uploads.create(**parts),
        lambda: client.uploads.parts.create("upload_unknown", data=b"x"),
        lambda: client.uploads.complete("upload_unknown", part_ids=["part_unknown"]),
        lambda: client.batches.create(**other),
        lambda: client.post(f"/batches/{batch.id}/retry", cast_to=object),
    ):
        failure = refused(call, "about to end", 503)
        assert failure.code == "draining"
        assert 1 <= int(failure.response.headers["retry-after"]) <= 30
    assert client.batches.retrieve(batch.id).status == "in_progress"
    assert client.files.content(batch.input_file_id).content == jsonl(lines(2))
    assert client.batches.list().data[0].id == batch.id
    assert client.batches.cancel(batch.id).status == "cancelling"
    engine.release()
    assert server.process.wait(20) == 0


def test_fault_10_lines_under_way_are_saved_before_the_end_and_the_others_run_after_it(new_server, new_engine):
    engine = new_engine(answers=0)
    server, batch = draining(new_server, engine)
    engine.release()
    assert server.process.wait(20) == 0
    assert list(engine.asked.values()) == [1]
    server.start()
    batch = finished(server.client(), batch)
    assert (batch.status, batch.request_counts.completed) == ("completed", 2)
    assert list(engine.asked.values()) == [1, 1]


def test_fault_10_a_second_signal_ends_the_server_at_once(new_server, new_engine):
    engine = new_engine(answers=0)
    server, batch = draining(new_server, engine)
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(5) == 128 + signal.SIGTERM
    engine.release()
    server.start()
    assert finished(server.client(), batch).request_counts.completed == 2


@pytest.fixture
def mounted():
    """Holds what is to be unmounted when the servers have ended: name it before new_server."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def on_small_disk(mounted, new_server):
    """Makes servers whose data is on a disk of its own, of so many megabytes."""

    def make(megabytes, *arguments):
        server = new_server(*arguments, models=())
        server.kill()
        data = server.folder / "data"
        shutil.rmtree(data)
        data.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "none", data]
        done = subprocess.run(mount, capture_output=True, text=True)
        if done.returncode == 0:
            mounted.callback(subprocess.run, ["umount", "-l", data], check=True)
        server.start()
        if done.returncode:
            pytest.skip(f"no disk can be mounted here, which takes root: {done.stderr.strip()}")
        return server

    return make


def free(folder):
    status = os.statvfs(folder)
    return status.f_frsize * status.f_bavail


def fill(folder, left):
    """Takes the room on the folder's disk but for so many bytes, until it is removed."""
    ballast = folder / "ballast"
    with ballast.open("wb") as file:
        while (more := free(folder) - left) > 4096:
            file.write(b"x" * min(more, 1 << 20))
            file.flush()
    return ballast


def no_space(call):
    failure = refused(call, "disk is full", 507)
    assert failure.code == "insufficient_storage"
    assert failure.response.headers["x-should-retry"] == "false"


def is_unfinished(server):
    return server.place.unfinished()


def long_answer(body):
    """Of some 100 KB of digits."""
    return {"model": body["model"], "choices": [{"index": 0, "message": {"role": "assistant", "content": os.urandom(50_000).hex()}}]}


def test_fault_26_no_space_for_an_upload_is_507_and_leaves_nothing(on_small_disk):
    server = on_small_disk(16, "--no-worker", "--accept-when-offline")
    client = server.client()
    part = client.uploads.create(filename="a.txt", purpose="user_data", bytes=1, mime_type="text/plain")
    input_file = upload(client, lines(1))
    big = b"x" * (20 << 20)
    for call in (
        lambda: client.files.create(file=("big.txt", big), purpose="user_data"),
        lambda: client.files.create(file=("big.jsonl", b'{"custom_id": "' + big + b'"}'), purpose="batch"),
        lambda: client.uploads.parts.create(part.id, data=big),
    ):
        no_space(call)
        assert not is_unfinished(server)
        assert blobs(server) == sorted([input_file.id, f"plan-{input_file.id}"])
        wait_until(lambda: health(server) == (200, {"status": "ok"}), "the server has seen that there is room")
    client.files.create(file=("small.txt", b"x"), purpose="user_data")

    ballast = fill(server.folder / "data", left=0)
    no_space(lambda: client.uploads.cancel(part.id))  # only the database needs room for that
    for call in (
        lambda: client.files.create(file=("small.txt", b"x" * 100_000), purpose="user_data"),
        lambda: client.uploads.create(filename="a.txt", purpose="user_data", bytes=1, mime_type="text/plain"),
        lambda: client.batches.create(
            input_file_id=input_file.id,
            endpoint="/v1/chat/completions",
            completion_window="24h",
            metadata={f"{n}": "x" * 500 for n in range(16)},
        ),
    ):
        no_space(call)
    assert client.batches.list().data == []
    ballast.unlink()
    assert client.uploads.cancel(part.id).status == "cancelled"
    wait_until(lambda: health(server) == (200, {"status": "ok"}), "the server has seen that there is room")
    client.files.create(file=("small.txt", b"x"), purpose="user_data")


def test_fault_27_lines_wait_while_the_disk_is_full_and_go_on_by_themselves(on_small_disk, new_engine):
    engine = new_engine(answers=2)
    server = on_small_disk(64, "--engine", engine.url, "--slots", "1")
    client = server.client()
    spare = client.files.create(file=("spare.txt", b"x"), purpose="user_data")
    waiting = create_batch(client, lines(20))
    queued = create_batch(client, lines(2, "queued"))
    wait_until(lambda: len(engine.bodies) == 3, "the engine holds a line back")

    ballast = fill(server.folder / "data", left=500_000)  # of the 640 KB that are kept
    degraded = lambda: health(server)[1]["status"] == "degraded"
    wait_until(degraded, "the server has seen that its disk is full")
    assert health(server)[0] == 200 and "disk is full" in health(server)[1]["reasons"][0]
    engine.release()
    wait_until(lambda: client.batches.retrieve(waiting.id).request_counts.completed == 3, "the line under way is saved")
    no_space(lambda: upload(client, lines(1)))
    assert client.files.content(waiting.input_file_id).content == jsonl(lines(20))
    assert finished(client, client.batches.cancel(queued.id), 10).status == "cancelled"
    assert client.files.delete(spare.id).deleted
    assert client.batches.retrieve(waiting.id).status == "in_progress"
    assert len(engine.bodies) == 3

    ballast.unlink()
    batch = finished(client, waiting, 30)
    assert (batch.status, batch.request_counts.completed) == ("completed", 20)
    assert max(engine.asked.values()) == 1
    told = [one for one in server.log.read_text().splitlines() if "disk" in one and "HTTP" not in one]
    assert [" warn " in one for one in told if "POST" not in one] == [True, False]


def test_fault_27_answers_wait_for_room_in_the_database_and_none_is_lost(on_small_disk, new_engine):
    engine = new_engine(answers=0, reply=lambda body: (200, json.dumps(long_answer(body)).encode()))
    server = on_small_disk(64, "--engine", engine.url, "--slots", "100")
    client = server.client()
    batch = create_batch(client, lines(100))
    wait_until(lambda: len(engine.bodies) == 100, "all lines are with the engine")
    ballast = fill(server.folder / "data", left=0)
    engine.release()
    wait_until(lambda: "saving results: " in server.log.read_text(), "answers have found no room")
    assert client.batches.retrieve(batch.id).request_counts.completed < 100
    ballast.unlink()
    assert finished(client, batch, 60).request_counts.completed == 100
    assert len(engine.bodies) == 100


@contextmanager
def failing(server, calls, path=None):
    """Every one of these system calls of the server fails with EIO, of any file or only of this one. Gives what strace
    has seen of them so far."""
    log = server.folder / "strace"
    only = ["-P", server.folder / "data" / path] if path else []
    inject = ["-e", f"trace={calls}", "-e", f"inject={calls}:error=EIO", *only]
    strace = ["strace", "-f", "-qq", "-o", log, "-p", str(server.process.pid), *inject]
    tracer = subprocess.Popen(strace, stderr=subprocess.PIPE, text=True)
    try:
        threads = [task / "status" for task in Path(f"/proc/{server.process.pid}/task").iterdir()]
        traced = lambda: all("TracerPid:\t0\n" not in status.read_text() for status in threads)
        wait_until(lambda: tracer.poll() is not None or traced(), "strace watches the server")
        if tracer.poll() is not None:
            pytest.skip(f"strace cannot trace here: {tracer.stderr.read()}")
        yield lambda: [one for one in log.read_text().splitlines() if "INJECTED" in one]
    finally:
        tracer.terminate()
        tracer.communicate()


@needs_strace
@pytest.mark.parametrize(
    ("calls", "path"),
    [("fdatasync", None), ("fsync", "blobs"), ("fdatasync", "penstock.db-wal")],
    ids=["bytes of a file", "name of a file", "log of the database"],
)
def test_fault_28_what_cannot_be_made_durable_is_not_acknowledged_and_ends_the_server(new_server, calls, path):
    server = new_server("--no-worker", models=())
    client = server.client()
    kept = client.files.create(file=("kept.txt", b"kept"), purpose="user_data")
    with failing(server, calls, path) as seen:
        with pytest.raises(openai.APIConnectionError):
            client.files.create(file=("new.txt", b"new"), purpose="user_data")
        assert server.process.wait(20) == 74
        assert len(seen()) == 1  # it was not tried again
    told = [one for one in server.log.read_text().splitlines() if " error " in one]
    assert len(told) == 1 and "storage failed" in told[0]
    server.start()
    assert client.files.content(kept.id).content == b"kept"
    client.files.create(file=("new.txt", b"new"), purpose="user_data")


@needs_strace
def test_fault_28_a_failed_checkpoint_ends_the_server_and_loses_no_answer(new_server, new_engine):
    """The database's own file is synced only when its log has grown: here by answers that do not compress."""
    engine = new_engine(answers=0, reply=lambda body: (200, json.dumps(long_answer(body)).encode()))
    server = new_server("--engine", engine.url, models=())
    batch = create_batch(server.client(), lines(200))
    wait_until(lambda: engine.asked, "lines are with the engine")
    with failing(server, "fdatasync", "penstock.db") as seen:
        engine.release()
        assert server.process.wait(20) == 74
        assert len(seen()) == 1
    server.start()
    client = server.client()
    batch = finished(client, batch)
    assert batch.request_counts.completed == 200
    assert max(engine.asked.values()) <= 2


@needs_faketime
def test_fault_34_a_clock_that_is_set_by_a_day_moves_nothing_that_is_here(new_server, new_engine, tmp_path):
    ahead = tmp_path / "ahead"
    ahead.write_text("+0s")
    env = clock_set(FAKETIME_TIMESTAMP_FILE=str(ahead), FAKETIME_NO_CACHE="1")
    engine = new_engine(answers=1)
    server = new_server("--engine", engine.url, "--slots", "1", env=env, models=())
    client = server.client()
    expires = {"anchor": "created_at", "seconds": 3600}
    batch = create_batch(client, lines(3))
    wait_until(lambda: len(engine.bodies) == 2, "the engine holds a line back")
    pending = {"filename": "a.txt", "purpose": "user_data", "bytes": 1, "mime_type": "text/plain"}
    part_of = client.uploads.create(**pending)
    keyed = {"Idempotency-Key": "one"}
    first = client.uploads.create(**pending, extra_headers=keyed)

    for hours in (25, -25):
        ahead.write_text(f"{hours * 3600:+d}s")
        file = client.files.create(file=("a.txt", b"x"), purpose="user_data", expires_after=expires)
        assert abs(file.created_at - time.time()) < 60
        assert client.files.retrieve(file.id) == file
        assert client.batches.retrieve(batch.id).status == "in_progress"
        assert client.uploads.parts.create(part_of.id, data=b"x").upload_id == part_of.id
        assert client.uploads.create(**pending, extra_headers=keyed) == first
        assert finished(client, client.batches.cancel(create_batch(client, lines(1)).id)).status == "cancelled"
        assert [one for one in client.files.list() if one.id == file.id]

    engine.release()
    batch = finished(client, batch)
    assert (batch.status, batch.request_counts.completed) == ("completed", 3)
    assert max(engine.asked.values()) == 1  # the lease of its line was not lost
    told = [one for one in server.log.read_text().splitlines() if "clock was set" in one]
    assert len(told) == 1 and " warn " in told[0]


def seconds_of_cpu(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def say(connection, method, path, body=b"", kind="application/json"):
    """A request on a connection that stays open, and the JSON of its answer."""
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    connection.send(head.encode() + body)
    status, _, content = connection.answer()
    assert status == 200, content
    return json.loads(content)


FORM = "multipart/form-data; boundary=x"


def form(name, content):
    return (
        f'--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nuser_data\r\n--x\r\nContent-Disposition: form-data;'
        f' name="file"; filename="{name}"\r\n\r\n{content}\r\n--x--\r\n'
    ).encode()


def test_fault_35_at_the_limit_of_descriptors_clients_wait_and_work_goes_on(new_server, new_engine):
    engine = new_engine(answers=0)
    server = new_server("--engine", engine.url, "--slots", "10", models=())
    server.kill()
    server.command = ["prlimit", "--nofile=90:90", "--", *server.command]
    server.start()
    with server.client() as client:
        batch = create_batch(client, lines(20))
    with ExitStack() as stack:
        connect = lambda: stack.enter_context(Connection(server))
        first = connect()
        say(first, "GET", "/healthz")
        crowd = [connect() for _ in range(100)]
        crowd[-1].send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        wait_until(lambda: "connections are in use" in server.log.read_text(), "the server is full")
        before = seconds_of_cpu(server.process.pid)
        time.sleep(1)
        used = seconds_of_cpu(server.process.pid) - before
        print(f"seconds of CPU in a second at the limit: {used}")
        assert used < 0.5  # it does not try again and again

        file = say(first, "POST", "/v1/files", form("a.txt", "x" * 100_000), FORM)
        assert say(first, "GET", f"/v1/files/{file['id']}")["bytes"] == 100_000
        engine.release()
        wait_until(lambda: say(first, "GET", f"/v1/batches/{batch.id}")["status"] == "completed", "the batch has ended")
        assert len(os.listdir(f"/proc/{server.process.pid}/fd")) < 90
        for connection in crowd[:-1]:
            connection.__exit__()
        assert crowd[-1].answer()[0] == 200
    assert server.log.read_text().count("connections are in use") == 1
    assert "cannot accept" not in server.log.read_text()


def latencies(server, count=100):
    """Of so many requests one after another, in milliseconds, sorted."""
    took = []
    with httpx2.Client() as client:
        for _ in range(count):
            start = time.perf_counter()
            assert client.get(f"{server.url}/v1/files?limit=1").status_code == 200
            took.append(1000 * (time.perf_counter() - start))
    return sorted(took)


def megabytes_of_memory(pid):
    return int(next(one for one in Path(f"/proc/{pid}/status").read_text().splitlines() if "VmRSS" in one).split()[1]) / 1024


def test_fault_36_slow_and_idle_clients_take_little_memory_and_hold_nobody_up(new_server):
    """Their deadlines are in src/net/http_server_test.cpp, where the clock is moved by hand."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit[1] < 3_000:
        pytest.skip("this process may not open 3,000 files")
    server = new_server("--no-worker", models=())
    big = server.client().files.create(file=("big.txt", b"x" * (32 << 20)), purpose="user_data")
    alone = latencies(server)
    memory = megabytes_of_memory(server.process.pid)
    dripping = (
        b"GET /v1/files HTTP/1.1\r\nHost: localhost\r\nX-Long: ",
        b"POST /v1/batches HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{",
        b"POST /v1/files HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\nContent-Length: 9999\r\n\r\n--x\r\n",
    )
    download = f"GET /v1/files/{big.id}/content HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit[1], limit[1]))
    try:
        with ExitStack() as stack:
            connect = lambda: stack.enter_context(Connection(server))
            for _ in range(2_000):
                connect()
            slow = [connect() for _ in range(150)]
            for n, connection in enumerate(slow):
                connection.send(dripping[n % 3])
            for _ in range(50):
                connect().send(download)
            with_others = latencies(server)
            for connection in slow:
                connection.send(b"x")
            grown = megabytes_of_memory(server.process.pid) - memory
            for name, took in (("alone", alone), ("with others", with_others)):
                print(f"latency {name}: median {took[50]:.2f} ms, 99 % {took[98]:.2f} ms")
            print(f"memory for 2,200 connections: {grown:.0f} MB")
            assert grown < 100  # the downloads alone are 1,600
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
