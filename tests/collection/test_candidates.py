"""What finds candidates, what scores them, and codecs from ingest to search, on every engine."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from qdrant_client import models

from connector import Connector, Document, Embedding, Encoder, Hits, IngestReport, Recipe
from connector.collection import ingest as ingest_module
from connector.collection.documents.frequencies import FREQUENCIES_FILE
from connector.collection.documents.writer import Writer
from connector.compression.codecs import Codec, parse_codec
from connector.compression.reduction import Frequencies
from connector.core.errors import CollectionError, ConnectorError, InputError, StoreError
from connector.core.types import Float32, ScorePart
from connector.scoring.bm25 import BM25
from tests.api.test_connector import Remembering
from tests.conftest import INDEXES

BY: Any = ["dense", "lexical", "hybrid", "hybrid-dbsf"]
NAMES = {"dense": "cls", "lexical": "bm25", "hybrid": "rrf", "hybrid-dbsf": "dbsf"}
QUERY = "the garbage collector of a compiler frees memory of the program"
"""Doc 8 says most of its words, docs 1 and 10 some."""
STOP_WORDS = "what is the of and"

RERANKS: tuple[Literal["server", "client"], ...] = ("server", "client")
LAYOUTS: dict[str, dict[str, Any]] = {
    "dense": {"layout": "dense"},
    "multivector": {"layout": "multivector", "codec": "float16"},
    "codes": {"layout": "codes", "codec": "int8"},
}
every_layout = pytest.mark.parametrize("layout", LAYOUTS)

Make = Callable[..., Connector]


def recipe(layout: str = "codes", **parts: Any) -> Recipe:
    return Recipe(name="mine", **{**LAYOUTS[layout], **parts})


@pytest.fixture(scope="session")
def encoder(encoder: Encoder) -> Any:
    """The default model; remembering spares most of the time of these tests."""
    return Remembering(encoder)


@pytest.fixture
def make(place: dict[str, Any], name: str, encoder: Encoder) -> Iterator[Make]:
    """Makes the collection with a recipe, and drops it at the end."""
    made: list[Connector] = []

    def create(chosen: Recipe) -> Connector:
        made.append(Connector.create(name, **place, recipe=chosen, model=encoder, indexes=INDEXES))
        return made[-1]

    yield create
    for connector in made:
        connector.close()


@pytest.fixture
def worded(make: Make, layout: str, documents: list[Document]) -> Connector:
    """The twelve documents with an index of words."""
    connector = make(recipe(layout, lexical="english"))
    connector.ingest(documents)
    return connector


def found(hits: Hits) -> list[tuple[str, float, dict[str, ScorePart]]]:
    return [(hit.id, hit.score, hit.parts) for hit in hits]


def even() -> models.Filter:
    return models.Filter(must=[models.FieldCondition(key="even", match=models.MatchValue(value=True))])


def words_in_common(documents: list[Document], query: str) -> set[str]:
    asked = set(BM25("english").query(query).indices.tolist())
    return {it.id for it in documents if asked & set(BM25("english").passage(it.text).indices.tolist())}


# Candidates by vectors, words, or both


@every_layout
@pytest.mark.parametrize("by", BY)
def test_candidates_are_called_by_what_found_them(worded: Connector, by: Any) -> None:
    hits = worded.search(QUERY, 12, candidates_by=by, rerank=None)
    assert hits[0].id == "doc 8"
    for hit in hits:
        assert {name: (it.score, it.value) for name, it in hit.parts.items()} == {
            NAMES[by]: (hit.score, hit.score)
        }
    scores = [hit.score for hit in hits]
    assert scores == sorted(scores, reverse=True)


@every_layout
@pytest.mark.parametrize("by", BY)
def test_words_limit_the_candidates_only_where_words_alone_find_them(
    worded: Connector, by: Any, documents: list[Document]
) -> None:
    common = words_in_common(documents, QUERY)
    assert 2 < len(common) < 8
    for rerank in ("auto", None):
        ids = {hit.id for hit in worded.search(QUERY, 12, candidates_by=by, rerank=rerank)}
        assert ids == (common if by == "lexical" else {it.id for it in documents})


@every_layout
@pytest.mark.parametrize("by", BY)
def test_reranked_scores_do_not_depend_on_what_found_the_candidates(
    worded: Connector, layout: str, by: Any
) -> None:
    """Client and server score the same tokens, and the score by CLS is that of the vectors themselves."""
    if layout == "dense":
        assert found(worded.search(QUERY, 12, candidates_by=by)) == found(
            worded.search(QUERY, 12, candidates_by=by, rerank=None)
        )
        with pytest.raises(CollectionError, match="stores no tokens"):
            worded.search(QUERY, candidates_by=by, rerank="client")
        return
    by_cls = {hit.id: hit.score for hit in worded.search(QUERY, 12, rerank=None)}
    dense = {hit.id: hit.score for hit in worded.search(QUERY, 12, rerank="client")}
    for rerank in ("auto", "client"):
        hits = worded.search(QUERY, 12, candidates_by=by, rerank=rerank)
        assert hits[0].id == "doc 8"
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
        for hit in hits:
            assert hit.parts.keys() == {"tokens"}
            assert hit.score == hit.parts["tokens"].score == pytest.approx(dense[hit.id], abs=1e-3)
        for hit in worded.search(QUERY, 12, candidates_by=by, rerank=rerank, fusion="sum:tokens=1,cls=1"):
            assert list(hit.parts) == ["tokens", "cls"]
            assert hit.parts["cls"].score == pytest.approx(by_cls[hit.id], abs=1e-4)


@every_layout
@pytest.mark.parametrize("by", BY)
@pytest.mark.parametrize("rerank", ["auto", "client", None])
def test_the_filter_holds_for_every_stage(worded: Connector, layout: str, by: Any, rerank: Any) -> None:
    if layout == "dense" and rerank == "client":
        pytest.skip("there are no tokens to rerank by")
    hits = worded.search(QUERY, 12, candidates_by=by, rerank=rerank, filter=even())
    everything = worded.search(QUERY, 12, candidates_by=by, rerank=rerank)
    assert all(hit.metadata["even"] for hit in hits)
    assert {hit.id for hit in hits} == {hit.id for hit in everything if hit.metadata["even"]}


@every_layout
@pytest.mark.parametrize("by", BY)
def test_few_candidates_still_give_k_documents(worded: Connector, by: Any) -> None:
    assert len(worded.search(QUERY, 3, candidates=1, candidates_by=by)) == 3
    assert worded.search(QUERY, 1, candidates=1, candidates_by=by)[0].id == "doc 8"


@every_layout
@pytest.mark.parametrize("rerank", ["auto", None])
def test_a_query_of_stop_words_alone_has_no_words(worded: Connector, rerank: Any) -> None:
    assert worded.search(STOP_WORDS, candidates_by="lexical", rerank=rerank) == []
    for by in ("hybrid", "hybrid-dbsf"):
        assert len(worded.search(STOP_WORDS, 12, candidates_by=by, rerank=rerank)) == 12
    assert worded.search("xylophone", candidates_by="lexical", rerank=rerank) == []


@every_layout
def test_words_score_as_bm25_says(worded: Connector, documents: list[Document]) -> None:
    model = BM25("english", BM25("english").mean_length(it.text for it in documents))
    passages = [model.passage(it.text) for it in documents]
    asked = model.query(QUERY).indices.tolist()
    expected: dict[str, float] = {}
    for word in asked:
        having = sum(word in it.indices for it in passages)
        rarity = float(np.log(1 + (12 - having + 0.5) / (having + 0.5)))
        for document, passage in zip(documents, passages, strict=True):
            weight = float(passage.values[passage.indices == word].sum())
            if weight:
                expected[document.id] = expected.get(document.id, 0) + rarity * weight
    hits = worded.search(QUERY, 12, candidates_by="lexical", rerank=None)
    assert {hit.id: hit.score for hit in hits} == pytest.approx(expected, rel=1e-4)


@every_layout
@pytest.mark.parametrize("by", BY[1:])
@pytest.mark.parametrize("rerank", ["auto", None])
def test_a_collection_without_words_says_how_to_get_some(
    make: Make, layout: str, by: Any, rerank: Any, documents: list[Document]
) -> None:
    connector = make(recipe(layout))
    connector.ingest(documents[:2])
    with pytest.raises(
        ConnectorError, match=r"has no index of words .* such as lexical=.english. \(--lexical english\)"
    ):
        connector.search(QUERY, candidates_by=by, rerank=rerank)
    assert connector.search(QUERY)


@every_layout
def test_candidates_by_something_unknown_are_refused(worded: Connector) -> None:
    by: Any = "bm25"
    with pytest.raises(InputError, match="candidates_by is 'bm25'; it should be 'dense', 'lexical', 'union'"):
        worded.search(QUERY, candidates_by=by)


@every_layout
@pytest.mark.parametrize("by", BY)
def test_an_empty_collection_of_words_finds_nothing(make: Make, layout: str, by: Any) -> None:
    assert make(recipe(layout, lexical="english")).search(QUERY, candidates_by=by) == []


@pytest.mark.parametrize("layout", ["codes"])
def test_titles_and_chunks_have_words_too(worded: Connector) -> None:
    bread = Document(id="titled", title="Xylophone", text="Bread rises. " * 40 + "Marimbas are of wood.")
    report = worded.ingest([bread], chunk_tokens=30)
    assert report.passages > 3
    assert report.lexical_bytes > 0
    (titled,) = worded.search("xylophones", candidates_by="lexical")
    assert titled.id == "titled"
    (hit,) = worded.search("marimba", candidates_by="lexical", rerank=None)
    assert "Marimbas" in hit.text
    assert hit.passage == report.passages - 1
    worded.ingest([Document(id="titled", text="Nothing of the kind.")], chunk_tokens=30)
    assert worded.search("marimba", candidates_by="lexical") == []


def test_an_index_of_words_is_opened_again(
    make: Make, place: dict[str, Any], name: str, encoder: Encoder, documents: list[Document]
) -> None:
    made = make(recipe("codes", lexical="english"))
    report = made.ingest(documents)
    expected = {by: found(made.search(QUERY, candidates_by=by)) for by in BY}
    words = [BM25("english").passage(it.text) for it in documents]
    assert report.lexical_bytes == sum(8 * len(it) for it in words)
    assert report.bytes_per_passage["lexical"] == round(report.lexical_bytes / 12, 1)
    assert sum(list(report.bytes_per_passage.values())[:3]) == pytest.approx(
        report.bytes_per_passage["total"], abs=0.2
    )
    made.close()
    with Connector.open(name, **place, model=encoder) as opened:
        assert opened.recipe.lexical == "english"
        assert {by: found(opened.search(QUERY, candidates_by=by)) for by in BY} == expected


# A fusion that is not scaled


@pytest.mark.parametrize("layout", ["multivector", "codes"])
@pytest.mark.parametrize("by", BY)
@pytest.mark.parametrize("weight", [0, 0.5, 1])
def test_a_sum_is_what_the_formula_says(worded: Connector, by: Any, weight: float) -> None:
    plain = {hit.id: hit.score for hit in worded.search(QUERY, 12, candidates_by=by, rerank="client")}
    by_cls = {hit.id: hit.score for hit in worded.search(QUERY, 12, rerank=None)}
    fusion = f"sum:tokens={1 - weight},cls={weight}"
    for rerank in ("auto", "client"):
        hits = worded.search(QUERY, 12, candidates_by=by, rerank=rerank, fusion=fusion)
        assert {hit.id for hit in hits} == plain.keys()
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
        for hit in hits:
            expected = weight * by_cls[hit.id] + (1 - weight) * plain[hit.id]
            assert hit.score == pytest.approx(expected, abs=1e-3)
            assert hit.score == pytest.approx(sum(part.value for part in hit.parts.values()), abs=1e-9)


@pytest.mark.parametrize("layout", ["multivector", "codes"])
@pytest.mark.parametrize("weight", ["-0.01", "nan", "inf"])
def test_a_weight_out_of_range_is_refused(worded: Connector, weight: str) -> None:
    for rerank in ("auto", "client", "server", None):
        with pytest.raises(InputError, match="is no weight of tokens, bm25, cls"):
            worded.search(QUERY, fusion=f"sum:tokens=1,cls={weight}", rerank=rerank)


@pytest.mark.parametrize("layout", ["multivector"])
def test_parts_that_qdrant_scored_are_mixed_here(worded: Connector) -> None:
    fused = {
        rerank: worded.search(QUERY, 12, fusion="sum:tokens=1,cls=2", rerank=rerank) for rerank in RERANKS
    }
    for one, other in zip(fused["server"], fused["client"], strict=True):
        assert (one.id, one.score) == (other.id, pytest.approx(other.score, abs=1e-2))


@pytest.mark.parametrize("layout", ["dense"])
def test_a_collection_without_tokens_has_nothing_to_mix(worded: Connector) -> None:
    with pytest.raises(
        ConnectorError, match="stores no tokens for fusion sum:tokens=1,cls=1; leave tokens out"
    ):
        worded.search(QUERY, fusion="sum:tokens=1,cls=1")


@pytest.mark.parametrize("layout", ["multivector", "codes"])
def test_without_a_rerank_the_rest_is_fused(worded: Connector) -> None:
    hits = worded.search(QUERY, 12, fusion="sum:tokens=1,cls=0.5", rerank=None)
    plain = worded.search(QUERY, 12, rerank=None)
    assert [hit.id for hit in hits] == [hit.id for hit in plain]
    assert [hit.score for hit in hits] == pytest.approx([0.5 * hit.score for hit in plain])


# Codecs from ingest to search


def decoded_rows(connector: Connector) -> dict[str, Float32]:
    """What the collection holds of each document, in the scored space."""
    collection = connector.collection
    codec = collection.codec
    assert codec is not None
    rows: dict[str, Float32] = {}
    vectors = ["tokens"] if codec.datatype else []
    for record in collection.store.scroll(connector.name, ["id", "codes"], vectors):
        if "codes" in record.payload:
            rows[record.payload["id"]] = codec.decode(codec.stored(base64.b64decode(record.payload["codes"])))
        else:
            rows[record.payload["id"]] = record.vectors["tokens"]
    return rows


def brute_force(connector: Connector, query: Embedding) -> dict[str, float]:
    codec = connector.collection.codec
    assert codec is not None
    asked = codec.encode_query(query.tokens)
    if "hamming" in codec.spec:
        lengths = np.linalg.norm(asked, axis=1, keepdims=True)
        asked = np.where(asked >= 0, 1, -1) * lengths / np.sqrt(asked.shape[1])
    return {id_: float((asked @ rows.T).max(axis=1).sum()) for id_, rows in decoded_rows(connector).items()}


CODECS = [
    ("codes", "residual-1"),
    ("codes", "pq-8"),
    ("codes", "int8"),
    ("codes", "hamming"),
    ("codes", "pca-64+residual-2"),
    ("multivector", "turbo4"),
    ("multivector", "pca-64+turbo8"),
]


@pytest.mark.parametrize(("layout", "codec"), CODECS)
def test_a_codec_from_ingest_to_search(
    layout: str,
    codec: str,
    make: Make,
    place: dict[str, Any],
    name: str,
    encoder: Encoder,
    documents: list[Document],
) -> None:
    """Reopened, by its name alone, it scores as MaxSim over the decoded rows says."""
    if "residual" in codec or "pq" in codec:
        pytest.importorskip("faiss")
    if "turbo" in codec and "path" not in place:
        pytest.skip("only the engine itself has these types")
    made = make(recipe(layout, codec=codec))
    report = made.ingest(documents)
    lengths = [len(it) for it in encoder.encode_documents([it.text for it in documents])]
    assert (report.documents, report.tokens_after) == (12, sum(lengths))
    assert report.token_bytes == sum(lengths) * parse_codec(codec).bytes_per_token(encoder.token_width)
    assert made.stats().bytes_per_passage == report.bytes_per_passage
    text = "who dances in the hive to tell others of flowers"
    before = found(made.search(text, 12))
    made.close()
    with Connector.open(name, **place, model=encoder) as opened:
        hits = opened.search(text, 12)
        assert found(hits) == before
        assert hits[0].id == "doc 7"
        expected = brute_force(opened, encoder.encode_queries([text])[0])
        client = {hit.id: hit.score for hit in opened.search(text, 12, rerank="client")}
        assert client == pytest.approx(expected, abs=1e-3)
        if layout == "multivector":  # Qdrant rounds the query to the same few bits, too
            bound = 0.02 if codec.endswith("turbo8") else 0.5
            assert {hit.id: hit.score for hit in hits} == pytest.approx(expected, abs=bound)


@pytest.mark.filterwarnings("ignore:Local mode performs exact")
def test_a_quantized_multivector_is_scored_by_its_vectors(make: Make, documents: list[Document]) -> None:
    parts: dict[str, Any] = {"quantization": "binary", "oversampling": 12.0}
    connector = make(recipe("multivector", **parts, lexical="english"))
    connector.ingest(documents)
    for by in BY:
        server = connector.search(QUERY, 3, candidates_by=by, rerank="server")
        client = connector.search(QUERY, 3, candidates_by=by, rerank="client")
        assert [hit.id for hit in server] == [hit.id for hit in client]
        assert [hit.score for hit in server] == pytest.approx([hit.score for hit in client], abs=2e-3)


# Codecs that want more rows than come in one window


WAITING = "center+int8"
"""Wants 2,048 rows, more than the twelve documents have."""


@pytest.fixture
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest_module, "WINDOW", 4)


@pytest.fixture
def fitted_on(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each codec was fitted on."""
    counts: list[int] = []
    fit = Codec.fit

    def counting(codec: Codec, tokens: Float32, seed: int = 0, saliency: Float32 | None = None) -> Codec:
        counts.append(len(tokens))
        return fit(codec, tokens, seed, saliency)

    monkeypatch.setattr(Codec, "fit", counting)
    return counts


def small_sample(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    monkeypatch.setattr(Codec, "sample", property(lambda _: rows))


def ids_in(connector: Connector) -> set[str]:
    return {it.payload["id"] for it in connector.collection.store.scroll(connector.name, ["id"])}


@pytest.mark.usefixtures("small_windows")
@pytest.mark.parametrize("codec", [WAITING, "residual-1", "pca-64+float32"])
def test_passages_wait_until_the_codec_is_fitted(
    codec: str, make: Make, encoder: Encoder, documents: list[Document], fitted_on: list[int]
) -> None:
    if "residual" in codec:
        pytest.importorskip("faiss")
    connector = make(recipe(codec=codec))
    reports: list[tuple[int, int]] = []
    report = connector.ingest(
        iter(documents), progress=lambda it: reports.append((it.documents, it.passages))
    )
    lengths = [len(it) for it in encoder.encode_documents([it.text for it in documents])]
    assert fitted_on == [sum(lengths)]
    assert reports == [(0, 0), (0, 0), (0, 0), (12, 12)]
    assert (report.documents, report.passages, report.unchanged) == (12, 12, 0)
    assert (report.tokens_before, report.tokens_after) == (sum(lengths), sum(lengths))
    assert report.cls_bytes == 12 * 4 * encoder.cls_width
    assert connector.stats().documents == 12
    for document in documents:
        assert connector.search(document.text, 1)[0].id == document.id
    again = connector.ingest(documents)
    assert (again.documents, again.unchanged, fitted_on) == (0, 12, [sum(lengths)])


@pytest.mark.usefixtures("small_windows")
def test_once_the_sample_is_there_all_that_waits_is_written(
    make: Make,
    encoder: Encoder,
    documents: list[Document],
    fitted_on: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After the second window; later ones are written at once."""
    lengths = [len(it) for it in encoder.encode_documents([it.text for it in documents])]
    small_sample(monkeypatch, sum(lengths[:8]))
    connector = make(recipe(codec=WAITING))
    reports: list[int] = []
    report = connector.ingest(documents, progress=lambda it: reports.append(it.documents))
    assert fitted_on == [sum(lengths[:8])]
    assert reports == [0, 8, 12]
    assert report.documents == report.passages == len(ids_in(connector)) == 12


def failing(documents: Iterable[Document], after: int) -> Iterator[Document]:
    for number, document in enumerate(documents):
        if number == after:
            raise OSError("the source broke off")
        yield document


@pytest.mark.usefixtures("small_windows")
@pytest.mark.parametrize("after", [1, 4, 6, 8, 11])
def test_what_came_before_a_failure_of_the_source_is_written(
    after: int, make: Make, documents: list[Document]
) -> None:
    connector = make(recipe(codec=WAITING))
    reports: list[int] = []
    with pytest.raises(OSError, match="broke off"):
        connector.ingest(failing(documents, after), progress=lambda it: reports.append(it.documents))
    assert ids_in(connector) == {it.id for it in documents[:after]}
    assert reports[-1] == after
    rest = connector.ingest(documents)
    assert (rest.documents, rest.unchanged) == (12 - after, after)
    for document in documents:
        assert connector.search(document.text, 1)[0].id == document.id


@pytest.mark.usefixtures("small_windows")
def test_a_source_that_fails_at_once_fits_nothing(make: Make, documents: list[Document]) -> None:
    connector = make(recipe(codec=WAITING))
    with pytest.raises(OSError, match="broke off"):
        connector.ingest(failing(documents, 0))
    codec = connector.collection.codec
    assert codec is not None
    assert not codec.fitted
    assert connector.search(QUERY) == []


@pytest.mark.usefixtures("small_windows")
def test_a_store_that_fails_once_is_not_asked_again(
    make: Make, documents: list[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    connector = make(recipe(codec=WAITING, reduction="idf-50%"))
    store, calls = connector.collection.store, []

    def refuse(*_: Any) -> None:
        calls.append(1)
        raise StoreError("full")

    with monkeypatch.context() as patched:
        patched.setattr(store, "upsert", refuse)
        with pytest.raises(StoreError, match="full"):
            connector.ingest(documents)
    assert calls == [1]
    report = connector.ingest(documents)
    assert (report.documents, report.unchanged) == (12, 0)
    assert frequencies_of(connector).passages == 12


@pytest.mark.usefixtures("small_windows")
def test_documents_of_several_passages_may_wait(make: Make, documents: list[Document]) -> None:
    connector = make(recipe(codec=WAITING))
    long = Document(id="long", text=" ".join(it.text for it in documents))
    report = connector.ingest([*documents[:3], long, *documents[3:]], chunk_tokens=20)
    assert report.documents == connector.stats().documents == 13
    assert report.passages == connector.stats().passages > 20
    again = connector.ingest([long], chunk_tokens=20)
    assert (again.documents, again.unchanged) == (0, 1)


@pytest.mark.usefixtures("small_windows")
def test_a_document_of_many_passages_that_wait_is_unfinished_until_they_are_written(
    make: Make, documents: list[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is killed while they wait leaves nothing that a later one takes for finished."""
    connector = make(recipe(codec=WAITING))
    long = Document(id="long", text=" ".join(it.text for it in documents))
    with monkeypatch.context() as patched:
        patched.setattr(Writer, "flush", lambda _: False)
        connector.ingest([long], chunk_tokens=20)
    assert connector.stats().documents == 0
    report = connector.ingest([long], chunk_tokens=20)
    assert (report.documents, report.unchanged) == (1, 0)
    assert connector.stats().passages == report.passages


def frequencies_of(connector: Connector) -> Frequencies:
    return Frequencies().load(connector.collection.store.get_artifact(connector.name, FREQUENCIES_FILE))


@pytest.mark.parametrize("waiting", [True, False])
@pytest.mark.parametrize("before", [0, 3])
def test_passages_that_wait_are_counted_as_those_that_do_not(
    waiting: bool,
    before: int,
    make: Make,
    tmp_path: Path,
    encoder: Encoder,
    documents: list[Document],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each passage is reduced by the counts of those up to its window, written or not, and counted once."""
    monkeypatch.setattr(ingest_module, "WINDOW", 4)
    mine = recipe(codec="pca-64+float32", reduction="idf-40%", query_reduction="idf-weight")

    def rows(connector: Connector) -> dict[str, int]:
        records = connector.collection.store.scroll(connector.name, ["id", "rows"])
        return {it.payload["id"]: it.payload["rows"] for it in records}

    with monkeypatch.context() as patched:
        small_sample(patched, 1)
        plain = Connector.create("plain", path=tmp_path / "plain", recipe=mine, model=encoder)
        if before:
            plain.ingest(documents[:before])
        expected_report = plain.ingest(documents)
        expected, kept = frequencies_of(plain), rows(plain)
        plain.close()
    connector = make(mine)
    if before:
        connector.ingest(documents[:before])
    with monkeypatch.context() as patched:
        small_sample(patched, 10_000 if waiting else 1)
        report: IngestReport = connector.ingest(documents)
    counted = frequencies_of(connector)
    assert counted.passages == expected.passages == 12
    assert np.array_equal(counted.document, expected.document)
    assert np.array_equal(counted.collection, expected.collection)
    assert rows(connector) == kept
    assert report.tokens_after == expected_report.tokens_after
    assert connector.collection.store.info(connector.name)["frequencies"] == "12"
