"""Items in windows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` items; when the source fails, what came before is given out first."""
    batch: list[T] = []
    failure: Exception | None = None
    iterator = iter(items)
    while True:
        try:
            batch.append(next(iterator))
        except StopIteration:
            break
        except Exception as error:
            failure = error
            break
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
    if failure is not None:
        raise failure
