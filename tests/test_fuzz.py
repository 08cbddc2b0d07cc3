"""Damaged files: a reader gives what is sound, or one line that says what is wrong; nothing half done stays.

To add a reader: a valid file, `mutated(it)` or another strategy, and a law in which `refuses_cleanly` calls
the reader; `fuzz` runs the law.
"""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from connector import Connector, Document, Encoder
from connector.cli import main
from connector.collection.backup import export_collection, import_collection, read_manifest
from connector.collection.backup.manifest import File, Manifest
from connector.collection.metadata import CollectionMetadata
from connector.collection.recipe import RECIPES, Recipe, load_recipe
from connector.compression.codecs import parse_codec
from connector.compression.heads import head_folder
from connector.compression.reduction import Frequencies
from connector.core.errors import ConnectorError
from connector.core.io import to_json
from connector.core.sources import Source, files
from connector.core.types import Float32
from connector.encoders.architectures import with_saliency
from connector.evaluation.beir import load_examples, load_judged
from connector.evaluation.training.head import _description
from connector.evaluation.trec import load_run
from connector.migrations import Context, load_revisions
from connector.migrations.context import steps_of
from connector.stores.edge.store import EdgeStore

T = TypeVar("T")

sizes = pytest.mark.parametrize("times", [1, pytest.param(10, marks=pytest.mark.slow)])
"""Every law runs on some examples, and in the slow tests on many more."""


def fuzz(examples: int, strategy: st.SearchStrategy[T], law: Callable[[T], None], *always: T) -> None:
    """Try a law on so many examples of a strategy, the same ones each time, and on those given."""

    def tried(value: T) -> None:
        law(value)

    test = given(strategy)(tried)
    for value in always:
        test = example(value)(test)
    settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )(test)()


def refuses_cleanly(call: Callable[[], T], name: str = "") -> T | None:
    """What the call gives, or None where it refuses with one line that names the file and a remedy."""
    try:
        return call()
    except ConnectorError as error:
        said = str(error)
        assert said.isprintable(), "one line, without control characters"
        assert len(said) < 1200, "no line is a page"
        assert name in said
        assert ";" in said or "install" in said, f"{said!r} says no remedy"
        return None


# Strategies

NASTY = [
    b"\0",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\xed\xa0\x80",  # a surrogate, as no UTF-8 has it
    b"\xc3",
    b"\\ud800",
    b"\\u0000",
    b"\xe2\x80\xa8",
    b"\x1b[31m",
    b'"',
    b"'",
    b"\\",
    b",",
    b"\t",
    b"\r",
    b"\r\n",
    b"\n\n",
    b" ",
    b"NaN",
    b"-Infinity",
    b"1e999",
    b"18446744073709551616",
    b"7" * 5000,
    b"null",
    b"true",
    b"[]",
    b"{}",
    b"[" * 5000,
    b'{"a":' * 90,
    b'"id": "twice", ',
    b"../",
    b"x" * 150_000,
]


@st.composite
def mutated(draw: st.DrawFn, valid: bytes) -> bytes:
    """A valid file with a few things wrong: cut, dropped, flipped, repeated, or something nasty in it."""
    data = valid
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(data)))
        end = min(start + draw(st.sampled_from([0, 1, 4, 30])), len(data))
        how = draw(
            st.sampled_from(["cut", "drop", "flip", "bytes", "nasty", "nasty", "repeat", "lines", "ends"])
        )
        if how == "cut":
            data = data[:start]
        elif how == "drop":
            data = data[:start] + data[end:]
        elif how == "flip" and start < len(data):
            data = data[:start] + bytes([data[start] ^ 1 << draw(st.integers(0, 7))]) + data[start + 1 :]
        elif how == "bytes":
            data = data[:start] + draw(st.binary(max_size=8)) + data[end:]
        elif how == "nasty":
            data = data[:start] + draw(st.sampled_from(NASTY)) + data[end:]
        elif how == "repeat":
            data = data[:end] + data[start:]
        elif how == "lines":
            lines = data.splitlines(keepends=True)
            data = b"".join(lines + draw(st.lists(st.sampled_from(lines), max_size=3)) if lines else [])
        elif how == "ends":
            data = data.replace(b"\n", draw(st.sampled_from([b"\r\n", b"\r", b"\n\n", b""])))
    return data


def damaged(valid: bytes) -> st.SearchStrategy[bytes]:
    """A mutated file, or now and then bytes that never were one."""
    return st.one_of(*[mutated(valid)] * 9, st.binary(max_size=200))


VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.sampled_from([2**63, -(2**63) - 1, 10**400]),
        st.floats(),
        st.text(st.characters(exclude_categories=()), max_size=5),
        st.sampled_from(["", " ", "a", "\0", "\ud800", "a\nb", "x" * 3000]),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
"""What JSON can say, and a little more."""


def values_in(text: str) -> st.SearchStrategy[bytes]:
    """JSON Lines of records with these keys, mostly with a sound text or a number, else with anything."""
    value = st.one_of(st.sampled_from(["a", "b", "otters", 3]), VALUES)
    records = st.dictionaries(st.sampled_from(text.split()), value, max_size=len(text.split()))
    line = st.one_of(*[records] * 6, VALUES).map(lambda it: json.dumps(it, ensure_ascii=True))
    return st.lists(line, min_size=1, max_size=3).map(lambda lines: "\n".join(lines).encode())


@st.composite
def wrong_arrays(draw: st.DrawFn, valid: bytes) -> bytes:
    """A safetensors file of sound form in which one array is missing, misshapen, of another type or odd."""
    arrays = load_safetensors(valid)
    name = draw(st.sampled_from(sorted(arrays)))
    array = arrays.pop(name)
    how = draw(st.sampled_from(["missing", "type", "shape", "value", "renamed"]))
    if how == "type":
        wanted = draw(st.sampled_from(["f2", "f8", "i4", "u4", "i8", "u1", "?"]))
        with np.errstate(all="ignore"):
            arrays[name] = array.astype(wanted)
    elif how == "shape":
        shapes = [array[None], array.reshape(-1), array[:-1], array[:0], array.T.copy(), np.resize(array, 1)]
        arrays[name] = np.ascontiguousarray(draw(st.sampled_from(shapes)))
    elif how == "value":
        array = array.copy()
        wrong = [np.nan, np.inf, -np.inf, 3e38, -3e38, 0, -1]
        if array.dtype.kind != "f":
            wrong = [0, 255] if array.itemsize == 1 else [-1, 0, 2**62, -(2**63)]
        array.reshape(-1)[draw(st.integers(0, array.size - 1)) if array.size else slice(0)] = draw(
            st.sampled_from(wrong)
        )
        arrays[name] = array
    elif how == "renamed":
        arrays[f"{name}x"] = array
    return save_safetensors(arrays)


# Sources

RECORDS = [
    {"_id": "a", "text": "Otters, and rivers.", "title": "One", "year": 2001, "metadata": {"x": [1.5]}},
    {"_id": "b", "text": 'Bees "dance".\nThen fly.', "title": "", "year": 2002},
    {"_id": "ü", "text": "Öl 🦦", "title": None, "year": -3},
]
JSONL = "".join(json.dumps(it, ensure_ascii=False) + "\n" for it in RECORDS).encode()
CSV = 'id,title,text,year\na,One,"Otters, and ""rivers"".",2001\nb,,"Bees\ndance",2002\nü,,Öl 🦦,3\n'.encode()


def check_documents(path: Path, name: str) -> None:
    """Documents that can be stored, or a refusal; and passing over bad ones gives the sound ones."""
    found = refuses_cleanly(lambda: list(Source(path)), name)
    sound = refuses_cleanly(lambda: passed_over(path), name)
    if found is not None:
        assert sound is not None
        assert sound == found
    for document in sound or []:
        assert isinstance(document, Document)
        to_json([document.id, document.text, document.title, dict(document.metadata)]).encode()


def passed_over(path: Path) -> list[Document]:
    source = Source(path, skip_bad=True)
    found = list(source)
    assert all(bad.isprintable() and len(bad) < 1200 for bad in source.bad)
    return found


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@sizes
@pytest.mark.parametrize("name", ["x.jsonl", "corpus.jsonl"])
def test_json_lines(name: str, times: int, tmp_path: Path) -> None:
    def law(data: bytes) -> None:
        path = written(tmp_path / name, data)
        check_documents(tmp_path if name == "corpus.jsonl" else path, name)

    always = [b"[" * 100_000, b'{"id": ' + b"[" * 900 + b"]" * 900 + b', "text": "a"}']
    always += [b'{"text": "a", "m": ' + b"[" * deep + b"]" * deep + b"}" for deep in (60, 70, 300, 900)]
    always += [b'{"text": "a", "a\\nb\\u001b": NaN}', b'{"text": "a", "id": ' + b"7" * 4000 + b"}"]
    always += [JSONL.decode().encode("utf-16"), b'{"text": "a", "' + b"k" * 10_000 + b'": NaN}']
    always += [json.dumps({f"field {number}": 1 for number in range(1000)}).encode()]
    fuzz(200 * times, damaged(JSONL), law, *always)
    fuzz(200 * times, values_in("_id id text title metadata year"), law)


@sizes
def test_csv(times: int, tmp_path: Path) -> None:
    def law(data: bytes) -> None:
        check_documents(written(tmp_path / "x.csv", data), "x.csv")

    always = [b"", b"\n", b"text\n", b'"id"x,text\na,b\n', b'"id', b"text,text\na,b\n", b"\0,text\na,b\n"]
    always += [b"id,text\n" + b'"' * 10_001, b"x" * 200_000 + b",text\na,b", b"\xff,text\na,b\n"]
    always += [b"text," + b"x" * 5000 + b"," + b"x" * 5000 + b"\na,b,c\n", CSV.decode().encode("utf-16")]
    fuzz(300 * times, damaged(CSV), law, *always)


@sizes
@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_packed(ending: str, times: int, tmp_path: Path) -> None:
    if ending == ".zst" and sys.version_info < (3, 14):
        pytest.importorskip("backports.zstd")
    path = tmp_path / f"x.jsonl{ending}"
    with files.opened(path, "wb") as file:
        file.write(JSONL)

    def law(data: bytes) -> None:
        check_documents(written(path, data), path.name)

    fuzz(300 * times, mutated(path.read_bytes()), law, b"", b"\x1f\x8b", b"\x28\xb5\x2f\xfd")


@sizes
def test_datasets(times: int, tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    table, file = pa.table({"id": ["a", "b"], "text": ["one", "two"], "year": [1, None]}), io.BytesIO()
    with pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table)
    state = b'{"_data_files": [{"filename": "data.arrow"}]}'
    written(tmp_path / "dataset_info.json", b"{}")

    def law(files: tuple[bytes, bytes]) -> None:
        written(tmp_path / "state.json", files[0])
        written(tmp_path / "data.arrow", files[1])
        check_documents(tmp_path, "")

    fuzz(200 * times, st.tuples(st.just(state), damaged(file.getvalue())), law, (b"[]", b""), (b"{}", b""))
    fuzz(50 * times, st.tuples(damaged(state), st.just(file.getvalue())), law)


@sizes
def test_parquet(times: int, tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")

    def law(data: bytes) -> None:
        check_documents(written(tmp_path / "x.parquet", data), "x.parquet")

    always = [parquet(table) for table in odd_tables(pa)]
    valid = parquet(pa.table({"id": ["a", "b"], "text": ["one", "two"], "year": [1, None]}))
    fuzz(300 * times, damaged(valid), law, *always, b"", b"PAR1", b"PAR1PAR1")


def parquet(table: Any) -> bytes:
    import pyarrow.parquet

    file = io.BytesIO()
    pyarrow.parquet.write_table(table, file)
    return file.getvalue()


def odd_tables(pa: Any) -> Iterable[Any]:
    """Tables that Parquet can hold and a collection, or Python, cannot."""
    offsets = pa.py_buffer(np.array([0, 1, 2], np.int32).tobytes())
    not_utf8 = pa.Array.from_buffers(pa.string(), 2, [None, offsets, pa.py_buffer(b"a\xff")])
    yield pa.table({"id": ["a", "b"], "text": not_utf8})
    for kind, value in (
        (pa.timestamp("ns"), 1),
        (pa.timestamp("us", "Nowhere/At_All"), 1),
        (pa.duration("ns"), 1),
        (pa.timestamp("us"), 2**62),
        (pa.time64("us"), 1),
        (pa.map_(pa.string(), pa.int64()), [("k", 1)]),
        (pa.decimal128(9, 2), 1),
        (pa.binary(), b"\xff"),
        (pa.float16(), np.float16("nan")),
        (pa.null(), None),
        (pa.list_(pa.struct([("a", pa.float64())])), [{"a": float("inf")}]),
    ):
        yield pa.table({"text": ["a"], "odd": pa.array([value], kind)})
        yield pa.table({"text": pa.array([value], kind), "id": ["a"]})
    yield pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
    yield pa.table({})
    yield pa.table({"a\nb": ["x"], "": ["y"]})


@pytest.mark.parametrize("skip", [False, True])
def test_one_row_that_is_no_utf8_does_not_take_the_others_along(skip: bool, tmp_path: Path) -> None:
    table = next(iter(odd_tables(pytest.importorskip("pyarrow"))))
    path = written(tmp_path / "x.parquet", parquet(table))
    if skip:
        assert [it.id for it in Source(path, skip_bad=True)] == ["a"]
    else:
        with pytest.raises(ConnectorError, match="row 2 cannot be read"):
            list(Source(path))


@sizes
def test_folders_of_text(times: int, tmp_path: Path) -> None:
    def law(file: tuple[str, bytes]) -> None:
        folder = tmp_path / "texts"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        (folder / "good.md").write_text("Otters")
        written(folder / f"{file[0]}.txt", file[1])
        check_documents(folder, "")

    names = st.text(st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1, max_size=20)
    fuzz(
        50 * times,
        st.tuples(names, damaged("# Otters\n\nhold hands 🦦.\n".encode())),
        law,
        ("a\nb\x1b[31m", b"\xff"),
        ("\udcff", b"a name that is not UTF-8"),
        ("a", b""),
        ("a", b"\0"),
    )


# Judgements

QUERIES = b'{"_id": "q1", "text": "telescopes"}\n{"_id": "q2", "text": "yeast"}\n'
QRELS = b"query-id\tcorpus-id\tscore\nq1\td1\t1\nq1\td2\t0\nq2\td1\t2\n"


@sizes
def test_judgements(times: int, tmp_path: Path) -> None:
    (tmp_path / "qrels").mkdir()
    queries, qrels = tmp_path / "queries.jsonl", tmp_path / "qrels" / "test.tsv"

    def law(files: tuple[bytes, bytes]) -> None:
        queries.write_bytes(files[0])
        qrels.write_bytes(files[1])
        judged = refuses_cleanly(lambda: load_judged(tmp_path, "test"))
        if judged is not None:
            assert judged.queries.keys() == judged.qrels.keys()
            assert all(text.strip() and text.encode() for text in judged.queries.values())
            assert all(abs(it) < 10**9 for grades in judged.qrels.values() for it in grades.values())

    fuzz(
        80 * times,
        st.tuples(damaged(QUERIES), st.just(QRELS)) | st.tuples(st.just(QUERIES), damaged(QRELS)),
        law,
        (b"[" * 100_000, QRELS),
        (QUERIES.replace(b"yeast", b"\\ud800"), QRELS),
        (QUERIES.replace(b"yeast", b"\\u0000"), QRELS),
        (QUERIES.replace(b'"yeast"', b"null"), QRELS),
        (QUERIES.replace(b"yeast", b" "), QRELS),
        (QUERIES.decode().encode("utf-16"), QRELS),
        (QUERIES, b"q1\td1\t" + b"9" * 5000),
        (QUERIES, b"q1\td1\t" + b"9" * 30),
        (QUERIES, b"x" * 200_000 + b"\td1\t1"),
        (QUERIES, b"q1\td\xff\t1"),
        (QUERIES, b"q1\td\0\t1"),
        (QUERIES, b"\xef\xbb\xbfq1\td1\t1\r\n\r\n"),
    )
    fuzz(200 * times, st.tuples(values_in("_id text"), st.just(b"a\td1\t1\n")), law)


RUN = b"q1 Q0 d1 1 0.5 tag\nq1 Q0 d2 2 0.25 tag\nq2\tQ0\td1\t1\t1e-3\ttag\n"


@sizes
def test_runs(times: int, tmp_path: Path) -> None:
    def law(data: bytes) -> None:
        path = written(tmp_path / "x.run", data)
        run = refuses_cleanly(lambda: load_run(path), "x.run")
        for scores in (run or {}).values():
            assert list(scores.values()) == sorted(scores.values(), reverse=True)

    fuzz(200 * times, damaged(RUN), law, b"", b"q Q0 d 1 inf t", b"q Q0 d 1 1e999 t", b"q Q0 d 1 nan t")


# Examples

EXAMPLES = {
    "a.jsonl": b'{"query": "bees", "id": "d1"}\n{"query": "otters", "ids": ["d2", 3]}\n',
    "a.csv": b'query,id\nbees,d1\n"otters, and ""rivers""",d2\n',
    "a.tsv": b"Query\tID\nbees\td1\notters\td2\n",
}


@sizes
@pytest.mark.parametrize("name", EXAMPLES)
def test_examples(name: str, times: int, tmp_path: Path) -> None:
    def law(data: bytes) -> None:
        path = written(tmp_path / name, data)
        pairs = refuses_cleanly(lambda: load_examples(path), name)
        if pairs is None:
            place = ["--collection", "c", "--path", str(tmp_path / "qdrant")]
            result = CliRunner().invoke(main, ["adapt", *place, "--examples", str(path)])
            assert_ended_well(result)
            assert result.exit_code == 1
            assert not (tmp_path / "qdrant").exists()
        for pair in pairs or ():
            assert all(text.strip() and text.encode() and "\0" not in text for text in pair)

    always = [b"", b"\xff", b'"query"x,id\na,b\n', b"query,id,id\na,b,c\n", b"query,id\na\n"]
    always += [b"query,id\n" + b"x" * 200_000 + b",a\n", b"[" * 100_000]
    always += [b'{"query": ' + b"[" * deep + b"]" * deep + b', "id": "a"}' for deep in (300, 900)]
    always += [b'{"query": "\\ud800", "id": "a"}', b'{"query": "a", "id": "\\u0000"}']
    fuzz(200 * times, damaged(EXAMPLES[name]), law, *always)
    if name == "a.jsonl":
        fuzz(200 * times, values_in("query id ids"), law)


# Arrays

WIDTH = 16


def rows(n: int = 40) -> Float32:
    return np.random.default_rng(0).normal(size=(n, WIDTH)).astype(np.float32)


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A head for vectors of width 16."""
    import torch
    from sentence_transformers.base.modules import Dense

    from connector.encoders.modules import SaliencyHead

    folder = tmp_path_factory.mktemp("heads") / "head"
    for part in ("saliency", "linear-8"):
        (folder / part).mkdir(parents=True)
    SaliencyHead(WIDTH).save(str(folder / "saliency"))
    Dense(WIDTH, 8, bias=False, activation_function=torch.nn.Identity()).save(str(folder / "linear-8"))
    return folder


def saved_codec(spec: str, head: Path) -> bytes:
    if "residual" in spec or "pq" in spec:
        pytest.importorskip("faiss")
    return parse_codec(spec, str(head), saliency=True).fit(rows(600)).save()


@sizes
@pytest.mark.parametrize("spec", ["float16", "linear-8+binary", "pca-8+int8", "residual-1", "opq-2"])
def test_codecs(spec: str, times: int, head: Path) -> None:
    valid = saved_codec(spec, head)

    def law(data: bytes) -> None:
        codec = parse_codec(spec, saliency=True)
        if refuses_cleanly(lambda: codec.load(data), spec) is None:
            assert not codec.fitted
        else:
            assert parse_codec(spec, saliency=True).load(codec.save()).fingerprint == codec.fingerprint
            assert np.isfinite(codec.decode(codec.encode(rows()[:, : codec._fitted_width()]))).all()
        codec = parse_codec(spec, saliency=True).load(valid)
        if refuses_cleanly(lambda: codec.load(data), spec) is None:
            assert codec.save() == valid, "what was loaded before stays"

    fuzz(100 * times, damaged(valid), law, *foreign_types())
    fuzz(100 * times, wrong_arrays(valid), law)


def foreign_types() -> Iterable[bytes]:
    """Sound files with what NumPy cannot hold."""
    for kind, shape, end in (("BF16", [1], 2), ("F8_E4M3", [2], 2), ("F32", [0, 2**63], 0)):
        described = json.dumps({"spec": {"dtype": kind, "shape": shape, "data_offsets": [0, end]}}).encode()
        yield len(described).to_bytes(8, "little") + described + b"\0" * end


@sizes
def test_frequencies(times: int) -> None:
    counted = Frequencies(3, np.array([3, 0, 2, 1]), np.array([9, 0, 2, 1]))
    ids = np.arange(6, dtype=np.int32)

    def law(data: bytes) -> None:
        frequencies = Frequencies(3, counted.document, counted.collection)
        if refuses_cleanly(lambda: frequencies.load(data), "token frequencies") is None:
            assert frequencies.save() == counted.save(), "what was there stays"
        elif frequencies.passages:
            for values in (frequencies.idf(ids), frequencies.icf(ids)):
                assert np.isfinite(values).all()
                assert (values >= 0).all()

    fuzz(200 * times, damaged(counted.save()), law, *foreign_types())
    fuzz(200 * times, wrong_arrays(counted.save()), law)


@sizes
@pytest.mark.parametrize("part", ["saliency", "linear-8"])
@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_heads(part: str, name: str, times: int, head: Path, tmp_path: Path) -> None:
    copy = tmp_path / "head"
    shutil.copytree(head, copy)
    valid = (copy / part / name).read_bytes()

    def law(data: bytes) -> None:
        written(copy / part / name, data)
        codec = parse_codec("linear-8+float16", str(copy), saliency=True)
        if refuses_cleanly(lambda: (codec.check(WIDTH),), "head") is None:
            assert refuses_cleanly(lambda: codec.fit(rows())) is None
            assert not codec.fitted
        else:
            codec.fit(rows())
            assert np.isfinite(codec.decode(codec.encode(rows()))).all()
            assert parse_codec("linear-8+float16", saliency=True).load(codec.save()).fitted
        if part == "saliency":
            refuses_cleanly(lambda: with_saliency(Modules(), str(copy)), "head")  # type: ignore[arg-type]

    if name == "config.json":
        settings = json.loads(valid)
        always = [b"[" * 100_000, b"[]", b"{}", b"\xff", b"null"]
        always += [json.dumps({**settings, key: it}).encode() for key in settings for it in ODD_SETTINGS]
        fuzz(60 * times, mutated(valid), law, *always)
    else:
        fuzz(60 * times, mutated(valid), law, *foreign_types())
        fuzz(60 * times, wrong_arrays(valid), law)


ODD_SETTINGS = [None, -1, 0, 10**9, 10**400, 1e308, float("nan"), float("inf"), "\0", "a", [], {}, True]


class Modules(list[Any]):
    """What `with_saliency` asks of a model."""

    def get_embedding_dimension(self) -> int:
        return WIDTH


@sizes
def test_descriptions_of_heads(times: int, tmp_path: Path) -> None:
    """What a training goes on from; one that cannot be read is refused before anything is trained."""
    valid = (Path(head_folder("all-MiniLM-L6-v2")) / "head.json").read_bytes()
    encoder = json.loads(valid)["encoder"]

    def law(data: bytes) -> None:
        written(tmp_path / "head.json", data)
        found = refuses_cleanly(lambda: _description(tmp_path, encoder, "a model"), str(tmp_path))
        assert found is None or isinstance(found["parts"], dict)

    fuzz(100 * times, damaged(valid), law, b"[]", b"[" * 100_000, b"\xff", b'{"encoder": [], "parts": []}')


# Registries and recipes


def registry(*folders: str, **info: Any) -> bytes:
    entries = {f"c{number}": {"folder": it, "info": info} for number, it in enumerate(folders)}
    return json.dumps({"format": 1, "collections": entries, "aliases": {"docs": "c0"}}).encode()


@sizes
def test_registries(times: int, tmp_path: Path) -> None:
    """A folder that is refused is refused by commands, too, and no collection lies outside of it."""
    home = tmp_path / "qdrant"
    home.mkdir()

    def law(data: bytes) -> None:
        written(home / "registry.json", data)
        found = refuses_cleanly(lambda: opened(home), "registry.json")
        if found is None:
            result = CliRunner().invoke(main, ["stats", "--collection", "c0", "--path", str(home)])
            assert_ended_well(result)
            assert result.exit_code == 1
        for folder, info in found or ():
            assert folder.parent == home / "collections"
            assert all(isinstance(it, str) for it in info.values())
            to_json(info).encode()

    always = [
        registry(it) for it in ("", ".", "..", "../..", "/etc", "a/b", "a\0b", "\ud800", "a" * 5000, "é")
    ]
    always += [registry("same", "same"), registry("a", recipe=None), registry("a", recipe="\ud800")]
    always += [
        b"[" * 100_000,
        b"[]",
        b"null",
        b"",
        b'{"format": ' + b"9" * 4000 + b"}",
        b'{"format": "a\\nb"}',
    ]
    always += [b'{"format": 1, "collections": {}, "aliases": {"a": []}}', b'{"format": 1, "collections": []}']
    fuzz(200 * times, damaged(registry("c0-1", "c1-2", format="2", recipe="{}")), law, *always)


def opened(home: Path) -> list[tuple[Path, dict[str, str]]]:
    store = EdgeStore(home)
    try:
        return [(store._folder.home(name), store.info(name)) for name in store.names()]
    finally:
        store.close()


@sizes
def test_recipes(times: int) -> None:
    def law(data: bytes) -> None:
        text = data.decode("utf-8", "surrogateescape")
        recipe = refuses_cleanly(lambda: load_recipe(text), "recipe")
        if recipe is not None:
            assert load_recipe(recipe.model_dump_json()) == recipe

    for recipe in RECIPES.values():
        fuzz(60 * times, damaged(recipe.model_dump_json().encode()), law)
    fields = st.sampled_from(sorted(Recipe.model_fields))
    odd = st.dictionaries(fields, VALUES | st.sampled_from(SPECS), min_size=1, max_size=2).map(odd_recipe)
    always = [b"[" * 100_000, b"null", b'{"name": "\\ud800"}', *map(odd_recipe, ODD_PARTS)]
    fuzz(200 * times, odd, law, *always)


SPECS = ["ward-4", "first-32", "idf-50%", "float16", "pca-8+int8", "linear-8+binary", "residual-2", "top-2"]
SPECS += ["top-1.5%", "idf-weight", "english", "multivector", "dense", "turbo4", "scalar", "muvera", "own"]
SPECS += [f"{spec}{odd}" for spec in SPECS for odd in ("-", "+", "0", "\0", "²", "B", " ")]

ODD_PARTS: Sequence[dict[str, Any]] = [
    {"codec": "pca-" + "9" * 5000 + "+binary"},
    {"codec": "pca-" + "9" * 300 + "+binary"},
    {"codec": "\n+\x1b"},
    {"codec": "+" * 5000},
    {"reduction": "ward-" + "9" * 5000},
    {"reduction": "ward-0"},
    {"alignment": "top-1e999"},
    {"oversampling": "NaN"},
    {"x\ny": 1},
]


def odd_recipe(parts: dict[str, Any]) -> bytes:
    return json.dumps({**RECIPES["compact"].model_dump(), **parts}).encode()


# Revisions and exports

REVISION = b'''"""Add words."""

revision = "0002"
down_revision = "0001"


def upgrade(ctx):
    ctx.add_vector("lexical", "english")
    ctx.map_payload(lambda metadata: {"year": 1999, **metadata})


def downgrade(ctx):
    ctx.drop_vector("lexical")
'''

FIRST = b'revision = "0001"\ndown_revision = None\nirreversible = "no"\ndef upgrade(ctx): pass\n'


@sizes
def test_revision_folder(times: int, tmp_path: Path) -> None:
    """A folder gives a chain that leads from the first revision to the last, or a file is named."""
    folder = tmp_path / "revisions"
    folder.mkdir()
    written(folder / "0001_first.py", FIRST)
    said = CollectionMetadata.model_construct(recipe=RECIPES["pooled"], model="model", indexes={})

    def law(data: bytes) -> None:
        written(folder / "0002_second.py", data)
        found = refuses_cleanly(lambda: load_revisions(folder))
        if found is not None:
            assert [it.down_revision for it in found] == [None, *(it.revision for it in found[:-1])]
            assert len(found) == 2
            for direction in ("upgrade", "downgrade"):
                context = Context("docs", said)
                refuses_cleanly(lambda it=direction, to=context: (steps_of(found[1], it, to),))  # type: ignore[misc]
        assert sorted(it.name for it in folder.iterdir()) == ["0001_first.py", "0002_second.py"]

    fuzz(
        200 * times,
        damaged(REVISION),
        law,
        b"",
        b"\0",
        b"(" * 5000,
        b"raise KeyboardInterrupt".replace(b"KeyboardInterrupt", b"SystemExit"),
        b"import nothing_of_this_name",
    )


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory, encoder: Encoder, documents: list[Document]) -> Path:
    """Of twelve documents and their codes."""
    home = tmp_path_factory.mktemp("export")
    with Connector.create("docs", path=home / "q", recipe="compact", model=encoder) as connector:
        connector.ingest(documents)
        export_collection(connector.collection, home / "it")
    return home / "it"


@sizes
@pytest.mark.parametrize(
    "name",
    ["manifest.json", "points-00000.parquet", "vectors-00000.safetensors", "artifacts/codec.safetensors"],
)
@pytest.mark.parametrize("signed", [False, True], ids=["as it is", "with its hash"])
def test_export_folder(name: str, signed: bool, times: int, export: Path, tmp_path: Path) -> None:
    """An export is imported as a whole or not at all; a hash that was made for the damage does not help."""
    folder, qdrant = tmp_path / "export", tmp_path / "qdrant"
    shutil.copytree(export, folder)
    manifest = read_manifest(folder)

    def law(data: bytes) -> None:
        written(folder / name, data)
        if signed:
            written(folder / "manifest.json", resigned(manifest, name, data))
        shutil.rmtree(qdrant, ignore_errors=True)
        store = EdgeStore(qdrant)
        try:
            found = refuses_cleanly(lambda: import_collection(store, folder))
            assert store.names() == ([] if found is None else ["docs__v0001"])
            assert found is None or found.documents() <= 12
        finally:
            store.close()

    valid = (export / name).read_bytes()
    fuzz(25 * times, damaged(valid), law, b"")


def resigned(manifest: Manifest, name: str, data: bytes) -> bytes:
    """The manifest with the hash of another content of a file, or, as its own content, with its own hash."""
    if name == "manifest.json":
        try:
            return Manifest.model_validate_json(data).signed().text()
        except ValueError:
            return data

    def of(file: File) -> File:
        return File.of(name, data) if file.name == name else file

    parts = [
        it.model_copy(update={"table": of(it.table), "vectors": of(it.vectors)}) for it in manifest.parts
    ]
    changed = {"parts": parts, "artifacts": [of(it) for it in manifest.artifacts]}
    return manifest.model_copy(update=changed).signed().text()


# Commands


def assert_ended_well(result: Any) -> None:
    assert result.exit_code in (0, 1, 2), result.output
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    assert "Traceback" not in result.output


@sizes
@pytest.mark.parametrize(("name", "valid"), [("x.jsonl", JSONL), ("x.csv", CSV)], ids=["jsonl", "csv"])
def test_ingest(
    name: str, valid: bytes, times: int, encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that cannot be taken leaves no collection, and none of its folder."""
    monkeypatch.setattr("connector.api.connector.load_encoder", lambda *_, **__: encoder)
    qdrant = tmp_path / "qdrant"

    def law(data: bytes) -> None:
        shutil.rmtree(qdrant, ignore_errors=True)
        path = written(tmp_path / name, data)
        words = ["ingest", str(path), "--collection", "c", "--path", str(qdrant), "--recipe", "colbert"]
        result = CliRunner().invoke(main, [*words, "--json"])
        assert_ended_well(result)
        if result.exit_code:
            assert result.stdout == ""
            assert name in result.stderr or "document id" in result.stderr
            assert not qdrant.exists() or (opened(qdrant), list(qdrant.glob("collections/*"))) == ([], [])
        else:
            assert json.loads(result.stdout)["documents"] == len({it.id for it in Source(path)})

    fuzz(30 * times, damaged(valid), law)
