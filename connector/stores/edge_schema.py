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
from typing import Any

from connector.errors import StoreError
from connector.stores.base import Point
from connector.stores.batches import Refusal
from connector.stores.folder import write_atomically
from connector.types import Float32, Sparse

CHANGING = "changing"
"""A file beside a shard that holds the name of a vector while it is added or dropped."""


def repair(home: Path) -> None:
    """Take the vector out of a shard that was being added or dropped when the process ended.

    The engine changes its segments and its configuration one after another, and opens no shard in which one
    of them has a vector that another one lacks. One that was being added holds nothing yet.

    Raises:
        StoreError: the shard's files cannot be read or written.
    """
    try:
        vector = (home / CHANGING).read_text(encoding="utf-8")
        shard = home / "shard"
        files = [shard / "edge_config.json", *sorted((shard / "segments").glob("*/segment.json"))]
        read = {file: json.loads(file.read_bytes()) for file in files}
        kinds = ("vectors", "sparse_vectors", "vector_data", "sparse_vector_data")
        held = {
            file: [it for it in kinds if vector in parts_of(said).get(it, ())] for file, said in read.items()
        }
        if not all(held.values()):
            for file, said in read.items():
                for kind in held[file]:
                    del parts_of(said)[kind][vector]
                write_atomically(file, json.dumps(said).encode())
        (home / CHANGING).unlink()
    except FileNotFoundError:
        return
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{home} cannot be repaired ({error!r}); restore the folder") from error


def parts_of(said: dict[str, Any]) -> dict[str, Any]:
    """The vectors by their kinds, of a shard's configuration or a segment's."""
    parts: dict[str, Any] = said.get("config", said)
    return parts


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
