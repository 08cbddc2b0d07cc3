"""Modules of a sentence-transformers pipeline, saved and loaded with its checkpoint.

`load_encoder` loads them without `trust_remote_code`; sentence-transformers itself asks for it, as for every
module that is not its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers.base.modules import Module, Transformer
from torch import Tensor

from connector.compression.reduction import Frequencies, Setting, parse_reduction
from connector.compression.reduction.base import Labels, assign, grouped, regroup
from connector.compression.saliency import salience
from connector.core.errors import InputError
from connector.core.types import OPTIONAL_FIELDS, Embedding
from connector.encoders.attention import write_attention
from connector.encoders.rows import prompt_of, rows_of

_PLACE = ("subfolder", "token", "cache_folder", "revision", "local_files_only")
"""What sentence-transformers says of where a module is loaded from."""


class _Saved(Module):  # type: ignore[misc]
    """A module whose configuration and weights stand in its folder of the checkpoint."""

    def save(self, output_path: str, *_: Any, safe_serialization: bool = True, **__: Any) -> None:
        self.save_config(output_path)
        self.save_torch_weights(output_path, safe_serialization=safe_serialization)

    @classmethod
    def load(cls, model_name_or_path: str, **options: Any) -> Self:
        place = {name: options[name] for name in _PLACE if name in options}
        module = cls(**cls.load_config(model_name_or_path, **place))
        loaded: Self = cls.load_torch_weights(model_name_or_path, model=module, **place)
        return loaded


def _passing(width: int) -> torch.nn.Linear:
    """A gate w·x + b that lets everything through alike: w = 0, b = 1."""
    linear = torch.nn.Linear(width, 1)
    torch.nn.init.zeros_(linear.weight)
    torch.nn.init.ones_(linear.bias)
    return linear


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
        self._prompts: Mapping[str, str | None] = {}

    def on_model_ready(self, model: Any) -> None:
        """Called by the model that is made or loaded with the module; after `append`, call it."""
        self._tokenizer, self._prompts = model.tokenizer, model.prompts
        if "attention" in self._reduction.needs:
            write_attention(next(module for module in model.children() if isinstance(module, Transformer)))

    def forward(self, features: dict[str, Any], task: str | None = None) -> dict[str, Any]:
        if (task or "document") not in self.tasks:
            return features
        if (encodings := getattr(features, "encodings", None)) is None:
            raise InputError("these features do not say which tokens make a word; give a BatchEncoding")
        prompt = len(prompt_of(self._prompts, task) or "")
        fields = [name for name in OPTIONAL_FIELDS if features.get(name) is not None]
        changed = {name: features[name].clone() for name in ("token_embeddings", *fields)}
        masks = features["attention_mask"].bool()
        kept = torch.zeros_like(masks)
        for number, own in enumerate(rows_of(features, encodings, prompt)):
            rows = masks[number].nonzero()[:, 0]
            if len(rows) == 0:
                continue
            embedding = Embedding(cls=own["tokens"][0], text=self._text(own), **own)
            vectors = changed["token_embeddings"][number]
            for step in self._reduction.steps:
                labels = assign(embedding, step)
                order, starts = grouped(labels)
                first = rows[torch.from_numpy(order[starts]).to(rows.device)]
                vectors[first] = _merge(vectors[rows], labels)
                rows, embedding = first, regroup(embedding, labels)
            for name in fields:
                changed[name][number, rows] = torch.from_numpy(getattr(embedding, name)).to(rows.device)
            kept[number, rows] = True
        features.update(changed, attention_mask=kept)
        return features

    def _text(self, fields: dict[str, NDArray[Any]]) -> str:
        """The words where they stand in the text, as the tokenizer writes them: the text itself is gone.

        An uncased tokenizer may have taken their accents, too; an unknown word is blank.
        """
        if "text" not in self._reduction.needs:
            return ""
        if self._tokenizer is None:
            raise InputError("the module knows no tokenizer: call its on_model_ready(model) after append")
        ids, offsets, words = fields["token_ids"], fields["offsets"], fields["word_ids"]
        text = [" "] * int(offsets.max(initial=0))
        for word in np.unique(words[words >= 0]):
            here = np.flatnonzero(words == word)
            start, end = offsets[here[0], 0], offsets[here[-1], 1]
            surface = self._tokenizer.decode(ids[here].tolist(), skip_special_tokens=True).strip()
            text[start:end] = list(surface.ljust(end - start)[: end - start])
        return "".join(text)

    def save(self, output_path: str, *args: Any, **kwargs: Any) -> None:
        if "frequencies" in self._reduction.needs and not self.frequencies.passages:
            raise InputError(f"{self.reduction} cannot be saved without counts; give the module frequencies")
        super().save(output_path, *args, **kwargs)

    def get_extra_state(self) -> Tensor:
        """The frequencies, which the checkpoint keeps among the weights."""
        return torch.frombuffer(bytearray(self.frequencies.save()), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        self.frequencies.load(state.cpu().numpy().tobytes())


class SaliencyGate(_Saved):
    """Writes "saliency" (B, T), the gate ReLU(w·x + b) of each token vector x of a passage.

    "contextual-stopwords" drops the rows at zero. In training the vectors are multiplied by the gate, as in
    ColBERTer, so that it learns from the score; when texts are encoded they are not, because the vectors that
    this library stores have unit length. A new gate lets everything through: w = 0, b = 1. Source: Hofstätter
    et al., ColBERTer, CIKM 2022, section 3.3.

    Args:
        width: of the token vectors.
    """

    config_keys = ["width"]  # noqa: RUF012
    forward_kwargs = {"task"}  # noqa: RUF012

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.linear = _passing(width)

    def forward(self, features: dict[str, Any], task: str | None = None) -> dict[str, Any]:
        if task == "query":
            return features
        vectors = features["token_embeddings"]
        gate = torch.relu(self.linear(vectors)[..., 0])
        features["saliency"] = gate
        if self.training:
            features["token_embeddings"] = vectors * gate[..., None]
        return features


class SaliencyHead(_Saved):
    """Writes "saliency" (B, T), what each token counts (`connector.compression.saliency`).

    The vectors stay as they are. A new head weighs all tokens of a text alike: w = 0, b = 1.

    Args:
        width: of the token vectors.
        query_share, document_share: α, the share of the tokens that the gate of each side lets through.
        epsilon: ε, how softly.
    """

    config_keys = ["width", "query_share", "document_share", "epsilon"]  # noqa: RUF012
    forward_kwargs = {"task"}  # noqa: RUF012

    def __init__(
        self, width: int, query_share: float = 0.5, document_share: float = 0.5, epsilon: float = 0.3
    ) -> None:
        super().__init__()
        self.width = width
        self.query_share = query_share
        self.document_share = document_share
        self.epsilon = epsilon
        self.query, self.document = _passing(width), _passing(width)

    def weigh(self, vectors: Tensor, mask: Tensor, task: str | None) -> Tensor:
        """(B, T) saliences of unit vectors (B, T, w) under a mask (B, T)."""
        asked = task == "query"
        scores = (self.query if asked else self.document)(vectors)[..., 0]
        return salience(scores, mask, self.query_share if asked else self.document_share, self.epsilon)

    def forward(self, features: dict[str, Any], task: str | None = None) -> dict[str, Any]:
        vectors = torch.nn.functional.normalize(features["token_embeddings"], dim=-1)
        features["saliency"] = self.weigh(vectors, features["attention_mask"].bool(), task)
        return features


class ScoreMix(_Saved):
    """Holds γ: a score is σ(γ) · CLS + (1 − σ(γ)) · tokens. Changes no feature; the loss must use it.

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
    for module in (TokenReduction, SaliencyGate, SaliencyHead, ScoreMix)
}
"""By the names that checkpoints know them by."""


def _merge(vectors: Tensor, labels: Labels) -> Tensor:
    """(k, w) rows as they are, if all stand alone; else means of unit rows, scaled to unit length."""
    order, starts = grouped(labels)
    rows = vectors[torch.from_numpy(order).to(vectors.device)]
    if len(order) == len(starts):
        return rows
    numbers = torch.from_numpy(labels[order]).to(vectors.device)
    rows = torch.nn.functional.normalize(rows, dim=-1)
    sums = rows.new_zeros(len(starts), rows.shape[1]).index_add(0, numbers, rows)
    cancelled = sums.norm(dim=-1, keepdim=True) < 1e-6
    first = rows[torch.from_numpy(starts).to(vectors.device)]
    return torch.nn.functional.normalize(torch.where(cancelled, first, sums), dim=-1)
