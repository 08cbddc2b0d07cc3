"""What a batch says of each token: its vector, where it stands, and of which word it is a piece."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Encoding
from torch import Tensor

from connector.core.types import OPTIONAL_FIELDS, Float32, Int32


def prompt_of(prompts: Mapping[str, str | None], task: str | None) -> str | None:
    """What a pipeline puts before the texts of a task, if anything."""
    return next((prompts[name] for name in prompt_names(task) if prompts.get(name)), None)


def prompt_names(task: str | None) -> tuple[str, ...]:
    """The names under which checkpoints keep the prompt of a task, in the order in which they are asked."""
    return ("query",) if task == "query" else ("document", "passage", "corpus")


def unit(vectors: Tensor) -> Float32:
    """(…, w) float32 vectors of unit length."""
    scaled: Float32 = torch.nn.functional.normalize(vectors.detach().float(), dim=-1).cpu().numpy()
    return scaled


def rows_of(
    features: Mapping[str, Tensor], encodings: Sequence[Encoding], prompt: int
) -> Iterator[dict[str, Any]]:
    """For each text of a batch the fields that an `Embedding` has for each token.

    Args:
        features: "token_embeddings" (B, T, w), "input_ids" (B, T), "attention_mask" (B, T), and what there is
            of the optional fields (B, T).
        encodings: of the tokenizer, one a text.
        prompt: characters that stand before each text.
    """
    arrays = {name: features[name] for name in OPTIONAL_FIELDS if features.get(name) is not None}
    fields: dict[str, NDArray[Any]] = {
        "tokens": unit(features["token_embeddings"]),
        "token_ids": features["input_ids"].cpu().numpy().astype(np.int32),
        **{name: array.detach().float().cpu().numpy() for name, array in arrays.items()},
    }
    masks = features["attention_mask"].bool().cpu().numpy()
    for number, (mask, encoding) in enumerate(zip(masks, encodings, strict=True)):
        rows = scored(mask)
        offsets, words = places(encoding, rows, prompt)
        own = {name: array[number][rows] for name, array in fields.items()}
        yield {**own, "offsets": offsets, "word_ids": words}


def scored(mask: NDArray[np.bool_]) -> NDArray[np.intp]:
    """The rows of a text that its mask (T,) leaves; the first one where it leaves none."""
    return np.flatnonzero(mask) if mask.any() else np.zeros(1, np.intp)


def places(encoding: Encoding, rows: NDArray[np.intp], prompt: int) -> tuple[Int32, Int32]:
    """Offsets and word numbers of these rows; rows of prompt, padding and special tokens have none.

    A special token that stands in the text itself, such as "[MASK]", has offsets and no word.
    The tokenizer counts characters from the start of the prompt and words likewise; the text's own
    first word becomes word 0. Query expansion may add rows that the tokenizer knows nothing of.
    """
    count = len(encoding.ids)
    # Each of these attributes is a list that is made again when it is asked for.
    spans = np.array(encoding.offsets, np.int32).reshape(count, 2)
    numbers = np.array([-1 if word is None else word for word in encoding.word_ids], np.int32)
    inside = (numbers >= 0) & (spans[:, 0] >= prompt)
    numbers = np.where(inside, numbers - numbers[inside].min(initial=np.iinfo(np.int32).max), -1)
    known = rows[rows < count]
    offsets = np.zeros((len(rows), 2), np.int32)
    words = np.full(len(rows), -1, np.int32)
    own = spans[known, :1] >= prompt
    offsets[: len(known)] = np.where(own, spans[known] - prompt, 0)
    words[: len(known)] = numbers[known]
    return offsets, words
