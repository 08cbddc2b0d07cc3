"""LlamaIndex: a retriever and a vector store over a collection, and a reranker of any retriever's nodes."""

from __future__ import annotations

from connector.core.errors import require

require("llama_index.core", "llama-index")

from connector.integrations.llama_index.conversion import documents_of, filter_of, node_of
from connector.integrations.llama_index.retriever import LateInteractionRerank, LateInteractionRetriever
from connector.integrations.llama_index.vector_store import LateInteractionVectorStore

__all__ = [
    "LateInteractionRerank",
    "LateInteractionRetriever",
    "LateInteractionVectorStore",
    "documents_of",
    "filter_of",
    "node_of",
]
