"""A collection as a LangChain retriever, which can say why a document was found."""

from __future__ import annotations

from typing import Any, Literal

from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from pydantic import ConfigDict, Field

from connector.core.explanation import Explanation
from connector.integrations.common import Held, awaited, synchronous
from connector.integrations.langchain.documents import restored

MATCH = "late_interaction"
"""The metadata key under which a retriever says, if asked, how a document matches."""


class LateInteractionRetriever(BaseRetriever):
    """The best documents of a collection for a query.

    Args:
        connector: to the collection, a `Connector`, or an `AsyncConnector`, whose threads `ainvoke` uses.
        k: how many documents; `invoke(query, k=…)` may say otherwise, and so for the options.
        search_kwargs: options of `Connector.search`, such as filter and candidates.
        match: what a document's metadata says under `MATCH`, "late_interaction". None, the default: there is
            no such key. "score": {"score": …}. "words": beside the score "words", the pairs of a word of the
            query and words of the document that it comes from, the largest first, each {"query": …,
            "passage": […], "share": …}; what shares lack of 1 is that of tokens that are not words, such as
            [CLS]. For the words each document found is encoded once more.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    connector: Held
    k: int = 4
    search_kwargs: dict[str, Any] = Field(default_factory=dict)
    match: Literal["score", "words"] | None = None

    @property
    def _held(self) -> Held:
        return self.connector

    def _get_relevant_documents(self, query: str, *, run_manager: Any, **kwargs: Any) -> list[Document]:  # noqa: ARG002
        asked = {**self.search_kwargs, **kwargs}
        k = asked.pop("k", self.k)
        connector = synchronous(self.connector)
        hits = connector.search(query, k, **asked)
        documents = [restored(hit) for hit in hits]
        for hit, document in zip(hits, documents, strict=True):
            if self.match is not None:
                document.metadata[MATCH] = {"score": hit.score}
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
