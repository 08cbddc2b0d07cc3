"""What recipes are tried on: some passages, some queries, and who answers whom if that is known."""

from __future__ import annotations

import hashlib
import logging
import random
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from connector.collection.collection import Collection
from connector.collection.documents.document_state import read, scan
from connector.collection.documents.passages import Checker, Passage, content_hash
from connector.collection.documents.points import text_of
from connector.collection.pipeline import WINDOW
from connector.compression.reduction import Frequencies
from connector.core.errors import DocumentError, InputError, SourceError, one_line
from connector.core.io import batched, to_json
from connector.core.sources import Source
from connector.core.types import Embedding, Float32
from connector.encoders import Encoder
from connector.encoders.cache import CachedEncoder
from connector.encoders.chunking import Chunking
from connector.evaluation.beir import Judged, load_judged, load_queries

PASSAGES = 10_000


QUERIES = 300


LEAST_QUERIES, MANY_QUERIES = 2, 50


logger = logging.getLogger(__name__)


_SPLITS = ("dev", "train")
"""What a folder is tuned on, the first of them that it has; never of itself on what it is tested on."""


_EXAMPLES = "examples"


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
    """

    name: str
    passages: list[Passage]
    documents: int
    queries: dict[str, str]
    qrels: dict[str, dict[str, int]] | None
    asked: str

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
        content = to_json([passages, self.queries, self.qrels])
        return hashlib.sha256(content.encode()).hexdigest()[:16]


def task_of_source(
    path: Path,
    *,
    split: str | None = None,
    examples: Iterable[tuple[str, str]] | None = None,
    queries: Path | None = None,
    most_passages: int = PASSAGES,
    most_queries: int = QUERIES,
    skip_bad: bool = False,
) -> Task:
    """A BEIR folder, or documents that `connector ingest` takes.

    Args:
        path: `corpus.jsonl` with, as far as there are, `queries.jsonl` and `qrels/SPLIT.tsv`; or any source.
        split: the judgements to tune by; None takes dev or train.
        examples: pairs of a query and the id of a document that answers it, in place of judgements.
        queries: a file of queries that nobody has judged, in place of the folder's.
        most_passages: of a larger source a random sample is taken, with all documents that answer.
        most_queries: of more queries a random sample is taken.
        skip_bad: leave unusable records out.

    Raises:
        SourceError: something is missing or damaged, or the judgements are a test's alone.
        DocumentError: a document cannot be taken.
        InputError: an example names a document that is not there.
    """
    judged, texts, asked = _asked(examples, queries)
    own = path / "queries.jsonl"
    if not asked and (path / "qrels").is_dir():
        split = split or _split_of(path)
        judged, asked = load_judged(path, split), f"judged queries of split {split}"
        texts = judged.queries
    elif split is not None:
        raise SourceError(f"{path} has no judgements (qrels/{split}.tsv); leave --split out")
    elif not asked and own.is_file():
        texts, asked = load_queries(own), "queries without judgements"
    checker = Checker(Chunking())
    documents = (_whole(it) for it in _taken(Source(path, skip_bad=skip_bad), checker, skip_bad))
    return _task(path.resolve().name, documents, texts, judged, asked, most_passages, most_queries)


def task_of_collection(
    collection: Collection,
    *,
    examples: Iterable[tuple[str, str]] | None = None,
    queries: Path | None = None,
    most_passages: int = PASSAGES,
    most_queries: int = QUERIES,
) -> Task:
    """The passages of a collection, as they were split.

    Args:
        collection: its texts are read, its vectors are not.
        examples: pairs of a query and the id of a document that answers it.
        queries: a file of queries that nobody has judged, `queries.jsonl` of a BEIR folder.
        most_passages, most_queries: as in `task_of_source`.

    Raises:
        InputError: there are too few examples, or one names a document that is not there.
    """
    judged, texts, asked = _asked(examples, queries)
    return _task(collection.name, _stored(collection), texts, judged, asked, most_passages, most_queries)


def _asked(
    examples: Iterable[tuple[str, str]] | None, queries: Path | None
) -> tuple[Judged | None, dict[str, str], str]:
    """What was given to ask: judgements, texts by id, and what they are."""
    if examples is not None:
        judged = _judged(examples)
        return judged, judged.queries, _EXAMPLES
    if queries is not None:
        return None, load_queries(queries), "queries without judgements"
    return None, {}, ""


def _split_of(folder: Path) -> str:
    there = sorted(file.stem for file in (folder / "qrels").glob("*.tsv"))
    found = [split for split in _SPLITS if split in there]
    if not found:
        raise SourceError(
            f"{folder} has judgements for {', '.join(there) or 'nothing'}, neither for dev nor for train; "
            "choose with --split, and know that what is tuned on a split is not tested by it any more"
        )
    return found[0]


def _judged(examples: Iterable[tuple[str, str]]) -> Judged:
    qrels: dict[str, dict[str, int]] = {}
    for query, answer in examples:
        qrels.setdefault(query, {})[answer] = 1
    if not qrels:
        raise InputError(f"there are no examples; give at least {LEAST_QUERIES} queries with their answers")
    return Judged({query: query for query in qrels}, qrels)


def _taken(source: Source, checker: Checker, skip_bad: bool) -> Iterator[Passage]:
    for document in source:
        try:
            if checker.is_new(document):
                digest = content_hash(document, Chunking())
                yield Passage(document, 0, 1, document.text, digest)
        except DocumentError:
            if not skip_bad:
                raise


def _whole(passage: Passage) -> list[Passage]:
    return [passage]


def _stored(collection: Collection) -> Iterator[list[Passage]]:
    for window in batched(scan(collection), WINDOW):
        for parts in read(collection, dict(window)).values():
            yield [passage for passage, _ in parts]


def _task(
    name: str,
    documents: Iterable[list[Passage]],
    queries: Mapping[str, str],
    judged: Judged | None,
    asked: str,
    most_passages: int,
    most_queries: int,
) -> Task:
    chosen = _sample(sorted(queries), most_queries)
    texts = {query: text for query, text in queries.items() if query in chosen and text.strip()}
    qrels = None if judged is None else {query: judged.qrels[query] for query in texts}
    answers = {id_ for found in (qrels or {}).values() for id_, grade in found.items() if grade > 0}
    passages, count = _passages(documents, answers, most_passages)
    if not passages:
        raise SourceError(f"{name} holds no document; give a source with some")
    if not texts:
        texts, asked = _sentences(passages, most_queries), "sentences of the passages"
    if len(texts) < LEAST_QUERIES:
        raise SourceError(
            f"too few queries for {name}: {len(texts)}; give at least {LEAST_QUERIES}, better {MANY_QUERIES} "
            "or more (--queries, --examples, or a folder with judgements)"
        )
    unknown = sorted(answers - {passage.document.id for passage in passages})
    if unknown and asked == _EXAMPLES:
        raise InputError(one_line(f"{name!r} holds no document {unknown[0]!r}, which an example names"))
    if answers and len(unknown) == len(answers):
        raise SourceError(
            one_line(f"{name} holds none of the judged documents, such as {unknown[0]!r}; give their corpus")
        )
    if unknown:
        logger.warning(
            "%s lacks %d of %d judged documents, such as %r; those count as not found",
            *(name, len(unknown), len(answers), unknown[0]),
        )
    return Task(name, passages, count, texts, qrels, asked)


def _sample(ids: list[str], most: int) -> set[str]:
    return set(ids if len(ids) <= most else random.Random(0).sample(ids, most))


def _passages(documents: Iterable[list[Passage]], answers: set[str], most: int) -> tuple[list[Passage], int]:
    """Documents that answer and a random sample of the others, in their order; and how many there are."""
    rng, count = random.Random(0), 0
    kept: list[tuple[int, list[Passage]]] = []
    others: list[tuple[int, list[Passage]]] = []
    for place, parts in enumerate(documents):
        count += 1
        if parts[0].document.id in answers:
            kept.append((place, parts))
        elif len(others) < most:
            others.append((place, parts))
        elif (drawn := rng.randrange(place + 1 - len(kept))) < most:
            others[drawn] = (place, parts)
    rng.shuffle(others)
    room = max(most - len(kept), 0)
    chosen = sorted(kept + others[:room], key=lambda pair: pair[0])
    return [passage for _, parts in chosen for passage in parts], count


def _sentences(passages: list[Passage], most: int) -> dict[str, str]:
    """A sentence of each of some passages. Its own passage is an easy hit; the others are not."""
    rng, found = random.Random(0), dict[str, str]()
    for passage in rng.sample(passages, len(passages)):
        sentences = _SENTENCE.findall(passage.text)
        if sentences:
            found[f"{len(found) + 1}"] = rng.choice(sentences).strip()
        if len(found) == most:
            break
    return found


Ranking = list[str]
"""Document ids, best first."""


DEPTH = 10
"""Of both measures."""


FOR_TRIALS = 0.9
"""Of the time that is given; in the rest the frontier's searches are timed."""


Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


class OutOfTime(Exception):
    """The time is over."""


class Clock:
    """How much of the time is over."""

    def __init__(self, minutes: float | None) -> None:
        self.minutes = minutes
        self._started = time.monotonic()

    def over(self, share: float = 1.0) -> bool:
        """Whether this share of it is."""
        return self.minutes is not None and time.monotonic() - self._started > share * 60 * self.minutes


@dataclass(frozen=True, slots=True)
class Workload:
    """What all trials have in common.

    Args:
        task: passages and queries.
        encoder: of both.
        queries: the encoded queries, in the order of the task's.
        cls: (P, w) float32 CLS vectors of the passages.
        frequencies: how often they have each token.
        candidates: for each query the numbers of the passages nearest by CLS, best first.
    """

    task: Task
    encoder: Encoder
    queries: list[Embedding]
    cls: Float32
    frequencies: Frequencies
    candidates: list[NDArray[np.intp]]

    def ranked(self, found: NDArray[np.integer], scored: Float32) -> Ranking:
        """The best documents of these passages, each by its best passage."""
        passages = [self.task.passages[it] for it in found]
        places = [(passage.document.id, passage.number) for passage in passages]
        order = sorted(range(len(places)), key=lambda i: (-scored[i], places[i]))
        return list(dict.fromkeys(places[i][0] for i in order))[:DEPTH]


def nearest(queries: Sequence[Embedding], cls: Float32, most: int) -> list[NDArray[np.intp]]:
    """For each query the numbers of the passages with the nearest CLS vectors, best first."""
    return [np.argsort(-(cls @ query.cls), kind="stable")[:most] for query in queries]


def workload_of(
    task: Task, encoder: CachedEncoder, candidates: int, clock: Clock, progress: Progress
) -> Workload:
    """Encode all of it; what was encoded before is read."""
    texts, vectors, frequencies = task.texts, list[Float32](), Frequencies()
    for start in range(0, len(texts), WINDOW):
        progress("Encoding", start, len(texts))
        if clock.over(FOR_TRIALS):
            raise InputError(
                f"the {clock.minutes:g} minutes were over when {start:,} of {len(texts):,} passages were "
                "encoded; they are kept: run the same command again to go on"
            )
        embeddings = encoder.encode_documents(texts[start : start + WINDOW])
        frequencies.add(embeddings)
        vectors += [embedding.cls for embedding in embeddings]
    progress("Encoding", len(texts), len(texts))
    queries, cls = encoder.encode_queries(list(task.queries.values())), np.stack(vectors)
    return Workload(task, encoder, queries, cls, frequencies, nearest(queries, cls, candidates))
