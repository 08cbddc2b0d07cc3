"""A migration of another program's collection: its points get late interaction beside the vectors they have.

The collection is described first, in its metadata; then it gets the vectors of the recipe, then its points
are filled, those without a text passed over. A run that was cut off goes on where it was when it is run
again, and what the program wrote since is filled then, too. `detach` takes all of it back.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from qdrant_client import models

from connector.collection.coding import code
from connector.collection.collection import Collection
from connector.collection.documents.writer import IngestReport
from connector.collection.ingest import ingest
from connector.collection.metadata import new_metadata
from connector.collection.recipe import RECIPES, Recipe
from connector.core.errors import CollectionError, DocumentError, InputError
from connector.core.types import Document
from connector.encoders import DEFAULT_MODEL, Encoder, Model, load_encoder
from connector.encoders.chunking import Chunking
from connector.stores import ServerStore, Store
from connector.stores.external import ADDED, TEXT_KEYS, AttachedStore, Layout, at, recognised

DEFAULT_RECIPE = "default"


_LOOKED_AT = 64
"""Points that tell where the texts are, and what they will take."""


_FIRST = 10_000
"""Points among which they are looked for; a strict server would refuse a filter on keys without an index."""


_FILLED = models.Filter(must=[models.FieldCondition(key="passage", range=models.Range(gte=0))])


@dataclass(frozen=True, slots=True)
class Planned:
    """What attaching would do.

    Attributes:
        collection: its name.
        layout: where texts and metadata are.
        points: how many the program has.
        filled: how many of them have late interaction already.
        text: the first text.
        recipe: what is added.
        bytes_per_passage: of the vectors that are added, the mean of the first points.
        seconds: about how long encoding takes.
    """

    collection: str
    layout: str
    points: int
    filled: int
    text: str
    recipe: str
    bytes_per_passage: float
    seconds: float


def plan(
    store: Store,
    name: str,
    encoder: Encoder,
    recipe: Recipe,
    *,
    text_field: str | None = None,
    metadata_field: str | None = None,
) -> Planned:
    """Look at what `attach` would do; nothing is written."""
    physical, here = _look(store, name, text_field, metadata_field)
    texts = [text for _, text in itertools.islice(here.texts(physical), _LOOKED_AT) if text is not None]
    filled = here.count(physical, _FILLED) if here.info(physical) else 0
    points, started = store.count(physical), time.perf_counter()
    size = 4.0 * encoder.cls_width
    if texts and recipe.codec is not None:
        (coded,) = code(texts, encoder, [recipe.for_model(encoder.fingerprint, encoder.late_interaction)])
        size = coded.bytes_per_passage
    seconds = (time.perf_counter() - started) * (points - filled) / max(len(texts), 1)
    text = texts[0] if texts else ""
    return Planned(name, str(here.layout), points, filled, text, recipe.name, round(size, 1), seconds)


def attach(
    store: Store,
    name: str,
    recipe: Recipe | None,
    model: Model | None,
    device: str | None,
    *,
    text_field: str | None = None,
    metadata_field: str | None = None,
    progress: Callable[[IngestReport], None] | None = None,
) -> tuple[Collection, Encoder]:
    """Add late interaction to a collection, or to what its program has written since.

    Args:
        store: a server.
        name: the collection.
        recipe: what is added, by default `default`; an attached collection must have it, if it is given.
        model: what encodes, likewise.
        device: where it does.
        text_field, metadata_field: where text and metadata are, if the layout is not a known one.
        progress: called after each acknowledged write with the report so far.

    Raises:
        CollectionError: it is one of this library's own, no text is found, or points cannot be filled.
        InputError: it is attached with another recipe or another layout.
        StoreLocked: another process attaches it, or changes it.
    """
    _look(store, name, text_field, metadata_field)  # raises before anything is written, such as a lease
    with store.lease(name):
        physical, here = _look(store, name, text_field, metadata_field)
        if not here.info(physical).get("layout"):
            encoder = load_encoder(model or DEFAULT_MODEL, device)
            new = new_metadata(recipe or RECIPES[DEFAULT_RECIPE], encoder, layout=here.layout, attaching=True)
            new = new.made_in(here, physical)
            here.check_free(physical, new.collection_schema)
            here.set_info(physical, new.stored())
            collection = Collection(store, name)
        else:
            collection = Collection(store, name)
            if (there := collection.metadata.layout) != here.layout:
                raise InputError(
                    f"collection {name!r} is attached with {there}, not with {here.layout}; detach it first, "
                    "or leave the fields out"
                )
            check_recipe(collection, recipe, "is attached with", "detach it first")
            encoder = load_encoder(model or collection.metadata.model, device)
        if collection.metadata.attaching:
            for vector in collection.schema.vectors:
                here.add_vector(physical, vector)
            for sparse in collection.schema.sparse:
                here.add_vector(physical, sparse)
            for key, kind in collection.schema.filtered.items():
                here.create_index(physical, key, kind)
        _fill(collection, here, physical, encoder, progress)
        collection.write_metadata(attaching=None)
    return collection, encoder


def _look(
    store: Store, name: str, text_field: str | None, metadata_field: str | None
) -> tuple[str, AttachedStore]:
    """The collection behind a name, and the store in which it looks like one of ours."""
    if not isinstance(store, ServerStore):
        raise InputError(
            f"{store.location} holds collections of this library alone, and there is nothing to attach to; "
            "give the url of a server, or a client"
        )
    physical = store.aliases().get(name, name)
    said = store.info(physical)
    if said.get("format") and said.get("uid"):
        raise CollectionError(f"collection {name!r} is one of this library's own; open it instead")
    if said.get("late_layout") and text_field is None and metadata_field is None:
        return physical, AttachedStore(store, Layout.model_validate_json(said["late_layout"]))
    for key in (text_field, metadata_field):
        if key is not None and (not key or key in ADDED):
            raise InputError(f"{key!r} is not a payload key of the program's; give the one that it writes")
    keys = TEXT_KEYS if text_field is None else (text_field,)
    payloads = [record.payload for record in itertools.islice(store.scroll(physical, None), _FIRST)]
    sample = [it for it in payloads if any(at(it, key) is not None for key in keys)] or payloads
    sample = sample[:_LOOKED_AT]
    return physical, AttachedStore(store, recognised(sample, text_field, metadata_field))


def check_recipe(collection: Collection, recipe: Recipe | None, has: str, remedy: str) -> None:
    """Refuse a recipe that is not the collection's, whatever the two are called.

    Args:
        collection: the collection.
        recipe: None fits any.
        has, remedy: what a message says of the collection, and what to do other than to leave the recipe out.

    Raises:
        InputError: it is another one; the message names the parts that differ.
    """
    if recipe is None:
        return
    made = collection.metadata
    others = collection.recipe.differences(recipe.for_model(made.encoder, made.late_interaction))
    if others:
        raise InputError(
            f"collection {collection.name!r} {has} recipe {collection.recipe.name!r}, not {recipe.name!r} "
            f"({'; '.join(others)}); {remedy}, or leave the recipe and its parts out"
        )


def _fill(
    collection: Collection,
    here: AttachedStore,
    physical: str,
    encoder: Encoder,
    progress: Callable[[IngestReport], None] | None,
) -> None:
    passed_over: list[str] = []

    def documents() -> Iterator[Document]:
        for id_, text in here.texts(physical):
            try:
                if text is None:
                    raise DocumentError(f"point {id_} has no text in {here.layout.text!r}")
                yield Document(id=id_, text=text)
            except DocumentError as error:
                passed_over.append(str(error))

    report = ingest(collection, encoder, documents(), chunking=Chunking(), skip_bad=True, progress=progress)
    report.bad += passed_over
    if progress is not None:
        progress(report)


def detach(collection: Collection) -> None:
    """Take away all that `attach` added; the program's points and vectors stay as they are.

    Raises:
        CollectionError: it is not attached.
    """
    store = collection.store
    if not isinstance(store, AttachedStore):
        raise CollectionError(f"collection {collection.name!r} is not attached; to delete it, drop it")
    with store.lease(collection.name):
        collection.check_current()
        store.detach(collection.physical, collection.schema)
