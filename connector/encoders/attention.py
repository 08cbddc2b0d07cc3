"""How much attention each token receives in a transformer's last layer.

Fused attention kernels give no attention weights, and the eager one, which does, makes the whole model
slower (1.7 times as slow on passages of 256 tokens). So the model keeps its fused kernel, we keep the
queries and keys of its last call, and work the weights of that one layer out again from them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, PreTrainedModel
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from connector.core.errors import ModelError

_NAME = "connector_sdpa"

_thread = threading.local()


@dataclass(slots=True)
class Recorder:
    """The queries (B, H, T, d) and keys (B, G, T, d) of the last attention call."""

    query: Tensor | None = None
    key: Tensor | None = None
    mask: Tensor | None = None
    scaling: float | None = None

    def received(self, masks: Tensor) -> list[Tensor]:
        """For each text, the attention that each of its tokens received.

        Entry j is Σ over heads h and tokens i of the weight that i gives to j. Padding neither gives nor
        receives, so a text's values do not depend on the others of its batch.

        Args:
            masks: (B, T), true at the tokens.

        Returns:
            B tensors (n,) float32, Σ = H · n.

        Raises:
            ModelError: the model made no such call.
        """
        if self.query is None or self.key is None or self.query.shape[2] != masks.shape[1]:
            raise ModelError(
                "the model does not tell its attention; choose another reduction than attention-K, or a "
                "model that transformers runs with sdpa attention"
            )
        heads = self.query.shape[1] // self.key.shape[1]
        scaling = self.query.shape[-1] ** -0.5 if self.scaling is None else self.scaling
        sums = []
        for number, mask in enumerate(masks.bool()):
            rows = mask.nonzero()[:, 0]
            query, key = self.query[number][:, rows].float(), self.key[number][:, rows].float()
            weights = (query * scaling) @ key.repeat_interleave(heads, 0).transpose(1, 2)
            if self.mask is not None:
                allowed = self.mask[number][:, rows][:, :, rows]
                if allowed.dtype == torch.bool:
                    weights.masked_fill_(~allowed, float("-inf"))
                else:
                    weights += allowed
            sums.append(weights.softmax(-1).sum((0, 1)))
        return sums


@contextmanager
def recording() -> Iterator[Recorder]:
    """Record the attention calls of this thread."""
    recorder = _thread.recorder = Recorder()
    try:
        yield recorder
    finally:
        _thread.recorder = None


def write_attention(transformer: torch.nn.Module) -> None:
    """Let a sentence-transformers `Transformer` write "attention" (B, T) float32, zero at padding.

    Raises:
        ModelError: when it is called and the model does not tell.
    """
    make_recordable(transformer.model)
    if _write not in transformer._forward_hooks.values():
        transformer.register_forward_pre_hook(_start)
        transformer.register_forward_hook(_write)


def _start(*_: Any) -> None:
    _thread.recorder = Recorder()


def _write(_: torch.nn.Module, __: tuple[Any, ...], features: dict[str, Any]) -> None:
    recorder: Recorder = _thread.recorder
    _thread.recorder = None
    features["attention"] = spread(recorder.received(features["attention_mask"]), features["attention_mask"])


def spread(received: list[Tensor], masks: Tensor) -> Tensor:
    """(B, T) float32 of the tokens' values in their places, zero at padding."""
    places = torch.zeros(masks.shape, device=masks.device)
    return places.masked_scatter_(masks.bool(), torch.cat(received))


def make_recordable(model: Any) -> None:
    """Let a transformer's attention calls be recorded; one without the fused kernel is left as it is."""
    if isinstance(model, PreTrainedModel) and model.config._attn_implementation == "sdpa":
        model.set_attn_implementation(_NAME)


def _recorded_sdpa(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **options: Any,
) -> tuple[Tensor, Tensor | None]:
    recorder: Recorder | None = getattr(_thread, "recorder", None)
    if recorder is not None:
        recorder.query, recorder.key = query, key
        recorder.mask, recorder.scaling = attention_mask, scaling
    output: tuple[Tensor, Tensor | None] = ALL_ATTENTION_FUNCTIONS["sdpa"](
        module, query, key, value, attention_mask, scaling=scaling, **options
    )
    return output


AttentionInterface.register(_NAME, _recorded_sdpa)
AttentionMaskInterface.register(_NAME, sdpa_mask)
