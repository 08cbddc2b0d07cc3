"""fast-plaid, the engine of PyLate's PLAID index, in a process and an environment of its own."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from _peers_data import Task
from _peers_systems import Answer, Facts, allocated

from connector.core.types import Float32

REQUIREMENT = "fast-plaid==1.7.0.2110"


def environment(folder: Path) -> Path:
    """The Python of an environment with fast-plaid, made if it is not there.

    Raises:
        RuntimeError: it cannot be installed.
    """
    home = folder / REQUIREMENT.replace("==", "-")
    python = home / ("Scripts" if os.name == "nt" else "bin") / "python"
    if python.exists() and not _call(python, "-c", "import fast_plaid.search").returncode:
        return python
    print(f"installing {REQUIREMENT} into an environment of its own (about 5 GB)", file=sys.stderr)
    made = _call(Path(sys.executable), "-m", "venv", str(home))
    if not made.returncode:
        made = _call(python, "-m", "pip", "install", "--no-cache-dir", REQUIREMENT)
    if made.returncode:
        raise RuntimeError(f"pip install {REQUIREMENT} failed: {_last(made.stderr or made.stdout)}")
    return python


def _call(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)


def _last(said: str) -> str:
    lines = [line for line in said.splitlines() if line.strip() and not line.startswith("[notice]")]
    return lines[-1].strip() if lines else "it said nothing"


def write_vectors(task: Task, folder: Path) -> None:
    """All token vectors, float32, for the other process to read."""
    folder.mkdir()
    for name, embeddings in (("passages", task.passages), ("queries", task.queries)):
        lengths = np.array([len(it) for it in embeddings])
        np.save(folder / f"{name}-lengths.npy", lengths)
        shape = (int(lengths.sum()), embeddings[0].tokens.shape[1])
        rows: Float32 = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.float32, shape)
        np.concatenate([it.tokens for it in embeddings], out=rows)
        rows.flush()


class Index:
    """An index with some bits a dimension, and the process that answers from it.

    Args:
        task: what was written to `vectors`.
        python: of the environment.
        vectors: see `write_vectors`.
        home: a new folder for the index.
        bits: of a dimension of a residual.

    Raises:
        RuntimeError: the other process has ended.
    """

    def __init__(self, task: Task, python: Path, vectors: Path, home: Path, bits: int) -> None:
        self._ids = [it.id for it in task.documents]
        self._said = home.with_suffix(".stderr")
        worker = Path(__file__).with_name("_plaid_worker.py")
        with self._said.open("w") as errors:
            self._process = subprocess.Popen(
                [str(python), str(worker), str(vectors), str(home), str(bits)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        try:
            hello = self._read()
            self.versions: dict[str, str] = hello["versions"]
            self.defaults: dict[str, int] = hello["defaults"]
            total = allocated(home) / len(self._ids)
            vectors_alone = sum(allocated(home, only=f"*{it}*.npy") for it in ("codes", "residuals"))
            self.facts = Facts(total, vectors_alone / len(self._ids), hello["seconds"])
            self.holds = _holds(home)
        except BaseException:
            self.close()
            raise

    def ask(self, numbers: Sequence[int], options: dict[str, int]) -> list[Answer]:
        pipe = _open(self._process.stdin)
        with contextlib.suppress(BrokenPipeError):  # what it died of is read below
            pipe.write(json.dumps([list(numbers), options]) + "\n")
            pipe.flush()
        return [Answer({self._ids[it]: score for it, score in found}, ms) for found, ms in self._read()]

    def close(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            _open(self._process.stdin).close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        _open(self._process.stdout).close()

    def _read(self) -> Any:
        line = _open(self._process.stdout).readline()
        if line:
            return json.loads(line)
        code = self._process.wait()
        raise RuntimeError(f"its process ended with {code}: {_last(self._said.read_text())}")


class Plaid:
    """An index, searched in one way; whoever made the index closes it.

    Args:
        index: which.
        scored: `n_full_scores`; None for its default.
    """

    def __init__(self, index: Index, scored: int | None = None) -> None:
        self._index, self.versions, self.facts = index, index.versions, index.facts
        self._options = {} if scored is None else {"n_full_scores": scored}
        given = ", ".join(f"{name} {value}" for name, value in (index.defaults | self._options).items())
        how = "with its defaults" if scored is None else "searched for less"
        self.note = f"fast-plaid's index {how} ({given}). {index.holds}"

    def ask(self, numbers: Sequence[int]) -> list[Answer]:
        return self._index.ask(numbers, self._options)

    everything = ask

    def close(self) -> None:
        """The index stays open for others."""


def _open(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


def _holds(home: Path) -> str:
    """What the folder consists of."""
    total = allocated(home)
    shares = {
        "codes": allocated(home, only="*codes*.npy"),
        "residuals": allocated(home, only="*residuals*.npy"),
        "inverted lists": allocated(home, only="ivf*"),
        "centroids": allocated(home, only="centroids*"),
        "raw float vectors, which it keeps of small sets": allocated(home, only="embeddings*")
        + allocated(home, only="buffer*"),
    }
    shares["other files"] = total - sum(shares.values())
    said = ", ".join(f"{100 * size / total:.1f} % {name}" for name, size in shares.items() if size)
    return f"At rest it holds {said}; neither texts nor ids."
