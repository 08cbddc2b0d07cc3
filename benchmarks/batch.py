"""Many queries at once beside one after another, and the memory that a hundred thousand of them take.

Docstrings of Python's standard library, recipe `default`. The queries are sentences of docstrings not
in the collection. Both ways ask the same 64, alternately in one run; what is printed are medians in
milliseconds a query, where they go, and the ratio. Then as many short queries as are asked for are streamed
through `search_batch` by recipe `dense`, and the resident memory is printed as it goes.

    python benchmarks/batch.py [STREAMED]
"""

from __future__ import annotations

import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from connector import Connector, Document, Hits
from connector.cli.demo_corpus import standard_library

PASSAGES, QUERIES, ROUNDS, STREAMED = 4_000, 64, 7, 100_000


def ask(documents: list[Document]) -> list[str]:
    """First sentences, as questions are about as long."""
    return [document.text.split(". ")[0].split("\n")[0][:120] for document in documents]


def parts(found: list[Hits]) -> str:
    """Mean milliseconds a query of each stage."""
    return ", ".join(
        f"{name} {statistics.fmean(hits.ms[name] for hits in found):.1f}" for name in found[0].ms
    )


def compare(connector: Connector, queries: list[str]) -> None:
    """Print both ways, and their ratio."""
    times: dict[str, list[float]] = {"one at a time": [], "batch": []}
    found: dict[str, list[Hits]] = {}
    for _ in range(ROUNDS + 1):
        for name, run in (
            ("one at a time", lambda: list(map(connector.search, queries))),
            ("batch", lambda: list(connector.search_batch(queries, batch_size=len(queries)))),
        ):
            started = time.perf_counter()
            found[name] = run()
            times[name].append(1e3 * (time.perf_counter() - started) / len(queries))
    medians = {name: statistics.median(them[1:]) for name, them in times.items()}  # the first round warms up
    for name, median in medians.items():
        print(f"{name:>14}  {median:6.2f} ms a query  ({parts(found[name])})")
    print(f"{'ratio':>14}  {medians['one at a time'] / medians['batch']:6.2f}")
    same = sum([a.id for a in x] == [b.id for b in y] for x, y in zip(*found.values(), strict=True))
    print(f"{'same hits':>14}  {same} of {len(queries)}")


def resident() -> float:
    """Megabytes that this process has in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def stream(connector: Connector, count: int) -> None:
    """Print the memory while so many queries are asked."""

    def queries() -> Iterator[str]:
        for number in range(count):
            yield f"how to read file {number}"

    started = time.perf_counter()
    for number, _ in enumerate(connector.search_batch(queries()), 1):
        if number == 1 or number % max(count // 10, 1) == 0:
            print(f"{number:>9,} queries  {resident():7.0f} MB  {time.perf_counter() - started:6.0f} s")
    print(f"at most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:,.0f} MB")


def main(streamed: int) -> None:
    """Compare, and stream."""
    documents = standard_library()
    with tempfile.TemporaryDirectory() as folder:
        with Connector.create("docs", path=f"{folder}/default") as connector:
            connector.ingest(documents[:PASSAGES])
            compare(connector, ask(documents[PASSAGES : PASSAGES + QUERIES]))
        with Connector.create("docs", path=f"{folder}/dense", recipe="dense") as connector:
            connector.ingest(documents[:1000])
            stream(connector, streamed)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else STREAMED)
