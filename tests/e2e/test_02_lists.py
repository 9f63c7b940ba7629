"""Contract, section 2: lists."""

import httpx2
import pytest

from penstock import create_batch, finished, refused, upload

PURPOSE = "assistants"  # of the files that these tests list


def put(client, name="a.txt", purpose=PURPOSE):
    return client.files.create(file=(name, b"x"), purpose=purpose).id


def get(server, path, **query):
    return httpx2.get(f"{server.url}/v1/{path}", params=query)


@pytest.fixture(scope="module")
def batch_ids(shared_server):
    """More batches than a page has by default, oldest first. They have failed, so that they change no more."""
    client = shared_server.client()
    return [finished(client, create_batch(client, b"{}")).id for _ in range(21)]


@pytest.fixture(scope="module")
def file_ids(shared_server):
    """Files made within the same second or two, oldest first."""
    client = shared_server.client()
    return [put(client, f"{n}.txt") for n in range(7)]


def test_page_has_all_keys_and_names_its_first_and_last_item(shared_server, batch_ids, file_ids):
    for path in ("batches", "files"):
        page = get(shared_server, path, limit=2).json()
        assert set(page) == {"object", "data", "first_id", "last_id", "has_more"}
        assert page["object"] == "list"
        assert [page["first_id"], page["last_id"]] == [one["id"] for one in page["data"]]
        assert page["has_more"] is True


def test_empty_page_names_no_item(shared_server, client, batch_ids):
    oldest = [batch.id for batch in client.batches.list(limit=100)][-1]
    for answer in (get(shared_server, "files", purpose="nonsense"), get(shared_server, "batches", after=oldest)):
        assert answer.json() == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}


def test_batches_come_newest_first_twenty_a_page(client, batch_ids):
    page = client.batches.list()
    assert [batch.id for batch in page.data] == batch_ids[:0:-1]
    assert page.has_more
    assert client.batches.list(after=page.data[-1].id).data[0].id == batch_ids[0]


def test_files_come_newest_first_and_all_at_once(client, file_ids):
    page = client.files.list(purpose=PURPOSE)
    assert [file.id for file in page.data] == file_ids[::-1]
    assert page.has_more is False


def test_files_come_in_the_order_that_is_asked_for(client, file_ids):
    for order, expected in (("asc", file_ids), ("desc", file_ids[::-1])):
        assert [file.id for file in client.files.list(purpose=PURPOSE, order=order)] == expected
        assert [file.id for file in client.files.list(purpose=PURPOSE, order=order, limit=2)] == expected
        after = client.files.list(purpose=PURPOSE, order=order, after=expected[2])
        assert [file.id for file in after.data] == expected[3:]


def test_purpose_filters(client, file_ids):
    other = put(client, purpose="vision")
    assert other not in [file.id for file in client.files.list(purpose=PURPOSE)]
    assert {file.purpose for file in client.files.list(purpose="vision")} == {"vision"}
    assert {other, *file_ids} <= {file.id for file in client.files.list()}


def test_has_more_says_whether_a_next_page_would_be_empty(client, file_ids):
    for limit in range(1, len(file_ids) + 2):
        page = client.files.list(purpose=PURPOSE, limit=limit)
        assert len(page.data) == min(limit, len(file_ids))
        assert page.has_more == (limit < len(file_ids))


@pytest.mark.parametrize("path", ["files", "batches"])
@pytest.mark.parametrize("limit", ["0", "-1", "1.5", "abc", "", " 1", "1e1", "+1", "%31%zz", "9" * 30, "101", "10001"])
def test_limit_out_of_its_bounds_is_refused(shared_server, path, limit):
    answer = httpx2.get(f"{shared_server.url}/v1/{path}?limit={limit}")
    if path == "files" and limit == "101":
        assert answer.status_code == 200
    else:
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == "limit"


def test_limit_at_its_bounds_is_taken(shared_server, batch_ids):
    for path, limit in (("files", 1), ("files", 10_000), ("batches", 1), ("batches", 100)):
        assert get(shared_server, path, limit=limit).status_code == 200


@pytest.mark.parametrize("path", ["files", "batches"])
@pytest.mark.parametrize("after", ["file-unknown", "batch_unknown", "", "%zz", "%", "%00", "' OR 1=1 --", "😀"])
def test_unknown_after_is_refused_and_never_gives_the_first_page(shared_server, batch_ids, file_ids, path, after):
    answer = httpx2.get(f"{shared_server.url}/v1/{path}?after={after}")
    assert answer.status_code in (400, 404)
    assert answer.json()["error"]["param"] == "after"


def test_after_of_the_other_kind_is_unknown(shared_server, batch_ids, file_ids):
    assert get(shared_server, "files", after=batch_ids[0]).status_code in (400, 404)
    assert get(shared_server, "batches", after=file_ids[0]).status_code in (400, 404)


@pytest.mark.parametrize("order", ["", "ASC", "up", "asc desc"])
def test_unknown_order_is_refused(shared_server, order):
    answer = get(shared_server, "files", order=order)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "order")


def test_item_of_a_list_equals_what_retrieve_gives(shared_server, batch_ids, file_ids):
    for path, id_ in (("batches", batch_ids[0]), ("files", file_ids[0])):
        items = get(shared_server, path, limit=100).json()["data"]
        assert [one for one in items if one["id"] == id_] == [get(shared_server, f"{path}/{id_}").json()]


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_walk_over_files_sees_each_once_while_others_come_and_go(client, order):
    purpose = {"asc": "evals", "desc": "fine-tune"}[order]
    kept = [put(client, purpose=purpose) for _ in range(12)]
    seen = []
    for file in client.files.list(purpose=purpose, order=order, limit=3):  # pages by itself
        seen.append(file.id)
        if len(seen) > 12:
            break  # of those that have come
        client.files.delete(file.id)  # also the one that the next page starts after
        put(client, purpose=purpose)
    assert seen[:12] == (kept if order == "asc" else kept[::-1])
    assert len(seen) == (13 if order == "asc" else 12)


def test_walk_over_batches_sees_each_once_while_others_come(client, batch_ids):
    file = upload(client, b"{}")
    seen = []
    for batch in client.batches.list(limit=5):
        if len(seen) < 3:
            new = client.batches.create(input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h")
            finished(client, new)
        seen.append(batch.id)
    assert seen[:21] == batch_ids[::-1]
    assert len(set(seen)) == len(seen)


def test_deleted_file_still_marks_its_place(client, file_ids):
    between = put(client)
    newer = put(client)
    client.files.delete(between)
    assert [file.id for file in client.files.list(purpose=PURPOSE, after=between).data] == file_ids[::-1]
    assert [file.id for file in client.files.list(purpose=PURPOSE, after=between, order="asc").data] == [newer]
    refused(lambda: client.files.retrieve(between), status=404)
    client.files.delete(newer)
