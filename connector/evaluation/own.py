"""The document that has a query's own id, as where queries are documents of the corpus (ArguAna, Quora).

It is the nearest to the query and no answer, so BEIR and what is published by it leave it out of each
ranking: beir.retrieval.evaluation.EvaluateRetrieval, `ignore_identical_ids`. What is judged to answer the
query stays; there the ids are alike by chance, or the query was made of the document.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from connector.evaluation.trec import Qrels, Run

logger = logging.getLogger(__name__)


def is_own(document: str, query: str, grades: Mapping[str, int] | None) -> bool:
    """Whether a document has a query's id, and is not judged to answer it.

    Args:
        document, query: their ids.
        grades: of the documents that are judged for the query.
    """
    return document == query and (grades or {}).get(document, 0) <= 0


def without_own(run: Run, qrels: Qrels) -> tuple[Run, int]:
    """A run without its queries' own documents, and how many those were; if there are any, that is logged."""
    kept = {
        query: {it: score for it, score in scores.items() if not is_own(it, query, qrels.get(query))}
        for query, scores in run.items()
    }
    count = sum(len(scores) - len(kept[query]) for query, scores in run.items())
    tell_of_own(count)
    return kept, count


def tell_of_own(count: int) -> None:
    """Log how many documents were left out, if any was."""
    if count:
        logger.warning(
            "%d documents with the id of their query are left out, as BEIR does; keep_own (--keep-own) keeps "
            "them",
            count,
        )
