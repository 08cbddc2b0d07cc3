"""Codecs: one suite for every spec, then what each part promises."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save as save_safetensors

from connector import Encoder
from connector.codecs import Codec, parse_codec
from connector.codecs.projection import PCA, Rotation
from connector.codecs.quantization import Signs
from connector.errors import InputError, RecipeError
from connector.types import Float32
from tests.conftest import TEXTS

WIDTH = 32
SPECS = ["float32", "float16", "pca-16+float32", "pca-16+float16", "binary", "pca-16+binary"]
BYTES = {
    "float32": 128,
    "float16": 64,
    "pca-16+float32": 64,
    "pca-16+float16": 32,
    "binary": 4,
    "pca-16+binary": 2,
}

every_spec = pytest.mark.parametrize("spec", SPECS)


def tokens(n: int = 60, width: int = WIDTH, seed: int = 0) -> Float32:
    """Unit rows whose coordinates have falling variances, as real token vectors have."""
    rows = np.random.default_rng(seed).normal(size=(n, width)) * np.linspace(2, 0.2, width)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def fitted(spec: str, width: int = WIDTH) -> Codec:
    return parse_codec(spec).fit(tokens(200, width))


@every_spec
def test_a_codec_says_what_it_is(spec: str) -> None:
    codec = parse_codec(spec)
    assert codec.spec == spec
    assert codec.server_scorable == ("binary" not in spec)
    assert not codec.fitted
    assert codec.fit(tokens()) is codec
    assert codec.fitted


@every_spec
def test_a_round_trip_stays_within_its_bound(spec: str) -> None:
    codec, sample = fitted(spec), tokens(seed=1)
    projected = codec.encode_query(sample)
    decoded = codec.decode(codec.encode(sample))
    width = codec.width(WIDTH)
    assert decoded.shape == projected.shape == (len(sample), width)
    assert decoded.dtype == projected.dtype == np.float32
    assert np.allclose(np.linalg.norm(projected, axis=1), 1, atol=1e-5)
    if spec.endswith("float32"):
        assert np.array_equal(decoded, projected)
    elif spec.endswith("float16"):
        assert (np.abs(decoded - projected) <= np.maximum(np.abs(projected) * 2**-11, 2**-25)).all()
    else:
        assert np.allclose(np.abs(decoded), 1 / np.sqrt(width))
        cosines = (decoded * projected).sum(axis=1)
        assert np.allclose(cosines, np.abs(projected).sum(axis=1) / np.sqrt(width), atol=1e-5)
        assert cosines.min() > 0.5


@every_spec
def test_bytes_per_token_are_those_encoded(spec: str) -> None:
    codes = fitted(spec).encode(tokens())
    assert codes.nbytes == len(codes.tobytes()) == 60 * BYTES[spec]
    assert parse_codec(spec).bytes_per_token(WIDTH) == BYTES[spec]


@every_spec
def test_scoring_codes_equals_scoring_decoded_vectors(spec: str) -> None:
    codec = fitted(spec)
    codes, query = codec.encode(tokens(seed=1)), codec.encode_query(tokens(7, seed=2))
    similarities = codec.similarities(codes, query)
    assert similarities.shape == (60, 7)
    assert similarities.dtype == np.float32
    assert np.allclose(similarities, codec.decode(codes) @ query.T, atol=1e-4)


@every_spec
def test_scores_follow_the_weights_of_query_rows(spec: str) -> None:
    codec = fitted(spec)
    codes, query = codec.encode(tokens(seed=1)), codec.encode_query(tokens(3, seed=2))
    weights = np.array([[0.25], [1], [3]], np.float32)
    weighted = codec.similarities(codes, query * weights)
    assert np.allclose(weighted, codec.similarities(codes, query) * weights.T, atol=1e-4)


@every_spec
def test_stored_bytes_are_the_codes_again(spec: str) -> None:
    codec, query = fitted(spec), tokens(3, seed=2)
    codes = codec.encode(tokens(seed=1))
    stored = codec.stored(codes.tobytes())
    assert stored.dtype == codes.dtype
    assert np.array_equal(stored, codes)
    scores = codec.similarities(stored, codec.encode_query(query))
    assert np.array_equal(scores, codec.similarities(codes, codec.encode_query(query)))


@every_spec
def test_bytes_that_are_no_whole_rows_are_refused(spec: str) -> None:
    data = fitted(spec).encode(tokens()).tobytes()
    with pytest.raises(InputError):
        fitted(spec).stored(data[:-1])


@every_spec
def test_rows_are_encoded_independently(spec: str) -> None:
    codec, sample = fitted(spec), tokens(seed=1)
    whole = codec.decode(codec.encode(sample))
    assert np.allclose(codec.decode(codec.encode(sample[20:25])), whole[20:25], atol=1e-3)


@every_spec
def test_no_rows_encode_to_no_rows(spec: str) -> None:
    codec = fitted(spec)
    codes = codec.encode(np.empty((0, WIDTH), np.float32))
    assert len(codes) == 0
    assert codec.decode(codes).shape == (0, codec.width(WIDTH))
    assert len(codec.stored(b"")) == 0


@every_spec
def test_a_saved_codec_gives_the_same_codes(spec: str) -> None:
    codec = fitted(spec)
    again = parse_codec(spec).load(codec.save())
    assert np.array_equal(again.encode(tokens(seed=1)), codec.encode(tokens(seed=1)))
    assert again.save() == codec.save()
    assert again.fingerprint == codec.fingerprint
    assert len(codec.fingerprint) == 16


@every_spec
def test_codes_are_the_same_in_another_process(spec: str, tmp_path: Path) -> None:
    np.save(tmp_path / "sample.npy", tokens(200))
    np.save(tmp_path / "tokens.npy", tokens(seed=1))
    program = """if True:
        import sys, numpy
        from connector.codecs import parse_codec
        spec, folder = sys.argv[1:]
        codec = parse_codec(spec).fit(numpy.load(folder + "/sample.npy"))
        print(codec.fingerprint, codec.encode(numpy.load(folder + "/tokens.npy")).tobytes().hex())
    """
    output = subprocess.run(
        [sys.executable, "-c", program, spec, str(tmp_path)], capture_output=True, text=True, check=True
    ).stdout
    codec = parse_codec(spec).fit(tokens(200))
    assert output.split() == [codec.fingerprint, codec.encode(tokens(seed=1)).tobytes().hex()]


@every_spec
def test_encoding_leaves_its_input_and_the_codec_alone(spec: str) -> None:
    codec, sample = fitted(spec), tokens(seed=1)
    before, kept = codec.fingerprint, sample.copy()
    codes = codec.encode(sample)
    assert np.array_equal(codec.encode(sample), codes)
    assert np.array_equal(sample, kept)
    assert codec.fingerprint == before


@every_spec
def test_an_unfitted_codec_is_refused(spec: str) -> None:
    codec = parse_codec(spec)
    codes = fitted(spec).encode(tokens())
    for use in (
        lambda: codec.encode(tokens()),
        lambda: codec.encode_query(tokens()),
        lambda: codec.decode(codes),
        lambda: codec.stored(codes.tobytes()),
        codec.save,
    ):
        with pytest.raises(InputError, match="not fitted; call fit"):
            use()


@every_spec
def test_vectors_of_another_width_are_refused(spec: str) -> None:
    codec = fitted(spec)
    for sample in (tokens(3, WIDTH + 8), tokens(3, WIDTH - 8), tokens(3)[0]):
        with pytest.raises(InputError, match=r"width 32, got shape .*; use the encoder"):
            codec.encode(sample)
        with pytest.raises(InputError, match=r"width 32, got shape .*; use the encoder"):
            codec.encode_query(sample)


@every_spec
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_row_that_is_not_finite_is_named(spec: str, value: float) -> None:
    sample = tokens()
    sample[17, 3] = value
    with pytest.raises(InputError, match="token vector 17 is not finite"):
        fitted(spec).encode(sample)
    with pytest.raises(InputError, match="token vector 17 is not finite"):
        parse_codec(spec).fit(sample)


@every_spec
def test_a_sample_without_rows_is_refused(spec: str) -> None:
    for sample in (np.empty((0, WIDTH), np.float32), tokens()[0]):
        with pytest.raises(InputError, match="fitted on a matrix"):
            parse_codec(spec).fit(sample)


@every_spec
def test_a_cut_file_is_refused(spec: str) -> None:
    data = fitted(spec).save()
    for end in {0, 1, 7, 8, 9, 40, len(data) // 2, len(data) - 1}:
        with pytest.raises(InputError, match=r"not a saved codec .*restore"):
            parse_codec(spec).load(data[:end])


@given(position=st.integers(0, 119), byte=st.integers(0, 255))
@settings(max_examples=50, deadline=None)
def test_a_damaged_header_is_refused_or_harmless(position: int, byte: int) -> None:
    data = bytearray(fitted("pca-16+binary").save())
    data[position] = byte
    with contextlib.suppress(InputError):
        parse_codec("pca-16+binary").load(bytes(data)).encode(tokens())


@pytest.mark.parametrize(
    "arrays",
    [
        {"width": np.array([WIDTH])},
        {"0.matrix": np.ones((WIDTH, 16), np.float32)},
        {"0.matrix": np.ones((WIDTH, 16), np.float32), "width": np.array([], np.int64)},
        {"0.matrix": np.ones((WIDTH, 16), np.float32), "width": np.array(WIDTH)},
        {"0.matrix": np.ones((WIDTH, 16), np.float32), "width": np.array([WIDTH - 8])},
        {"0.matrix": np.ones((WIDTH, 8), np.float32), "width": np.array([WIDTH])},
        {"0.matrix": np.ones(WIDTH, np.float32), "width": np.array([WIDTH])},
    ],
    ids=["no matrix", "no width", "empty width", "scalar width", "other width", "narrow", "no columns"],
)
def test_a_file_with_arrays_missing_or_misshapen_is_refused(arrays: dict[str, np.ndarray]) -> None:
    codec = parse_codec("pca-16+float32")
    with pytest.raises(InputError, match="not a saved codec"):
        codec.load(save_safetensors(arrays, metadata={"codec": codec.spec}))
    assert not codec.fitted


@pytest.mark.parametrize(
    ("saved", "loaded"),
    [
        ("pca-8+float32", "pca-16+float32"),
        ("pca-16+float32", "float32"),
        ("float32", "binary"),
        ("pca-16+binary", "binary"),
        ("pca-16+binary", "pca-16+float16"),
    ],
)
def test_the_file_of_another_spec_is_refused(saved: str, loaded: str) -> None:
    with pytest.raises(InputError, match="not a saved codec"):
        parse_codec(loaded).load(fitted(saved).save())


def test_signs_by_hand() -> None:
    """Coordinate 0 is the highest bit of byte 0, and zero counts as positive."""
    rows = np.array([[1, -1, -1, -1, -1, -1, -1, 1, -1, 1, 0, -1, -1, -1, -1, -1]], np.float32) / 4
    codes = Signs().encode(rows)
    assert codes.tolist() == [[0b10000001, 0b01100000]]
    assert Signs().decode(codes, 16).tolist() == [(np.where(rows[0] >= 0, 1, -1) / 4).tolist()]
    query = np.arange(16, dtype=np.float32)[None]
    assert Signs().similarities(codes, query).tolist() == [[((0 + 7 + 9 + 10) * 2 - 120) / 4]]


def test_binary_rotates_and_takes_signs() -> None:
    """The rotation is orthogonal, so its transpose undoes it, and the codes are the signs behind it."""
    codec = fitted("binary")
    rotated = codec.encode_query(tokens(seed=1))
    rotation = codec.encode_query(np.eye(WIDTH, dtype=np.float32))
    assert np.allclose(rotation @ rotation.T, np.eye(WIDTH), atol=1e-5)
    assert np.allclose(rotated, tokens(seed=1) @ rotation, atol=1e-5)
    assert np.array_equal(codec.encode(tokens(seed=1)), np.packbits(rotated >= 0, axis=1))


def test_a_rotation_is_decided_by_its_seed_alone() -> None:
    first = Rotation().fit(tokens(seed=1)[:1], seed=3)
    assert np.allclose(first, Rotation().fit(tokens(seed=1), seed=3)[:1], atol=1e-6)
    assert not np.allclose(first, Rotation().fit(tokens(seed=1)[:1], seed=4), atol=0.01)


@pytest.mark.parametrize("rank", [1, 5, 16])
def test_pca_keeps_inner_products_of_data_of_its_rank(rank: int, rng: np.random.Generator) -> None:
    basis = np.linalg.qr(rng.normal(size=(WIDTH, rank)))[0]
    rows = rng.normal(size=(100, rank)) @ basis.T
    sample = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    projected = parse_codec("pca-16+float32").fit(sample).encode_query(sample)
    assert np.allclose(projected @ projected.T, sample @ sample.T, atol=1e-5)


def test_pca_by_hand() -> None:
    """Second moments diag(2·0.64 + 1, 2·0.36): the first axis is kept, pointing to its positive end."""
    sample = np.array([[-0.8, 0.6], [0.8, 0.6], [-1, 0], [0, 0.0]], np.float32)[:3]
    moment = sample.T @ sample
    assert np.allclose(moment, [[2.28, 0], [0, 0.72]], atol=1e-6)
    assert np.allclose(PCA(1).fit(sample, 0), [[-1], [1], [-1]], atol=1e-6)
    assert np.allclose(PCA(2).fit(sample, 0), sample, atol=1e-6)


def test_pca_does_not_depend_on_the_order_or_sign_of_its_sample() -> None:
    sample = tokens(200)
    first, query = PCA(16), tokens(seed=1)
    first.fit(sample, 0)
    for other in (sample[::-1], -sample, np.concatenate([sample, sample])):
        again = PCA(16)
        again.fit(np.ascontiguousarray(other), seed=9)
        assert np.allclose(again.apply(query), first.apply(query), atol=1e-3)


def test_pca_keeps_no_more_dimensions_than_there_are() -> None:
    codec = parse_codec("pca-100+float32")
    assert codec.width(WIDTH) == WIDTH
    assert codec.bytes_per_token(WIDTH) == 128
    assert codec.fit(tokens()).encode(tokens()).shape == (60, WIDTH)


def test_pca_is_fitted_on_fewer_rows_than_dimensions() -> None:
    codec = parse_codec("pca-16+float32").fit(tokens(3))
    assert np.allclose(np.linalg.norm(codec.encode_query(tokens(seed=1)), axis=1), 1, atol=1e-5)


@pytest.mark.parametrize(("spec", "width"), [("binary", 12), ("pca-12+binary", WIDTH), ("pca-16+binary", 10)])
def test_binary_codes_of_a_width_that_fills_no_bytes_are_refused(spec: str, width: int) -> None:
    with pytest.raises(RecipeError, match=r"divisible by 8, got 1\d; put a pca-D before"):
        parse_codec(spec).bytes_per_token(width)
    with pytest.raises(RecipeError, match=r"divisible by 8, got 1\d; put a pca-D before"):
        parse_codec(spec).fit(tokens(20, width))


@pytest.mark.parametrize("spec", ["", "float64", "pca-16", "pca-16+", "pca-16+pca-8", "Float32", "int8"])
def test_a_spec_without_a_known_quantizer_is_refused_with_the_known_ones(spec: str) -> None:
    with pytest.raises(RecipeError, match="float32, float16 or binary") as error:
        parse_codec(spec)
    assert repr(spec) in str(error.value)


@pytest.mark.parametrize("part", ["", "pca", "pca-", "pca-x", "pca--1", "pca-²", "svd-16", "binary"])
def test_an_unknown_projection_is_refused_with_the_known_ones(part: str) -> None:
    with pytest.raises(RecipeError, match="pca-D") as error:
        parse_codec(f"{part}+float32")
    assert repr(part) in str(error.value)


def test_a_projection_to_nothing_is_refused() -> None:
    with pytest.raises(RecipeError, match="pca-0 has no dimensions; give at least 1"):
        parse_codec("pca-0+float32")


def test_binary_similarities_follow_the_exact_ones_on_real_tokens(encoder: Encoder) -> None:
    real = np.concatenate([embedding.tokens for embedding in encoder.encode_documents(TEXTS)])
    query = np.concatenate([embedding.tokens for embedding in encoder.encode_queries(TEXTS[:3])])
    codec = parse_codec("binary").fit(real)
    estimated = codec.similarities(codec.encode(real), codec.encode_query(query))
    assert np.corrcoef(estimated.ravel(), (real @ query.T).ravel())[0, 1] > 0.9
