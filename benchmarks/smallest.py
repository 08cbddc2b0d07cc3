"""How small: all vectors of a passage in half of one float32 dense vector, against all tokens at full width.

nDCG@10 of reranks: of 200 candidates by CLS vectors on SciFact and squadshifts_reddit (1,000 queries), and of
BM25's top 100 on TREC DL 2019. The parts of the recipe were chosen on the training and development queries of
SciFact, SQuAD, NFCorpus and CheckThat! 2020. CLS vectors take 196 bytes of those that are printed.

    python benchmarks/smallest.py [DATA] [CACHE]
"""

from __future__ import annotations

import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from _rerank import SETS, Task, dl19, encode, ndcg, scifact

from connector import Recipe, load_encoder
from connector.collection.coding import CodedPassages, code
from connector.collection.pipeline import QueryTokens, scores
from connector.core.types import Float32
from connector.encoders.cache import CachedEncoder
from connector.evaluation.beir import Judged, load_judged

REDDIT = "squadshifts_reddit"
QUERIES, CANDIDATES = 1_000, 200

SIGNS = Recipe(
    name="signs",
    layout="codes",
    reduction="ward-6",
    codec="linear-128+binary",
    head="all-MiniLM-L6-v2",
    cls="turbo4",
)
"""Of the projection that is trained."""

STEPS: dict[str, Recipe] = {
    "all tokens, full width, float16": Recipe(name="floats", layout="multivector", codec="float16"),
    "to 128 trained dimensions": SIGNS.varied(reduction="none", codec="linear-128+float16"),
    "and one bit of each": SIGNS.varied(reduction="none"),
    "and pooled to 35 tokens, without punctuation": SIGNS.varied(reduction="punctuation+ward-to-35"),
    "or pooled by 7": SIGNS.varied(reduction="punctuation+ward-7"),
    "or 64 dimensions, 71 tokens": SIGNS.varied(reduction="punctuation+ward-to-71", codec="linear-64+binary"),
}
"""What is measured, each against the first."""


def main() -> None:
    data = Path(sys.argv[1] if len(sys.argv) > 1 else "data")
    lacking = [name for name in (*SETS, REDDIT) if not (data / name).is_dir()]
    if lacking:
        print(f"not run: {data} does not hold {' and '.join(lacking)}; give the folder that does")
        return
    with tempfile.TemporaryDirectory() as scratch:
        encoder = CachedEncoder(load_encoder(), Path(sys.argv[2] if len(sys.argv) > 2 else scratch))
        found = []
        for make, name in ((scifact, SETS[0]), (dl19, SETS[1]), (reddit, REDDIT)):
            found.append(measured(make(data / name, encoder), encoder))
    print("| | SciFact | DL19 | Reddit | mean share |\n|---|---|---|---|---|")
    for name in STEPS:
        shares = [one[name][1] / one[next(iter(STEPS))][1] for one in found]
        cells = [
            f"{one[name][1]:.4f} ({share:.1%}), {one[name][0]:,.0f} bytes"
            for one, share in zip(found, shares, strict=True)
        ]
        print(f"| {' | '.join([name, *cells, f'{np.mean(shares):.1%}'])} |")


def reddit(folder: Path, encoder: CachedEncoder) -> Task:
    """Short posts, asked by a fixed sample of the queries."""
    judged = load_judged(folder, "test")
    embedded = dict(zip(judged.queries, encoder.encode_queries(list(judged.queries.values())), strict=True))
    asked = random.Random(0).sample(list(judged.queries), QUERIES)
    judged = Judged({it: judged.queries[it] for it in asked}, {it: judged.qrels[it] for it in asked})
    ids, passages = encode(folder, encoder, None, attention=False)
    cls = np.stack([passage.cls for passage in passages])
    nearest = {it: np.argsort(-(cls @ embedded[it].cls))[:CANDIDATES].tolist() for it in asked}
    return Task("Reddit", judged, ids, passages, {it: embedded[it] for it in asked}, nearest)


def measured(task: Task, encoder: CachedEncoder) -> dict[str, tuple[float, float]]:
    """Bytes a passage and nDCG@10 of each step."""
    texts = [passage.text for passage in task.passages]
    found = {}
    for name, recipe in STEPS.items():
        (coded,) = code(texts, encoder, [recipe.for_model(encoder.fingerprint, encoder.late_interaction)])
        found[name] = coded.bytes_per_passage, ndcg(task, scorer(task, coded))
        print(f"{task.name}: {name}: {found[name]}", file=sys.stderr)
    return found


def scorer(task: Task, coded: CodedPassages) -> Callable[[str, list[int]], Float32]:
    """Scores of a query's candidates by MaxSim over what is stored."""

    def score(query: str, candidates: list[int]) -> Float32:
        embedding = task.queries[query]
        asked = QueryTokens(embedding, coded.codec.encode_query(embedding.tokens), None)
        return scores(coded.codec, asked, coded.of(np.array(candidates)), None)

    return score


if __name__ == "__main__":
    main()
