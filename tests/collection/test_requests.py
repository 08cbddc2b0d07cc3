"""What a search asks a server for: how often, and how much."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from connector import RECIPES, Connector, Document, Encoder
from connector.collection import handle
from connector.collection.search.candidates import query_tokens
from connector.stores.server.retry import Requests
from tests.server.doubles import double

Asked = list[tuple[str, tuple[Any, ...], dict[str, Any]]]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """The requests to servers: method, arguments and options of each."""
    found: Asked = []
    call = Requests.__call__

    def recording(self: Requests, method: Any, *args: Any, **options: Any) -> Any:
        found.append((method.__name__, args, options))
        return call(self, method, *args, **options)

    monkeypatch.setattr(Requests, "__call__", recording)
    monkeypatch.setattr(handle, "_SERVER_SECONDS", math.inf)
    return found


@pytest.fixture(scope="module", params=sorted(RECIPES))
def connector(request: pytest.FixtureRequest, documents: list[Document]) -> Iterator[Connector]:
    with Connector.create("docs", client=double(), recipe=request.param) as made:
        made.ingest(documents)
        made.search("bread")
        yield made


def test_a_search_is_two_requests(connector: Connector, asked: Asked) -> None:
    """All that scores need, and the texts of the hits."""
    assert connector.search("yeast in the bread")
    assert [method for method, *_ in asked] == ["query_batch_points", "retrieve"]


def test_only_what_is_scored_is_read(connector: Connector, asked: Asked) -> None:
    """An empty list of keys would have the engine read each payload."""
    connector.search("yeast in the bread", k=3)
    (_, (_, (first, *others)), _), (_, (_, ids), texts) = asked
    keys = {"id", "passage"} | ({"codes"} if connector.recipe.layout == "codes" else set())
    assert {*first.with_payload} == keys | ({"saliency"} if connector.recipe.saliency else set())
    assert all(it.with_payload is False and it.with_vector is False for it in others)
    assert texts["with_payload"] == ["text", "title", "metadata"]
    assert len(ids) == 3


def test_frequencies_are_seen_with_the_name(
    documents: list[Document], asked: Asked, encoder: Encoder
) -> None:
    client, query = double(), encoder.encode_queries(["the otter sleeps"])[0]
    with (
        Connector.create("docs", client=client, model=encoder) as writer,
        Connector.open("docs", client=client, model=encoder) as reader,
    ):

        def weights(connector: Connector) -> Any:
            return query_tokens(connector.collection, query).weights

        writer.ingest(documents[:3])
        reader.refresh()
        before = weights(reader)
        writer.ingest(documents[3:])
        asked.clear()
        assert np.array_equal(weights(reader), before)
        assert not asked
        assert not np.array_equal(weights(writer), before)
        reader.refresh()
        assert np.array_equal(weights(reader), weights(writer))
