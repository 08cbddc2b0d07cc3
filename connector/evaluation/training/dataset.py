"""What a head is trained on: encoded queries and passages, who answers whom, and who nearly does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from connector.collection.pipeline import WINDOW
from connector.compression.reduction import Reduction
from connector.core.errors import RecipeError, SourceError
from connector.core.io import batched, digest
from connector.core.sources import Source
from connector.core.types import Float32, passage_text
from connector.encoders import Encoder
from connector.encoders.long_queries import tell_of_long
from connector.evaluation.beir import Judged, load_judged
from connector.evaluation.corpus import survey
from connector.evaluation.ranking import nearest

Float16 = NDArray[np.float16]


_NEAR = 30
"""How many of the best wrong passages of a query are its negatives."""


_TOO_NEAR = 2
"""Of the wrong passages the first ones are left out: unjudged, many of them are right."""


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """One collection, encoded.

    Args:
        name: for messages and the model card.
        passages: (n, w) float16 token vectors of each passage.
        queries: (m, w) float16 token vectors of each query.
        positives: for each query the numbers of the passages that answer it, at least one.
        negatives: for each query numbers of passages that are near and do not, best first.
        digest: 16 hexadecimal digits over the ids, the judgements and how they were read.
    """

    name: str
    passages: list[Float16]
    queries: list[Float16]
    positives: list[list[int]]
    negatives: list[list[int]]
    digest: str = ""

    def __len__(self) -> int:
        return len(self.queries)


def load_training_set(
    source: Path,
    encoder: Encoder,
    *,
    split: str = "train",
    judged: Judged | None = None,
    passages: int | None = None,
    reduction: Reduction | None = None,
) -> TrainingSet:
    """Encode judged documents and look for their negatives, the passages nearest by CLS vectors.

    Args:
        source: a BEIR folder; or with `judged` any source of `connector ingest`.
        encoder: frozen; a `CachedEncoder` encodes a source once.
        split: never one that is to be measured on.
        judged: queries and judgements, in place of the folder's.
        passages: read so many of the corpus, from its beginning; None reads all.
        reduction: what passages are reduced by before the head sees them, as they will be stored.

    Raises:
        SourceError: the source has no judged queries, lacks all of their documents, or too little is left to
            train on.
        RecipeError: the reduction needs what is not known here.
    """
    if reduction is not None and reduction.needs - {"text"}:
        raise RecipeError(
            f"reduction {reduction.spec!r} needs {', '.join(sorted(reduction.needs))}, which training does "
            "not have; give one such as ward-4"
        )
    judged = judged or load_judged(source, split)
    documents = list(islice(Source(source), passages))
    number = {document.id: place for place, document in enumerate(documents)}
    if passages is None:
        survey(str(source), number, judged.qrels)
    right = {
        query: [number[id_] for id_, grade in grades.items() if grade > 0 and id_ in number]
        for query, grades in judged.qrels.items()
    }
    right = {query: answers for query, answers in right.items() if answers}
    asked, positives = [judged.queries[query] for query in right], list(right.values())
    if len(asked) < 2 or len(documents) <= _NEAR:
        raise SourceError(
            f"{source} split {split!r} has {len(asked)} queries with an answer among {len(documents)} "
            f"passages; give at least 2 queries and more than {_NEAR} passages"
        )
    texts = [passage_text(document.title, document.text) for document in documents]
    tokens, cls = _encoded(encoder, texts, reduction)
    queries = encoder.encode_queries(asked)
    tell_of_long(queries)
    passed_over = [[*answers, number.get(query, -1)] for query, answers in right.items()]
    most = min(_NEAR + _TOO_NEAR + max(map(len, passed_over)), len(texts))
    how = [split, "dense", None if reduction is None else reduction.spec]
    read = [[document.id for document in documents], judged.qrels, how]
    return TrainingSet(
        name=source.resolve().name,
        passages=tokens,
        queries=[query.tokens.astype(np.float16) for query in queries],
        positives=positives,
        negatives=list(map(_wrong, nearest(queries, cls, most), passed_over)),
        digest=digest(read),
    )


def _encoded(
    encoder: Encoder, texts: Sequence[str], reduction: Reduction | None
) -> tuple[list[Float16], Float32]:
    """Token vectors of each passage, and (P, w) the CLS vectors."""
    tokens, vectors = [], []
    for window in batched(texts, WINDOW):
        for embedding in encoder.encode_documents(window):
            reduced = embedding if reduction is None else reduction(embedding)
            tokens.append(reduced.tokens.astype(np.float16))
            vectors.append(embedding.cls)
    return tokens, np.stack(vectors)


def _wrong(ranked: NDArray[np.integer], passed_over: Sequence[int]) -> list[int]:
    """Those of the passages that are no answers, nor the query's own, without the first ones."""
    wrong = [number for number in ranked.tolist() if number not in passed_over]
    return wrong[_TOO_NEAR : _TOO_NEAR + _NEAR] or wrong
