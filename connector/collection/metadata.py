"""What a collection says of itself.

The description is flat, because Qdrant merges metadata shallowly:

    format             version of this description
    library            version of this library that made the collection
    model              the encoder's name
    encoder            the encoder's fingerprint
    cls_width          width of its CLS vectors
    token_width        width of its token vectors
    recipe             the recipe, as JSON
    uid                drawn when the collection was made; another one of the same name has another
    codec              the fitted codec's fingerprint; missing until the first documents come
    cls_weight         share of the CLS vectors in the score, if the encoder's checkpoint has one
    alignment          how tokens are scored, if the collection was adapted; empty if that was taken back
    adapted_weight     share of the CLS vectors that goes with it; empty for none
    frequencies        how many passages the token frequencies count, if the recipe asks for them
    hnsw, copies       the graph of the CLS vectors and how a cluster spreads it, as JSON, if given
    indexes            indexed payload keys and their kinds, as JSON
    imported           digest of the export that it was made of, while it is being made
    building           by what it is being made; empty when it is whole
    route              how a version that was made of another one follows it: "encode" or "stored"
    rebuild            the version that is being made of this one; empty if none is
    frozen             by what its payloads are being changed; empty if they are not
    filling            the vector that is being added to its points; empty if none is
    layout             of another program's collection, where its texts are, as JSON
    attaching          while that gets its vectors and points are filled: "1"; empty when they are

In another program's collection all keys begin with "late_".

A migration adds keys of its own, see `connector.migrations.ledger`. The description belongs to one version of
the collection (`connector.collection.aliases`).
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping, Sequence
from importlib.metadata import version

from connector.collection.recipe import Recipe, load_recipe
from connector.compression.reduction import Frequencies, Setting
from connector.core.errors import CollectionError
from connector.core.types import Embedding
from connector.encoders import Encoder
from connector.scoring.muvera import Muvera
from connector.stores import Store
from connector.stores.schema import CLS, FDE, LEXICAL, TOKENS, CollectionSchema, Copies, Hnsw, VectorSchema

logger = logging.getLogger(__name__)


FORMAT = "3"


_NEEDED = ("library", "model", "encoder", "recipe", "uid")


def new_description(recipe: Recipe, encoder: Encoder) -> dict[str, str]:
    """Of a new collection.

    Raises:
        RecipeError: the recipe and the encoder do not go together.
    """
    recipe = recipe.for_model(encoder.fingerprint)
    if recipe.codec is not None:
        codec = recipe.make_codec()
        codec.check(encoder.token_width)
        recipe.make_reduction(Setting(codec.bytes_per_token(encoder.token_width)))
    if recipe.reduction is not None and encoder.reduction is not None:
        logger.warning(
            "model %r reduces passages to %s by itself, and recipe %s reduces them again with %s; "
            "to prevent that, choose reduction none",
            encoder.name,
            encoder.reduction,
            recipe.name,
            recipe.reduction,
        )
    info = {
        "format": FORMAT,
        "library": version("qdrant-late-interaction"),
        "model": encoder.name,
        "encoder": encoder.fingerprint,
        "cls_width": str(encoder.cls_width),
        "token_width": str(encoder.token_width),
        "recipe": recipe.model_dump_json(),
        "uid": uuid.uuid4().hex,
    }
    if encoder.cls_weight is not None:
        info["cls_weight"] = repr(encoder.cls_weight)
    if recipe.fde is not None:
        Muvera(encoder.token_width)  # that it is missing is better known now
    return info


def check_description(name: str, info: Mapping[str, str]) -> None:
    """Raises CollectionError unless a description is one that this version of the library reads."""
    if info.get("format") != FORMAT:
        raise CollectionError(
            f"collection {name!r} has format {info.get('format')}, this version reads {FORMAT}: it was made "
            "by another program or another version; attach to it, or choose another name and ingest"
        )
    lost = [key for key in _NEEDED if not info.get(key)]
    lost += [key for key in ("cls_width", "token_width") if not info.get(key, "").isdecimal()]
    if lost:
        raise CollectionError(f"the description of collection {name!r} lacks {lost[0]}; restore an export")


def schema_of(info: Mapping[str, str]) -> CollectionSchema:
    """The schema of the collection that a description is of."""
    hnsw, copies = info.get("hnsw"), info.get("copies")
    return schema_for(
        load_recipe(info["recipe"]),
        int(info["cls_width"]),
        int(info["token_width"]),
        Hnsw.model_validate_json(hnsw) if hnsw else None,
        Copies.model_validate_json(copies) if copies else None,
    )


def schema_for(
    recipe: Recipe,
    cls_width: int,
    token_width: int,
    hnsw: Hnsw | None = None,
    copies: Copies | None = None,
) -> CollectionSchema:
    """The schema of a recipe under an encoder of these widths."""
    vectors = [VectorSchema(CLS, cls_width, recipe.cls, hnsw=hnsw)]
    if recipe.layout != "dense":
        codec = recipe.make_codec()
        width = codec.width(token_width)
        if codec.datatype is not None and recipe.layout == "multivector":
            vectors.append(VectorSchema(TOKENS, width, codec.datatype, True, recipe.quantization))
        if recipe.fde is not None:
            vectors.append(VectorSchema(FDE, Muvera.size(width), "turbo4"))
    sparse = () if recipe.lexical is None else (LEXICAL,)
    return CollectionSchema(tuple(vectors), sparse, copies or Copies())


FREQUENCIES_FILE = "frequencies.safetensors"


class StoredFrequencies:
    """Token frequencies of one version of a collection.

    Args:
        store, physical: the version.
        needed: whether anything asks for them; if not, nothing is counted or stored.

    Attributes:
        for_passages: what ingest counts, and reduces passages by.
        for_queries: what queries are reduced by; searches read these while an ingest counts the others.
    """

    def __init__(self, store: Store, physical: str, needed: bool) -> None:
        self._store = store
        self._physical = physical
        self._needed = needed
        self.for_passages = Frequencies()
        self.for_queries = Frequencies()

    def add(self, embeddings: Sequence[Embedding], more: bool) -> None:
        """Count passages; one writer at a time.

        Args:
            embeddings: of the passages, not reduced.
            more: whether the passages counted before wait to be stored, too. Else what was counted and not
                stored is forgotten, as passages that are never written do not count.
        """
        if self._needed:
            if not more:
                self._read(self.for_passages)
            self.for_passages.add(embeddings)

    def store(self) -> None:
        """Store what was counted."""
        if self._needed:
            self._store.put_artifact(self._physical, FREQUENCIES_FILE, self.for_passages.save())
            self._store.set_info(self._physical, {"frequencies": str(self.for_passages.passages)})

    def stored(self) -> Frequencies:
        """What is stored now."""
        return self._read(Frequencies()) if self._needed else Frequencies()

    def refresh(self) -> None:
        """Read what queries are reduced by, if passages were counted since."""
        if self._passages != str(self.for_queries.passages):
            self._read(self.for_queries)

    def copy_to(self, other: StoredFrequencies) -> None:
        """Give another version what is stored, if it is needed there."""
        passages = self._passages
        if other._needed and passages:
            data = self._store.get_artifact(self._physical, FREQUENCIES_FILE)
            self._store.put_artifact(other._physical, FREQUENCIES_FILE, data)
            self._store.set_info(other._physical, {"frequencies": passages})

    @property
    def _passages(self) -> str | None:
        """How many passages the stored ones count."""
        return self._store.info(self._physical).get("frequencies")

    def _read(self, into: Frequencies) -> Frequencies:
        empty = Frequencies().save
        into.load(self._store.get_artifact(self._physical, FREQUENCIES_FILE) if self._passages else empty())
        return into
