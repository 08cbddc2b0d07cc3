"""Files, folders and standard input as documents, as often as one likes."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass, field
from functools import partial
from pathlib import Path

from connector.core.errors import DocumentError, SourceError, one_line
from connector.core.sources.files import STDIN, name_of, spooled
from connector.core.sources.lines import json_rows
from connector.core.sources.readers import reader
from connector.core.sources.records import Fields, Record
from connector.core.types import Document


@dataclass(eq=False)
class Source:
    """A file or folder that can be read as documents, as often as one likes.

    - `.jsonl`, `.ndjson`: one JSON object a line; `.csv`, `.tsv`: a header and rows; all of them also packed,
      with `.gz` or `.zst` (the extra `zstd`) behind; `.parquet`: needs the extra `parquet`. The first known
      id, text and title field is taken, all others become metadata; an object under "metadata" is merged into
      it. A record without an id is called by its place.
    - `-`: standard input, JSON Lines, which is kept in a temporary file as long as this is.
    - a folder with a `corpus.jsonl`, which may be packed: that file (BEIR).
    - a folder that `save_to_disk` of Hugging Face's datasets wrote, of one split: needs the extra `parquet`.
    - any other folder: its `.txt` and `.md` files, at any depth, also behind links to folders, each of which
      is read once; the id is the path inside the folder. What cannot be looked at, such as a folder or a
      link that leads nowhere, counts as a bad record.

    Args:
        path: the file or folder.
        id_field, text_field, title_field: names of these fields where they are not the usual ones.
        skip_bad: pass over records that cannot be used.

    Attributes:
        bad: what is wrong with the records that the last reading passed over.

    Raises:
        SourceError: the path is missing, unreadable, or of no known kind; or standard input is empty.
    """

    path: Path
    _: KW_ONLY
    id_field: str | None = None
    text_field: str | None = None
    title_field: str | None = None
    skip_bad: bool = False
    bad: list[str] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self.path = Path(self.path)
        self._fields = Fields(self.id_field, self.text_field, self.title_field)
        if self.path == STDIN:
            self._rows = partial(json_rows, self._kept(), name_of(STDIN))
        else:
            self._rows = partial(reader(self.path), self.path)

    def _kept(self) -> Path:
        """Standard input in a file that goes with this object."""
        try:
            path = spooled()
        except OSError as error:
            message = f"standard input cannot be kept: {error}; make room, or give a file"
            raise SourceError(message) from error
        weakref.finalize(self, path.unlink, missing_ok=True)
        return path

    def __iter__(self) -> Iterator[Document]:
        """The documents, in the order of the source.

        Raises:
            DocumentError: a record cannot be used, unless bad ones are skipped.
            SourceError: the source cannot be read.
        """
        self.bad = []
        try:
            for where, record in self._rows():
                try:
                    document = self._document(where, record)
                except DocumentError as error:
                    message = one_line(str(error))
                    if not self.skip_bad:
                        raise DocumentError(message) from error
                    self.bad.append(message)
                else:
                    yield document
        except OSError as error:
            raise SourceError(f"{self.path} cannot be read: {error}; see whether it may be") from error

    def _document(self, where: str, record: Record | DocumentError) -> Document:
        if isinstance(record, DocumentError):
            raise record
        return self._fields.document(where, record, unnamed=where)
