"""Encoders whose reduction happens in the encoder itself, to be trained, saved and loaded as checkpoints.

Each function makes a sentence-transformers `MultiVectorEncoder` from a base model. Train it, save it with
`save_pretrained(folder)`, and give the folder to `load_encoder` or `--model`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import MultiVectorEncoder
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
from sentence_transformers.sentence_transformer.modules import Pooling

from connector.compression.saliency import FOLDER, Saliency
from connector.core.errors import ModelError, one_line
from connector.encoders.loading import local_place
from connector.encoders.modules import SaliencyGate, SaliencyHead, ScoreMix, TokenReduction
from connector.encoders.rows import prompt_names, prompt_of


def me_bert(base: str, vectors: int = 4) -> MultiVectorEncoder:
    """ME-BERT: a passage is the first m outputs of the transformer, a query the first one.

    MaxSim is then the largest inner product of the query's vector with a passage's m vectors. Source: Luan,
    Eisenstein, Toutanova and Collins, "Sparse, Dense, and Attentional Representations for Text Retrieval",
    TACL 2021, section 5; m = 3 or 4 there.

    Args:
        base: a transformer, as id or folder.
        vectors: m, at least 1.
    """
    transformer = Transformer(local_place(base))
    return MultiVectorEncoder(
        modules=[
            transformer,
            Pooling(transformer.get_embedding_dimension(), "cls"),
            MultiVectorMask(),
            Normalize(module_input_name="token_embeddings"),
            TokenReduction(f"first-{vectors}"),
            TokenReduction("first-1", tasks=["query"]),
        ]
    )


def colberter(
    base: str, cls_width: int = 128, token_width: int = 32, stopwords: bool = True
) -> MultiVectorEncoder:
    """ColBERTer: two linear heads, whole words, contextual stop words, a trained share of CLS in the score.

    The heads are drawn at random: train the model before it is used. The score is
    σ(γ) · CLS + (1 − σ(γ)) · MaxSim, with γ = 0 at first. Source: Hofstätter, Khattab, Althammer, Sertkan and
    Hanbury, "Introducing Neural Bag of Whole-Words with ColBERTer", CIKM 2022; its token widths: 32, 16, 8.

    Args:
        base: a transformer, as id or folder.
        cls_width: of the CLS vectors.
        token_width: of the token vectors.
        stopwords: drop the words of passages that a gate stops; a new gate lets all through.
    """
    transformer = Transformer(local_place(base))
    width = transformer.get_embedding_dimension()
    gate = [SaliencyGate(token_width), TokenReduction("contextual-stopwords")] if stopwords else []
    return MultiVectorEncoder(
        modules=[
            transformer,
            Pooling(width, "cls"),
            _linear(width, cls_width, "sentence_embedding"),
            _linear(width, token_width, "token_embeddings"),
            MultiVectorMask(),
            Normalize(module_input_name="token_embeddings"),
            TokenReduction("whole-words", tasks=["query", "document"]),
            *gate,
            ScoreMix(),
        ]
    )


def with_unused_tokens(model: MultiVectorEncoder, count: int) -> MultiVectorEncoder:
    """Put `count` of the vocabulary's [unusedN] tokens before each passage, and keep only their vectors.

    The model must be trained so before its vectors are worth anything. The tokens come after the prompt that
    passages have already. Source: "unused-k", Lassance et al., SIGIR 2022.

    Args:
        model: is changed.
        count: k, at least 1.

    Returns:
        The model.

    Raises:
        ModelError: the vocabulary has fewer such tokens, or the model has such tokens already.
    """
    tokenizer = model.tokenizer
    found = (re.fullmatch(r"\[unused([0-9]+)\]", name) for name in tokenizer.get_vocab())
    known = sorted(int(match[1]) for match in found if match)
    names = [f"[unused{number}]" for number in known[:count]]
    if count < 1 or len(names) < count:
        raise ModelError(f"{count} [unusedN] tokens when the vocabulary has {len(known)}; give up to that")
    if any(isinstance(it, TokenReduction) and it.reduction.startswith("unused") for it in model.children()):
        raise ModelError("the model has [unusedN] tokens already; begin with one that has none")
    tokenizer.add_special_tokens({"additional_special_tokens": names}, replace_extra_special_tokens=False)
    prompt = prompt_of(model.prompts, "document") or ""
    name = next((it for it in prompt_names("document") if model.prompts.get(it)), "document")
    model.prompts[name] = prompt + "".join(f"{token} " for token in names)
    module = TokenReduction(f"unused-{count}")
    model.append(module)
    module.on_model_ready(model)
    return model


def with_saliency(model: MultiVectorEncoder, head: str) -> MultiVectorEncoder:
    """Let a checkpoint bring its saliency: its embeddings say what tokens count, whatever the recipe's head.

    Args:
        model: is changed; its tokens are those that the head was trained on.
        head: folder of the trained head.

    Returns:
        The model.

    Raises:
        ModelError: the folder holds no saliency, or one for tokens of another width.
    """
    folder = Path(head) / FOLDER
    width = model.get_embedding_dimension()
    try:
        if width is not None:
            Saliency(head).check(width)  # before memory is taken for it
        module = SaliencyHead.load(str(folder if folder.is_dir() else head))
    except Exception as error:  # damaged files fail in many ways
        said = one_line(str(error))
        raise ModelError(f"head {head!r} has no saliency that can be loaded: {said}; train one") from error
    model.append(module)
    return model


def _linear(width: int, out: int, name: str) -> Any:
    return Dense(width, out, bias=True, activation_function=torch.nn.Identity(), module_input_name=name)
