"""Judged queries: queries.jsonl and qrels of a BEIR folder, or examples."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from connector.core.errors import DocumentError, InputError, SourceError, one_line
from connector.core.sources import csv_rows, json_lines, text_lines
from connector.core.types import check_text


@dataclass(frozen=True, slots=True)
class Judged:
    """The queries of one split and which documents answer them.

    Args:
        queries: query id to text; those with at least one judgement.
        qrels: query id to document id to grade.
    """

    queries: dict[str, str]
    qrels: dict[str, dict[str, int]]


def load_judged(folder: Path, split: str) -> Judged:
    """The judged queries of a BEIR folder.

    Args:
        folder: holds `queries.jsonl` and `qrels/SPLIT.tsv`.
        split: such as "test".

    Raises:
        SourceError: a file is missing or damaged; the splits that are there are named.
        DocumentError: a text holds what no tokenizer takes.
    """
    if not folder.is_dir():
        raise SourceError(f"{folder} is not a folder; give one with corpus.jsonl, queries.jsonl and qrels")
    path = folder / "qrels" / f"{split}.tsv"
    if not path.is_file():
        there = ", ".join(sorted(file.stem for file in (folder / "qrels").glob("*.tsv"))) or "none"
        raise SourceError(f"{folder} has no judgements for split {split!r} ({path}); splits there: {there}")
    qrels = load_qrels(path)
    texts = load_queries(folder / "queries.jsonl")
    for query in qrels:
        if not texts.get(query, "").strip():
            problem = "is blank" if query in texts else "is missing"
            raise SourceError(
                one_line(f"{folder / 'queries.jsonl'}: the judged query {query!r} {problem}; give its text")
            )
    return Judged({query: texts[query] for query in qrels}, qrels)


def judged_examples(examples: Iterable[tuple[str, str]]) -> Judged:
    """Examples as judgements of grade 1; each query is its own id.

    Args:
        examples: pairs of a query and the id of a document that answers it, of at least two queries; a query
            with several answers comes several times.

    Raises:
        InputError: an example is not such a pair, or they are too few.
    """
    qrels: dict[str, dict[str, int]] = {}
    for number, pair in enumerate(examples, 1):
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise InputError(f"example {number} is {pair!r}; give a pair of a query and a document's id")
        query, answer = _checked_example(f"example {number}", *pair)
        qrels.setdefault(query, {})[answer] = 1
    if len(qrels) < 2:
        raise InputError(f"there are examples of {len(qrels)} queries; give at least 2, and better 8 or more")
    return Judged({query: query for query in qrels}, qrels)


def load_examples(path: Path) -> list[tuple[str, str]]:
    """Examples from a file: pairs of a query and the id of a document that answers it.

    Args:
        path: `.jsonl` with an object a line, {"query": "…", "id": "…"} or {"query": "…", "ids": ["…", …]};
            or `.csv` or `.tsv` whose header names the columns query and id.

    Raises:
        SourceError: the file is missing, damaged or of another kind.
        InputError: a line has no query, or no id of a document.
        DocumentError: a text of it holds what no tokenizer takes.
    """
    kind = path.suffix.lower()
    if kind in (".jsonl", ".ndjson"):
        lines: Iterator[tuple[str, Any]] = json_lines(path)
    elif kind in (".csv", ".tsv"):
        rows = csv_rows(path, "\t" if kind == ".tsv" else ",")
        lines = ((where, _trimmed(row)) for where, row in rows)
    else:
        raise SourceError(f"{path} is of no known kind; give examples as a .jsonl, .csv or .tsv file")
    return [pair for where, record in readable(path, lines) for pair in _examples(where, record)]


def _trimmed(row: dict[str, str] | DocumentError) -> dict[str, str] | DocumentError:
    if isinstance(row, DocumentError):
        return row
    return {name.strip().lower(): text.strip() for name, text in row.items()}


def _examples(where: str, record: Any) -> Iterator[tuple[str, str]]:
    ids = record.get("ids", [record.get("id")]) if isinstance(record, dict) else None
    if not isinstance(ids, list) or not ids:
        shown = reprlib.repr(record)
        raise SourceError(f'{where} is {shown}; give a query and the id of a document, "query" and "id"')
    for id_ in ids:
        yield _checked_example(where, record.get("query"), str(id_) if type(id_) is int else id_)


def _checked_example(where: str, query: Any, answer: Any) -> tuple[str, str]:
    if not isinstance(query, str) or not query.strip():
        raise InputError(f"{where} has the query {query!r:.80}; give a query, as a text")
    if not isinstance(answer, str) or not answer:
        raise InputError(
            f"{where}, {query!r:.80}, has the id {answer!r:.80}; give a document's id, as a text"
        )
    check_text(query, f"the query of {where}")
    check_text(answer, f"the id of {where}")
    return query, answer


def load_qrels(path: Path) -> dict[str, dict[str, int]]:
    """Judgements, query id to document id to grade, from a file with these three in a line, tab between.

    Raises:
        SourceError: the file is damaged or holds none.
        DocumentError: a text holds what no tokenizer takes.
    """
    qrels: dict[str, dict[str, int]] = {}
    for number, (where, line) in enumerate(readable(path, text_lines(path)), 1):
        row = line.rstrip("\r\n").split("\t")
        if number == 1 and row[-1] == "score":
            continue
        check_text(line, where)
        if len(row) != 3 or not re.fullmatch(r" *-?[0-9]{1,9} *", row[2]):
            raise SourceError(
                one_line(f"{path.parent / where} is {row!r}; give query id, document id and a whole grade")
            )
        qrels.setdefault(row[0], {})[row[1]] = int(row[2])
    if not qrels:
        raise SourceError(f"{path} holds no judgement; give query id, document id and grade a line")
    return qrels


def load_queries(path: Path) -> dict[str, str]:
    """Query id to text, from the `queries.jsonl` of a BEIR folder.

    Raises:
        SourceError: the file is missing or damaged.
        DocumentError: a text holds what no tokenizer takes.
    """
    texts = {}
    for where, record in readable(path, json_lines(path)):
        id_, text = (record.get(key) if isinstance(record, dict) else None for key in ("_id", "text"))
        if isinstance(id_, int) and not isinstance(id_, bool):
            id_ = str(id_)
        if not isinstance(id_, str) or not isinstance(text, str):
            raise SourceError(f"{path.parent / where} is not a query; give _id and text, as texts")
        check_text(id_, f"{where}: _id")
        check_text(text, f"{where}: text")
        texts[id_] = text
    return texts


def load_texts(path: Path) -> list[str]:
    """Queries that nobody has judged.

    Args:
        path: `.jsonl` with an object a line that has "text" or "query", or any other file with one a line.

    Raises:
        SourceError: the file is missing or damaged.
        DocumentError: a text holds what no tokenizer takes.
    """
    as_json = path.suffix.lower() in (".jsonl", ".ndjson")
    lines: Iterator[tuple[str, Any]] = json_lines(path) if as_json else text_lines(path)
    texts: list[str] = []
    for where, line in readable(path, lines):
        text = (line.get("text") or line.get("query")) if isinstance(line, dict) else line
        if not isinstance(text, str):
            raise SourceError(f"{path.parent / where} is not a query; give it as text or query")
        text = text.strip()
        check_text(text, where)
        texts.append(text)
    return texts


def readable(path: Path, lines: Iterator[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Lines none of which may be bad.

    Raises:
        SourceError: one is bad, or the file cannot be read.
    """
    try:
        for where, line in lines:
            if isinstance(line, DocumentError):
                raise SourceError(one_line(f"{path.parent}: {line}"))
            yield where, line
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error}; restore it") from error
