"""What a sweep has done so far, in a folder: codes and results, each a file that is whole or not there."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from connector.coding import Coded
from connector.core.errors import InputError
from connector.core.io import to_json
from connector.recipes import Recipe
from connector.tuning.frontier import Trial

_STORED = ("reduction", "codec", "head", "saliency")
"""What of a recipe decides the codes of its tokens."""

_SCORED = (*_STORED, "layout", "alignment", "cls", "query_reduction")
"""What decides a trial."""


class Ledger:
    """The folder of one task.

    Args:
        folder: made if missing.

    Raises:
        InputError: the folder cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"{folder} cannot be made: {error.strerror}; give another with --cache"
            ) from error

    def trial(self, recipe: Recipe) -> Trial | None:
        """The trial of a recipe, whatever it was called; None if there was none."""
        try:
            kept = self.read(_name(recipe, _SCORED))
            values = np.array(kept["values"], np.float64)
            ms = None if kept["ms"] is None else float(kept["ms"])
            return Trial(recipe, float(kept["bytes"]), float(kept["tokens"]), values, ms)
        except (KeyError, TypeError, ValueError):  # there was none, or its file is damaged
            return None

    def keep(self, trial: Trial) -> None:
        """Keep a trial, in place of an earlier one of the same recipe."""
        kept = {
            "recipe": trial.recipe.name,
            "bytes": trial.bytes_per_passage,
            "tokens": trial.tokens_per_passage,
            "ms": trial.ms,
            "values": trial.values.tolist(),
        }
        self.write(_name(trial.recipe, _SCORED), kept)

    def codes(self, recipe: Recipe, cls_width: int) -> Coded | None:
        """The passages under a recipe; None if nothing is kept, or it cannot be read."""
        try:
            arrays = load_file(self._codes(recipe))
            codec = recipe.make_codec().load(arrays["codec"].tobytes())
        except (FileNotFoundError, SafetensorError, KeyError, InputError):
            return None
        return Coded(recipe, codec, arrays["rows"], arrays["lengths"], arrays.get("saliency"), cls_width)

    def keep_codes(self, coded: Coded) -> None:
        """Keep the passages under a recipe."""
        arrays = {"rows": coded.rows, "lengths": coded.lengths}
        arrays["codec"] = np.frombuffer(coded.codec.save(), np.uint8)
        if coded.saliency is not None:
            arrays["saliency"] = coded.saliency
        path = self._codes(coded.recipe)
        temporary = path.with_suffix(".tmp")
        save_file(arrays, temporary)
        temporary.replace(path)

    def read(self, name: str) -> Any:
        """What `write` wrote under a name; None if nothing, or nothing whole."""
        try:
            return json.loads((self._folder / f"{name}.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None

    def write(self, name: str, value: Any) -> None:
        """Write a value that JSON can hold."""
        path = self._folder / f"{name}.json"
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(value), encoding="utf-8")
        temporary.replace(path)

    @staticmethod
    def stored(recipe: Recipe) -> str:
        """Alike for recipes that store the same codes."""
        return _name(recipe, _STORED)

    def _codes(self, recipe: Recipe) -> Path:
        return self._folder / f"{self.stored(recipe)}.safetensors"


def _name(recipe: Recipe, fields: tuple[str, ...]) -> str:
    content = to_json([getattr(recipe, field) for field in fields])
    return hashlib.sha256(content.encode()).hexdigest()[:16]
