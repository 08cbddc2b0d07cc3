"""Points: how they are written, read and asked for, whichever engine it is, and in what requests.

Requests are cut by bytes, halved when the engine refuses one, always in order; points are read in pages.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from connector.core.errors import InputError, PointsRefused, StoreError
from connector.core.types import Float32, Sparse


@dataclass(frozen=True, slots=True)
class Point:
    """What is written: a UUID, named vectors ((d,) or (n, d) float32, or sparse) and a payload."""

    id: str
    vectors: Mapping[str, Float32 | Sparse]
    payload: Mapping[str, Any]


@dataclass(slots=True)
class Record:
    """What is read: the parts of a point that were asked for, and its score where it was searched.

    A search reads a hundred of these and needs the ids of ten, so the engine's own form is kept.
    """

    key: str | int | uuid.UUID
    payload: dict[str, Any]
    score: float = 0.0
    vectors: dict[str, Float32] = field(default_factory=dict)

    @classmethod
    def of(cls, point: Any) -> Record:
        """What an engine gives back."""
        vectors = {name: np.asarray(it, np.float32) for name, it in (point.vector or {}).items()}
        return cls(point.id, point.payload or {}, getattr(point, "score", 0.0), vectors)

    @property
    def id(self) -> str:
        """The point's id."""
        return str(self.key)


@dataclass(frozen=True, slots=True)
class Nearest:
    """A query for the points nearest to a vector.

    Args:
        vector: (d,) float32; (m, d) for a multivector, scored by MaxSim; sparse for a sparse one.
        using: the name of the vector.
        limit: how many points.
        prefetch: scores only the points that these queries find first; none for all points.
        oversampling: where the vector is quantized, how many times the limit is scored by the vectors
            themselves.
    """

    vector: Float32 | Sparse
    using: str
    limit: int
    prefetch: tuple[Query, ...] = ()
    oversampling: float | None = None

    @property
    def stages(self) -> tuple[Query, ...]:
        """What finds the points that it scores; empty where it scores all."""
        return self.prefetch

    def search_params(self, engine: Any) -> Any:
        """How many candidates of a quantized vector are scored again by the vectors themselves.

        Args:
            engine: as `listed` has it.
        """
        if self.oversampling is None:
            return None
        rescored = engine.QuantizationSearchParams(rescore=True, oversampling=self.oversampling)
        return engine.SearchParams(quantization=rescored)


@dataclass(frozen=True, slots=True)
class Fused:
    """The points that several queries find, in one order.

    Args:
        queries: what finds them.
        limit: how many points.
        method: "rrf", reciprocal ranks, or "dbsf", scores made comparable by their distributions.
    """

    queries: tuple[Nearest, ...]
    limit: int
    method: Literal["rrf", "dbsf"] = "rrf"

    @property
    def stages(self) -> tuple[Query, ...]:
        """What finds the points that it orders."""
        return self.queries

    def search_params(self, _: Any) -> None:
        """Nothing is scored again; its queries have scored all."""


Query = Nearest | Fused


Answer = tuple[list[Record], list[dict[Any, float]]]
"""The points that a search found, and by which keys its further queries gave which scores."""


Keys = Sequence[str] | None
"""Payload keys that are asked for; None for all."""


def wanted_payload(keys: Keys) -> bool | list[str]:
    """Payload keys in an engine's words; for an empty list of keys it would read every payload."""
    return True if keys is None else list(keys) or False


def listed(engine: Any, vector: Float32 | Sparse) -> Any:
    """A vector as an engine has it; also Edge takes lists in half the time that it takes arrays.

    Args:
        engine: whose classes are used: `qdrant_edge`, or `qdrant_client.models` for a server.
        vector: (d,) or (n, d) float32, or sparse.
    """
    if isinstance(vector, Sparse):
        return engine.SparseVector(indices=vector.indices.tolist(), values=vector.values.tolist())
    return vector.tolist()


MAX_MULTIVECTOR_FLOATS = 1_048_576
"""Rows × width of one multivector that Qdrant takes. Edge does not check it, so we do."""


_BYTES_PER_FLOAT = 12
"""Of a float in a request, as JSON."""


def batches(points: Sequence[Point], size: int) -> Iterator[list[Point]]:
    """Points in order, cut by the bytes of a request, not by count; a larger point stands alone.

    Raises:
        InputError: a multivector is larger than Qdrant takes.
    """
    batch: list[Point] = []
    total = 0
    for point in points:
        added = weight(point)
        if batch and total + added > size:
            yield batch
            batch, total = [], 0
        batch.append(point)
        total += added
    if batch:
        yield batch


def weight(point: Point) -> int:
    """Bytes of a point in a request, about; no engine keeps more of it.

    Raises:
        InputError: a multivector is larger than Qdrant takes.
    """
    floats = 0
    for vector in point.vectors.values():
        floats += 2 * len(vector) if isinstance(vector, Sparse) else vector.size
        if not isinstance(vector, Sparse) and vector.ndim == 2 and vector.size > MAX_MULTIVECTOR_FLOATS:
            raise InputError(
                f"a passage of {vector.shape[0]} × {vector.shape[1]} token floats is over Qdrant's limit of "
                f"{MAX_MULTIVECTOR_FLOATS}; pool its tokens, project them, or split it with chunk_tokens"
            )
    return floats * _BYTES_PER_FLOAT + len(repr(point.payload).encode("utf-8", "replace"))


def paged(page: Callable[[Any], tuple[Sequence[Any], Any]]) -> Iterator[Record]:
    """All points of a collection that is read in pages.

    Args:
        page: gives the points from an offset on, at first None, and the next offset, at last None.
    """
    offset: Any = None
    while True:
        points, offset = page(offset)
        yield from map(Record.of, points)
        if offset is None:
            return


def amend_there(
    points: Sequence[Point],
    there: Callable[[list[str]], Container[str]],
    amend: Callable[[list[Point]], None],
) -> None:
    """Amend those points that are there; the engine refuses all if another writer has just deleted one.

    Args:
        points: which.
        there: of some ids, those that are there.
        amend: amends points, all of which were there just now.
    """

    def found(some: Sequence[Point]) -> list[Point]:
        known = there([point.id for point in some])
        return [point for point in some if point.id in known]

    waiting = found(points)
    while True:
        try:
            amend(waiting)
            return
        except StoreError:
            before, waiting = waiting, found(waiting)
            if len(waiting) == len(before):
                raise


class Refusal(StoreError):
    """The engine will not take what was sent, however often; each half of it perhaps."""


def write_in_order(points: Sequence[Point], size: int, write: Callable[[list[Point]], None]) -> None:
    """Write points in batches; a batch that is refused is halved, down to the points to blame.

    Args:
        points: when a later one is written, so are the earlier ones that are not refused.
        size: bytes of a batch, as in `batches`.
        write: writes some of them, or raises Refusal; any other error ends it all.

    Raises:
        PointsRefused: some points are refused; the others are written.
        StoreError: of several points every one is refused, which is hardly the fault of each.
        InputError: a multivector is larger than Qdrant takes; the batches before it are written.
    """
    refused: dict[str, Refusal] = {}
    for batch in batches(points, size):
        waiting = [batch]  # a stack, the first part on top
        while waiting:
            part = waiting.pop()
            try:
                write(part)
            except Refusal as error:
                if len(part) == 1:
                    refused.setdefault(part[0].id, error)
                else:
                    half = len(part) // 2
                    waiting += [part[half:], part[:half]]
    if not refused:
        return
    if len(points) > 1 and len(refused) == len({point.id for point in points}):
        first = next(iter(refused.values()))
        raise StoreError(str(first)) from first
    raise PointsRefused({id_: str(error) for id_, error in refused.items()})
