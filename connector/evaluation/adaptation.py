"""How a collection's tokens are best scored for a task, found out from a few queries and their answers.

Candidates are found and read once a query; then they are scored by every strategy, an alignment and a
share of the CLS vectors. No weight changes and no point is written. Source: Qian et al.,
"Multi-Vector Retrieval as Sparse Alignment" (ALIGNER), 2022, which chooses each task's alignment so.

Of few examples the best strategy is mostly the luckiest one, so `pick` asks for more than a better mean.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from connector.collection.collection import Collection
from connector.collection.documents.document_state import states
from connector.collection.search.candidates import Plan
from connector.collection.search.options import SearchOptions
from connector.collection.search.search import rank
from connector.core.errors import CollectionError, InputError
from connector.core.types import Embedding
from connector.encoders import Encoder
from connector.evaluation.beir import judged_examples
from connector.evaluation.metrics import DEPTH, Float64, ndcg
from connector.evaluation.ranking import Ranking, best_first
from connector.scoring.alignment import Alignment, TopK, TopP
from connector.stores import Record

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
    relevant = judged_examples(examples).qrels
    _check_known(collection, [answer for answers in relevant.values() for answer in answers])
    strategies = strategies_from(made_for(collection))
    embeddings = encoder.encode_queries(list(relevant))
    columns, missing = [], []
    for (query, answers), embedding in zip(relevant.items(), embeddings, strict=True):
        rankings = _rankings(collection, embedding, strategies, candidates, encoder.device)
        columns.append(ndcg(rankings, [answers] * len(rankings)))
        if answers.keys().isdisjoint(rankings[0]):
            missing.append(query)
    if len(missing) == len(relevant):
        raise InputError(
            f"none of the {len(relevant)} queries has an answer among its {candidates} candidates, so there "
            "is nothing to choose by; give more candidates (--candidates), or other examples"
        )
    values = np.stack(columns, axis=1)
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
) -> list[Ranking]:
    """Of each strategy the ids of one query's candidate documents, best first."""
    options = SearchOptions(k=DEPTH, candidates=candidates, rerank="client")
    found = rank(collection, query, options, device=device).found
    plan = Plan.of(collection, query, options, device)
    rankings = []
    for strategy in strategies:
        scored = scores_by(plan, strategy, found)
        passages = [(record.payload["id"], record.payload["passage"]) for record, _ in scored]
        rankings.append(best_first(passages, [score for _, score in scored]))
    return rankings


def scores_by(plan: Plan, strategy: Strategy, found: list[Record]) -> list[tuple[Record, float]]:
    """Candidates and their scores by a strategy, as a search gives them.

    Args:
        plan: of a search whose candidates the client scores.
        strategy: takes the place of how the plan scores.
        found: the plan's candidates.
    """
    plan = replace(plan, alignment=strategy.alignment, weight=strategy.cls_weight)
    recipe = plan.collection.recipe
    folded = recipe.layout == "multivector" and recipe.saliency
    if found and folded and strategy == Strategy(TopK(1)):  # Qdrant's own, over rows as long as salient
        plan = replace(plan, mode="server")
        found = plan.candidates(len(found), len(found))
    parts = plan.parts(found)
    return [(record, list(part.values())[-1]) for record, part in zip(found, parts, strict=True)]


def _check_known(collection: Collection, answers: Sequence[str]) -> None:
    there = states(collection, answers)
    unknown = [answer for answer in dict.fromkeys(answers) if answer not in there]
    if unknown:
        names = ", ".join(map(repr, unknown[:_NAMED]))
        names += f" and {len(unknown) - _NAMED} more" if len(unknown) > _NAMED else ""
        raise InputError(
            f"collection {collection.name!r} holds no document {names}; give "
            "ids that it holds, such as a search shows, or ingest these documents first"
        )
