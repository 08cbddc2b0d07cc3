"""A fingerprint covers what makes the vectors, and nothing else."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForMaskedLM, ModernBertConfig, ModernBertModel

from connector import Connector, Document, Encoder, EncoderMismatch, ModelError, load_encoder
from tests.encoders.test_loading import HIDDEN, PIECES, SAVERS, TEXT, WINDOW, same, tokenizer

SMALL = {
    "vocab_size": len(PIECES),
    "hidden_size": HIDDEN,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": WINDOW,
}


def save_masked_language_model(folder: Path) -> None:
    torch.manual_seed(0)
    BertForMaskedLM(BertConfig(**SMALL)).save_pretrained(folder)
    tokenizer().save_pretrained(folder)


def save_modern(folder: Path) -> None:
    torch.manual_seed(0)
    ModernBertModel(ModernBertConfig(**SMALL, pad_token_id=0)).save_pretrained(folder)
    tokenizer().save_pretrained(folder)


def without_pooler(save: Callable[[Path], None]) -> Callable[[Path], None]:
    def saved(folder: Path) -> None:
        save(folder)
        file = weights_of(folder)
        kept = {key: it for key, it in load_file(file).items() if "pooler" not in key}
        save_file(kept, file, metadata={"format": "pt"})

    return saved


def weights_of(folder: Path) -> Path:
    """The file of the backbone's weights."""
    inner = folder / "0_Transformer" / "model.safetensors"
    return inner if inner.exists() else folder / "model.safetensors"


FAMILIES: dict[str, Callable[[Path], None]] = {
    "BERT": SAVERS["plain"],
    "BERT without its pooler": without_pooler(SAVERS["plain"]),
    "masked-language model": save_masked_language_model,
    "ModernBERT": save_modern,
    "PyLate": SAVERS["pylate"],
    "PyLate without its pooler": without_pooler(SAVERS["pylate"]),
    "Stanford": SAVERS["stanford"],
    "Stanford without its pooler": without_pooler(SAVERS["stanford"]),
    "sentence-transformers without its pooler": without_pooler(SAVERS["sentence"]),
}
each_family = pytest.mark.parametrize("family", FAMILIES)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {family: tmp_path_factory.mktemp("family") for family in FAMILIES}
    for family, save in FAMILIES.items():
        save(made[family])
    return made


@pytest.fixture(scope="module")
def loaded(folders: dict[str, Path]) -> dict[str, Encoder]:
    return {family: load_encoder(str(folder), device="cpu") for family, folder in folders.items()}


def fingerprint(folder: Path, seed: int = 7) -> str:
    torch.manual_seed(seed)  # what a checkpoint lacks is drawn otherwise
    return load_encoder(str(folder), device="cpu").fingerprint


def test_it_is_the_same_in_another_process(folders: dict[str, Path], loaded: dict[str, Encoder]) -> None:
    code = "import sys, connector; [print(connector.load_encoder(it).fingerprint) for it in sys.argv[1:]]"
    run = subprocess.run(
        [sys.executable, "-c", code, *map(str, folders.values())], capture_output=True, text=True, check=True
    )
    assert dict(zip(folders, run.stdout.split(), strict=True)) == {
        family: encoder.fingerprint for family, encoder in loaded.items()
    }


@each_family
def test_it_is_the_same_loaded_again_in_another_folder_and_after_saving(
    family: str, folders: dict[str, Path], loaded: dict[str, Encoder], tmp_path: Path
) -> None:
    expected = loaded[family].fingerprint
    assert fingerprint(folders[family]) == expected
    shutil.copytree(folders[family], tmp_path / "copy")
    assert fingerprint(tmp_path / "copy") == expected
    torch.manual_seed(8)
    load_encoder(str(folders[family]), device="cpu")._model.save_pretrained(str(tmp_path / "first"))  # type: ignore[attr-defined]
    load_encoder(str(tmp_path / "first"), device="cpu")._model.save_pretrained(str(tmp_path / "again"))  # type: ignore[attr-defined]
    assert fingerprint(tmp_path / "first", 9) == fingerprint(tmp_path / "again", 10)


@pytest.mark.parametrize("kind", ["plain", "pylate", "stanford"])
def test_a_pooler_that_nothing_uses_does_not_count(kind: str, tmp_path: Path) -> None:
    SAVERS[kind](tmp_path / "with")
    without_pooler(SAVERS[kind])(tmp_path / "without")
    assert fingerprint(tmp_path / "with") == fingerprint(tmp_path / "without")


@pytest.mark.parametrize("family", ["BERT", "BERT without its pooler", "ModernBERT"])
def test_every_weight_that_counts_counts(
    family: str, folders: dict[str, Path], loaded: dict[str, Encoder], tmp_path: Path
) -> None:
    shutil.copytree(folders[family], tmp_path, dirs_exist_ok=True)
    weights = load_file(weights_of(folders[family]))
    for key in weights:
        changed = {**weights, key: weights[key] + 0.25}
        save_file(changed, weights_of(tmp_path), metadata={"format": "pt"})
        assert (fingerprint(tmp_path) == loaded[family].fingerprint) == ("pooler" in key), key


def test_the_precision_on_disk_does_not_count_and_a_cpu_computes_in_float32(tmp_path: Path) -> None:
    for precision in (torch.float32, torch.float16):
        folder = tmp_path / str(precision)
        SAVERS["plain"](folder)
        halves = {key: it.half().to(precision) for key, it in load_file(weights_of(folder)).items()}
        save_file(halves, weights_of(folder), metadata={"format": "pt"})
    whole, half = (
        load_encoder(str(tmp_path / str(it)), device="cpu") for it in (torch.float32, torch.float16)
    )
    assert half.fingerprint == whole.fingerprint
    assert same(half.encode_documents([TEXT])[0], whole.encode_documents([TEXT])[0], 1e-6)
    weights = half._model.parameters()  # type: ignore[attr-defined]
    assert {weight.dtype for weight in weights} == {torch.float32}


def test_a_weight_that_counts_and_is_missing_is_named(tmp_path: Path) -> None:
    SAVERS["plain"](tmp_path)
    key = "encoder.layer.1.output.dense.weight"
    weights = load_file(weights_of(tmp_path))
    del weights[key]
    save_file(weights, weights_of(tmp_path), metadata={"format": "pt"})
    with pytest.raises(ModelError, match=rf"lacks 1 of the weights that make its vectors, such as {key}"):
        load_encoder(str(tmp_path), device="cpu")


def test_a_collection_made_without_a_pooler_is_searched_by_another_process(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    place = {"path": tmp_path / "q", "device": "cpu"}
    torch.manual_seed(1)
    model = str(folders["BERT without its pooler"])
    with Connector.create("docs", **place, recipe="colbert", model=model) as docs:
        docs.ingest([Document(id="a", text=TEXT)])
    torch.manual_seed(2)
    with Connector.open("docs", **place) as docs:
        assert docs.search("otters")[0].id == "a"


def test_a_collection_of_before_is_recognised_by_the_former_fingerprint(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    model = str(folders["BERT"])
    place = {"path": tmp_path / "q", "device": "cpu"}
    encoder = load_encoder(model, device="cpu")
    assert encoder.former_fingerprint != encoder.fingerprint  # type: ignore[attr-defined]
    with Connector.create("docs", **place, recipe="colbert", model=model) as docs:
        docs.ingest([Document(id="a", text=TEXT)])
        docs.collection.write_metadata(encoder=encoder.former_fingerprint)  # type: ignore[attr-defined]
    with Connector.open("docs", **place) as docs:
        assert docs.search("otters")[0].id == "a"
        assert docs.ingest([Document(id="b", text=f"{TEXT} {TEXT}")]).documents == 1
        docs.collection.write_metadata(encoder="0" * 16)
    with (
        Connector.open("docs", **place) as docs,
        pytest.raises(EncoderMismatch, match="had another fingerprint in each process"),
    ):
        docs.search("otters")
