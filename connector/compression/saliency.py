"""Saliency: how much each token of a query or a passage counts, by a trained head.

u = λ · ReLU(w·x + b) for a token vector x, with w and b of each side's own. The gate λ ∈ [0, 1] lets about a
share α of the tokens through: those whose scores s = w·x + b solve an entropy-regularised linear programme.
Source: Qian et al., "Multi-Vector Retrieval as Sparse Alignment" (ALIGNER), 2022, sections 3.2 and 3.3.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from connector.core.errors import InputError, RecipeError
from connector.core.io import Arrays, check_learned, load_arrays
from connector.core.types import Embedding, Float32

if TYPE_CHECKING:
    from torch import Tensor


Side = Literal["query", "document"]


SIDES: tuple[Side, Side] = ("query", "document")


FOLDER = "saliency"
"""Of the saliency in a head's folder."""


_LEVELS = 255


def gate(scores: Tensor, mask: Tensor, share: float, epsilon: float) -> Tensor:
    """λ of the entropy-regularised choice of k = ⌈α·n⌉ of n tokens.

    λ maximises ⟨s, λ⟩ − ε Σ λ log λ under λ ≤ 1 and Σ λ = k. The paper finds it by an iteration,
    a ← ε ln k − ε ln Σ exp((s + b) / ε) and b ← min(−s − a, 0), then λ = exp((s + a + b) / ε). At its fixed
    point λᵢ = min(1, exp((sᵢ + a) / ε)): the highest scores stand at 1, and the others share what is left
    of k in proportion to exp(s / ε). So one sort finds how many stand at 1, and λ is exact for every ε.
    Differentiable almost everywhere. For ε → 0 the k highest get 1, for ε → ∞ all get k/n.

    Args:
        scores: s (B, n) float.
        mask: (B, n) bool, which tokens there are.
        share: α, above 0 and at most 1.
        epsilon: ε > 0, in the unit of the scores.

    Returns:
        λ (B, n); 0 where there is no token.

    Raises:
        InputError: the share or ε is out of range.
    """
    import torch

    if not 0 < share <= 1 or not epsilon > 0:
        raise InputError(f"a gate with share {share} and ε {epsilon}; give a share up to 1, both above 0")
    lengths = mask.sum(1)
    k = torch.ceil(share * lengths - 1e-6)[:, None]
    scaled = (scores / epsilon).masked_fill(~mask, -torch.inf)
    falling, order = scaled.sort(dim=1, descending=True)
    rest = falling.flip(1).logcumsumexp(1).flip(1)  # of a token and all below it
    above = torch.arange(scores.shape[1], device=scores.device)[None]
    # With j tokens at 1 the next one gets (k − j) exp(sⱼ) / Σ_{i ≥ j} exp(sᵢ): right as soon as that is ≤ 1.
    left = (k - above).clamp(min=0)
    next_one = torch.where(falling > -torch.inf, left.log() + (falling - rest), -torch.inf)
    fits = next_one <= 1e-6
    at_one = torch.where(fits, above, scores.shape[1]).amin(1, keepdim=True).clamp(max=scores.shape[1] - 1)
    log_rest = rest.gather(1, at_one)
    share_left = left.gather(1, at_one)
    tail = share_left * torch.exp(torch.minimum(falling - log_rest, torch.zeros_like(falling)))
    chosen = torch.where(above < at_one, torch.ones_like(tail), tail.clamp(max=1))
    chosen = torch.zeros_like(chosen).scatter(1, order, chosen)
    return torch.where(mask, chosen, torch.zeros_like(chosen))


def salience(scores: Tensor, mask: Tensor, share: float, epsilon: float) -> Tensor:
    """u = λ · ReLU(s), (B, n), of scores s (B, n) under a mask (B, n); see `gate`."""
    gated: Tensor = gate(scores, mask, share, epsilon) * scores.relu()
    return gated


class Saliency:
    """A trained head's saliency as a part of a codec: what tokens weigh, and the byte that keeps it.

    A passage token's saliency u is stored as round(255 · u / scale), where the scale is the largest that was
    seen when the codec was fitted; what is larger is stored as the largest. An embedding that has a saliency
    already, from the encoder's own checkpoint, keeps it.

    Args:
        head: folder of a trained head; None if the encoder's checkpoint has its own, or `load` follows.
    """

    def __init__(self, head: str | None) -> None:
        self._head = head
        self._arrays: Arrays = {}
        self._scale: float | None = None

    def __call__(self, embeddings: Sequence[Embedding], side: Side) -> list[Embedding]:
        """The embeddings with their saliency.

        Raises:
            RecipeError: there is no head, or it is one for another model.
        """
        missing = [it for it in embeddings if it.saliency is None]
        if not missing:
            return list(embeddings)
        trained = self._trained
        self.check(missing[0].tokens.shape[1])
        found = iter(_saliences(trained, side, [it.tokens for it in missing]))
        return [replace(it, saliency=next(found)) if it.saliency is None else it for it in embeddings]

    @property
    def has_head(self) -> bool:
        """Whether it has a head of its own, or embeddings have to bring their saliency."""
        return self._head is not None or bool(self._arrays)

    def check(self, width: int) -> None:
        """Look whether the head, if there is one, is for token vectors of this width.

        Raises:
            RecipeError: it is not, or cannot be read.
        """
        for side in SIDES if self.has_head else ():
            has = len(self._trained[f"{side}.weight"])
            if has != width:
                raise RecipeError(
                    f"head {self._head!r} is for width {has}, this model's have {width}; give its head"
                )

    @property
    def _trained(self) -> Arrays:
        """Of each side "SIDE.weight" w (w,) float32 and "SIDE.settings" b, α and ε (3,) float64."""
        if not self._arrays:
            if self._head is None:
                raise RecipeError("saliency needs a trained head: give --head DIR, or a model that has one")
            self._arrays = _read(Path(self._head))
        return self._arrays

    def fit(self, saliency: Float32) -> None:
        """Choose the scale for saliences such as these (N,)."""
        self._scale = float(saliency.max(initial=0)) or 1.0

    def encode(self, saliency: Float32) -> NDArray[np.uint8]:
        """(n,) float32 ≥ 0 to (n,) bytes."""
        share = np.minimum(saliency / np.float32(self.scale), 1)
        stored: NDArray[np.uint8] = np.rint(_LEVELS * share).astype(np.uint8)
        return stored

    def decode(self, stored: NDArray[np.uint8]) -> Float32:
        """(n,) bytes to (n,) float32, each off by at most scale / 510 from what was encoded."""
        decoded: Float32 = stored.astype(np.float32) * np.float32(self.scale / _LEVELS)
        return decoded

    @property
    def scale(self) -> float:
        """What the byte 255 stands for."""
        if self._scale is None:
            raise InputError("the saliency's scale is not fitted; call fit on saliences of passages first")
        return self._scale

    def state(self) -> Arrays:
        """The arrays of both sides, and the scale."""
        return {"scale": np.array([self.scale], np.float64), **(self._trained if self.has_head else {})}

    def load(self, state: Arrays, width: int) -> None:
        """Take over what `state` gave for vectors of this width; KeyError or ValueError if it is not that."""
        (scale,) = state["scale"].tolist()
        if not 0 < scale < np.inf:
            raise ValueError(f"the scale of the saliency is {scale}")
        self._scale = scale
        if state.keys() - {"scale"}:
            self._arrays = _checked(state)
            self.check(width)


def _checked(arrays: Arrays) -> Arrays:
    """The arrays of both sides, if they can be such; else KeyError or ValueError."""
    check_learned(arrays)
    checked: Arrays = {}
    for side in SIDES:
        weight, (bias, share, epsilon) = arrays[f"{side}.weight"], arrays[f"{side}.settings"].tolist()
        if weight.ndim != 1 or len(weight) == 0:
            raise ValueError(f"weights of shape {weight.shape}")
        if not 0 < share <= 1 or not epsilon > 0:
            raise ValueError(f"a gate with share {share} and ε {epsilon}")
        checked[f"{side}.weight"] = np.ascontiguousarray(weight, np.float32)
        checked[f"{side}.settings"] = np.array([bias, share, epsilon], np.float64)
    return checked


def _saliences(trained: Arrays, side: Side, texts: Sequence[Float32]) -> list[Float32]:
    """(n, w) token vectors of each text to (n,) saliences."""
    import torch

    weight, (bias, share, epsilon) = trained[f"{side}.weight"], trained[f"{side}.settings"].tolist()
    scores = [torch.from_numpy(tokens @ weight + np.float32(bias)) for tokens in texts]
    padded = torch.nn.utils.rnn.pad_sequence(scores, batch_first=True)
    lengths = torch.tensor([len(it) for it in scores])
    mask = torch.arange(padded.shape[1]) < lengths[:, None]
    found = salience(padded, mask, share, epsilon).numpy()
    return [row[: len(it)].copy() for row, it in zip(found, scores, strict=True)]


def _read(head: Path) -> Arrays:
    """Both sides from the folder that the module `SaliencyHead` was saved in, or from a head's folder."""
    folder = head / FOLDER if (head / FOLDER).is_dir() else head
    try:
        settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        module = load_arrays((folder / "model.safetensors").read_bytes())
        arrays: Arrays = {}
        for side in SIDES:
            own = module[f"{side}.bias"][0], settings[f"{side}_share"], settings["epsilon"]
            arrays[f"{side}.weight"] = module[f"{side}.weight"][0]
            arrays[f"{side}.settings"] = np.array(own, np.float64)
        widths = [len(arrays[f"{side}.weight"]) for side in SIDES]
        if {*widths, settings.get("width", widths[0])} != {widths[0]}:
            raise ValueError(f"weights for widths {widths}, settings for {settings.get('width')!r:.80}")
        return _checked(arrays)
    except Exception as error:  # damaged files fail in many ways
        raise RecipeError(
            f"head {str(head)!r} has no readable saliency ({error!r:.300}); see connector train saliency"
        ) from error
