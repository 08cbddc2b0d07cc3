"""Training a head: it learns, goes on where it was killed, and its collections use it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.numpy import load_file

from connector import Connector, Document, Encoder, Recipe, load_encoder
from connector.cli import main
from connector.compression.codecs.projection import PCA, Rotation
from connector.compression.heads import head_folder
from connector.compression.reduction import parse_reduction
from connector.core.errors import InputError, RecipeError, SourceError
from connector.encoders.architectures import with_saliency
from connector.evaluation.beir import load_judged
from connector.evaluation.training import HeadTraining, TrainingSet, load_training_set, train_head
from connector.evaluation.training.batches import Batch, Batches
from connector.evaluation.training.loop import run
from tests.encoders.test_modules import pipeline

WORDS = "otter compiler bread moon table ash violin bee memory glacier interpreter wool".split()  # noqa: SIM905


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BEIR folder: each passage says where one thing is, each query asks for it."""
    root = tmp_path_factory.mktemp("beir")
    (root / "qrels").mkdir()
    things = [f"{first} and the {second}" for first in WORDS[:6] for second in WORDS[6:]]
    passages = [{"_id": f"p{i}", "text": f"The {it} is in room {i}."} for i, it in enumerate(things)]
    queries = [{"_id": f"q{i}", "text": f"Where is the {it}?"} for i, it in enumerate(things[:20])]
    for name, records in (("corpus", passages), ("queries", queries)):
        (root / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    judged = "".join(f"q{i}\tp{i}\t1\n" for i in range(20))
    (root / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\n" + judged)
    return root


@pytest.fixture(scope="module")
def examples(folder: Path, encoder: Encoder) -> TrainingSet:
    return load_training_set(folder, encoder)


def trained(examples: TrainingSet, folder: Path, encoder: Encoder, **settings: object) -> Path:
    training = HeadTraining(**({"widths": (16,), "steps": 12, "batch": 8} | settings))  # type: ignore[arg-type]
    train_head([examples], folder, training, encoder=encoder.fingerprint, model=encoder.name)
    return folder


def test_a_set_says_who_answers_whom(examples: TrainingSet) -> None:
    assert len(examples) == 20
    assert examples.positives == [[i] for i in range(20)]
    for number, near in enumerate(examples.negatives):
        assert number not in near
        assert len(near) == len(set(near)) == 30


def test_passages_are_reduced_as_they_will_be_stored(
    folder: Path, encoder: Encoder, examples: TrainingSet
) -> None:
    found = load_training_set(folder, encoder, reduction=parse_reduction("ward-4"))
    assert [len(it) for it in found.passages] < [len(it) for it in examples.passages]


def test_judgements_may_be_given(folder: Path, encoder: Encoder, examples: TrainingSet) -> None:
    found = load_training_set(folder / "corpus.jsonl", encoder, judged=load_judged(folder, "train"))
    assert (found.positives, found.digest) == (examples.positives, examples.digest)


def test_a_folder_that_holds_too_little_is_refused(folder: Path, encoder: Encoder) -> None:
    with pytest.raises(SourceError, match="more than 30 passages"):
        load_training_set(folder, encoder, passages=10)
    with pytest.raises(SourceError, match="splits there: train"):
        load_training_set(folder, encoder, split="test")


def test_maxima_and_means_by_hand() -> None:
    batch = Batch(
        queries=torch.eye(2),
        query_of=torch.tensor([0, 0]),
        passages=torch.eye(2),
        passage_of=torch.tensor([0, 1]),
        out=torch.zeros(1, 2, dtype=torch.bool),
    )
    similarities = torch.tensor([[0.1, 0.9], [0.4, 0.2]])
    assert batch.maxima(similarities).tolist() == similarities.tolist()  # a row each
    joined = Batch(batch.queries, batch.query_of, batch.passages, torch.tensor([0, 0]), batch.out[:, :1])
    np.testing.assert_allclose(joined.maxima(similarities), [[0.9], [0.4]])
    np.testing.assert_allclose(joined.means(joined.maxima(similarities)), [[0.65]])
    ones = torch.ones(2)
    np.testing.assert_allclose(joined.aligned(similarities, ones, ones), [[0.65]])
    by_hand = joined.aligned(similarities, torch.tensor([3.0, 1.0]), torch.tensor([1.0, 2.0]))
    np.testing.assert_allclose(by_hand, [[(6 * 0.9 + 0.4) / 7]], rtol=1e-6)
    weighed = joined.means(joined.maxima(similarities), torch.tensor([3.0, 1.0]))
    np.testing.assert_allclose(weighed, [[(2.7 + 0.4) / 4]])


def test_batches_are_drawn_from_the_seed_and_the_step(examples: TrainingSet) -> None:
    batches = Batches([examples], 6, 0)
    one, again, other = batches(3), batches(3), batches(4)
    assert torch.equal(one.passages, again.passages)
    assert one.passages.shape != other.passages.shape or not torch.equal(one.passages, other.passages)
    asked, passages = batches._drawn(examples, np.random.default_rng(0))
    assert len(asked) == len(set(asked)) == 6
    assert [examples.positives[number][0] for number in asked] == passages[:6]


def test_training_learns_and_says_so(examples: TrainingSet, encoder: Encoder, tmp_path: Path) -> None:
    head = trained(examples, tmp_path / "head", encoder, steps=100)
    lines = [json.loads(line) for line in (head / "training" / "log.jsonl").read_text().splitlines()]
    assert [(line["what"], line["step"]) for line in lines] == [
        ("linear-16", 50),
        ("linear-16", 100),
        ("saliency", 50),
        ("saliency", 100),
    ]
    assert lines[1]["loss"] < lines[0]["loss"]
    assert lines[3]["loss"] < lines[2]["loss"]
    assert json.loads((head / "head.json").read_text())["encoder"] == encoder.fingerprint


def test_the_same_seed_gives_the_same_head(examples: TrainingSet, encoder: Encoder, tmp_path: Path) -> None:
    first, again = (trained(examples, tmp_path / name, encoder) for name in ("a", "b"))
    other = trained(examples, tmp_path / "c", encoder, seed=1)
    for part in ("linear-16", "saliency"):
        read = [load_file(head / part / "model.safetensors") for head in (first, again, other)]
        for key, array in read[0].items():
            np.testing.assert_array_equal(array, read[1][key])
        assert any((array != read[2][key]).any() for key, array in read[0].items())


class Killed(Exception):
    pass


@pytest.mark.parametrize("when", [("linear-16", 55), ("saliency", 30), ("saliency", 51)])
def test_killed_training_goes_on_to_the_same_head(
    when: tuple[str, int], examples: TrainingSet, encoder: Encoder, tmp_path: Path
) -> None:
    def kill(part: str, step: int) -> None:
        if (part, step) == when:
            raise Killed

    training = HeadTraining(widths=(16,), steps=60, batch=4)
    about = {"encoder": encoder.fingerprint, "model": encoder.name}
    train_head([examples], tmp_path / "whole", training, **about)
    with pytest.raises(Killed):
        train_head([examples], tmp_path / "killed", training, **about, progress=kill)
    steps: list[tuple[str, int]] = []
    train_head([examples], tmp_path / "killed", training, **about, progress=lambda *done: steps.append(done))
    assert steps[0] == (when[0], 50 if when[1] > 50 else 0)
    for part in ("linear-16", "saliency"):
        whole, killed = (load_file(tmp_path / it / part / "model.safetensors") for it in ("whole", "killed"))
        for key, array in whole.items():
            np.testing.assert_allclose(array, killed[key], atol=1e-6)
    assert not list((tmp_path / "killed" / "training").glob("*.safetensors"))


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    weight = torch.nn.Parameter(torch.ones(2))
    checkpoint, log = tmp_path / "it.safetensors", tmp_path / "log.jsonl"

    def loss(_: int) -> torch.Tensor:
        return (weight**2).sum()

    def stop(step: int) -> None:
        if step == 60:
            raise Killed

    with pytest.raises(Killed):
        run({"w": weight}, loss, steps=80, rate=0.1, checkpoint=checkpoint, log=log, progress=stop)
    for parameters, steps, other in (
        ({"w": weight}, 90, ""),
        ({"v": weight}, 80, ""),
        ({"w": weight}, 80, "x"),
    ):
        with pytest.raises(InputError, match="delete it to begin again"):
            run(parameters, loss, steps=steps, rate=0.1, settings=other, checkpoint=checkpoint, log=log)
    checkpoint.write_bytes(b"no safetensors")
    with pytest.raises(InputError, match="delete it to begin again"):
        run({"w": weight}, loss, steps=80, rate=0.1, checkpoint=checkpoint, log=log)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "0 steps"),
        ({"widths": (12,)}, "width 12"),
        ({"widths": (), "saliency": False}, "nothing to train"),
        ({"shares": (0.5, 0.0)}, "share is 0.0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        HeadTraining(**settings)  # type: ignore[arg-type]


def test_a_folder_with_another_head_is_refused(
    examples: TrainingSet, encoder: Encoder, tmp_path: Path
) -> None:
    trained(examples, tmp_path, encoder, steps=2, saliency=False)
    trained(examples, tmp_path, encoder, steps=3, widths=())  # another part
    parts = json.loads((tmp_path / "head.json").read_text())["parts"]
    assert {part: it["steps"] for part, it in parts.items()} == {"linear-16": 2, "saliency": 3}
    with pytest.raises(InputError, match="another folder"):
        trained(examples, tmp_path, encoder, steps=3, saliency=False)
    with pytest.raises(InputError, match="holds a head for"):
        train_head([examples], tmp_path, HeadTraining(), encoder="0" * 16, model="other")
    (tmp_path / "head.json").write_text("[]")
    with pytest.raises(InputError, match="not a description"):
        trained(examples, tmp_path, encoder)


def test_sets_and_shares_must_match(examples: TrainingSet, encoder: Encoder, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="2 shares for 1 sets"):
        trained(examples, tmp_path, encoder, shares=(1.0, 2.0))
    with pytest.raises(InputError, match="more than the 384"):
        trained(examples, tmp_path, encoder, widths=(512,))


def test_a_projection_begins_as_principal_directions(
    examples: TrainingSet, encoder: Encoder, tmp_path: Path
) -> None:
    head = trained(examples, tmp_path, encoder, steps=1, saliency=False)
    weight = load_file(head / "linear-16" / "model.safetensors")["linear.weight"].T
    pca, turn = PCA(16), Rotation()
    turn.fit(pca.fit(Batches([examples], 64, 0).sample(), 0), 0)
    np.testing.assert_allclose(weight, pca.state()["matrix"], atol=2e-3)  # one small step away


# --- its use ---

RECIPE = Recipe(
    name="own",
    layout="codes",
    reduction="saliency-50%",
    query_reduction="saliency-50%",
    codec="linear-16+binary",
    head="own",
    alignment="top-2",
    saliency=True,
)


@pytest.fixture(scope="module")
def head(examples: TrainingSet, encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(examples, tmp_path_factory.mktemp("trained"), encoder)


def test_a_collection_keeps_the_head(
    head: Path, encoder: Encoder, documents: list[Document], tmp_path: Path
) -> None:
    moved = tmp_path / "moved"
    moved.mkdir()
    for part in ("linear-16", "saliency"):
        (moved / part).mkdir()
        for file in (head / part).iterdir():
            (moved / part / file.name).write_bytes(file.read_bytes())
    recipe = RECIPE.model_copy(update={"head": str(moved)})
    with Connector.create("own", path=tmp_path / "qdrant", recipe=recipe, model=encoder) as connector:
        report = connector.ingest(documents)
        before = connector.search("Which animal sleeps in water?", 3)
    assert report.tokens_after < 0.55 * report.tokens_before
    assert report.token_bytes == 3 * report.tokens_after  # 16 bits and a byte of saliency
    for file in moved.rglob("*"):
        if file.is_file():
            file.unlink()
    with Connector.open("own", path=tmp_path / "qdrant", model=encoder) as connector:
        after = connector.search("Which animal sleeps in water?", 3)
        connector.ingest([Document(id="more", text="A walrus sleeps in water, too.")])
        assert connector.search("Which animal sleeps in water?", 20)
    assert [(hit.id, hit.score) for hit in before] == [(hit.id, hit.score) for hit in after]
    assert set(before[0].parts) == {"tokens"}


@pytest.mark.parametrize("layout", ["codes", "multivector"])
def test_both_layouts_score_alike_here(
    layout: str, head: Path, encoder: Encoder, documents: list[Document], tmp_path: Path
) -> None:
    """The byte of a token and the length of its vector say the same."""
    scores = []
    for number, kind in enumerate(("codes", layout)):
        parts = {"head": str(head), "codec": "linear-16+float32", "layout": kind}
        recipe = RECIPE.model_copy(update=parts)
        with Connector.create("it", path=tmp_path / str(number), recipe=recipe, model=encoder) as connector:
            connector.ingest(documents)
            hits = connector.search("a program", 12, rerank="client")
        scores.append({hit.id: hit.score for hit in hits})
    assert scores[0] == pytest.approx(scores[1], abs=1e-4)


def test_qdrant_itself_scores_by_folded_saliency(
    head: Path, encoder: Encoder, documents: list[Document], tmp_path: Path
) -> None:
    recipe = RECIPE.model_copy(
        update={
            "head": str(head),
            "codec": "linear-16+float32",
            "layout": "multivector",
            "alignment": "top-1",
        }
    )
    with Connector.create("it", path=tmp_path, recipe=recipe, model=encoder) as connector:
        connector.ingest(documents)
        collection = connector.collection
        hits = connector.search("a program", 12, rerank="server")
        codec = collection.codec
        assert codec is not None
        asked = collection.query_pipeline(encoder.encode_queries(["a program"])[0], codec).embedding
        assert asked.saliency is not None
        vectors = codec.encode_query(asked.tokens)
        for document, hit in ((it, next(h for h in hits if h.id == it.id)) for it in documents):
            (reduced,) = collection.pipeline.reduce(collection.pipeline.embed(encoder, [document.text]))
            assert reduced.saliency is not None
            weights = codec.saliency.encode(reduced.saliency) / np.float32(255)
            weighed = vectors @ codec.encode(reduced.tokens).T * weights
            assert hit.score == pytest.approx(float(asked.saliency @ weighed.max(axis=1)), abs=1e-3)
        with pytest.raises(Exception, match="top-2"):
            connector.search("a program", rerank="server", alignment="top-2")


def test_a_checkpoint_may_bring_the_head(head: Path, encoder: Encoder, tmp_path: Path) -> None:
    model = with_saliency(pipeline(), str(head))
    model.save_pretrained(str(tmp_path / "checkpoint"))
    own = load_encoder(str(tmp_path / "checkpoint"))
    recipe = RECIPE.model_copy(update={"codec": "pca-16+binary", "head": str(head)})
    with Connector.create("it", path=tmp_path / "qdrant", recipe=recipe, model=encoder) as connector:
        for side, encode in (("query", "encode_queries"), ("document", "encode_documents")):
            (brought,) = getattr(own, encode)(["An otter sleeps."])
            codec = connector.collection.codec
            assert codec is not None
            (weighed,) = codec.saliency(getattr(encoder, encode)(["An otter sleeps."]), side)  # type: ignore[arg-type]
            np.testing.assert_allclose(brought.saliency, weighed.saliency, atol=1e-5)
    recipe = RECIPE.model_copy(update={"codec": "pca-16+binary", "head": None})
    with Connector.create("it", path=tmp_path / "other", recipe=recipe, model=own) as connector:
        connector.ingest([Document(id="1", text="An otter sleeps.")])
        assert connector.search("otter")[0].id == "1"


def test_a_head_of_another_model_is_refused(head: Path, encoder: Encoder, tmp_path: Path) -> None:
    for codec, message in (("linear-8+binary", "maps width 384 to 16"), ("linear-32+float16", "linear-32")):
        recipe = RECIPE.model_copy(update={"codec": codec, "head": str(head / "linear-16")})
        with pytest.raises(RecipeError, match=message):
            Connector.create("it", path=tmp_path / codec, recipe=recipe, model=encoder)


def test_the_command_trains_and_goes_on(folder: Path, tmp_path: Path) -> None:
    arguments = [
        "train",
        "saliency",
        str(folder),
        "--out",
        str(tmp_path / "head"),
        "--steps",
        "3",
        "--batch",
        "4",
    ]
    arguments += ["--width", "16", "--cache", str(tmp_path / "cache")]
    run = CliRunner().invoke(main, arguments)
    assert run.exit_code == 0, run.output
    assert "beir" in run.output
    assert "--recipe aligner --codec linear-16+binary --head" in run.output
    again = CliRunner().invoke(main, [*arguments, "--json"])
    assert json.loads(again.stdout)["head"] == str(tmp_path / "head")
    for bad, message in (
        ([*arguments, "--share", "0.5", "--share", "1"], "2 shares for 1 folders"),
        ([*arguments, "--split", "test"], "splits there: train"),
        ([*arguments, "--width", "9"], "width 9"),
        ([*arguments, "--reduction", "ward"], "ward"),
        ([*arguments, "--reduction", "idf-50%"], "needs frequencies"),
        ([*arguments, "--seed", "1"], "another folder"),
        ([*arguments, "--share", "nan"], "nan"),
        (["train", "saliency", str(folder), str(folder), "--out", str(tmp_path / "b")], "same name"),
    ):
        failed = CliRunner().invoke(main, bad)
        assert failed.exit_code == 1
        assert message in failed.output
    wrong = CliRunner().invoke(main, [*arguments, "--out", str(folder / "corpus.jsonl")])
    assert wrong.exit_code == 2
    assert "is a file" in wrong.output


def test_shipped_heads_have_names() -> None:
    assert head_folder("no such name") == "no such name"
