"""What the rest of the library asks of an encoder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Protocol, TypeAlias, runtime_checkable

from connector.core.types import Embedding, Int32


@runtime_checkable
class Encoder(Protocol):
    """Text to `Embedding`."""

    @property
    def name(self) -> str:
        """The model id or folder it was loaded by."""

    @property
    def fingerprint(self) -> str:
        """Hexadecimal digest of everything that decides the vectors; equal means interchangeable."""

    @property
    def cls_width(self) -> int:
        """Width of the CLS vectors."""

    @property
    def token_width(self) -> int:
        """Width of the token vectors."""

    @property
    def device(self) -> str:
        """Where it computes: "cpu", "cuda:0", …; searches score there too."""

    @property
    def cls_weight(self) -> float | None:
        """σ(γ), the trained share of the CLS vectors in a score; None where tokens alone are scored."""

    @property
    def reduction(self) -> str | None:
        """What the checkpoint itself reduces passages with; None where it leaves every token."""

    @property
    def late_interaction(self) -> bool:
        """Whether it was trained to be scored by its tokens, as ColBERT was: then every row of a query asks,
        its markers and its expansion too. No part of the fingerprint."""

    @property
    def window(self) -> int:
        """The most tokens of a document's text that it reads, its prompt and special tokens not counted."""

    def encode_documents(self, texts: Sequence[str], attention: bool = False) -> list[Embedding]:
        """One embedding a text, in order.

        Args:
            texts: what to encode.
            attention: say in each `Embedding.attention` how much attention its tokens received.

        Raises:
            ModelError: attention is asked for and the model does not tell it.
        """

    def encode_queries(self, texts: Sequence[str]) -> list[Embedding]:
        """One embedding a query, in order."""

    def token_ids(self, texts: Sequence[str]) -> list[Int32]:
        """What `encode_documents` would say of each text's tokens, without encoding it.

        Args:
            texts: any.

        Returns:
            One (n,) int32 a text, in order: the ids, special tokens among them, of what is left when the text
            is cut to the encoder's window. Rows that the checkpoint's own reduction drops are still there.
        """

    def split(self, text: str, tokens: int, overlap: int) -> list[tuple[int, int]]:
        """Character spans of chunks of at most `tokens` tokens that begin and end between words.

        Of n tokens it makes at most ⌈n / (tokens − overlap)⌉ + 1 chunks; where words that do not fit have
        left the chunks so much shorter that there would be more, words are cut.

        Args:
            text: not empty.
            tokens: size of a chunk, without special tokens; at least 1.
            overlap: tokens that a chunk shares with the one before, less than `tokens`.

        Returns:
            Spans [start, end) in order, which together hold every token.

        Raises:
            InputError: `tokens` is larger than the encoder's window.
        """


Model: TypeAlias = str | os.PathLike[str] | Encoder
"""What is loaded as an encoder: a model id or folder, or an encoder of one's own."""
