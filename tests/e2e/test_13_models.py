"""Contract, section 13: models."""

import httpx2
import pytest

from penstock import MODEL, OTHER_MODEL, refused, wait_until

pytestmark = pytest.mark.local


def wait_for_models(client, *names):
    wait_until(lambda: set(names) <= {model.id for model in client.models.list()}, f"{names} are loaded")


def test_list_has_every_configured_model(client, shared_server):
    wait_for_models(client, MODEL, OTHER_MODEL)
    page = httpx2.get(f"{shared_server.url}/v1/models").json()
    assert page["object"] == "list"
    for model in page["data"]:
        assert {"id", "object", "created", "owned_by"} <= set(model)
        assert model["object"] == "model"
        assert isinstance(model["created"], int)
        assert isinstance(model["owned_by"], str)
    assert [model.id for model in client.models.list()] == [model["id"] for model in page["data"]]


def test_model_is_listed_while_it_loads(new_server, tmp_path):
    program = tmp_path / "slow-llama-server"
    program.write_text("#!/bin/sh\nexec sleep 600\n")
    program.chmod(0o755)
    server = new_server("--llama-server", program)
    assert [model.id for model in server.client().models.list()] == [MODEL]
    assert server.client().models.retrieve(MODEL).id == MODEL


def test_item_of_the_list_equals_what_retrieve_gives(client):
    for model in client.models.list():
        assert client.models.retrieve(model.id) == model


@pytest.mark.parametrize("name", ["no-such-model", "some/model", "some/model:Q4_K_M", "ünïcode 😀", f"{MODEL}/", f"{MODEL} "])
def test_unknown_model_is_not_found_and_named(client, name):
    failure = refused(lambda: client.models.retrieve(name), status=404)
    assert failure.code == "model_not_found"
    assert f"'{name}'" in failure.message


def test_model_whose_name_has_slashes_is_found_with_and_without_their_encoding(new_server):
    server = new_server(models=("some/model:Q4",))
    wait_for_models(server.client(), "some/model:Q4")
    for path in ("some/model:Q4", "some%2Fmodel%3AQ4"):
        assert httpx2.get(f"{server.url}/v1/models/{path}").json()["id"] == "some/model:Q4"
    assert server.client().models.retrieve("some/model:Q4").id == "some/model:Q4"
