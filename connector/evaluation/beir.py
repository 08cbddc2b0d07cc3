"""Judged queries: of a BEIR folder, of files, or examples."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from connector.core.errors import DocumentError, InputError, SourceError, one_line
from connector.core.sources.files import JSON_LINES, PACKED, kind, packed_or_not
from connector.core.sources.lines import csv_rows, json_lines, readable, text_lines, tsv_rows
from connector.core.sources.readers import reader
from connector.core.sources.records import ID_FIELDS, take
from connector.core.types import check_text
from connector.evaluation.trec import Qrels, load_qrels

_QUERY_FIELDS = ("text", "query")


@dataclass(frozen=True, slots=True)
class Judged:
    """The queries of one split and which documents answer them.

    Args:
        queries: query id to text; those with at least one judgement.
        qrels: query id to document id to grade.
    """

    queries: dict[str, str]
    qrels: Qrels


def load_judged(folder: Path, split: str) -> Judged:
    """The judged queries of a BEIR folder.

    Args:
        folder: holds `queries.jsonl` and `qrels/SPLIT.tsv`, which may be packed.
        split: such as "test".

    Raises:
        SourceError: a file is missing or damaged; the splits that are there are named.
        DocumentError: a text holds what no tokenizer takes.
    """
    return judged_queries(queries_file(folder), qrels_file(folder, split))


def judged_queries(queries: Path, qrels: Path) -> Judged:
    """The queries of a file that have judgements in another.

    Args:
        queries: as `load_queries` takes it.
        qrels: as `load_qrels` takes it.

    Raises:
        SourceError: a file is missing or damaged, or a judged query has no text.
        DocumentError: a text holds what no tokenizer takes.
    """
    judged = load_qrels(qrels)
    texts = load_queries(queries)
    for query in judged:
        if not texts.get(query, "").strip():
            problem = "is blank" if query in texts else "is missing"
            raise SourceError(one_line(f"{queries}: the judged query {query!r} {problem}; give its text"))
    return Judged({query: texts[query] for query in judged}, judged)


def queries_file(folder: Path) -> Path:
    """The queries of a BEIR folder, whether they are there or not.

    Raises:
        SourceError: it is no folder.
    """
    _check_folder(folder)
    return packed_or_not(folder / "queries.jsonl")


def qrels_file(folder: Path, split: str) -> Path:
    """The judgements of a split of a BEIR folder.

    Raises:
        SourceError: they are missing; the splits that are there are named.
    """
    _check_folder(folder)
    path = packed_or_not(folder / "qrels" / f"{split}.tsv")
    if not path.is_file():
        there = ", ".join(splits(folder)) or "none"
        raise SourceError(f"{folder} has no judgements for split {split!r} ({path}); splits there: {there}")
    return path


def splits(folder: Path) -> list[str]:
    """The splits that a BEIR folder has judgements for."""
    endings = [f".tsv{packed}" for packed in ("", *PACKED)]
    found = [(file.name, ending) for ending in endings for file in (folder / "qrels").glob(f"*{ending}")]
    return sorted({name.removesuffix(ending) for name, ending in found})


def _check_folder(path: Path) -> None:
    if not path.is_dir():
        raise SourceError(
            f"{path} is not a folder; give one with corpus.jsonl, queries.jsonl and qrels, or name queries "
            "and judgements (--queries, --qrels)"
        )


def judged_examples(examples: Iterable[tuple[str, str]]) -> Judged:
    """Examples as judgements of grade 1; each query is its own id.

    Args:
        examples: pairs of a query and the id of a document that answers it, of at least two queries; a query
            with several answers comes several times.

    Raises:
        InputError: an example is not such a pair, or they are too few.
    """
    qrels: Qrels = {}
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
            or `.csv` or `.tsv` whose header names the columns query and id. Between tabs nothing is quoted.

    Raises:
        SourceError: the file is missing, damaged or of another kind.
        InputError: a line has no query, or no id of a document.
        DocumentError: a text of it holds what no tokenizer takes.
    """
    if kind(path) in JSON_LINES:
        lines: Iterator[tuple[str, Any]] = json_lines(path)
    elif kind(path) in (".csv", ".tsv"):
        rows = tsv_rows(path) if kind(path) == ".tsv" else csv_rows(path)
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


def load_queries(path: Path) -> dict[str, str]:
    """Query id to text, as `read_queries` gives them.

    Raises:
        SourceError: an id comes again with another text.
    """
    queries: dict[str, str] = {}
    for id_, text in read_queries(path):
        if queries.setdefault(id_, text) != text:
            raise SourceError(
                one_line(
                    f"{path}: query {id_!r} is {reprlib.repr(queries[id_])}, and further on "
                    f"{reprlib.repr(text)}; keep one of them"
                )
            )
    return queries


def read_queries(path: Path) -> Iterator[tuple[str, str]]:
    """Ids and texts of queries, one after another.

    Args:
        path: the `queries.jsonl` of a BEIR folder, any other file or folder that `Source` takes, or "-" for
            standard input; each record has an id (`_id`, `id`) and a text (`text`, `query`). Between the tabs
            of a `.tsv` nothing is quoted.

    Raises:
        SourceError: the file is missing or damaged.
        DocumentError: a text holds what no tokenizer takes.
    """
    for where, record in readable(path, _records(path)):
        fields = dict(record) if isinstance(record, dict) else {}
        id_, text = take(fields, None, ID_FIELDS), take(fields, None, _QUERY_FIELDS)
        if isinstance(id_, int) and not isinstance(id_, bool):
            id_ = str(id_)
        if not isinstance(id_, str) or not isinstance(text, str):
            raise SourceError(f"{path.parent / where} is not a query; give _id and text, as texts")
        check_text(id_, f"{where}: _id")
        check_text(text, f"{where}: text")
        yield id_, text


def _records(path: Path) -> Iterator[tuple[str, Any]]:
    if kind(path) in JSON_LINES:
        return json_lines(path)
    return tsv_rows(path) if kind(path) == ".tsv" else reader(path)(path)


def load_texts(path: Path) -> list[str]:
    """Queries that nobody has judged.

    Args:
        path: `.jsonl`, or "-" for standard input, with an object a line that has "text" or "query"; or any
            other file, with a query a line.

    Raises:
        SourceError: the file is missing or damaged.
        DocumentError: a text holds what no tokenizer takes.
    """
    lines: Iterator[tuple[str, Any]] = json_lines(path) if kind(path) in JSON_LINES else text_lines(path)
    texts: list[str] = []
    for where, line in readable(path, lines):
        text = (line.get("text") or line.get("query")) if isinstance(line, dict) else line
        if not isinstance(text, str):
            raise SourceError(f"{path.parent / where} is not a query; give it as text or query")
        text = text.strip()
        check_text(text, where)
        texts.append(text)
    return texts
