"""This library against its peers, on real data, in one run; writes benchmarks/RESULTS.md.

Peers are Qdrant alone (on Edge, and on a server where QDRANT_URL names one), fast-plaid, which is the
engine of PyLate's PLAID index, sentence-transformers' exhaustive MaxSim, BM25, and the dense model alone. All
get the same vectors and the same queries; no time includes encoding. What cannot be run is named, with the
reason.

fast-plaid needs a torch of its own: it is installed, with about 5 GB, into an environment in the temporary
folder, or in the folder after --environments, where it is found again.

    python benchmarks/peers.py [DATA] [CACHE] [--sets NAME,NAME] [--passages N] [--queries N]

DATA holds the sets in BEIR layout; CACHE keeps the encoder's output.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import random
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from _peers_data import SEED, Task, load
from _peers_page import Result, Row, page
from _peers_plaid import REQUIREMENT, Index, Plaid, environment, write_vectors
from _peers_systems import BM25, Edge, Exhaustive, Ours, System, server
from threadpoolctl import threadpool_limits

from connector import Recipe, load_encoder
from connector.collection.recipe import get_recipe
from connector.core.errors import one_line
from connector.encoders.cache import CachedEncoder
from connector.evaluation.metrics import measure

OURS: dict[str, Recipe] = {
    "default": get_recipe("default"),
    "tiny": get_recipe("tiny"),
    "hybrid": get_recipe("hybrid"),
}
"""What is measured of this library: names on the page, and recipes."""

FAST = 800
"""`n_full_scores` of fast-plaid where it is to be quick; its default is 4,096."""

T = TypeVar("T")

SETS = "squadshifts_reddit,scifact"
MOST_QUERIES = 300
THREADS = 2
TIMED, BLOCK, ROUNDS, PAUSE = 100, 10, 2, 0.2
SLOW_MS, SLOW_BLOCKS = 300, 3
PAGE = Path(__file__).with_name("RESULTS.md")
METHOD = (
    f"All ran with {THREADS} threads, and were timed in turns: {ROUNDS} rounds, each begun with a block of "
    f"{BLOCK} queries that does not count, over blocks of {BLOCK} queries; every system takes a block, in an "
    f"order that is shifted from block to block, after a pause of {PAUSE} s in which the threads of the one "
    "before come to rest, and one query that does not count. A system that takes more than "
    f"{SLOW_MS} ms a query is timed on {SLOW_BLOCKS * BLOCK} queries a round."
)


def main() -> None:
    given = arguments()
    names = given.sets.split(",")
    lacking = [name for name in names if not (given.data / name).is_dir()]
    if lacking:
        print(f"not run: {given.data} does not hold {' and '.join(lacking)}; give the folder that does")
        return
    limit_threads()
    quick = given.passages is not None or given.queries is not None
    shown = ["python benchmarks/peers.py DATA CACHE"]
    shown += [f"--{key} {getattr(given, key)}" for key in ("passages", "queries") if getattr(given, key)]
    shown += [f"--sets {given.sets}"] if given.sets != SETS else []
    attention = any("attention" in recipe.make_reduction().needs for recipe in OURS.values())
    versions: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="connector-peers-") as scratch, threadpool_limits(THREADS):
        encoder = CachedEncoder(load_encoder(device="cpu"), given.cache or Path(scratch) / "cache")
        python = plaid_python(given.environments)
        results = []
        for name in names:
            task = load(given.data / name, encoder, attention, MOST_QUERIES, given.passages, given.queries)
            with tempfile.TemporaryDirectory(dir=scratch) as home:
                results.append(compared(task, Path(home), encoder, python, versions))
            del task
            content = page(results, encoder.name, METHOD, quick, versions, " ".join(shown))
            PAGE.write_text(content, encoding="utf-8")
            print(f"wrote {PAGE.name}: {', '.join(it.name for it in results)}", flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", nargs="?", type=Path, default=Path("data"))
    parser.add_argument("cache", nargs="?", type=Path)
    parser.add_argument("--sets", default=SETS)
    parser.add_argument("--passages", type=int, help="take so many, for a quick try; judged ones stay")
    parser.add_argument("--queries", type=int, help="take so many, for a quick try")
    default = Path(tempfile.gettempdir()) / "connector-peers"
    parser.add_argument("--environments", type=Path, default=default, help="where fast-plaid is installed")
    return parser.parse_args()


def limit_threads() -> None:
    """Two threads, here and in the processes that are started; on Linux also two cores."""
    for name in ("OMP", "MKL", "OPENBLAS", "RAYON"):
        os.environ[f"{name}_NUM_THREADS"] = str(THREADS)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])
    torch.set_num_threads(THREADS)


def plaid_python(folder: Path) -> Path | Exception:
    """The Python that has fast-plaid, or why there is none."""
    try:
        return environment(folder)
    except (RuntimeError, OSError) as error:
        return error


def compared(
    task: Task, home: Path, encoder: CachedEncoder, python: Path | Exception, versions: dict[str, str]
) -> Result:
    """Builds all systems, asks them all queries, and times them in turns."""
    running: dict[str, System] = {}
    rows: list[Row] = []
    indexes: dict[int, Index] = {}
    try:
        for name, make in makers(task, home, encoder, python, indexes):
            row = Row(name, ours=name in map(called, OURS))
            rows.append(row)
            system = tried(row, make)
            if system is None:
                continue
            running[name] = system
            row.facts, row.note = system.facts, system.note
            if isinstance(system, Plaid):
                versions |= {
                    f"{package} of fast-plaid" if package == "torch" else package: version
                    for package, version in system.versions.items()
                }
            print(f"{task.name}: {name} built", flush=True)
        shutil.rmtree(home / "vectors", ignore_errors=True)
        for row in rows:
            judge(row, running, task)
        timed = time_all(rows, running, len(task.queries))
    finally:
        for row in rows:
            drop(row, running)
        for index in indexes.values():
            index.close()
    return Result.of(task, timed, rows)


def called(name: str) -> str:
    return f"ours: {name}"


def makers(
    task: Task,
    home: Path,
    encoder: CachedEncoder,
    python: Path | Exception,
    indexes: dict[int, Index],
) -> Iterator[tuple[str, Callable[[], System]]]:
    """The name of each row and what builds its system; indexes of fast-plaid are put in `indexes`."""

    def index(bits: int) -> Plaid:
        if isinstance(python, Exception):
            raise python
        if not (home / "vectors").exists():
            write_vectors(task, home / "vectors")
        indexes[bits] = Index(task, python, home / "vectors", home / f"plaid-{bits}", bits)
        return Plaid(indexes[bits])

    def again(bits: int) -> Plaid:
        if bits not in indexes:
            raise RuntimeError("its index was not built")
        return Plaid(indexes[bits], FAST)

    for number, (name, recipe) in enumerate(OURS.items()):
        yield (
            called(name),
            lambda number=number, recipe=recipe: Ours(task, home / f"ours-{number}", recipe, encoder),
        )
    yield "Qdrant Edge alone", lambda: Edge(task, home / "edge", tokens=True)
    yield "Qdrant server alone", lambda: server(task)
    version = ".".join(REQUIREMENT.partition("==")[2].split(".")[:3])
    plaid = f"fast-plaid {version} (PyLate's PLAID)"
    yield f"{plaid}, 2 bits", lambda: index(2)
    yield f"{plaid}, 2 bits, n_full_scores {FAST}", lambda: again(2)
    yield f"{plaid}, 4 bits", lambda: index(4)
    yield "sentence-transformers, exhaustive MaxSim", lambda: Exhaustive(task)
    yield "BM25 (bm25s)", lambda: BM25(task, home / "bm25")
    yield "the dense model alone, Qdrant Edge", lambda: Edge(task, home / "dense", tokens=False)


def tried(row: Row, call: Callable[[], T]) -> T | None:
    """What the call gives; None where a peer fails, whose row then says why. Ours may not fail."""
    if row.ours:
        return call()
    try:
        return call()
    except Exception as error:
        row.missing = reason(error)
        print(f"{row.name}: not run: {error!r}", file=sys.stderr)
        return None


def reason(error: Exception) -> str:
    """What an error says, without places on this machine."""
    said = str(error) if isinstance(error, LookupError | RuntimeError) else f"{type(error).__name__}: {error}"
    said = re.sub(r"\w+://\S+|(?<!\w)(?:/[\w.~+-]+){2,}/?", "…", said.strip().partition("\n")[0])
    return one_line(said).replace("|", "/")


def drop(row: Row, running: dict[str, System]) -> None:
    """Close a system, if it is open."""
    if row.name in running:
        with contextlib.nullcontext() if row.ours else contextlib.suppress(Exception):
            running.pop(row.name).close()


def judge(row: Row, running: dict[str, System], task: Task) -> None:
    """All queries, for nDCG@10; what was not asked before is in memory then."""
    system = running.get(row.name)
    if system is None:
        return
    answers = tried(row, lambda: system.everything(range(len(task.queries))))
    if answers is None:
        drop(row, running)
        return
    run = {name: answer.scores for name, answer in zip(task.judged.queries, answers, strict=True)}
    row.ndcg = measure(task.judged.qrels, run)["nDCG@10"]
    print(f"{task.name}: {row.name}: nDCG@10 {row.ndcg:.4f}", flush=True)


def time_all(rows: Sequence[Row], running: dict[str, System], queries: int) -> int:
    """Times all systems in turns, block by block, and says on how many queries."""
    drawn = random.Random(SEED).sample(range(queries), min(TIMED, queries))
    blocks = [drawn[start : start + BLOCK] for start in range(0, len(drawn), BLOCK)]
    shift = itertools.count()
    for _ in range(ROUNDS):
        warm = {row.name: take(row, running, blocks[-1], drawn[0]) for row in rows if row.name in running}
        slow = {name for name, ms in warm.items() if ms and sum(ms) / len(ms) > SLOW_MS}
        for number, block in enumerate(blocks):
            first = next(shift) % len(rows)
            for row in [*rows[first:], *rows[:first]]:
                if row.name not in running or (row.name in slow and number >= SLOW_BLOCKS):
                    continue
                row.ms += take(row, running, block, blocks[number - 1][-1])
    return len(drawn)


def take(row: Row, running: dict[str, System], block: list[int], before: int) -> list[float]:
    """Milliseconds of a block of queries, after a pause and a query that does not count."""
    time.sleep(PAUSE)
    system = running[row.name]
    answers = tried(row, lambda: (system.ask([before]), system.ask(block))[1])
    if answers is None:
        drop(row, running)
        return []
    return [answer.ms for answer in answers]


if __name__ == "__main__":
    main()
