"""LlamaIndex: a retriever and a vector store over a collection, and a reranker of any retriever's nodes."""

from __future__ import annotations

from connector.core.errors import MissingExtra

try:
    import llama_index.core  # noqa: F401
except ImportError as error:
    raise MissingExtra("llama_index.core", "llama-index") from error

from connector.integrations.llama_index.filters import filter_of
from connector.integrations.llama_index.nodes import documents_of, node_of
from connector.integrations.llama_index.reranker import LateInteractionRerank
from connector.integrations.llama_index.retriever import LateInteractionRetriever
from connector.integrations.llama_index.store import LateInteractionVectorStore

__all__ = [
    "LateInteractionRerank",
    "LateInteractionRetriever",
    "LateInteractionVectorStore",
    "documents_of",
    "filter_of",
    "node_of",
]
