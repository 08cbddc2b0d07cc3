"""The encoder: sentence-transformers' `MultiVectorEncoder`, with the vector of the whole text beside."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext
from functools import cached_property
from typing import Any

import numpy as np
import torch
from sentence_transformers import MultiVectorEncoder
from sentence_transformers.base.modules import Transformer
from sentence_transformers.multi_vector_encoder.modules import BaseTokenPooling, MultiVectorMask
from tokenizers import Encoding
from torch import Tensor
from transformers import BatchEncoding

from connector.core.errors import InputError, ModelError
from connector.core.forks import Mutex, in_child
from connector.core.types import Embedding, Int32
from connector.encoders.attention import recording
from connector.encoders.chunking import chunk_spans
from connector.encoders.rows import prompt_of, rows_of, scored, unit

_BATCH_SIZE = 32
"""Texts a forward pass; they are sorted by length first."""


_TOKENIZER_PROBE = "The naïve Café in MÜNCHEN, e.g. 東京 №5: isn't x_1 = -2.50€?"
"""Text whose token ids tell apart tokenizers with the same vocabulary but other normalization."""


def _one_thread() -> None:
    """A process that is forked off has no thread of OpenMP's, and would wait for one for ever."""
    torch.set_num_threads(1)


in_child(_one_thread)


class SentenceTransformersEncoder:
    """Encodes with a pipeline that writes both a sentence embedding and token embeddings.

    Args:
        name: the model id or folder, for messages and for the collection's description.
        model: its modules write "sentence_embedding" and "token_embeddings"; its tokenizer is fast.
        missing: names of the backbone's weights that the checkpoint lacks, so that they are random.
        dtypes: what the weights were held in on disk, where that is not what they are computed in.
        late_interaction: whether it was trained to be scored by its tokens.

    Raises:
        ModelError: the tokenizer is slow and knows no character offsets; or weights that make the vectors
            are missing.
    """

    def __init__(
        self,
        name: str,
        model: MultiVectorEncoder,
        missing: Collection[str] = (),
        dtypes: Mapping[str, torch.dtype] | None = None,
        late_interaction: bool = False,
    ) -> None:
        if not getattr(model.tokenizer, "is_fast", False):
            raise ModelError(f"model {name!r} has no fast tokenizer, which offsets need; save it with one")
        if pooling := [it for it in model.children() if isinstance(it, BaseTokenPooling)]:
            raise ModelError(
                f"model {name!r} has a {type(pooling[0]).__name__}, after which rows are not tokens; take it "
                "off and pool in the recipe, such as with reduction ward-4"
            )
        self.name = name
        self.late_interaction = late_interaction
        self._model = model.eval()
        self._transformer = next(it for it in model.children() if isinstance(it, Transformer))
        self._tokenizing = Mutex()  # a fast tokenizer keeps its truncation as state
        self._missing, self._dtypes = frozenset(missing), dict(dtypes or {})
        if missing and (random := sorted(self._missing & self._used)):
            raise ModelError(
                f"the checkpoint of model {name!r} lacks {len(random)} of the weights that make its vectors, "
                f"such as {random[0]}; get a complete one"
            )

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
        return next((it.cls_weight for it in self._model.children() if hasattr(it, "cls_weight")), None)

    @property
    def reduction(self) -> str | None:
        steps = [it.reduction for it in self._model.children() if "document" in getattr(it, "tasks", ())]
        return "+".join(steps) or None

    @cached_property
    def _probe(self) -> Embedding:
        return self.encode_documents(["width"])[0]

    @cached_property
    def _used(self) -> frozenset[str]:
        """Names of the backbone's weights that the vectors of some text depend on."""
        backbone, vectors = self._transformer.model, list[Tensor]()
        weights = dict(backbone.named_parameters())
        frozen = [weight for weight in weights.values() if not weight.requires_grad]
        for weight in frozen:
            weight.requires_grad_(True)
        with torch.inference_mode(False), torch.enable_grad():
            for task in ("query", "document"):
                outputs = self._model(self.features([_TOKENIZER_PROBE], task), task=task)
                vectors += [outputs["sentence_embedding"], outputs["token_embeddings"]]
        found = _leaves(vectors)
        for weight in frozen:
            weight.requires_grad_(False)
        return frozenset(name for name, weight in weights.items() if id(weight) in found)

    @cached_property
    def _idle(self) -> tuple[str, ...]:
        """How the names of weights begin that no vector depends on: whole parts of the backbone, such as
        BERT's pooler, and what is random."""
        backbone = self._transformer.model
        place = next(name for name, module in self._model.named_modules() if module is backbone)
        used = {name.split(".")[0] for name in self._used}
        parts = [name for name, _ in backbone.named_children() if name not in used]
        return tuple(f"{place}.{name}" for name in [*(f"{part}." for part in parts), *sorted(self._missing)])

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits over the weights, the tokenizer and the settings that change vectors.

        Weights that no vector depends on do not count, nor does the precision in which they are held.
        """
        digest = hashlib.sha256()
        for key, tensor in sorted(self._model.state_dict().items()):
            if not key.startswith(self._idle):
                _add(digest, key, tensor.float() if tensor.is_floating_point() else tensor)
        return self._with_settings(digest)

    @cached_property
    def former_fingerprint(self) -> str:
        """The fingerprint by which version 0.1 knew the encoder, which collections of then carry.

        It is over all weights as they are on disk, and another one in each process where some are random.
        """
        digest = hashlib.sha256()
        for key, tensor in sorted(self._model.state_dict().items()):
            _add(digest, key, tensor.to(self._dtypes.get(key, tensor.dtype)))
        return self._with_settings(digest)

    def _with_settings(self, digest: hashlib._Hash) -> str:
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

    def token_ids(self, texts: Sequence[str]) -> list[Int32]:
        found: dict[int, Int32] = {}
        masks = [it for it in self._model.children() if isinstance(it, MultiVectorMask)]
        for batch in self.batches(texts):
            features: Any = self._preprocessed([texts[index] for index in batch], "document")
            for mask in masks:  # which go by ids alone
                features = mask(features, task="document")
            ids = features["input_ids"].numpy().astype(np.int32)
            kept = features["attention_mask"].bool().numpy()
            found |= {index: ids[row][scored(kept[row])] for row, index in enumerate(batch)}
        return [found[index] for index in range(len(texts))]

    def batches(self, texts: Sequence[str]) -> list[list[int]]:
        """The text numbers of each forward pass: longest texts first, as padding is dear."""
        order = sorted(range(len(texts)), key=lambda index: (-len(texts[index]), index))
        return [order[i : i + _BATCH_SIZE] for i in range(0, len(order), _BATCH_SIZE)]

    def features(self, texts: Sequence[str], task: str) -> BatchEncoding:
        """One tokenized and padded batch, on the model's device."""
        return self._preprocessed(texts, task).to(self._model.device)

    def _preprocessed(self, texts: Sequence[str], task: str) -> BatchEncoding:
        with self._tokenizing:
            return self._model.preprocess(list(texts), prompt=self._prompt(task), task=task)

    def forward(self, features: BatchEncoding, task: str) -> dict[str, Tensor]:
        """One bare forward pass through all modules."""
        with torch.inference_mode():
            outputs: dict[str, Tensor] = self._model(features, task=task)
        return outputs

    @cached_property
    def window(self) -> int:
        read = self._transformer.document_length or self._transformer.max_seq_length
        read = int(read or self._model.tokenizer.model_max_length)
        return read - len(self._tokenized(self._prompt("document") or "", special=True).ids)

    def split(self, text: str, tokens: int, overlap: int) -> list[tuple[int, int]]:
        if not 0 <= overlap < tokens:
            raise InputError(f"chunks of {tokens} tokens overlap by {overlap}; give less, from 0 on")
        if tokens > self.window:
            raise InputError(
                f"chunks of {tokens} tokens do not fit {self.name}; ask for at most {self.window}"
            )
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
            with recording(self._transformer.model) if attention else nullcontext() as recorder:
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


def _add(digest: hashlib._Hash, key: str, tensor: Tensor) -> None:
    digest.update(f"{key}{tuple(tensor.shape)}{tensor.dtype}".encode())
    digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)


def _leaves(tensors: Sequence[Tensor]) -> set[int]:
    """The ids of the parameters that tensors were computed from."""
    nodes, seen, found = [it.grad_fn for it in tensors], set[Any](), set[int]()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        found.add(id(getattr(node, "variable", None)))
        nodes += [before for before, _ in node.next_functions]
    return found


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
