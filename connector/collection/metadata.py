"""What a collection says of itself: one typed model of all keys.

The stored form is flat and all text, because Qdrant merges metadata shallowly; an empty text is as good as
none. It belongs to one version of the collection (`connector.collection.versions.aliases`). In another
program's collection all keys begin with "late_".
"""

from __future__ import annotations

import binascii
import json
import logging
import uuid
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, Json, ValidationError

from connector.collection.recipe import Recipe, load_recipe
from connector.compression.codecs.scalar_quantization import TURBO, stored_bytes
from connector.compression.reduction import Setting
from connector.core.errors import CollectionError, own_words
from connector.core.types import Float32
from connector.encoders import Encoder
from connector.scoring.alignment import TopK, TopP, parse_alignment
from connector.scoring.bm25 import AVERAGE, BM25, bm25
from connector.scoring.feedback import Feedback, parse_feedback
from connector.scoring.fusion import Fusion, parse_fusion
from connector.scoring.muvera import Muvera
from connector.stores import PayloadKind, Store
from connector.stores.external import Layout
from connector.stores.schema import (
    CLS,
    FDE,
    FILTERED,
    LEXICAL,
    TOKENS,
    CollectionSchema,
    Distribution,
    Hnsw,
    VectorSchema,
)

logger = logging.getLogger(__name__)


FORMAT = "3"


MAX_WIDTH = 65_536
"""Of a vector, in Qdrant."""


LEDGER = "migration"
"""How the keys of the migrations' ledger begin, see `connector.migrations.revisions`."""


STRATEGY = ("alignment", "adapted_weight", "fusion", "feedback")
"""Keys that say how an adapted collection is scored."""


SCORING = (*STRATEGY, "query_mean")
"""All keys that adapting sets."""


DECISIVE = ("uid", "recipe", *SCORING, "filling")
"""Keys that decide how a collection is written and searched."""


UNCOUNTED = 0.0
"""The average length of passages until the first ones come."""


class CollectionMetadata(BaseModel):
    """What a collection says of itself.

    Args:
        format: version of this form.
        library: version of this library that made the collection.
        model: the encoder's name.
        encoder: the encoder's fingerprint.
        cls_width, token_width: widths of its CLS and token vectors.
        recipe: what is stored, for that encoder.
        uid: drawn when the collection was made; another one of the same name has another.
        codec: the fitted codec's fingerprint; missing until the first documents come.
        late_interaction: whether the encoder was trained to be scored by its tokens.
        cls_weight: share of the CLS vectors in the score, if the encoder's checkpoint has one.
        alignment: how tokens are scored, if the collection was adapted.
        adapted_weight: share of the CLS vectors that went with it in version 0.1.
        fusion, feedback: how parts make a score and what first hits add, if the collection was adapted.
        query_mean: of the tokens of its queries, if it was adapted to them: float16, low byte first, base64.
        average_words: mean length of the first passages, by which the index of words weighs all of them; 0
            until they come. Missing where there is no such index, and where it was made before this was
            counted: then it weighs by 256.
        frequencies: how many passages the token frequencies count, if the recipe asks for them.
        hnsw, copies: the graph of the CLS vectors and how a cluster spreads it, if given.
        indexes: indexed payload keys and their kinds.
        turbo: what is stored in place of Qdrant's turbo types, where it was made on a server without them.
        canaries: how many queries are kept to try versions by.
        waiting: how many artifacts hold what is encoded and waits for its codec.
        imported: digest of the export that it was made of.
        building: by what it is being made, while it is.
        route: how a version that was made of another one follows it: its texts are encoded, or what is
            stored is taken.
        rebuild: the version that is being made of this one.
        frozen: by what its payloads are being changed.
        filling: the vector that is being added to its points, which searches cannot use yet.
        layout: of another program's collection, where its texts are.
        attaching: while that gets its vectors and points are written.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    format: str
    library: str
    model: str
    encoder: str
    cls_width: int = Field(gt=0, le=MAX_WIDTH)
    token_width: int = Field(gt=0, le=MAX_WIDTH)
    recipe: Annotated[Recipe, BeforeValidator(lambda it: load_recipe(it) if isinstance(it, str) else it)]
    uid: str
    codec: str | None = None
    late_interaction: bool = False
    cls_weight: float | None = None
    alignment: Annotated[TopK | TopP | None, BeforeValidator(lambda it: it and parse_alignment(it))] = None
    adapted_weight: float | None = None
    fusion: Annotated[Fusion | None, BeforeValidator(lambda it: it and parse_fusion(it))] = None
    feedback: Annotated[Feedback | None, BeforeValidator(lambda it: it and parse_feedback(it))] = None
    query_mean: str | None = None
    average_words: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    frequencies: int | None = None
    hnsw: Json[Hnsw] | None = None
    copies: Json[Distribution] | None = None
    indexes: Json[dict[str, PayloadKind]] = Field(default_factory=dict)
    turbo: Literal["float16"] | None = None
    canaries: int | None = None
    waiting: int | None = None
    imported: str | None = None
    building: str | None = None
    route: Literal["encode", "stored"] | None = None
    rebuild: str | None = None
    frozen: str | None = None
    filling: str | None = None
    layout: Json[Layout] | None = None
    attaching: bool = False

    @classmethod
    def read(cls, name: str, info: Mapping[str, str]) -> CollectionMetadata:
        """The metadata of a collection.

        Args:
            name: the collection's, for messages.
            info: what is stored.

        Raises:
            CollectionError: it is damaged, or not of this format.
        """
        if info.get("format") != FORMAT:
            raise CollectionError(
                f"collection {name!r} has format {info.get('format')}, this version reads {FORMAT}: it was "
                "made by another program or another version; attach to it, or choose another name and ingest"
            )
        try:
            return cls.model_validate({key: value for key, value in info.items() if value})
        except ValidationError as error:
            if (cause := own_words(error)) is not None:
                raise cause from None
            problem = error.errors(include_url=False)[0]
            key = problem["loc"][0]
            what = f"lacks {key}" if problem["type"] == "missing" else f"has an unusable {key}"
            raise CollectionError(
                f"the description of collection {name!r} {what}; restore an export"
            ) from error

    @property
    def query_center(self) -> Float32 | None:
        """(w,) the mean of the tokens of its queries."""
        if self.query_mean is None:
            return None
        mean = np.frombuffer(binascii.a2b_base64(self.query_mean), "<f2")
        if mean.shape != (self.token_width,) or not np.isfinite(mean).all():
            raise CollectionError(f"query_mean has {len(mean)} numbers, not {self.token_width}; adapt again")
        return mean.astype(np.float32)

    @property
    def ledger(self) -> dict[str, str]:
        """The keys of the migrations' ledger."""
        more = self.model_extra or {}
        return {key: it for key, it in more.items() if key == LEDGER or key.startswith(f"{LEDGER}.")}

    @property
    def words(self) -> BM25 | None:
        """What makes the index of words; None if there is none."""
        language = self.recipe.lexical
        return None if language is None else bm25(language, self.average_words or AVERAGE)

    @property
    def collection_schema(self) -> CollectionSchema:
        """The vectors of the collection."""
        schema = schema_for(self.recipe, self.cls_width, self.token_width, self.hnsw, self.copies)
        vectors = tuple(
            replace(it, datatype=self.turbo) if self.turbo and it.datatype in TURBO else it
            for it in schema.vectors
        )
        schema = replace(schema, vectors=vectors, indexes=self.indexes, filtered=FILTERED)
        # A collection from before words were counted is copied as it is.
        return schema if self.average_words is None else replace(schema, weights="float16")

    @property
    def token_bytes(self) -> int:
        """Bytes of one stored token vector; 0 in the dense layout."""
        recipe = self.recipe
        if recipe.codec is None:
            return 0
        if recipe.layout == "multivector":
            rows = self.collection_schema.vector(TOKENS)
            return stored_bytes(rows.datatype, rows.size)
        own_byte = recipe.saliency  # in the other layout it is the vectors' length
        return recipe.make_codec().bytes_per_token(self.token_width) + own_byte

    @property
    def vector_bytes(self) -> dict[str, int]:
        """Bytes of one stored row of each named vector of Qdrant's."""
        return {it.name: stored_bytes(it.datatype, it.size) for it in self.collection_schema.vectors}

    def made_in(self, store: Store, physical: str) -> CollectionMetadata:
        """The same with what a store can keep in place of what it cannot, which is logged."""
        plain = self.model_copy(update={"turbo": None})
        if store.capabilities.turbo or all(
            it.datatype not in TURBO for it in plain.collection_schema.vectors
        ):
            return plain
        logger.warning(
            "%s has no turbo types, as Qdrant has from 1.19 on: %r keeps vectors as float16 in their place",
            *(store.location, physical),
        )
        return self.model_copy(update={"turbo": "float16"})

    def stored(self) -> dict[str, str]:
        """All that is known, as it is stored."""
        return {key: it for key, it in stored_form(**dict(self)).items() if it and it != "{}"}


def stored_form(**values: Any) -> dict[str, str]:
    """Values of keys as they are stored; None, and what says nothing, as an empty text."""
    return {key: _text(value) for key, value in values.items()}


def _text(value: Any) -> str:
    match value:
        case None | False:
            return ""
        case True:
            return "1"
        case BaseModel():
            return value.model_dump_json()
        case TopK() | TopP() | Fusion() | Feedback():
            return value.spec
        case Mapping():
            return json.dumps(dict(value), sort_keys=True)
        case float():
            return repr(value)
    return str(value)


def uncounted(recipe: Recipe) -> float | None:
    """`average_words` of a recipe's new collection."""
    return None if recipe.lexical is None else UNCOUNTED


def new_metadata(recipe: Recipe, encoder: Encoder, **more: Any) -> CollectionMetadata:
    """Of a new collection.

    Args:
        recipe: what it stores.
        encoder: what encodes.
        more: other keys.

    Raises:
        RecipeError: the recipe and the encoder do not go together.
    """
    recipe = recipe.for_model(encoder.fingerprint, encoder.late_interaction)
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
    if recipe.fde is not None:
        Muvera(encoder.token_width)  # that it is missing is better known now
    return CollectionMetadata.model_construct(
        format=FORMAT,
        library=version("qdrant-late-interaction"),
        model=encoder.name,
        encoder=encoder.fingerprint,
        cls_width=encoder.cls_width,
        token_width=encoder.token_width,
        recipe=recipe,
        uid=uuid.uuid4().hex,
        late_interaction=encoder.late_interaction,
        cls_weight=encoder.cls_weight,
        **{"average_words": uncounted(recipe), **more},
    )


def schema_for(
    recipe: Recipe,
    cls_width: int,
    token_width: int,
    hnsw: Hnsw | None = None,
    distribution: Distribution | None = None,
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
    return CollectionSchema(tuple(vectors), sparse, distribution or Distribution())
