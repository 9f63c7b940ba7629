"""Embeddings of the real model, whose llama-server is told to give them."""

import base64
import math
from array import array

import pytest

from penstock import create_batch, engine_url, finished, line, parse

pytestmark = pytest.mark.local


def test_embeddings_come_back_one_vector_a_line(new_server):
    client = new_server(env={"PENSTOCK_LLAMA_SERVER_ARGS": "--embedding,--pooling,mean"}).client()
    texts = {"a": "The cat sleeps.", "b": "A cat is sleeping.", "c": "Interest rates rose again."}
    lines = [line(name, {"input": text}, url="/v1/embeddings") for name, text in texts.items()]
    batch = finished(client, create_batch(client, lines, endpoint="/v1/embeddings"))
    assert (batch.status, batch.request_counts.completed) == ("completed", 3)
    answers = parse(client.files.content(batch.output_file_id).text)
    assert [answer["custom_id"] for answer in answers] == list(texts)
    vectors = [answer["response"]["body"]["data"][0]["embedding"] for answer in answers]
    assert all(len(vector) == 576 for vector in vectors)
    likeness = lambda a, b: sum(x * y for x, y in zip(a, b))
    assert likeness(vectors[0], vectors[1]) > likeness(vectors[0], vectors[2])
    assert batch.usage.input_tokens == sum(answer["response"]["body"]["usage"]["prompt_tokens"] for answer in answers) > 0


TEXTS = [
    "The cat sleeps in the sun.",
    "Interest rates rose again in March, and nobody knows why, said the bank.",
    "x = [i ** 2 for i in range(10)]",
    "Wasser kocht bei hundert Grad.",
    "9 8 7 6 5 4 3 2 1 0",
    "No.",
]


def test_lines_that_are_sent_in_groups_have_the_vectors_that_they_have_alone(new_server):
    alone = new_server(env={"PENSTOCK_LLAMA_SERVER_ARGS": "--embedding,--pooling,mean"})
    grouped = new_server("--engine", engine_url(alone), "--embedding-group", "4", models=())
    for encoding in "float", "base64":
        bodies = [{"input": text, "encoding_format": encoding} for text in (*TEXTS, TEXTS[:2])]
        lines = [line(str(n), body, url="/v1/embeddings") for n, body in enumerate(bodies)]
        answers = []
        for client in alone.client(), grouped.client():
            batch = finished(client, create_batch(client, lines, endpoint="/v1/embeddings"))
            output = parse(client.files.content(batch.output_file_id).text)
            assert [one["custom_id"] for one in output] == [one["custom_id"] for one in lines]
            answers.append([one["response"]["body"] for one in output])
            assert sum(body["usage"]["prompt_tokens"] for body in answers[-1]) == batch.usage.input_tokens
        for one, other in zip(*answers):
            assert [item["index"] for item in one["data"]] == [item["index"] for item in other["data"]]
            assert one.keys() == other.keys() and one["data"][0].keys() == other["data"][0].keys()
            assert all(cosine(vector(a), vector(b)) > 0.999 for a, b in zip(one["data"], other["data"]))
        tokens = [[body["usage"]["prompt_tokens"] for body in bodies] for bodies in answers]
        assert sum(tokens[0]) == sum(tokens[1])
        assert tokens[0] != tokens[1]  # shares of what a group has used


def vector(item):
    embedding = item["embedding"]
    return array("f", base64.b64decode(embedding)) if isinstance(embedding, str) else embedding


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b)) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))
