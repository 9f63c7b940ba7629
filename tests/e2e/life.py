"""A small life of a server, to be cut short anywhere and gone on with: files, uploads and batches, and what must be true of
them whatever happened meanwhile."""

import http.client
import json
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from fake_engine import MODEL, FakeEngine
from penstock import FINAL, Server, jsonl, line, wait_until

REFUSED = "line 3"
HELD = "held"


def lines(*texts):
    return [line(text, {"model": MODEL, "messages": [{"role": "user", "content": text}]}) for text in texts]


# By the name of the file.
TEXTS = {
    "input.jsonl": [f"line {n}" for n in range(6)],
    "faulty.jsonl": ["faulty"],
    "parts.jsonl": [f"{HELD} {n}" for n in range(4)],
}
INPUTS = {name: jsonl(lines(*texts)) for name, texts in TEXTS.items()}
INPUTS["faulty.jsonl"] += b"{}\n"
CUT_AT = len(INPUTS["parts.jsonl"]) // 2  # where it is cut into its parts
SLOTS = 2

AT_ONCE = 3  # lives that go on side by side
SHOWN_MAX = 5


class Died(Exception):
    """The server went away before it had answered."""


class Engine(FakeEngine):
    """Answers at once, and the lines that are to be cancelled only when they have been. One line it refuses."""

    def __init__(self):
        super().__init__(reply=self.reply)
        self.refused.add(REFUSED)
        self.cancelled = threading.Event()

    def reply(self, body):
        if body["messages"][-1]["content"].startswith(HELD):
            self.cancelled.wait(20)
        return self._greet(body)


class Life:
    """What a client did and was told. `done` has the answers of the steps that were confirmed; a step that is in `begun`
    alone may have been taken or not."""

    def __init__(self, folder, engine, done=()):
        self.server = Server(folder, "--engine", engine.url, "--slots", str(SLOTS), models=())
        self.engine = engine
        self.done = dict(done)
        self.begun = set()
        self.answers = 0  # of any kind
        self.confirmed_at = {}  # of a step: how many answers there were then

    def start(self, env):
        """Starts the server with that in its environment, and says nothing to it yet."""
        clean = self.server.env
        self.server.env = clean | env
        self.server.launch()
        self.server.env = clean
        while not self.is_listening():
            if self.server.process.poll() is not None:
                raise Died
            time.sleep(0.005)

    def stop(self):
        """Stops the server as an operator does."""
        self.server.process.terminate()
        code = self.server.process.wait(20)
        if code == -signal.SIGKILL:
            raise Died
        assert code == 0

    def close(self):
        """Ends it all."""
        self.server.kill()
        self.server.stop()

    def is_listening(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.server.port)) == 0

    def use(self, engine):
        """From its next start on the server sends to that engine."""
        command = self.server.command
        command[command.index("--engine") + 1] = engine.url
        if self.engine.cancelled.is_set():
            engine.cancelled.set()
        self.engine = engine

    # --- what a client says

    def call(self, method, path, content=None, headers=()):
        """The status and the content of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=30)
        with closing(connection):
            try:
                connection.request(method, f"/v1/{path}", content, {"Connection": "close", **dict(headers)})
                answer = connection.getresponse()
                content = answer.read()
            except (OSError, http.client.HTTPException) as error:
                raise Died from error
        self.answers += 1
        return answer.status, content

    def get(self, path):
        status, content = self.call("GET", path)
        assert status == 200, f"GET {path}: {status} {content}"
        return json.loads(content)

    def post(self, path, body=None, **headers):
        status, content = self.call(
            "POST", path, json.dumps(body or {}).encode(), {"Content-Type": "application/json"} | headers
        )
        assert status == 200, f"POST {path}: {status} {content}"
        return json.loads(content)

    def send_form(self, path, field, filename, content, **fields):
        form = [f'--x\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n' for key, value in fields.items()]
        form.append(f'--x\r\nContent-Disposition: form-data; name="{field}"; filename="{filename}"\r\n\r\n')
        body = "".join(form).encode() + content + b"\r\n--x--\r\n"
        status, answer = self.call("POST", path, body, {"Content-Type": "multipart/form-data; boundary=x"})
        assert status == 200, f"POST {path}: {status} {answer}"
        return json.loads(answer)

    # --- the steps

    def step(self, name, function, *arguments):
        """Takes the step unless it has been confirmed."""
        if name not in self.done:
            again = name in self.begun
            self.begun.add(name)
            self.done[name] = function(*arguments, **({"again": True} if again else {}))
            self.confirmed_at[name] = self.answers
        return self.done[name]

    def upload(self, name, again=False):
        return self.send_form("files", "file", name, INPUTS[name], purpose="batch")

    def create(self, file, again=False):
        body = {"input_file_id": file["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        return self.post("batches", body, **{"Idempotency-Key": file["id"]})

    def create_upload(self, again=False):
        body = {"filename": "parts.jsonl", "purpose": "batch", "mime_type": "application/jsonl"}
        return self.post("uploads", body | {"bytes": len(INPUTS["parts.jsonl"])})

    def send_part(self, upload, content, again=False):
        return self.send_form(f"uploads/{upload['id']}/parts", "data", "part", content)

    def complete(self, upload, parts, again=False):
        if again and (made := [one for one in self.files() if one["filename"] == "parts.jsonl"]):
            return made[0]
        return self.post(f"uploads/{upload['id']}/complete", {"part_ids": [part["id"] for part in parts]})["file"]

    def end(self, batch, again=False):
        def ended():
            now = self.get(f"batches/{batch['id']}")
            return now if now["status"] in FINAL else None

        return wait_until(ended, f"{batch['id']} has ended", 30)

    def cancel(self, batch, again=False):
        def are_held():
            if self.server.process.poll() is not None:
                raise Died
            return sum(self.engine.asked[text] for text in TEXTS["parts.jsonl"]) >= SLOTS

        if not again:
            wait_until(are_held, "lines are held", 20)
        status, content = self.call("POST", f"batches/{batch['id']}/cancel")
        assert status == 200, f"cancel: {status} {content}"
        self.engine.cancelled.set()
        return True

    def delete(self, file, again=False):
        status, content = self.call("DELETE", f"files/{file['id']}")
        assert status == 200 or again and status == 404, f"delete: {status} {content}"
        return True

    def live(self):
        """Takes all steps that are left, to the end."""
        step = self.step
        file = step("file", self.upload, "input.jsonl")
        batch = step("batch", self.create, file)
        faulty = step("faulty batch", self.create, step("faulty file", self.upload, "faulty.jsonl"))
        upload = step("upload", self.create_upload)
        content = INPUTS["parts.jsonl"]
        parts = [step(f"part {n}", self.send_part, upload, part) for n, part in enumerate((content[:CUT_AT], content[CUT_AT:]))]
        held = step("held batch", self.create, step("joined file", self.complete, upload, parts))
        step("cancelled", self.cancel, held)
        step("ended", self.end, batch)
        step("faulty end", self.end, faulty)
        step("held end", self.end, held)
        step("deleted", self.delete, file)

    # --- what must be true

    def files(self):
        return self.get("files?limit=100")["data"]

    def lost(self):
        """What was confirmed and is not there as it was said, in words."""
        listed = {one["id"]: one for one in self.files()}
        for name in ("file", "faulty file", "joined file"):
            file = self.done.get(name)
            if not file or name == "file" and "deleted" in self.begun:
                continue
            if listed.get(file["id"]) != file:
                yield f"{name} is {listed.get(file['id'])} and was {file}"
            elif (content := self.call("GET", f"files/{file['id']}/content")[1]) != INPUTS[file["filename"]]:
                yield f"{name} has other content: {content}"
        for file in listed.values():
            wanted = INPUTS.get(file["filename"])
            if wanted is not None and self.call("GET", f"files/{file['id']}/content")[1] != wanted:
                yield f"a file that was not confirmed is not whole: {file}"
        if "deleted" in self.done and self.call("GET", f"files/{self.done['file']['id']}")[0] != 404:
            yield "the file was deleted, and is there"
        for name in ("batch", "faulty batch", "held batch"):
            if batch := self.done.get(name):
                status, content = self.call("GET", f"batches/{batch['id']}")
                if status != 200 or json.loads(content)["input_file_id"] != batch["input_file_id"]:
                    yield f"{name}: {status} {content}"
        if "cancelled" in self.done:
            now = self.get(f"batches/{self.done['held batch']['id']}")["status"]
            if now not in ("cancelling", "cancelled"):
                yield f"the batch was cancelled, and is {now}"
        for name in ("ended", "faulty end", "held end"):
            if (seen := self.done.get(name)) and (now := self.get(f"batches/{seen['id']}")) != seen:
                yield f"{name}: the batch is {now} and was {seen}"

    def wrong(self):
        """What is not as it must be at the end of a life."""
        ends = {name: self.done[name] for name in ("ended", "faulty end", "held end")}
        counts = {name: list(batch["request_counts"].values()) for name, batch in ends.items()}
        if counts["ended"] != [6, 5, 1] or counts["faulty end"] != [0, 0, 0] or counts["held end"][0] != 4:
            yield f"the counts are {counts}"
        if (statuses := [batch["status"] for batch in ends.values()]) != ["completed", "failed", "cancelled"]:
            yield f"the batches are {statuses}"
        if [one["line"] for one in ends["faulty end"]["errors"]["data"]] != [2]:
            yield f"other errors: {ends['faulty end']['errors']}"
        said = self.texts(ends["ended"]["output_file_id"])
        if said != {f"line {n}": f"You said: line {n}" for n in range(6) if n != 3}:
            yield f"the output file says {said}"
        if list(self.texts(ends["ended"]["error_file_id"])) != [REFUSED]:
            yield "the error file has other lines"
        for name, batch in ends.items():
            outputs = [one for one in self.files() if one["filename"].startswith(batch["id"])]
            if sorted(one["id"] for one in outputs) != sorted(filter(None, (batch["output_file_id"], batch["error_file_id"]))):
                yield f"{name}: its files are {outputs}"

    def texts(self, file_id):
        """What the lines of an output file say, by custom_id."""
        texts = {}
        for text in self.call("GET", f"files/{file_id}/content")[1].splitlines():
            one = json.loads(text)
            choices = one["response"]["body"].get("choices")
            texts[one["custom_id"]] = choices and choices[0]["message"]["content"]
        return texts


def told(faults):
    """All of them; an exception while they were looked for is one too."""
    found = []
    try:
        found.extend(faults)
    except Exception as error:
        found.append(f"{type(error).__name__}: {error}")
    return found


def live_each(live, moments):
    """What `live` makes of each moment, some side by side, until enough have gone wrong to tell of."""
    wrong = []

    def unless_enough(moment):
        life = live(moment) if len(wrong) < SHOWN_MAX else None
        if life and life.faults:
            wrong.append(life)
        return life

    with ThreadPoolExecutor(AT_ONCE) as pool:
        lives = [life for life in pool.map(unless_enough, moments) if life]
    return lives


def assert_right(lives):
    assert lives, "there was no such life"
    wrong = [life for life in lives if life.faults]
    assert not wrong, f"{len(wrong)} of {len(lives)}:\n" + "\n".join(map(str, wrong[:SHOWN_MAX]))
