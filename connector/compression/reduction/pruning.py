"""Pruning by place, rarity, attention and saliency: which k rows are worth keeping."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

import numpy as np

from connector.compression.reduction.base import (
    Budget,
    Need,
    PruningPolicy,
    Rows,
    Setting,
    Step,
    highest,
)
from connector.core.errors import InputError
from connector.core.registry import Method, count
from connector.core.types import Embedding, Float32, Int32, unit

_LASSANCE = "Lassance, Maachou, Park and Clinchant, Learned Token Pruning, SIGIR 2022"


def first(embedding: Embedding, budget: Budget) -> Rows:
    """The first k rows, [CLS] among them. Source: "first-k", Lassance et al., SIGIR 2022."""
    return np.arange(budget.rows(len(embedding)))


def rarest(embedding: Embedding, budget: Budget, rarity: Callable[[Int32], Float32]) -> Rows:
    """The k rows with the rarest tokens; special tokens, which stand in no text, come last.

    With `Frequencies.idf` this is "IDF-k" of Lassance et al., SIGIR 2022, for passages, and with
    `Frequencies.icf` the choice of Tonellotto and Macdonald, CIKM 2021, who look candidates up with these k
    query tokens alone and score with all of them; here candidates come by CLS, and the k tokens score.

    Args:
        embedding: whose rows are chosen.
        budget: k.
        rarity: (n,) token ids to (n,) float32 ≥ 0, larger is rarer.
    """
    return highest(np.where(embedding.special, -1, rarity(embedding.token_ids)), budget)


def most_attended(embedding: Embedding, budget: Budget) -> Rows:
    """The k rows that the passage's tokens attend to most in the encoder's last layer.

    Row j's score is Σₕ Σᵢ Aₕ[i, j], the sum down column j over heads h and attending tokens i: the
    attention that j *receives*. The paper writes the sum along row i, over what i gives; but a softmax row
    sums to one, so that sum is the number of heads for every token and orders nothing. On SciFact's training
    queries (all-MiniLM-L6-v2, half of the tokens kept, dense top 200 reranked; all of them 0.711) columns
    give nDCG@10 0.704; rows leave it to the order of tokens, and give 0.676, which is first-k.

    Source: "attention-k", Lassance et al., SIGIR 2022.
    """
    if embedding.attention is None:
        raise InputError("the embedding has no attention; encode with attention=True")
    return highest(embedding.attention, budget)


def unused(embedding: Embedding, count: int) -> Rows:
    """The rows of the k [unusedN] tokens that the encoder put before the passage.

    They are the last k rows before the text's own first token. The encoder must have put them there:
    `connector.encoders.architectures.with_unused_tokens`. Source: "unused-k", Lassance et al., SIGIR 2022.
    """
    text = np.flatnonzero(embedding.offsets[:, 1])
    if len(text) == 0 and len(embedding) == count:  # a checkpoint that ends in this very step
        return np.arange(count)
    end = int(text[0]) if len(text) else len(embedding) - 1
    if end <= count:
        raise InputError(
            f"{end} special tokens stand before the passage, not [CLS] and {count} [unusedN]; see "
            "with_unused_tokens"
        )
    return np.arange(end - count, end)


def salient(embedding: Embedding) -> Rows:
    """The rows whose saliency, the gate ReLU(w·x + b) of the encoder's checkpoint, is above zero.

    Source: "contextualized stopwords", Hofstätter et al., ColBERTer, CIKM 2022, section 3.3.
    """
    return np.flatnonzero(_saliency(embedding) > 0)


def most_salient(embedding: Embedding, budget: Budget) -> Rows:
    """The k rows with the highest saliency.

    Source: β-pruning, Qian et al., ALIGNER, 2022, section 3.2: the top β of a passage's tokens when it is
    stored, the top β of a query's when it asks.
    """
    return highest(_saliency(embedding), budget)


def _saliency(embedding: Embedding) -> Float32:
    if embedding.saliency is None:
        raise InputError(
            "the embedding has no saliency; saliency-K needs a trained head (connector train saliency), "
            "contextual-stopwords a model with a trained gate (connector.encoders.modules.SaliencyGate)"
        )
    return embedding.saliency


_QUERIES = 256
"""Random queries that stand for all of them. 512 and 1,024 gave no better rankings on SciFact."""


_ROUND = 0.1
"""Share of the rows left that go in one round. Dropping one at a time cost 1.7 times as long for the same."""


def voronoi(embedding: Embedding, budget: Budget) -> Rows:
    """The k rows left when those with the smallest estimated error are dropped, round after round.

    A token's Voronoi cell are the queries that it is the best match of. Dropping it changes the MaxSim of a
    query q in its cell by max over all rows of q·d less the max over the other rows; the mean of that over
    queries drawn uniformly from the unit sphere (256, the same ones always) is the token's error. Errors are
    estimated again after each round, which drops the tenth with the smallest ones.

    Source: Kankanampati, Zong, Tomeh, Piwowarski and Le Roux, "A Voronoi Cell Formulation for Principled
    Token Pruning in Late-Interaction Retrieval Models", SIGIR 2026, arXiv 2603.09933; here with a budget a
    passage, where the paper also spends one over the whole corpus.
    """
    left = np.arange(len(embedding))
    wanted = budget.rows(len(left))
    scores = _queries(embedding.tokens.shape[1]) @ embedding.tokens.T
    while len(left) > wanted:
        errors = removal_errors(scores)
        dropped = max(min(int(_ROUND * len(left)), len(left) - wanted), 1)
        stay = np.sort(np.argsort(errors, kind="stable")[dropped:])
        left, scores = left[stay], scores[:, stay]
    return left


def removal_errors(scores: Float32) -> Float32:
    """(n,) by how much the best score of a query falls when a token is missing, summed over the queries.

    Args:
        scores: (S, n) inner products of S queries with n ≥ 2 tokens.
    """
    rows = np.arange(len(scores))
    best = scores.argmax(axis=1)
    highest = scores[rows, best]
    scores[rows, best] = -np.inf
    margins = highest - scores.max(axis=1)
    scores[rows, best] = highest
    errors: Float32 = np.bincount(best, margins, minlength=scores.shape[1]).astype(np.float32)
    return errors


@cache
def _queries(width: int) -> Float32:
    """(S, w) float32 rows drawn uniformly from the unit sphere."""
    return unit(np.random.default_rng(0).normal(size=(_QUERIES, width))).astype(np.float32)


def _idf(text: str, setting: Setting) -> Step:
    keep = partial(rarest, budget=Budget.parse(text, setting), rarity=setting.frequencies.idf)
    return PruningPolicy(keep, frozenset({"frequencies"}))


def _sized(keep: Callable[..., Rows], *needs: Need) -> Callable[[str, Setting], Step]:
    """Makes steps of a policy that takes a budget, from that budget as text."""
    return lambda text, setting: PruningPolicy(
        partial(keep, budget=Budget.parse(text, setting)), frozenset(needs)
    )


METHODS: tuple[Method[Step, Setting], ...] = (
    Method("first-K", "the first K tokens", _LASSANCE, _sized(first)),
    Method("idf-K", "the K tokens that the fewest passages of the corpus have", _LASSANCE, _idf),
    Method(
        "attention-K",
        "the K tokens that receive the most attention in the encoder's last layer",
        _LASSANCE,
        _sized(most_attended, "attention"),
    ),
    Method(
        "unused-K",
        "only K [unusedN] tokens that the encoder puts before the passage; for models trained so",
        _LASSANCE,
        lambda text, _: PruningPolicy(partial(unused, count=count(text))),
    ),
    Method(
        "saliency-K",
        "the K tokens that a trained head finds most salient",
        "Qian et al., ALIGNER, 2022",
        _sized(most_salient, "saliency"),
    ),
    Method(
        "contextual-stopwords",
        "the tokens that the gate of a trained model lets through",
        "Hofstätter et al., ColBERTer, CIKM 2022",
        lambda _, __: PruningPolicy(salient),
    ),
    Method(
        "voronoi-K",
        "the K tokens whose loss would change the score of random queries most",
        "Kankanampati et al., A Voronoi Cell Formulation, SIGIR 2026",
        _sized(voronoi),
    ),
)
