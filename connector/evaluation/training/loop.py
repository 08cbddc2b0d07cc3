"""Steps of an optimizer that can be killed and go on: what was learned, and where it stood, in one file."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from connector.core.errors import InputError
from connector.core.io import write_atomically

Loss = Callable[[int], Tensor]
"""The loss of the batch of a step; the same for the same step and weights."""


_WARM = 30


_EVERY = 50
"""Steps between two checkpoints, and two lines of the log."""


_DECAY = 0.98
"""Of the moving average."""


def run(
    parameters: Mapping[str, torch.nn.Parameter],
    loss: Loss,
    *,
    steps: int,
    rate: float,
    checkpoint: Path,
    log: Path,
    what: str = "",
    settings: str = "",
    progress: Callable[[int], None] = lambda _: None,
) -> None:
    """Train parameters by AdamW, and leave them at the moving average of where they were.

    The rate rises over the first steps and then falls to nothing in a straight line.

    Args:
        parameters: by name; changed.
        loss: of a step's batch.
        steps: how many in all.
        rate: the highest learning rate.
        checkpoint: file to go on from, if it is there, and to write every 50 steps; it is deleted at the end.
        log: file to which a JSON line is added with each checkpoint: "what", "step", "loss" (mean since the
            last line), "rate", "seconds".
        what: said in the log.
        settings: all else that the training depends on; a checkpoint with others is of another training.
        progress: called with the number of steps done.

    Raises:
        InputError: the checkpoint is of another training.
    """
    optimizer = torch.optim.AdamW(list(parameters.values()), lr=rate, weight_decay=0.0)
    state = _state(parameters, optimizer)
    settings = f"{steps} {settings}"
    done = _load(state, checkpoint, settings) if checkpoint.exists() else 0
    losses: list[float] = []
    started = time.perf_counter()
    progress(done)
    for step in range(done, steps):
        now = rate * min(1.0, (step + 1) / _WARM) * (1 - step / steps)
        optimizer.param_groups[0]["lr"] = now
        optimizer.zero_grad()
        value = loss(step)
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        keep = min(_DECAY, (step + 1) / (step + 10))
        for name, parameter in parameters.items():
            state[f"{name}/average"].mul_(keep).add_(parameter.detach(), alpha=1 - keep)
        losses.append(value.item())
        if (step + 1) % _EVERY == 0 or step + 1 == steps:
            write_atomically(checkpoint, save(state, {"step": str(step + 1), "settings": settings}))
            mean, seconds = sum(losses) / len(losses), time.perf_counter() - started
            line = {"what": what, "step": step + 1, "loss": round(mean, 5), "rate": now}
            with log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line | {"seconds": round(seconds, 1)}) + "\n")
            losses = []
        progress(step + 1)
    for name, parameter in parameters.items():
        parameter.data.copy_(state[f"{name}/average"])
    checkpoint.unlink(missing_ok=True)


def _state(parameters: Mapping[str, torch.nn.Parameter], optimizer: torch.optim.AdamW) -> dict[str, Tensor]:
    """All that a training goes on from: weights, their average, and what the optimizer keeps of each.

    The tensors are those that the optimizer works on, so they are always up to date, and loaded in place.
    """
    state: dict[str, Tensor] = {}
    for name, parameter in parameters.items():
        weight = parameter.data
        zeros = torch.zeros_like(weight)
        kept = {"step": torch.tensor(0.0), "exp_avg": zeros, "exp_avg_sq": zeros.clone()}
        optimizer.state[parameter] = kept
        parts = {"weight": weight, "average": weight.clone(), **kept}
        state |= {f"{name}/{part}": tensor for part, tensor in parts.items()}
    return state


def _load(state: Mapping[str, Tensor], checkpoint: Path, settings: str) -> int:
    """Take the state from a checkpoint; how many steps were done then."""
    try:
        with safe_open(checkpoint, "torch") as file:
            about = file.metadata()
            if about["settings"] != settings:
                raise ValueError(f"it is of a training with {about['settings']}, not {settings}")
            for name, tensor in state.items():
                tensor.copy_(file.get_tensor(name))
            return int(about["step"])
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise InputError(
            f"checkpoint {checkpoint} does not fit ({error}); delete it to begin again"
        ) from error
