"""Saved arrays, which may be damaged: read whole, and looked at before they are used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load

Arrays = dict[str, NDArray[Any]]

_LARGEST = 1e15
"""Of a learned number; nothing learned comes near, and products of such vectors are still finite."""


def load_arrays(data: bytes) -> Arrays:
    """The arrays of a safetensors file.

    Raises:
        ValueError: the bytes are not such a file, or hold numbers of a type that NumPy lacks.
    """
    try:
        return dict(load(data))
    except Exception as error:  # damaged files fail in many ways
        raise ValueError(f"no safetensors file: {error!r:.200}") from error


def check_learned(arrays: Mapping[str, NDArray[Any]]) -> None:
    """Look whether arrays can be what was learned.

    Raises:
        ValueError: one holds something else than finite floats of a sane size.
    """
    for name, array in arrays.items():
        if array.dtype.kind != "f" or not float(np.abs(array).max(initial=0)) <= _LARGEST:
            raise ValueError(f"{name:.80} ({array.dtype}) holds what is no finite float up to {_LARGEST:g}")
