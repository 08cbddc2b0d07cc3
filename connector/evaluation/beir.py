"""Judged queries: queries.jsonl and qrels of a BEIR folder."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from connector.core.errors import DocumentError, SourceError, one_line
from connector.core.sources import json_lines, text_lines
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
    missing = [query for query in qrels if query not in texts]
    if missing:
        raise SourceError(
            one_line(f"{folder / 'queries.jsonl'} lacks the judged query {missing[0]!r}; restore it")
        )
    blank = [query for query in qrels if not texts[query].strip()]
    if blank:
        raise SourceError(
            one_line(f"{folder / 'queries.jsonl'}: judged query {blank[0]!r} is blank; give its text")
        )
    return Judged({query: texts[query] for query in qrels}, qrels)


def load_qrels(path: Path) -> dict[str, dict[str, int]]:
    """Judgements, query id to document id to grade, from a file with these three in a line, tab between.

    Raises:
        SourceError: the file is damaged or holds none.
        DocumentError: a text holds what no tokenizer takes.
    """
    qrels: dict[str, dict[str, int]] = {}
    for number, (where, line) in enumerate(_readable(path, text_lines(path)), 1):
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
    for where, record in _readable(path, json_lines(path)):
        id_, text = (record.get(key) if isinstance(record, dict) else None for key in ("_id", "text"))
        if isinstance(id_, int) and not isinstance(id_, bool):
            id_ = str(id_)
        if not isinstance(id_, str) or not isinstance(text, str):
            raise SourceError(f"{path.parent / where} is no query; give _id and text, as texts")
        check_text(id_, f"{where}: _id")
        check_text(text, f"{where}: text")
        texts[id_] = text
    return texts


def _readable(path: Path, lines: Iterator[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Lines none of which may be bad."""
    try:
        for where, line in lines:
            if isinstance(line, DocumentError):
                raise SourceError(one_line(f"{path.parent}: {line}"))
            yield where, line
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error}; restore it") from error
