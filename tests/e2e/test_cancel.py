"""Cancelling a batch in the middle of its work."""

from collections import Counter

from penstock import create_batch, error_lines, finished, line, output_lines, wait_until


def test_cancelled_batch_keeps_what_is_done_and_names_the_rest(client):
    total = 200
    batch = create_batch(client, [line(f"line {n}", {"max_tokens": 16}) for n in range(total)])
    wait_until(lambda: client.batches.retrieve(batch.id).request_counts.completed > 0, "a first line is done")

    cancelled = client.batches.cancel(batch.id)
    assert cancelled.status in ("cancelling", "cancelled")
    assert cancelled.cancelling_at
    batch = finished(client, batch)
    assert batch.status == "cancelled"
    assert batch.cancelled_at >= batch.cancelling_at
    assert batch.completed_at is None

    done = output_lines(client, batch)
    given_up = error_lines(client, batch)
    assert 0 < len(done) < total
    assert batch.request_counts.completed == len(done)
    assert Counter(one["custom_id"] for one in done + given_up) == Counter(f"line {n}" for n in range(total))
    for one in given_up:
        assert one["response"] is None
        assert one["error"]["code"] == "batch_cancelled"

    again = client.batches.cancel(batch.id)
    assert again == batch
