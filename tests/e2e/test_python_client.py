"""The official Python client, unchanged, against a server with a real model."""

import openai
import pytest

from penstock import OTHER_MODEL, create_batch, finished, line


def test_each_configured_model_can_be_asked(client):
    batch = finished(client, create_batch(client, [line("one", {"model": OTHER_MODEL})]))
    assert batch.request_counts.completed == 1
    assert batch.model == OTHER_MODEL


def test_unknown_things_are_not_found(client):
    for call in (client.batches.retrieve, client.batches.cancel):
        with pytest.raises(openai.NotFoundError, match="batch_unknown"):
            call("batch_unknown")


def test_fault_40_input_of_an_unfinished_batch_cannot_be_deleted(client):
    batch = create_batch(client, [line(f"line {n}") for n in range(4)])
    with pytest.raises(openai.BadRequestError, match="read by a batch that has not finished"):
        client.files.delete(batch.input_file_id)
    assert finished(client, batch).request_counts.completed == 4
    assert client.files.delete(batch.input_file_id).deleted
