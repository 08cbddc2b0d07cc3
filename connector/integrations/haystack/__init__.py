"""Late interaction in Haystack: a document store, a retriever and a ranker.

Haystack loads a saved pipeline of these only from sources that you trust:
`Pipeline.loads(text, allowed_modules=["connector.*"])`.
"""

from connector.core.errors import require

require("haystack", "haystack")

from connector.integrations.haystack.components import LateInteractionRanker, LateInteractionRetriever
from connector.integrations.haystack.document_store import LateInteractionDocumentStore

__all__ = ["LateInteractionDocumentStore", "LateInteractionRanker", "LateInteractionRetriever"]
