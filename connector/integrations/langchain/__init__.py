"""LangChain: a vector store and a retriever that find by late interaction.

Texts are encoded by the collection's own encoder, so that no LangChain embedding is needed. LangChain splits
texts itself, so that each of its documents is one document here, with the same id.
"""

from connector.core.errors import require

require("langchain_core", "langchain")

from connector.integrations.langchain.retriever import MATCH, LateInteractionRetriever
from connector.integrations.langchain.vector_store import LateInteractionVectorStore

__all__ = ["MATCH", "LateInteractionRetriever", "LateInteractionVectorStore"]
