"""How much attention each token receives in a transformer's last layer.

Fused attention kernels give no attention weights, and the eager one, which does, makes the whole model
slower (1.7 times as slow on passages of 256 tokens). So the model keeps its fused kernel, we keep the
queries and keys of its last call, and work the weights of that one layer out again from them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, PreTrainedModel
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from connector.core.errors import ModelError

_NAME = "connector_sdpa"

_thread = threading.local()


class Recorder:
    """The last attention call: queries (B, H, T, d), keys (B, G, T, d), mask and scaling."""

    call: tuple[Tensor, Tensor, Tensor | None, float | None] | None = None

    def received(self, masks: Tensor) -> Tensor:
        """The attention that each token received from those of its own text.

        Entry j is Σ over heads h and tokens i of the weight that i gives to j. Padding neither gives nor
        receives, so a text's values do not depend on the others of its batch.

        Args:
            masks: (B, T), true at the tokens.

        Returns:
            (B, T) float32, zero at padding; Σ = H · n in the row of a text of n tokens.

        Raises:
            ModelError: the model made no such call.
        """
        if self.call is None or self.call[0].shape[2] != masks.shape[1]:
            raise ModelError("the model does not tell its attention; use no attention-K, or sdpa attention")
        queries, keys, allowed, scaling = self.call
        keys = keys.repeat_interleave(queries.shape[1] // keys.shape[1], 1)
        scaling = queries.shape[-1] ** -0.5 if scaling is None else scaling
        received = torch.zeros(masks.shape, device=masks.device)
        for number, mask in enumerate(masks.bool()):
            rows = mask.nonzero()[:, 0]
            query, key = queries[number][:, rows].float(), keys[number][:, rows].float()
            weights = (query * scaling) @ key.transpose(1, 2)
            if allowed is not None:
                own = allowed[number][:, rows][:, :, rows]
                if own.dtype == torch.bool:
                    weights.masked_fill_(~own, float("-inf"))
                else:
                    weights += own
            received[number, rows] = weights.softmax(-1).sum((0, 1))
        return received


@contextmanager
def recording(model: Any) -> Iterator[Recorder]:
    """Record the attention calls of a transformer in this thread."""
    _make_recordable(model)
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
    _make_recordable(transformer.model)
    if _write not in transformer._forward_hooks.values():
        transformer.register_forward_pre_hook(_start)
        transformer.register_forward_hook(_write)


def _start(*_: Any) -> None:
    _thread.recorder = Recorder()


def _write(_: torch.nn.Module, __: tuple[Any, ...], features: dict[str, Any]) -> None:
    recorder: Recorder = _thread.recorder
    _thread.recorder = None
    features["attention"] = recorder.received(features["attention_mask"])


def _make_recordable(model: Any) -> None:
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
        recorder.call = query, key, attention_mask, scaling
    output: tuple[Tensor, Tensor | None] = ALL_ATTENTION_FUNCTIONS["sdpa"](
        module, query, key, value, attention_mask, scaling=scaling, **options
    )
    return output


AttentionInterface.register(_NAME, _recorded_sdpa)
AttentionMaskInterface.register(_NAME, sdpa_mask)
