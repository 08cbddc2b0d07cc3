"""Quality as a number: documents through a real collection, or a run as it is; measures from ir-measures."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from connector.collection.collection import Collection
from connector.collection.documents.writer import IngestReport
from connector.collection.ingest import ingest
from connector.collection.recipe import Recipe
from connector.collection.search.candidates import POOL
from connector.collection.search.options import SearchKeywords, SearchOptions, search_options
from connector.collection.search.search import fetch, rank
from connector.collection.search.strategy import strategy_of
from connector.core.errors import InputError, SourceError, one_line
from connector.core.sources import Source
from connector.core.types import Embedding
from connector.encoders import Encoder
from connector.encoders.cache import CachedEncoder
from connector.encoders.chunking import Chunking
from connector.encoders.long_queries import encode_queries, tell_of_long
from connector.evaluation.beir import Judged, load_judged
from connector.evaluation.corpus import Corpus, survey
from connector.evaluation.metrics import DEPTH, measure
from connector.evaluation.own import without_own
from connector.evaluation.trec import Qrels, Run, falling
from connector.stores import open_store


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The result of one evaluation; `run` has the scores that it was computed from.

    Args:
        dataset: the folder's name.
        model, recipe: their names.
        scored_by: how tokens were scored, such as "MaxSim" or "top-2, CLS with weight 0.3"; None if there are
            none.
        queries, documents: how many.
        queries_truncated: how many queries are longer than the model's window.
        missing: documents that answer a query and are not in the corpus; they count as not found.
        own_left_out: documents with their query's own id that were left out of the rankings.
        skipped: what is wrong with the records and documents that were left out of the corpus.
        measures: "nDCG@10", "R@100", "RR@10" and "P@10", means over all judged queries.
        bytes_per_passage: mean bytes of a passage's vectors: "cls", "tokens", "total".
        at_rest_per_passage: mean bytes of a passage on disk: "data" with text, metadata and indexes, and
            "log", Qdrant's write-ahead log, which does not grow with the collection.
        tokens_per_passage: mean stored token vectors of a passage.
        query_ms: "p50" and "p95" of a search for 10 hits, without encoding the query.
        documents_per_second: ingest, encoding included also where it was done by an earlier run.
        run: the scores, best first.
    """

    dataset: str
    model: str
    recipe: str
    scored_by: str | None
    queries: int
    documents: int
    queries_truncated: int
    missing: int
    own_left_out: int
    skipped: list[str]
    measures: dict[str, float]
    bytes_per_passage: dict[str, float]
    at_rest_per_passage: dict[str, float]
    tokens_per_passage: float
    query_ms: dict[str, float]
    documents_per_second: float
    run: Run


def evaluate(
    source: Path,
    encoder: Encoder,
    recipe: Recipe,
    *,
    split: str = "test",
    judged: Judged | None = None,
    corpus: Corpus | None = None,
    cache: Path | None = None,
    min_relevance: int = 1,
    keep_own: bool = False,
    skip_bad: bool = False,
    progress: Callable[[IngestReport], None] | None = None,
    **search: Unpack[SearchKeywords],
) -> Evaluation:
    """Ingest documents into a collection in a temporary folder, search it, and measure.

    Args:
        source: a BEIR folder; or with `judged` any source of `connector ingest`.
        encoder: encodes passages and queries.
        recipe: what is stored.
        split: the judgements to use.
        judged: queries and judgements, in place of the folder's.
        corpus: what `survey` said of the source, if it was asked.
        cache: keep the encoder's output in this folder.
        min_relevance: the least grade that R, RR and P count as relevant.
        keep_own: leave a document with the query's own id in its ranking; see `connector.evaluation.own`.
        skip_bad: leave unusable records of the corpus out.
        progress: called after each write.
        search: options of `SearchOptions`; 200 candidates if it is not said, all of which are ranked.

    Raises:
        InputError: an option of the search cannot be used.
        SourceError: the source cannot be read, or has no judged queries, or none of their documents.
    """
    given = {"candidates": POOL, **search}
    options = search_options(**given, k=given["candidates"])
    options.check(recipe)
    judged = judged or load_judged(source, split)
    documents = Source(source, skip_bad=skip_bad)
    corpus = corpus or survey(str(source), (it.id for it in documents), judged.qrels)
    cached = None if cache is None else CachedEncoder(encoder, cache)
    used = cached or encoder
    with temporary_collection(recipe, encoder) as collection:
        report = ingest(
            collection, used, documents, chunking=Chunking(), skip_bad=skip_bad, progress=progress
        )
        skipped = [*report.bad, *(f"document {id_!r}: {why}" for id_, why in report.refused.items())]
        if not report.passages:
            raise SourceError(one_line(f"no document of {source} can be used: {skipped[0]}"))
        seconds = report.seconds + (cached.spared if cached else 0.0)
        scored = strategy_of(collection, options).name
        at_rest = _at_rest(collection, report.passages)
        queries = encode_queries(used, list(judged.queries.values()), options.long_query == "end")
        found = list(searches(collection, queries, options, encoder.device))
    run, own = {query: scores for query, (scores, _) in zip(judged.queries, found, strict=True)}, 0
    if not keep_own:
        run, own = without_own(run, judged.qrels)
    times = [ms for _, ms in found]
    return Evaluation(
        dataset=source.resolve().name,
        model=encoder.name,
        recipe=recipe.name,
        scored_by=scored,
        queries=len(judged.queries),
        documents=report.documents,
        queries_truncated=tell_of_long(queries),
        missing=len(corpus.missing),
        own_left_out=own,
        skipped=skipped,
        measures=measure(judged.qrels, run, min_relevance),
        bytes_per_passage=report.bytes_per_passage,
        at_rest_per_passage=at_rest,
        tokens_per_passage=round(report.tokens_after / max(report.passages, 1), 2),
        query_ms={f"p{it}": round(float(np.percentile(times, it)), 3) for it in (50, 95)},
        documents_per_second=round(report.documents / seconds, 2),
        run=run,
    )


@contextmanager
def temporary_collection(recipe: Recipe, encoder: Encoder) -> Iterator[Collection]:
    """A collection in an embedded Qdrant, in a temporary folder."""
    with (
        tempfile.TemporaryDirectory(prefix="connector-") as folder,
        closing(open_store(path=folder)) as store,
    ):
        yield Collection.create(store, "temporary", recipe, encoder)


def searches(
    collection: Collection, queries: Iterable[Embedding], options: SearchOptions, device: str
) -> Iterator[tuple[dict[str, float], float]]:
    """Of each encoded query document id to score, in the order of the search and never above the one before;
    and the milliseconds of a search for 10 hits."""
    for query in queries:
        ranking = rank(collection, query, options, device=device)
        (hits,) = fetch(collection, [replace(ranking, order=ranking.order[:DEPTH])])
        yield falling(ranking.scores().items()), hits.ms["total"]


def _at_rest(collection: Collection, passages: int) -> dict[str, float]:
    store, name = collection.store, collection.name
    total, data = store.disk_bytes(name) or 0, store.disk_bytes(name, log=False) or 0
    return {"data": round(data / passages, 1), "log": round(max(total - data, 0) / passages, 1)}


@dataclass(frozen=True, slots=True)
class JudgedRun:
    """What a run is worth.

    Args:
        queries: how many are judged.
        unanswered: how many of them the run lacks; they count as zero.
        unjudged: queries of the run without a judgement; they are left out.
        own_left_out: as of an `Evaluation`.
        measures: as of an `Evaluation`.
    """

    queries: int
    unanswered: int
    unjudged: int
    own_left_out: int
    measures: dict[str, float]


def judge_run(run: Run, qrels: Qrels, min_relevance: int = 1, keep_own: bool = False) -> JudgedRun:
    """Measure a run, such as one that another system made.

    Args:
        run: the scores, as `load_run` reads them.
        qrels: the judgements.
        min_relevance: the least grade that R, RR and P count as relevant.
        keep_own: leave a document with the query's own id in its ranking.

    Raises:
        InputError: no query of the run is judged.
    """
    answered = run.keys() & qrels.keys()
    if not answered:
        names = f"the run has {next(iter(run), None)!r}, the judgements {next(iter(qrels), None)!r}"
        raise InputError(one_line(f"no query of the run is judged: {names}; give judgements of its queries"))
    unanswered, unjudged = len(qrels) - len(answered), len(run) - len(answered)
    run, own = (run, 0) if keep_own else without_own(run, qrels)
    return JudgedRun(len(qrels), unanswered, unjudged, own, measure(qrels, run, min_relevance))


def as_json(evaluation: Evaluation) -> dict[str, Any]:
    """All of it but the run."""
    return {key: getattr(evaluation, key) for key in evaluation.__dataclass_fields__ if key != "run"}
