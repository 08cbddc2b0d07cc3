"""Reduction by words: drop those that say little, merge the pieces and occurrences of one word."""

from __future__ import annotations

import string
import unicodedata
from functools import cache, partial

import numpy as np

from connector.compression.reduction.base import (
    Labels,
    PruningPolicy,
    Rows,
    Setting,
    Step,
    TokenPooling,
)
from connector.core.errors import InputError, RecipeError, require
from connector.core.registry import Method
from connector.core.types import Embedding


def without_stopwords(embedding: Embedding, listed: frozenset[str]) -> Rows:
    """All rows but those of the words that are listed, compared without case, as `fold` has them."""
    _check_text(embedding)
    kept = np.ones(len(embedding), np.bool_)
    starts, ends = embedding.offsets[:, 0], embedding.offsets[:, 1]
    rows = np.flatnonzero(~embedding.special)
    for pieces in np.split(rows, np.flatnonzero(np.diff(embedding.word_ids[rows])) + 1):
        if len(pieces):
            kept[pieces] = fold(embedding.text[starts[pieces[0]] : ends[pieces[-1]]].strip()) not in listed
    return np.flatnonzero(kept)


def without_punctuation(embedding: Embedding) -> Rows:
    """All rows but those of tokens that consist of punctuation marks alone.

    A mark is a character of Unicode's categories P*, or one of Python's `string.punctuation`, which ColBERT
    leaves out: Khattab and Zaharia, "ColBERT", SIGIR 2020, section 3.2.
    """
    _check_text(embedding)
    marks = [_all_marks(embedding.text[start:end].strip()) for start, end in embedding.offsets]
    return np.flatnonzero(~np.array(marks, np.bool_) | embedding.special)


def without_special(embedding: Embedding) -> Rows:
    """All rows but those of tokens that no word of the text made, such as [CLS]; all if there is no other."""
    own = np.flatnonzero(~embedding.special)
    return own if len(own) else np.arange(len(embedding))


def whole_words(embedding: Embedding) -> Labels:
    """One row a unique whole word: the mean of its pieces over all its occurrences.

    Two words are the same if their token ids are: under an uncased tokenizer case does not matter, and all
    words that the vocabulary does not know are one. Special tokens stay as they are. Source: BOW²,
    Hofstätter et al., ColBERTer, CIKM 2022, section 3.2.
    """
    ids, words, special = embedding.token_ids, embedding.word_ids, embedding.special
    starts = np.flatnonzero(np.concatenate([[True], (words[1:] != words[:-1]) | special[1:]]))
    ends = np.append(starts[1:], len(words))
    clusters: dict[bytes | int, int] = {}
    numbers = [
        clusters.setdefault(int(start) if special[start] else ids[start:end].tobytes(), len(clusters))
        for start, end in zip(starts, ends, strict=True)
    ]
    return np.repeat(np.array(numbers, np.intp), ends - starts)


def fold(word: str) -> str:
    """Without case, and composed, so that equal words are equal strings."""
    return unicodedata.normalize("NFC", word.casefold())


def _all_marks(piece: str) -> bool:
    return piece != "" and all(
        letter in string.punctuation or unicodedata.category(letter).startswith("P") for letter in piece
    )


def _check_text(embedding: Embedding) -> None:
    if not embedding.text and not embedding.special.all():
        raise InputError("the embedding does not hold its text, whose words are asked for; give it")


LANGUAGES = ("da", "de", "en", "es", "fr", "it", "ko", "nl", "no", "pt", "ru", "sv", "tr", "zh")
"""ISO 639-1 codes of those that have a list of stop words."""


@cache
def stop_list(language: str) -> frozenset[str]:
    """The stop words of a language, each as `fold` has it.

    The lists are those of the package bm25s (extra `stopwords`), which has NLTK's for most languages.

    Args:
        language: ISO 639-1 code, such as "en".

    Raises:
        RecipeError: there is no list for the language; those that are there are named.
        MissingExtra: the package is not installed.
    """
    if language not in LANGUAGES:
        raise RecipeError(f"no stop words for language {language!r}; there are {', '.join(LANGUAGES)}")
    tokenizer = require("bm25s.tokenization", "stopwords").Tokenizer
    name = "en_plus" if language == "en" else language  # its shorter list for English has 33 words
    return frozenset(map(fold, tokenizer(stopwords=name).stopwords))


METHODS: tuple[Method[Step, Setting], ...] = (
    Method(
        "stopwords-LANGUAGE",
        "all but the stop words of a language, such as en (extra stopwords)",
        "NLTK's lists, from bm25s",
        lambda name, _: PruningPolicy(
            partial(without_stopwords, listed=stop_list(name)), frozenset({"text"})
        ),
    ),
    Method(
        "punctuation",
        "all but punctuation marks",
        "Khattab and Zaharia, ColBERT, SIGIR 2020",
        lambda _, __: PruningPolicy(without_punctuation, frozenset({"text"})),
    ),
    Method(
        "special",
        "all but special tokens, such as [CLS], and the passages' prompt",
        "this project",
        lambda _, __: PruningPolicy(without_special),
    ),
    Method(
        "whole-words",
        "one vector a unique word: the mean of its pieces over all its occurrences",
        "Hofstätter et al., ColBERTer, CIKM 2022",
        lambda _, __: TokenPooling(whole_words),
    ),
)
