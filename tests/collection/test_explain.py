"""Explanations: parts that sum to scores, words that stand where they are said to stand, and the command."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from qdrant_client import QdrantClient
from safetensors.numpy import save_file

from connector import Connector, Document, Encoder, Explanation, Fusion, Hit, Recipe, Strategy
from connector.cli import main
from connector.cli.heatmap import explanation_lines, shades
from connector.cli.render import show
from connector.collection.recipe import RECIPES
from connector.collection.search.token_origins import in_order, traced
from connector.compression.reduction import parse_reduction
from connector.core.errors import CollectionError, DocumentError, InputError
from connector.core.explanation import Word, split_at
from connector.scoring.alignment import TopK
from tests.conftest import TEXTS

QUERY = "How do honeybees communicate?"
HOSTILE = "</p><script>alert(1)</script> \"quoted\" 'too' & שלום 🦦 \u202egnirts \x1b[31mred {x}"


def codes(**parts: Any) -> Recipe:
    return Recipe(name="mine", **{"layout": "codes", "codec": "float32", **parts})


@pytest.fixture(scope="session")
def head(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A head that finds tokens more or less salient by their first coordinate, and some not at all."""
    folder = tmp_path_factory.mktemp("head")
    weight = np.zeros((1, 384), np.float32)
    weight[0, 0] = 10
    sides = ("query", "document")
    arrays = {f"{side}.weight": weight for side in sides}
    arrays |= {f"{side}.bias": np.array([0.5], np.float32) for side in sides}
    save_file(arrays, folder / "model.safetensors")
    settings = {"query_share": 0.8, "document_share": 0.5, "epsilon": 0.1}
    (folder / "config.json").write_text(json.dumps(settings))
    return str(folder)


@pytest.fixture
def make(tmp_path: Path, encoder: Encoder, documents: list[Document]) -> Iterator[Callable[..., Connector]]:
    """The twelve documents under a recipe."""
    made: list[Connector] = []

    def create(recipe: str | Recipe = "compact", **chunks: int) -> Connector:
        made.append(Connector.create("docs", path=tmp_path / "qdrant", recipe=recipe, model=encoder))
        made[-1].ingest(documents, **chunks)
        return made[-1]

    yield create
    for connector in made:
        connector.close()


def assert_sums(hit: Hit, explanation: Explanation) -> None:
    assert explanation.score == pytest.approx(hit.score, rel=1e-6)
    assert sum(pair.part for pair in explanation.pairs) == pytest.approx(hit.score, abs=1e-5)
    assert sum(pair.share for pair in explanation.pairs) == pytest.approx(1, abs=1e-5)
    assert sum(explanation.query_parts().values()) == pytest.approx(hit.score, abs=1e-5)
    assert sum(explanation.passage_parts().values()) == pytest.approx(hit.score, abs=1e-5)
    assert sum(pair.part for pair in explanation.by_word()) == pytest.approx(hit.score, abs=1e-5)


def assert_in_place(explanation: Explanation) -> None:
    """Every word stands where it is said to stand, and is a whole one."""
    for pair in explanation.pairs:
        assert pair.passage
        assert sum(pair.spread) == pytest.approx(1)
        assert min(pair.spread) >= 0
        for word, text in [(pair.query, explanation.query), *((it, explanation.text) for it in pair.passage)]:
            if not word.in_text:
                assert (word.start, word.end) == (0, 0)
                assert word.text in ("CLS", "[CLS]", "[SEP]") or pair.kind == "feedback"
                continue
            assert text[word.start : word.end] == word.text == word.text.strip() != ""
            if word.text.isalnum():
                around = text[max(word.start - 1, 0) : word.end + 1]
                assert around.strip(" .,?!") == word.text


LAYOUTS: dict[str, str | Recipe] = {
    "dense": "dense",
    "aligner": "aligner",
    "codes, floats": codes(),
    "codes, pooled, bits": "compact",
    "codes, bits on both sides": codes(codec="pca-64+hamming"),
    "codes, bytes": codes(codec="int8", reduction="whole-words"),
    "multivector": codes(layout="multivector", codec="float16"),
    "fused": "default",
    "fused by Qdrant and here": "colbert",
    "multivector, pooled": "pooled",
    "multivector, 4 bits": codes(layout="multivector", codec="turbo4"),
    "query weights": codes(query_reduction="icf-5+idf-weight"),
    "pruned by counts": codes(reduction="idf-50%"),
    "pruned, then merged": codes(reduction="punctuation+idf-80%+ward-3"),
    "merged twice": codes(reduction="whole-words+sequential-2", codec="pca-64+binary"),
    "by attention": codes(reduction="attention-50%+kmeans-2"),
    "top-4": codes(alignment="top-4", codec="pca-64+binary"),
    "top-30%, weights": codes(alignment="top-30%", query_reduction="idf-weight"),
    "multivector, top-2": codes(alignment="top-2", layout="multivector", codec="float16"),
}


@pytest.mark.parametrize("case", LAYOUTS)
def test_the_parts_sum_to_the_score_and_words_stand_where_they_are_said_to(
    case: str, make: Callable[..., Connector]
) -> None:
    connector = make(LAYOUTS[case])
    for hit in connector.search(QUERY, 3):
        explanation = connector.explain(QUERY, hit)
        fused = ["tokens", "bm25", "cls"] if case.startswith("fused") else ["tokens"]
        assert [it for it in hit.parts if "feedback" not in it] == (["cls"] if case == "dense" else fused)
        assert (explanation.query, explanation.id, explanation.text) == (QUERY, hit.id, hit.text)
        assert_sums(hit, explanation)
        assert_in_place(explanation)
        again = connector.explain(QUERY, hit.id)
        assert [pair.part for pair in again.pairs] == pytest.approx(
            [pair.part for pair in explanation.pairs], abs=1e-6
        )


@pytest.mark.parametrize("layout", ["codes", "multivector"])
@pytest.mark.parametrize("alignment", [None, "top-3"])
def test_saliences_weigh_the_parts(
    layout: str, alignment: str | None, make: Callable[..., Connector], head: str
) -> None:
    codec = "float16" if layout == "multivector" else "pca-64+binary"
    connector = make(codes(layout=layout, codec=codec, saliency=True, head=head, alignment=alignment))
    for hit in connector.search(QUERY, 3):
        assert_sums(hit, connector.explain(QUERY, hit))
        assert_in_place(connector.explain(QUERY, hit))
    assert connector.explain(QUERY, hit).pairs


def test_cls_is_a_part_of_its_own_where_it_is_mixed_in(make: Callable[..., Connector]) -> None:
    connector = make()
    for weight in (0.0, 0.3, 1.0):
        fusion = f"sum:tokens={1 - weight},cls={weight}"
        (hit, *_) = connector.search(QUERY, 3, fusion=fusion)
        for explanation in (
            connector.explain(QUERY, hit, fusion=fusion),
            connector.explain(QUERY, hit.id, fusion=fusion),
        ):
            assert_sums(hit, explanation)
            cls = [pair for pair in explanation.pairs if pair.kind == "cls"]
            expected = [hit.parts["cls"].value] if weight else []
            assert [pair.part for pair in cls] == pytest.approx(expected)
            assert (len(explanation.pairs) > len(cls)) == (weight < 1)


def test_on_a_server_as_in_process(encoder: Encoder, documents: list[Document]) -> None:
    with Connector.create("docs", client=QdrantClient(":memory:"), recipe="pooled", model=encoder) as there:
        there.ingest(documents)
        (hit,) = there.search(QUERY, 1)
        assert_sums(hit, there.explain(QUERY, hit))
        assert_sums(hit, there.explain(QUERY, hit.id))


def test_floats_have_the_similarities_of_the_encoder(
    make: Callable[..., Connector], encoder: Encoder
) -> None:
    connector = make(codes())
    explanation = connector.explain(QUERY, "doc 7")
    query_tokens, found = encoder.encode_queries([QUERY])[0], encoder.encode_documents([TEXTS[7]])[0]
    similarities = query_tokens.tokens @ found.tokens.T
    assert [pair.similarity for pair in explanation.pairs] == pytest.approx(similarities.max(1), abs=1e-5)
    assert [pair.part for pair in explanation.pairs] == pytest.approx(similarities.max(1), abs=1e-5)
    for pair, column in zip(explanation.pairs, similarities.argmax(1), strict=True):
        (word,) = pair.passage
        assert [word.start, word.end] == found.offsets[column].tolist() or not word.in_text


def test_a_word_finds_the_word_that_it_means(make: Callable[..., Connector]) -> None:
    connector = make(codes())
    text = "Every evening, two old cats sleep beside the stove."
    connector.ingest([Document(id="cats", text=text)])
    best = {pair.query.text: pair for pair in connector.explain("cat", "cats").by_word()}
    assert best["cat"].passage == (Word("cats", 23, 27),)
    assert best["[CLS]"].passage[0].text == "[CLS]"


def test_pieces_of_a_word_are_one_word(make: Callable[..., Connector], encoder: Encoder) -> None:
    explanation = make(codes()).explain(QUERY, "doc 7")
    pieces = encoder.encode_queries([QUERY])[0]
    assert len(explanation.pairs) == len(pieces) > len(explanation.query_parts())
    assert [word.text for word in explanation.query_parts()] == [
        *("[CLS]", "How", "do", "honeybees", "communicate", "?", "[SEP]")
    ]
    of_bees = [pair for pair in explanation.pairs if pair.query.text == "honeybees"]
    assert len(of_bees) == 3
    assert explanation.query_parts()[of_bees[0].query] == pytest.approx(sum(pair.part for pair in of_bees))
    grouped = [pair for pair in explanation.by_word() if pair.query.text == "honeybees"]
    assert len(grouped) < 3
    assert [pair.part for pair in explanation.by_word()] == sorted(
        (pair.part for pair in explanation.by_word()), reverse=True
    )


def test_merged_rows_name_all_their_words(make: Callable[..., Connector]) -> None:
    """[CLS] | River otter | ##s hold | hands [SEP]: runs of two tokens."""
    connector = make(codes(reduction="sequential-2"))
    connector.ingest([Document(id="otters", text="River otters hold hands")])
    rows = {
        tuple(word.text for word in pair.passage)
        for query in ("a river", "to hold", "hands")
        for pair in connector.explain(query, "otters").pairs
    }
    assert rows == {("[CLS]",), ("River", "otters"), ("otters", "hold"), ("hands", "[SEP]")}
    explanation = connector.explain("a river", "otters")
    assert explanation.passage_parts(Word("river", 2, 7)) == pytest.approx(
        {
            word: pair.part * share
            for pair in explanation.pairs
            if pair.query.text == "river"
            for word, share in zip(pair.passage, pair.spread, strict=True)
        }
    )


@pytest.mark.parametrize("spec", ["punctuation+ward-3", "first-9+whole-words", "whole-words+sequential-2"])
def test_tracing_a_reduction_gives_what_it_gives(spec: str, encoder: Encoder) -> None:
    (whole,) = encoder.encode_documents(["The more otters, the more otters hold hands; do they, really?"])
    reduction = parse_reduction(spec)
    reduced, labels = traced(whole, reduction)
    assert np.array_equal(reduced.tokens, reduction(whole).tokens)
    assert set(labels.tolist()) - {-1} == set(range(len(reduced)))
    for row, (start, end) in enumerate(reduced.offsets):  # those of the first token of each row
        assert whole.offsets[np.flatnonzero(labels == row)[0]].tolist() == [start, end]


def test_in_order_finds_the_best_ascending_columns(rng: np.random.Generator) -> None:
    for k, n in [(1, 1), (1, 5), (3, 3), (3, 6), (5, 8)]:
        table = rng.normal(size=(k, n)).astype(np.float32)
        best = max(combinations(range(n), k), key=lambda them: table[np.arange(k), them].sum())
        assert in_order(table).tolist() == list(best)


def test_what_was_pruned_by_counts_is_named_after_more_was_counted(
    make: Callable[..., Connector],
) -> None:
    connector = make(codes(reduction="idf-30%", codec="pca-64+binary"))
    before = connector.explain(QUERY, "doc 7")
    connector.ingest([Document(id=f"more {n}", text=f"Bees dance in hive {n} by flowers") for n in range(40)])
    after = connector.explain(QUERY, "doc 7")
    assert [pair.passage for pair in after.pairs] == [pair.passage for pair in before.pairs]


def test_what_was_merged_by_other_counts_is_not_named_wrongly(make: Callable[..., Connector]) -> None:
    connector = make(codes(reduction="idf-30%+sequential-2"))
    (hit,) = connector.search(QUERY, 1)
    connector.ingest([Document(id=f"more {n}", text=f"Bees dance in hive {n} by flowers") for n in range(40)])
    with pytest.raises(CollectionError, match="counted further"):
        connector.explain(QUERY, hit)


def test_the_title_counts(make: Callable[..., Connector]) -> None:
    connector = make()
    connector.ingest([Document(id="t", title="Über Katzen", text="They are kept as pets; a cat purrs.")])
    explanation = connector.explain("Katzen", "t")
    assert explanation.text == "Über Katzen They are kept as pets; a cat purrs."
    assert_in_place(explanation)
    assert Word("Katzen", 5, 11) in explanation.passage_parts()


def test_of_a_document_of_several_passages_the_best_is_explained(make: Callable[..., Connector]) -> None:
    connector = make()
    connector.ingest([Document(id="long", text=" ".join(TEXTS))], chunk_tokens=25)
    found = {hit.id: hit for hit in connector.search(QUERY, 13)}["long"]
    assert found.passage > 0
    explanation = connector.explain(QUERY, "long")
    assert (explanation.passage, explanation.text) == (found.passage, found.text)
    assert_sums(found, explanation)
    assert_sums(found, connector.explain(QUERY, found))


def test_a_hit_that_was_aligned_otherwise_than_the_collection_says(make: Callable[..., Connector]) -> None:
    connector = make()
    (hit,) = connector.search(QUERY, 1, alignment="top-3")
    assert_sums(hit, connector.explain(QUERY, hit, alignment="top-3"))
    assert_sums(hit, connector.explain(QUERY, hit.id, alignment="top-3"))
    with pytest.raises(CollectionError, match="with other options"):
        connector.explain(QUERY, hit)


def test_what_cannot_be_explained_is_refused(make: Callable[..., Connector]) -> None:
    connector = make(RECIPES["compact"].varied(lexical="english"))
    (hit,) = connector.search(QUERY, 1)
    with pytest.raises(InputError, match=r"'nothing'.*give an id"):
        connector.explain(QUERY, "nothing")
    with pytest.raises(DocumentError, match="surrogate"):
        connector.explain(QUERY, "a\ud800")
    with pytest.raises(InputError, match="query is ' '"):
        connector.explain(" ", hit)
    (by_words,) = connector.search("bees", 1, candidates_by="lexical", rerank=None)
    with pytest.raises(InputError, match="nothing but the order in which candidates are found"):
        connector.explain("bees", by_words, candidates_by="lexical", rerank=None)
    with pytest.raises(CollectionError, match="found by another query"):
        connector.explain("volcanic ash", hit)
    with pytest.raises(CollectionError, match=f"holds no passage 3 of '{hit.id}' that is whole"):
        connector.explain(QUERY, replace(hit, passage=3))
    assert connector.explain(QUERY, copy.deepcopy(hit)) == connector.explain(QUERY, hit)
    connector.close()
    with pytest.raises(InputError, match="closed"):
        connector.explain(QUERY, hit)


def test_a_hit_that_was_written_again_is_refused(make: Callable[..., Connector]) -> None:
    connector = make()
    (hit,) = connector.search(QUERY, 1)
    connector.ingest([Document(id=hit.id, text="Volcanoes.")])
    with pytest.raises(CollectionError, match="written again since"):
        connector.explain(QUERY, hit)


def test_without_a_rerank_cls_is_all(make: Callable[..., Connector]) -> None:
    connector = make()
    (hit,) = connector.search(QUERY, 1, fusion="sum:cls=1")
    (pair,) = connector.explain(QUERY, hit, fusion="sum:cls=1").pairs
    assert (pair.kind, pair.part, pair.share) == ("cls", hit.score, 1)


class Bare:
    """An encoder that shows no tokens."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder

    def __getattr__(self, name: str) -> Any:
        if name == "features":
            raise AttributeError(name)
        return getattr(self._encoder, name)


def test_an_encoder_that_shows_no_tokens_leaves_their_numbers(
    make: Callable[..., Connector], tmp_path: Path, encoder: Encoder
) -> None:
    make(codes()).close()
    with Connector.open("docs", path=tmp_path / "qdrant", model=Bare(encoder)) as connector:
        names = {pair.query.text for pair in connector.explain("bees", "doc 7").pairs}
    assert names == {"[token 101]", "bees", "[token 102]"}


def test_a_text_in_pieces() -> None:
    words = [Word("b", 2, 3), Word("a", 0, 1), Word("[CLS]", 0, 0), Word("b c", 2, 5)]
    assert list(split_at("a b c.", words)) == [
        *(("a", words[1]), (" ", None), ("b", words[0]), (" c.", None)),
    ]
    assert list(split_at("", words[2:3])) == []


# The command


@pytest.fixture
def place(make: Callable[..., Connector], tmp_path: Path) -> list[str]:
    connector = make()
    connector.ingest([Document(id="<b>\x1b[1m'\"", title="</title>", text=HOSTILE)])
    connector.close()
    return ["--collection", "docs", "--path", str(tmp_path / "qdrant")]


def run(*words: str) -> Any:
    return CliRunner().invoke(main, ["explain", *words])


def test_the_command_prints_one_json_object_that_sums_up(place: list[str]) -> None:
    result = run(QUERY, "--id", "doc 7", *place, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert set(found) == {"query", "id", "passage", "text", "score", "pairs"}
    assert sum(pair["part"] for pair in found["pairs"]) == pytest.approx(found["score"], abs=1e-5)
    for pair in found["pairs"]:
        assert set(pair) == {"kind", "query", "passage", "spread", "similarity", "part", "share"}
        for word in pair["passage"]:
            assert found["text"][word["start"] : word["end"]] == word["text"] or word["text"].startswith("[")


def test_the_command_for_a_person(place: list[str]) -> None:
    result = run(QUERY, "--id", "doc 7", *place)
    assert result.exit_code == 0, result.output
    assert "doc 7" in result.stdout
    assert "*Bees*" in result.stdout, "strong words are marked without colours, too"
    assert "\x1b" not in result.stdout
    (line,) = [line for line in result.stdout.splitlines() if "honeybees" in line]
    assert "Bees" in line
    assert "%" in line
    mixed = run(QUERY, "--id", "doc 7", *place, "--fusion", "sum:tokens=1,cls=1", "--alignment", "top-2")
    assert any(line.split()[0] == "CLS" for line in mixed.stdout.splitlines() if line.strip())


def test_a_terminal_is_told_nothing_by_a_hostile_text(
    place: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], encoder: Encoder
) -> None:
    with Connector.open("docs", path=place[3], model=encoder) as connector:
        explanation = connector.explain("<script>\x1b[2J שלום", "<b>\x1b[1m'\"")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("COLUMNS", "60")
    show(explanation_lines(explanation))
    said = capsys.readouterr().out
    assert "\u202e" not in said
    assert "\x1b[31m" not in said
    assert "\x1b[2J" not in said
    assert "48;5;" in said, "words are shaded"
    assert "script" in said
    assert "שלום" in said


def test_shades_follow_the_parts_of_words_in_the_text() -> None:
    words = [Word(letter, place, place + 1) for place, letter in enumerate("abcde")]
    parts = dict(zip(words, [8.0, 4.1, 1.0, 0.9, -1.0], strict=True))
    assert shades(parts | {Word("[CLS]", 0, 0): 100.0}) == {words[0]: 4, words[1]: 3, words[2]: 1}
    assert shades({}) == {}


def test_the_command_writes_a_page_or_says_why_not(place: list[str], tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    result = run("<i>bees</i>", "--id", "<b>\x1b[1m'\"", *place, "--html", str(file))
    assert (result.exit_code, result.stdout) == (0, "")
    page = file.read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert page.count("<script") == 1
    both = run("bees", "--id", "doc 7", *place, "--html", str(file), "--json")
    assert json.loads(both.stdout)["id"] == "doc 7"
    for words, said in [
        (["--id", "nothing"], "'nothing'"),
        (["--id", "doc 7", "--html", str(tmp_path / "no" / "page.html")], "no folder"),
        (["--id", "doc 7", "--alignment", "top-x"], "top-x"),
    ]:
        refused = run("bees", *words, *place)
        assert refused.exit_code == 1
        assert said in refused.stderr
        assert "Traceback" not in refused.output
    assert run("bees", *place).exit_code == 2


def test_a_hit_of_before_an_adaptation_is_not_explained_as_what_it_was_not(
    make: Callable[..., Connector],
) -> None:
    connector = make("compact")
    hits = connector.search(QUERY, 4)
    connector.collection.adapt(Strategy(TopK(4), Fusion("sum", tokens=0.75, cls=0.25)))
    with pytest.raises(CollectionError, match="or with other options, or written again since"):
        connector.explain(QUERY, hits[0])
    for hit in connector.search(QUERY, 4):
        assert set(hit.parts) == {"tokens", "cls"}
        assert_sums(hit, connector.explain(QUERY, hit))


def test_the_score_of_another_query_is_no_rounding(make: Callable[..., Connector]) -> None:
    connector = make("compact")
    (hit,) = connector.search(QUERY, 1)
    with pytest.raises(CollectionError, match="found by another query"):
        connector.explain(QUERY.replace("How", "Why"), hit)


def test_qdrant_itself_gives_means_where_top_1_is_asked_for(make: Callable[..., Connector]) -> None:
    connector = make(codes(layout="multivector", codec="float16"))
    sums = connector.search(QUERY, 5)
    means = connector.search(QUERY, 5, alignment="top-1")
    here = connector.search(QUERY, 5, alignment=TopK(1), rerank="client")
    assert [hit.id for hit in sums] == [hit.id for hit in means]
    assert [hit.score for hit in means] == pytest.approx([hit.score for hit in here], abs=1e-4)
    for hit in means:
        assert set(hit.parts) == {"tokens"}
        assert_sums(hit, connector.explain(QUERY, hit, alignment="top-1"))


@pytest.mark.parametrize("query", [QUERY, "What about bread?", "x"])
def test_the_best_passage_is_that_of_a_search_where_vectors_are_quantized(
    query: str, make: Callable[..., Connector]
) -> None:
    recipe = codes(layout="multivector", codec="float16", quantization="binary")
    connector = make(recipe)
    connector.ingest([Document(id="long", text=" ".join(TEXTS))], chunk_tokens=20)
    found = {hit.id: hit for hit in connector.search(query, 20)}
    explanation = connector.explain(query, "long")
    assert (explanation.passage, explanation.score) == (
        found["long"].passage,
        pytest.approx(found["long"].score, abs=1e-3),
    )


@pytest.mark.parametrize("hit", [None, 5, b"doc 1"])
def test_what_is_no_hit_is_refused(hit: Any, make: Callable[..., Connector]) -> None:
    with pytest.raises(InputError, match=r"hit is .*; it should be an instance of Hit or a valid string"):
        make("compact").explain(QUERY, hit)
