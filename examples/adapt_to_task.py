"""Adapt a collection to a task by a few examples: no training, no point is written.

    python examples/adapt_to_task.py [FILE EXAMPLES]

EXAMPLES is a `.jsonl` file of queries and the ids of documents of FILE that answer them, an object a line:
{"query": "…", "id": "…"}.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from _corpus import corpus, given

from connector import Connector

EXAMPLES = {
    "smallest items of a list": "heapq.nsmallest",
    "combine sorted inputs into one": "heapq.merge",
    "remember results of calls": "functools.lru_cache",
    "words spelled nearly the same": "difflib.get_close_matches",
    "delete a folder with everything in it": "shutil.rmtree",
    "count things": "collections.Counter",
    "independent copy of nested objects": "copy.deepcopy",
    "file names that match a pattern": "glob.glob",
    "where is a program installed": "shutil.which",
    "dictionary that makes missing values": "collections.defaultdict",
}


def main(file: str | None, examples: str | None) -> None:
    pairs = list(EXAMPLES.items())
    if file is not None and examples is None:
        raise SystemExit("give EXAMPLES, too: queries, and the ids of documents of FILE that answer them")
    if examples is not None:
        lines = Path(examples).read_text(encoding="utf-8").splitlines()
        pairs = [(it["query"], it["id"]) for it in map(json.loads, filter(None, lines))]
    with (
        tempfile.TemporaryDirectory() as folder,
        Connector.create("docs", path=folder) as connector,
    ):
        connector.ingest(corpus(file))
        adaptation = connector.adapt(pairs, save=True)
        print(f"{adaptation.queries} queries, nDCG@10 by how candidates are scored:")
        for result in sorted(adaptation.results, key=lambda it: -it.ndcg)[:5]:
            print(f"  {result.ndcg:.3f}  {result.strategy.name}")
        before, chosen = adaptation.before, adaptation.chosen
        print(f"before: {before.strategy.name}, {before.ndcg:.3f}")
        if adaptation.saved:
            print(f"from now on: {chosen.strategy.name}; expect {adaptation.leave_one_out:.3f} of others")
        else:
            print("kept: nothing else is better by more than luck explains")


if __name__ == "__main__":
    main(*given(__doc__, "FILE", "EXAMPLES"))
