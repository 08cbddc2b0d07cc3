"""What recipes are tried on: some passages, some queries, and who answers whom if that is known."""

from __future__ import annotations

import heapq
import itertools
import random
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from connector.collection.collection import Collection
from connector.collection.documents.document_state import read, scan
from connector.collection.documents.passages import Passage, checked, content_hash, text_of
from connector.collection.pipeline import WINDOW
from connector.core.errors import InputError, SourceError, one_line
from connector.core.io import batched, digest
from connector.core.sources import Source
from connector.encoders.chunking import Chunking
from connector.evaluation.beir import (
    judged_examples,
    judged_queries,
    load_judged,
    load_queries,
    queries_file,
    splits,
)
from connector.evaluation.corpus import survey
from connector.evaluation.own import is_own, tell_of_own
from connector.evaluation.trec import Qrels

PASSAGES = 10_000


QUERIES = 300


LEAST_QUERIES, MANY_QUERIES = 2, 50


_SPLITS = ("dev", "train")
"""What a folder is tuned on, the first of them that it has; never of itself on what it is tested on."""


_EXAMPLES = "examples"


_SENTENCES = "sentences of the passages"


_JUDGED, _UNJUDGED = "judged queries", "queries without judgements"


_SENTENCE = re.compile(r"[^.!?。！？\n]{30,200}[.!?。！？]?")
"""What stands in for a query where there are none."""


@dataclass(frozen=True, slots=True)
class Task:
    """Passages and queries.

    Args:
        name: of the folder or the collection.
        passages: in the order of their source.
        documents: how many documents there are in the source, of which the passages may be a sample.
        queries: query id to text.
        qrels: query id to document id to grade; None where nothing is judged.
        asked: what the queries are, for a person.
        own: the queries of which a passage's document has the id; rankings leave it out.
        skipped: what is wrong with the records that were left out of the source.
    """

    name: str
    passages: list[Passage]
    documents: int
    queries: dict[str, str]
    qrels: Qrels | None
    asked: str
    own: frozenset[str] = frozenset()
    skipped: tuple[str, ...] = ()

    @property
    def texts(self) -> list[str]:
        """What the encoder sees of the passages."""
        return [text_of(passage) for passage in self.passages]

    @property
    def sampled(self) -> int:
        """How many documents the passages are of."""
        return len({passage.document.id for passage in self.passages})

    @property
    def digest(self) -> str:
        """16 hexadecimal digits over all of it."""
        passages = [[it.document.id, it.number, text_of(it)] for it in self.passages]
        return digest([passages, self.queries, self.qrels, *([sorted(self.own)] if self.own else [])])


class _Asked(NamedTuple):
    """Queries by id, who answers them if that is known, and what they are."""

    queries: dict[str, str]
    qrels: Qrels | None
    what: str


def task_of_source(
    path: Path,
    *,
    split: str | None = None,
    examples: Iterable[tuple[str, str]] | None = None,
    queries: Path | None = None,
    qrels: Path | None = None,
    most_passages: int = PASSAGES,
    most_queries: int = QUERIES,
    keep_own: bool = False,
    skip_bad: bool = False,
) -> Task:
    """A BEIR folder, or documents that `connector ingest` takes.

    Args:
        path: `corpus.jsonl` with, as far as there are, `queries.jsonl` and `qrels/SPLIT.tsv`; or any source.
        split: the judgements to tune by; None takes dev or train.
        examples: pairs of a query and the id of a document that answers it, in place of judgements.
        queries: a file of queries, in place of the folder's; without `qrels` nobody has judged them.
        qrels: a file of judgements, in place of the folder's.
        most_passages: of a larger source a random sample is taken, with all documents that answer.
        most_queries: of more queries a random sample is taken.
        keep_own: leave a document with the query's own id in its ranking; see `connector.evaluation.own`.
        skip_bad: leave unusable records out.

    Raises:
        SourceError: something is missing or damaged, or the judgements are a test's alone.
        DocumentError: a document cannot be taken.
        InputError: an example names a document that is not there.
    """
    if qrels is not None and queries is None:
        queries = queries_file(path)
    asked = _given(examples, queries, qrels) or _of_folder(path, split)
    source, whole, bad = Source(path, skip_bad=skip_bad), Chunking(), list[str]()
    documents = (
        [Passage(document, 0, 1, document.text, document.title, content_hash(document, whole))]
        for document in checked(source, whole, skip_bad, bad)
    )
    task = _task(path.resolve().name, documents, asked, most_passages, most_queries, keep_own)
    return replace(task, skipped=(*source.bad, *bad))


def task_of_collection(
    collection: Collection,
    *,
    examples: Iterable[tuple[str, str]] | None = None,
    queries: Path | None = None,
    qrels: Path | None = None,
    most_passages: int = PASSAGES,
    most_queries: int = QUERIES,
    keep_own: bool = False,
) -> Task:
    """The passages of a collection, as they were split.

    Args:
        collection: its texts are read, its vectors are not.
        examples: pairs of a query and the id of a document that answers it.
        queries: a file of queries; without `qrels` nobody has judged them.
        qrels: a file of judgements of these queries.
        most_passages, most_queries, keep_own: as in `task_of_source`.

    Raises:
        InputError: there are too few examples, or one names a document that is not there.
    """
    asked = _given(examples, queries, qrels)
    return _task(collection.name, _stored(collection), asked, most_passages, most_queries, keep_own)


def _given(
    examples: Iterable[tuple[str, str]] | None, queries: Path | None, qrels: Path | None
) -> _Asked | None:
    if examples is not None:
        judged = judged_examples(examples)
        return _Asked(judged.queries, judged.qrels, _EXAMPLES)
    if queries is None:
        if qrels is not None:
            raise InputError(f"{qrels} judges queries whose texts are not given; give them, too (--queries)")
        return None
    if qrels is None:
        return _Asked(load_queries(queries), None, _UNJUDGED)
    judged = judged_queries(queries, qrels)
    return _Asked(judged.queries, judged.qrels, _JUDGED)


def _of_folder(path: Path, split: str | None) -> _Asked | None:
    if (path / "qrels").is_dir():
        split = split or _split_of(path)
        judged = load_judged(path, split)
        return _Asked(judged.queries, judged.qrels, f"{_JUDGED} of split {split}")
    if split is not None:
        raise SourceError(f"{path} has no judgements (qrels/{split}.tsv); leave --split out")
    there = path.is_dir() and queries_file(path).is_file()
    return _Asked(load_queries(queries_file(path)), None, _UNJUDGED) if there else None


def _split_of(folder: Path) -> str:
    there = splits(folder)
    found = [split for split in _SPLITS if split in there]
    if not found:
        raise SourceError(
            f"{folder} has judgements for {', '.join(there) or 'nothing'}, neither for dev nor for train; "
            "choose with --split, and know that what is tuned on a split is not tested by it any more"
        )
    return found[0]


def _stored(collection: Collection) -> Iterator[list[Passage]]:
    for window in batched(scan(collection), WINDOW):
        for parts in read(collection, dict(window)).values():
            yield [passage for passage, _ in parts]


def _task(
    name: str,
    documents: Iterable[list[Passage]],
    asked: _Asked | None,
    most_passages: int,
    most_queries: int,
    keep_own: bool,
) -> Task:
    queries, judged, what = asked or _Asked({}, None, "")
    chosen = set(random.Random(0).sample(sorted(queries), min(most_queries, len(queries))))
    texts = {query: text for query, text in queries.items() if query in chosen and text.strip()}
    qrels = None if judged is None else {query: judged[query] for query in texts}
    answers = {id_ for found in (qrels or {}).values() for id_, grade in found.items() if grade > 0}
    passages, count = _passages(documents, answers, most_passages)
    if not passages:
        raise SourceError(f"{name} holds no document; give a source with some")
    if not texts:
        texts, what = _sentences(passages, most_queries), _SENTENCES
    if len(texts) < LEAST_QUERIES:
        raise SourceError(
            f"too few queries for {name}: {len(texts)}; give at least {LEAST_QUERIES}, better {MANY_QUERIES} "
            "or more (--queries, --examples, or a folder with judgements)"
        )
    ids = {passage.document.id for passage in passages}
    if what == _EXAMPLES and (unknown := sorted(answers - ids)):
        raise InputError(one_line(f"{name!r} holds no document {unknown[0]!r}, which an example names"))
    if qrels is not None:
        survey(name, ids, qrels)
    named = asked is not None and what not in (_EXAMPLES, _SENTENCES) and not keep_own
    own = [it for it in texts if named and it in ids and is_own(it, it, (qrels or {}).get(it))]
    tell_of_own(len(own))
    return Task(name, passages, count, texts, qrels, what, frozenset(own))


def _passages(documents: Iterable[list[Passage]], answers: set[str], most: int) -> tuple[list[Passage], int]:
    """Documents that answer and a random sample of the others, in their order; and how many there are."""
    rng, count = random.Random(0), itertools.count()
    drawn = (
        (-1.0 if parts[0].document.id in answers else rng.random(), next(count), parts) for parts in documents
    )
    chosen = heapq.nsmallest(max(most, len(answers)), drawn)  # never more than these are held
    ordered = sorted(chosen, key=lambda it: it[1])
    return [passage for *_, parts in ordered for passage in parts], next(count)


def _sentences(passages: list[Passage], most: int) -> dict[str, str]:
    """A sentence of each of some passages. Its own passage is an easy hit; the others are not."""
    rng = random.Random(0)
    shuffled = rng.sample(passages, len(passages))
    found = [sentences for it in shuffled if (sentences := _SENTENCE.findall(it.text))]
    return {str(number): rng.choice(sentences).strip() for number, sentences in enumerate(found[:most], 1)}
