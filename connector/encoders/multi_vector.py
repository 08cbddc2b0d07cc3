"""The encoder: sentence-transformers' `MultiVectorEncoder`, with the vector of the whole text beside."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Sequence
from contextlib import nullcontext
from functools import cached_property
from typing import Any

import torch
from sentence_transformers import MultiVectorEncoder
from sentence_transformers.base.modules import Transformer
from sentence_transformers.multi_vector_encoder.modules import BaseTokenPooling
from tokenizers import Encoding
from torch import Tensor
from transformers import BatchEncoding

from connector.core.errors import InputError, ModelError
from connector.core.types import Embedding
from connector.encoders.attention import make_recordable, recording
from connector.encoders.chunking import chunk_spans
from connector.encoders.modules import ScoreMix, TokenReduction
from connector.encoders.offsets import prompt_of, rows_of, unit

BATCH_SIZE = 32


_TOKENIZER_PROBE = "The naïve Café in MÜNCHEN, e.g. 東京 №5: isn't x_1 = -2.50€?"
"""Text whose token ids tell apart tokenizers with the same vocabulary but other normalization."""


class SentenceTransformersEncoder:
    """Encodes with a pipeline that writes both a sentence embedding and token embeddings.

    Args:
        name: the model id or folder, for messages and for the collection's description.
        model: its modules write "sentence_embedding" and "token_embeddings"; its tokenizer is fast.
        batch_size: texts a forward pass; they are sorted by length first.

    Raises:
        ModelError: the tokenizer is slow and knows no character offsets.
    """

    def __init__(self, name: str, model: MultiVectorEncoder, batch_size: int = BATCH_SIZE) -> None:
        if not getattr(model.tokenizer, "is_fast", False):
            raise ModelError(f"model {name!r} has no fast tokenizer, which offsets need; save it with one")
        if pooling := [it for it in model.children() if isinstance(it, BaseTokenPooling)]:
            raise ModelError(
                f"model {name!r} has a {type(pooling[0]).__name__}, after which rows are no tokens; take it "
                "off and pool in the recipe, such as with reduction ward-4"
            )
        self.name = name
        self._model = model.eval()
        self._transformer: Transformer = self._modules(Transformer)[0]
        make_recordable(self._transformer.model)
        self._batch_size = batch_size
        self._tokenizing = threading.Lock()  # a fast tokenizer keeps its truncation as state

    @property
    def cls_width(self) -> int:
        return len(self._probe.cls)

    @property
    def token_width(self) -> int:
        return int(self._probe.tokens.shape[1])

    @property
    def device(self) -> str:
        return str(self._model.device)

    @property
    def cls_weight(self) -> float | None:
        return next((it.cls_weight for it in self._modules(ScoreMix)), None)

    @property
    def reduction(self) -> str | None:
        steps = [it.reduction for it in self._modules(TokenReduction) if "document" in it.tasks]
        return "+".join(steps) or None

    def _modules(self, kind: type[Any]) -> list[Any]:
        return [it for it in self._model.children() if isinstance(it, kind)]

    @cached_property
    def _probe(self) -> Embedding:
        return self.encode_documents(["width"])[0]

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits over the weights, the tokenizer and the settings that change vectors."""
        digest = hashlib.sha256()
        for key, tensor in sorted(self._model.state_dict().items()):
            digest.update(f"{key}{tuple(tensor.shape)}{tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        transformer = self._transformer
        settings = {
            "vocabulary": sorted(self._model.tokenizer.get_vocab().items()),
            "normalizer": self._tokenized(_TOKENIZER_PROBE, special=True).ids,
            "lengths": [transformer.max_seq_length, transformer.query_length, transformer.document_length],
            "expansion": transformer.query_expansion,
            "prompts": [self._prompt("query"), self._prompt("document")],
            "modules": [
                [type(module).__name__, _set_options(module.get_config_dict())]
                for module in self._model.children()
            ],
            "architecture": _set_options(transformer.model.config.to_diff_dict()),
        }
        digest.update(
            json.dumps(settings, sort_keys=True, default=lambda value: type(value).__name__).encode()
        )
        return digest.hexdigest()[:16]

    def encode_documents(self, texts: Sequence[str], attention: bool = False) -> list[Embedding]:
        return self._encode(texts, "document", attention)

    def encode_queries(self, texts: Sequence[str]) -> list[Embedding]:
        return self._encode(texts, "query")

    def batches(self, texts: Sequence[str]) -> list[list[int]]:
        """The text numbers of each forward pass: longest texts first, as padding is dear."""
        order = sorted(range(len(texts)), key=lambda index: (-len(texts[index]), index))
        return [order[i : i + self._batch_size] for i in range(0, len(order), self._batch_size)]

    def features(self, texts: Sequence[str], task: str) -> BatchEncoding:
        """One tokenized and padded batch, on the model's device."""
        with self._tokenizing:
            features = self._model.preprocess(list(texts), prompt=self._prompt(task), task=task)
        return features.to(self._model.device)

    def forward(self, features: BatchEncoding, task: str) -> dict[str, Tensor]:
        """One bare forward pass through all modules."""
        with torch.inference_mode():
            outputs: dict[str, Tensor] = self._model(features, task=task)
        return outputs

    def split(self, text: str, tokens: int, overlap: int, title: str | None = None) -> list[tuple[int, int]]:
        if not 0 <= overlap < tokens:
            raise InputError(f"chunks of {tokens} tokens overlap by {overlap}; give less, from 0 on")
        window = self._transformer.document_length or self._transformer.max_seq_length
        window = int(window or self._model.tokenizer.model_max_length)
        room = window - len(self._tokenized(self._prompt("document") or "", special=True).ids)
        if tokens > room:
            raise InputError(f"chunks of {tokens} tokens do not fit {self.name}; ask for at most {room}")
        if title:
            tokens = max(min(tokens, room - len(self._tokenized(title).ids)), 1)
            overlap = min(overlap, tokens - 1)
        encoding = self._tokenized(text)
        return chunk_spans(encoding.offsets, encoding.word_ids, tokens, overlap) or [(0, len(text))]

    def _tokenized(self, text: str, special: bool = False) -> Encoding:
        """The text's tokens, not truncated."""
        with self._tokenizing:
            batch = self._model.tokenizer(
                text, add_special_tokens=special, truncation=False, padding=False, verbose=False
            )
        encoding: Encoding = batch.encodings[0]
        return encoding

    def _prompt(self, task: str) -> str | None:
        return prompt_of(self._model.prompts, task)

    def _encode(self, texts: Sequence[str], task: str, attention: bool = False) -> list[Embedding]:
        embeddings: dict[int, Embedding] = {}
        prompt = len(self._prompt(task) or "")
        for batch in self.batches(texts):
            features = self.features([texts[index] for index in batch], task)
            encodings, read = features.encodings, features["attention_mask"].bool()
            with recording() if attention else nullcontext() as recorder:
                outputs = self.forward(features, task)
            if recorder is not None and outputs.get("attention") is None:
                outputs["attention"] = recorder.received(read)
            cls = unit(outputs["sentence_embedding"])
            for row, fields in enumerate(rows_of(outputs, encodings, prompt)):
                embeddings[batch[row]] = Embedding(
                    cls=cls[row].copy(),
                    truncated=_truncated(encodings[row]),
                    text=texts[batch[row]],
                    **fields,
                )
        return [embeddings[index] for index in range(len(texts))]


_NOT_THE_VECTORS = {
    "_name_or_path",
    "architectures",
    "dtype",
    "gradient_checkpointing",
    "torch_dtype",
    "transformers_version",
    "use_cache",
}


def _set_options(options: dict[str, Any]) -> dict[str, Any]:
    """The options that are on and decide vectors: later versions' new options, off, must not show."""
    return {key: value for key, value in options.items() if value and key not in _NOT_THE_VECTORS}


def _truncated(encoding: Encoding) -> int:
    """How many of the text's own tokens the tokenizer cut off."""
    return sum(sum(mask == 0 for mask in rest.special_tokens_mask) for rest in encoding.overflowing)
