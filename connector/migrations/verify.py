"""Whether two versions of a collection hold the same, looked at before a name is switched."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from connector.collection.collection import CANARIES_FILE, Collection
from connector.collection.documents.document_state import State, mark, read, scan, states
from connector.collection.documents.passages import points_of
from connector.collection.documents.writer import EncoderOf
from connector.collection.handle import OpenCollection
from connector.collection.pipeline import WINDOW
from connector.collection.search.search import rank
from connector.collection.search.stored_tokens import codec_of, stored
from connector.collection.versions import transcode
from connector.collection.versions.catalog import versions_of
from connector.collection.versions.dual_write import carry
from connector.core.errors import CollectionError, ConnectorError
from connector.core.io import batched
from connector.core.types import Float32
from connector.stores import Point, Record
from connector.stores.schema import CLS

_SAMPLE, _ROUNDS, _WORDS = 20, 5, 12
"""Documents that are made again, rounds of looking for differences, and words of a sampled query."""


_MIN_COSINE = 0.95
"""Of a vector that was made twice: signs and four bits of a coordinate turn over where it is near an edge."""


@dataclass(slots=True)
class Verification:
    """What was found.

    Attributes:
        documents, passages: how many each of the two versions has.
        differing: ids of documents that differ, though they should not.
        since: how many documents were written or deleted since the older version was left.
        unfinished: how many documents an ingest that was killed has left unfinished.
        sampled: how many documents' texts and vectors were made again and compared.
        damaged: for each sampled document that is not what it should be, its id and why.
        cosine: the least mean cosine of a sampled document's stored vectors with those made again.
        overlaps: for each canary query, the share of the first ten hits that both have.
        unasked: why no canary was asked; None if they were.
    """

    documents: tuple[int, int] = (0, 0)
    passages: tuple[int, int] = (0, 0)
    differing: list[str] = field(default_factory=list)
    since: int = 0
    unfinished: int = 0
    sampled: int = 0
    damaged: list[str] = field(default_factory=list)
    cosine: float = 1.0
    overlaps: dict[str, float] = field(default_factory=dict)
    unasked: str | None = None

    @property
    def overlap(self) -> float | None:
        """The mean overlap of the first ten hits; None if no query was asked."""
        return float(np.mean(list(self.overlaps.values()))) if self.overlaps else None

    def problems(self, min_overlap: float) -> list[str]:
        """What speaks against a switch; nothing if all is well."""
        found = []
        if self.differing:
            found.append(f"{len(self.differing)} documents differ, such as {self.differing[0]!r}")
        elif self.passages[0] != self.passages[1]:
            found.append(f"{self.passages[1]} passages in place of {self.passages[0]}")
        if self.unfinished:
            found.append(f"{self.unfinished} documents are unfinished; ingest them again")
        found += self.damaged[:3]
        if self.overlap is not None and self.overlap < min_overlap:
            found.append(f"the first ten hits overlap by {self.overlap:.0%}, less than {min_overlap:.0%}")
        return found

    def summary(self) -> str:
        """One line for a person."""
        asked = f"no canary query was asked: {self.unasked}"
        if self.overlap is not None:
            asked = f"the first ten hits of {len(self.overlaps)} canary queries overlap by {self.overlap:.0%}"
        since = f"; {self.since:,} written or deleted since" if self.since else ""
        return (
            f"verified: {self.documents[1]:,} of {self.documents[0]:,} documents, {self.passages[1]:,} of "
            f"{self.passages[0]:,} passages{since}; {self.sampled} documents made again, cosine of vectors "
            f">= {self.cosine:.3f}; {asked}"
        )


def verify(source: Collection, target: Collection, encoder_of: EncoderOf) -> Verification:
    """Compare a version that was just made with the one that it was made of.

    Documents that are written in the meantime are looked at again, and carried if they are late.

    Args:
        source, target: the versions.
        encoder_of: gives a version's encoder.
    """
    found = Verification()
    for _ in range(_ROUNDS):
        late = [id_ for _, ids in differing(source, target) for id_ in ids]
        carry(source, target, late, encoder_of)
        here, there = states(source, late), states(target, late)
        found.differing = [id_ for id_ in late if here.get(id_) != there.get(id_)]
        found.documents = source.documents(), target.documents()
        found.passages = _finished(source)[0], target.passages()
        if found.differing:
            continue
        if found.passages[0] == found.passages[1]:
            break
        spoilt = _spoilt(target)
        if not spoilt:  # others write, so that counts differ
            found.passages = (found.passages[1],) * 2
            break
        mark(target, spoilt)
        carry(source, target, list(spoilt), encoder_of)
    _check_sample(found, source, target, encoder_of)
    _ask_canaries(found, source, target, encoder_of)
    return found


def compare(connector: OpenCollection) -> Verification:
    """Look whether a collection is whole, and compare its hits with those of its version of before."""
    collection, found = connector.collection, Verification()
    expected, found.unfinished = _finished(collection)
    passages = collection.passages()
    found.documents = (collection.documents(),) * 2
    found.passages = passages if found.unfinished else expected, passages  # else what they have is not known
    _check_sample(found, collection, collection, connector.encoder_of)
    others = [it for it in versions_of(collection) if not it.current and not it.building]
    if not others:
        found.unasked = "there is no other version to compare the hits with"
        return found
    before = Collection(collection.store, others[-1].physical)
    found.since = sum(len(ids) for _, ids in differing(before, collection, content=True))
    _ask_canaries(found, before, collection, connector.encoder_of)
    return found


def _finished(collection: Collection) -> tuple[int, int]:
    """How many passages the finished documents have, and how many documents are unfinished."""
    passages = unfinished = 0
    for _, state in scan(collection):
        unfinished += state.hash is None
        passages += 0 if state.hash is None else state.passages
    return passages, unfinished


def _spoilt(collection: Collection) -> dict[str, int]:
    """Documents that have other passages than they say, and how many there may be of each."""
    numbers: dict[str, list[int]] = {}
    for record in collection.store.scroll(collection.physical, ["id", "passage"]):
        if "passage" in record.payload:
            numbers.setdefault(record.payload["id"], []).append(int(record.payload["passage"]))
    spoilt: dict[str, int] = {}
    for window in batched(numbers, WINDOW):
        there = states(collection, window)
        for id_ in window:
            state, size = there.get(id_, State(None, 0)), max(numbers[id_]) + 1
            missing = state.hash is not None and len(numbers[id_]) < state.passages
            if missing or size > state.passages:
                spoilt[id_] = max(size, state.passages)
    return spoilt


def differing(
    source: Collection, target: Collection, content: bool = False
) -> Iterator[tuple[int, list[str]]]:
    """Ids of documents that are not the same in both, some at a time, after how many the source has of them.

    Args:
        source, target: the versions.
        content: whether what migrations did to metadata does not count.
    """

    def part(state: State | None) -> State | None:
        return replace(state, revised=None) if content and state is not None else state

    for window in batched(scan(source), WINDOW):
        there = states(target, [id_ for id_, _ in window])
        yield len(window), [id_ for id_, state in window if part(there.get(id_)) != part(state)]
    for window in batched(scan(target), WINDOW):
        there = states(source, [id_ for id_, _ in window])
        yield 0, [id_ for id_, _ in window if id_ not in there]


def _check_sample(found: Verification, source: Collection, target: Collection, encoder_of: EncoderOf) -> None:
    sample = dict(_sample(target))
    same = {id_: it for id_, it in states(source, sample).items() if it == sample[id_]}
    theirs = read(source, same, *transcode.wanted(source))
    from_stored = source is not target and transcode.follows(source, target)
    for id_, pairs in read(target, sample, *transcode.wanted(target)).items():
        if id_ not in theirs:
            continue  # written or deleted just now
        found.sampled += 1
        passages = [passage for passage, _ in pairs]
        if passages != [passage for passage, _ in theirs[id_]]:
            found.damaged.append(f"document {id_!r} has another text or other metadata")
            continue
        try:
            made = transcode.remade(source, target, theirs[id_], encoder_of, from_stored)
            expected = points_of(target, passages, made)
        except ConnectorError as error:
            found.damaged.append(f"document {id_!r} cannot be made again: {error}")
            continue
        both = zip(pairs, expected, strict=True)
        cosine = min(_cosine(target, record, point) for (_, record), point in both)
        found.cosine = min(found.cosine, cosine)
        if cosine < _MIN_COSINE:
            found.damaged.append(f"document {id_!r} has other vectors (cosine {cosine:.2f})")


def _sample(target: Collection) -> list[tuple[str, State]]:
    """Documents from all over the collection."""
    every = max(target.documents() // _SAMPLE, 1)
    return list(itertools.islice(itertools.islice(scan(target), 0, None, every), _SAMPLE))


def _cosine(collection: Collection, record: Record, point: Point) -> float:
    """The mean cosine of what is stored of a passage with what was made again."""
    pairs = [(record.vectors[CLS][None], np.asarray(point.vectors[CLS])[None])]
    if collection.recipe.layout != "dense" and "frequencies" not in collection.pipeline.reduction.needs:
        codec = codec_of(collection)
        dense = {name: it for name, it in point.vectors.items() if isinstance(it, np.ndarray)}
        again = Record(point.id, dict(point.payload), 0.0, dense)
        own, theirs = (codec.decode(stored(collection, [it]).rows) for it in (record, again))
        if own.shape != theirs.shape:
            return 0.0
        pairs.append((own, theirs))
    return min(_mean_cosine(*pair) for pair in pairs)


def _mean_cosine(left: Float32, right: Float32) -> float:
    lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    return float(np.mean((left * right).sum(axis=1) / np.maximum(lengths, 1e-12)))


def _ask_canaries(found: Verification, source: Collection, target: Collection, encoder_of: EncoderOf) -> None:
    try:
        queries = canaries_of(target) or sampled_queries(source)
        if not queries:
            raise CollectionError("the collection is empty")
        encoders = encoder_of(source), encoder_of(target)
    except ConnectorError as error:
        found.unasked = str(error)
        return
    asked = [encoders[0].encode_queries(queries)]
    asked.append(asked[0] if encoders[0] is encoders[1] else encoders[1].encode_queries(queries))
    for query, old, new in zip(queries, *asked, strict=True):
        before = set(rank(source, old, device=encoders[0].device).scores())
        after = set(rank(target, new, device=encoders[1].device).scores())
        found.overlaps[query] = len(before & after) / max(len(before), len(after), 1)


def canaries_of(collection: Collection) -> list[str]:
    """The queries that are kept with a collection to try its versions by; none if there are none."""
    if not collection.read_metadata().canaries:
        return []
    data = collection.store.get_artifact(collection.physical, CANARIES_FILE)
    return [str(query) for query in json.loads(data)]


def keep_canaries(collection: Collection, queries: Sequence[str]) -> None:
    """Keep queries with a collection to try its versions by."""
    data = json.dumps(list(queries), ensure_ascii=False).encode()
    collection.store.put_artifact(collection.physical, CANARIES_FILE, data)
    collection.write_metadata(canaries=len(queries))


def sampled_queries(source: Collection) -> list[str]:
    """Words from the middle of some texts."""
    queries = []
    for pairs in read(source, dict(_sample(source))).values():
        words = pairs[0][0].text.split()
        start = max((len(words) - _WORDS) // 2, 0)
        queries.append(" ".join(words[start : start + _WORDS])[:500])
    return queries
