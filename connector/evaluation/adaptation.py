"""How a collection's tokens are best scored for a task, found out from a few queries and their answers.

Candidates are found once a query and their tokens read once; then they are scored by every strategy, an
alignment and a share of the CLS vectors. No weight changes and no point is written. Source: Qian et al.,
"Multi-Vector Retrieval as Sparse Alignment" (ALIGNER), 2022, which chooses each task's alignment so.

Of few examples the best strategy is mostly the luckiest one, so `pick` asks for more than a better mean.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from connector.collection.collection import Collection
from connector.collection.documents.points import fold
from connector.collection.pipeline import QueryTokens, StoredTokens, scores
from connector.collection.search.options import SearchOptions
from connector.collection.search.rerank import codec_of, query_tokens, stored
from connector.collection.search.search import rank
from connector.core.errors import CollectionError, InputError
from connector.core.types import Embedding, Float32, check_text
from connector.encoders import Encoder
from connector.evaluation.metrics import DEPTH, ndcg
from connector.scoring.alignment import Alignment, TopK, TopP
from connector.scoring.maxsim import maxsim
from connector.stores import Record

Float64 = NDArray[np.float64]


TOP_K = (1, 2, 4, 6, 8)


TOP_P = (0.5, 1, 1.5, 2)
"""In percent."""


CLS_WEIGHTS = (0, 0.25, 0.5)


_NAMED = 5
"""How many unknown ids an error names."""


@dataclass(frozen=True, slots=True)
class Strategy:
    """A way to score: w·CLS + (1 − w)·aligned, both means of cosines.

    Args:
        alignment: which tokens count; None is the sum of MaxSim, which only a collection whose model came
            with a share of CLS mixes.
        cls_weight: w; None is 0.
    """

    alignment: Alignment | None
    cls_weight: float | None = None

    @property
    def name(self) -> str:
        """For a person, such as "top-2, CLS 0.25"."""
        tokens = "maxsim" if self.alignment is None else self.alignment.spec
        return tokens if self.cls_weight is None else f"{tokens}, CLS {self.cls_weight:g}"

    def steps(self, other: Strategy) -> int:
        """How many changes apart they are: places in `TOP_K`, in `TOP_P` and in `CLS_WEIGHTS`.

        The shares begin beside top-1, on its other side. Different strategies are at least 1 apart.
        """
        if self == other:
            return 0
        mine, yours = self._place, other._place
        return max(1, abs(mine[0] - yours[0]) + abs(mine[1] - yours[1]))

    @property
    def _place(self) -> tuple[int, int]:
        share = bisect_left(CLS_WEIGHTS, self.cls_weight or 0)
        if isinstance(self.alignment, TopP):
            return -1 - bisect_left(TOP_P, self.alignment.percent), share
        return bisect_left(TOP_K, 1 if self.alignment is None else self.alignment.k), share


ALIGNMENTS: tuple[Alignment, ...] = (*map(TopK, TOP_K), *map(TopP, TOP_P))


STRATEGIES: tuple[Strategy, ...] = tuple(
    Strategy(alignment, weight or None) for weight in CLS_WEIGHTS for alignment in ALIGNMENTS
)
"""What is tried, less CLS before more, counts before shares, small before large."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A strategy, and the mean nDCG@10 of the examples when candidates are ordered by it."""

    strategy: Strategy
    ndcg: float


@dataclass(frozen=True, slots=True)
class Adaptation:
    """What the examples say.

    Args:
        results: all strategies: the one that the collection was made for, then by their steps from it.
        before: the one that it was made for, whatever it was adapted to since.
        chosen: the one that `pick` picks; often the same.
        leave_one_out: mean nDCG@10 of each example by the strategy that is picked without it. What the
            choice is worth for other queries: `chosen.ndcg` flatters it, as it is measured on the examples
            that it was chosen by.
        queries: how many queries the examples have.
        missing: those of them that have no answer among their candidates. They count as 0 whatever the
            strategy, and tell nothing.
        saved: whether the collection was changed; it is not where it has what is chosen.
    """

    results: tuple[Measured, ...]
    before: Measured
    chosen: Measured
    leave_one_out: float
    queries: int
    missing: tuple[str, ...]
    saved: bool


def adapt(
    collection: Collection,
    encoder: Encoder,
    examples: Iterable[tuple[str, str]],
    *,
    save: bool = False,
    candidates: int = 100,
) -> Adaptation:
    """Choose a strategy by examples, and with `save` score by it from now on.

    Args:
        collection: made by the encoder.
        encoder: encodes the queries.
        examples: pairs of a query and the id of a document that answers it, of at least two queries; a query
            with several answers comes several times.
        save: whether to store the choice with the collection, `Collection.adapt`.
        candidates: passages found for each query, as in a search; at least 10 are.

    Raises:
        InputError: the examples cannot be used, or none of them has its answer among the candidates.
        CollectionError: the collection stores no tokens.
    """
    if collection.recipe.layout == "dense":
        raise CollectionError(
            f"collection {collection.name!r} stores no tokens to align; ingest into another collection with "
            "--recipe default or compact"
        )
    relevant = _by_query(examples)
    _check_known(collection, relevant)
    strategies = strategies_from(made_for(collection))
    embeddings = encoder.encode_queries(list(relevant))
    columns, missing = [], []
    for embedding, answers in zip(embeddings, relevant.values(), strict=True):
        rankings = _rankings(collection, embedding, strategies, candidates, encoder.device)
        columns.append([ndcg(ranking, answers) for ranking in rankings])
        if not answers.keys() & set(rankings[0]):
            missing.append(embedding.text)
    if len(missing) == len(relevant):
        raise InputError(
            f"none of the {len(relevant)} queries has an answer among its {candidates} candidates, so there "
            "is nothing to choose by; give more candidates (--candidates), or other examples"
        )
    values = np.array(columns).T
    steps = steps_from(strategies)
    results = tuple(map(Measured, strategies, map(float, values.mean(axis=1))))
    best = results[pick(values, steps)]
    changes = save and (collection.adapted if best is results[0] else best.strategy != current(collection))
    if changes and best is results[0]:
        collection.adapt(None)
    elif changes:
        collection.adapt(best.strategy.alignment, best.strategy.cls_weight)
    return Adaptation(
        results, results[0], best, leave_one_out(values, steps), len(relevant), tuple(missing), changes
    )


def made_for(collection: Collection) -> Strategy:
    """What a collection is scored by if it is not adapted.

    Steps count from there, so that adapting again by the same examples chooses the same.
    """
    alignment, weight = collection.own_scoring
    if alignment is None and not weight:
        alignment = TopK(1)  # MaxSim, and the same order
    return Strategy(alignment, weight or None)


def current(collection: Collection) -> Strategy:
    """What a collection is scored by now."""
    return Strategy(collection.alignment, collection.cls_weight)


def strategies_from(start: Strategy) -> list[Strategy]:
    """All strategies, this one first, then by their steps from it; of as many steps as in `STRATEGIES`."""
    others = [strategy for strategy in STRATEGIES if strategy != start]
    return [start, *sorted(others, key=start.steps)]


def steps_from(strategies: Sequence[Strategy]) -> NDArray[np.int64]:
    """(S,) of each strategy the steps from the first."""
    return np.array([strategies[0].steps(strategy) for strategy in strategies])


def pick(values: Float64, steps: NDArray[np.int64]) -> int:
    """The number of the strategy to choose by a measure of examples.

    For each step from the first strategy, the one in use, another must be better than it by one standard
    error of the mean of their paired differences; the one that is better by the most beyond that is chosen,
    and if there is none, the first. Of equal ones the first is taken. It is the rule of one standard error
    (Breiman et al., "Classification and Regression Trees", 1984, section 3.4.3), paid at each step: as
    simpler is what is nearer to what was in use, the evidence has to be the better the more is changed. With
    8 examples the best mean alone loses more than it wins: `benchmarks/adaptation.py` has both.

    Args:
        values: (S, n) of each strategy and example, the larger the better.
        steps: (S,) of each strategy, 0 for the first.
    """
    examples = values.shape[1]
    if examples < 2:
        return 0
    differences = values - values[0]
    errors = differences.std(axis=1, ddof=1) / np.sqrt(examples)
    margins = differences.mean(axis=1) - steps * errors
    return int(np.round(margins, 9).argmax())  # of examples in another order, sums differ in the last digits


def leave_one_out(values: Float64, steps: NDArray[np.int64]) -> float:
    """Mean over the examples of each one's value (S, n) by the strategy that `pick` picks without it."""
    numbers = range(values.shape[1])
    return float(np.mean([values[pick(np.delete(values, left, axis=1), steps), left] for left in numbers]))


def _rankings(
    collection: Collection, query: Embedding, strategies: Sequence[Strategy], candidates: int, device: str
) -> list[list[str]]:
    """Of each strategy the ids of one query's candidate documents, best first."""
    ranking = rank(
        collection,
        query,
        SearchOptions(k=DEPTH, candidates=candidates, rerank="client"),
        device=device,
    )
    found = ranking.found
    if not found:
        return [[] for _ in strategies]
    cls = np.array([parts["cls"] for parts in ranking.parts])
    passages, question = stored(collection, found), query_tokens(collection, query)
    table = all_scores(collection, question, passages, cls, strategies, device)
    return [best_first(found, row) for row in table]


def all_scores(
    collection: Collection,
    query: QueryTokens,
    passages: StoredTokens,
    cls: Float64,
    strategies: Sequence[Strategy],
    device: str,
) -> Float64:
    """(S, P) scores of passages by each strategy, as a search gives them.

    Args:
        collection: where the passages are.
        query: as the collection asks with it.
        passages: P of them.
        cls: (P,) cosines of their CLS vectors with the query's.
        strategies: S of them.
        device: "cpu" or a CUDA device.
    """
    found: dict[Alignment | None, Float32] = {}
    table = np.empty((len(strategies), len(cls)))
    for row, strategy in zip(table, strategies, strict=True):
        alignment, weight = strategy.alignment, strategy.cls_weight
        if weight is None and alignment == TopK(1) and _folded(collection):
            row[:] = _as_qdrant(collection, query, passages, device)
            continue
        if alignment not in found:
            found[alignment] = scores(codec_of(collection), query, passages, alignment, device)
        tokens = found[alignment].astype(np.float64)
        row[:] = tokens if weight is None else weight * cls + (1 - weight) * tokens
    return table


def _folded(collection: Collection) -> bool:
    """Whether top-1 alone is scored by Qdrant, over rows as long as they are salient."""
    return collection.recipe.layout == "multivector" and collection.recipe.saliency


def _as_qdrant(collection: Collection, query: QueryTokens, passages: StoredTokens, device: str) -> Float32:
    rows = passages.rows if passages.saliency is None else fold(passages.rows, passages.saliency)
    return maxsim(codec_of(collection).scorer(query.weighted, device), rows, passages.lengths)


def best_first(found: Sequence[Record], scored: Float64) -> list[str]:
    """The ids of candidates' documents, each where its best passage is, in the order of a search."""
    places = [(record.payload["id"], record.payload["passage"]) for record in found]
    order = sorted(range(len(places)), key=lambda i: (-scored[i], places[i]))
    return list(dict.fromkeys(places[i][0] for i in order))


def _by_query(examples: Iterable[tuple[str, str]]) -> dict[str, dict[str, int]]:
    """Query to the ids of its answers, each of grade 1."""
    relevant: dict[str, dict[str, int]] = {}
    for number, pair in enumerate(examples, 1):
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise InputError(f"example {number} is {pair!r}; give a pair of a query and a document's id")
        query, answer = pair
        if not isinstance(query, str) or not query.strip():
            raise InputError(f"example {number} has the query {query!r}; give a text")
        if not isinstance(answer, str) or not answer:
            raise InputError(f"example {number}, {query!r}, has the id {answer!r}; give a document's id")
        check_text(query, f"the query of example {number}")
        check_text(answer, f"the id of example {number}")
        relevant.setdefault(query, {})[answer] = 1
    if len(relevant) < 2:
        raise InputError(
            f"there are examples of {len(relevant)} queries; give at least 2, and better 8 or more"
        )
    return relevant


def _check_known(collection: Collection, relevant: Mapping[str, Mapping[str, int]]) -> None:
    first = {answer: collection.point_id(answer, 0) for answers in relevant.values() for answer in answers}
    there = collection.store.retrieve(collection.physical, list(first.values()), ["id"])
    unknown = [answer for answer, point in first.items() if point not in there]
    if unknown:
        names = ", ".join(map(repr, unknown[:_NAMED]))
        names += f" and {len(unknown) - _NAMED} more" if len(unknown) > _NAMED else ""
        raise InputError(
            f"collection {collection.name!r} holds no document {names}; give "
            "ids that it holds, such as a search shows, or ingest these documents first"
        )
