"""A create that is sent again with the same Idempotency-Key is done once."""

from concurrent.futures import ThreadPoolExecutor

import openai
import pytest

from penstock import blobs, finished, jsonl, line, upload

KEY = {"Idempotency-Key": "night run 7"}
OPTIONS = {"endpoint": "/v1/chat/completions", "completion_window": "24h"}


def test_fault_37_a_batch_created_again_with_its_key_is_the_same_batch(client):
    file = upload(client, [line("once")])
    key = {"Idempotency-Key": f"batch of {file.id}"}
    with ThreadPoolExecutor(8) as pool:
        made = [
            pool.submit(client.batches.create, input_file_id=file.id, extra_headers=key, **OPTIONS) for _ in range(8)
        ]
    assert len({one.result().id for one in made}) == 1
    batch = finished(client, made[0].result())
    assert client.batches.create(input_file_id=file.id, extra_headers=key, **OPTIONS) == batch
    other = client.batches.create(input_file_id=file.id, extra_headers={"Idempotency-Key": f"2 of {file.id}"}, **OPTIONS)
    assert other.id != batch.id
    with pytest.raises(openai.UnprocessableEntityError) as refusal:
        client.batches.create(input_file_id=file.id, metadata={"a": "b"}, extra_headers=key, **OPTIONS)
    assert refusal.value.code == "idempotency_key_reused"


def test_a_file_sent_again_with_its_key_is_stored_once(client):
    content = jsonl([line("file")])
    create = client.files.create
    file = create(file=("a.jsonl", content), purpose="batch", extra_headers=KEY)
    assert create(file=("a.jsonl", content), purpose="batch", extra_headers=KEY) == file
    for other in (("b.jsonl", content), ("a.jsonl", content + b"\n")):
        with pytest.raises(openai.UnprocessableEntityError) as refusal:
            create(file=other, purpose="batch", extra_headers=KEY)
        assert refusal.value.code == "idempotency_key_reused"
    client.files.delete(file.id)
    again = create(file=("a.jsonl", content), purpose="batch", extra_headers=KEY)
    assert again.id != file.id
    assert client.files.content(again.id).content == content


def test_an_upload_has_keys_of_its_own(client):
    def create(name):
        return client.uploads.create(filename=name, purpose="batch", bytes=10, mime_type="application/jsonl", extra_headers=KEY)

    upload = create("a.jsonl")
    assert create("a.jsonl").id == upload.id
    with pytest.raises(openai.UnprocessableEntityError):
        create("b.jsonl")


@pytest.mark.parametrize("key", ["", "x" * 256])
def test_a_key_is_1_to_255_characters_long(client, key):
    with pytest.raises(openai.BadRequestError) as refusal:
        client.uploads.create(
            filename="a.jsonl", purpose="batch", bytes=10, mime_type="application/jsonl", extra_headers={"Idempotency-Key": key}
        )
    assert refusal.value.param == "Idempotency-Key"


def test_a_file_with_a_bad_key_leaves_nothing(client, shared_server):
    kept = blobs(shared_server)
    with pytest.raises(openai.BadRequestError) as refusal:
        client.files.create(
            file=("a.jsonl", jsonl([line("bad key")])), purpose="batch", extra_headers={"Idempotency-Key": "x" * 256}
        )
    assert refusal.value.param == "Idempotency-Key"
    assert blobs(shared_server) == kept
