"""How a collection's tokens are best scored for a task, found out from a few queries and their answers.

Candidates are found and read once a query; then they are scored by every strategy: an alignment, a fusion of
tokens, words and CLS vectors, and feedback. No weight of the model changes and no point is written. Source:
Qian et al., "Multi-Vector Retrieval as Sparse Alignment" (ALIGNER), 2022, which chooses each task's alignment
so.

Of few examples the best strategy is mostly the luckiest one, so `pick` asks for more than a better mean.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from connector.collection.collection import Collection
from connector.collection.search.candidates import Plan
from connector.collection.search.found import Found
from connector.collection.search.options import search_options
from connector.collection.search.scored import Scored
from connector.core.errors import CollectionError, InputError
from connector.core.types import Embedding
from connector.encoders import Encoder
from connector.encoders.long_queries import tell_of_long
from connector.evaluation.beir import judged_examples
from connector.evaluation.corpus import check_known
from connector.evaluation.metrics import DEPTH, Float64, ndcg
from connector.evaluation.ranking import Ranking, best_first
from connector.scoring.alignment import Alignment, TopK, TopP
from connector.scoring.feedback import Feedback
from connector.scoring.fusion import Fusion
from connector.scoring.strategy import TOKENS_ALONE, Strategy, weighted
from connector.stores.schema import LEXICAL

TOP_K = (1, 2, 4, 6, 8)


TOP_P = (0.5, 1, 1.5, 2)
"""In percent."""


CLS_WEIGHTS = (0, 0.25, 0.5)
"""Of a score that is not scaled, w · CLS + (1 − w) · tokens."""


WEIGHTS = (0, 0.25, 0.5, 1)
"""Of words and of CLS vectors, beside tokens, where each is scaled."""


FEEDBACK: tuple[Feedback | None, ...] = (None, Feedback(codes=1), Feedback(codes=3))


ALIGNMENTS: tuple[Alignment, ...] = (*map(TopK, TOP_K), *map(TopP, TOP_P))


def steps_between(one: Strategy, other: Strategy) -> int:
    """How many changes apart two strategies are: places in `TOP_K`, in `TOP_P` and among the weights.

    The shares begin beside top-1, on its other side. Different strategies are at least 1 apart.
    """
    if one == other:
        return 0
    places = zip(_places(one), _places(other), strict=True)
    return max(1, sum(abs(mine - yours) for mine, yours in places))


def _places(strategy: Strategy) -> tuple[int, ...]:
    alignment, fusion = strategy.alignment, strategy.fusion
    if isinstance(alignment, TopP):
        spread = -1 - bisect_left(TOP_P, alignment.percent)
    else:
        spread = bisect_left(TOP_K, 1 if alignment is None else alignment.k)
    weights = CLS_WEIGHTS if fusion.method == "sum" else WEIGHTS
    feedback = 0.0 if strategy.feedback is None else strategy.feedback.codes
    speaking = bisect_left([0.0, 1.0, 3.0], feedback)
    return spread, bisect_left(weights, fusion.bm25), bisect_left(weights, fusion.cls), speaking


def strategies_from(start: Strategy, words: bool = False, codes: bool = False) -> list[Strategy]:
    """What is tried: this one first, then by their steps from it.

    Args:
        start: what the collection is made for. Where it is not scaled, each alignment with each share of the
            CLS vectors; else one thing at a time is changed: alignment, weights, feedback.
        words: whether the collection has an index of words.
        codes: whether it has codes for feedback.
    """
    if start.fusion.method == "sum":
        found = [Strategy(alignment, weighted(share)) for share in CLS_WEIGHTS for alignment in ALIGNMENTS]
    else:
        weights = [(bm25, cls) for bm25 in (WEIGHTS if words else (0,)) for cls in WEIGHTS]
        fusions = [replace(start.fusion, tokens=1.0, bm25=bm25, cls=cls) for bm25, cls in weights]
        found = [replace(start, alignment=alignment) for alignment in ALIGNMENTS if alignment != TopK(1)]
        found += [replace(start, fusion=fusion) for fusion in fusions]
        found += [replace(start, feedback=feedback) for feedback in (FEEDBACK if codes else ())]
    others = [strategy for strategy in dict.fromkeys(found) if strategy != start]
    return [start, *sorted(others, key=lambda it: steps_between(start, it))]


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
    candidates: int | None = None,
) -> Adaptation:
    """Choose a strategy by examples, and with `save` score by it from now on.

    Args:
        collection: made by the encoder.
        encoder: encodes the queries.
        examples: pairs of a query and the id of a document that answers it, of at least two queries; a query
            with several answers comes several times.
        save: whether to store the choice with the collection, `Collection.adapt`.
        candidates: passages found for each query, as in a search; at least 10 are. None: as many.

    Raises:
        InputError: the examples cannot be used, or none of them has its answer among the candidates.
        CollectionError: the collection stores no tokens.
    """
    if collection.recipe.layout == "dense":
        raise CollectionError(
            f"collection {collection.name!r} stores no tokens to align; ingest into another collection with "
            "--recipe default"
        )
    relevant = judged_examples(examples).qrels
    check_known(collection, [answer for answers in relevant.values() for answer in answers])
    codes = collection.recipe.layout == "codes"
    words = collection.recipe.lexical is not None and collection.metadata.filling != LEXICAL
    strategies = strategies_from(made_for(collection), words, codes)
    embeddings = encoder.encode_queries(list(relevant))
    tell_of_long(embeddings)
    columns, missing = [], []
    for (query, answers), embedding in zip(relevant.items(), embeddings, strict=True):
        rankings = _rankings(collection, embedding, strategies, candidates, encoder.device)
        columns.append(ndcg(rankings, [answers] * len(rankings)))
        if answers.keys().isdisjoint(rankings[0]):
            missing.append(query)
    if len(missing) == len(relevant):
        raise InputError(
            f"none of the {len(relevant)} queries has an answer among its candidates, so there "
            "is nothing to choose by; give more candidates (--candidates), or other examples"
        )
    values = np.stack(columns, axis=1)
    steps = steps_from(strategies)
    results = tuple(map(Measured, strategies, map(float, values.mean(axis=1))))
    best = results[pick(values, steps)]
    changes = save and (collection.adapted if best is results[0] else best.strategy != collection.strategy)
    if changes:
        collection.adapt(None if best is results[0] else best.strategy)
    return Adaptation(
        results, results[0], best, leave_one_out(values, steps), len(relevant), tuple(missing), changes
    )


def made_for(collection: Collection) -> Strategy:
    """What a collection is scored by if it is not adapted.

    Steps count from there, so that adapting again by the same examples chooses the same.
    """
    own = collection.own_scoring
    if own.alignment is None and own.fusion == TOKENS_ALONE:
        return replace(own, alignment=TopK(1))  # MaxSim, and the same order
    return own


def steps_from(strategies: Sequence[Strategy]) -> NDArray[np.int64]:
    """(S,) of each strategy the steps from the first."""
    return np.array([steps_between(strategies[0], strategy) for strategy in strategies])


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
    collection: Collection,
    query: Embedding,
    strategies: Sequence[Strategy],
    candidates: int | None,
    device: str,
) -> list[Ranking]:
    """Of each strategy the ids of one query's candidate documents, best first."""
    options = search_options(k=DEPTH, candidates=candidates, rerank="client")
    plan = Plan.of(collection, query, options, device)
    weighs = {name for strategy in strategies for name in strategy.fusion.weights}
    found = replace(plan, fusion=Fusion("minmax", **dict.fromkeys(weighs, 1.0))).candidates(plan.limit)
    rankings = []
    for strategy in strategies:
        scored = scored_by(plan, strategy, found)
        passages = [(record.payload["id"], record.payload["passage"]) for record in scored.found.records]
        rankings.append(best_first(passages, scored.totals.tolist()))
    return rankings


def scored_by(plan: Plan, strategy: Strategy, found: Found) -> Scored:
    """Candidates scored by a strategy, as a search scores them.

    Args:
        plan: of a search whose candidates the client scores.
        strategy: takes the place of how the plan scores.
        found: the plan's candidates, with the score of each part that a strategy weighs.
    """
    feedback = "none" if strategy.feedback is None else strategy.feedback
    options = plan.options.model_copy(update={"feedback": feedback})
    plan = replace(plan, options=options, alignment=strategy.alignment, fusion=strategy.fusion)
    recipe = plan.collection.recipe
    folded = recipe.layout == "multivector" and recipe.saliency
    if found.records and folded and (strategy.alignment, strategy.fusion) == (TopK(1), TOKENS_ALONE):
        plan = replace(plan, mode="server")  # Qdrant's own, over rows as long as salient
        found = plan.candidates(plan.limit)
        return Scored.of(plan, found)
    return Scored.of(plan, plan.rescored(found)).with_feedback(plan)
