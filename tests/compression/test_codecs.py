"""Codecs: one suite for every spec, then what each part promises."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors
from sentence_transformers.base.modules import Dense

from connector import Encoder
from connector.compression.codecs import PROJECTIONS, QUANTIZERS, Codec, parse_codec
from connector.compression.codecs.projection import PCA, Center, Rotation
from connector.compression.codecs.scalar_quantization import (
    Hamming,
    Int8,
    Signs,
    byte_places,
    byte_tables,
    pack,
    unpack,
)
from connector.compression.codecs.vector_quantization import Product, Residual
from connector.core.errors import InputError, MissingExtra, RecipeError
from connector.core.types import Float32
from tests.conftest import TEXTS

WIDTH, NARROW = 32, 16
BYTES = {
    "float32": 128,
    "float16": 64,
    "turbo8": 36,
    "turbo4": 20,
    "int8": 34,
    "binary": 4,
    "hamming": 4,
    "residual-1": 8,
    "residual-2": 12,
    "residual-4": 20,
    "pq-8": 8,
    "opq-8": 8,
    "pca-16+float32": 64,
    "center+float32": 128,
    "center+pca-16+binary": 2,
    "pca-16+float16": 32,
    "pca-16+binary": 2,
    "pca-16+residual-2": 8,
    "pca-16+pq-4": 4,
    "rotation+int8": 34,
    "linear-16+binary": 2,
}
TRAINED = ("residual", "pq", "opq")
"""Endings that faiss fits."""

without_faiss = pytest.mark.skipif(find_spec("faiss") is None, reason="faiss is not installed")


def ending(spec: str) -> str:
    """The last part of a spec, without its number."""
    return spec.split("+")[-1].split("-")[0]


def specs(*chosen: str) -> list[Any]:
    return [pytest.param(it, marks=without_faiss if ending(it) in TRAINED else ()) for it in chosen]


every_spec = pytest.mark.parametrize("spec", specs(*BYTES))
every_spec_of_bytes = pytest.mark.parametrize("spec", specs(*(it for it in BYTES if "turbo" not in it)))
every_trained_spec = pytest.mark.parametrize("spec", specs(*(it for it in BYTES if ending(it) in TRAINED)))

Parse = Callable[..., Codec]
Fitted = Callable[[str], Codec]


@cache
def tokens(n: int = 60, width: int = WIDTH, seed: int = 0) -> Float32:
    """Unit rows whose coordinates have falling variances, as real token vectors have."""
    rows = np.random.default_rng(seed).normal(size=(n, width)) * np.linspace(2, 0.2, width)
    unit: Float32 = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    unit.flags.writeable = False
    return unit


def save_head(folder: Path, before: int = WIDTH, after: int = NARROW, **options: Any) -> str:
    torch.manual_seed(0)
    folder.mkdir()
    Dense(before, after, **{"bias": False, "activation_function": torch.nn.Identity(), **options}).save(
        str(folder)
    )
    return str(folder)


@pytest.fixture(scope="session")
def parse(tmp_path_factory: pytest.TempPathFactory) -> Parse:
    """`parse_codec` with a head that maps the width of the vectors to 16."""
    folder = tmp_path_factory.mktemp("heads")
    heads = {width: save_head(folder / str(width), width) for width in (WIDTH, 384)}
    return lambda spec, width=WIDTH: parse_codec(spec, heads[width])


@pytest.fixture(scope="session")
def fitted(parse: Parse) -> Fitted:
    """The codec of a spec, fitted on 1000 vectors; tests share it."""
    return cache(lambda spec: parse(spec).fit(tokens(1000)))


def similarities(codec: Codec, codes: Any, query: Float32) -> Float32:
    scores = codec.scorer(query).similarities(codes)
    assert scores.dtype == torch.float32
    return np.asarray(scores.numpy())


def state_of(codec: Codec) -> dict[str, Any]:
    """The arrays of a codec's last part."""
    arrays = load_safetensors(codec.save())
    numbers = {int(key.split(".")[0]) for key in arrays if "." in key}
    return {key.split(".")[1]: it for key, it in arrays.items() if key.startswith(f"{max(numbers)}.")}


def assert_bound(codec: Codec, sample: Float32) -> None:
    """What comes back is what went in, as closely as the codec promises."""
    projected = codec.encode_query(sample)
    codes = codec.encode(sample)
    decoded = codec.decode(codes)
    assert decoded.shape == projected.shape == (len(sample), codec.width(sample.shape[1]))
    assert decoded.dtype == projected.dtype == np.float32
    assert np.allclose(np.linalg.norm(projected, axis=1), 1, atol=1e-5)
    BOUNDS[ending(codec.spec)](codec, codes, projected, decoded)


def nothing_is_lost(_: Codec, __: Any, projected: Float32, decoded: Float32) -> None:
    assert np.array_equal(decoded, projected)


def half_precision_is_left(_: Codec, __: Any, projected: Float32, decoded: Float32) -> None:
    assert (np.abs(decoded - projected) <= np.maximum(np.abs(projected) * 2**-11, 2**-25)).all()


def half_a_step_is_lost(_: Codec, codes: Any, projected: Float32, decoded: Float32) -> None:
    steps = codes[:, :2].copy().view("<f2").astype(np.float32)
    exact = np.abs(projected).max(axis=1, keepdims=True) / 127
    assert (exact <= steps).all()
    assert (steps <= exact * (1 + 2**-9)).all()
    assert (np.abs(decoded - projected) <= steps / 2 * (1 + 1e-5)).all()


def signs_are_kept(_: Codec, __: Any, projected: Float32, decoded: Float32) -> None:
    width = projected.shape[1]
    assert np.allclose(np.abs(decoded), 1 / np.sqrt(width))
    assert np.array_equal(decoded > 0, projected >= 0)
    cosines = (decoded * projected).sum(axis=1)
    assert np.allclose(cosines, np.abs(projected).sum(axis=1) / np.sqrt(width), atol=1e-5)
    assert cosines.min() > 0.5


def centroids_of(codes: Any) -> Any:
    return codes[:, 0].astype(int) + 256 * codes[:, 1].astype(int)


def residuals_lie_in_their_buckets(codec: Codec, codes: Any, projected: Float32, decoded: Float32) -> None:
    """No centroid is nearer, and centroid and buckets, scaled to unit length, are what comes back."""
    state, bits = state_of(codec), int(codec.spec[-1])
    numbers = centroids_of(codes)
    distances = np.linalg.norm(projected[:, None] - state["centroids"], axis=2)
    assert (distances[np.arange(len(codes)), numbers] <= distances.min(axis=1) + 1e-5).all()
    residuals = projected - state["centroids"][numbers]
    levels = unpack(codes[:, 4:], bits)
    edges = np.concatenate([[-np.inf], state["cutoffs"], [np.inf]])
    assert (edges[:-1] <= state["buckets"]).all()
    assert (state["buckets"] <= edges[1:]).all()
    assert (edges[levels] <= residuals).all()
    assert (residuals <= edges[levels + 1]).all()
    unscaled = state["centroids"][numbers] + state["buckets"][levels]
    assert np.allclose(decoded, unscaled / np.linalg.norm(unscaled, axis=1, keepdims=True), atol=2**-11)


def no_codeword_is_nearer(codec: Codec, codes: Any, projected: Float32, decoded: Float32) -> None:
    book = state_of(codec)["codewords"]
    parts = projected.reshape(len(projected), len(book), 1, -1)
    distances = np.linalg.norm(parts - book, axis=3)
    chosen = np.take_along_axis(distances, codes[:, :, None].astype(int), axis=2)
    assert (chosen[:, :, 0] <= distances.min(axis=2) + 1e-5).all()
    left = (decoded - projected).reshape(len(projected), len(book), -1)
    assert np.allclose(np.linalg.norm(left, axis=2), chosen[:, :, 0], atol=1e-6)


BOUNDS: dict[str, Callable[[Codec, Any, Float32, Float32], None]] = {
    "float32": nothing_is_lost,
    "turbo8": nothing_is_lost,
    "turbo4": nothing_is_lost,
    "float16": half_precision_is_left,
    "int8": half_a_step_is_lost,
    "binary": signs_are_kept,
    "hamming": signs_are_kept,
    "residual": residuals_lie_in_their_buckets,
    "pq": no_codeword_is_nearer,
    "opq": no_codeword_is_nearer,
}


# Every spec


@every_spec
def test_a_codec_says_what_it_is(spec: str, parse: Parse) -> None:
    codec = parse(spec)
    assert codec.spec == spec
    plain = ending(spec) in ("float32", "float16", "turbo8", "turbo4")
    assert codec.datatype == (ending(spec) if plain else None)
    parts = spec.split("+")
    wanted = [8 * int(part.removeprefix("pca-")) for part in parts if part.startswith("pca-")]
    wanted += [2_048] * (parts.count("center") + len(wanted)) + [50_000] * (ending(spec) in TRAINED)
    assert codec.sample == max(wanted, default=1)
    assert not codec.fitted
    assert codec.fit(tokens()) is codec
    assert codec.fitted


@every_spec
def test_a_round_trip_stays_within_its_bound(spec: str, fitted: Fitted) -> None:
    assert_bound(fitted(spec), tokens(seed=1))


@pytest.fixture(scope="session")
def real(encoder: Encoder) -> Float32:
    """The token vectors of twelve texts, alone and in pairs."""
    texts = [*TEXTS, *map(" ".join, pairwise(TEXTS))]
    return np.concatenate([embedding.tokens for embedding in encoder.encode_documents(texts)])


@every_spec
def test_a_round_trip_of_real_tokens_stays_within_its_bound(spec: str, parse: Parse, real: Float32) -> None:
    assert len(real) > 500
    codec = parse(spec, 384).fit(real[:500])
    assert_bound(codec, real[400:])


@every_spec
def test_bytes_per_token_are_those_stored(spec: str, fitted: Fitted, parse: Parse) -> None:
    """Qdrant makes the turbo types itself: test_stores measures theirs."""
    assert parse(spec).bytes_per_token(WIDTH) == BYTES[spec]
    if "turbo" not in spec:
        codes = fitted(spec).encode(tokens())
        assert codes.nbytes == len(codes.tobytes()) == 60 * BYTES[spec]


@pytest.mark.parametrize(
    ("spec", "width", "expected"),
    [
        ("residual-1", 128, 20),
        ("residual-2", 128, 36),
        ("residual-4", 128, 68),
        ("pca-256+pq-128", 384, 128),
        ("int8", 128, 130),
        ("hamming", 128, 16),
        ("turbo8", 384, 388),
        ("turbo4", 384, 196),
    ],
)
def test_bytes_of_the_published_sizes(spec: str, width: int, expected: int) -> None:
    assert parse_codec(spec).bytes_per_token(width) == expected


@every_spec
def test_scoring_codes_equals_scoring_decoded_vectors(spec: str, fitted: Fitted) -> None:
    """For "hamming" the query, too, is its signs, as long as it was."""
    codec = fitted(spec)
    codes, query = codec.encode(tokens(seed=1)), 2 * codec.encode_query(tokens(7, seed=2))
    scores = similarities(codec, codes, query)
    assert scores.shape == (60, 7)
    if ending(spec) == "hamming":
        lengths = np.linalg.norm(query, axis=1, keepdims=True)
        query = np.where(query >= 0, 1, -1) * lengths / np.sqrt(query.shape[1])
    assert np.allclose(scores, codec.decode(codes) @ query.T, atol=1e-4)


@every_spec
def test_scores_follow_the_weights_of_query_rows(spec: str, fitted: Fitted) -> None:
    codec = fitted(spec)
    codes, query = codec.encode(tokens(seed=1)), codec.encode_query(tokens(3, seed=2))
    weights = np.array([[0.25], [1], [3]], np.float32)
    weighted = similarities(codec, codes, query * weights)
    assert np.allclose(weighted, similarities(codec, codes, query) * weights.T, atol=1e-4)


@every_spec
def test_a_query_need_not_be_contiguous_or_float32(spec: str, fitted: Fitted) -> None:
    codec = fitted(spec)
    codes, query = codec.encode(tokens(seed=1)), codec.encode_query(tokens(6, seed=2))
    expected = similarities(codec, codes, query[::2].copy())
    assert np.allclose(similarities(codec, codes, query[::2]), expected, atol=1e-6)
    assert np.allclose(similarities(codec, codes, np.asfortranarray(query[::2])), expected, atol=1e-6)


@every_spec_of_bytes
def test_stored_bytes_are_the_codes_again(spec: str, fitted: Fitted) -> None:
    codec, query = fitted(spec), tokens(3, seed=2)
    codes = codec.encode(tokens(seed=1))
    stored = codec.stored(codes.tobytes())
    assert stored.dtype == codes.dtype
    assert np.array_equal(stored, codes)
    asked = codec.encode_query(query)
    assert np.array_equal(codec.decode(stored), codec.decode(codes))
    assert np.array_equal(similarities(codec, stored, asked), similarities(codec, codes, asked))


@every_spec_of_bytes
def test_bytes_that_are_no_whole_rows_are_refused(spec: str, fitted: Fitted) -> None:
    data = fitted(spec).encode(tokens()).tobytes()
    with pytest.raises(InputError, match=f"{len(data) - 1} bytes are not rows of {BYTES[spec]} bytes"):
        fitted(spec).stored(data[:-1])


@every_spec
def test_rows_are_encoded_independently(spec: str, fitted: Fitted) -> None:
    codec, sample = fitted(spec), tokens(seed=1)
    whole = codec.decode(codec.encode(sample))
    assert np.allclose(codec.decode(codec.encode(sample[20:25])), whole[20:25], atol=1e-3)
    assert np.allclose(codec.decode(codec.encode(sample[::-1])), whole[::-1], atol=1e-3)


@every_spec
def test_no_rows_encode_to_no_rows(spec: str, fitted: Fitted) -> None:
    codec = fitted(spec)
    codes = codec.encode(np.empty((0, WIDTH), np.float32))
    assert len(codes) == 0
    assert codec.decode(codes).shape == (0, codec.width(WIDTH))
    if "turbo" not in spec:
        assert codec.stored(b"").shape == codes.shape


@every_spec
def test_a_saved_codec_gives_the_same_codes(spec: str, fitted: Fitted) -> None:
    """Without the head that a "linear-D" was fitted by."""
    codec = fitted(spec)
    again = parse_codec(spec).load(codec.save())
    codes = codec.encode(tokens(seed=1))
    assert np.array_equal(again.encode(tokens(seed=1)), codes)
    assert np.array_equal(again.decode(codes), codec.decode(codes))
    assert again.save() == codec.save()
    assert again.fingerprint == codec.fingerprint
    assert len(codec.fingerprint) == 16


@every_spec
def test_fitting_is_deterministic(spec: str, fitted: Fitted, parse: Parse) -> None:
    again = parse(spec).fit(tokens(1000))
    assert again.fingerprint == fitted(spec).fingerprint


@pytest.mark.parametrize("spec", specs("binary", "hamming", "residual-2", "pq-8"))
def test_another_seed_fits_another_codec(spec: str, fitted: Fitted) -> None:
    assert parse_codec(spec).fit(tokens(1000), seed=1).fingerprint != fitted(spec).fingerprint


def test_codes_are_the_same_in_another_process(tmp_path: Path) -> None:
    np.save(tmp_path / "sample.npy", tokens(1000))
    np.save(tmp_path / "tokens.npy", tokens(seed=1))
    head = save_head(tmp_path / "head")
    chosen = [it for it in BYTES if ending(it) not in TRAINED or find_spec("faiss") is not None]
    program = """if True:
        import json, sys, numpy
        from connector.compression.codecs import parse_codec
        folder, specs = sys.argv[1], json.loads(sys.argv[2])
        sample, tokens = (numpy.load(f"{folder}/{name}.npy") for name in ("sample", "tokens"))
        codecs = [parse_codec(spec, folder + "/head").fit(sample) for spec in specs]
        print(json.dumps([[it.fingerprint, it.encode(tokens).tobytes().hex()] for it in codecs]))
    """
    run = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path), json.dumps(chosen)],
        capture_output=True,
        text=True,
        check=True,
    )
    codecs = [parse_codec(spec, head).fit(tokens(1000)) for spec in chosen]
    here = [[it.fingerprint, it.encode(tokens(seed=1)).tobytes().hex()] for it in codecs]
    for spec, there, expected in zip(chosen, json.loads(run.stdout), here, strict=True):
        assert there == expected, spec


@every_spec
def test_encoding_leaves_its_input_and_the_codec_alone(spec: str, fitted: Fitted) -> None:
    codec, sample = fitted(spec), tokens(seed=1).copy()
    before = codec.fingerprint
    codes = codec.encode(sample)
    asked = codec.encode_query(sample[:5])
    kept = codes.copy(), asked.copy()
    similarities(codec, codes, asked)
    assert np.array_equal(codec.encode(sample), codes)
    assert np.array_equal(sample, tokens(seed=1))
    assert np.array_equal(codes, kept[0])
    assert np.array_equal(asked, kept[1])
    assert codec.fingerprint == before


@every_spec
def test_an_unfitted_codec_is_refused(spec: str, fitted: Fitted, parse: Parse) -> None:
    codec = parse(spec)
    codes = fitted(spec).encode(tokens())
    for use in (
        lambda: codec.encode(tokens()),
        lambda: codec.encode_query(tokens()),
        lambda: codec.decode(codes),
        lambda: codec.scorer(tokens()),
        lambda: codec.stored(codes.tobytes()),
        codec.save,
    ):
        with pytest.raises(InputError, match="not fitted; call fit"):
            use()


@every_spec
def test_vectors_of_another_width_are_refused(spec: str, fitted: Fitted) -> None:
    codec = fitted(spec)
    for sample in (tokens(3, WIDTH + 8), tokens(3, WIDTH - 8)):
        with pytest.raises(InputError, match=r"width 32, got shape .*; use the encoder"):
            codec.encode(sample)
        with pytest.raises(InputError, match=r"width 32, got shape .*; use the encoder"):
            codec.encode_query(sample)


@every_spec
def test_what_is_no_matrix_is_refused(spec: str, fitted: Fitted) -> None:
    with pytest.raises(InputError, match=r"got shape \(32,\)"):
        fitted(spec).encode_query(tokens()[0])
    with pytest.raises(InputError, match=r"got shape \(32,\)"):
        fitted(spec).encode(tokens()[0])


@every_spec
@pytest.mark.parametrize(
    ("value", "message"), [(np.nan, "is not finite"), (np.inf, "is not finite"), (0, "is zero")]
)
def test_a_row_without_a_direction_is_named(
    spec: str, value: float, message: str, fitted: Fitted, parse: Parse
) -> None:
    sample = tokens().copy()
    sample[17] = value
    with pytest.raises(InputError, match=f"token vector 17 {message}"):
        fitted(spec).encode(sample)
    with pytest.raises(InputError, match=f"token vector 17 {message}"):
        parse(spec).fit(sample)


def test_one_value_that_is_not_finite_is_enough() -> None:
    sample = tokens().copy()
    sample[17, 3], sample[20, 0] = -np.inf, np.nan
    with pytest.raises(InputError, match="token vector 17 is not finite"):
        parse_codec("float32").fit(sample)


@every_spec
def test_a_sample_without_rows_is_refused(spec: str, parse: Parse) -> None:
    for sample in (np.empty((0, WIDTH), np.float32), tokens()[0]):
        with pytest.raises(InputError, match="fitted on a matrix"):
            parse(spec).fit(sample)


@every_spec
@pytest.mark.parametrize("rows", [1, 2, 100])
def test_few_rows_are_enough_to_fit_on(spec: str, rows: int, parse: Parse) -> None:
    """Fewer than there are codewords in a byte, or dimensions."""
    codec = parse(spec).fit(tokens(rows))
    if rows == 100 or ending(spec) not in ("binary", "hamming"):
        assert_bound(codec, tokens(rows))
    codes, query = codec.encode(tokens(seed=1)), codec.encode_query(tokens(3, seed=2))
    assert np.isfinite(similarities(codec, codes, query)).all()


@without_faiss
def test_opq_is_fitted_on_fewer_rows_than_dimensions() -> None:
    """In a process of its own: faiss writes beyond its arrays if it gets fewer."""
    program = """if True:
        import numpy
        from connector.compression.codecs import parse_codec
        rows = numpy.random.default_rng(0).normal(size=(300, 384)).astype(numpy.float32)
        codec = parse_codec("opq-8").fit(rows)
        print(codec.decode(codec.encode(rows)).shape)
    """
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (0, "(300, 384)\n"), run.stderr[-500:]


@every_trained_spec
def test_a_token_that_was_fitted_on_alone_comes_back_whole(spec: str, parse: Parse) -> None:
    """By codewords exactly, by residuals of few bits in its direction."""
    codec = parse(spec).fit(tokens(1))
    decoded, projected = codec.decode(codec.encode(tokens(1))), codec.encode_query(tokens(1))
    if "residual" in spec:
        assert (decoded * projected).sum() > 0.7
    else:
        assert np.allclose(decoded, projected, atol=1e-3)


@every_spec
def test_a_cut_file_is_refused(spec: str, fitted: Fitted) -> None:
    data = fitted(spec).save()
    for end in {0, 1, 7, 8, 9, 40, len(data) // 2, len(data) - 1}:
        with pytest.raises(InputError, match=r"not a saved codec .*restore"):
            parse_codec(spec).load(data[:end])


@given(position=st.integers(0, 119), byte=st.integers(0, 255))
@settings(max_examples=50, deadline=None)
def test_a_damaged_header_is_refused_or_harmless(position: int, byte: int) -> None:
    data = bytearray(saved_pca())
    data[position] = byte
    with contextlib.suppress(InputError):
        parse_codec("pca-16+binary").load(bytes(data)).encode(tokens())


@cache
def saved_pca() -> bytes:
    return parse_codec("pca-16+binary").fit(tokens(200)).save()


def ones(*shape: int) -> Float32:
    return np.ones(shape, np.float32)


@pytest.mark.parametrize(
    ("spec", "array", "instead"),
    [
        ("pca-16+float32", "spec", None),
        ("pca-16+float32", "width", None),
        ("pca-16+float32", "width", np.array([], np.int64)),
        ("pca-16+float32", "width", np.array(WIDTH)),
        ("pca-16+float32", "width", np.array([WIDTH - 8])),
        ("pca-16+float32", "0.matrix", None),
        ("pca-16+float32", "0.matrix", ones(WIDTH, 8)),
        ("pca-16+float32", "0.matrix", ones(NARROW, WIDTH)),
        ("pca-16+float32", "0.matrix", ones(WIDTH)),
        ("linear-16+binary", "0.matrix", ones(WIDTH, 8)),
        ("linear-16+binary", "1.matrix", None),
        ("hamming", "0.matrix", ones(WIDTH, 8)),
        *(
            ("residual-2", array, instead)
            for array, instead in (
                ("1.centroids", None),
                ("1.centroids", ones(4, WIDTH - 1)),
                ("1.centroids", ones(WIDTH)),
                ("1.centroids", ones(0, WIDTH)),
                ("1.centroids", ones(2**16 + 1, WIDTH)),
                ("1.cutoffs", None),
                ("1.cutoffs", ones(4)),
                ("1.cutoffs", ones(2)),
                ("1.cutoffs", ones(3, 1)),
                ("1.buckets", None),
                ("1.buckets", ones(2)),
                ("1.buckets", ones(16)),
                ("width", np.array([WIDTH + 8])),
            )
        ),
        *(
            ("pq-8", array, instead)
            for array, instead in (
                ("0.codewords", None),
                ("0.codewords", ones(8, 256, 3)),
                ("0.codewords", ones(8, 255, 4)),
                ("0.codewords", ones(4, 256, 8)),
                ("0.codewords", ones(8, 256 * 4)),
                ("width", np.array([WIDTH + 1])),
                ("width", np.array([WIDTH + 8])),
            )
        ),
    ],
    ids=str,
)
def test_a_file_with_arrays_missing_or_misshapen_is_refused(
    spec: str, array: str, instead: Any, fitted: Fitted
) -> None:
    if ending(spec) in TRAINED:
        pytest.importorskip("faiss")
    arrays = load_safetensors(fitted(spec).save())
    del arrays[array]
    codec = parse_codec(spec)
    with pytest.raises(InputError, match="not a saved codec"):
        codec.load(save_safetensors(arrays if instead is None else {**arrays, array: instead}))
    assert not codec.fitted


@pytest.mark.parametrize(
    ("saved", "loaded"),
    [
        ("pca-16+float16", "pca-8+float16"),
        ("pca-16+float32", "float32"),
        ("float32", "binary"),
        ("pca-16+binary", "binary"),
        ("pca-16+binary", "pca-16+float16"),
        ("binary", "hamming"),
        *(
            pytest.param(*pair, marks=without_faiss)
            for pair in (("residual-1", "residual-2"), ("pq-8", "opq-8"), ("pq-8", "pq-4"))
        ),
    ],
)
def test_the_file_of_another_spec_is_refused(saved: str, loaded: str, fitted: Fitted) -> None:
    with pytest.raises(InputError, match="not a saved codec"):
        parse_codec(loaded).load(fitted(saved).save())


# Bits


def test_packing_by_hand() -> None:
    """The first number takes the highest bits of the first byte."""
    ones_ = np.array([[1, 0, 0, 0, 0, 0, 0, 1, 0, 1, 1, 0, 0, 0, 0, 0]], np.uint8)
    assert pack(ones_, 1).tolist() == [[0b10000001, 0b01100000]]
    assert pack(np.array([[3, 0, 1, 2], [0, 0, 0, 1]], np.uint8), 2).tolist() == [[0b11000110], [1]]
    assert pack(np.array([[10, 5, 15, 0]], np.uint8), 4).tolist() == [[0xA5, 0xF0]]
    assert unpack(np.array([[0b11000110]], np.uint8), 1).tolist() == [[1, 1, 0, 0, 0, 1, 1, 0]]
    assert unpack(np.array([[0b11000110]], np.uint8), 2).tolist() == [[3, 0, 1, 2]]
    assert unpack(np.array([[0b11000110]], np.uint8), 4).tolist() == [[12, 6]]


@given(st.sampled_from([1, 2, 4]), st.integers(0, 5), st.integers(1, 4), st.integers(0, 2**32))
@settings(max_examples=50, deadline=None)
def test_unpacking_undoes_packing(bits: int, rows: int, width: int, seed: int) -> None:
    levels = np.random.default_rng(seed).integers(0, 2**bits, (rows, 8 * width), dtype=np.uint8)
    packed = pack(levels, bits)
    assert packed.shape == (rows, width * bits)
    assert packed.dtype == np.uint8
    assert np.array_equal(unpack(packed, bits), levels)
    if bits == 1:
        assert np.array_equal(packed, np.packbits(levels, axis=1))


@given(st.sampled_from([1, 2, 4]), st.integers(1, 4), st.integers(1, 3), st.integers(0, 2**32))
@settings(max_examples=20, deadline=None)
def test_byte_tables_are_what_each_byte_adds(bits: int, parts: int, queries: int, seed: int) -> None:
    """Against a loop over parts, bytes, query tokens and the numbers in the byte."""
    rng, fields = np.random.default_rng(seed), 8 // bits
    query = rng.normal(size=(queries, parts * fields)).astype(np.float32)
    values = rng.normal(size=2**bits).astype(np.float32)
    tables = byte_tables(query, values).numpy()
    assert tables.shape == (parts * 256, queries)
    for part in range(parts):
        for byte in (0, 1, 127, 128, 255, int(rng.integers(256))):
            numbers = [byte >> (8 - bits * (place + 1)) & 2**bits - 1 for place in range(fields)]
            for row, weights in enumerate(query[:, part * fields : (part + 1) * fields]):
                expected = sum(
                    weight * values[number] for weight, number in zip(weights, numbers, strict=True)
                )
                assert tables[256 * part + byte, row] == pytest.approx(expected, abs=1e-5)


def test_byte_places_by_hand() -> None:
    assert byte_places(torch.tensor([[0, 0, 255], [7, 1, 2]], dtype=torch.uint8)).tolist() == [
        [0, 256, 767],
        [7, 257, 514],
    ]


# Quantizers by hand


SIGNED: Float32 = np.array(
    [[1, -1, -1, -1, -1, -1, -1, 1, -1, 1, 0, -1, -1, -1, -1, -1]], np.float32
) / np.float32(4)


def test_signs_by_hand() -> None:
    """Coordinate 0 is the highest bit of byte 0, and zero counts as positive."""
    codes = Signs().encode(SIGNED)
    assert codes.tolist() == [[0b10000001, 0b01100000]]
    assert Signs().decode(codes).tolist() == [(np.where(SIGNED[0] >= 0, 1, -1) / 4).tolist()]
    query = np.arange(16, dtype=np.float32)[None]
    scores = Signs().scorer(query, "cpu").similarities(codes)
    assert scores.tolist() == [[((0 + 7 + 9 + 10) * 2 - 120) / 4]]


def test_hamming_by_hand() -> None:
    """(1 − 2h/16)·‖q‖: the second query is the row but for three signs, and twice as long."""
    codes = Hamming().encode(SIGNED)
    other = np.where(SIGNED >= 0, 2.0, -2.0)
    other[0, [0, 5, 9]] *= -1
    query = np.concatenate([np.where(SIGNED >= 0, 0.1, -0.7), other, -other]).astype(np.float32)
    lengths = np.linalg.norm(query, axis=1)
    assert lengths[1] == 8
    scores = Hamming().scorer(query, "cpu").similarities(codes)
    assert np.allclose(scores.numpy(), [[lengths[0], (1 - 2 * 3 / 16) * 8, (1 - 2 * 13 / 16) * 8]], atol=1e-5)


def test_int8_by_hand() -> None:
    """127 · 2⁻⁷ asks for steps of 2⁻⁷, float16 0x2000, and the next larger one is taken: 0x2001."""
    row = np.array([[127, -64, 1, 0]], np.float32) / np.float32(128)
    step = 2**-7 * (1 + 2**-10)
    codes = Int8().encode(row)
    assert codes.tolist() == [[0x01, 0x20, 127, 256 - 64, 1, 0]]
    assert np.allclose(Int8().decode(codes), [[127 * step, -64 * step, step, 0]], atol=0, rtol=1e-7)
    query = np.array([[1, 2, 3, 4]], np.float32)
    assert Int8().scorer(query, "cpu").similarities(codes).item() == pytest.approx(2 * step, abs=1e-6)


def test_residuals_by_hand() -> None:
    """The second centroid is nearer; what is left is rounded to ±0.1, and the row scaled to length 1."""
    quantizer = Residual(1)
    centroids = np.eye(8, dtype=np.float32)[[3, 0]]
    cutoffs, buckets = np.array([0], np.float32), np.array([-0.1, 0.1], np.float32)
    quantizer.load({"centroids": centroids, "cutoffs": cutoffs, "buckets": buckets}, 8)
    codes = quantizer.encode(np.array([[0.9, 0.1, -0.2, 0, 0, 0, 0, 0]], np.float32))
    scale = np.float16(1 / np.sqrt(0.81 + 7 * 0.01))
    assert codes.tolist() == [[1, 0, *scale.tobytes(), 0b01011111]]
    expected = np.array([[0.9, 0.1, -0.1, 0.1, 0.1, 0.1, 0.1, 0.1]]) * float(scale)
    assert np.allclose(quantizer.decode(codes), expected, atol=1e-6)
    query = np.array([[1, 0, 0, 0, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0, 0, 2]], np.float32)
    scores = quantizer.scorer(query, "cpu").similarities(codes)
    assert np.allclose(scores.numpy(), [[0.9 * float(scale), 0.1 * float(scale)]], atol=1e-6)


def test_a_residual_on_a_cutoff_belongs_to_the_bucket_above() -> None:
    quantizer = Residual(2)
    arrays = {"centroids": np.zeros((1, 4)), "cutoffs": np.array([-0.5, 0, 0.5]), "buckets": np.arange(4)}
    quantizer.load(arrays, 4)
    codes = quantizer.encode(np.array([[-0.5, 0, 0.5, -0.6]], np.float32))
    assert unpack(codes[:, 4:], 2).tolist() == [[1, 2, 3, 0]]


def test_a_residual_that_cancels_its_centroid_stays_finite() -> None:
    quantizer = Residual(1)
    arrays = {"centroids": np.full((1, 8), 0.1), "cutoffs": np.zeros(1), "buckets": np.full(2, -0.1)}
    quantizer.load(arrays, 8)
    assert np.isfinite(quantizer.decode(quantizer.encode(tokens(5, 8)))).all()


def test_damaged_codes_of_residuals_still_decode(fitted: Fitted) -> None:
    """Bytes may name a centroid that is not there; the last one stands in."""
    pytest.importorskip("faiss")
    codec = fitted("residual-1")
    codes = codec.encode(tokens())
    codes[:, :2] = 255
    query = codec.encode_query(tokens(3, seed=2))
    assert np.allclose(similarities(codec, codes, query), codec.decode(codes) @ query.T, atol=1e-4)


def product_by_hand() -> Product:
    """Codeword k of part 0 is (k, 0), of part 1 (0, −k)."""
    numbers = np.arange(256, dtype=np.float32)
    zeros = np.zeros(256, np.float32)
    quantizer = Product(2)
    book = np.stack([np.stack([numbers, zeros], axis=1), np.stack([zeros, -numbers], axis=1)])
    quantizer.load({"codewords": book}, 4)
    return quantizer


def test_product_quantization_by_hand() -> None:
    quantizer = product_by_hand()
    codes = quantizer.encode(np.array([[3.2, 9, 5, -7.4], [300, 0, 0, 8]], np.float32))
    assert codes.tolist() == [[3, 7], [255, 0]]
    assert quantizer.decode(codes).tolist() == [[3, 0, 0, -7], [255, 0, 0, 0]]
    query = np.array([[1, 2, 3, 4], [-2, 0, 0, 1]], np.float32)
    scores = quantizer.scorer(query, "cpu").similarities(codes)
    assert scores.tolist() == [[3 - 28, -6 - 7], [255, -510]]


@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.integers(0, 2**32))
@settings(max_examples=20, deadline=None)
def test_product_scores_are_sums_over_the_parts(parts: int, width: int, queries: int, seed: int) -> None:
    """Against a loop over rows, query tokens and parts."""
    rng = np.random.default_rng(seed)
    book = rng.normal(size=(parts, 256, width)).astype(np.float32)
    quantizer = Product(parts)
    quantizer.load({"codewords": book}, parts * width)
    codes = rng.integers(0, 256, (5, parts), dtype=np.uint8)
    query = rng.normal(size=(queries, parts * width)).astype(np.float32)
    scores = quantizer.scorer(query, "cpu").similarities(codes)
    for row, code in enumerate(codes):
        for column, asked in enumerate(query.reshape(queries, parts, width)):
            expected = sum(float(asked[part] @ book[part, code[part]]) for part in range(parts))
            assert float(scores[row, column]) == pytest.approx(expected, abs=1e-4)


@without_faiss
def test_buckets_are_quantiles_of_the_residuals(fitted: Fitted) -> None:
    """As many residuals of the sample in each bucket, and half of a bucket's on each side of its value."""
    codec = fitted("residual-2")
    state, sample = state_of(codec), tokens(1000)
    codes = codec.encode(sample)
    levels = unpack(codes[:, 4:], 2)
    assert np.allclose(np.bincount(levels.ravel()) / levels.size, 0.25, atol=0.01)
    residuals = codec.encode_query(sample) - state["centroids"][centroids_of(codes)]
    for level, bucket in enumerate(state["buckets"]):
        assert (residuals[levels == level] < bucket).mean() == pytest.approx(0.5, abs=0.02)
    assert len(state["centroids"]) == 32  # the power of two below 1000 / 16, which is less than 16·√1000


@without_faiss
@pytest.mark.parametrize("rows", [1, 5, 25])
def test_residuals_fitted_on_few_rows_still_tell_others_apart(rows: int) -> None:
    """Behind a PCA few rows span few dimensions; the rotation keeps the buckets from falling together."""
    codec = parse_codec("pca-16+residual-2").fit(tokens(rows))
    codes = codec.encode(tokens(100, seed=1))
    assert len(np.unique(codec.decode(codes), axis=0)) > 90


def test_a_codebook_of_few_rows_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    parse_codec("binary").fit(tokens(5))
    assert not caplog.records
    parse_codec("residual-1").fit(tokens(100))
    assert "fitted on 100 token vectors, of the 50000 it wants" in caplog.text


@without_faiss
def test_more_bits_err_less(fitted: Fitted) -> None:
    sample = tokens(seed=1)
    one, two, four = (
        float(np.linalg.norm(codec.decode(codec.encode(sample)) - codec.encode_query(sample)))
        for codec in map(fitted, ("residual-1", "residual-2", "residual-4"))
    )
    assert one > two > four


@without_faiss
def test_opq_rotates_and_errs_no_more_than_pq(fitted: Fitted) -> None:
    sample = tokens(300)
    rotated = fitted("opq-8").encode_query(sample)
    assert np.allclose(rotated @ rotated.T, sample @ sample.T, atol=1e-4)
    assert not np.allclose(rotated, sample, atol=0.01)
    scattered = sample @ np.linalg.qr(np.random.default_rng(0).normal(size=(WIDTH, WIDTH)))[0]
    unlike = scattered.astype(np.float32)
    errors = []
    for spec in ("opq-4", "pq-4"):
        codec = parse_codec(spec).fit(np.concatenate([unlike] * 4))
        errors.append(float(np.linalg.norm(codec.decode(codec.encode(unlike)) - codec.encode_query(unlike))))
    assert errors[0] <= errors[1] * 1.05


# Projections


def test_binary_rotates_and_takes_signs(fitted: Fitted) -> None:
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


def test_a_rotation_keeps_inner_products(fitted: Fitted) -> None:
    turned = fitted("rotation+int8").encode_query(tokens(seed=1))
    assert np.allclose(turned @ turned.T, tokens(seed=1) @ tokens(seed=1).T, atol=1e-5)


@pytest.mark.parametrize("rank", [1, 5, 16])
def test_pca_keeps_inner_products_of_data_of_its_rank(rank: int, rng: np.random.Generator) -> None:
    basis = np.linalg.qr(rng.normal(size=(WIDTH, rank)))[0]
    rows = rng.normal(size=(100, rank)) @ basis.T
    sample = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    projected = parse_codec("pca-16+float32").fit(sample).encode_query(sample)
    assert np.allclose(projected @ projected.T, sample @ sample.T, atol=1e-5)


def test_pca_by_hand() -> None:
    """Second moments diag(2·0.64 + 1, 2·0.36): the first axis is kept, pointing to its positive end."""
    sample = np.array([[-0.8, 0.6], [0.8, 0.6], [-1, 0]], np.float32)
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


def test_a_head_is_the_layer_that_was_saved(tmp_path: Path) -> None:
    folder = save_head(tmp_path / "head")
    weight = Dense.load(folder).linear.weight.detach().numpy()
    codec = parse_codec("linear-16+float32", folder).fit(tokens())
    mapped = tokens(seed=1) @ weight.T
    unit = mapped / np.linalg.norm(mapped, axis=1, keepdims=True)
    assert np.allclose(codec.encode_query(tokens(seed=1)), unit, atol=1e-6)


def test_a_codec_without_its_head_cannot_be_fitted() -> None:
    codec = parse_codec("linear-16+binary")
    assert codec.bytes_per_token(WIDTH) == 2
    with pytest.raises(RecipeError, match=r"linear-16 takes its layer from a folder; give it as .* head"):
        codec.fit(tokens())
    assert not codec.fitted


def test_a_head_that_is_not_there_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(
            RecipeError, match=r"holds no saved sentence-transformers Dense, nor a folder 'linear-16'"
        ):
            parse_codec("linear-16+binary", str(folder)).fit(tokens())


def test_a_head_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    folder = save_head(tmp_path / "head")
    (tmp_path / "head" / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(RecipeError, match=r"cannot be loaded: .*; save the Dense again"):
        parse_codec("linear-16+binary", folder).fit(tokens())


@pytest.mark.parametrize(("before", "after"), [(WIDTH, 8), (WIDTH + 8, NARROW), (NARROW, WIDTH)])
def test_a_head_of_another_shape_is_refused(before: int, after: int, tmp_path: Path) -> None:
    head = save_head(tmp_path / "head", before, after)
    with pytest.raises(RecipeError, match=f"maps width {before} to {after}, .* needs 32 to 16"):
        parse_codec("linear-16+binary", head).fit(tokens())


@pytest.mark.parametrize("options", [{"bias": True}, {"activation_function": torch.nn.Tanh()}], ids=str)
def test_a_head_that_is_no_linear_map_is_refused(options: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="is not a linear map; train a Dense with bias=False"):
        parse_codec("linear-16+binary", save_head(tmp_path / "head", **options)).fit(tokens())


def test_a_head_after_another_projection_maps_its_width(tmp_path: Path) -> None:
    codec = parse_codec("pca-16+linear-8+float32", save_head(tmp_path / "head", 16, 8)).fit(tokens())
    assert codec.encode(tokens()).shape == (60, 8)


# What cannot be made


@pytest.mark.parametrize(
    ("spec", "width"), [("binary", 12), ("pca-12+hamming", WIDTH), ("pca-16+binary", 10)]
)
def test_binary_codes_of_a_width_that_fills_no_bytes_are_refused(spec: str, width: int) -> None:
    for use in (parse_codec(spec).bytes_per_token, lambda width: parse_codec(spec).fit(tokens(20, width))):
        with pytest.raises(RecipeError, match=r"divisible by 8, got 1\d; project to one with pca-D"):
            use(width)


@pytest.mark.parametrize(
    ("spec", "width", "message"),
    [
        ("residual-1", 12, "residual-1 needs whole bytes, got width 12; project to one with pca-D"),
        ("residual-2", 6, "residual-2 needs whole bytes, got width 6"),
        ("residual-4", 5, "residual-4 needs whole bytes, got width 5"),
        ("pca-12+residual-1", WIDTH, "residual-1 needs whole bytes, got width 12"),
        ("pq-7", WIDTH, "pq-7 needs a width divisible by 7, got 32"),
        ("opq-7", WIDTH, "pq-7 needs a width divisible by 7, got 32"),
        ("pq-64", WIDTH, "pq-64 needs a width divisible by 64, got 32"),
    ],
)
def test_a_width_that_cannot_be_divided_is_refused(spec: str, width: int, message: str) -> None:
    for use in (parse_codec(spec).bytes_per_token, lambda width: parse_codec(spec).fit(tokens(20, width))):
        with pytest.raises(RecipeError, match=message):
            use(width)


@pytest.mark.parametrize(
    "spec", ["", "float64", "pca-16", "pca-16+", "pca-16+pca-8", "Float32", "int-8", "pq"]
)
def test_a_spec_without_a_known_ending_is_refused_with_the_known_ones(spec: str) -> None:
    with pytest.raises(RecipeError, match=r"the known endings: |end it in one of ") as error:
        parse_codec(spec)
    assert repr(spec) in str(error.value)
    for method in QUANTIZERS:
        assert method.form in str(error.value)


@pytest.mark.parametrize("part", ["", "pca", "svd-16", "binary", "PCA-16", "rotation-3", "linear"])
def test_an_unknown_projection_is_refused_with_the_known_ones(part: str) -> None:
    with pytest.raises(RecipeError, match=r"is not known; the known projections: ") as error:
        parse_codec(f"{part}+float32")
    assert repr(part) in str(error.value)
    for method in PROJECTIONS:
        assert method.form in str(error.value)


@pytest.mark.parametrize("number", ["", "x", "-1", "²", "1.5", " 8", "٣"])
@pytest.mark.parametrize("form", ["pca-{}+float32", "linear-{}+float32", "residual-{}", "pq-{}", "opq-{}"])
def test_what_is_no_number_is_refused(form: str, number: str) -> None:
    spec = form.format(number)
    with pytest.raises(RecipeError, match="is not a number; give one such as 16") as error:
        parse_codec(spec)
    assert repr(spec) in str(error.value)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("pca-0+float32", "'0' is not a number; give one such as 16, at least 1"),
        ("residual-3", "residual-3 is not known; give 1, 2 or 4 bits"),
        ("residual-0", "'0' is not a number; give one such as 16, at least 1"),
        ("residual-8", "residual-8 is not known; give 1, 2 or 4 bits"),
        ("pq-0", "'0' is not a number; give one such as 16, at least 1"),
        ("opq-0", "'0' is not a number; give one such as 16, at least 1"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(spec: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message) as error:
        parse_codec(spec)
    assert repr(spec) in str(error.value)


@every_trained_spec
def test_without_faiss_a_codec_is_used_but_not_fitted(
    spec: str, fitted: Fitted, parse: Parse, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec = fitted(spec)
    codes = codec.encode(tokens(seed=1))
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingExtra, match=r"faiss is not installed.*'qdrant-late-interaction\[faiss\]'"):
        parse(spec).fit(tokens())
    again = parse_codec(spec).load(codec.save())
    assert np.array_equal(again.encode(tokens(seed=1)), codes)
    assert similarities(again, codes, again.encode_query(tokens(3))).shape == (60, 3)


@pytest.mark.parametrize(
    ("spec", "least"),
    [("binary", 0.9), ("hamming", 0.8), *((it, 0.9) for it in ("int8", "residual-2", "residual-4"))],
)
def test_estimated_similarities_follow_the_exact_ones_on_real_tokens(
    spec: str, least: float, encoder: Encoder, real: Float32
) -> None:
    if ending(spec) in TRAINED:
        pytest.importorskip("faiss")
    query = np.concatenate([embedding.tokens for embedding in encoder.encode_queries(TEXTS[:3])])
    codec = parse_codec(spec).fit(real)
    estimated = similarities(codec, codec.encode(real), codec.encode_query(query))
    assert np.corrcoef(estimated.ravel(), (real @ query.T).ravel())[0, 1] > least


# The mean


def test_centring_by_hand() -> None:
    """Of a thousand vectors the whole mean is taken, (1, 0), and 3, 4 becomes unit(2, 4)."""
    sample = np.tile(np.array([[2, 1], [0, -1]], np.float32), (500, 1))
    center = Center()
    assert center.fit(sample, 0)[0] == pytest.approx([2**-0.5, 2**-0.5])
    assert center.apply(np.array([[3, 4]], np.float32)) == pytest.approx(np.array([[2, 4]]) / 20**0.5)
    assert center.apply(np.array([[3, 4]], np.float32), np.array([3, 3], np.float32)) == pytest.approx(
        np.array([[0, 1]])
    )


def test_the_mean_of_few_vectors_counts_little() -> None:
    sample = np.array([[2, 0]] * 100, np.float32)
    center = Center()
    center.fit(sample, 0)
    assert center.state()["mean"] == pytest.approx([0.2, 0])


def test_a_vector_that_all_share_changes_nothing(rng: np.random.Generator) -> None:
    sample, query = rng.normal(size=(1200, 8)).astype(np.float32), rng.normal(size=(5, 8)).astype(np.float32)
    shared = rng.normal(size=8).astype(np.float32)
    plain, shifted = parse_codec("center+pca-4+float32"), parse_codec("center+pca-4+float32")
    plain.fit(sample)
    shifted.fit(sample + shared)
    assert shifted.encode(sample + shared) == pytest.approx(plain.encode(sample), abs=1e-3)
    assert shifted.encode_query(query + shared) == pytest.approx(plain.encode_query(query), abs=1e-3)


def test_another_mean_is_taken_from_queries(fitted: Fitted) -> None:
    codec, query = fitted("center+pca-16+binary"), tokens(6, seed=3)
    mean = query.mean(axis=0)
    assert codec.centers
    assert not fitted("pca-16+binary").centers
    expected = codec.encode_query(query - mean + codec._projections[0].state()["mean"])
    assert codec.encode_query(query, mean) == pytest.approx(expected, abs=1e-5)
    for spec in ("float32", "pca-16+binary"):  # which a collection may be recoded to
        assert (fitted(spec).encode_query(query, mean) == fitted(spec).encode_query(query)).all()


@every_spec
def test_means_of_passages_are_those_of_their_decoded_rows(spec: str, fitted: Fitted) -> None:
    codec, lengths = fitted(spec), np.array([1, 30, 300, 7, 256])  # a byte counts to 255
    codes = codec.encode(tokens(int(lengths.sum()), seed=5))
    slow = [part.mean(axis=0) for part in np.split(codec.decode(codes), np.cumsum(lengths)[:-1])]
    assert codec.means(codes, lengths) == pytest.approx(np.stack(slow), abs=1e-5)
