"""Scoring kernels over ragged batches: passages of different lengths, one after another in one matrix.

A codec makes a `Scorer` of a query: how a block of stored rows becomes similarities, by a matrix product
(`products`) or by sums of looked-up numbers (`lookups`). `maxsim` goes through the passages in blocks that
stay in the cache and takes each block's maxima while it is hot. What is done how was chosen by measurement,
`benchmarks/scoring.py`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from connector.core.errors import InputError
from connector.core.forks import Mutex
from connector.core.types import Float32
from connector.scoring.alignment import Alignment
from connector.scoring.topk import Room, Selection, largest

if TYPE_CHECKING:
    import torch
    from threadpoolctl import ThreadpoolController


_CPU_ROWS = 16_384
"""Rows of a block on a CPU: their similarities with 32 query tokens take 2 MiB, and stay in the cache."""


_CUDA_ROWS = 2**20


@dataclass(frozen=True, slots=True)
class Scorer:
    """A query, ready to be scored against stored rows.

    Args:
        similarities: stored rows (n, …) to their inner products with m query tokens, (n, m) float32, in
            whichever order in memory is quicker to compute.
        rows: how many rows to give it at a time.
    """

    similarities: Callable[[NDArray[Any]], torch.Tensor]
    rows: int


def products(query: Float32, decode: Callable[[NDArray[Any]], Float32], device: str = "cpu") -> Scorer:
    """Similarities by a product with the decoded rows.

    On a CPU numpy makes it, with a row for each query token: its BLAS does that in 0.8 of torch's time and in
    0.7 of its own for the other order, and a passage's similarities then lie side by side.

    Args:
        query: (m, d) float32.
        decode: rows to (n, d) float32.
        device: "cpu" or a CUDA device.
    """
    import torch

    if _on_cpu(device):
        return Scorer(lambda rows: torch.from_numpy(np.dot(query, decode(rows).T)).t(), _CPU_ROWS)
    asked = torch.from_numpy(query).to(device).t()
    return Scorer(lambda rows: _tensor(decode(rows), device) @ asked, _CUDA_ROWS)


def lookups(
    tables: torch.Tensor,
    places: Callable[[torch.Tensor], torch.Tensor],
    device: str = "cpu",
    scales: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> Scorer:
    """Similarities as sums of looked-up numbers: row ↦ scale(row) · Σₖ tables[places(row)ₖ].

    Args:
        tables: (T, m) float32, what each value of each part of a code adds for each query token.
        places: (n, b) bytes to (n, k) int32 places in the tables.
        device: "cpu" or a CUDA device.
        scales: (n, b) bytes to (n, 1) float32; 1 if there is none.
    """
    import torch

    there = tables.to(device)

    def similarities(rows: NDArray[Any]) -> torch.Tensor:
        codes = _tensor(rows, device)
        sums = torch.nn.functional.embedding_bag(places(codes), there, mode="sum")
        return sums if scales is None else sums.mul_(scales(codes))

    return Scorer(similarities, _CPU_ROWS if _on_cpu(device) else _CUDA_ROWS)


def _tensor(rows: NDArray[Any], device: str) -> torch.Tensor:
    import torch

    return torch.from_numpy(np.require(rows, requirements="W")).to(device)


def _on_cpu(device: str) -> bool:
    return device.split(":")[0] == "cpu"


def maxsim(scorer: Scorer, rows: NDArray[Any], lengths: Sequence[int] | NDArray[np.integer]) -> Float32:
    """Sum over query tokens of the best similarity in each passage.

    MaxSim(q, p) = Σᵢ maxⱼ qᵢ·pⱼ: Khattab and Zaharia, "ColBERT", SIGIR 2020, equation 3. It takes as many
    threads as `torch.get_num_threads()` says.

    Args:
        scorer: of the query; `Codec.scorer` makes it.
        rows: (N, …) the stored rows of all passages, one passage after another.
        lengths: (P,) rows of each passage, each at least 1, Σ = N.

    Returns:
        (P,) float32 scores.

    Raises:
        InputError: the lengths do not add up to N, or one of them is not positive.
    """
    import torch

    ends = _ends(lengths, len(rows))
    scores = np.empty(len(ends) - 1, np.float32)
    with _blas_threads(torch.get_num_threads()):
        for first, last in _blocks(ends, scorer.rows):
            block = scorer.similarities(rows[ends[first] : ends[last]])
            scores[first:last] = _maxima(block, ends[first : last + 1] - ends[first]).sum(axis=1)
    return scores


def aligned(
    scorer: Scorer,
    rows: NDArray[Any],
    lengths: Sequence[int] | NDArray[np.integer],
    alignment: Alignment,
    query_saliency: Float32 | None = None,
    passage_saliency: NDArray[np.uint8] | None = None,
) -> Float32:
    """Means of the aligned similarities, weighted by the saliences of both sides.

    score = (1/Z) Σᵢⱼ Sᵢⱼ Ãᵢⱼ uᵢuⱼ with Z = Σᵢⱼ Ãᵢⱼ uᵢuⱼ: Qian et al., "Multi-Vector Retrieval as Sparse
    Alignment", 2022, section 2; `connector.scoring.alignment` has it for one passage. With `TopK(1)` and
    without saliences it is MaxSim over the number of query tokens. The scale of the saliences cancels out.

    Args:
        scorer: of the query; `Codec.scorer` makes it.
        rows: (N, …) the stored rows of all passages, one passage after another.
        lengths: (P,) rows of each passage, each at least 1, Σ = N.
        alignment: which cells are aligned.
        query_saliency: (m,) float32 ≥ 0 of the query tokens; None is 1 for all.
        passage_saliency: (N,) uint8 of the rows; None is 1 for all.

    Returns:
        (P,) float32 scores; 0 where nothing that is aligned has any weight.

    Raises:
        InputError: the lengths do not add up to N, or one of them is not positive.
    """
    import torch

    ends = _ends(lengths, len(rows))
    counts = alignment.counts(np.diff(ends))
    carrying, room = passage_saliency is not None, Room()
    scores = np.empty(len(ends) - 1, np.float32)
    selections: Iterable[Selection]
    with _blas_threads(torch.get_num_threads()):
        for first, last in _blocks(ends, scorer.rows):
            here = slice(ends[first], ends[last])
            block = scorer.similarities(rows[here])
            if passage_saliency is not None:
                block = _carrying(block, passage_saliency[here])
            most, own = int(counts[first:last].max()), ends[first : last + 1] - ends[first]
            if most == 1:
                selections = [Selection(np.arange(last - first), _maxima(block, own)[None])]
            else:
                selections = largest(block, own[:-1], np.diff(own), most, room)
            for found in selections:
                passages = first + found.passages
                scores[passages] = _means(found.values, counts[passages], query_saliency, carrying)
    return scores


def _carrying(block: torch.Tensor, saliency: NDArray[np.uint8]) -> torch.Tensor:
    """The similarities (n, m) with the rows' saliency in their last eight bits: `alignment.coarse`."""
    import torch

    byte: Any = saliency.astype(np.int32)[:, None]
    if block.device.type == "cpu":  # by numpy: torch's threads would wait for those of the product before
        bits: Any = block.numpy().view(np.int32)
    else:
        bits, byte = block.view(torch.int32), torch.from_numpy(byte).to(block.device)
    bits += 0x80
    bits &= ~0xFF
    bits |= byte
    return block


def _means(
    values: Float32, counts: NDArray[np.int64], query_saliency: Float32 | None, carrying: bool
) -> Float32:
    """(p,) from the largest similarities (k, p, m) of p passages, of which each has counts (p,) aligned."""
    weights: Float32 = (np.arange(len(values))[:, None] < counts).astype(np.float32)[:, :, None]
    if carrying:
        bits = values.view(np.int32)
        weights = weights * (bits & 0xFF)
        values = (bits & ~0xFF).view(np.float32)
    sums, totals = (weights * values).sum(0), np.broadcast_to(weights.sum(0), values.shape[1:])
    asked = np.ones(values.shape[2], np.float32) if query_saliency is None else query_saliency
    total = totals @ asked
    means: Float32 = np.divide(sums @ asked, total, out=np.zeros_like(total), where=total > 0)
    return means


def warm() -> None:
    """Score a block, so that threads and what torch makes at its first call are not made in a query."""
    import torch

    codes = np.zeros((_CPU_ROWS, 16), np.uint8)
    maxsim(lookups(torch.ones(32, 32), lambda rows: rows.int()), codes, np.full(_CPU_ROWS // 64, 64))


def compute_alone() -> None:
    """Let this thread compute by itself: threads of threads wait for one another."""
    import torch

    torch.set_num_threads(1)


def _ends(lengths: Sequence[int] | NDArray[np.integer], rows: int) -> NDArray[np.int64]:
    """(P + 1,) 0, and where each passage ends."""
    counts = np.asarray(lengths, dtype=np.int64)
    smallest = counts.min(initial=1)
    if smallest < 1 or counts.sum() != rows:
        raise InputError(
            f"passage lengths (least {smallest}) sum to {counts.sum()} for {rows} token rows; give as many"
        )
    return np.concatenate([[0], np.cumsum(counts)])


def _blocks(ends: NDArray[np.int64], rows: int) -> Iterator[tuple[int, int]]:
    """Runs [first, last) of passages with at most so many rows together; a longer passage stands alone."""
    first, passages = 0, len(ends) - 1
    while first < passages:
        last = max(first + 1, int(np.searchsorted(ends, ends[first] + rows, side="right")) - 1)
        yield first, last
        first = last


def _maxima(block: torch.Tensor, ends: NDArray[np.int64]) -> Float32:
    """(p, m) the largest of each passage and query token, of the similarities (n, m) of p passages."""
    import torch

    if not block.is_contiguous():  # computed with a row for each query token
        found: Float32 = np.maximum.reduceat(block.t().numpy(), ends[:-1], axis=1).T
        return found
    lengths = torch.from_numpy(np.diff(ends)).to(block.device)
    passage = torch.repeat_interleave(lengths)[:, None].expand(-1, block.shape[1])
    maxima = block.new_full((len(lengths), block.shape[1]), -torch.inf)
    largest_of_each: Float32 = maxima.scatter_reduce_(0, passage, block, "amax").cpu().numpy()
    return largest_of_each


class _BLASThreads:
    """How many threads numpy's BLAS has, which is a number of the whole process.

    The first to come sets it, whoever comes after keeps what is set, and the last to go sets it back.
    """

    def __init__(self) -> None:
        self._lock = Mutex()
        self._inside = 0
        self._limit = contextlib.ExitStack()

    @contextlib.contextmanager
    def __call__(self, wanted: int) -> Iterator[None]:
        with self._lock:
            if self._inside == 0 and any(it.num_threads != wanted for it in _blas().lib_controllers):
                self._limit.enter_context(_blas().limit(limits=wanted))
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if self._inside == 0:
                    self._limit.close()


_blas_threads = _BLASThreads()


def one_blas_thread() -> contextlib.AbstractContextManager[None]:
    """Keep numpy's BLAS to one thread while a query is prepared.

    The threads of OpenBLAS go on spinning for a tenth of a second after a product, however small, and take
    the cores from torch's: what comes next takes two to four times as long.
    """
    return _blas_threads(1)


@cache
def _blas() -> ThreadpoolController:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")
