"""An encoder that keeps what it has encoded, so that a second try with other settings encodes nothing."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from connector.core.io import Arrays, to_json, write_atomically
from connector.core.types import ROW_FIELDS, Embedding
from connector.encoders.base import Encoder

logger = logging.getLogger(__name__)

_LAYOUT = 2
"""Of the files; those of another layout are not found."""

_WITH_ATTENTION = "document with attention"


class CachedEncoder:
    """Keeps each call's embeddings in one safetensors file, named by the encoder and the texts.

    Token vectors are kept in half precision, and what is returned is always what is kept: the first
    call and all later ones give the same vectors.

    Args:
        encoder: does the work that was not done before.
        folder: where the files are; made if missing.

    Attributes:
        spared: seconds of encoding that the files have spared this object.
    """

    def __init__(self, encoder: Encoder, folder: Path) -> None:
        self._encoder = encoder
        self._folder = folder
        self.spared = 0.0
        self.name, self.fingerprint, self.device = encoder.name, encoder.fingerprint, encoder.device
        self.cls_width, self.token_width = encoder.cls_width, encoder.token_width
        self.cls_weight, self.reduction = encoder.cls_weight, encoder.reduction
        self.late_interaction, self.window = encoder.late_interaction, encoder.window
        self.split, self.token_ids = encoder.split, encoder.token_ids
        folder.mkdir(parents=True, exist_ok=True)

    def encode_documents(self, texts: Sequence[str], attention: bool = False) -> list[Embedding]:
        if not attention and (kept := self._kept(_WITH_ATTENTION, texts)) is not None:
            return kept  # with all that was asked for, too
        task = _WITH_ATTENTION if attention else "document"
        return self._cached(task, texts, partial(self._encoder.encode_documents, attention=attention))

    def encode_queries(self, texts: Sequence[str]) -> list[Embedding]:
        return self._cached("query", texts, self._encoder.encode_queries)

    def _cached(
        self, task: str, texts: Sequence[str], encode: Callable[[Sequence[str]], list[Embedding]]
    ) -> list[Embedding]:
        if not texts:
            return []
        if (kept := self._kept(task, texts)) is not None:
            return kept
        started = time.perf_counter()
        embeddings = encode(texts)
        arrays = to_arrays(embeddings)
        arrays["tokens"] = arrays["tokens"].astype(np.float16)
        seconds = repr(time.perf_counter() - started)
        write_atomically(self._path(task, texts), save(arrays, metadata={"seconds": seconds}))
        return [replace(it, tokens=it.tokens.astype(np.float16).astype(np.float32)) for it in embeddings]

    def _kept(self, task: str, texts: Sequence[str]) -> list[Embedding] | None:
        """What a file has of these texts; None if there is none, or a damaged one."""
        path = self._path(task, texts)
        if not path.exists():
            return None
        try:
            with safe_open(path, "numpy") as file:
                arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (no mapping)
                self.spared += float(file.metadata()["seconds"])
        except SafetensorError:
            logger.warning("%s is damaged; its texts are encoded again", path)
            return None
        arrays["tokens"] = arrays["tokens"].astype(np.float32)
        return from_arrays(arrays, texts)

    def _path(self, task: str, texts: Sequence[str]) -> Path:
        what = to_json([_LAYOUT, self.fingerprint, task, list(texts)])
        return self._folder / f"{hashlib.sha256(what.encode()).hexdigest()[:32]}.safetensors"


def to_arrays(embeddings: Sequence[Embedding]) -> Arrays:
    """Embeddings, at least one, all with the same fields, as arrays; their texts are not among them."""
    arrays: Arrays = {
        "cls": np.stack([item.cls for item in embeddings]),
        "tokens": np.concatenate([item.tokens for item in embeddings]),
        "lengths": np.array([len(item) for item in embeddings]),
        "truncated": np.array([item.truncated for item in embeddings]),
    }
    for name in ROW_FIELDS:
        rows = [getattr(item, name) for item in embeddings]
        if rows[0] is not None:
            arrays[name] = np.concatenate(rows)
    return arrays


def from_arrays(arrays: Arrays, texts: Sequence[str]) -> list[Embedding]:
    """The embeddings of these texts that `to_arrays` was given."""
    ends = np.cumsum(arrays["lengths"])[:-1]
    rows = {name: np.split(arrays[name], ends) for name in ("tokens", *ROW_FIELDS) if name in arrays}
    return [
        Embedding(
            cls=arrays["cls"][i],
            truncated=int(arrays["truncated"][i]),
            text=text,
            **{name: parts[i] for name, parts in rows.items()},
        )
        for i, text in enumerate(texts)
    ]
