"""Judged documents that a corpus lacks: no ranking can have them, and each counts as not found."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass

from connector.collection.collection import Collection
from connector.collection.documents.document_state import states
from connector.core.errors import InputError, SourceError, one_line
from connector.evaluation.trec import Qrels

logger = logging.getLogger(__name__)


_NAMED = 5
"""How many unknown ids an error names."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """What is known of a source before any of it is encoded.

    Args:
        documents: how many there are.
        missing: ids of the documents that answer a query and are not among them.
    """

    documents: int
    missing: tuple[str, ...]


def survey(name: str, ids: Iterable[str], qrels: Qrels) -> Corpus:
    """Look which judged documents a source has; those that it lacks are logged.

    Args:
        name: of the source, for messages.
        ids: of its documents; read once.
        qrels: the judgements. What has a grade of 0 or less answers nothing, and may be missing.

    Raises:
        SourceError: there is no document, nothing is judged to answer, or nothing of it is there.
    """
    answers = {it: None for grades in qrels.values() for it, grade in grades.items() if grade > 0}
    missing, count = dict(answers), 0
    for count, id_ in enumerate(ids, 1):  # noqa: B007
        missing.pop(id_, None)
    if not count:
        raise SourceError(f"{name} holds no document; give a source with some")
    if not answers:
        raise SourceError(
            f"no document is judged to answer a query of {name}: no grade is above 0; give other judgements"
        )
    such = min(missing, default="")
    if len(missing) == len(answers):
        raise SourceError(
            one_line(f"{name} holds none of the judged documents, such as {such!r}; give their corpus")
        )
    if missing:
        logger.warning(
            "%s lacks %d of %d judged documents, such as %r; those count as not found",
            *(name, len(missing), len(answers), such),
        )
    return Corpus(count, tuple(missing))


def check_known(collection: Collection, answers: Iterable[str]) -> None:
    """See that a collection holds documents that examples name.

    Raises:
        InputError: it lacks one.
    """
    asked = list(dict.fromkeys(answers))
    there = states(collection, asked)
    unknown = [answer for answer in asked if answer not in there]
    if unknown:
        names = ", ".join(map(repr, unknown[:_NAMED]))
        names += f" and {len(unknown) - _NAMED} more" if len(unknown) > _NAMED else ""
        raise InputError(
            f"collection {collection.name!r} holds no document {names}; give "
            "ids that it holds, such as a search shows, or ingest these documents first"
        )
