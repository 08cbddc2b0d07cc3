"""A cluster, whose nodes `QDRANT_URLS` names: what each of them has, and what is asked through each."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from connector import Connector, Document, Encoder, open_store
from connector.core.errors import StoreLocked
from connector.stores.server.credentials import api_key_from_environment
from connector.stores.server.shared import ARTIFACTS, LOCKS
from tests.server.real import clean, client, nodes

pytestmark = pytest.mark.server


@pytest.fixture
def urls(name: str) -> Iterator[list[str]]:
    there = nodes()
    yield there
    clean(there[0], name)


@pytest.fixture
def filled(urls: list[str], name: str, encoder: Encoder, documents: list[Document]) -> None:
    """Twelve documents with two copies of each, by a recipe that has a codec, and a lock that was held."""
    key = api_key_from_environment()
    with Connector.create(
        name, url=urls[0], api_key=key, model=encoder, recipe="default", replication_factor=2
    ) as connector:
        connector.ingest(documents)
        connector.create_index({"number": "integer"})


@pytest.mark.usefixtures("filled")
def test_artifacts_and_locks_are_on_every_node(urls: list[str]) -> None:
    for url in urls:
        there = client(url)
        for collection in (ARTIFACTS, LOCKS):
            local = there.collection_cluster_info(collection).local_shards
            assert [it.state for it in local] == ["Active"], (url, collection)
            params = there.get_collection(collection).config.params
            assert params.replication_factor is not None
            assert params.replication_factor >= len(urls), (url, collection)
            assert params.write_consistency_factor == params.replication_factor // 2 + 1
        there.close()


@pytest.mark.usefixtures("filled")
def test_a_new_process_searches_through_each_node(urls: list[str], name: str) -> None:
    for url in urls:
        words = ["search", "what makes sourdough bread rise?", "--collection", name, "--url", url, "--json"]
        done = subprocess.run([sys.executable, "-m", "connector.cli", *words], capture_output=True, text=True)
        assert done.returncode == 0, (url, done.stderr)
        assert json.loads(done.stdout)["hits"][0]["id"] == "doc 2", url


def test_a_lock_that_is_held_through_one_node_is_held_for_all(urls: list[str], name: str) -> None:
    key = api_key_from_environment()
    first, *others = (open_store(url=url, api_key=key) for url in urls)
    with first.lease(name):
        for other in others:
            with pytest.raises(StoreLocked, match=name), other.lease(name):
                pass
    for other in others:
        with other.lease(name):
            pass
        other.close()
    first.close()


@pytest.mark.usefixtures("filled")
def test_what_one_node_acknowledged_strongly_a_majority_has(
    urls: list[str], name: str, encoder: Encoder
) -> None:
    key = api_key_from_environment()
    for number, url in enumerate(urls):
        with Connector.open(name, url=url, api_key=key, model=encoder, write_ordering="strong") as writer:
            writer.ingest([Document(id="changing", text=f"Version {number} of the text.")])
        for other in urls:
            with Connector.open(
                name, url=other, api_key=key, model=encoder, read_consistency="majority"
            ) as reader:
                (seen,) = reader.get(["changing"])
                assert seen.text == f"Version {number} of the text.", (url, other)
