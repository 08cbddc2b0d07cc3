"""Stored passages in another recipe's form, without encoding anything again where enough is stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from connector.collection.collection import Collection
from connector.collection.documents.document_state import State, read, until_still
from connector.collection.documents.passages import Passage, text_of
from connector.collection.documents.writer import EncoderOf
from connector.collection.pipeline import WINDOW, CodedPassage
from connector.collection.recipe import Recipe
from connector.collection.search.stored_tokens import codec_of, keys_of, stored
from connector.compression.codecs import Codec
from connector.compression.codecs.scalar_quantization import TURBO, Datatype
from connector.core.errors import CollectionError
from connector.core.io import batched
from connector.core.types import unit
from connector.stores import Point, Record
from connector.stores.schema import CLS, FDE, LEXICAL

_PRECISION: tuple[Datatype, ...] = ("turbo4", "turbo8", "float16", "float32")


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
    *projections, quantizer = source.codec.split("+")
    if source.codec == target.codec and source.head == target.head:
        lossy = target.fde is not None and quantizer not in _KEPT
        return f"codec {source.codec} has lost what {target.fde} encodes" if lossy else None
    if quantizer not in _KEPT:
        return f"codec {source.codec} has lost what {target.codec} is made of"
    if projections != (target.codec or "").split("+")[: len(projections)]:
        return f"tokens are stored as {source.codec}, which is not a beginning of {target.codec}"
    if projections and source.head != target.head:
        return "tokens were projected by another head"
    return None


def follows(source: Collection, target: Collection) -> bool:
    """Whether a version is made of what another one stores, not of its texts."""
    return target.read_metadata().route == "stored" and why_not(source.recipe, target.recipe) is None


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
    # Qdrant's turbo types make vectors up to 3 % longer or shorter.
    vectors = [unit(record.vectors[CLS]) for record in records]
    if target.recipe.layout == "dense":
        return [CodedPassage(cls) for cls in vectors]
    base, codec = codec_of(source), codec_of(target)
    if not codec.fitted:
        raise CollectionError(f"the codec of {target.name!r} is not fitted; run the migration again")
    passages = stored(source, records)
    if base.datatype in TURBO:
        passages = replace(passages, rows=unit(passages.rows))
    rows, projected = passages.rows, None
    same, fde = codec.spec == base.spec, target.recipe.fde is not None
    if fde or not same:
        tokens = base.decode(rows)
        rows = rows if same else codec.encode_from(base, tokens)
        projected = (tokens if same else codec.project_from(base, tokens)) if fde else None
    saliency = passages.saliency if target.recipe.saliency else None
    return CodedPassage.split(vectors, passages.lengths, rows, saliency, projected)


def remade(
    source: Collection,
    target: Collection,
    pairs: Sequence[tuple[Passage, Record]],
    encoder_of: EncoderOf,
    from_stored: bool,
) -> list[CodedPassage]:
    """What the target stores of passages, at least one: made of what the source stores, or encoded again."""
    if from_stored:
        return materials(source, target, [record for _, record in pairs])
    return target.pipeline.make(encoder_of(target), [text_of(passage) for passage, _ in pairs])


def fill(collection: Collection, ids: Sequence[str], encoder_of: EncoderOf, vector: str) -> None:
    """Give documents a vector that is added to their collection, "lexical" or "fde".

    Raises:
        CollectionError: a document never stays the same for long enough.
    """

    def give(_: set[str], before: Mapping[str, State]) -> None:
        found = read(collection, before, *wanted(collection))
        for window in batched((pair for them in found.values() for pair in them), WINDOW):
            points = _filled(collection, vector, window, encoder_of)
            collection.store.amend(collection.physical, points)

    until_still(collection, ids, give)  # else one has what is of an earlier text


def _filled(
    collection: Collection,
    vector: str,
    window: Sequence[tuple[Passage, Record]],
    encoder_of: EncoderOf,
) -> list[Point]:
    keys = [record.id for _, record in window]
    if vector == LEXICAL:
        words = [collection.words.passage(text_of(passage)) for passage, _ in window]
        return [Point(key, {LEXICAL: it}, {"words": len(it)}) for key, it in zip(keys, words, strict=True)]
    enough = why_not(collection.recipe, collection.recipe) is None
    made = remade(collection, collection, window, encoder_of, enough)
    encodings = [collection.muvera.passage(it.projected) for it in made if it.projected is not None]
    return [Point(key, {FDE: it}, {}) for key, it in zip(keys, encodings, strict=True)]
