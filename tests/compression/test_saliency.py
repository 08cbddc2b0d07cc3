"""Saliency: the gate against a generic solver and its limits, the head, and its byte."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from connector import Encoder
from connector.compression.codecs import parse_codec
from connector.compression.reduction import parse_query_reduction, parse_reduction
from connector.compression.saliency import Saliency, gate, salience
from connector.core.errors import InputError, RecipeError
from connector.encoders.modules import SaliencyHead
from tests.conftest import TEXTS


def one_gate(scores: np.ndarray, share: float, epsilon: float) -> np.ndarray:
    """λ (n,) of one text, in double precision."""
    found: np.ndarray = gate(
        torch.from_numpy(scores)[None], torch.ones(1, len(scores), dtype=torch.bool), share, epsilon
    )[0].numpy()
    return found


def by_iteration(scores: np.ndarray, k: float, epsilon: float, rounds: int = 20_000) -> np.ndarray:
    """The paper's algorithm."""
    a, b = 0.0, np.zeros_like(scores)
    for _ in range(rounds):
        exponents = (scores + b) / epsilon
        top = exponents.max()
        a = epsilon * np.log(k) - epsilon * (top + np.log(np.exp(exponents - top).sum()))
        b = np.minimum(-scores - a, 0)
    gates: np.ndarray = np.exp((scores + b + a) / epsilon)
    return gates


@pytest.mark.parametrize("epsilon", [0.05, 0.3, 1.0, 10.0])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.75])
def test_the_gate_solves_the_programme(epsilon: float, share: float, rng: np.random.Generator) -> None:
    scores = rng.normal(size=6)
    k = np.ceil(share * 6)
    solved = minimize(
        lambda gates: -(scores @ gates) + epsilon * (gates * np.log(np.maximum(gates, 1e-12))).sum(),
        np.full(6, k / 6),
        bounds=[(1e-9, 1)] * 6,
        constraints={"type": "eq", "fun": lambda gates: gates.sum() - k},
        method="SLSQP",
        options={"ftol": 1e-12, "maxiter": 1000},
    )
    np.testing.assert_allclose(one_gate(scores, share, epsilon), solved.x, atol=1e-3)


@pytest.mark.parametrize("epsilon", [0.01, 0.1, 1.0, 100.0])
def test_the_gate_is_where_the_iteration_ends(epsilon: float, rng: np.random.Generator) -> None:
    scores = rng.normal(size=15)
    np.testing.assert_allclose(one_gate(scores, 0.4, epsilon), by_iteration(scores, 6, epsilon), atol=1e-5)


def test_the_gate_by_hand() -> None:
    # k = 2 of four. At 1: the first, as 2·e⁴/(e⁴ + e² + 2) > 1. The others share 1 as e² : 1 : 1.
    scores = np.array([4.0, 2.0, 0.0, 0.0])
    rest = np.exp(2) + 2
    np.testing.assert_allclose(
        one_gate(scores, 0.5, 1.0), [1, np.exp(2) / rest, 1 / rest, 1 / rest], atol=1e-12
    )


def test_without_entropy_the_highest_pass_and_with_nothing_else_all_alike(rng: np.random.Generator) -> None:
    scores = rng.normal(size=12)
    highest = np.zeros(12)
    highest[np.argsort(-scores)[:5]] = 1
    np.testing.assert_allclose(one_gate(scores, 0.4, 1e-5), highest, atol=1e-6)
    np.testing.assert_allclose(one_gate(scores, 0.4, 1e6), np.full(12, 5 / 12), atol=1e-5)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=5),
    st.floats(0.01, 1),
    st.sampled_from([1e-3, 1e-2, 0.1, 1.0, 50.0]),
    st.sampled_from([0.01, 1.0, 100.0]),
    st.integers(0, 2**31),
)
def test_the_gate_keeps_its_constraints_in_single_precision(
    lengths: list[int], share: float, epsilon: float, spread: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    scores = torch.from_numpy((spread * rng.normal(size=(len(lengths), 30))).astype(np.float32))
    mask = torch.arange(30)[None] < torch.tensor(lengths)[:, None]
    gates = gate(scores, mask, share, epsilon)
    assert gates.isfinite().all()
    assert (gates >= 0).all()
    assert (gates <= 1 + 1e-4).all()
    assert not gates[~mask].any()
    wanted = np.ceil(share * np.array(lengths) - 1e-6)
    np.testing.assert_allclose(gates.sum(1).numpy(), wanted, rtol=1e-4)
    for row, length in enumerate(lengths):  # alone as in the batch
        alone = gate(scores[row : row + 1, :length], mask[row : row + 1, :length], share, epsilon)
        np.testing.assert_allclose(alone[0].numpy(), gates[row, :length].numpy(), atol=1e-5)


def test_equal_scores_share_alike() -> None:
    np.testing.assert_allclose(one_gate(np.ones(8), 0.5, 0.1), np.full(8, 0.5), atol=1e-9)


def test_gradients_are_those_of_finite_differences() -> None:
    mask = torch.ones(2, 9, dtype=torch.bool)
    mask[0, 5:] = False
    scores = torch.randn(2, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert torch.autograd.gradcheck(lambda it: salience(it, mask, 0.5, 0.4), scores.requires_grad_())


# --- the head ---


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A head drawn at random, for tokens of width 384."""
    folder = tmp_path_factory.mktemp("head") / "saliency"
    folder.mkdir()
    torch.manual_seed(0)
    module = SaliencyHead(384, query_share=0.75, document_share=0.5, epsilon=0.2)
    for linear in (module.query, module.document):
        torch.nn.init.normal_(linear.weight)
    module.save(str(folder))
    return folder.parent


def test_a_head_weighs_embeddings_as_the_module_does(head: Path, encoder: Encoder) -> None:
    module = SaliencyHead.load(str(head / "saliency"))
    weighed = Saliency(str(head))
    for side, embeddings in (
        ("document", encoder.encode_documents(TEXTS[:5])),
        ("query", encoder.encode_queries(TEXTS[:5])),
    ):
        for before, after in zip(embeddings, weighed(embeddings, side), strict=True):  # type: ignore[arg-type]
            mask = torch.ones(1, len(before), dtype=torch.bool)
            expected = module.weigh(torch.from_numpy(before.tokens)[None], mask, side)[0]
            assert after.saliency is not None
            np.testing.assert_allclose(after.saliency, expected.detach().numpy(), atol=1e-5)
            assert after.tokens is before.tokens


def test_an_embedding_keeps_the_saliency_it_has(head: Path, encoder: Encoder) -> None:
    own = replace(encoder.encode_documents(TEXTS[:1])[0])
    own = replace(own, saliency=np.arange(len(own), dtype=np.float32))
    other = encoder.encode_documents(TEXTS[1:2])[0]
    kept, made = Saliency(str(head))([own, other], "document")
    assert kept.saliency is own.saliency
    assert made.saliency is not None


def test_a_byte_keeps_saliency_within_half_a_step(rng: np.random.Generator) -> None:
    saliency = Saliency(None)
    values = (3 * rng.random(1000)).astype(np.float32)
    saliency.fit(values)
    assert saliency.scale == pytest.approx(values.max())
    stored = saliency.encode(values)
    assert np.abs(saliency.decode(stored) - values).max() <= saliency.scale / 510 + 1e-6
    assert saliency.encode(np.array([0, 100], np.float32)).tolist() == [0, 255]


def test_a_passage_without_any_saliency_has_a_scale() -> None:
    saliency = Saliency(None)
    saliency.fit(np.zeros(3, np.float32))
    assert saliency.encode(np.zeros(3, np.float32)).tolist() == [0, 0, 0]


def test_a_codec_keeps_the_head(head: Path, encoder: Encoder) -> None:
    embeddings = encoder.encode_documents(TEXTS[:4])
    codec = parse_codec("pca-16+binary", str(head), saliency=True)
    weighed = codec.saliency(embeddings, "document")
    values = np.concatenate([it.saliency for it in weighed if it.saliency is not None])
    codec.fit(np.concatenate([it.tokens for it in embeddings]), saliency=values)
    loaded = parse_codec("pca-16+binary", "no such folder", saliency=True).load(codec.save())
    assert loaded.fingerprint == codec.fingerprint
    assert loaded.saliency.scale == codec.saliency.scale
    for before, after in zip(weighed, loaded.saliency(embeddings, "document"), strict=True):
        np.testing.assert_array_equal(before.saliency, after.saliency)


def test_what_is_missing_is_said(head: Path, tmp_path: Path, encoder: Encoder) -> None:
    embedding = encoder.encode_documents(TEXTS[:1])[0]
    with pytest.raises(RecipeError, match="--head"):
        Saliency(None)([embedding], "document")
    with pytest.raises(RecipeError, match="connector train saliency"):
        Saliency(str(tmp_path))([embedding], "document")
    narrow = replace(embedding, tokens=np.ascontiguousarray(embedding.tokens[:, :8]))
    with pytest.raises(RecipeError, match="width 384, this model's have 8"):
        Saliency(str(head))([narrow], "document")
    with pytest.raises(InputError, match="not fitted"):
        Saliency(str(head)).encode(np.ones(1, np.float32))
    with pytest.raises(RecipeError, match="without saliency"):
        _ = parse_codec("float16").saliency


def test_pruning_keeps_the_most_salient(head: Path, encoder: Encoder) -> None:
    (embedding,) = Saliency(str(head))(encoder.encode_documents(TEXTS[:1]), "document")
    assert embedding.saliency is not None
    reduced = parse_reduction("saliency-50%")(embedding)
    assert reduced.saliency is not None
    assert len(reduced) == len(embedding) // 2
    assert reduced.saliency.min() >= np.sort(embedding.saliency)[: len(embedding) - len(reduced)].max()
    assert len(parse_query_reduction("saliency-3")(embedding)) == 3
    with pytest.raises(InputError, match="no saliency"):
        parse_reduction("saliency-50%")(replace(embedding, saliency=None))
