"""What a shard of Qdrant Edge takes, so that nothing is sent to it that it would refuse.

The engine logs an update before it looks at it. A refused one it applies in part, in no order, and when the
log is read again, at the next opening, perhaps as a whole: a point that was refused for a vector of an
unknown name is then replaced by what was refused. So what can be known beforehand is refused beforehand.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from connector.core.types import Float32, Sparse
from connector.stores.base import Point
from connector.stores.batches import Refusal


@dataclass(frozen=True, slots=True)
class Taken:
    """The vectors of a shard: width and number of axes of the dense ones, and names of the sparse ones."""

    dense: Mapping[str, tuple[int, int]]
    sparse: frozenset[str]

    @classmethod
    def of(cls, shard: Path) -> Taken:
        """What the shard in this folder says.

        Raises:
            Refusal: it says nothing that can be read.
        """
        try:
            config = json.loads((shard / "edge_config.json").read_text(encoding="utf-8"))
            dense = {
                name: (int(it["size"]), 2 if it.get("multivector_config") else 1)
                for name, it in config["vectors"].items()
            }
            return cls(dense, frozenset(config.get("sparse_vectors") or ()))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise Refusal(
                f"Qdrant Edge: {shard} does not say what it holds ({error!r}); restore it"
            ) from error

    def check(self, points: Sequence[Point]) -> None:
        """Raises Refusal unless the shard takes the vectors of all these points."""
        for point in points:
            for name, vector in point.vectors.items():
                if not self._takes(name, vector):
                    raise Refusal(
                        f"Qdrant Edge: vector {name!r} of point {point.id} is {_said(vector)}; the "
                        f"collection takes {self._wanted(name)}"
                    )

    def _takes(self, name: str, vector: Float32 | Sparse) -> bool:
        if isinstance(vector, Sparse):
            return name in self.sparse
        if name not in self.dense or 0 in vector.shape:
            return False
        return (vector.shape[-1], vector.ndim) == self.dense[name]

    def _wanted(self, name: str) -> str:
        if name in self.sparse:
            return "a sparse one there"
        if name in self.dense:
            width, axes = self.dense[name]
            return f"{'rows' if axes == 2 else 'one row'} of {width} there"
        return f"only {', '.join(sorted([*self.dense, *self.sparse]))}"


def _said(vector: Float32 | Sparse) -> str:
    return "sparse" if isinstance(vector, Sparse) else " × ".join(map(str, vector.shape))
