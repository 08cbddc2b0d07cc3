"""MaxSim of one query over 1,000 passages: ours from floats and from codes, and its peers, in one run.

32 query tokens; 1,000 passages of 128 tokens, and of 20 to 180, 128 dimensions, float32. All take turns,
with a pause between, and the medians are printed, with their ratio to maxsim-cpu and to the bare matrix
product of the passages with the query, in its best order and blocking. OpenBLAS's threads are told to sleep
soon: else they go on spinning through the turn of the next one.

    pip install maxsim-cpu
    python benchmarks/scoring.py
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from connector.compression.codecs import parse_codec
from connector.core.types import Float32
from connector.scoring.maxsim import maxsim
from connector.stores import Nearest, Point, Store, open_store
from connector.stores.schema import CollectionSchema, VectorSchema

PASSAGES, TOKENS, WIDTH, QUERY = 1_000, 128, 128, 32
ROUNDS = 25
CODES = ["int8", "residual-2", "residual-1", "binary", "pq-16"]
PAUSE = 0.01
"""Seconds, for the threads of the one before to go to sleep."""


def unit(rows: Float32) -> Float32:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def ours(query: Float32, tokens: Float32, lengths: np.ndarray) -> dict[str, Callable[[], Any]]:
    contestants: dict[str, Callable[[], Any]] = {}
    for spec in ["float32", *CODES]:
        codec = parse_codec(spec).fit(tokens[:20_000])
        stored, asked = codec.encode(tokens), codec.encode_query(query)
        contestants[f"ours, {spec}"] = lambda codec=codec, stored=stored, asked=asked: maxsim(
            codec.scorer(asked), stored, lengths
        )
    return contestants


def bare(query: Float32, tokens: Float32) -> dict[str, Callable[[], Any]]:
    across = np.ascontiguousarray(query.T)
    blocks = [(size, np.empty((QUERY, size), np.float32)) for size in (2048, 4096, 8192)]
    products: dict[str, Callable[[], Any]] = {
        "bare passages @ query.T": lambda: tokens @ across,
        "bare query @ passages.T": lambda: query @ tokens.T,
    }
    for size, buffer in blocks:
        starts = range(0, len(tokens) - size + 1, size)
        products[f"bare, blocks of {size}"] = lambda size=size, buffer=buffer, starts=starts: [
            np.dot(query, tokens[start : start + size].T, out=buffer) for start in starts
        ]
    return products


def peers(query: Float32, tokens: Float32, lengths: np.ndarray) -> dict[str, Callable[[], Any]]:
    passages = np.split(tokens, np.cumsum(lengths)[:-1])
    padded = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(it) for it in passages], batch_first=True)
    asked = torch.from_numpy(query)
    mask = torch.arange(padded.shape[1]) < torch.from_numpy(lengths)[:, None]

    def einsum() -> torch.Tensor:
        similarities = torch.einsum("md,ptd->pmt", asked, padded)
        return similarities.masked_fill(~mask[:, None], -torch.inf).amax(dim=2).sum(dim=1)

    def sentence_transformers() -> torch.Tensor:
        from sentence_transformers.util import maxsim as peer

        return peer(asked, padded, b_mask=mask)[0]

    contestants: dict[str, Callable[[], Any]] = {"torch einsum": einsum}
    try:
        import maxsim_cpu
    except ImportError:
        print("maxsim-cpu: not run, it is not installed (pip install maxsim-cpu)")
    else:
        contestants["maxsim-cpu"] = lambda: maxsim_cpu.maxsim_scores_variable(query, passages)
        if len(set(lengths)) == 1:
            matrix = tokens.reshape(len(lengths), -1, WIDTH)
            contestants["maxsim-cpu"] = lambda: maxsim_cpu.maxsim_scores(query, matrix)
    contestants["sentence-transformers"] = sentence_transformers
    return contestants


def edge(store: Store, name: str, query: Float32, tokens: Float32, lengths: np.ndarray) -> Callable[[], Any]:
    schema = VectorSchema("tokens", WIDTH, "float32", multivector=True)
    store.create(name, CollectionSchema((schema,)), {})
    passages = np.split(tokens, np.cumsum(lengths)[:-1])
    points = [Point(str(uuid.UUID(int=n)), {"tokens": it}, {}) for n, it in enumerate(passages)]
    store.upsert(name, points)
    store.finish(name)
    return lambda: store.search(name, Nearest(query, "tokens", len(lengths)), payload=[])


def compare(title: str, contestants: dict[str, Callable[[], Any]]) -> None:
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(ROUNDS):
        for name, run in contestants.items():
            time.sleep(PAUSE)
            started = time.perf_counter()
            run()
            times[name].append(1e3 * (time.perf_counter() - started))
    medians = {name: statistics.median(values[2:]) for name, values in times.items()}
    product = min(value for name, value in medians.items() if name.startswith("bare"))
    peer = medians.get("maxsim-cpu")
    print(f"\n{title}: ms, times the bare product, times as fast as maxsim-cpu")
    for name, value in medians.items():
        faster = f"{peer / value:6.2f}" if peer else "     –"
        print(f"  {name:<26} {value:8.2f} {value / product:6.2f} {faster}")
    floats, binary = medians["ours, float32"], medians["ours, binary"]
    print(f"  from binary codes {floats / binary:.2f} times as fast as from floats")


def main() -> None:
    if "OPENBLAS_THREAD_TIMEOUT" not in os.environ:  # read when numpy is loaded
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "OPENBLAS_THREAD_TIMEOUT": "4"})
    rng = np.random.default_rng(0)
    print(f"{torch.get_num_threads()} threads")
    with tempfile.TemporaryDirectory() as scratch:
        store = open_store(path=scratch)
        for title, lengths in (
            ("128 tokens a passage", np.full(PASSAGES, TOKENS)),
            ("20 to 180 tokens a passage", rng.integers(20, 181, PASSAGES)),
        ):
            tokens = unit(rng.normal(size=(lengths.sum(), WIDTH)))
            query = unit(tokens[:QUERY] + 0.05 * rng.normal(size=(QUERY, WIDTH)))
            contestants = {
                **bare(query, tokens),
                **ours(query, tokens, lengths),
                **peers(query, tokens, lengths),
                "Qdrant Edge": edge(store, title.replace(" ", "-"), query, tokens, lengths),
            }
            expected = contestants["ours, float32"]()
            for name in ("torch einsum", "sentence-transformers", "maxsim-cpu"):
                if name in contestants:
                    assert np.allclose(contestants[name](), expected, atol=1e-3), name
            compare(title, contestants)
        store.close()


if __name__ == "__main__":
    main()
