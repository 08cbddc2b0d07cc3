"""A process has a model once on a device, for as long as anybody uses it."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from connector import Connector, Document, Encoder, Reranker, load_encoder
from tests.encoders.test_loading import SAVERS, save_plain, save_sentence


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_sentence(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Nothing is freed but what nothing refers to any more."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_whoever_asks_for_a_model_in_use_is_given_the_same(folder: Path, monkeypatch: Any) -> None:
    encoder = load_encoder(str(folder))
    monkeypatch.chdir(folder.parent)
    assert load_encoder("model", "cpu") is encoder
    assert Reranker("model").encoder is encoder
    save_sentence(other := folder.parent / "other")
    assert load_encoder(str(other)) is not encoder


def test_threads_that_ask_at_once_are_given_the_same(folder: Path) -> None:
    found: list[Encoder] = []
    together = threading.Barrier(4)

    def ask() -> None:
        together.wait()
        found.append(load_encoder(str(folder)))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len({id(encoder) for encoder in found}) == 1


def test_a_folder_that_was_changed_is_loaded_anew(folder: Path) -> None:
    before = load_encoder(str(folder))
    save_sentence(folder, seed=1)
    after = load_encoder(str(folder))
    assert after.fingerprint != before.fingerprint
    assert load_encoder(str(folder)) is after


def test_an_encoder_of_ones_own_is_given_to_nobody_else(folder: Path) -> None:
    class Own:
        name = str(folder)
        encode_documents = None

    own: Any = Own()
    assert load_encoder(own) is own
    assert load_encoder(str(folder)) is not own


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("kind", SAVERS)
def test_a_model_is_freed_with_its_last_user(kind: str, tmp_path: Path) -> None:
    SAVERS[kind](tmp_path / "model")
    encoder: Any = load_encoder(str(tmp_path / "model"))
    encoder.encode_documents(["the otter"], attention=True)
    encoder.fingerprint  # noqa: B018
    parts = [weakref.ref(module) for module in encoder._model.modules()]
    reranker = Reranker(encoder)
    del encoder
    reranker.rank("otter", ["the otter", "the lake"])
    assert all(part() is not None for part in parts)
    del reranker
    assert not any(part() is not None for part in parts)


@pytest.mark.usefixtures("uncollected")
def test_a_connector_that_is_closed_lets_its_model_go(folder: Path, tmp_path: Path) -> None:
    with Connector.create("docs", path=tmp_path / "q", recipe="tiny", model=str(folder)) as made:
        made.ingest([Document(id="a", text="the otter")])
    with (
        Connector.open("docs", path=tmp_path / "q") as first,
        Connector.open_or_create("docs", path=tmp_path / "q") as second,
    ):
        assert first.encoder is second.encoder
        model = weakref.ref(first.encoder)
        first.close()
        assert second.search("otter")[0].id == "a"
    assert model() is None


FORK = """
import os, signal, sys, threading
from connector import Reranker, load_encoder
from connector.encoders import loading
encoder = load_encoder(sys.argv[1], "cpu")
texts = ["the otter holds hands " * 20] * 64
expected = encoder.encode_documents(texts)
held = threading.Event()
def hold():
    with loading._LOADING, encoder._tokenizing:
        held.set()
        threading.Event().wait()
threading.Thread(target=hold, daemon=True).start()
held.wait()
child = os.fork()
if child == 0:
    signal.alarm(60)  # which ends the process whatever it waits for
    found = encoder.encode_documents(texts)
    assert all(abs(one.tokens - other.tokens).max() < 1e-5 for one, other in zip(found, expected))
    assert load_encoder(sys.argv[1], "cpu") is encoder
    Reranker(sys.argv[2], device="cpu").rank("otter", texts)
    print("went on", flush=True)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
os._exit(0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system forks no processes")
def test_encoders_go_on_working_after_a_fork(folder: Path, tmp_path: Path) -> None:
    """Though the process before computed with several threads, of which one was loading and tokenizing."""
    save_plain(tmp_path / "other")
    command = [sys.executable, "-W", "ignore", "-c", FORK, str(folder), str(tmp_path / "other")]
    run = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "2"}, capture_output=True, text=True)
    assert run.stdout == "went on\n", run.stderr
