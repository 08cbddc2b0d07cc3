"""The batch of each step of a head's training, and scores within it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from connector.core.types import Float32
from connector.evaluation.training.dataset import Float16, TrainingSet

_SAMPLE = 50_000
"""Token vectors that a projection begins with the principal directions of."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Queries and passages, one after another, padded nowhere.

    Args:
        queries: (n, w) unit rows; `query_of` (n,) the number of each one's query.
        passages: (N, w) unit rows; `passage_of` (N,) likewise. Passage i answers query i.
        out: (q, p) bool, passages that answer a query beside its own, which count neither way.
    """

    queries: Tensor
    query_of: Tensor
    passages: Tensor
    passage_of: Tensor
    out: Tensor

    def maxima(self, similarities: Tensor) -> Tensor:
        """(n, p) the largest of each query row in each passage, of similarities (n, N)."""
        place = self.passage_of[None].expand(len(similarities), -1)
        least = similarities.new_full((len(similarities), self.out.shape[1]), -1e4)
        return least.scatter_reduce(1, place, similarities, "amax")

    def means(self, values: Tensor, weights: Tensor | None = None) -> Tensor:
        """(q, p) weighted means over each query's rows, of values (n, p) and weights (n,)."""
        weights = values.new_ones(len(values)) if weights is None else weights
        rows = len(self.out)
        sums = values.new_zeros(rows, values.shape[1]).index_add(0, self.query_of, values * weights[:, None])
        totals = values.new_zeros(rows).index_add(0, self.query_of, weights)
        return sums / totals.clamp(min=1e-6)[:, None]

    def aligned(self, similarities: Tensor, query_saliency: Tensor, saliency: Tensor) -> Tensor:
        """(q, p) aligned scores by top-1, of similarities (n, N) and saliences (n,) and (N,)."""
        marked = similarities >= self.maxima(similarities.detach())[:, self.passage_of]
        weights = marked * saliency * query_saliency[:, None]
        return self._sums(weights * similarities) / self._sums(weights).clamp(min=1e-6)

    def _sums(self, cells: Tensor) -> Tensor:
        """(q, p) of cells (n, N)."""
        passages = cells.new_zeros(len(cells), self.out.shape[1]).index_add(1, self.passage_of, cells)
        return cells.new_zeros(self.out.shape).index_add(0, self.query_of, passages)


@dataclass(frozen=True, eq=False)
class Batches:
    """The batch of each step, drawn again from the seed and the step's number.

    Args:
        sets: at least one.
        batch: queries a step, of one set; each brings a passage that answers it and a mined one.
        seed: of what is drawn.
        shares: how often each set is drawn from; by default the square root of its queries.
        device: where the tensors go.
    """

    sets: Sequence[TrainingSet]
    batch: int
    seed: int
    shares: Sequence[float] = ()
    device: str = "cpu"

    @property
    def width(self) -> int:
        """Of the token vectors."""
        return int(self.sets[0].passages[0].shape[1])

    @cached_property
    def chances(self) -> NDArray[np.float64]:
        """(S,) of each set to be drawn from, Σ = 1."""
        drawn = np.array(self.shares or [len(it) ** 0.5 for it in self.sets], np.float64)
        shares: NDArray[np.float64] = drawn / drawn.sum()
        return shares

    def __call__(self, step: int) -> Batch:
        chance = np.random.default_rng([self.seed, step])
        data = self.sets[chance.choice(len(self.sets), p=self.chances)]
        asked, passages = self._drawn(data, chance)
        out = np.zeros((len(asked), len(passages)), np.bool_)
        for row, query in enumerate(asked):
            answers = set(data.positives[query])
            out[row] = [column != row and number in answers for column, number in enumerate(passages)]
        queries, query_of = self._rows([data.queries[number] for number in asked])
        rows, passage_of = self._rows([data.passages[number] for number in passages])
        return Batch(queries, query_of, rows, passage_of, torch.from_numpy(out).to(self.device))

    def _drawn(self, data: TrainingSet, chance: np.random.Generator) -> tuple[list[int], list[int]]:
        """Queries, and of each an answer that no other has; behind them a mined passage of each."""
        size = min(self.batch, len(data))
        answers: dict[int, int] = {}
        for number in chance.choice(len(data), size, replace=False).tolist():
            right = data.positives[number]
            answers.setdefault(right[chance.integers(len(right))], number)
        asked = list(answers.values())
        near = [data.negatives[number] for number in asked]
        mined = [numbers[chance.integers(len(numbers))] for numbers in near if numbers]
        return asked, [*answers, *mined]

    def _rows(self, texts: Sequence[Float16]) -> tuple[Tensor, Tensor]:
        rows = torch.from_numpy(np.concatenate(texts).astype(np.float32)).to(self.device)
        lengths = torch.tensor([len(it) for it in texts])
        return rows, torch.repeat_interleave(lengths).to(self.device)

    def sample(self) -> Float32:
        """(N, w) token vectors of passages of all sets, by their shares."""
        chance = np.random.default_rng(self.seed)
        rows: list[Float16] = []
        for data, share in zip(self.sets, self.chances, strict=True):
            order = chance.permutation(len(data.passages))
            tokens = np.cumsum([len(data.passages[number]) for number in order])
            enough = 1 + int(np.searchsorted(tokens, int(_SAMPLE * share)))
            rows += [data.passages[number] for number in order[:enough]]
        return np.concatenate(rows).astype(np.float32)
