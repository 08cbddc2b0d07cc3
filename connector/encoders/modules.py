"""Modules of a sentence-transformers pipeline, saved and loaded with its checkpoint.

`load_encoder` loads them without `trust_remote_code`; sentence-transformers itself asks for it, as for every
module that is not its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from sentence_transformers.base.modules import Module, Transformer
from torch import Tensor

from connector.encoders.attention import write_attention
from connector.errors import InputError
from connector.reduction import Frequencies, Setting, parse_reduction
from connector.reduction.base import Labels, assign, grouped, regroup
from connector.types import OPTIONAL_FIELDS, Embedding


class _Saved(Module):  # type: ignore[misc]
    """A module whose configuration and weights stand in its folder of the checkpoint."""

    def save(self, output_path: str, *_: Any, safe_serialization: bool = True, **__: Any) -> None:
        self.save_config(output_path)
        self.save_torch_weights(output_path, safe_serialization=safe_serialization)

    @classmethod
    def load(
        cls,
        model_name_or_path: str,
        subfolder: str = "",
        token: bool | str | None = None,
        cache_folder: str | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
        **_: Any,
    ) -> Self:
        place = {
            "subfolder": subfolder,
            "token": token,
            "cache_folder": cache_folder,
            "revision": revision,
            "local_files_only": local_files_only,
        }
        module = cls(**cls.load_config(model_name_or_path, **place))
        loaded: Self = cls.load_torch_weights(model_name_or_path, model=module, **place)
        return loaded


class TokenReduction(_Saved):
    """A reduction as the end of a pipeline: every user of the checkpoint gets the tokens that are left.

    Rows that are dropped, or merged into an earlier one, leave the attention mask; the others stay where they
    are, so that ids, offsets and vectors stay aligned. Gradients flow through the means of merged rows.

    Args:
        reduction: as in a recipe, such as "whole-words" or "first-32".
        tasks: what it applies to, "document" and "query"; by default documents alone.
        bytes_per_token: what a stored token will take, for budgets in bytes.
        frequencies: counts of a corpus, for "idf-K".
    """

    config_keys = ["reduction", "tasks", "bytes_per_token"]  # noqa: RUF012  (their type, as in the base)
    forward_kwargs = {"task"}  # noqa: RUF012

    def __init__(
        self,
        reduction: str,
        tasks: Sequence[str] = ("document",),
        bytes_per_token: int | None = None,
        frequencies: Frequencies | None = None,
    ) -> None:
        super().__init__()
        self.reduction = reduction
        self.tasks = list(tasks)
        self.bytes_per_token = bytes_per_token
        self.frequencies = frequencies or Frequencies()
        self._reduction = parse_reduction(reduction, Setting(bytes_per_token, self.frequencies))
        self._tokenizer: Any = None

    def on_model_ready(self, model: Any) -> None:
        self._tokenizer = model.tokenizer
        if "attention" in self._reduction.needs:
            write_attention(next(module for module in model.children() if isinstance(module, Transformer)))

    def forward(self, features: dict[str, Any], task: str | None = None) -> dict[str, Any]:
        if (task or "document") not in self.tasks:
            return features
        vectors = features["token_embeddings"].clone()
        masks = features["attention_mask"].bool()
        kept = torch.zeros_like(masks)
        for number, mask in enumerate(masks):
            rows = mask.nonzero()[:, 0]
            if len(rows) == 0:
                continue
            embedding = self._embedding(features, number, rows.cpu().numpy())
            for step in self._reduction.steps:
                labels = assign(embedding, step)
                order, starts = grouped(labels)
                vectors[number, rows[order[starts]]] = _merge(vectors[number, rows], labels)
                rows = rows[order[starts]]
                embedding = regroup(embedding, labels)
            kept[number, rows] = True
        features["token_embeddings"], features["attention_mask"] = vectors, kept
        return features

    def _embedding(self, features: dict[str, Any], number: int, rows: np.ndarray[Any, Any]) -> Embedding:
        """What the pipeline knows of one text, as the steps want it."""
        ids = features["input_ids"][number].cpu().numpy().astype(np.int32)[rows]
        tokens = torch.nn.functional.normalize(features["token_embeddings"][number].detach().float(), dim=-1)
        tokens = tokens.cpu().numpy()[rows]
        words = self._words(features, number, rows, ids)
        text, offsets = self._text(ids, words)
        own: dict[str, Any] = {
            name: features[name][number].detach().float().cpu().numpy()[rows]
            for name in OPTIONAL_FIELDS
            if features.get(name) is not None
        }
        return Embedding(
            cls=tokens[0],
            tokens=tokens,
            token_ids=ids,
            offsets=offsets,
            word_ids=words,
            text=text,
            **own,
        )

    def _words(
        self, features: dict[str, Any], number: int, rows: np.ndarray[Any, Any], ids: np.ndarray[Any, Any]
    ) -> np.ndarray[Any, Any]:
        encodings = getattr(features, "encodings", None)
        if self._tokenizer is None:
            raise InputError("the module knows no tokenizer: call its on_model_ready(model) after append")
        if encodings is None:
            raise InputError("these features do not say which tokens make a word; give a BatchEncoding")
        known = encodings[number].word_ids
        words = [known[row] if row < len(known) and known[row] is not None else -1 for row in rows]
        special = np.isin(ids, self._tokenizer.all_special_ids)
        return np.where(special, -1, np.array(words)).astype(np.int32)

    def _text(
        self, ids: np.ndarray[Any, Any], words: np.ndarray[Any, Any]
    ) -> tuple[str, np.ndarray[Any, Any]]:
        """The words as the tokenizer writes them, with a space between, and each row's span: its word's."""
        offsets = np.zeros((len(ids), 2), np.int32)
        text = ""
        for word in np.unique(words[words >= 0]):
            here = words == word
            surface = self._tokenizer.decode(ids[here].tolist()).strip()
            offsets[here] = len(text), len(text) + len(surface)
            text += surface + " "
        return text, offsets

    def get_extra_state(self) -> Tensor:
        """The frequencies, which the checkpoint keeps among the weights."""
        return torch.frombuffer(bytearray(self.frequencies.save()), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        self.frequencies.load(state.cpu().numpy().tobytes())


class SaliencyGate(_Saved):
    """Writes "saliency" (B, T), the gate ReLU(w·x + b) of each token vector x.

    "contextual-stopwords" drops the rows at zero. A new gate lets everything through: w = 0, b = 1.
    Source: Hofstätter et al., ColBERTer, CIKM 2022, section 3.3.

    Args:
        width: of the token vectors.
    """

    config_keys = ["width"]  # noqa: RUF012

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.linear = torch.nn.Linear(width, 1)
        torch.nn.init.zeros_(self.linear.weight)
        torch.nn.init.ones_(self.linear.bias)

    def forward(self, features: dict[str, Any]) -> dict[str, Any]:
        features["saliency"] = torch.relu(self.linear(features["token_embeddings"])[..., 0])
        return features


class ScoreMix(_Saved):
    """Holds γ: a score is σ(γ) · CLS + (1 − σ(γ)) · tokens. Changes no feature.

    Source: Hofstätter et al., ColBERTer, CIKM 2022, section 3.1.
    """

    def __init__(self) -> None:
        super().__init__()
        self.gamma = torch.nn.Parameter(torch.zeros(1))

    @property
    def cls_weight(self) -> float:
        """σ(γ)."""
        return float(torch.sigmoid(self.gamma.detach()))

    def forward(self, features: dict[str, Any]) -> dict[str, Any]:
        return features


MODULES: dict[str, type[Any]] = {
    f"{module.__module__}.{module.__qualname__}": module
    for module in (TokenReduction, SaliencyGate, ScoreMix)
}
"""By the names that checkpoints know them by."""


def _merge(vectors: Tensor, labels: Labels) -> Tensor:
    """(k, w) rows: those that stand alone as they are, if all do; else means scaled to unit length."""
    order, starts = grouped(labels)
    rows = vectors[torch.from_numpy(order).to(vectors.device)]
    if len(order) == len(starts):
        return rows
    numbers = torch.from_numpy(labels[order]).to(vectors.device)
    sums = rows.new_zeros(len(starts), rows.shape[1]).index_add(0, numbers, rows)
    return torch.nn.functional.normalize(sums, dim=-1)
