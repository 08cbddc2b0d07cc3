"""What goes out to a folder comes back as it was, or not at all."""

from __future__ import annotations

import hashlib
import json
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import portalocker
import pyarrow
import pyarrow.parquet
import pytest
import qdrant_edge as edge
from click.testing import CliRunner
from qdrant_client import QdrantClient, models
from safetensors.numpy import load, save

from connector import RECIPES, Connector, Document, Encoder, Recipe
from connector.cli import main
from connector.collection.backup import (
    Manifest,
    export_collection,
    import_collection,
    manifest,
    read_manifest,
)
from connector.collection.backup import export as exporting
from connector.collection.backup import part_files as parts
from connector.collection.collection import Collection
from connector.collection.versions.aliases import versions
from connector.compression.heads import head_folder
from connector.core.errors import (
    CollectionExists,
    CollectionNotFound,
    InputError,
    MissingExtra,
    TransferError,
)
from connector.core.types import point_id
from connector.scoring.alignment import TopK
from connector.stores import Point, Store, open_store
from connector.stores.schema import CollectionSchema, VectorSchema
from tests.conftest import TEXTS
from tests.server.doubles import double, engine

RECIPE: dict[str, Recipe] = {name: RECIPES[name] for name in ("pooled", "compact", "aligner", "dense")}
RECIPE["words"] = RECIPES["pooled"].varied(lexical="english", query_reduction="idf-weight")
RECIPE["muvera"] = RECIPES["compact"].varied(fde="muvera")
RECIPE |= {name: RECIPES[name].model_copy(update={"cls": "float32"}) for name in ("default", "hybrid")}
CHUNKS = {"words": 12}
QUERIES = ["how do bees tell each other the way", "what makes bread rise", "machine code", "stone and lakes"]
METADATA: dict[str, Any] = {
    "float": 0.1,
    "whole": 2.0,
    "int": 2**62,
    "none": None,
    "list": [1, "a", {"b": []}],
    "text": 'ünï \u2028 " \\ 🦦',
    "id": "not the document's",
}
TORN = Point(point_id("torn", 0), {}, {"id": "torn", "passages": 3})


def documents() -> list[Document]:
    made = [Document(id=f"doc {n}", text=text, metadata={"n": n}) for n, text in enumerate(TEXTS)]
    made.append(Document(id="all/of it", text="An otter reads a book.", title="Otters", metadata=METADATA))
    made += [Document(id=f"two {n}", text=f"{TEXTS[n]} {TEXTS[n + 1]}", title=f"No. {n}") for n in range(10)]
    return made


def reingested(connector: Connector, recipe: str) -> int:
    report = connector.ingest(documents(), chunk_tokens=CHUNKS.get(recipe))
    assert report.documents == 0
    return report.unchanged


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, encoder: Encoder) -> Callable[[str], Path]:
    """A folder with a collection "docs" of a recipe, made when it is first asked for; do not change it."""
    there: dict[str, Path] = {}

    def make(recipe: str) -> Path:
        if recipe not in there:
            path = there[recipe] = tmp_path_factory.mktemp(recipe)
            with Connector.create("docs", path=path, recipe=RECIPE[recipe], model=encoder) as connector:
                connector.ingest(documents(), chunk_tokens=CHUNKS.get(recipe))
                collection = connector.collection
                collection.store.upsert(collection.physical, [TORN])
        return there[recipe]

    return make


@pytest.fixture(scope="module")
def exported(made: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The export of the compact collection, in several parts; do not change it."""
    folder = tmp_path_factory.mktemp("exported") / "backup"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "MAX_POINTS", 7)
        export(made("compact"), folder)
    return folder


@pytest.fixture
def damaged(exported: Path, tmp_path: Path) -> Path:
    """A copy of the export, to be damaged."""
    return Path(shutil.copytree(exported, tmp_path / "damaged"))


def export(path: Path, folder: Path) -> Manifest:
    store = open_store(path=path)
    try:
        return export_collection(Collection(store, "docs"), folder)
    finally:
        store.close()


def found(connector: Connector) -> list[list[tuple[str, int, str, dict[str, Any]]]]:
    return [
        [(hit.id, hit.passage, hit.text, hit.metadata) for hit in connector.search(query, 20)]
        for query in QUERIES
    ]


def scores(connector: Connector, rerank: Any = "auto") -> list[float]:
    return [hit.score for query in QUERIES for hit in connector.search(query, 20, rerank=rerank)]


def points(store: Store, collection: str = "docs") -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """All payload and all vectors but the words, which no store reads."""
    opened = Collection(store, collection)
    names = [vector.name for vector in opened.schema.vectors]
    return {
        record.id: (record.payload, record.vectors)
        for record in store.scroll(opened.physical, parts.KEYS, names)
    }


def assert_same(left: dict[str, Any], right: dict[str, Any], within: float = 1e-6) -> None:
    assert left.keys() == right.keys()
    for id_, (payload, vectors) in left.items():
        assert right[id_][0] == payload
        assert right[id_][1].keys() == vectors.keys()
        for name, vector in vectors.items():
            np.testing.assert_allclose(right[id_][1][name], vector, atol=within, rtol=0, err_msg=name)


def said(store: Store) -> dict[str, str]:
    passing = {"uid", *manifest.PASSING}
    return {key: value for key, value in store.info("docs").items() if value and key not in passing}


@pytest.mark.parametrize("recipe", RECIPE)
def test_edge_to_memory_and_back(
    made: Callable[[str], Path], recipe: str, tmp_path: Path, encoder: Encoder
) -> None:
    """Scores are the same, those of tokens where this process reckons them: engines do it to 1e-4."""
    first = made(recipe)
    client = QdrantClient(":memory:")
    report = export(first, tmp_path / "out")
    assert report.documents == len(documents())
    assert report.passages > report.documents if recipe in CHUNKS else report.passages == report.documents
    import_collection(open_store(client=client), tmp_path / "out")
    memory = open_store(client=client)
    export_collection(Collection(memory, "docs"), tmp_path / "back")
    import_collection(open_store(path=tmp_path / "edge"), tmp_path / "back")
    straight = open_store(path=tmp_path / "straight")
    import_collection(straight, tmp_path / "out")

    stores = {"first": open_store(path=first), "memory": memory, "back": open_store(path=tmp_path / "edge")}
    stores["straight"] = straight
    whole = points(stores["first"])
    fde = 0.01 if recipe == "muvera" else 1e-6
    assert_same(whole, points(straight), fde)
    assert_same(whole, points(stores["back"]), 2 * fde)
    assert len({json.dumps(said(store), sort_keys=True) for store in stores.values()}) == 1
    assert len({Collection(store, "docs").metadata.uid for store in stores.values()}) == 4
    for store in stores.values():
        store.close()
    here = None if RECIPE[recipe].layout == "dense" else "client"
    rounding = 1e-5 if RECIPE[recipe].fusion is None else 1e-2  # one of them keeps CLS vectors in 4 bits
    with Connector.open("docs", path=first, model=encoder) as connector:
        hits, stats = found(connector), connector.stats()
        for place in ("straight", "edge", "memory"):
            at: dict[str, Any] = {"client": client} if place == "memory" else {"path": tmp_path / place}
            with Connector.open("docs", model=encoder, **at) as other:
                assert found(other) == hits
                np.testing.assert_allclose(scores(other, here), scores(connector, here), atol=rounding)
                if place != "memory":
                    np.testing.assert_allclose(scores(other), scores(connector), atol=rounding)
                again = other.stats()
                assert (again.documents, again.passages) == (stats.documents, stats.passages)
                assert again.bytes_per_passage == stats.bytes_per_passage
                assert reingested(other, recipe) == len(documents())
    client.close()


def test_an_import_is_spread_over_a_cluster(made: Callable[[str], Path], tmp_path: Path) -> None:
    folder, client = tmp_path / "out", double(nodes=3)
    export(made("dense"), folder)
    Connector.restore(folder, client=client, shard_number=6, replication_factor=2, on_disk=True).close()
    options = engine(client).made["docs__v0001"]
    assert (options["shard_number"], options["replication_factor"]) == (6, 2)
    with Connector.open("docs", client=client) as connector:
        assert connector.collection.schema.distribution.shard_number == 6
    with pytest.raises(InputError, match="shard_number is 0; it should be greater"):
        Connector.restore(folder, "other", client=client, shard_number=0)


def test_everything_in_the_payload_goes_along(made: Callable[[str], Path], tmp_path: Path) -> None:
    """As the engine itself gives it, also what no key of this library asks for."""

    def raw(store: Any) -> dict[str, Any]:
        shard = store._shard("docs")
        request = edge.ScrollRequest(limit=1000, with_payload=True, with_vector=True)
        points = shard(lambda engine: engine.scroll(request))[0]
        return {str(point.id): (point.payload, sorted(point.vector or {})) for point in points}

    export(made("words"), tmp_path / "out")
    store, first = open_store(path=tmp_path / "edge"), open_store(path=made("words"))
    import_collection(store, tmp_path / "out")
    assert raw(store) == raw(first)
    there = raw(store)
    assert there[TORN.id] == (TORN.payload, [])
    assert any(names == ["cls", "lexical", "tokens"] for _, names in there.values())
    assert METADATA in [payload.get("metadata") for payload, _ in there.values()]
    store.close()
    first.close()


def test_words_are_found_again(made: Callable[[str], Path], tmp_path: Path, encoder: Encoder) -> None:
    export(made("words"), tmp_path / "out")
    import_collection(open_store(path=tmp_path / "edge"), tmp_path / "out")
    with (
        Connector.open("docs", path=made("words"), model=encoder) as first,
        Connector.open("docs", path=tmp_path / "edge", model=encoder) as other,
    ):
        average = first.collection.metadata.average_words
        assert average == other.collection.metadata.average_words
        assert average is not None
        assert 0 < average < 12
        for query in QUERIES:
            hits = [(hit.id, hit.parts) for hit in first.search(query, candidates_by="lexical", rerank=None)]
            assert hits
            assert hits == [
                (hit.id, hit.parts) for hit in other.search(query, candidates_by="lexical", rerank=None)
            ]


@pytest.mark.parametrize("datatype", ["turbo4", "turbo8", "float16", "float32"])
def test_a_vector_does_not_move_however_often_it_is_copied(
    tmp_path: Path, datatype: Any, rng: np.random.Generator
) -> None:
    schema = CollectionSchema((VectorSchema("cls", 384, datatype), VectorSchema("t", 16, datatype, True)))
    store = open_store(path=tmp_path)
    rows = rng.normal(size=(50, 384)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    many = rng.normal(size=(50, 3, 16)).astype(np.float32)
    many /= np.linalg.norm(many, axis=2, keepdims=True)
    now = [
        Point(point_id(str(n), 0), {"cls": row, "t": more}, {"id": str(n)})
        for n, (row, more) in enumerate(zip(rows, many, strict=True))
    ]
    seen: list[dict[str, Any]] = []
    for step in range(4):
        store.create(f"c{step}", schema, {})
        store.upsert(f"c{step}", now)
        records = list(store.scroll(f"c{step}", parts.KEYS, ["cls", "t"]))
        seen.append({record.id: (record.payload, record.vectors) for record in records})
        (tmp_path / "table").write_bytes(parts.table(records))
        (tmp_path / "vectors").write_bytes(parts.arrays(records, schema))
        now = parts.read(tmp_path / "table", tmp_path / "vectors", 50, schema, None)
    for later in seen[1:]:
        assert_same(seen[0], later, 2e-7 if datatype.startswith("turbo") else 0)
    store.close()


def test_the_same_content_gives_the_same_bytes(made: Callable[[str], Path], tmp_path: Path) -> None:
    assert export(made("compact"), tmp_path / "a").size == sum(tree(tmp_path / "a").values())
    export(made("compact"), tmp_path / "b")
    assert content(tmp_path / "a") == content(tmp_path / "b")


def test_a_head_that_is_gone_is_not_missed(tmp_path: Path, encoder: Encoder) -> None:
    shipped = RECIPES["aligner"].for_model(encoder.fingerprint).head
    head = shutil.copytree(head_folder(str(shipped)), tmp_path / "head")
    recipe = RECIPES["aligner"].varied(head=str(head))
    with Connector.create("docs", path=tmp_path / "first", recipe=recipe, model=encoder) as connector:
        connector.ingest(documents())
        hits, of = found(connector), scores(connector)
    export(tmp_path / "first", tmp_path / "out")
    shutil.rmtree(head)
    import_collection(open_store(path=tmp_path / "edge"), tmp_path / "out")
    with Connector.open("docs", path=tmp_path / "edge", model=encoder) as other:
        assert found(other) == hits
        np.testing.assert_allclose(scores(other), of, atol=1e-5)
        assert other.ingest([*documents(), Document("new", "A new text.")]).documents == 1


def test_an_empty_collection(tmp_path: Path, encoder: Encoder) -> None:
    with Connector.create("docs", path=tmp_path / "first", recipe="compact", model=encoder):
        pass
    assert export(tmp_path / "first", tmp_path / "out").documents == 0
    import_collection(open_store(path=tmp_path / "edge"), tmp_path / "out")
    with Connector.open("docs", path=tmp_path / "edge", model=encoder) as other:
        assert other.ingest(documents()).documents == len(documents())


def test_indexes_and_graphs_are_made_again(damaged: Path, tmp_path: Path) -> None:
    def describe(said: dict[str, Any]) -> None:
        said["info"] |= {"indexes": '{"metadata.n": "integer"}', "hnsw": '{"m": 8, "ef_construct": 50}'}
        said["info"] |= {"copies": '{"shards": 2, "replicas": 1, "acknowledged": null}'}

    resign(damaged, describe)
    store = open_store(path=tmp_path / "edge")
    collection = import_collection(store, damaged)
    assert collection.schema.vector("cls").hnsw is not None
    assert collection.metadata.indexes == {"metadata.n": "integer"}
    condition = models.FieldCondition(key="metadata.n", range=models.Range(gte=3, lt=5))
    assert store.count(collection.physical, models.Filter(must=[condition])) == 2
    store.close()


# Names


def test_a_name_that_is_taken(exported: Path, tmp_path: Path) -> None:
    store = open_store(path=tmp_path / "edge")
    assert import_collection(store, exported).name == "docs"
    before = points(store)
    import_collection(store, exported)
    assert_same(points(store), before, 0)
    assert store.names() == ["docs__v0001"], "what is there already is left as it is"
    some = next(iter(store.scroll("docs", [], filter=None))).id
    store.delete("docs", [some])
    with pytest.raises(CollectionExists, match="--as"):
        import_collection(store, exported)
    store.drop("docs")
    import_collection(store, exported)
    assert import_collection(store, exported, "other").name == "other"
    with pytest.raises(InputError, match="cannot be used"):
        import_collection(store, exported, "../other")
    assert_same(points(store, "other"), before, 0)
    assert_same(points(store), before, 0)
    assert store.aliases().keys() == {"docs", "other"}
    store.close()


# Damage


def tree(folder: Path) -> dict[str, int]:
    return {
        path.relative_to(folder).as_posix(): path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file()
    }


def content(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in tree(folder)}


def refused(folder: Path, place: Path, match: str = "again|restore") -> None:
    """The import says so, and the store has no trace of it."""
    store = open_store(path=place / "edge")
    with pytest.raises(TransferError, match=match):
        import_collection(store, folder)
    assert store.names() == []
    assert store.aliases() == {}
    store.close()
    left = [path for path in (place / "edge").rglob("*") if path.is_file() and path.name != "registry.json"]
    assert [path.name for path in left] in ([], ["lock"])


def resign(folder: Path, change: Callable[[dict[str, Any]], None] = lambda _: None) -> None:
    """Let the manifest say what is there, or something else, with a right digest."""
    said = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    for part in [*said["parts"], {"artifacts": said["artifacts"]}]:
        for files in part.values():
            for file in files if isinstance(files, list) else [files]:
                if isinstance(file, dict) and (folder / file["name"]).is_file():
                    data = (folder / file["name"]).read_bytes()
                    file |= {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    change(said)
    (folder / "manifest.json").write_bytes(signed(said))


def signed(said: dict[str, Any]) -> bytes:
    def text() -> bytes:
        return json.dumps(said, indent=1, ensure_ascii=False, sort_keys=True).encode() + b"\n"

    said["sha256"] = ""
    said["sha256"] = hashlib.sha256(text()).hexdigest()
    return text()


FILES = ["manifest.json", "points-00000.parquet", "vectors-00002.safetensors", "artifacts/codec.safetensors"]
each_file = pytest.mark.parametrize("file", FILES)


def test_the_tests_sign_as_the_library_does(damaged: Path, tmp_path: Path) -> None:
    before = content(damaged)
    resign(damaged)
    assert content(damaged) == before
    store = open_store(path=tmp_path / "edge")
    assert len(points(import_collection(store, damaged).store)) == len(documents()) + 1
    store.close()


@each_file
def test_any_changed_byte(damaged: Path, file: str, tmp_path: Path) -> None:
    chance = random.Random(0)
    data = (damaged / file).read_bytes()
    for place in [0, len(data) - 1, *(chance.randrange(len(data)) for _ in range(20))]:
        changed = bytearray(data)
        changed[place] ^= chance.randint(1, 255)
        (damaged / file).write_bytes(changed)
        refused(damaged, tmp_path)


@each_file
def test_any_missing_byte(damaged: Path, file: str, tmp_path: Path) -> None:
    data = (damaged / file).read_bytes()
    for end in (0, 1, len(data) // 2, len(data) - 1):
        (damaged / file).write_bytes(data[:end])
        refused(damaged, tmp_path)
    (damaged / file).write_bytes(data + b"\n")
    refused(damaged, tmp_path)
    (damaged / file).unlink()
    refused(damaged, tmp_path, "cannot be read")
    (damaged / file).mkdir()
    refused(damaged, tmp_path, "not a plain file")


@each_file
def test_a_link_in_place_of_a_file(damaged: Path, file: str, tmp_path: Path) -> None:
    (damaged / file).rename(tmp_path / "elsewhere")
    (damaged / file).symlink_to(tmp_path / "elsewhere")
    refused(damaged, tmp_path, "not a plain file")


def test_a_link_in_place_of_the_artifacts(damaged: Path, tmp_path: Path) -> None:
    (damaged / "artifacts").rename(tmp_path / "elsewhere")
    (damaged / "artifacts").symlink_to(tmp_path / "elsewhere")
    refused(damaged, tmp_path, "link")


def test_what_is_no_export(tmp_path: Path) -> None:
    for folder in (tmp_path / "missing", tmp_path):
        refused(folder, tmp_path, "not an export")
    (tmp_path / "manifest.json").write_text("[1]")
    refused(tmp_path, tmp_path, "not a manifest of an export")
    (tmp_path / "manifest.json").write_text("[" * 100_000)
    refused(tmp_path, tmp_path, "Invalid JSON")


NAMES = [
    "../points-00000.parquet",
    "/etc/passwd",
    "artifacts/../../x.parquet",
    "..",
    "",
    "a\\b.c",
    "x/../y.z",
]


@pytest.mark.parametrize("name", NAMES)
def test_names_that_leave_the_folder(damaged: Path, tmp_path: Path, name: str) -> None:
    def table(said: dict[str, Any]) -> None:
        said["parts"][0]["table"]["name"] = name

    def artifact(said: dict[str, Any]) -> None:
        said["parts"][0]["table"]["name"] = "points-00000.parquet"
        said["artifacts"][0]["name"] = name

    for change in (table, artifact):
        resign(damaged, change)
        refused(damaged, tmp_path)


def at(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """A change of what stands at a path such as "parts.0.points"."""

    def change(said: Any) -> None:
        *above, last = path.split(".")
        for key in above:
            said = said[int(key) if isinstance(said, list) else key]
        said[last] = value

    return change


CLAIMS = [
    (at("format", 2), "upgrade"),
    (at("format", "1"), "upgrade"),
    (at("what", "a cake"), "not a manifest"),
    (at("more", 1), "more"),
    (at("points", 3), "counts other points"),
    (at("documents", 3), "arrived"),
    (at("passages", 3), "arrived"),
    (at("parts.0.points", 10**12), "less than or equal"),
    (at("parts.0.table.size", 10**15), "less than or equal"),
    (at("parts.0.table.sha256", "x"), "sha256"),
    (at("parts", []), "counts other points"),
    (at("artifacts", []), "codec"),
    (at("artifacts.0.name", "artifacts/other.json"), "no export has"),
    (at("info.format", "99"), "format"),
    (at("info", {}), "format"),
    (at("info.recipe", "{}"), "describes no collection"),
    (at("info.recipe", "[" * 10**5), "describes no collection"),
    (at("info.cls_width", "1000000000"), "describes no collection"),
    (at("info.cls_width", "12"), "hold no points"),
    (at("info.token_width", "many"), "describes no collection"),
    (at("info.codec", "0123456789abcdef"), "fingerprint"),
    (at("info.frequencies", "3"), "do not agree"),
    (at("info.indexes", '{"a": "b"}'), "describes no collection"),
    (at("info.indexes", "[1]"), "describes no collection"),
    (at("info.hnsw", '{"m": -1}'), "describes no collection"),
    (at("info.copies", "3"), "describes no collection"),
]


@pytest.mark.parametrize(("change", "match"), CLAIMS)
def test_manifests_that_claim_something_else(
    damaged: Path, tmp_path: Path, change: Callable[[dict[str, Any]], None], match: str
) -> None:
    resign(damaged, change)
    refused(damaged, tmp_path, match)


def columns(**values: Any) -> Callable[[Path], None]:
    """A change of the first row of the first table."""

    def change(folder: Path) -> None:
        path = folder / "points-00000.parquet"
        read = pyarrow.parquet.read_table(path)
        rows = read.to_pylist()
        rows[0] |= values
        pyarrow.parquet.write_table(
            pyarrow.Table.from_pylist(rows, schema=read.schema), path, use_dictionary=False
        )

    return change


def array(name: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / "vectors-00000.safetensors"
        there = load(path.read_bytes())
        there[name] = np.ascontiguousarray(change(there[name].copy() if name in there else None))
        path.write_bytes(save(there))

    return damage


def of_nan(rows: Any) -> Any:
    rows[1, 1] = np.nan
    return rows


def other_schema(folder: Path) -> None:
    path = folder / "points-00000.parquet"
    table = pyarrow.parquet.read_table(path)
    pyarrow.parquet.write_table(table.drop_columns(["hash"]), path)


def no_parquet(folder: Path) -> None:
    (folder / "points-00000.parquet").write_bytes(b"PAR1 or not PAR1")


def a_pickle(folder: Path) -> None:
    (folder / "vectors-00000.safetensors").write_bytes(b"\x80\x04\x95\x05\x00\x00\x00\x00\x00\x00\x00]\x94.")


def a_huge_header(folder: Path) -> None:
    path = folder / "vectors-00000.safetensors"
    path.write_bytes((2**62).to_bytes(8, "little") + path.read_bytes()[8:])


def a_huge_array(folder: Path) -> None:
    header = b'{"cls":{"dtype":"F32","shape":[1000000000000,384],"data_offsets":[0,1536000000000000]}}'
    (folder / "vectors-00000.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)


def swapped(folder: Path) -> None:
    for kind in ("points-{}.parquet", "vectors-{}.safetensors"):
        one, two = folder / kind.format("00000"), folder / kind.format("00001")
        first = one.read_bytes()
        one.write_bytes(two.read_bytes())
        two.write_bytes(first)


def repeated(folder: Path) -> None:
    for kind in ("points-{}.parquet", "vectors-{}.safetensors"):
        shutil.copy(folder / kind.format("00000"), folder / kind.format("00001"))


FORGED: dict[str, Callable[[Path], None]] = {
    "other columns": other_schema,
    "no parquet": no_parquet,
    "a pickle": a_pickle,
    "a huge header": a_huge_header,
    "a huge array": a_huge_array,
    "another order": swapped,
    "a part twice": repeated,
    "another id": columns(id="someone else"),
    "no id": columns(id=None),
    "no uuid": columns(point="1"),
    "no point": columns(point=None),
    "another passage": columns(passage=7),
    "a passage without text": columns(passage=0, text=None),
    "NUL": columns(text="\0"),
    "a title with NUL": columns(title="a\0b"),
    "metadata that are a list": columns(metadata="[1]"),
    "metadata that are no JSON": columns(metadata="{"),
    "deep metadata": columns(metadata='{"a":' * 200 + "1" + "}" * 200),
    "very deep metadata": columns(metadata="[" * 10**5),
    "a large number": columns(metadata='{"a": 99999999999999999999}'),
    "NaN in metadata": columns(metadata='{"a": NaN}'),
    "passage numbers that are texts": columns(passage=None, payload='{"passage": "0"}'),
    "an unknown key": columns(payload='{"secret": 1}'),
    "codes in the payload": columns(payload='{"codes": "AAAA"}'),
    "a payload that is not an object": columns(payload="[]"),
    "NaN": array("cls", of_nan),
    "float64": array("cls", lambda rows: rows.astype(np.float64)),
    "narrow": array("cls", lambda rows: rows[:, :10]),
    "one row less": array("cls", lambda rows: rows[1:]),
    "flat": array("cls", np.ravel),
    "codes of floats": array("codes", lambda codes: codes.astype(np.float32)),
    "unknown arrays": array("other", lambda _: np.zeros(3, np.float32)),
    "negative lengths": array("codes.lengths", lambda lengths: -lengths),
    "long lengths": array("codes.lengths", lambda lengths: lengths + 2**61),
    "lengths of another type": array("cls.lengths", lambda lengths: lengths.astype(np.int32)),
    "few lengths": array("cls.lengths", lambda lengths: lengths[1:]),
    "two vectors of a point": array("cls.lengths", lambda lengths: lengths + np.arange(7) % 2),
}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
def test_forged_parts(damaged: Path, tmp_path: Path, forge: Callable[[Path], None]) -> None:
    forge(damaged)
    resign(damaged)
    refused(damaged, tmp_path)


def test_a_table_that_unpacks_to_more_than_it_says(
    damaged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns(text="a" * 10**6)(damaged)
    resign(damaged)
    monkeypatch.setattr(parts, "MAX_BYTES", 10**5)
    refused(damaged, tmp_path, "unpacks")


# Places


def test_an_export_replaces_an_export(exported: Path, made: Callable[[str], Path], tmp_path: Path) -> None:
    export(made("dense"), tmp_path / "out")
    export(made("compact"), tmp_path / "out")
    assert read_manifest(tmp_path / "out").info["recipe"] == read_manifest(exported).info["recipe"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    (tmp_path / "link").symlink_to(tmp_path / "out")
    export(made("dense"), tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert json.loads(read_manifest(tmp_path / "out").info["recipe"])["name"] == "dense"


def a_file(place: Path) -> None:
    place.write_text("precious")


def a_folder(place: Path) -> None:
    place.mkdir()
    (place / "thesis.tex").write_text("precious")


def an_empty_folder(place: Path) -> None:
    place.mkdir()


def a_manifest_of_others(place: Path) -> None:
    place.mkdir()
    (place / "manifest.json").write_text('{"name": "an app"}')


def a_manifest_of_the_future(place: Path) -> None:
    place.mkdir()
    (place / "manifest.json").write_text(
        json.dumps({"what": Manifest.model_fields["what"].default, "format": 2})
    )


def a_link_to_a_folder(place: Path) -> None:
    a_folder(place.parent / "home")
    place.symlink_to(place.parent / "home")


FOREIGN = [
    a_file,
    a_folder,
    an_empty_folder,
    a_manifest_of_others,
    a_manifest_of_the_future,
    a_link_to_a_folder,
]


@pytest.mark.parametrize("foreign", FOREIGN)
def test_what_is_not_ours_is_left_alone(
    made: Callable[[str], Path], tmp_path: Path, foreign: Callable[[Path], None]
) -> None:
    foreign(tmp_path / "out")
    before = content(tmp_path)
    with pytest.raises(TransferError):
        export(made("dense"), tmp_path / "out")
    assert content(tmp_path) == before
    assert (tmp_path / "out").exists()


@pytest.mark.parametrize("end", ["", ".partial", ".old"])
def test_other_files_in_an_export_are_left_alone(
    made: Callable[[str], Path], exported: Path, tmp_path: Path, end: str
) -> None:
    shutil.copytree(exported, tmp_path / f"out{end}")
    (tmp_path / f"out{end}" / "notes.txt").write_text("precious")
    before = content(tmp_path)
    with pytest.raises(TransferError, match=f"out{end}"):
        export(made("dense"), tmp_path / "out")
    assert content(tmp_path) == before


def test_what_a_kill_can_leave(made: Callable[[str], Path], exported: Path, tmp_path: Path) -> None:
    """Any of the three names, the new one whole or not, the old one being deleted."""
    export(made("dense"), tmp_path / "whole")
    whole = content(tmp_path / "whole")
    for number, left in enumerate(
        [(".old",), (".old", ".partial"), ("", ".old"), ("", ".partial"), (".partial",)]
    ):
        out = tmp_path / str(number)
        for end in left:
            shutil.copytree(exported, tmp_path / f"{number}{end}")
        if left == ("", ".old"):
            (tmp_path / f"{number}.old" / "manifest.json").unlink()
        if ".partial" in left:
            (tmp_path / f"{number}.partial" / "manifest.json").unlink()
            (tmp_path / f"{number}.partial" / "points-00001.parquet").write_bytes(b"half")
        export(made("dense"), out)
        assert content(out) == whole
        assert [path.name for path in tmp_path.glob(f"{number}*")] == [str(number)]


def test_an_old_export_comes_back_even_if_the_new_one_fails(
    made: Callable[[str], Path], exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(exported, tmp_path / "out.old")

    def full(*_: Any) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exporting, "table", full)
    with pytest.raises(TransferError, match="make room"):
        export(made("dense"), tmp_path / "out")
    assert content(tmp_path / "out") == content(exported)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_two_exports_to_one_folder(made: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / "out.partial").mkdir()
    with (
        portalocker.Lock(tmp_path / "out.partial" / "lock", "a", timeout=0),
        pytest.raises(TransferError, match="another export"),
    ):
        export(made("dense"), tmp_path / "out")
    export(made("dense"), tmp_path / "out")


def test_a_collection_that_changes_meanwhile(exported: Path, tmp_path: Path) -> None:
    store = open_store(client=QdrantClient(":memory:"))
    collection = import_collection(store, exported)

    payload = {"id": "doc 1", "passage": 0, "hash": "0" * 16, "text": "Another one.", "metadata": {}}
    changes: list[Callable[[], Any]] = [
        lambda: store.upsert(
            collection.physical, [Point(point_id("new", 0), {}, {"id": "new", "passages": 2})]
        ),
        lambda: store.upsert(collection.physical, [Point(point_id("doc 1", 0), {}, payload)]),
        lambda: store.delete(collection.physical, [point_id("doc 2", 0)]),
        lambda: collection.write_metadata(alignment=TopK(2)),
    ]
    for change in changes:
        with pytest.raises(TransferError, match="changed while"):
            export_collection(
                collection, tmp_path / "out", lambda _, done, of, it=change: done == of and it()
            )
        assert list(tmp_path.iterdir()) == []
    collection.write_metadata(filling="lexical")
    with pytest.raises(TransferError, match="being changed"):
        export_collection(collection, tmp_path / "out")


# Kills


class Killed(BaseException):
    """The process ends here."""


WRITES = ("create", "drop", "switch", "set_info", "put_artifact", "upsert", "create_index", "finish")


class Mortal:
    """A store whose process ends at its n-th write, before it or right after it."""

    def __init__(self, store: Store, moment: int) -> None:
        self._store = store
        self._left = moment

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if name not in WRITES:
            return method

        def mortal(*arguments: Any) -> Any:
            for after in (False, True):
                if self._left == 0:
                    raise Killed
                self._left -= 1
                if not after:
                    result = method(*arguments)
            return result

        return mortal


def places(tmp_path: Path) -> Iterator[Store]:
    yield open_store(path=tmp_path / "edge")
    yield open_store(client=QdrantClient(":memory:"))


def test_an_import_that_is_killed_anywhere(exported: Path, tmp_path: Path) -> None:
    """Nobody sees a part of it, and the next run ends where an undisturbed one does; nothing is left over."""
    for store in places(tmp_path):
        import_collection(store, exported)
        whole, told = points(store), said(store)
        moment = kills = 0
        while True:
            name = f"c{moment}"
            try:
                import_collection(Mortal(store, moment), exported, name)  # type: ignore[arg-type]
                break
            except Killed:
                kills += 1
            if name in store.aliases():  # killed after the last write
                assert_same(whole, points(store, name), 0)
            else:
                with pytest.raises(CollectionNotFound):
                    store.info(name)
                import_collection(store, exported, name)
                assert_same(whole, points(store, name), 0)
            collection = Collection(store, name)
            assert versions(store, name) == [collection.physical]
            assert {
                key: value for key, value in store.info(collection.physical).items() if key in told
            } == told
            assert collection.metadata.building is None
            store.drop(name)
            moment += 1
        assert kills > 14
        store.close()


def test_a_run_goes_on_where_a_killed_one_was(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(path=tmp_path / "edge")
    with pytest.raises(Killed):
        import_collection(Mortal(store, 9), exported)  # type: ignore[arg-type]
    there = versions(store, "docs")
    before = store.count(there[0])
    assert before > 0
    written: list[int] = []
    upsert = store.upsert

    def counted(name: str, them: Any) -> None:
        written.append(len(them))
        upsert(name, them)

    monkeypatch.setattr(store, "upsert", counted)
    collection = import_collection(store, exported)
    assert [collection.physical] == there
    assert sum(written) == store.count(there[0]) - before
    store.close()


def test_what_was_left_of_another_export_is_removed(
    made: Callable[[str], Path], exported: Path, tmp_path: Path
) -> None:
    export(made("dense"), tmp_path / "dense")
    store = open_store(path=tmp_path / "edge")
    with pytest.raises(Killed):
        import_collection(Mortal(store, 3), tmp_path / "dense", "docs")  # type: ignore[arg-type]
    assert len(versions(store, "docs")) == 1
    collection = import_collection(store, exported)
    assert versions(store, "docs") == [collection.physical]
    assert collection.recipe.layout == "codes"
    store.close()


def test_what_was_written_to_since_is_not_taken_for_the_export(exported: Path, tmp_path: Path) -> None:
    store = open_store(path=tmp_path / "edge")
    collection = import_collection(store, exported)
    whole = points(store)
    store.upsert(collection.physical, [Point(TORN.id, {}, {**TORN.payload, "passages": 4})])
    store.switch("docs", None)
    collection = import_collection(store, exported)
    assert_same(whole, points(store), 0)
    assert versions(store, "docs") == [collection.physical]
    store.close()


def test_a_collection_that_another_one_made_meanwhile(exported: Path, tmp_path: Path) -> None:
    store = open_store(path=tmp_path / "edge")
    theirs = import_collection(store, exported, "theirs")

    def make(what: str, done: int, total: int) -> None:
        if (what, done) == ("Importing", total):
            store.switch("docs", theirs.physical)

    with pytest.raises(CollectionExists):
        import_collection(store, exported, progress=make)
    assert store.aliases()["docs"] == theirs.physical
    store.close()


def test_points_that_do_not_arrive(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(path=tmp_path / "edge")
    monkeypatch.setattr(store, "upsert", lambda *_: None)
    with pytest.raises(TransferError, match="arrived"):
        import_collection(store, exported)
    assert store.names() == []
    store.close()


RUN = """
import sys
from connector.collection.collection import Collection
from connector.stores import open_store
from connector.collection.backup import export_collection, import_collection, part_files as parts
parts.MAX_POINTS = 7
path, folder = sys.argv[2:]
store = open_store(path=path)
print("started", flush=True)
show = lambda *done: print(*done, flush=True)
if sys.argv[1] == "export":
    export_collection(Collection(store, "docs"), folder, show)
else:
    import_collection(store, folder, progress=show)
print("finished", flush=True)
"""


def killed(what: str, path: Path, folder: Path, lines: int, delay: float) -> bool:
    """Kill another process that runs it, `delay` seconds after so many lines; whether it had finished."""
    command = [sys.executable, "-c", RUN, what, str(path), str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        printed = [process.stdout.readline() for _ in range(lines)]
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        printed += process.stdout.readlines()
    return "finished\n" in printed


MOMENTS = [*range(2), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 25))]


@pytest.mark.parametrize("seed", MOMENTS)
def test_a_killed_export(made: Callable[[str], Path], exported: Path, tmp_path: Path, seed: int) -> None:
    """Over an older export, which is there, here or beside, until the new one is."""
    chance = random.Random(seed)
    old = read_manifest(Path(shutil.copytree(exported, tmp_path / "out"))).sha256
    path = Path(shutil.copytree(made("words"), tmp_path / "qdrant"))
    finished = killed("export", path, tmp_path / "out", seed % 10, chance.uniform(0, 0.03))
    if seed == 0:
        assert not finished, "the kill came too late to test anything"
    reachable = [it for it in (tmp_path / "out", tmp_path / "out.old") if (it / "manifest.json").exists()]
    assert reachable
    for file in (kept := read_manifest(reachable[0])).files:
        manifest.check_file(reachable[0], file)
    assert finished <= (kept.sha256 != old)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "MAX_POINTS", 7)
        export(path, tmp_path / "out")
        export(made("words"), tmp_path / "undisturbed")
    assert content(tmp_path / "out") == content(tmp_path / "undisturbed")
    assert sorted(it.name for it in tmp_path.iterdir()) == ["out", "qdrant", "undisturbed"]


@pytest.mark.parametrize("seed", MOMENTS)
def test_a_killed_import(exported: Path, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    finished = killed("import", tmp_path / "edge", exported, seed % 8, chance.uniform(0, 0.03))
    if seed == 0:
        assert not finished, "the kill came too late to test anything"
    store = open_store(path=tmp_path / "edge")
    if "docs" not in store.aliases():
        assert not finished
        import_collection(store, exported)
    undisturbed = open_store(client=QdrantClient(":memory:"))
    import_collection(undisturbed, exported)
    straight = open_store(path=tmp_path / "straight")
    import_collection(straight, exported)
    assert_same(points(straight), points(store), 0)
    assert said(store) == said(undisturbed) == said(straight)
    assert versions(store, "docs") == [Collection(store, "docs").physical]
    for it in (store, straight):
        it.close()


# Commands


def test_the_commands(made: Callable[[str], Path], tmp_path: Path, encoder: Encoder) -> None:
    def invoke(*words: Any) -> str:
        result = CliRunner().invoke(main, [str(word) for word in words])
        if result.exception is not None:
            raise result.exception
        return result.stdout

    place = ("--collection", "docs", "--path", made("words"))
    assert re.search(r"collection +docs\n +documents +23\n", invoke("export", tmp_path / "out", *place))
    said = json.loads(invoke("export", tmp_path / "out", *place, "--json"))
    assert (said["documents"], said["files"]) == (23, len(tree(tmp_path / "out")))
    assert said["bytes"] == sum(tree(tmp_path / "out").values())
    edge = ("--path", tmp_path / "edge")
    for _ in range(2):
        assert re.search(r"collection +docs\n +documents +23\n", invoke("import", tmp_path / "out", *edge))
    told = json.loads(invoke("import", tmp_path / "out", *edge, "--as", "other", "--json"))
    assert told.keys() == said.keys()
    assert [told[key] for key in ("collection", "passages", "bytes")] == [
        "other",
        said["passages"],
        said["bytes"],
    ]
    with Connector.open("other", path=tmp_path / "edge", model=encoder) as connector:
        assert connector.search(QUERIES[0])[0].id == "doc 7"


def test_without_pyarrow(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    store = open_store(path=tmp_path / "edge")
    with pytest.raises(MissingExtra, match=r"\[parquet\]"):
        import_collection(store, exported)
    assert store.names() == []
    store.close()
