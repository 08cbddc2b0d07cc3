"""A collection as a LangChain retriever, which can say why a document was found."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from langchain_core.documents import Document
from pydantic import ConfigDict, Field

from connector.core.explanation import Explanation
from connector.core.types import Hits
from connector.integrations.common import Held, awaited, synchronous
from connector.integrations.langchain.batch import BatchRetriever, Found, handed_out
from connector.integrations.langchain.documents import restored

MATCH = "late_interaction"
"""The metadata key under which a retriever says, if asked, how a document matches."""


class LateInteractionRetriever(BatchRetriever):
    """The best documents of a collection for a query; `batch` and `abatch` search for many together.

    Args:
        connector: to the collection, a `Connector`, or an `AsyncConnector`, whose threads `ainvoke` uses.
        k: how many documents; `invoke(query, k=…)` may say otherwise, and so for the options.
        search_kwargs: options of `Connector.search`, such as filter, candidates, offset, min_similarity, mmr,
            group_by and group_size.
        match: what a document's metadata says under `MATCH`, "late_interaction". None, the default: there is
            no such key. "score": {"score": …}, and with group_by "group". "words": beside these "words", the
            pairs of a word of the query and words of the document that the score comes from, the largest
            first, each {"query": …, "passage": […], "share": …}; what shares lack of 1 is that of tokens that
            are not words, such as [CLS]. For the words each document found is encoded once more.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    connector: Held
    k: int = 4
    search_kwargs: dict[str, Any] = Field(default_factory=dict)
    match: Literal["score", "words"] | None = None

    @property
    def _held(self) -> Held:
        return self.connector

    def _asked(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        return {"k": self.k, **self.search_kwargs, **kwargs}

    def _search_batch(self, queries: list[str], **kwargs: Any) -> Iterator[Hits]:
        return synchronous(self.connector).search_batch(queries, **self._asked(kwargs))

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: Any,  # noqa: ARG002
        found: Found | None = None,
        **kwargs: Any,
    ) -> list[Document]:
        asked, connector = self._asked(kwargs), synchronous(self.connector)
        hits = handed_out(found, query)
        if hits is None:
            hits = connector.search(query, **asked)
        documents = [restored(hit) for hit in hits]
        del asked["k"]
        for hit, document in zip(hits, documents, strict=True):
            if self.match is not None:
                group = {} if hit.group is None else {"group": hit.group}
                document.metadata[MATCH] = {"score": hit.score, **group}
            if self.match == "words":
                explanation = connector.explain(query, hit, **asked)
                document.metadata[MATCH]["words"] = _words(explanation)
        return documents

    _aget_relevant_documents = awaited(_get_relevant_documents)


def _words(explanation: Explanation) -> list[dict[str, Any]]:
    return [
        {
            "query": pair.query.text,
            "passage": [word.text for word in pair.passage if word.in_text],
            "share": pair.share,
        }
        for pair in explanation.by_word()
        if pair.query.in_text
    ]
