"""Runs fast-plaid in an environment of its own, where the torch that it was built for is.

Started by `_peers_plaid.py`, with a folder of vectors, a folder for the index and bits a dimension. It builds
the index, says how, and then answers searches: JSON lines in, JSON lines out.
"""

from __future__ import annotations

import importlib.metadata
import inspect
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fast_plaid import search
from fast_plaid.search import fast_plaid as library

TOP = 10


def vectors(folder: Path, name: str) -> list[torch.Tensor]:
    """One (n, d) tensor a text."""
    rows = torch.from_numpy(np.load(folder / f"{name}.npy"))
    return list(torch.split(rows, np.load(folder / f"{name}-lengths.npy").tolist()))


def defaults(function: Any, names: list[str]) -> dict[str, Any]:
    return {name: inspect.signature(function).parameters[name].default for name in names}


def build(folder: Path, index: Path, bits: int) -> tuple[search.FastPlaid, float]:
    """The index and the seconds that it took, without reading the vectors.

    Indexes of the same vectors have the same centroids, whatever their bits: those are made once, in the most
    of the time, which counts for each of them.
    """
    passages = vectors(folder, "passages")
    kept, spared = folder / "centroids.pt", 0.0
    make = library.compute_kmeans

    def centroids(**given: Any) -> torch.Tensor:
        nonlocal spared
        if kept.exists():
            found, spared = torch.load(kept)
            return found
        began = time.perf_counter()
        found = make(**given)
        torch.save((found, time.perf_counter() - began), kept)
        return found

    library.compute_kmeans = centroids
    started = time.perf_counter()
    plaid = search.FastPlaid(index=str(index), device="cpu")
    plaid.create(documents_embeddings=passages, nbits=bits)
    return plaid, time.perf_counter() - started + spared


def answer(
    plaid: search.FastPlaid, query: torch.Tensor, options: dict[str, int]
) -> tuple[list[tuple[int, float]], float]:
    """Numbers and scores of the best passages, and milliseconds."""
    started = time.perf_counter()
    found = plaid.search(query.unsqueeze(0), top_k=TOP, show_progress=False, **options)[0]
    return found, 1e3 * (time.perf_counter() - started)


def main() -> None:
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what the library prints is not an answer
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    folder, index, bits = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    plaid, seconds = build(folder, index, bits)
    queries = vectors(folder, "queries")
    hello = {
        "seconds": seconds,
        "versions": {name: importlib.metadata.version(name) for name in ("fast-plaid", "torch")},
        "defaults": defaults(plaid.search, ["n_full_scores", "n_ivf_probe"])
        | defaults(plaid.create, ["kmeans_niters"]),
    }
    print(json.dumps(hello), file=out, flush=True)
    for line in sys.stdin:
        numbers, options = json.loads(line)
        answers = [answer(plaid, queries[it], options) for it in numbers]
        print(json.dumps(answers), file=out, flush=True)


if __name__ == "__main__":
    main()
