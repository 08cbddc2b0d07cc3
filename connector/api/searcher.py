"""Queries as users ask them: looked at, encoded, searched for, and what is said of them."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, TypeAlias

from pydantic import Field

from connector.collection.collection import Collection
from connector.collection.handle import CollectionHandle
from connector.collection.search.options import SearchOptions
from connector.collection.search.search import fetch, rank_all
from connector.core.deadline import within
from connector.core.errors import InputError
from connector.core.io import batched
from connector.core.types import Hits, check_text
from connector.encoders.long_queries import encode_queries

logger = logging.getLogger(__name__)

BatchSize: TypeAlias = Annotated[int, Field(ge=1, le=10_000)]
"""Queries that are encoded, and whose candidates are found, together."""


class Searcher:
    """Searches of one collection, for which a query that is too long is warned of once.

    Args:
        handle: the collection, which may be led to another version at any moment.
    """

    def __init__(self, handle: CollectionHandle) -> None:
        self._handle = handle
        self._told_of_long = False

    def alone(self, query: str, options: SearchOptions) -> Hits:
        """The hits of one query; why there are fewer than were asked for is logged."""
        check_query(query)
        (hits,) = self._searched([query], options)
        if hits.note is not None:
            logger.warning("%s", hits.note)
        return hits

    def batches(self, queries: Iterable[str], options: SearchOptions, size: int) -> Iterator[Hits]:
        """The hits of each query in turn, so many queries at a time."""
        for number, batch in enumerate(batched(queries, size)):
            for place, query in enumerate(batch, number * size):
                check_query(query, f"query {place}")
            yield from self._searched(batch, options)

    def _searched(self, queries: Sequence[str], options: SearchOptions) -> list[Hits]:
        def search(collection: Collection) -> list[Hits]:
            encoder = self._handle.encoder_of(collection)
            started = time.perf_counter()
            embeddings = encode_queries(encoder, queries, options.long_query == "end")
            encode = 1e3 * (time.perf_counter() - started) / len(queries)
            found = fetch(collection, rank_all(collection, embeddings, options, device=encoder.device))
            if options.long_query == "start":
                self._tell_of_long(max(hits.truncated for hits in found))
            for hits in found:
                hits.ms["encode"] = encode
                hits.ms["total"] += encode
            return found

        with within(options.timeout):
            return self._handle.read(search)

    def _tell_of_long(self, truncated: int) -> None:
        if truncated and not self._told_of_long:
            self._told_of_long = True
            logger.warning(
                "a query is longer than the model's window, and %s tokens of its end are not searched by: "
                'shorten it, or give long_query="end" (--long-query end) if the question stands there; '
                "hits.truncated counts them, and this is said once",
                f"{truncated:,}",
            )


def check_query(query: str, name: str = "query") -> None:
    """Raises InputError unless this can be asked."""
    if not isinstance(query, str) or not query.strip():
        raise InputError(f"{name} is {query!r:.80}; give a text")
    check_text(query, name)
