"""The mean of queries: what it is, what follows it, and when it is left out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from connector import Connector, Document, Encoder, Recipe
from connector.cli import main
from connector.collection.search.candidates import query_tokens
from connector.core.errors import CollectionError, InputError
from connector.core.types import unit

QUERIES = [
    f"why does the {thing} number {number} run?"
    for number in range(10)
    for thing in ("a", "b", "c", "d", "e")
]
QUERY = "How does a program become machine code?"
RECIPE = Recipe(
    name="mine", layout="codes", codec="center+float32", query_rows="own", fusion="minmax:tokens=1"
)


@pytest.fixture
def docs(tmp_path: Path, encoder: Encoder, documents: list[Document]) -> Iterator[Connector]:
    with Connector.create("docs", path=tmp_path / "qdrant", recipe=RECIPE, model=encoder) as connector:
        connector.ingest(documents)
        yield connector


def test_query_tokens_are_centred_by_it(docs: Connector, encoder: Encoder, tmp_path: Path) -> None:
    embeddings = encoder.encode_queries(QUERIES)
    rows = np.concatenate([it.tokens[~it.special] for it in embeddings])
    found = docs.adapt_to_queries(QUERIES)
    assert (found.queries, found.tokens, found.saved) == (50, len(rows), True)
    (query,) = encoder.encode_queries([QUERY])
    expected = unit(query.tokens[~query.special] - rows.mean(axis=0))
    assert query_tokens(docs.collection, query).tokens == pytest.approx(expected, abs=1e-3)
    scores = [hit.score for hit in docs.search(QUERY)]
    docs.close()
    with Connector.open("docs", path=tmp_path / "qdrant", model=encoder) as again:
        assert [hit.score for hit in again.search(QUERY)] == scores
        again.collection.adapt(None)
        assert again.collection.metadata.query_mean is None
        passages = again.collection.codec
        assert passages is not None
        assert query_tokens(again.collection, query).tokens == pytest.approx(
            passages.encode_query(query.tokens[~query.special]), abs=1e-6
        )


def test_it_is_left_out_where_it_ranks_worse(docs: Connector, monkeypatch: pytest.MonkeyPatch) -> None:
    examples = [("bees", "doc 7"), ("otters", "doc 0"), ("bread", "doc 2")]
    found = docs.adapt_to_queries(QUERIES, examples)
    assert found.before is not None
    assert found.after is not None
    assert found.saved == (found.after >= found.before)
    docs.collection.adapt(None)
    values = iter([0.9, 0.8])
    monkeypatch.setattr("connector.evaluation.query_mean._quality", lambda *_: next(values))
    assert not docs.adapt_to_queries(QUERIES, examples).saved
    assert docs.collection.metadata.query_mean is None


def test_few_queries_and_codecs_that_do_not_centre_are_refused(
    docs: Connector, tmp_path: Path, encoder: Encoder, documents: list[Document]
) -> None:
    with pytest.raises(InputError, match=r"49 different queries .* at least 50"):
        docs.adapt_to_queries([*QUERIES[1:], QUERIES[1]])
    with Connector.create("plain", path=tmp_path / "other", recipe="compact", model=encoder) as plain:
        plain.ingest(documents)
        with pytest.raises(CollectionError, match="does not centre tokens"):
            plain.adapt_to_queries(QUERIES)


@pytest.mark.parametrize("kind", ["txt", "jsonl"])
def test_the_command(docs: Connector, tmp_path: Path, kind: str) -> None:
    docs.close()
    path = tmp_path / f"log.{kind}"
    lines = QUERIES if kind == "txt" else [json.dumps({"query": it}) for it in QUERIES]
    path.write_text("\n".join(lines), encoding="utf-8")

    def run(*words: Any) -> Any:
        place = ("--collection", "docs", "--path", tmp_path / "qdrant")
        return CliRunner().invoke(main, [str(it) for it in ("adapt", *place, *words)])

    said = json.loads(run("--queries", path, "--json").output)
    assert (said["queries"], said["saved"]) == (50, True)
    assert "as it was made for" in run("--reset").output
    assert run("--queries", path, "--reset").exit_code == 2
    assert run().exit_code == 2
