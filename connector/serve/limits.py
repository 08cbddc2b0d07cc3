"""How much one request may ask for, and how many may wait."""

from __future__ import annotations

import os
from dataclasses import dataclass

MIB = 2**20

MAX_QUERY = 10_000
"""Characters of a query; an encoder reads about 1,200."""

MAX_ID = 10_000
"""Characters of a document's id."""

MAX_K = 1_000
MAX_EXPLAINED = 50
"""Hits whose words are asked for: each is encoded again, which takes as long as three searches."""

MAX_CANDIDATES = 10_000
MAX_DOCUMENTS = 1_000
MAX_FILTER_DEPTH = 32
"""Levels of a filter's JSON."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What an application takes.

    Args:
        documents: bytes of the body of an ingest.
        others: bytes of any other body.
        seconds: in which a body has to come.
        searches: threads that search and explain. One for each core, each of which computes with one
            thread itself, gave the most searches a second; four times as many gave a third less.
        waiting: searches that wait for a thread; more are told to come again.
        ingests: that wait for the one that is running.
    """

    documents: int = 16 * MIB
    others: int = MIB // 4
    seconds: float = 60.0
    searches: int = os.cpu_count() or 1
    waiting: int = 1_000
    ingests: int = 16
