"""What a head is trained on: encoded queries and passages, who answers whom, and who nearly does."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from connector.collection.pipeline import WINDOW
from connector.compression.reduction import Reduction
from connector.core.errors import MissingExtra, RecipeError, SourceError
from connector.core.io import to_json
from connector.core.sources import Source
from connector.core.types import Document, Float32, passage_text
from connector.encoders import Encoder
from connector.evaluation.beir import load_judged

Negatives = Literal["dense", "lexical", "both"]


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
    folder: Path,
    encoder: Encoder,
    *,
    split: str = "train",
    passages: int | None = None,
    reduction: Reduction | None = None,
    negatives: Negatives = "dense",
) -> TrainingSet:
    """Encode a split of a BEIR folder and look for its negatives.

    Args:
        folder: `corpus.jsonl`, `queries.jsonl`, `qrels/SPLIT.tsv`.
        encoder: frozen; a `CachedEncoder` encodes a folder once.
        split: never one that is to be measured on.
        passages: read so many of the corpus, from its beginning; None reads all.
        reduction: what passages are reduced by before the head sees them, as they will be stored.
        negatives: the passages nearest by CLS vectors, by words (BM25, with extra `stopwords`), or both in
            turn.

    Raises:
        SourceError: the folder is not in this layout, or too little is left to train on.
        RecipeError: the reduction needs what is not known here.
        MissingExtra: negatives by words need the package bm25s.
    """
    if reduction is not None and reduction.needs - {"text"}:
        raise RecipeError(
            f"reduction {reduction.spec!r} needs {', '.join(sorted(reduction.needs))}, which training does "
            "not have; give one such as ward-4"
        )
    judged = load_judged(folder, split)
    documents = list(islice(Source(folder), passages))
    number = {document.id: place for place, document in enumerate(documents)}
    right = [
        [number[id_] for id_, grade in judged.qrels[query].items() if grade > 0 and id_ in number]
        for query in judged.queries
    ]
    asked = [place for place, found in enumerate(right) if found]
    if len(asked) < 2 or len(documents) <= _NEAR:
        raise SourceError(
            f"{folder} split {split!r} has {len(asked)} queries with an answer among {len(documents)} "
            f"passages; give at least 2 queries and more than {_NEAR} passages"
        )
    tokens, vectors = _encoded(encoder, documents, reduction)
    queries = encoder.encode_queries(list(judged.queries.values()))
    ways: list[list[list[int]]] = []
    if negatives in ("dense", "both"):
        ways.append(_nearest(np.stack([queries[place].cls for place in asked]), vectors, right, asked))
    if negatives in ("lexical", "both"):
        texts = list(judged.queries.values())
        ways.append(_by_words([texts[place] for place in asked], documents, right, asked))
    return TrainingSet(
        name=folder.resolve().name,
        passages=tokens,
        queries=[queries[place].tokens.astype(np.float16) for place in asked],
        positives=[right[place] for place in asked],
        negatives=[_in_turn(lists) for lists in zip(*ways, strict=True)],
        digest=_digest(
            [document.id for document in documents],
            judged.qrels,
            [split, negatives, None if reduction is None else reduction.spec],
        ),
    )


def _digest(*parts: Any) -> str:
    return hashlib.sha256(to_json(parts).encode()).hexdigest()[:16]


def _encoded(
    encoder: Encoder, documents: Sequence[Document], reduction: Reduction | None
) -> tuple[list[Float16], Float32]:
    tokens, vectors = [], []
    for window in _windows(documents):
        for embedding in encoder.encode_documents([passage_text(it.title, it.text) for it in window]):
            reduced = embedding if reduction is None else reduction(embedding)
            tokens.append(reduced.tokens.astype(np.float16))
            vectors.append(embedding.cls)
    return tokens, np.stack(vectors) if vectors else np.empty((0, encoder.cls_width), np.float32)


def _windows(documents: Sequence[Document]) -> Iterator[Sequence[Document]]:
    for start in range(0, len(documents), WINDOW):
        yield documents[start : start + WINDOW]


def _nearest(
    queries: Float32, passages: Float32, right: Sequence[Sequence[int]], asked: Sequence[int]
) -> list[list[int]]:
    """For each query that is asked the wrong passages with the nearest CLS vectors, best first."""
    import torch
    from sentence_transformers.util import dot_score, semantic_search

    most = max(len(right[place]) for place in asked)
    found = semantic_search(
        torch.from_numpy(queries),
        torch.from_numpy(passages),
        top_k=min(_NEAR + _TOO_NEAR + most, len(passages)),
        score_function=dot_score,
    )
    ranked = [[int(hit["corpus_id"]) for hit in hits] for hits in found]
    return [_wrong(numbers, right[place]) for numbers, place in zip(ranked, asked, strict=True)]


def _by_words(
    queries: Sequence[str],
    documents: Sequence[Document],
    right: Sequence[Sequence[int]],
    asked: Sequence[int],
) -> list[list[int]]:
    """For each query that is asked the wrong passages that BM25 finds best, best first."""
    try:
        import bm25s
    except ImportError as error:
        raise MissingExtra("bm25s", "stopwords") from error
    index: Any = bm25s.BM25()
    texts = [passage_text(document.title, document.text) for document in documents]
    index.index(bm25s.tokenize(texts, show_progress=False), show_progress=False)
    most = max(len(right[place]) for place in asked)
    found, _ = index.retrieve(
        bm25s.tokenize(list(queries), show_progress=False),
        k=min(_NEAR + _TOO_NEAR + most, len(documents)),
        show_progress=False,
    )
    return [_wrong(row.tolist(), right[place]) for row, place in zip(found, asked, strict=True)]


def _wrong(ranked: Sequence[int], right: Sequence[int]) -> list[int]:
    answers = set(right)
    wrong = [number for number in ranked if number not in answers]
    return wrong[_TOO_NEAR : _TOO_NEAR + _NEAR] or wrong


def _in_turn(lists: Sequence[Sequence[int]]) -> list[int]:
    """The first of each list, then the second of each, …, each number once."""
    turns = (number for turn in zip(*lists, strict=False) for number in turn)
    return list(dict.fromkeys(turns))
