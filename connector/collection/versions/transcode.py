"""Stored vectors in another recipe's form, without encoding anything again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from connector.collection.collection import Collection
from connector.collection.pipeline import CodedPassage
from connector.collection.recipe import Recipe
from connector.collection.search.rerank import codec_of, keys_of, stored
from connector.compression.codecs import Codec
from connector.compression.codecs.base import Datatype
from connector.core.errors import CollectionError
from connector.core.types import Float32
from connector.stores import Record
from connector.stores.schema import CLS

_PRECISION: tuple[Datatype, ...] = ("turbo4", "turbo8", "float16", "float32")


_TURBO = ("turbo4", "turbo8")


_KEPT = ("float32", "float16")
"""Quantizers that lose too little to matter."""


def why_not(source: Recipe, target: Recipe) -> str | None:
    """Why collections of one recipe cannot be made of what collections of another store; None if they can.

    Args:
        source, target: the recipes, of collections of the same encoder.
    """
    if _PRECISION.index(target.cls) > _PRECISION.index(source.cls):
        return f"CLS vectors are stored as {source.cls}, which is less than {target.cls}"
    if target.layout == "dense":
        return None
    if source.codec is None:
        return "no tokens are stored"
    if source.reduction != target.reduction:
        return (
            f"tokens were reduced by {source.reduction or 'nothing'}, not by {target.reduction or 'nothing'}"
        )
    if target.saliency and not source.saliency:
        return "no saliency is stored"
    if "frequencies" in target.make_query_reduction().needs - source.make_query_reduction().needs:
        return "no token frequencies are stored"
    *projections, quantizer = source.codec.split("+")
    if source.codec == target.codec and source.head == target.head:
        lossy = target.fde is not None and quantizer not in _KEPT
        return f"codec {source.codec} has lost what {target.fde} encodes" if lossy else None
    if quantizer not in _KEPT:
        return f"codec {source.codec} has lost what {target.codec} is made of"
    if projections != (target.codec or "").split("+")[: len(projections)]:
        return f"tokens are stored as {source.codec}, which is no beginning of {target.codec}"
    if projections and source.head != target.head:
        return "tokens were projected by another head"
    return None


def wanted(source: Collection) -> tuple[list[str], list[str]]:
    """The payload keys and the vectors of stored passages that `materials` needs."""
    keys, vectors = ([], []) if source.recipe.layout == "dense" else keys_of(source)
    return keys, [CLS, *vectors]


def fitted(source: Collection, target: Collection, records: Sequence[Record]) -> Codec | None:
    """The target's codec, fitted on what is stored, with the projections that it has in common.

    Args:
        source, target: collections of which `why_not` finds nothing.
        records: some passages.
    """
    if target.recipe.layout == "dense":
        return None
    if source.recipe.codec == target.recipe.codec:
        return target.recipe.make_codec().load(codec_of(source).save())
    base = codec_of(source)
    return target.recipe.make_codec().continued(base, base.decode(stored(source, records).rows))


def materials(source: Collection, target: Collection, records: Sequence[Record]) -> list[CodedPassage]:
    """What the target stores of these passages.

    Args:
        source, target: collections of which `why_not` finds nothing; the target's codec is fitted.
        records: with what `wanted` names.

    Raises:
        CollectionError: the target's codec is not fitted.
    """
    vectors = [_unit(record.vectors[CLS]) for record in records]
    if target.recipe.layout == "dense":
        return [CodedPassage(cls) for cls in vectors]
    base, codec = codec_of(source), codec_of(target)
    if not codec.fitted:
        raise CollectionError(f"the codec of {target.name!r} is not fitted; run the migration again")
    passages = stored(source, records)
    if base.datatype in _TURBO:
        passages = replace(passages, rows=_unit(passages.rows))
    ends = np.cumsum(passages.lengths)[:-1]
    same = codec.spec == base.spec
    tokens = None if same and target.recipe.fde is None else base.decode(passages.rows)
    rows = passages.rows if same or tokens is None else codec.encode_from(base, tokens)
    projected: Float32 | None = None
    if target.recipe.fde is not None and tokens is not None:
        projected = tokens if same else codec.project_from(base, tokens)
    saliency = passages.saliency if target.recipe.saliency else None
    none = [None] * len(vectors)
    return [
        CodedPassage(*parts)
        for parts in zip(
            vectors,
            np.split(rows, ends),
            none if saliency is None else np.split(saliency, ends),
            none if projected is None else np.split(projected, ends),
            strict=True,
        )
    ]


def _unit(vectors: Float32) -> Float32:
    """Rows of length 1, as all were before Qdrant's turbo types made them up to 3 % longer or shorter."""
    unit: Float32 = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return unit
