"""Points in requests that the engine takes: cut by bytes, halved when it refuses one, always in order; and
in pages as they are read."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from typing import Any

from connector.core.errors import InputError, PointsRefused, StoreError
from connector.core.types import Sparse
from connector.stores.base import Point, Record

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
        weight = _weight(point)
        if batch and total + weight > size:
            yield batch
            batch, total = [], 0
        batch.append(point)
        total += weight
    if batch:
        yield batch


def _weight(point: Point) -> int:
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
