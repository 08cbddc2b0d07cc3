"""LangChain's batches, whose queries are searched for together."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableConfig

from connector.api.searcher import check_query
from connector.core.errors import InputError
from connector.core.types import Hits
from connector.integrations.common import Held, in_thread

Found: TypeAlias = Mapping[str, Hits | Exception]
"""The hits of each query of a batch, or why there are none."""


class BatchRetriever(BaseRetriever):
    """A retriever whose `batch` and `abatch` find the hits of all queries first, by `search_batch`.

    LangChain then calls it for each query, with the query's callbacks and configuration, and it hands out
    what was found: the same documents as one at a time, or the same error. Runs do not count the search as
    their time.
    """

    @property
    @abstractmethod
    def _held(self) -> Held:
        """The connector, whose threads do what is awaited."""

    @abstractmethod
    def _search_batch(self, queries: list[str], **kwargs: Any) -> Iterable[Hits]:
        """The hits of each query, as `_get_relevant_documents` finds them with these arguments."""

    def batch(
        self,
        inputs: list[str],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[list[Document]]:
        """The documents of each query, as `invoke` finds them, in fewer seconds.

        Args:
            inputs: the queries.
            config: of all queries, or of each one.
            return_exceptions: whether an error takes the place of its query's documents; else the first one
                is raised.
            kwargs: as `invoke` takes them.
        """
        found = self._together(inputs, kwargs)
        return super().batch(inputs, config, return_exceptions=return_exceptions, found=found, **kwargs)

    async def abatch(
        self,
        inputs: list[str],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[list[Document]]:
        """`batch`, awaited."""
        found = await in_thread(self._held, lambda: self._together(inputs, kwargs))
        more: dict[str, Any] = {"found": found, **kwargs}
        return await super().abatch(inputs, config, return_exceptions=return_exceptions, **more)

    def _together(self, inputs: list[str], kwargs: dict[str, Any]) -> Found:
        queries = list(dict.fromkeys(query for query in inputs if _askable(query)))
        try:
            return dict(zip(queries, self._search_batch(queries, **kwargs), strict=True))
        except Exception as error:  # each run is to tell it to its callbacks
            return dict.fromkeys(queries, error)


def handed_out(found: Found | None, query: str) -> Hits | None:
    """What was found for a query of a batch; None where it has to be searched for.

    Raises:
        Exception: why nothing could be found.
    """
    hits = found.get(query) if found and _askable(query) else None
    if isinstance(hits, Exception):
        raise hits
    return hits


def _askable(query: Any) -> bool:
    """Whether a query can be searched for; one that cannot fails alone."""
    try:
        check_query(query)
    except InputError:
        return False
    return True
