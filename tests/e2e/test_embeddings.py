"""Embeddings of the real model, whose llama-server is told to give them."""

from penstock import create_batch, finished, line, parse


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
