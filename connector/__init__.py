"""Late-interaction retrieval on Qdrant at the storage price of a single dense vector.

Names are imported when they are first used, so that `import connector` is quick and brings no torch.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from connector.api.async_connector import AsyncConnector
    from connector.api.connector import Connector
    from connector.api.reranker import Reranker
    from connector.api.stats import Stats
    from connector.collection.documents.writer import IngestReport
    from connector.collection.recipe import RECIPES, Recipe
    from connector.collection.search.options import SearchOptions
    from connector.core.errors import ConnectorError
    from connector.core.explanation import Explanation
    from connector.core.types import Document, Embedding, Hit, Hits
    from connector.encoders import Encoder, load_encoder
    from connector.evaluation.adaptation import Adaptation, Strategy
    from connector.stores import open_store
    from connector.stores.schema import Copies

__all__ = [
    "RECIPES",
    "Adaptation",
    "AsyncConnector",
    "Connector",
    "ConnectorError",
    "Copies",
    "Document",
    "Embedding",
    "Encoder",
    "Explanation",
    "Hit",
    "Hits",
    "IngestReport",
    "Recipe",
    "Reranker",
    "SearchOptions",
    "Stats",
    "Strategy",
    "load_encoder",
    "open_store",
]

_HOMES = {
    "RECIPES": "collection.recipe",
    "Adaptation": "evaluation.adaptation",
    "AsyncConnector": "api.async_connector",
    "Connector": "api.connector",
    "ConnectorError": "core.errors",
    "Copies": "stores.schema",
    "Document": "core.types",
    "Embedding": "core.types",
    "Encoder": "encoders",
    "Explanation": "core.explanation",
    "Hit": "core.types",
    "Hits": "core.types",
    "IngestReport": "collection.documents.writer",
    "Recipe": "collection.recipe",
    "Reranker": "api.reranker",
    "SearchOptions": "collection.search.options",
    "Stats": "api.stats",
    "Strategy": "evaluation.adaptation",
    "load_encoder": "encoders",
    "open_store": "stores",
}

logging.getLogger(__name__).addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
