"""The façade from create to drop, on every engine."""

from __future__ import annotations

import base64
import datetime
import random
import re
import string
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from qdrant_client import models

from connector import RECIPES, Connector, Document, Embedding, Encoder, Hits, IngestReport, load_encoder
from connector.collection import ingest as ingest_module
from connector.collection.collection import Collection
from connector.compression.codecs import Codec
from connector.core.errors import (
    CollectionError,
    CollectionExists,
    CollectionNotFound,
    DocumentError,
    EncoderMismatch,
    InputError,
    RecipeError,
    StoreLocked,
)
from connector.scoring.bm25 import BM25
from connector.stores import open_store
from connector.stores.schema import CollectionSchema, VectorSchema
from tests.conftest import INDEXES

QUERIES = {
    "how do bees tell each other the way": "doc 7",
    "what makes bread rise": "doc 2",
    "who discovered satellites of a planet": "doc 3",
}

WHALES = "The humpback whale sings for hours under water."
CLOCKS = "A pendulum clock loses time when the summer is hot."
CHEESE = "Blue cheese is pierced with needles so that mould can breathe."
LONG = f"{WHALES} {CLOCKS} {CHEESE}"


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain BERT of 32 dimensions with random weights."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("tiny-bert")
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces += [*string.ascii_lowercase, *(f"##{letter}" for letter in string.ascii_lowercase), ".", ","]
    (folder / "vocab.txt").write_text("\n".join(pieces))
    BertTokenizerFast(vocab=str(folder / "vocab.txt"), model_max_length=64).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(pieces),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny(tiny_bert: Path) -> Encoder:
    return load_encoder(str(tiny_bert))


@pytest.fixture(scope="session")
def tiny_head(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A head for it, drawn at random."""
    import torch
    from sentence_transformers.base.modules import Dense

    from connector.encoders.modules import SaliencyHead

    folder = tmp_path_factory.mktemp("tiny-head")
    torch.manual_seed(0)
    identity = torch.nn.Identity()
    modules = {"linear-16": Dense(32, 16, bias=False, activation_function=identity)}
    modules["saliency"] = SaliencyHead(32)
    for name, module in modules.items():
        (folder / name).mkdir()
        module.save(str(folder / name))
    return folder


class Remembering:
    """An encoder that encodes no batch of texts twice."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._known: dict[tuple[str, ...], list[Embedding]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)

    def encode_documents(self, texts: Sequence[str], attention: bool = False) -> list[Embedding]:
        encode = partial(self._encoder.encode_documents, attention=attention)
        return self._remember(f"document {attention}", texts, encode)

    def encode_queries(self, texts: Sequence[str]) -> list[Embedding]:
        return self._remember("query", texts, self._encoder.encode_queries)

    def _remember(self, task: str, texts: Sequence[str], encode: Callable[..., Any]) -> list[Embedding]:
        key = (task, *texts)
        if key not in self._known:
            self._known[key] = encode(texts)
        return list(self._known[key])


@pytest.fixture(scope="session")
def encoder(encoder: Encoder) -> Any:
    """The default model; remembering spares most of the time of these tests."""
    return Remembering(encoder)


@pytest.fixture(params=list(RECIPES))
def recipe(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def make(
    place: dict[str, Any], name: str, encoder: Encoder, tiny_head: Path
) -> Iterator[Callable[..., Connector]]:
    """Makes the collection `name`, empty; it is dropped at the end."""

    def create(recipe: Any = "pooled", model: Any = encoder) -> Connector:
        if recipe == "aligner" and model.token_width == 32:
            recipe = RECIPES["aligner"].varied(codec="linear-16+binary", head=str(tiny_head))
        made.append(
            Connector.create(
                name,
                **place,
                recipe=recipe,
                model=model,
                indexes={**INDEXES, "n": "integer", "year": "datetime"},
            )
        )
        return made[0]

    made: list[Connector] = []
    yield create
    for connector in made:
        connector.close()


@pytest.fixture
def filled(make: Callable[..., Connector], documents: list[Document]) -> Connector:
    """The twelve documents, under a recipe that stores tokens and has no projection to fit."""
    connector = make("floats")
    connector.ingest(documents)
    return connector


class Wrapped:
    """An encoder that counts what it encodes, and fails or waits when it is told to."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self.encoded = 0
        self.before: Callable[[], object] = lambda: None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)

    def encode_documents(self, texts: Sequence[str], attention: bool = False) -> list[Embedding]:
        self.before()
        self.encoded += len(texts)
        return self._encoder.encode_documents(texts, attention)


class Stop(Exception):
    """What a killed run does in these tests."""


def stop_after(calls: int) -> Callable[[], None]:
    left = iter(range(calls))

    def stop() -> None:
        if next(left, None) is None:
            raise Stop

    return stop


@pytest.fixture
def wrapped(tiny: Encoder) -> Wrapped:
    return Wrapped(tiny)


def summary(hits: Hits) -> list[tuple[Any, ...]]:
    return [(hit.id, hit.passage, hit.text, hit.title, hit.metadata, round(hit.score, 4)) for hit in hits]


def ids(hits: Hits) -> list[str]:
    return [hit.id for hit in hits]


def texts(connector: Connector) -> set[str]:
    """The texts of all stored passages."""
    return {
        str(record.payload["text"]) for record in connector.collection.store.scroll(connector.name, ["text"])
    }


def equals(key: str, value: Any) -> models.Filter:
    return models.Filter(must=[models.FieldCondition(key=key, match=models.MatchValue(value=value))])


# From create to drop


def test_a_collection_opened_by_name_alone_gives_the_same_hits(
    make: Callable[..., Connector], place: dict[str, Any], name: str, recipe: str, documents: list[Document]
) -> None:
    made = make(recipe)
    report = made.ingest(documents)
    assert (report.documents, report.passages, report.unchanged, report.bad) == (12, 12, 0, [])
    before = {query: summary(made.search(query)) for query in QUERIES}
    made.close()
    with Connector.open(name, **place) as opened:
        assert opened.recipe == RECIPES[recipe].for_model(opened.encoder.fingerprint)
        assert {query: summary(opened.search(query)) for query in QUERIES} == before
        for query, id_ in QUERIES.items():
            assert opened.search(query, k=1)[0].id == id_


@pytest.mark.usefixtures("filled")
def test_opening_loads_no_model_until_it_is_needed(place: dict[str, Any], name: str) -> None:
    with Connector.open(name, **place, model="no/such/model") as opened:
        assert opened.stats().documents == 12


def test_a_taken_name_is_refused(
    filled: Connector, place: dict[str, Any], name: str, encoder: Encoder
) -> None:
    with pytest.raises(CollectionExists, match=name):
        Connector.create(name, **place, model=encoder)
    assert filled.stats().documents == 12


@pytest.mark.usefixtures("filled")
def test_an_unknown_name_is_refused_and_the_known_ones_named(place: dict[str, Any], name: str) -> None:
    with pytest.raises(CollectionNotFound, match=name):
        Connector.open("no-such", **place)


@pytest.mark.parametrize("bad", ["", "a b", "-a", "ä", "a/b", "../a", "a" * 129, "a__artifacts", "a\n"])
def test_a_name_that_some_engine_refuses_is_refused(bad: str, tmp_path: Path, encoder: Encoder) -> None:
    with pytest.raises(InputError, match="collection name"):
        Connector.create(bad, path=tmp_path / "qdrant", model=encoder)
    assert not (tmp_path / "qdrant").exists()


def test_an_unknown_recipe_is_refused(place: dict[str, Any], name: str, encoder: Encoder) -> None:
    with pytest.raises(RecipeError, match=r"no-such.*compact"):
        Connector.create(name, **place, recipe="no-such", model=encoder)


def test_a_collection_of_another_format_is_refused(place: dict[str, Any], name: str) -> None:
    store = open_store(**place)
    store.create(name, CollectionSchema((VectorSchema("cls", 4, "float32"),)), {"format": "9"})
    with pytest.raises(CollectionError, match="format 9"):
        Connector.open(name, **place)
    store.drop(name)
    store.close()


def test_drop_forgets_the_collection(filled: Connector, place: dict[str, Any], name: str) -> None:
    filled.drop()
    with pytest.raises(CollectionNotFound):
        Connector.open(name, **place)


def test_a_closed_connector_refuses(filled: Connector, documents: list[Document]) -> None:
    hit = filled.search("bread")[0]
    filled.close()
    filled.close()
    for use in (
        lambda: filled.search("bread"),
        lambda: filled.ingest(documents),
        lambda: filled.explain("bread", hit),
        filled.stats,
        filled.drop,
    ):
        with pytest.raises(InputError, match="closed"):
            use()


def test_a_connector_that_could_not_be_made_holds_no_lock(tmp_path: Path, encoder: Encoder) -> None:
    Connector.create("a", path=tmp_path, model=encoder).close()
    for failing in (lambda: Connector.open("b", path=tmp_path), lambda: Connector.create("a", path=tmp_path)):
        with pytest.raises(CollectionError):
            failing()
    store = open_store(path=tmp_path)
    store.close()
    assert getattr(store, "_lock", None) is None


# Search


def test_hits_are_ordered_by_score(filled: Connector) -> None:
    hits = filled.search("software that translates source code")
    scores = [hit.score for hit in hits]
    assert scores == sorted(scores, reverse=True)
    assert ids(hits)[0] == "doc 1"
    assert hits[0].parts["tokens"].value == hits[0].score


@pytest.mark.parametrize("recipe", ["floats", "pooled"], indirect=True)
def test_client_and_server_agree(
    make: Callable[..., Connector], recipe: str, documents: list[Document]
) -> None:
    connector = make(recipe)
    connector.ingest(documents)
    for query in QUERIES:
        client = {hit.id: hit.score for hit in connector.search(query, 12, rerank="client")}
        server = {hit.id: hit.score for hit in connector.search(query, 12, rerank="server")}
        assert client == pytest.approx(server, abs=1e-3)
        assert summary(connector.search(query)) == summary(connector.search(query, rerank="server"))


def test_colbert_scores_are_maxsim_of_the_encoders_tokens(
    make: Callable[..., Connector], encoder: Encoder, documents: list[Document]
) -> None:
    connector = make("floats")
    connector.ingest(documents)
    query = encoder.encode_queries(["dancing bees"])[0].tokens
    passages = encoder.encode_documents([document.text for document in documents])
    expected = {
        document.id: float((query @ passage.tokens.T).max(axis=1).sum())
        for document, passage in zip(documents, passages, strict=True)
    }
    assert {hit.id: hit.score for hit in connector.search("dancing bees", 12)} == pytest.approx(
        expected, abs=3e-3
    )


def test_scores_of_codes_are_maxsim_of_the_decoded_rows(
    make: Callable[..., Connector],
    place: dict[str, Any],
    name: str,
    encoder: Encoder,
    documents: list[Document],
) -> None:
    connector = make("compact")
    connector.ingest(documents)
    store = open_store(**place)
    codec = Collection(store, name).codec
    assert codec is not None
    query = codec.encode_query(encoder.encode_queries(["dancing bees"])[0].tokens)
    expected = {}
    for record in store.scroll(name, ["id", "codes"]):
        rows = codec.decode(codec.stored(base64.b64decode(record.payload["codes"])))
        expected[record.payload["id"]] = float((query @ rows.T).max(axis=1).sum())
    assert {hit.id: hit.score for hit in connector.search("dancing bees", 12)} == pytest.approx(
        expected, abs=1e-4
    )
    store.close()


def test_without_rerank_the_order_is_that_of_the_cls_vectors(
    filled: Connector, encoder: Encoder, documents: list[Document]
) -> None:
    query = encoder.encode_queries(["a stringed instrument"])[0].cls
    passages = encoder.encode_documents([document.text for document in documents])
    scores = {
        document.id: float(passage.cls @ query) for document, passage in zip(documents, passages, strict=True)
    }
    hits = filled.search("a stringed instrument", 12, rerank=None)
    assert ids(hits) == sorted(scores, key=lambda id_: -scores[id_])
    assert {hit.id: hit.score for hit in hits} == pytest.approx(scores, abs=1e-5)
    assert all(set(hit.parts) == {"cls"} for hit in hits)


@pytest.mark.parametrize(
    ("recipe", "rerank"),
    [("dense", "client"), ("dense", "server"), ("compact", "server")],
    indirect=["recipe"],
)
def test_a_rerank_that_the_layout_lacks_is_refused(
    make: Callable[..., Connector], recipe: str, rerank: Any, documents: list[Document]
) -> None:
    connector = make(recipe)
    connector.ingest(documents[:2])
    with pytest.raises(CollectionError, match=connector.name):
        connector.search("bread", rerank=rerank)


@pytest.mark.parametrize("wrong", [{"rerank": "best"}, {"k": 0}, {"candidates": 0}, {"filter": {"must": []}}])
def test_search_arguments_out_of_range_are_refused(filled: Connector, wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        filled.search("bread", **wrong)


@pytest.mark.parametrize("query", ["", " \n\t", "a\0b", "a\ud800b", None, b"bread"])
def test_a_query_that_is_no_text_is_refused(filled: Connector, query: Any) -> None:
    with pytest.raises(InputError):
        filled.search(query)


def test_ms_tells_where_the_time_went(filled: Connector) -> None:
    for rerank in ("client", "server", None):
        ms = filled.search("bread", rerank=rerank).ms
        assert set(ms) == {"encode", "candidates", "rerank", "feedback", "total"}
        assert all(value >= 0 for value in ms.values())
        assert ms["total"] == pytest.approx(sum(ms.values()) - ms["total"])


def test_an_empty_collection_has_no_hits(make: Callable[..., Connector], recipe: str, tiny: Encoder) -> None:
    connector = make(recipe, tiny)
    for rerank in ("auto", None):
        hits = connector.search("bread", rerank=rerank)
        assert hits == []
        assert set(hits.ms) == {"encode", "candidates", "rerank", "feedback", "total"}


def test_a_filter_that_matches_nothing_has_no_hits(
    make: Callable[..., Connector], recipe: str, tiny: Encoder, documents: list[Document]
) -> None:
    connector = make(recipe, tiny)
    connector.ingest(documents)
    assert connector.search("bread", filter=equals("number", 99)) == []


@pytest.mark.parametrize("rerank", ["client", "server", None])
def test_a_filter_is_on_metadata_keys(filled: Connector, rerank: Any) -> None:
    hits = filled.search("bread", 12, filter=equals("even", True), rerank=rerank)
    assert sorted(hit.metadata["number"] for hit in hits) == [0, 2, 4, 6, 8, 10]
    one = filled.search("bread", filter=equals("number", 7), candidates=1, rerank=rerank)
    assert ids(one) == ["doc 7"]


def test_more_hits_than_documents_are_all_documents(
    make: Callable[..., Connector], recipe: str, tiny: Encoder, documents: list[Document]
) -> None:
    connector = make(recipe, tiny)
    connector.ingest(documents)
    hits = connector.search("bread", 1000)
    assert sorted(ids(hits)) == sorted(document.id for document in documents)


def test_k_and_candidates_cut(filled: Connector) -> None:
    all_hits = filled.search("bread", 12)
    assert summary(filled.search("bread", 3)) == summary(all_hits)[:3]
    assert len(filled.search("bread", 5, candidates=1)) == 5


def test_equal_scores_are_ordered_by_id(make: Callable[..., Connector], recipe: str, tiny: Encoder) -> None:
    connector = make(recipe, tiny)
    connector.ingest([Document(id=id_, text=CLOCKS) for id_ in ("b", "c", "a")])
    hits = connector.search("clock")
    assert sorted(ids(hits)) == ["a", "b", "c"]
    assert list(hits) == sorted(hits, key=lambda hit: (-hit.score, hit.id))


# Ingest


def test_documents_round_trip(make: Callable[..., Connector], recipe: str, tiny: Encoder) -> None:
    metadata: dict[str, Any] = {
        "ключ": "日本 🦦 e\u0301",
        "nothing": None,
        "deep": {"list": [1, 2.5, True, False, None, {"": []}], "big": 2**62},
        "tuple": (1, 2),
    }
    document = Document(
        id="id/ü 🦦?", text="Otters 🦦 schlafen Hand in Hand.\r\n", title="Ötter", metadata=metadata
    )
    connector = make(recipe, tiny)
    connector.ingest([document])
    (hit,) = connector.search("otters")
    assert (hit.id, hit.text, hit.title, hit.passage) == (document.id, document.text, "Ötter", 0)
    assert hit.metadata == {**metadata, "tuple": [1, 2]}


def test_the_title_is_searched(make: Callable[..., Connector], documents: list[Document]) -> None:
    connector = make("floats")
    titled = Document(id="titled", text="It is described below.", title="Opera in Vienna")
    connector.ingest([*documents, titled])
    assert connector.search("opera in Vienna", 1)[0].id == "titled"


def test_ingesting_again_writes_nothing(
    make: Callable[..., Connector], wrapped: Wrapped, recipe: str, documents: list[Document]
) -> None:
    connector = make(recipe, wrapped)
    connector.ingest(documents)
    wrapped.encoded = 0
    calls: list[IngestReport] = []
    report = connector.ingest(documents, progress=calls.append)
    assert (report.unchanged, report.documents, report.passages, report.token_bytes) == (12, 0, 0, 0)
    assert wrapped.encoded == 0
    assert [call.unchanged for call in calls] == [12], "a progress bar moves"


def test_only_what_changed_is_written(
    make: Callable[..., Connector], wrapped: Wrapped, documents: list[Document]
) -> None:
    connector = make(model=wrapped)
    connector.ingest(documents)
    wrapped.encoded = 0
    changed = [
        Document(id="doc 0", text=WHALES, metadata=documents[0].metadata),
        Document(id="doc 1", text=documents[1].text, metadata={"number": 100}),
        Document(id="doc 2", text=documents[2].text, title="New", metadata=documents[2].metadata),
    ]
    report = connector.ingest([*changed, *documents[3:]])
    assert (report.documents, report.metadata_updated, report.unchanged) == (2, 1, 9)
    assert wrapped.encoded == 2
    hits = {hit.id: hit for hit in connector.search("whale", 20)}
    assert len(hits) == connector.stats().passages == 12
    assert hits["doc 0"].text == WHALES
    assert hits["doc 1"].metadata == {"number": 100}
    assert hits["doc 2"].title == "New"


def test_a_split_document_gives_one_hit_with_its_best_passage(
    make: Callable[..., Connector], recipe: str, documents: list[Document]
) -> None:
    connector = make(recipe)
    report = connector.ingest([*documents, Document(id="long", text=LONG)], chunk_tokens=12)
    assert report.documents == 13
    assert report.passages == connector.stats().passages > 15
    for query, sentence in (("songs of whales", WHALES), ("mould in cheese", CHEESE)):
        hits = connector.search(query, 20)
        assert len(ids(hits)) == len(set(ids(hits))) == 13
        assert hits[0].id == "long"
        assert hits[0].text in LONG
        assert len(set(hits[0].text.split()) & set(sentence.split())) >= 4
        assert (hits[0].passage == 0) == LONG.startswith(hits[0].text)


def test_chunks_hold_the_whole_text(make: Callable[..., Connector]) -> None:
    connector = make("dense")
    connector.ingest([Document(id="long", text=LONG)], chunk_tokens=8)
    assert set(LONG.split()) == {word for text in texts(connector) for word in text.split()}
    connector.ingest([Document(id="long", text=LONG)], chunk_tokens=8, chunk_overlap=4)
    assert sum(len(text.split()) for text in texts(connector)) > len(LONG.split())


def test_a_document_that_gets_shorter_loses_its_surplus(make: Callable[..., Connector]) -> None:
    connector = make("dense")
    connector.ingest([Document(id="other", text=WHALES), Document(id="a", text=LONG)], chunk_tokens=6)
    connector.ingest([Document(id="a", text=CLOCKS)], chunk_tokens=100)
    assert CLOCKS in texts(connector)
    assert not any("cheese" in text for text in texts(connector))
    assert connector.stats().documents == 2


def test_other_chunks_replace_the_old_ones(make: Callable[..., Connector]) -> None:
    connector = make("dense")
    document = Document(id="a", text=LONG)
    for chunk_tokens in (6, 20, 9, None, 6):
        connector.ingest([document], chunk_tokens=chunk_tokens)
        fresh = ["".join(text) for text in texts(connector)]
        assert sum(map(len, fresh)) <= len(LONG)
        assert set(" ".join(fresh).split()) == set(LONG.split())


@pytest.mark.parametrize("chunks", [{"chunk_tokens": 0}, {"chunk_tokens": 5, "chunk_overlap": 5}])
@pytest.mark.parametrize("also", [{}, {"skip_bad": True}])
def test_chunk_sizes_out_of_range_are_refused(filled: Connector, chunks: Any, also: Any) -> None:
    with pytest.raises(InputError, match="chunk"):
        filled.ingest([Document(id="a", text=LONG)], **chunks, **also)


def test_overlap_without_chunks_is_refused(filled: Connector) -> None:
    with pytest.raises(InputError, match="overlap is 3"):
        filled.ingest([], chunk_overlap=3)


def test_chunks_over_the_encoders_window_are_refused(filled: Connector) -> None:
    with pytest.raises(InputError, match="at most"):
        filled.ingest([Document(id="a", text=LONG)], chunk_tokens=100_000)


def test_what_lies_beyond_the_window_is_counted_and_said_once(
    make: Callable[..., Connector], caplog: pytest.LogCaptureFixture
) -> None:
    connector = make("dense")
    report = connector.ingest([Document(id="a", text="word " * 300), Document(id="b", text="word")])
    window = len(connector.encoder.encode_documents(["word " * 300])[0]) - 2
    assert (report.truncated, report.tokens_lost) == (1, 300 - window)
    (warning,) = (record.getMessage() for record in caplog.records)
    assert f"1 of 2 passages were longer than the model's window: {300 - window} tokens" in warning
    assert "chunk_tokens" in warning
    caplog.clear()
    connector.ingest([Document(id="a", text="word " * 300, metadata={"year": 2001})])
    assert not caplog.records


@pytest.mark.parametrize("recipe", ["dense", "pooled", "compact"])
def test_of_a_document_with_other_metadata_the_metadata_alone_is_written(
    make: Callable[..., Connector], recipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    connector = make(recipe)
    texts = {"split": f"{WHALES} {CLOCKS} {CHEESE} " * 4, "whole": WHALES}
    before = [Document(it, text, "A title", {"year": 2001, "old": True}) for it, text in texts.items()]
    after = [Document(it, text, "A title", {"year": datetime.date(2002, 3, 4)}) for it, text in texts.items()]
    options = {"chunk_tokens": 30, "chunk_overlap": 5}
    written = connector.ingest(before, **options)
    assert written.passages > 3
    wanted = ranking(connector, "clocks")
    with monkeypatch.context() as patched:
        patched.setattr(type(connector.encoder), "encode_documents", None)
        report = connector.ingest(after, **options)
    assert (report.documents, report.unchanged, report.metadata_updated) == (0, 0, 2)
    assert all(document.metadata == {"year": "2002-03-04"} for document in connector.get(texts))
    assert ranking(connector, "clocks") == wanted
    day = models.DatetimeRange(gte=datetime.date(2002, 1, 1))
    match = models.Filter(must=[models.FieldCondition(key="year", range=day)])
    assert {hit.id for hit in connector.search("clocks", filter=match)} == set(texts)
    again = connector.ingest(after, **options)
    assert (again.documents, again.unchanged, again.metadata_updated) == (0, 2, 0)
    titled = connector.ingest([replace(after[0], title="Another title")], **options)
    assert (titled.documents, titled.metadata_updated) == (1, 0)


def ranking(connector: Connector, text: str) -> list[tuple[str, float, int]]:
    return [(hit.id, hit.score, hit.passage) for hit in connector.search(text)]


RECORDS = [
    {"id": "a", "text": WHALES, "title": "Whales", "year": 2001},
    {"_id": 7, "contents": CLOCKS, "metadata": {"year": 2002}},
]


def test_dicts_are_documents_by_the_names_of_their_fields(make: Callable[..., Connector]) -> None:
    connector = make()
    assert connector.ingest([*RECORDS, Document(id="c", text=CHEESE)]).documents == 3
    there = [(it.id, it.text, it.title, it.metadata) for it in connector.get(["a", "7"])]
    assert there == [("a", WHALES, "Whales", {"year": 2001}), ("7", CLOCKS, None, {"year": 2002})]
    fields = {"id": "pmid", "text": "abstract", "title": "head"}
    row = MappingProxyType({"pmid": "d", "abstract": LONG, "head": "All", "text": "kept"})
    assert connector.ingest(iter([row]), fields=fields).documents == 1
    (hit,) = connector.get(["d"])
    assert (hit.text, hit.title, hit.metadata) == (LONG, "All", {"text": "kept"})


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (
            {"id": "b", "words": "x"},
            r"record 2: no text; its fields are 'id', 'words': name the one",
        ),
        ({"text": "x", "key": 1}, r"record 2: no id; its fields are 'text', 'key': name the one with the id"),
        ({"id": "b", "text": 3}, r"record 2: document 'b': text is int"),
        ({"id": "b", "text": "x", "when": {1}}, r"record 2: document 'b': metadata.when is of type set"),
        ("b", r"'b' is a str; give connector.Document objects, or dicts"),
    ],
)
def test_a_bad_dict_is_named_by_its_number_and_keys(
    make: Callable[..., Connector], record: Any, words: str
) -> None:
    connector = make()
    with pytest.raises(DocumentError, match=words):
        connector.ingest([RECORDS[0], record])
    report = connector.ingest([RECORDS[0], record, RECORDS[1]], skip_bad=True)
    assert connector.count() == 2
    (bad,) = report.bad
    assert re.search(words, bad)


def test_fields_that_are_none_of_a_document_are_refused(filled: Connector) -> None:
    with pytest.raises(InputError, match=r"fields is \{'body': 'abstract'\}; name those of id, text"):
        filled.ingest(RECORDS, fields={"body": "abstract"})
    with pytest.raises(DocumentError, match="record 1: no text; its fields are 'id', 'text'"):
        filled.ingest(RECORDS, fields={"text": "abstract"})


def test_an_id_with_two_contents_is_refused(make: Callable[..., Connector]) -> None:
    connector = make("dense")
    twice = [Document(id="a", text=WHALES), Document(id="a", text=CLOCKS), Document(id="b", text=CHEESE)]
    with pytest.raises(DocumentError, match="'a'"):
        connector.ingest(twice)
    report = connector.ingest(twice, skip_bad=True)
    assert len(report.bad) == 1
    assert "'a'" in report.bad[0]
    assert texts(connector) == {WHALES, CHEESE}


def test_an_exact_repetition_is_harmless(make: Callable[..., Connector]) -> None:
    connector = make("dense")
    report = connector.ingest([Document(id="a", text=WHALES, metadata={"n": 1, "m": 2})] * 3)
    again = connector.ingest([Document(id="a", text=WHALES, metadata={"m": 2, "n": 1})])
    assert (report.documents, report.bad, again.unchanged) == (1, [], 1)
    assert connector.stats().passages == 1


def test_a_bad_document_leaves_those_before_it_written(
    make: Callable[..., Connector], documents: list[Document]
) -> None:
    connector = make("dense")
    bad = Document(id="doc 0", text="Another text under the same id.")
    with pytest.raises(DocumentError):
        connector.ingest([*documents, bad])
    assert connector.stats().documents == 12


def test_a_text_over_the_limit_must_be_split(
    make: Callable[..., Connector], monkeypatch: pytest.MonkeyPatch
) -> None:
    connector = make("dense")
    with pytest.raises(DocumentError, match=r"100,001 characters.*chunk_tokens"):
        connector.ingest([Document(id="a", text="a" * 100_001)])
    monkeypatch.setattr("connector.collection.documents.passages.MAX_PASSAGE_CHARS", len(LONG) - 1)
    too_long = [Document(id="a", text=LONG), Document(id="b", text=WHALES)]
    assert len(connector.ingest(too_long, skip_bad=True).bad) == 1
    split = connector.ingest(too_long, chunk_tokens=20)
    assert (split.documents, split.metadata_updated) == (1, 1)  # of one, the passages are as before


def test_ingesting_nothing_is_harmless(make: Callable[..., Connector], recipe: str) -> None:
    connector = make(recipe)
    assert connector.ingest([]).documents == 0
    assert connector.ingest(iter(())).documents_per_second == 0
    assert connector.stats().documents == 0


def test_progress_follows_the_writes(
    make: Callable[..., Connector], monkeypatch: pytest.MonkeyPatch, documents: list[Document]
) -> None:
    monkeypatch.setattr(ingest_module, "WINDOW", 5)
    connector = make("dense")
    seen: list[tuple[int, int]] = []
    connector.ingest(
        iter(documents), progress=lambda report: seen.append((report.documents, connector.stats().documents))
    )
    assert seen == [(5, 5), (10, 10), (12, 12)]


# Runs that end early


def test_an_interrupted_run_is_finished_by_the_next(
    make: Callable[..., Connector],
    wrapped: Wrapped,
    recipe: str,
    documents: list[Document],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ingest_module, "WINDOW", 4)
    connector = make(recipe, wrapped)
    wrapped.before = stop_after(2)
    with pytest.raises(Stop):
        connector.ingest(documents)
    wrapped.before = stop_after(100)
    report = connector.ingest(documents)
    assert (report.unchanged, report.documents) == (8, 4)
    assert connector.stats().documents == 12


def words(count: int, seed: int) -> str:
    chance = random.Random(seed)
    return " ".join("".join(chance.choices(string.ascii_lowercase, k=3)) for _ in range(count))


@pytest.mark.parametrize("before", [None, words(2, 0), words(30, 1)], ids=["new", "one passage", "many"])
@pytest.mark.parametrize("then", [words(2, 2), words(15, 3)], ids=["one passage", "some"])
@pytest.mark.parametrize("windows", [0, 1, 3])
def test_no_passage_of_an_unfinished_version_stays(
    make: Callable[..., Connector],
    wrapped: Wrapped,
    monkeypatch: pytest.MonkeyPatch,
    before: str | None,
    then: str,
    windows: int,
) -> None:
    """A run is killed in the middle of a document; the next run brings another text, or the old one."""
    monkeypatch.setattr(ingest_module, "WINDOW", 3)
    connector = make("dense", wrapped)

    def ingest(text: str) -> None:
        connector.ingest([Document(id="a", text=text)], chunk_tokens=6)

    if before is not None:
        ingest(before)
    wrapped.before = stop_after(windows)
    with pytest.raises(Stop):
        ingest(words(40, 4))
    wrapped.before = stop_after(1000)
    for text in filter(None, (before, then)):
        ingest(text)
        assert " ".join(sorted(" ".join(texts(connector)).split())) == " ".join(sorted(text.split()))


# Encoder and codec


def test_another_encoder_is_refused_with_both_fingerprints(
    filled: Connector, place: dict[str, Any], name: str, encoder: Encoder, tiny_bert: Path
) -> None:
    other = load_encoder(str(tiny_bert))
    message = f"{re.escape(encoder.fingerprint)}.*{re.escape(other.fingerprint)}"
    for model in (str(tiny_bert), other):
        with Connector.open(name, **place, model=model) as opened:
            for use in (lambda c: c.search("bread"), lambda c: c.ingest([Document(id="a", text=WHALES)])):
                with pytest.raises(EncoderMismatch, match=message):
                    use(opened)
    assert filled.stats().documents == 12


def test_any_encoder_makes_a_collection_of_its_own(
    make: Callable[..., Connector],
    place: dict[str, Any],
    name: str,
    tiny_bert: Path,
    documents: list[Document],
) -> None:
    make("pooled", str(tiny_bert)).ingest(documents)
    with Connector.open(name, **place) as opened:
        assert opened.encoder.token_width == 32
        assert opened.search(documents[4].text, 1)[0].id == documents[4].id


@pytest.mark.usefixtures("filled")
def test_a_codec_that_was_exchanged_is_refused(place: dict[str, Any], name: str, encoder: Encoder) -> None:
    store = open_store(**place)
    fingerprint = store.info(name)["codec"]
    store.set_info(name, {"codec": "0" * 16})
    with (
        Connector.open(name, **place, model=encoder) as opened,
        pytest.raises(CollectionError, match=f"{'0' * 16}.*{fingerprint}"),
    ):
        opened.search("bread")
    store.set_info(name, {"codec": fingerprint})
    store.close()


def test_the_codec_stays_as_it_was_first_fitted(
    make: Callable[..., Connector],
    place: dict[str, Any],
    name: str,
    tiny: Encoder,
    documents: list[Document],
) -> None:
    connector = make("compact", tiny)
    connector.ingest(documents)
    store = open_store(**place)
    before = store.info(name)["codec"]
    connector.ingest([Document(id="new", text=LONG)])
    assert store.info(name)["codec"] == before
    store.close()


def test_a_connector_opened_on_an_empty_collection_sees_what_another_writes(
    make: Callable[..., Connector],
    place: dict[str, Any],
    name: str,
    tiny: Encoder,
    recipe: str,
    documents: list[Document],
) -> None:
    made = make(recipe, tiny)
    with Connector.open(name, **place, model=tiny) as second:
        assert second.search("bread") == []
        made.ingest(documents)
        assert summary(second.search("bread")) == summary(made.search("bread"))


def test_a_second_writer_keeps_the_codec_of_the_first(
    make: Callable[..., Connector],
    place: dict[str, Any],
    name: str,
    tiny: Encoder,
    documents: list[Document],
) -> None:
    made = make("compact", tiny)
    with Connector.open(name, **place, model=tiny) as second:
        made.ingest(documents)
        store = open_store(**place)
        before = store.info(name)["codec"]
        second.ingest([Document(id="new", text=LONG)])
        assert store.info(name)["codec"] == before
        store.close()


def test_threads_that_ingest_together_fit_one_codec(
    tmp_path: Path, wrapped: Wrapped, documents: list[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted: list[Codec] = []
    fit = Codec.fit

    def counting(codec: Codec, *args: Any, **options: Any) -> Codec:
        fitted.append(codec)
        time.sleep(0.2)
        return fit(codec, *args, **options)

    monkeypatch.setattr(Codec, "fit", counting)
    with Connector.create("a", path=tmp_path, recipe="compact", model=wrapped) as connector:
        with Connector.open("a", path=tmp_path, model=wrapped) as other:
            run_together([lambda: connector.ingest(documents[:6]), lambda: other.ingest(documents[6:])])
        assert len(fitted) == 1
        assert connector.stats().documents == 12
        for document in documents:
            assert connector.search(document.text, 1)[0].id == document.id


def test_a_connector_follows_its_name_to_another_collection(
    tmp_path: Path, encoder: Encoder, documents: list[Document]
) -> None:
    with Connector.create("a", path=tmp_path, recipe="compact", model=encoder) as old:
        old.ingest(documents)
        Connector.open("a", path=tmp_path).drop()
        with Connector.create("a", path=tmp_path, recipe="pooled", model=encoder) as new:
            assert old.ingest(documents).documents == 12
            assert old.recipe == new.recipe
            assert [hit.id for hit in old.search("bread")] == [hit.id for hit in new.search("bread")]
            assert "codes" not in next(new.collection.store.scroll("a", ["codes"])).payload


def test_k_documents_are_found_also_where_the_best_passages_are_of_few(
    make: Callable[..., Connector], encoder: Encoder
) -> None:
    connector = make("compact", encoder)
    long = Document(id="long", text="Bread rises with yeast. " * 200)
    others = [Document(id=f"{n}", text=f"Moon number {n} of Jupiter.") for n in range(12)]
    connector.ingest([long, *others], chunk_tokens=10)
    assert len(connector.search("bread and yeast", 10, candidates=10)) == 10


def test_a_title_leaves_less_room_in_each_chunk(make: Callable[..., Connector], encoder: Encoder) -> None:
    document = Document(id="a", title="The title of this very long text", text="Bread rises. " * 300)
    report = make("compact", encoder).ingest([document], chunk_tokens=254)
    assert (report.truncated, report.tokens_lost) == (0, 0)


def test_threads_may_split_and_encode_together(encoder: Encoder) -> None:
    """A fast tokenizer keeps its truncation as state, which another thread must not see."""
    text = "bread " * 600
    failures: list[str] = []

    def encode() -> None:
        for _ in range(5):
            (embedding,) = encoder.encode_documents([text])
            if (len(embedding), embedding.truncated) != (256, 346):
                failures.append(f"{len(embedding)} tokens, {embedding.truncated} truncated")

    def split() -> None:
        for _ in range(200):
            if len(encoder.split(text, 100, 0)) != 6:
                failures.append("another number of chunks")

    run_together([encode, split, split])
    assert failures == []


# Stats


BYTES = {
    "dense": (1536, 0),
    "floats": (1536, 768),
    "pooled": (1536, 256),
    "colbert": (1536, 768),
    "compact": (196, 16),
    "aligner": (196, 17),
    "hybrid": (196, 0),
    "tiny": (196, 12),
    "default": (196, 32),
}
"""Of a CLS vector of 384 dimensions and of a token vector: 4 × 384, or 384/2 + 4; 2 × 384, 2 × 128, 128/8,
and a byte of saliency; 96/8 and 256/8."""


def test_stats_are_the_sums_of_the_report(
    make: Callable[..., Connector], encoder: Encoder, recipe: str, documents: list[Document]
) -> None:
    connector = make(recipe)
    report = connector.ingest(documents)
    lengths = [len(passage) for passage in encoder.encode_documents([item.text for item in documents])]
    by_six = [1 + max((length - 1) // 6, 1) for length in lengths]
    halves = [length // 2 for length in lengths]
    by_four = [max((length - 2) // 4, 1) for length in lengths]
    stored = {
        "dense": [0],
        "hybrid": [0],
        **dict.fromkeys(("floats", "colbert"), lengths),
        "aligner": halves,
        **dict.fromkeys(("tiny", "default"), by_four),
    }.get(recipe, by_six)
    cls, token = BYTES[recipe]
    words = 8 * sum(len(BM25("english").passage(item.text)) for item in documents)
    lexical = {"lexical": round(words / 12, 1)} if RECIPES[recipe].lexical else {}
    expected = {
        "cls": cls,
        "tokens": round(sum(stored) * token / 12, 1),
        **lexical,
        "total": round(cls + (sum(stored) * token + (words if lexical else 0)) / 12, 1),
    }
    stats = connector.stats()
    assert report.tokens_before == (0 if RECIPES[recipe].layout == "dense" else sum(lengths))
    assert report.tokens_after == sum(stored)
    assert (report.cls_bytes, report.token_bytes) == (12 * cls, sum(stored) * token)
    assert stats.bytes_per_passage == report.bytes_per_passage == expected
    assert (stats.documents, stats.passages, stats.recipe, stats.layout) == (
        12,
        12,
        recipe,
        RECIPES[recipe].layout,
    )
    assert (stats.collection, stats.model) == (connector.name, encoder.name)


def test_at_rest_bytes_are_known_where_the_folder_is(filled: Connector, place: dict[str, Any]) -> None:
    at_rest = filled.stats().at_rest_bytes
    assert (at_rest is not None) == ("path" in place)
    assert at_rest is None or at_rest > 12 * (1536 + 768)


def test_stats_of_an_empty_collection(make: Callable[..., Connector], recipe: str) -> None:
    stats = make(recipe).stats()
    cls = BYTES[recipe][0]
    assert (stats.documents, stats.passages) == (0, 0)
    assert stats.bytes_per_passage == {"cls": cls, "tokens": 0, "total": cls}


# Threads


def run_together(jobs: list[Callable[[], object]]) -> None:
    """Run each in a thread of its own, and raise the first error of any of them."""
    errors: list[BaseException] = []

    def run(job: Callable[[], object]) -> None:
        try:
            job()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for error in errors:
        raise error


@pytest.mark.parametrize("recipe", ["pooled", "compact"], indirect=True)
def test_searches_see_what_is_acknowledged_while_others_are_written(
    make: Callable[..., Connector],
    recipe: str,
    place: dict[str, Any],
    tiny: Encoder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if "client" in place:
        pytest.skip("qdrant-client's local mode is not made for threads")
    monkeypatch.setattr(ingest_module, "WINDOW", 32)
    connector = make(recipe, tiny)
    acknowledged, ended = [0], threading.Event()
    texts_ = [words(12, seed) for seed in range(320)]

    def write() -> None:
        try:
            connector.ingest(
                [Document(id=str(n), text=text, metadata={"n": n}) for n, text in enumerate(texts_)],
                progress=lambda report: acknowledged.__setitem__(0, report.documents),
            )
        finally:
            ended.set()

    def read(seed: int) -> None:
        chance, searches = random.Random(seed), 0
        while not ended.is_set() or searches < 5:
            if not acknowledged[0]:
                ended.wait(0.01)
                continue
            n = chance.randrange(acknowledged[0])
            (hit,) = connector.search(texts_[n], filter=equals("n", n))
            assert (hit.id, hit.text) == (str(n), texts_[n])
            searches += 1

    run_together([write, *(lambda seed=seed: read(seed) for seed in range(8))])
    assert connector.stats().documents == 320


def test_a_folder_in_use_by_another_process_is_refused(
    tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here the same process stands for another: its own store is hidden from it."""
    with Connector.create("a", path=tmp_path, model=encoder):
        monkeypatch.setattr("connector.stores.edge.folder._folders", {})
        with pytest.raises(StoreLocked, match="another process"):
            Connector.open("a", path=tmp_path)


def test_stored_rows_and_vectors_are_what_the_recipe_says(filled: Connector) -> None:
    for record in filled.collection.store.scroll(filled.name, ["rows"], ["cls", "tokens"]):
        assert record.vectors["tokens"].shape == (record.payload["rows"], 384)
        norms = [np.linalg.norm(record.vectors[key], axis=-1) for key in ("cls", "tokens")]
        assert np.allclose(np.concatenate([np.atleast_1d(norm) for norm in norms]), 1, atol=2e-3)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"k": "3"}, "k is '3'; it should be a whole number"),
        ({"k": 2.5}, "k is 2.5; it should be a whole number"),
        ({"k": True}, "k is True; it should be a whole number"),
        ({"candidates": "9"}, "candidates is '9'; it should be a whole number"),
        ({"k": 10**20}, "k is 1(0{20}); it should be less than or equal to 9223372036854775807"),
        ({"candidates": 2**64}, "candidates is 18446744073709551616; it should be less than"),
        ({"like": ["\udcff"]}, r"document id has a lone surrogate '\\udcff' at position 0"),
        ({"search_again": "no"}, "search_again is 'no'; it should be a valid boolean"),
        ({"filter": {"must": []}}, r"filter is \{'must': \[\]\}; it should be an instance of Filter"),
        ({"alignment": "best"}, "alignment 'best' is not known; give a count"),
        ({"alignment": 4}, "alignment 4 is not known"),
    ],
)
def test_a_search_option_of_another_type_is_named(
    filled: Connector, wrong: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        filled.search("bread", **wrong)


def test_a_count_of_numpy_is_a_count(filled: Connector) -> None:
    assert ids(filled.search("bread", np.int64(2))) == ids(filled.search("bread", 2))  # type: ignore[arg-type]


def test_an_option_that_a_search_lacks_is_named(filled: Connector) -> None:
    wrong: Any = {"top": 3}
    with pytest.raises(TypeError, match="a search has no option 'top'; it has k, filter"):
        filled.search("bread", **wrong)


EIGHT = [(f"query {number}", f"doc {number}") for number in range(8)]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda it, one: it.ingest(one), r"documents is Document\(.*; it should be iterable"),
        (lambda it, one: it.ingest([one], chunk_tokens="64"), "chunk_tokens is '64'; it should be a whole"),
        (
            lambda it, one: it.ingest([one], delete_missing="no"),
            "delete_missing is 'no'; it should be a valid boolean",
        ),
        (lambda it, _: it.delete(7), "ids is 7; it should be iterable"),
        (lambda it, one: it.get(one), r"ids is Document\(.*; it should be iterable"),
        (lambda it, _: it.adapt([("a", "b")], candidates=1.5), "candidates is 1.5; it should be a whole"),
        (lambda it, _: it.adapt(EIGHT, candidates=10**20), "candidates is 1(0{20}); it should be less than"),
        (lambda it, _: it.delete(["\udcff"]), r"document id has a lone surrogate '\\udcff'"),
        (lambda it, _: it.get(["a", "\udcff"]), r"document id has a lone surrogate '\\udcff'"),
        (lambda it, one: it.explain(one, "x"), r"query is Document\(.*; it should be a valid string"),
        (lambda it, _: type(it).open(5, path="x"), "name is 5; it should be a valid string"),
        (lambda it, _: type(it).open("x", path=5), "path is 5; it should be a valid string or"),
        (lambda it, _: type(it).create("x", path="y", model=5), "model is 5; it should be a valid string"),
        (lambda it, _: type(it).create("x", path="y", shard_number=2**32), "shard_number is 4294967296; it"),
        (lambda it, _: type(it).create("x", path="y", replication_factor=0), "replication_factor is 0; it"),
    ],
)
def test_an_argument_of_another_type_is_named(
    filled: Connector, documents: list[Document], call: Callable[[Any, Document], Any], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        call(filled, documents[0])
