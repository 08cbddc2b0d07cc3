"""Records, such as rows and JSON objects, as documents: which field is the id, which the text, the title."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from connector.core.errors import DocumentError, InputError, one_line
from connector.core.types import Document

ID_FIELDS = ("_id", "id", "doc_id")


TEXT_FIELDS = ("text", "contents", "content", "body", "passage", "page_content")


TITLE_FIELDS = ("title",)


Record = dict[str, Any]


Rows = Iterator[tuple[str, Record | DocumentError]]
"""Where each record stands, such as "docs.jsonl line 3", and the record or what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Fields:
    """The names of a record's fields; None for the first of the usual ones that is there.

    All other fields become metadata; an object under "metadata" is merged into it.

    Args:
        id, text, title: names.
    """

    id: str | None = None
    text: str | None = None
    title: str | None = None

    @classmethod
    def of(cls, names: Mapping[str, str] | None) -> Fields:
        """From a mapping, such as {"text": "abstract"}.

        Raises:
            InputError: it names something else than id, text and title.
        """
        try:
            return cls(**(names or {}))
        except TypeError as error:
            message = f"fields is {dict(names or {})!r:.80}; name those of id, text and title, and no others"
            raise InputError(message) from error

    def document(self, where: str, record: Mapping[str, Any], unnamed: str | None = None) -> Document:
        """A record as a document.

        Args:
            where: it stands, for messages.
            record: values by the names of their fields.
            unnamed: the id of a record that has none.

        Raises:
            DocumentError: the record cannot be used; its fields are named.
        """
        names, fields = ", ".join(map(repr, record)) or "none", dict(record)
        if self.id and self.id not in fields:
            raise DocumentError(
                one_line(f"{where}: no field {self.id!r}; its fields are {names}: name one of them")
            )
        id_: Any = take(fields, self.id, ID_FIELDS)
        text = take(fields, self.text, TEXT_FIELDS)
        title = take(fields, self.title, TITLE_FIELDS)
        id_ = unnamed if id_ in (None, "") else str(id_) if type(id_) is int else id_
        for what, value in (("text", text), ("id", id_)):
            if value is None:
                remedy = f"name the one with the {what} in fields (--{what}-field)"
                raise DocumentError(one_line(f"{where}: no {what}; its fields are {names}: {remedy}"))
        title = None if title == "" else title
        if isinstance(text, str) and not text.strip() and isinstance(title, str) and title.strip():
            text, title = title, None
        metadata = fields.pop("metadata", None)
        if metadata is not None:
            fields |= metadata if isinstance(metadata, dict) else {"metadata": metadata}
        try:
            return Document(id_, text, title, fields)
        except DocumentError as error:
            raise DocumentError(one_line(f"{where}: {error}")) from error


USUAL = Fields()


def take(fields: Record, given: str | None, usual: tuple[str, ...]) -> Any:
    """Remove and return the field that was named, or the first of the usual ones that is there."""
    names = (given,) if given else usual
    return next((fields.pop(name) for name in names if name in fields), None)
