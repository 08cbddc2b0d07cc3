"""The demonstration corpus: the docstrings of Python's standard library, which every machine has."""

from __future__ import annotations

import ast
import importlib
import inspect
import statistics
import sys
import sysconfig
import warnings
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from connector.api.connector import Connector
from connector.core.types import Document, Hits, passage_text

QUESTIONS = (
    "How do I walk through all files below a folder?",
    "find words that are spelled nearly the same",
    "the most common elements of a list",
    "make a copy of an object and of everything inside it",
    "stop a program after a number of seconds",
)


_SAMPLE = 256


_SKIPPED = {"test", "tests", "idlelib", "lib2to3", "turtledemo", "site-packages", "__pycache__", "ensurepip"}


def standard_library(modules: Container[str] | None = None) -> list[Document]:
    """A document for each public module, class and function that has a docstring.

    The sources are parsed, not imported; only the modules built into the interpreter are asked for
    their docstrings. The id is the qualified name; metadata: "module" and "kind".

    Args:
        modules: only these, such as "os", with all that is in them.
    """
    documents = {document.id: document for document in _from_sources(modules)}
    for document in _from_builtins():
        if modules is None or document.metadata["module"] in modules:
            documents.setdefault(document.id, document)
    return list(documents.values())


def _from_sources(modules: Container[str] | None) -> Iterator[Document]:
    root = Path(sysconfig.get_path("stdlib"))
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if _SKIPPED & set(parts) or parts[0] not in sys.stdlib_module_names:
            continue
        names = parts[:-1] if parts[-1] == "__init__" else parts
        if any(name.startswith("_") for name in names) or (modules is not None and names[0] not in modules):
            continue
        with warnings.catch_warnings():  # old escapes in old sources are not our business
            warnings.simplefilter("ignore")
            tree = ast.parse(path.read_bytes())
        yield from _docstrings(tree, ".".join(names), ".".join(names))


_Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def _docstrings(node: ast.Module | _Definition, name: str, module: str) -> Iterator[Document]:
    text = ast.get_docstring(node)
    if text and text.strip() and "\0" not in text:
        kind = {ast.Module: "module", ast.ClassDef: "class"}.get(type(node), "function")
        yield Document(id=name, title=name, text=text, metadata={"module": module, "kind": kind})
    if isinstance(node, ast.Module | ast.ClassDef):
        for child in node.body:
            if isinstance(child, _Definition) and not child.name.startswith("_"):
                yield from _docstrings(child, f"{name}.{child.name}", module)


def _from_builtins() -> Iterator[Document]:
    """The modules that are compiled and have no source; `posix` and the like are known as `os`."""
    extensions = {
        file.name.partition(".")[0]
        for file in Path(sysconfig.get_config_var("DESTSHARED") or "").glob("*.so")
    }
    public = {name for name in extensions & sys.stdlib_module_names if not name.startswith(("_", "xx"))}
    for module in sorted((public | set(sys.builtin_module_names)) - {"readline"}):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                members = vars(importlib.import_module(module))
            except ImportError:  # its C library is not on this machine
                continue
        known_as = {"posix": "os", "nt": "os"}.get(module, module.lstrip("_"))
        for name, value in sorted(members.items()):
            text = inspect.getdoc(value) if callable(value) else None
            if text and text.strip() and not name.startswith("_"):
                kind = "class" if inspect.isclass(value) else "function"
                qualified = name if module == "builtins" else f"{known_as}.{name}"
                yield Document(
                    id=qualified, title=qualified, text=text, metadata={"module": known_as, "kind": kind}
                )


def sizes_and_times(
    connector: Connector, documents: Sequence[Document], found: Mapping[str, Hits]
) -> dict[str, Any]:
    """What the demonstration's collection takes, beside what other ways would take.

    Float32 late interaction is counted on an even sample of the documents, before any reduction.

    Args:
        connector: holds the documents.
        documents: the corpus.
        found: the hits of each question.
    """
    encoder, stats = connector.encoder, connector.stats()
    sample = documents[:: max(len(documents) // _SAMPLE, 1)]
    embeddings = encoder.encode_documents([passage_text(item.title, item.text) for item in sample])
    tokens = statistics.mean(map(len, embeddings))
    total = statistics.median(hits.ms["total"] for hits in found.values())
    rest = statistics.median(hits.ms["total"] - hits.ms["encode"] for hits in found.values())
    return {
        "passages": stats.passages,
        "recipe": stats.recipe,
        "bytes_per_passage": {
            "float32 late interaction": round(4 * (encoder.cls_width + tokens * encoder.token_width)),
            "this collection": round(stats.bytes_per_passage["total"]),
            "one float32 dense vector": 4 * encoder.cls_width,
        },
        "at_rest_bytes": stats.at_rest_bytes,
        "search_ms": {"p50": round(total, 2), "p50 without encoding": round(rest, 2)},
        "answers": {question: [hit.id for hit in hits] for question, hits in found.items()},
    }
