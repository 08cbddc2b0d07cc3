"""What a step of a migration is: how it is planned, from estimates of sizes, and what it is given to run."""

from __future__ import annotations

import itertools
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from functools import cached_property
from statistics import fmean
from typing import Any, ClassVar, Literal

from qdrant_client import models

from connector.collection.collection import Collection
from connector.collection.documents.document_state import State, read, scan
from connector.collection.documents.passages import Passage, text_of
from connector.collection.documents.writer import WORD_BYTES, EncoderOf
from connector.collection.metadata import CollectionMetadata, uncounted
from connector.collection.pipeline import WAITING, WINDOW, OwnCodec, PassagePipeline
from connector.collection.recipe import RECIPES, Recipe
from connector.collection.versions import transcode
from connector.collection.versions.catalog import kept
from connector.compression.reduction import Frequencies
from connector.core.errors import ConnectorError
from connector.core.io import batched, to_json
from connector.encoders import Encoder
from connector.scoring.bm25 import BM25
from connector.stores import Capabilities, Lease, Record, Store
from connector.stores.schema import CLS, FDE, LEXICAL

Route = Literal["in place", "backfill", "rebuild"]
"""How a step is done: by changing the collection, its points, or by making another version."""


_SAMPLE = 64
"""Documents that are looked at."""


Outlook = tuple[int, int | None, Sequence[str]]
"""How many points a step writes, the bytes that it needs more, and what to know about it."""


Progress = Callable[[str, int, int], None]
"""Told what step is doing what, such as "copying", how many documents it has done, and of how many."""


@dataclass(frozen=True, slots=True)
class Planned:
    """What a step would do.

    Args:
        step: the step, as a revision writes it.
        route: how it is done.
        points: how many points it writes.
        bytes: that it needs beside what is there, estimated; None if that cannot be known.
        notes: what to know about it.
        after: what the collection is then.
    """

    step: str
    route: Route
    points: int
    bytes: int | None
    notes: tuple[str, ...]
    after: CollectionMetadata


@dataclass(slots=True)
class Work:
    """What a step needs to run.

    Args:
        store, name: the collection.
        step: the step, as a revision writes it.
        id: of the step; another one each time that a revision is applied or taken back.
        direction: "upgrade" or "downgrade".
        finish: what the collection says when the step is done; said with the switch if another version is
            made, else by whoever runs the step.
        lease: held while the migration runs.
        encoder_of: gives the encoder of a version.
        load: gives an encoder by its name.
        min_overlap: least mean overlap of the first ten hits of canary queries.
        report: is told how far the step has come.
        say: is told what a person should know.
    """

    store: Store
    name: str
    step: str
    id: str
    direction: str
    finish: Mapping[str, Any]
    lease: Lease
    encoder_of: EncoderOf
    load: Callable[[str], Encoder]
    min_overlap: float
    report: Progress
    say: Callable[[str], None]

    @property
    def collection(self) -> Collection:
        """The collection as it is now."""
        return Collection(self.store, self.name)

    def progress(self, doing: str, done: int = 0, total: int = 0) -> None:
        """Tell how far the step has come, in documents."""
        self.report(f"{self.step}: {doing}", done, max(done, total))

    def windows(
        self, collection: Collection, doing: str, filter: models.Filter | None = None
    ) -> Iterator[list[tuple[str, State]]]:
        """All documents of a collection, some at a time, while the lease is held, with their progress.

        Args:
            collection: which.
            doing: what is being done to them.
            filter: on payload keys.

        Raises:
            StoreLocked: the lease is lost.
        """
        total, done = collection.documents(), 0
        for window in batched(scan(collection, filter), WINDOW):
            self.lease.check()
            yield window
            done += len(window)
            self.progress(doing, done, total)

    def texts(self, collection: Collection) -> list[str]:
        """The first passages of a collection, enough to count words in."""
        texts: list[str] = []
        for window in self.windows(collection, "counting words"):
            texts += [text_of(it) for them in read(collection, dict(window)).values() for it, _ in them]
            if len(texts) >= WAITING:
                break
        return texts


class Estimate:
    """Sizes by a few documents; only a reduction that is not stored yet needs the encoder.

    Args:
        collection: as it is now.
        encoder_of: gives its encoder.
        back: whether revisions are taken back, for which versions from before are used again.

    Attributes:
        points: how many the collection has.
    """

    def __init__(self, collection: Collection, encoder_of: EncoderOf, back: bool = False) -> None:
        self.collection = collection
        self._encoder_of = encoder_of
        self._back = back
        self.points = collection.passages()

    def kept(self, after: CollectionMetadata) -> str | None:
        """A version like this that is there from before and would be used again."""
        return kept(self.collection, after) if self._back else None

    @cached_property
    def pairs(self) -> list[tuple[Passage, Record]]:
        """Some passages, and what is counted of each."""
        first = dict(itertools.islice(scan(self.collection), _SAMPLE))
        found = read(self.collection, first, ["rows", "words"])
        return [pair for pairs in found.values() for pair in pairs][: 2 * _SAMPLE]

    @cached_property
    def _texts(self) -> list[str]:
        return [text_of(passage) for passage, _ in self.pairs]

    def rebuilt(self, after: CollectionMetadata) -> int | None:
        """Bytes of vectors, codes and payload of all points of a version that says this of itself."""
        if not self.pairs:
            return 0
        try:
            rows = self._rows(after.recipe)
        except ConnectorError:
            return None
        sizes = after.vector_bytes
        base64 = 4 / 3 if after.recipe.layout == "codes" else 1
        each = sizes[CLS] + sizes.get(FDE, 0) + rows * after.token_bytes * base64
        payload = fmean(len(to_json(record.payload).encode()) for _, record in self.pairs)
        return round((each + WORD_BYTES * self._words(after.recipe) + payload) * self.points)

    def vector(self, after: CollectionMetadata, name: str) -> int:
        """Bytes of a named vector of all points."""
        if not self.pairs:
            return 0
        if name == LEXICAL:
            return round(self.points * WORD_BYTES * self._words(after.recipe))
        return self.points * after.vector_bytes[name]

    def _rows(self, recipe: Recipe) -> float:
        """Mean token rows of a passage."""
        own = self.collection.recipe
        if recipe.layout == "dense":
            return 0.0
        if own.layout != "dense" and own.reduction == recipe.reduction:
            return fmean(record.payload.get("rows", 0) for _, record in self.pairs)
        encoder = self._encoder_of(self.collection)
        recipe = recipe.for_model(encoder.fingerprint, encoder.late_interaction)
        holder, frequencies = OwnCodec(recipe), Frequencies()
        width = holder.codec.bytes_per_token(encoder.token_width)
        pipeline = PassagePipeline(recipe, holder, width, frequencies)
        embeddings = pipeline.embed(encoder, self._texts)
        frequencies.add(embeddings)
        return fmean(map(len, pipeline.reduce(embeddings)))

    def _words(self, recipe: Recipe) -> float:
        """Mean words of a passage in its sparse vector."""
        if recipe.lexical is None:
            return 0.0
        words = BM25(recipe.lexical)
        return fmean(len(words.passage(text)) for text in self._texts)


class Step(ABC):
    """One change of a collection: planned without touching anything, and run so that it can be cut off.

    Attributes:
        route: how it is done where the engine can.
        alters: whether it changes vectors, for which some engines make another version.
    """

    route: ClassVar[Route] = "in place"
    alters: ClassVar[bool] = True

    def __str__(self) -> str:
        """The step, as a revision writes it; kept with the collection while the revision is applied."""
        name = re.sub(r"\B(?=[A-Z])", "_", type(self).__name__).lower()
        words = []
        for field in fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if field.default is MISSING:
                words.append(_written(value))
            elif value is not None:
                words.append(f"{field.name}={_written(value)}")
        return f"{name}({', '.join(words)})"

    @abstractmethod
    def check(self, before: CollectionMetadata) -> CollectionMetadata:
        """What a collection that says this of itself says afterwards: recipe, model, graph, indexes.

        Raises:
            ConnectorError: it cannot be done, whatever the collection holds.
        """

    def plan(self, before: CollectionMetadata, estimate: Estimate) -> Planned:
        """What it would do; nothing is written.

        Args:
            before: what the collection says when the steps before this one are done.
            estimate: of sizes of the collection as it is now.
        """
        after, route = self.check(before), self.route
        rebuilds = self.rebuilds(estimate.collection.store.capabilities)
        size: int | None
        notes: Sequence[str]
        if rebuilds and (version := estimate.kept(after)) is not None:
            route, points, size = "rebuild", estimate.points, 0
            notes = [f"{version} is there from before: only what changed since then is written"]
        elif rebuilds and route != "rebuild":
            route, points, size = "rebuild", estimate.points, estimate.rebuilt(after)
            why = transcode.why_not(before.recipe, after.recipe)
            made = "stored vectors are copied" if why is None else f"texts are encoded again, as {why}"
            notes = [f"this engine cannot change it in place: {made}"]
        else:
            points, size, notes = self.outlook(after, estimate)
        return Planned(str(self), route, points, size, tuple(notes), after)

    @abstractmethod
    def outlook(self, after: CollectionMetadata, estimate: Estimate) -> Outlook:
        """What it takes by its own route."""

    def rebuilds(self, can: Capabilities) -> bool:
        """Whether another version is made on an engine that can do this."""
        return self.route == "rebuild" or (self.alters and not can.alters)

    def encoder(self, work: Work, source: Collection, after: CollectionMetadata) -> Encoder | None:  # noqa: ARG002
        """What encodes the texts of another version again; None makes it of what is stored."""
        return None

    @abstractmethod
    def apply(self, work: Work, collection: Collection, after: CollectionMetadata) -> None:
        """Do it by its own route; what was done before a cut is not done again."""


def _written(value: Any) -> str:
    if isinstance(value, Recipe):
        return value.name
    return str(getattr(value, "__name__", "function")) if callable(value) else repr(value)


def with_recipe(before: CollectionMetadata, recipe: Recipe) -> CollectionMetadata:
    """The same with another recipe, called by the shortest name that it has."""
    recipe = recipe.with_rows(before.late_interaction)
    if recipe.same_as(before.recipe):
        return before
    for known in (it.with_rows(before.late_interaction) for it in RECIPES.values()):
        if known.model_copy(update={"head": recipe.head}).same_as(recipe):
            words = {"name": known.name, "summary": known.summary, "source": known.source}
            recipe = recipe.model_copy(update=words)
    same = recipe.lexical == before.recipe.lexical
    average = before.average_words if same else uncounted(recipe)
    return before.model_copy(update={"recipe": recipe, "average_words": average})
