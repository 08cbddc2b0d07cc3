"""Steps of an optimizer that can be killed and go on: what was learned, and where it stood, in one file."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from connector.core.errors import InputError

Loss = Callable[[int], Tensor]
"""The loss of the batch of a step; the same for the same step and weights."""


_WARM = 30


_EVERY = 50
"""Steps between two checkpoints, and two lines of the log."""


def run(
    parameters: Mapping[str, torch.nn.Parameter],
    loss: Loss,
    *,
    steps: int,
    rate: float,
    decay: float = 0.98,
    checkpoint: Path | None = None,
    log: Path | None = None,
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
        decay: of the moving average.
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
    average = {name: value.detach().clone() for name, value in parameters.items()}
    state = _State(dict(parameters), average, optimizer, _about(steps, settings))
    done = 0 if checkpoint is None or not checkpoint.exists() else state.load(checkpoint)
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
        keep = min(decay, (step + 1) / (step + 10))
        for name, parameter in parameters.items():
            average[name].mul_(keep).add_(parameter.detach(), alpha=1 - keep)
        losses.append(value.item())
        if (step + 1) % _EVERY == 0 or step + 1 == steps:
            if checkpoint is not None:
                state.save(checkpoint, step + 1)
            if log is not None:
                _write(log, what, step + 1, losses, now, time.perf_counter() - started)
            losses = []
        progress(step + 1)
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(average[name])
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)


def check_checkpoint(path: Path, steps: int, settings: str) -> None:
    """Look whether `run` would go on from a checkpoint, if it is there.

    Raises:
        InputError: it is of another training, or damaged.
    """
    if path.exists():
        with _checkpoint(path, _about(steps, settings)):
            pass


def _about(steps: int, settings: str) -> str:
    return f"{steps} {settings}"


@contextmanager
def _checkpoint(path: Path, settings: str) -> Iterator[Any]:
    """The opened file of a checkpoint of these settings."""
    try:
        with safe_open(path, "torch") as file:
            if file.metadata()["settings"] != settings:
                raise ValueError(f"it is of a training with {file.metadata()['settings']}, not {settings}")
            yield file
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise InputError(f"checkpoint {path} does not fit ({error}); delete it to begin anew") from error


def _write(log: Path, what: str, step: int, losses: list[float], rate: float, seconds: float) -> None:
    mean = round(sum(losses) / len(losses), 5)
    line = {"what": what, "step": step, "loss": mean, "rate": rate, "seconds": round(seconds, 1)}
    with log.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


class _State:
    """Weights, their average, and the optimizer's two moments."""

    def __init__(
        self,
        parameters: dict[str, torch.nn.Parameter],
        average: dict[str, Tensor],
        optimizer: torch.optim.AdamW,
        settings: str,
    ) -> None:
        self._parameters = parameters
        self._average = average
        self._optimizer = optimizer
        self._settings = settings

    def save(self, path: Path, step: int) -> None:
        arrays = {}
        for name, parameter in self._parameters.items():
            moments = self._optimizer.state[parameter]
            arrays[f"{name}/weight"] = parameter.detach()
            arrays[f"{name}/average"] = self._average[name]
            arrays[f"{name}/first"] = moments["exp_avg"]
            arrays[f"{name}/second"] = moments["exp_avg_sq"]
        temporary = path.with_suffix(".tmp")
        save_file(
            {name: array.contiguous() for name, array in arrays.items()},
            temporary,
            metadata={"step": str(step), "settings": self._settings},
        )
        temporary.replace(path)

    def load(self, path: Path) -> int:
        """The number of steps done."""
        with _checkpoint(path, self._settings) as file:
            step = int(file.metadata()["step"])
            for name, parameter in self._parameters.items():
                arrays = {
                    part: file.get_tensor(f"{name}/{part}").to(parameter.device)
                    for part in ("weight", "average", "first", "second")
                }
                with torch.no_grad():
                    parameter.copy_(arrays["weight"])
                self._average[name].copy_(arrays["average"])
                self._optimizer.state[parameter] = {
                    "step": torch.tensor(float(step)),
                    "exp_avg": arrays["first"],
                    "exp_avg_sq": arrays["second"],
                }
        return step
