"""A search with 1,000 candidates, in process: from codes against from float multivectors, and how it grows.

Passages of 60 tokens, made from the real vectors of docstrings by drawing again, with a little noise. The
same CLS vectors find the same candidates in both layouts; both are scored here. Then the codes layout alone,
with 2,000, 20,000 and 200,000 passages. Queries are encoded before.

    python benchmarks/search.py [LARGEST]
"""

from __future__ import annotations

import base64
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from connector import Document, Embedding, Encoder, Recipe, load_encoder, open_store
from connector.cli.demo_corpus import standard_library
from connector.collection.collection import Collection
from connector.collection.documents.passages import Passage, payload_of
from connector.collection.search.options import search_options
from connector.collection.search.search import fetch, rank
from connector.core.types import Float32, point_id
from connector.stores import Point, Store
from connector.stores.schema import CLS, TOKENS

TOKENS_EACH, CANDIDATES, ROUNDS = 60, 1_000, 5
SIZES = (2_000, 20_000, 200_000)
WINDOW = 1_000
CODES = Recipe(name="codes", layout="codes", codec="pca-128+binary", cls="turbo4")
FLOATS = Recipe(name="floats", layout="multivector", codec="pca-128+float32", cls="turbo4")


def real(encoder: Encoder) -> tuple[Float32, Float32, list[Embedding]]:
    """(P, d) CLS and (N, w) token vectors of docstrings, and queries."""
    texts = [document.text for document in standard_library()]
    passages = encoder.encode_documents(texts[::6])
    queries = encoder.encode_queries([text.split(".")[0] for text in texts[3::300]])
    cls = np.stack([passage.cls for passage in passages])
    return cls, np.concatenate([passage.tokens for passage in passages]), queries


def drawn(rng: np.random.Generator, rows: Float32, count: int) -> Float32:
    """Rows drawn again, each turned a little (a cosine of about 0.9 with the real one)."""
    noise = rng.normal(size=(count, rows.shape[1])) * (0.5 / np.sqrt(rows.shape[1]))
    found = rows[rng.integers(0, len(rows), count)] + noise.astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def points(collection: Collection, cls: Float32, tokens: Float32, count: int) -> Iterator[list[Point]]:
    """Windows of points; the same ones for every collection."""
    rng = np.random.default_rng(0)
    for start in range(0, count, WINDOW):
        of_passages = drawn(rng, cls, WINDOW)
        of_tokens = drawn(rng, tokens, WINDOW * TOKENS_EACH)
        codec = collection.fit_codec(of_tokens)
        rows = np.split(codec.encode(of_tokens), WINDOW)
        window = []
        for number, (vector, codes) in enumerate(zip(of_passages, rows, strict=True), start):
            document = Document(id=str(number), text=f"Passage number {number}.")
            payload = payload_of(Passage(document, 0, 1, document.text, "")) | {"rows": TOKENS_EACH}
            vectors = {CLS: vector}
            if collection.recipe.layout == "codes":
                payload["codes"] = base64.b64encode(codes.tobytes()).decode("ascii")
            else:
                vectors[TOKENS] = codes
            window.append(Point(point_id(document.id, 0), vectors, payload))
        yield window


def build(
    store: Store, name: str, recipe: Recipe, encoder: Encoder, cls: Float32, tokens: Float32, count: int
) -> Collection:
    started = time.perf_counter()
    collection = Collection.create(store, name, recipe, encoder)
    for window in points(collection, cls, tokens, count):
        store.upsert(name, window)
    store.finish(name)
    size = (store.disk_bytes(name) or 0) / count
    seconds = time.perf_counter() - started
    print(f"  {name}: {count:,} passages in {seconds:.0f} s, {size:,.0f} bytes each at rest", flush=True)
    return collection


def search(collection: Collection, query: Embedding) -> Callable[[], set[str]]:
    def run() -> set[str]:
        ranking = rank(collection, query, search_options(rerank="client", candidates=CANDIDATES))
        (hits,) = fetch(collection, [ranking])
        return {hit.id for hit in hits}

    return run


def medians(collections: dict[str, Collection], queries: list[Embedding]) -> dict[str, float]:
    """Milliseconds of a search; the collections take turns, query by query."""
    times: dict[str, list[float]] = {name: [] for name in collections}
    for query in queries * ROUNDS:
        for name, collection in collections.items():
            run = search(collection, query)
            started = time.perf_counter()
            run()
            times[name].append(1e3 * (time.perf_counter() - started))
    return {name: statistics.median(values[len(queries) :]) for name, values in times.items()}


def main() -> None:
    largest = int(sys.argv[1]) if len(sys.argv) > 1 else SIZES[-1]
    encoder = load_encoder()
    cls, tokens, queries = real(encoder)
    print(f"{TOKENS_EACH} tokens a passage, {CANDIDATES:,} candidates, p50 of a search in ms")
    with tempfile.TemporaryDirectory() as scratch:
        store = open_store(path=Path(scratch))
        pair = {
            name: build(store, name, recipe, encoder, cls, tokens, 20_000)
            for name, recipe in (("codes", CODES), ("floats", FLOATS))
        }
        found = medians(pair, queries)
        ratio = found["floats"] / found["codes"]
        print(
            f"codes {found['codes']:.2f}, floats {found['floats']:.2f}: codes are {ratio:.1f} times as fast"
        )
        store.drop("floats")
        sizes = [size for size in SIZES if size <= largest]
        grown = {
            f"{size:,}": build(store, f"codes-{size}", CODES, encoder, cls, tokens, size) for size in sizes
        }
        times = medians(grown, queries)
        for size, value in times.items():
            print(
                f"{size:>9} passages {value:7.2f} ms, {value / next(iter(times.values())):.2f} of the first"
            )
        store.close()


if __name__ == "__main__":
    main()
