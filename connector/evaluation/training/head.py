"""A head for a frozen encoder: projections of its tokens to small widths, and the saliency of its tokens.

Each is trained by itself, from the same batches: a query, a passage that answers it, and passages that do
not, in the batch and mined. Source: Khattab and Zaharia, ColBERT, SIGIR 2020 (a linear projection, MaxSim);
Qian et al., ALIGNER, 2022 (saliency); Bengio, Léonard and Courville, 2013 (the straight-through estimator).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers.base.modules import Dense
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from connector.compression.codecs.projection import PCA, Rotation
from connector.compression.saliency import FOLDER, gate
from connector.core.errors import InputError
from connector.core.io import to_json, write_atomically
from connector.encoders.modules import SaliencyHead
from connector.evaluation.training.batches import Batch, Batches
from connector.evaluation.training.dataset import TrainingSet
from connector.evaluation.training.loop import run

_TEMPERATURE = 0.05


_RATE = 3e-3


_SALIENCY_RATE = 2e-3


_GATE_SHARE, _EPSILON = 0.5, 0.3
"""Of the saliency's gate: α, the share of the tokens that it lets through, on both sides; ε, how softly."""


@dataclass(frozen=True, slots=True)
class HeadTraining:
    """How a head is trained.

    Args:
        widths: of the projections, each divisible by 8; none trains the saliency alone.
        saliency: whether the saliency is trained.
        steps: of each part.
        batch: queries a step; each brings a passage that answers it and a mined one that does not.
        seed: of everything that is drawn.
        shares: how often each set is drawn from, in proportion; by default the square root of its queries.
    """

    widths: Sequence[int] = (128,)
    saliency: bool = True
    steps: int = 300
    batch: int = 64
    seed: int = 0
    shares: Sequence[float] = ()

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 2:
            raise InputError(f"{self.steps} steps of {self.batch} queries; give at least 1 and at least 2")
        if bad := [width for width in self.widths if width < 8 or width % 8]:
            raise InputError(f"width {bad[0]} does not fill whole bytes of signs; give one divisible by 8")
        if not self.widths and not self.saliency:
            raise InputError("there is nothing to train; give a width, or leave the saliency in")
        if not 0 <= self.seed < 2**63:
            raise InputError(f"the seed is {self.seed}; give a number from 0 on that 64 bits hold")
        if bad_shares := [it for it in self.shares if not 0 < it < float("inf")]:
            raise InputError(f"a set's share is {bad_shares[0]}; give a number above 0")


def train_head(
    sets: Sequence[TrainingSet],
    folder: Path,
    training: HeadTraining,
    *,
    encoder: str,
    model: str,
    device: str = "cpu",
    progress: Callable[[str, int], None] = lambda _, __: None,
) -> None:
    """Train a head and save it.

    A projection learns through the rounding to signs that its codes will have: forward the signs of a
    rotation of it, backward as if they were the vectors. Saliency learns from two scores: the aligned one, as
    searches have it, and gated MaxSim, Σᵢ uᵢ maxⱼ λⱼ Sᵢⱼ / Σᵢ uᵢ, in which a passage's tokens compete for the
    places that its gate λ has, as they do when it is pruned. The first alone prunes badly; the second alone
    weighs badly.

    Run again after it was killed, it goes on at the last of its checkpoints, in `training/` below the folder,
    and ends with the same head. There also is `log.jsonl`, a line every 50 steps.

    Args:
        sets: at least one, all of one encoder.
        folder: where the head goes: `linear-D/` for each width, `saliency/`, `head.json`.
        training: how.
        encoder, model: the encoder's fingerprint and name.
        device: "cpu" or a CUDA device.
        progress: called with the part in work and the steps done.

    Raises:
        InputError: the folder holds another head or a checkpoint of another training, or shares and sets do
            not match.
    """
    width = sets[0].passages[0].shape[1]
    if wide := [it for it in training.widths if it > width]:
        raise InputError(f"width {wide[0]} is more than the {width} of the tokens; give less")
    if len({it.name for it in sets}) < len(sets):
        raise InputError(f"two of the sets {[it.name for it in sets]} have the same name; rename a folder")
    if training.shares and len(training.shares) != len(sets):
        raise InputError(f"{len(training.shares)} shares for {len(sets)} sets; give one for each, or none")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; give a folder for the head")
    parts = [f"linear-{width}" for width in training.widths] + ([FOLDER] if training.saliency else [])
    settings = _settings(sets, training)
    description = _description(folder, encoder, model)
    done = description["parts"]
    for part in parts:
        if done.get(part, settings) != settings:
            raise InputError(
                f"{folder} holds {part} trained with {to_json(done[part])}, not {to_json(settings)}; give "
                "another folder (--out DIR)"
            )
    batches = Batches(sets, training.batch, training.seed, training.shares, device)
    scratch = folder / "training"
    scratch.mkdir(parents=True, exist_ok=True)
    for part in parts:
        if part in done:  # by an earlier run that was killed later
            continue
        learn = partial(
            run,
            steps=training.steps,
            checkpoint=scratch / f"{part}.safetensors",
            log=scratch / "log.jsonl",
            what=part,
            settings=to_json(settings),
            progress=partial(progress, part),
        )
        train = _train_saliency if part == FOLDER else partial(_train_projection, int(part.partition("-")[2]))
        trained = train(batches, learn)
        (folder / part).mkdir(exist_ok=True)
        trained.save(str(folder / part))
        done[part] = settings
        write_atomically(folder / "head.json", json.dumps(description, indent=2).encode() + b"\n")


def _settings(sets: Sequence[TrainingSet], training: HeadTraining) -> dict[str, Any]:
    """What a part was trained with, as the head's description says it."""
    return {
        "sets": {it.name: {"queries": len(it), "digest": it.digest} for it in sets},
        "shares": list(training.shares),
        "steps": training.steps,
        "batch": training.batch,
        "seed": training.seed,
        "gate": [_GATE_SHARE, _GATE_SHARE, _EPSILON],
    }


def _description(folder: Path, encoder: str, model: str) -> dict[str, Any]:
    """What is known of the head in a folder, or of a new one.

    Raises:
        InputError: it is one for another encoder, or its description is damaged.
    """
    file = folder / "head.json"
    if not file.exists():
        return {
            "model": model,
            "encoder": encoder,
            "library": version("qdrant-late-interaction"),
            "parts": {},
        }
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        own, parts = found["encoder"], found["parts"]
        if not isinstance(parts, dict):
            raise TypeError(f"parts are {parts!r:.80}")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            f"{file} is not a description of a head ({error!r:.300}); give another folder"
        ) from error
    if own != encoder:
        raise InputError(f"{folder} holds a head for {found.get('model')} ({own}), not {model} ({encoder})")
    return found


def _contrastive(scores: Tensor, batch: Batch, scale: Tensor) -> Tensor:
    """Cross entropy of each query's own passage among all of the batch (InfoNCE)."""
    masked = (scores * scale.exp()).masked_fill(batch.out, -1e4)
    return cross_entropy(masked, torch.arange(len(scores), device=scores.device))


def _scale(device: str) -> torch.nn.Parameter:
    """ln 1/τ, learned too."""
    return torch.nn.Parameter(torch.tensor(float(-np.log(_TEMPERATURE)), device=device))


def _train_projection(width: int, batches: Batches, learn: Callable[..., None]) -> Dense:
    """A projection that begins as the principal directions, and learns through its signs."""
    device, sample = batches.device, batches.sample()
    start, turn = PCA(width), Rotation()
    turn.fit(start.fit(sample, 0), 0)
    rotation = torch.from_numpy(turn.state()["matrix"]).to(device)
    matrix = torch.nn.Parameter(torch.from_numpy(start.state()["matrix"]).to(device) @ rotation)
    scale = _scale(device)

    def loss(step: int) -> Tensor:
        batch = batches(step)
        queries, passages = (normalize(it @ matrix, dim=1) for it in (batch.queries, batch.passages))
        signs = torch.where(passages >= 0, 1.0, -1.0) / width**0.5
        passages = passages + (signs - passages).detach()
        return _contrastive(batch.means(batch.maxima(queries @ passages.T)), batch, scale)

    learn({"matrix": matrix, "scale": scale}, loss, rate=_RATE)
    layer = Dense(batches.width, width, bias=False, activation_function=torch.nn.Identity())
    # Turned back: a codec rotates by itself.
    layer.linear.weight.data = (matrix.detach() @ rotation.T).T.contiguous().cpu()
    return layer


def _train_saliency(batches: Batches, learn: Callable[..., None]) -> SaliencyHead:
    """Saliency of both sides, on the tokens at full width."""
    device = batches.device
    head = SaliencyHead(batches.width, _GATE_SHARE, _GATE_SHARE, _EPSILON).to(device)
    scale = _scale(device)

    def weighed(linear: torch.nn.Linear, rows: Tensor, text_of: Tensor) -> tuple[Tensor, Tensor]:
        """λ and u (n,) of rows (n, w) of several texts."""
        lengths = torch.bincount(text_of)
        mask = torch.arange(int(lengths.max()), device=device)[None] < lengths[:, None]
        scores = torch.zeros(mask.shape, device=device).masked_scatter(mask, linear(rows)[:, 0])
        gates = gate(scores, mask, _GATE_SHARE, _EPSILON)
        return gates[mask], (gates * scores.relu())[mask]

    def loss(step: int) -> Tensor:
        batch = batches(step)
        gates, saliency = weighed(head.document, batch.passages, batch.passage_of)
        _, weights = weighed(head.query, batch.queries, batch.query_of)
        similarities = batch.queries @ batch.passages.T
        gated = batch.means(batch.maxima(similarities * gates), weights)
        aligned = batch.aligned(similarities, weights, saliency)
        return _contrastive(gated, batch, scale) + _contrastive(aligned, batch, scale)

    learn({**dict(head.named_parameters()), "scale": scale}, loss, rate=_SALIENCY_RATE)
    trained: SaliencyHead = head.cpu()
    return trained
