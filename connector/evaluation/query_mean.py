"""The mean of a collection's queries, which takes the place of its passages' where query tokens are centred.

Nobody has to judge the queries: a log will do. With all-MiniLM-L6-v2 it is worth 0.004 to 0.006 of nDCG@10 on
the mean of four collections; the mean of another collection's queries loses 0.008.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from connector.collection.collection import Collection
from connector.collection.search.options import SearchOptions
from connector.collection.search.search import rank
from connector.core.errors import CollectionError, InputError
from connector.core.types import Embedding, Float32
from connector.encoders import Encoder
from connector.evaluation.beir import judged_examples
from connector.evaluation.corpus import check_known
from connector.evaluation.metrics import DEPTH, ndcg

LEAST = 50
"""Queries; the mean of fewer is that of their topics."""


_WINDOW = 256


@dataclass(frozen=True, slots=True)
class QueryMean:
    """What was found out about the mean of a collection's queries.

    Args:
        queries, tokens: how many it was computed from.
        before, after: nDCG@10 of judged examples without and with it; None where there are none.
        saved: whether searches follow it: unless it ranks examples worse.
    """

    queries: int
    tokens: int
    before: float | None
    after: float | None
    saved: bool


def adapt_to_queries(
    collection: Collection,
    encoder: Encoder,
    queries: Iterable[str],
    examples: Iterable[tuple[str, str]] = (),
) -> QueryMean:
    """Subtract the mean of these queries' tokens from query tokens from now on.

    Args:
        collection: made by the encoder; its codec centres tokens.
        encoder: encodes the queries.
        queries: at least 50 different ones, as people ask them.
        examples: pairs of a query and the id of a document that answers it. If the mean ranks them worse,
            nothing is changed.

    Raises:
        InputError: there are too few queries, or an example names a document that is not there.
        CollectionError: the collection's codec centres nothing.
    """
    codec = collection.codec
    if codec is None or not codec.centers:
        raise CollectionError(
            f"collection {collection.name!r} does not centre tokens ({collection.recipe.codec}), so a mean "
            "of queries has nothing to take the place of; use a recipe whose codec begins with center"
        )
    texts = [text for text in dict.fromkeys(queries) if text.strip()]
    if len(texts) < LEAST:
        raise InputError(
            f"{len(texts)} different queries are too few, as their mean is that of their topics; give at "
            f"least {LEAST}"
        )
    answers = judged_examples(examples).qrels if (examples := list(examples)) else {}
    check_known(collection, [answer for grades in answers.values() for answer in grades])
    total, count = np.zeros(encoder.token_width), 0
    for start in range(0, len(texts), _WINDOW):
        for embedding in encoder.encode_queries(texts[start : start + _WINDOW]):
            tokens = collection.query_pipeline.rows(embedding).tokens
            total, count = total + tokens.sum(axis=0, dtype=np.float64), count + len(tokens)
    asked = encoder.encode_queries(list(answers))
    grades, mean = list(answers.values()), _stored((total / count).astype(np.float32))
    trial = collection.as_if(collection.recipe, codec)
    trial.metadata = trial.metadata.model_copy(update={"query_mean": mean})
    before = _quality(collection, asked, grades, encoder.device)
    after = _quality(trial, asked, grades, encoder.device)
    worse = before is not None and after is not None and after < before
    if not worse:
        collection.write_scoring(query_mean=mean)
    return QueryMean(len(texts), count, before, after, not worse)


def _stored(mean: Float32) -> str:
    return base64.b64encode(mean.astype("<f2").tobytes()).decode("ascii")


def _quality(
    collection: Collection, queries: Sequence[Embedding], grades: Sequence[dict[str, int]], device: str
) -> float | None:
    """Mean nDCG@10 of searches; None without any."""
    if not queries:
        return None
    rankings = [
        list(rank(collection, query, SearchOptions(k=DEPTH), device=device).scores()) for query in queries
    ]
    return float(ndcg(rankings, grades).mean())
