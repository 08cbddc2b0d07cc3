"""The systems that are compared, but for fast-plaid: each is built from vectors, and answers queries."""

from __future__ import annotations

import os
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import qdrant_edge as edge
import torch
from _peers_data import Loaded, Task
from qdrant_client import QdrantClient, models
from sentence_transformers.util import similarity

from connector import Recipe, open_store
from connector.collection.collection import Collection
from connector.collection.ingest import ingest
from connector.collection.pipeline import WINDOW
from connector.collection.search.options import SearchOptions
from connector.collection.search.search import fetch, rank
from connector.core.io import batched
from connector.core.types import point_id
from connector.encoders import Encoder
from connector.encoders.chunking import Chunking
from connector.stores import api_key_from_environment

TOP, CANDIDATES = 10, 200
_FLOAT = 4
_REQUEST = 24 * 2**20
"""Bytes of a request to a server, which takes 32 MiB."""
_BYTES_PER_FLOAT = 12
"""In such a request, as JSON."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The best documents of a query, and how long it took."""

    scores: dict[str, float]
    ms: float


@dataclass(frozen=True, slots=True)
class Facts:
    """What a system takes: bytes of a passage on disk, those of its vectors alone, seconds of writing."""

    at_rest: float | None
    vectors: float | None
    seconds: float | None


class System(Protocol):
    """Something that is built and can be asked; `note` says what it is."""

    facts: Facts
    note: str

    def ask(self, numbers: Sequence[int]) -> list[Answer]:
        """Answers to the queries of these numbers, one after another, each timed."""
        ...

    def everything(self, numbers: Sequence[int]) -> list[Answer]:
        """The same answers, perhaps many at a time."""
        ...

    def close(self) -> None: ...


def allocated(folder: Path, without: Path | None = None, only: str = "*") -> int:
    """Allocated bytes of the files in a folder, as `EdgeStore.disk_bytes` counts them."""
    files = (it for it in folder.rglob(only) if without is None or not it.is_relative_to(without))
    return sum(it.stat().st_blocks * 512 for it in files if it.is_file())


class _OneByOne(ABC):
    """Answers one query after another."""

    def ask(self, numbers: Sequence[int]) -> list[Answer]:
        answers = []
        for number in numbers:
            started = time.perf_counter()
            scores = self._answer(number)
            answers.append(Answer(scores, 1e3 * (time.perf_counter() - started)))
        return answers

    def everything(self, numbers: Sequence[int]) -> list[Answer]:
        return self.ask(numbers)

    def close(self) -> None:  # noqa: B027
        """Nothing is open."""

    @abstractmethod
    def _answer(self, number: int) -> dict[str, float]:
        """The best documents of one query, and their scores."""


class Ours(_OneByOne):
    """This library, through its own ingest and search."""

    def __init__(self, task: Task, home: Path, recipe: Recipe, encoder: Encoder) -> None:
        self._task = task
        self._store = open_store(path=home)
        self._collection = Collection.create(self._store, "peers", recipe, encoder)
        loaded = Loaded(encoder, dict(zip(task.texts, task.passages, strict=True)))
        started = time.perf_counter()
        report = ingest(self._collection, loaded, task.documents, chunking=Chunking())
        seconds = time.perf_counter() - started
        if report.passages != len(task.documents):
            raise AssertionError(f"{report.passages} passages of {len(task.documents)} are there")
        at_rest = (self._store.disk_bytes("peers", log=False) or 0) / report.passages
        self.facts = Facts(at_rest, report.bytes_per_passage["total"], seconds)
        made = self._collection.recipe
        self.note = (
            f"this library on Qdrant Edge: layout {made.layout}, reduction {made.reduction or 'none'}, codec "
            f"{made.codec}, CLS {made.cls}; {CANDIDATES} candidates by CLS, reranked by MaxSim. At rest: "
            "vectors, HNSW where there is one, texts, titles and ids."
        )

    def _answer(self, number: int) -> dict[str, float]:
        ranking = rank(
            self._collection, self._task.queries[number], SearchOptions(k=TOP, candidates=CANDIDATES)
        )
        (hits,) = fetch(self._collection, [ranking])
        return {hit.id: hit.score for hit in hits}

    def close(self) -> None:
        self._store.close()


class Edge(_OneByOne):
    """Qdrant Edge by its own interface, without this library.

    Args:
        task: what to write.
        home: a new folder.
        tokens: whether to write token vectors and to rerank by them.
    """

    def __init__(self, task: Task, home: Path, tokens: bool) -> None:
        self._task, self._tokens = task, tokens
        width = len(task.passages[0].cls)
        vectors = {"cls": edge.EdgeVectorParams(width, edge.Distance.Dot)}
        if tokens:
            vectors["tokens"] = edge.EdgeVectorParams(
                task.passages[0].tokens.shape[1],
                edge.Distance.Dot,
                multivector_config=edge.MultiVectorConfig(edge.MultiVectorComparator.MaxSim),
                hnsw_config=edge.HnswIndexConfig(m=0, ef_construct=100, full_scan_threshold=10_000),
            )
        home.mkdir()
        self._shard = edge.EdgeShard.create(str(home), edge.EdgeConfig(vectors=vectors, wal_enabled=True))
        started = time.perf_counter()
        for numbers in batched(range(len(task.documents)), WINDOW):
            self._shard.update(edge.UpdateOperation.upsert_points(list(map(self._point, numbers))))
        self._shard.optimize()
        self._shard.flush()
        seconds = time.perf_counter() - started
        count = len(task.documents)
        at_rest = allocated(home, without=home / "wal") / count
        floats = width + (task.tokens * task.passages[0].tokens.shape[1] / count if tokens else 0)
        self.facts = Facts(at_rest, _FLOAT * floats, seconds)
        what = f"{CANDIDATES} candidates by CLS, reranked by its MaxSim" if tokens else "nearest by CLS"
        self.note = (
            f"Qdrant Edge by its own interface, float32 {' and '.join(vectors)}, default settings"
            f"{', no graph over tokens' if tokens else ''}; {what}. At rest: vectors, HNSW where there is "
            "one, texts, titles and ids."
        )

    def _point(self, number: int) -> Any:
        vectors, payload = _written(self._task, number, self._tokens)
        return edge.Point(point_id(payload["id"], 0), vectors, payload)

    def _answer(self, number: int) -> dict[str, float]:
        query = self._task.queries[number]
        nearest = edge.Query.Nearest(query.cls.tolist(), "cls")
        if self._tokens:
            request = edge.QueryRequest(
                limit=TOP,
                query=edge.Query.Nearest(query.tokens.tolist(), "tokens"),
                prefetches=[edge.Prefetch(limit=CANDIDATES, query=nearest)],
                with_payload=True,
            )
            found = self._shard.query(request)
        else:
            found = self._shard.search(edge.SearchRequest(query=nearest, limit=TOP, with_payload=True))
        return {point.payload["id"]: point.score for point in found}

    def close(self) -> None:
        self._shard.close()


def _written(task: Task, number: int, tokens: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Vectors and payload of a passage, as lists."""
    document, passage = task.documents[number], task.passages[number]
    vectors: dict[str, Any] = {"cls": passage.cls.tolist()}
    if tokens:
        vectors["tokens"] = passage.tokens.tolist()
    return vectors, {"id": document.id, "text": document.text, "title": document.title}


class Server(_OneByOne):
    """A Qdrant server by qdrant-client, without this library.

    Args:
        task: what to write, to a collection of its own, which is deleted in the end.
        url: of the server.
    """

    def __init__(self, task: Task, url: str) -> None:
        self._task, self._name = task, f"connector-peers-{uuid.uuid4().hex}"
        self._client = QdrantClient(url, api_key=api_key_from_environment(), timeout=600)
        size = task.passages[0].tokens.shape[1]
        tokens = models.VectorParams(
            size=size,
            distance=models.Distance.DOT,
            multivector_config=models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM),
            hnsw_config=models.HnswConfigDiff(m=0),
        )
        dense = models.VectorParams(size=len(task.passages[0].cls), distance=models.Distance.DOT)
        self._client.create_collection(self._name, vectors_config={"cls": dense, "tokens": tokens})
        try:
            started = time.perf_counter()
            for numbers in self._requests():
                self._client.upsert(self._name, list(map(self._point, numbers)), wait=True)
            while self._client.get_collection(self._name).status != models.CollectionStatus.GREEN:
                time.sleep(0.2)
            seconds = time.perf_counter() - started
        except BaseException:
            self.close()
            raise
        floats = len(task.passages[0].cls) + task.tokens * size / len(task.documents)
        self.facts = Facts(None, _FLOAT * floats, seconds)
        self.note = (
            f"a Qdrant server by qdrant-client over REST, as on Edge; {WINDOW} passages a request, or as "
            "many as fit. Its size at rest is not told, and its threads are its own."
        )

    def _requests(self) -> Iterator[list[int]]:
        batch: list[int] = []
        total = 0
        for number, passage in enumerate(self._task.passages):
            size = _BYTES_PER_FLOAT * (passage.tokens.size + passage.cls.size)
            if batch and (len(batch) == WINDOW or total + size > _REQUEST):
                yield batch
                batch, total = [], 0
            batch.append(number)
            total += size
        yield batch

    def _point(self, number: int) -> models.PointStruct:
        vectors, payload = _written(self._task, number, True)
        return models.PointStruct(id=point_id(payload["id"], 0), vector=vectors, payload=payload)

    def _answer(self, number: int) -> dict[str, float]:
        query = self._task.queries[number]
        found = self._client.query_points(
            self._name,
            query=query.tokens.tolist(),
            using="tokens",
            prefetch=models.Prefetch(query=query.cls.tolist(), using="cls", limit=CANDIDATES),
            limit=TOP,
            with_payload=True,
        )
        return {(point.payload or {})["id"]: point.score for point in found.points}

    def close(self) -> None:
        self._client.delete_collection(self._name)
        self._client.close()


class Exhaustive(_OneByOne):
    """sentence-transformers' own MaxSim over every passage, sorted by length so that little is padded."""

    note = (
        "sentence-transformers' own maxsim over all passages, float32 in memory, sorted by length, top "
        f"{TOP}; it does without an index, and nothing is at rest."
    )

    def __init__(self, task: Task) -> None:
        order = sorted(range(len(task.passages)), key=lambda it: len(task.passages[it]))
        self._ids = [task.documents[it].id for it in order]
        self._passages = [torch.from_numpy(task.passages[it].tokens) for it in order]
        self._queries = [torch.from_numpy(it.tokens) for it in task.queries]
        width = task.passages[0].tokens.shape[1]
        self.facts = Facts(None, _FLOAT * width * task.tokens / len(task.documents), None)

    def _answer(self, number: int) -> dict[str, float]:
        return self._best([number])[0]

    def everything(self, numbers: Sequence[int]) -> list[Answer]:
        found = (self._best(some) for some in batched(numbers, 8))
        return [Answer(scores, 0.0) for some in found for scores in some]

    def _best(self, numbers: list[int]) -> list[dict[str, float]]:
        scores = similarity.maxsim([self._queries[it] for it in numbers], self._passages)
        values, places = scores.topk(min(TOP, len(self._ids)))
        return [
            {self._ids[place]: value for place, value in zip(*both, strict=True)}
            for both in zip(places.tolist(), values.tolist(), strict=True)
        ]


class BM25(_OneByOne):
    """bm25s on titles and texts."""

    note = (
        "bm25s with its defaults and English stop words, on title and text. Its tokenizer is left out of the "
        "times, as the encoder is. At rest: what its save writes; neither texts nor ids."
    )

    def __init__(self, task: Task, home: Path) -> None:
        import bm25s

        def tokenized(texts: list[str]) -> Any:
            return bm25s.tokenize(texts, stopwords="en", return_ids=False, show_progress=False)

        passages = tokenized(task.texts)
        self._ids = [it.id for it in task.documents]
        self._queries = tokenized(list(task.judged.queries.values()))
        self._index = bm25s.BM25()
        started = time.perf_counter()
        self._index.index(passages, show_progress=False)
        self._index.save(home)
        seconds = time.perf_counter() - started
        self.facts = Facts(allocated(home) / len(self._ids), None, seconds)

    def _answer(self, number: int) -> dict[str, float]:
        count = min(TOP, len(self._ids))
        places, scores = self._index.retrieve([self._queries[number]], k=count, show_progress=False)
        found = zip(places[0].tolist(), scores[0].tolist(), strict=True)
        return {self._ids[place]: score for place, score in found}


def server(task: Task) -> Server:
    """The server that the environment names.

    Raises:
        LookupError: it names none.
    """
    url = os.environ.get("QDRANT_URL")
    if not url:
        raise LookupError("no server; set QDRANT_URL")
    return Server(task, url)
