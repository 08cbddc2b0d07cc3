"""What collections of pinned recipes store and find, in a form that can be compared later.

`python -m tests.golden.record` adds to `golden.json` what is not recorded there, by the code of today. To
record a recipe again, which is done only when the stored form is meant to change, take its entry out first.
`collection.tar.xz` stays: the code that wrote it is gone.

What the format promises, and so what is compared everywhere: payloads but for codes, metadata, the names and
sizes of vectors and artifacts, and the hits, their scores to one part in a thousand. The bytes of codes,
vectors and artifacts may differ in a last bit between processors and between versions of numpy and torch
(`ENVIRONMENT`), and are compared where these are the recorded ones.
"""

from __future__ import annotations

import base64
import hashlib
import json
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import torch

from connector import RECIPES, Connector, Document, Embedding, Encoder, Recipe
from tests.recipes import COMPACT, POOLED

HERE = Path(__file__).parent
GOLDEN = HERE / "golden.json"
ARCHIVE = HERE / "collection.tar.xz"

QUERIES = [
    "How do I install it?",
    "which recipe takes the fewest bytes",
    "killed while documents were being written",
    "run the search on a cluster of several nodes",
    "why does a hit match my query, word by word",
    "train a head on my own questions and answers",
    "change a live collection without stopping searches",
    "use it from LangChain or LlamaIndex",
    "BM25 and dense candidates together",
    "long documents are split into chunks",
    "is an API key ever shown",
    "copy a collection to another machine",
]

CHUNKED = ("readme/01", "readme/03")
"""Documents that are split into chunks."""

ADDED = 8
"""Documents at the end of the corpus that the kept collection does not have at first."""

KEPT = "compact with words"
"""The recipe of the collection that is kept."""

_OF_THE_DAY = ("library", "uid")


def documents() -> list[Document]:
    """Paragraphs of a manual, some with the same title."""
    lines = (HERE / "corpus.jsonl").read_text(encoding="utf-8").splitlines()
    return [Document(**json.loads(line)) for line in lines]


def ingest(connector: Connector, taken: list[Document]) -> None:
    """Write documents, the long ones in chunks."""
    connector.ingest([it for it in taken if it.id not in CHUNKED])
    connector.ingest([it for it in taken if it.id in CHUNKED], chunk_tokens=48, chunk_overlap=8)


class Remembering:
    """An encoder that encodes the same texts once."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._encoded: dict[Any, list[Embedding]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)

    def encode_documents(self, texts: Sequence[str], **options: Any) -> list[Embedding]:
        key = (*texts, *options.items())
        if key not in self._encoded:
            self._encoded[key] = self._encoder.encode_documents(texts, **options)
        return self._encoded[key]


def recipes() -> dict[str, Recipe]:
    """The named recipes in each layout that they can have, and others that store something else."""
    every_token = Recipe(name="every token", layout="multivector", codec="float16")
    return {
        **RECIPES,
        COMPACT.name: COMPACT,
        POOLED.name: POOLED,
        "every token": every_token,
        "every token as codes": every_token.varied(layout="codes"),
        "pooled as codes": POOLED.varied(layout="codes"),
        "aligner as multivector": RECIPES["aligner"].varied(layout="multivector", codec="linear-128+float16"),
        KEPT: COMPACT.varied(lexical="english"),
        "bytes": COMPACT.varied(reduction="whole-words", codec="pca-64+int8"),
        "untrained": COMPACT.varied(reduction="punctuation+ward-2", codec="pca-64+binary"),
        "residual": COMPACT.varied(reduction="idf-50%", codec="pca-32+residual-2"),
        "product": COMPACT.varied(reduction="first-16", codec="pca-64+pq-8"),
        "quantized": POOLED.varied(quantization="binary", cls="float16"),
        "weighed query": POOLED.varied(query_weights="idf", codec="pca-64+turbo4"),
        "aligned": COMPACT.varied(alignment="top-2", reduction="attention-50%"),
        "encoded": COMPACT.varied(fde="muvera"),
    }


def environment() -> dict[str, str]:
    """What the last bit of a float depends on."""
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text(encoding="utf-8").splitlines() if cpu.is_file() else []
    return {
        "machine": platform.machine(),
        "processor": next((line.partition(":")[2].strip() for line in lines if "model name" in line), ""),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "numpy": np.__version__,
        "torch": torch.__version__,
        "threads": str(torch.get_num_threads()),
    }


def contents(connector: Connector) -> dict[str, Any]:
    """What is stored and what is found, for `golden.json`."""
    collection = connector.collection
    store, physical = collection.store, collection.physical
    said = {key: it for key, it in store.info(physical).items() if it and key not in _OF_THE_DAY}
    said["recipe"] = json.loads(said["recipe"])
    names = [vector.name for vector in collection.schema.vectors]
    records = sorted(store.scroll(physical, None, names), key=lambda it: it.id)
    payloads, places, codes = list[Any](), list[Any](), hashlib.sha256()
    for record in records:
        codes.update(b"".join(base64.b64decode(record.payload.pop(key, "")) for key in ("codes", "saliency")))
        places.append([record.payload.pop(key, None) for key in ("start", "gap")])
        payloads.append([record.id, record.payload])
    return {
        "metadata": said,
        "points": len(records),
        "payloads": digest(json.dumps(payloads, sort_keys=True, ensure_ascii=False).encode()),
        "rows": [payload.get("rows") for _, payload in payloads],
        "places": places,
        "vectors": {
            name: sorted({"×".join(map(str, record.vectors[name].shape)) for record in records})[:3]
            for name in names
        },
        "exact": {
            "codes": codes.hexdigest(),
            "vectors": {
                name: digest(b"".join(np.ascontiguousarray(it.vectors[name]).tobytes() for it in records))
                for name in names
            },
        },
        "artifacts": dict(artifacts(connector)),
        "hits": {query: found(connector, query) for query in QUERIES},
    }


def artifacts(connector: Connector) -> Iterator[tuple[str, Any]]:
    """Names, types and shapes of the arrays of each artifact, and a digest of them."""
    collection = connector.collection
    said = collection.store.info(collection.physical)
    for key, file in (("codec", "codec.safetensors"), ("frequencies", "frequencies.safetensors")):
        if key in said:
            data = collection.store.get_artifact(collection.physical, file)
            arrays = safetensors.numpy.load(data)
            yield (
                file,
                {
                    "arrays": {name: f"{it.dtype}{list(it.shape)}" for name, it in sorted(arrays.items())},
                    "exact": digest(b"".join(it.tobytes() for _, it in sorted(arrays.items()))),
                },
            )


def found(connector: Connector, query: str) -> list[list[Any]]:
    """Id, passage and score of the hits of a query."""
    return [[hit.id, hit.passage, hit.score] for hit in connector.search(query, k=5)]


def digest(data: bytes) -> str:
    """SHA-256, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def made(folder: Path, recipe: Recipe, encoder: Encoder, taken: list[Document]) -> Connector:
    """A new collection "golden" of some documents."""
    connector = Connector.create("golden", path=folder, recipe=recipe, model=encoder)
    ingest(connector, taken)
    return connector


def record(scratch: Path) -> None:
    """Add what is not recorded."""
    from connector import load_encoder

    there = json.loads(GOLDEN.read_text(encoding="utf-8"))
    if there["environment"] != environment():
        raise SystemExit(f"recorded on {there['environment']}, this is {environment()}; record there")
    golden, encoder, corpus = there["collections"], Remembering(load_encoder()), documents()
    for number, (name, recipe) in enumerate(recipes().items()):
        if name not in golden:
            with made(scratch / str(number), recipe, encoder, corpus) as connector:
                golden[name] = contents(connector)
    write(golden, there["kept"])


def write(golden: dict[str, Any], kept: dict[str, Any]) -> None:
    """Write `golden.json`, a line for each part of a collection."""
    collections = ",\n".join(
        f"{json.dumps(name)}: {{\n"
        + ",\n".join(f"{json.dumps(key)}: {json.dumps(part, ensure_ascii=False)}" for key, part in it.items())
        + "}"
        for name, it in golden.items()
    )
    head = f'"environment": {json.dumps(environment())},\n"kept": {json.dumps(kept)}'
    text = f'{{{head},\n"collections": {{\n{collections}}}}}\n'
    GOLDEN.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    import tempfile

    import tests.conftest  # noqa: F401, one thread, as in the tests

    with tempfile.TemporaryDirectory() as scratch:
        record(Path(scratch))
