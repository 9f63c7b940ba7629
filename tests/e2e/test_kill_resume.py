"""kill -9 in the middle of a batch loses nothing and repeats nothing."""

from collections import Counter

import pytest

from penstock import children, create_batch, error_lines, finished, is_running, line, output_lines, wait_until, wait_until_gone


@pytest.mark.local
def test_killed_server_goes_on_and_answers_every_line_exactly_once(new_server):
    total = 40
    server = new_server()
    client = server.client()
    lines = [line(f"line {n}", {"max_tokens": 12}) for n in range(total)]
    lines[total // 2]["body"]["temperature"] = "hot"
    batch = create_batch(client, lines)

    def in_the_middle():
        counts = client.batches.retrieve(batch.id).request_counts
        return counts.completed if 5 <= counts.completed < total - 10 else 0

    done_before = wait_until(in_the_middle, "some lines are done", 240)
    engines = children(server.process.pid)
    assert engines, "the server has no llama-server"
    server.kill()
    wait_until_gone(engines)

    server.start()
    counts = client.batches.retrieve(batch.id).request_counts
    assert done_before <= counts.completed < total
    batch = finished(client, batch)
    assert batch.status == "completed"
    output, errors = output_lines(client, batch), error_lines(client, batch)
    assert Counter(one["custom_id"] for one in output + errors) == Counter(one["custom_id"] for one in lines)
    assert [one["custom_id"] for one in errors] == [f"line {total // 2}"]
    assert (batch.request_counts.completed, batch.request_counts.failed) == (total - 1, 1)
    assert batch.usage.total_tokens == sum(one["response"]["body"]["usage"]["total_tokens"] for one in output)


def test_finished_batches_and_files_outlive_a_kill(new_server):
    server = new_server()
    client = server.client()
    batch = finished(client, create_batch(client, [line("one")]))
    content = client.files.content(batch.output_file_id).read()
    server.kill()
    server.start()
    assert client.batches.retrieve(batch.id) == batch
    assert client.files.content(batch.output_file_id).read() == content


@pytest.mark.local
def test_server_ends_its_engine_when_it_is_asked_to_stop(new_server):
    server = new_server()
    client = server.client()
    finished(client, create_batch(client, [line("one")]))
    engines = children(server.process.pid)
    server.process.terminate()
    assert server.process.wait(20) == 0
    assert not [pid for pid in engines if is_running(pid)]
