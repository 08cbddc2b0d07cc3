"""Aligned scores against MaxSim, on the same batch: ours from floats and from codes, in one run.

32 query tokens; 1,000 passages of 128 tokens, and of 20 to 180, 128 dimensions. All take turns, with a pause
between, and the medians are printed with their ratio to MaxSim from the same rows, beside torch's own top-k
over padded passages.

    python benchmarks/alignment.py
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from connector.compression.codecs import parse_codec
from connector.core.types import Float32
from connector.scoring.alignment import TopK, TopP
from connector.scoring.maxsim import aligned, maxsim

PASSAGES, TOKENS, WIDTH, QUERY = 1_000, 128, 128, 32
ROUNDS = 25
PAUSE = 0.01
"""Seconds, for the threads of the one before to go to sleep."""


def unit(rows: Float32) -> Float32:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def contestants(
    spec: str, query: Float32, tokens: Float32, lengths: np.ndarray, rng: np.random.Generator
) -> dict[str, Callable[[], Any]]:
    codec = parse_codec(spec).fit(tokens[:20_000])
    rows, scorer = codec.encode(tokens), codec.scorer(codec.encode_query(query))
    asked, stored = rng.random(QUERY).astype(np.float32), rng.integers(0, 256, len(rows)).astype(np.uint8)
    found: dict[str, Callable[[], Any]] = {
        "MaxSim": lambda: maxsim(scorer, rows, lengths),
        "top-1": lambda: aligned(scorer, rows, lengths, TopK(1)),
        "top-4": lambda: aligned(scorer, rows, lengths, TopK(4)),
        "top-4 with saliency": lambda: aligned(scorer, rows, lengths, TopK(4), asked, stored),
        "top-8 with saliency": lambda: aligned(scorer, rows, lengths, TopK(8), asked, stored),
        "top-2% with saliency": lambda: aligned(scorer, rows, lengths, TopP(2), asked, stored),
    }
    if spec == "float32":
        passages = [torch.from_numpy(it) for it in np.split(tokens, np.cumsum(lengths)[:-1])]
        padded = torch.nn.utils.rnn.pad_sequence(passages, batch_first=True)
        question = torch.from_numpy(query)
        found["torch, padded, topk(4)"] = lambda: (padded @ question.T).topk(4, dim=1).values.mean((1, 2))
    return found


def main() -> None:
    if "OPENBLAS_THREAD_TIMEOUT" not in os.environ:  # read when numpy is loaded
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "OPENBLAS_THREAD_TIMEOUT": "4"})
    rng = np.random.default_rng(0)
    print(f"{torch.get_num_threads()} threads")
    for title, lengths in (
        ("128 tokens a passage", np.full(PASSAGES, TOKENS)),
        ("20 to 180 tokens a passage", rng.integers(20, 181, PASSAGES)),
    ):
        tokens, query = unit(rng.normal(size=(lengths.sum(), WIDTH))), unit(rng.normal(size=(QUERY, WIDTH)))
        for spec in ("float32", "binary"):
            runs = contestants(spec, query, tokens, lengths, rng)
            times: dict[str, list[float]] = {name: [] for name in runs}
            for _ in range(ROUNDS):
                for name, run in runs.items():
                    time.sleep(PAUSE)
                    started = time.perf_counter()
                    run()
                    times[name].append(1e3 * (time.perf_counter() - started))
            medians = {name: statistics.median(values[2:]) for name, values in times.items()}
            print(f"\n{title}, {spec}: ms, times MaxSim")
            for name, value in medians.items():
                print(f"  {name:<24} {value:8.2f} {value / medians['MaxSim']:6.2f}")


if __name__ == "__main__":
    main()
