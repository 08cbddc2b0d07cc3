"""TREC's files: judgements (qrels) and runs, as trec_eval reads them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from connector.core.errors import InputError, SourceError, one_line
from connector.core.sources.files import opened
from connector.core.sources.lines import readable, text_lines
from connector.core.types import check_text

Qrels = dict[str, dict[str, int]]
"""Query id to document id to grade."""


Run = dict[str, dict[str, float]]
"""Query id to document id to score, best first."""


_HEADERS = ("score", "relevance", "rel", "grade", "label")
"""What the last column of a file with a header may be called."""


def load_qrels(path: Path) -> Qrels:
    """Judgements from a file, one a line.

    Args:
        path: has TREC's four columns, query, iteration, document and grade, with any white space between; or
            BEIR's three, query, document and grade, with a tab between and perhaps a header. May be packed.

    Raises:
        SourceError: the file is damaged, holds none, or judges a document twice and differently.
        DocumentError: a text holds what no tokenizer takes.
    """
    qrels: Qrels = {}
    for number, (where, line) in enumerate(readable(path, text_lines(path)), 1):
        query, document, word = _judgement(line)
        if number == 1 and word.lower() in _HEADERS:
            continue
        check_text(line, where)
        if not query or not document or not re.fullmatch(r"-?[0-9]{1,9}", word):
            remedy = "give query, 0, document and a whole grade; or, tabs between, query, document and grade"
            raise SourceError(one_line(f"{path.parent / where} is {line.strip()!r}; {remedy}"))
        grade = int(word)
        if (before := qrels.setdefault(query, {}).setdefault(document, grade)) != grade:
            raise SourceError(
                one_line(
                    f"{path.parent / where} judges {document!r} for {query!r} as {grade}, a line before as "
                    f"{before}; keep one of them"
                )
            )
    if not qrels:
        raise SourceError(f"{path} holds no judgement; give query id, document id and grade a line")
    return qrels


def _judgement(line: str) -> tuple[str, str, str]:
    """Query, document and grade, empty where the columns are others. Between tabs, ids may hold spaces."""
    row = line.strip("\r\n").split("\t")
    if len(row) == 3:
        return row[0], row[1], row[2].strip(" ")
    words = line.split()
    return (words[0], words[2], words[3]) if len(words) == 4 else ("", "", "")


def write_qrels(qrels: Qrels, path: Path) -> None:
    """Write judgements in TREC's four columns, packed if the file is called .gz or .zst.

    Raises:
        InputError: an id cannot stand in a column.
    """
    lines = (
        f"{_word(query, 'query')} 0 {_word(document, 'document')} {grade}\n"
        for query, grades in qrels.items()
        for document, grade in grades.items()
    )
    _write(path, lines)


def load_run(path: Path) -> Run:
    """A run from a file with six columns, query, Q0, document, rank, score and tag, white space between.

    The order is trec_eval's: by the score, as a float of 32 bits, and where that is the same, by the
    document's id, the last one first. The rank is not looked at.

    Raises:
        SourceError: the file is damaged, holds nothing, or has a document twice for a query.
        DocumentError: a text holds what no tokenizer takes.
    """
    run: Run = {}
    for where, line in readable(path, text_lines(path)):
        check_text(line, where)
        row = line.split()
        score = _score(row[4]) if len(row) == 6 else None
        if score is None:
            raise SourceError(
                one_line(f"{path.parent / where} is {row!r}; give query, Q0, document, rank, score and tag")
            )
        found = run.setdefault(row[0], {})
        if row[2] in found:
            message = f"{path.parent / where} has document {row[2]!r} again for query {row[0]!r}; keep one"
            raise SourceError(one_line(message))
        found[row[2]] = score
    if not run:
        raise SourceError(f"{path} holds no line; give query, Q0, document, rank, score and tag in each")
    return {query: _as_trec_eval(found) for query, found in run.items()}


def _score(word: str) -> float | None:
    try:
        score = float(word)
    except ValueError:
        return None
    return None if math.isnan(score) else score


def _as_trec_eval(found: Mapping[str, float]) -> dict[str, float]:
    with np.errstate(over="ignore"):
        rounded = np.array(list(found.values())).astype(np.float32).tolist()
    scores = dict(sorted(zip(found, rounded, strict=True), reverse=True))
    return {document: scores[document] for document in by_score(scores)}


def by_score(scores: Mapping[str, float]) -> list[str]:
    """Documents by their scores; of those that are alike, the first stays first."""
    return sorted(scores, key=lambda it: scores[it], reverse=True)


_LARGEST = 1e38
"""Of a score that is written: a float of 32 bits, below whose negative there are others."""


def untied(scores: Mapping[str, float]) -> dict[str, float]:
    """Scores as floats of 32 bits, no two alike, in the order of those that are given.

    Of those that are alike, the first stays first: each is lowered until it is below the one before.

    Args:
        scores: document id to score, best first.
    """
    lowered: dict[str, float] = {}
    last = np.float32(np.inf)
    for document in by_score(scores):
        score = np.float32(min(max(scores[document], -_LARGEST), _LARGEST))
        last = min(score, np.nextafter(last, np.float32(-np.inf)))
        lowered[document] = float(last)
    return lowered


def falling(scores: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Scores by document, in their order and none above the one before; of a document's the first.

    Diverse hits, and those of groups, come before others with better scores.
    """
    kept: dict[str, float] = {}
    lowest = math.inf
    for document, score in scores:
        if document not in kept:
            kept[document] = lowest = min(lowest, score)
    return kept


def run_tag(recipe: str) -> str:
    """What names a run in its last column: a recipe's name, in one word."""
    return "-".join(recipe.split())


def write_run(run: Run, path: Path, tag: str) -> None:
    """Write a run in TREC's six columns, packed if the file is called .gz or .zst.

    Args:
        run: documents best first; scores that are alike are lowered so that every reader keeps this order.
        path: the file.
        tag: names what made the run.

    Raises:
        InputError: an id or the tag cannot stand in a column.
    """
    _write(path, (line for query, scores in run.items() for line in run_lines(query, scores, tag)))


def run_lines(query: str, scores: Mapping[str, float], tag: str) -> Iterator[str]:
    """The lines of one query in a run, as `write_run` writes them."""
    head, tag = f"{_word(query, 'query')} Q0", _word(tag, "tag")
    for place, (document, score) in enumerate(untied(scores).items(), 1):
        yield f"{head} {_word(document, 'document')} {place} {np.float32(score)!s} {tag}\n"


def _word(text: str, what: str) -> str:
    check_word(text, what)
    return text


def check_word(text: str, what: str) -> None:
    """See that a text can stand in a column: white space separates them.

    Raises:
        InputError: it cannot.
    """
    if text.split() != [text] or text.startswith("\ufeff"):
        message = f"{what} {text!r} has white space, or is empty, and TREC's columns hold single words"
        raise InputError(one_line(f"{message}; give ids without any"))
    check_text(text, what)


def _write(path: Path, lines: Iterator[str]) -> None:
    try:
        with opened(path, "wb") as file:
            for line in lines:
                file.write(line.encode())
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error}; give another file") from error
