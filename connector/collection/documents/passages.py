"""Documents to passages: how texts are split, and which documents a run can take."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from connector.core.errors import DocumentError
from connector.core.io import to_json
from connector.core.types import Document
from connector.encoders import Encoder
from connector.encoders.chunking import Chunking

MAX_PASSAGE_CHARS = 100_000
"""A longer text is refused unless it is split: an encoder would see less than a hundredth of it."""


class Checker:
    """Refuses documents that a run cannot take: too long, or an id that came with another content.

    Args:
        chunking: how the run will split texts.
    """

    def __init__(self, chunking: Chunking) -> None:
        self._chunking = chunking
        self._seen: dict[str, str | None] = {}

    def is_new(self, document: Document) -> bool:
        """Whether the document is seen for the first time; an exact repetition is not.

        Raises:
            DocumentError: it cannot be taken.
        """
        if not isinstance(document, Document):
            raise DocumentError(
                f"{document!r:.80} is a {type(document).__name__}; give connector.Document objects"
            )
        if self._chunking.tokens is None and len(document.text) > MAX_PASSAGE_CHARS:
            raise DocumentError(
                f"document {document.id!r}: text has {len(document.text):,} characters, over "
                f"{MAX_PASSAGE_CHARS:,}; split it with chunk_tokens (--chunk-tokens)"
            )
        digest = content_hash(document, self._chunking)
        before = self._seen.setdefault(document.id, None)
        if before is None:
            self._seen[document.id] = digest
        elif before != digest:
            raise DocumentError(
                f"document id {document.id!r} came before with another content; make the ids unique"
            )
        return before is None


def content_hash(document: Document, chunking: Chunking) -> str:
    """16 hexadecimal digits over all that decides a document's points."""
    content = [document.text, document.title, dict(document.metadata), chunking.tokens, chunking.overlap]
    return hashlib.sha256(to_json(content).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Passage:
    """One passage of a document.

    Args:
        document: whose it is; of a passage that was read back, its text may be the passage's alone.
        number: from 0.
        of: how many passages the document has.
        text: its own text, without the title.
        hash: the document's content hash.
        revised: the last step of a migration that changed its metadata.
    """

    document: Document
    number: int
    of: int
    text: str
    hash: str
    revised: str | None = None


def split_document(document: Document, encoder: Encoder, chunking: Chunking) -> list[Passage]:
    """The passages of a document, the first one last."""
    texts = [document.text]
    if chunking.tokens is not None:
        spans = encoder.split(document.text, chunking.tokens, chunking.overlap, document.title)
        texts = [document.text[start:end] for start, end in spans]
    digest = content_hash(document, chunking)
    numbered = [Passage(document, n, len(texts), text, digest) for n, text in enumerate(texts)]
    return numbered[::-1]
