"""Where the tokens of a pipeline stand in the text."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding

from connector.core.types import Int32


def prompt_of(prompts: Mapping[str, str | None], task: str | None) -> str | None:
    """What a pipeline puts before the texts of a task, if anything."""
    return next((prompts[name] for name in prompt_names(task) if prompts.get(name)), None)


def prompt_names(task: str | None) -> tuple[str, ...]:
    """The names under which checkpoints keep the prompt of a task, in the order in which they are asked."""
    return ("query",) if task == "query" else ("document", "passage", "corpus")


def places(encoding: Encoding, rows: NDArray[np.intp], prompt: int) -> tuple[Int32, Int32]:
    """Offsets and word numbers of these rows; rows of prompt, padding and special tokens have none.

    A special token that stands in the text itself, such as "[MASK]", has offsets and no word.
    The tokenizer counts characters from the start of the prompt and words likewise; the text's own
    first word becomes word 0. Query expansion may add rows that the tokenizer knows nothing of.
    """
    count = len(encoding.ids)
    # Each of these attributes is a list that is made anew when it is asked for.
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
