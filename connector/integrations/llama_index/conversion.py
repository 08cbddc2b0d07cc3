"""Their nodes and filters, and ours."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from llama_index.core import schema
from llama_index.core.schema import BaseNode, MetadataMode, TextNode
from llama_index.core.vector_stores.types import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
)
from pydantic import ValidationError
from qdrant_client import models

from connector.core.errors import DocumentError, InputError
from connector.core.types import Document, Hit

_REST = "_llama_index"
"""The metadata key under which all else of a node is stored."""


SOURCE = f"{_REST}.ref_doc_id"
"""Of the document that a node comes from; the node itself, if from none."""


_APART: Any = {"id_": True, "embedding": True, "metadata": True, "text": True, "text_resource": {"text"}}


_KINDS: dict[str, type[BaseNode]] = {
    kind.class_name(): kind
    for kind in (
        schema.Document,
        schema.ImageNode,
        schema.IndexNode,
        schema.Node,
        TextNode,
    )
}


def documents_of(nodes: Iterable[BaseNode]) -> list[Document]:
    """Nodes as documents for `ingest`, which a retriever gives back as they were, without their embeddings.

    As everywhere in LlamaIndex, the metadata is encoded in front of the text, except for what
    `excluded_embed_metadata_keys` names. It is stored as it is, so that filters address its keys; all else
    of a node is stored below the key "_llama_index", such as "_llama_index.ref_doc_id", the document that
    the node comes from. Let a splitter make nodes that fit the model's window, and ingest
    them without `chunk_tokens`.

    Raises:
        DocumentError: a node has no text, or holds what would not come back.
    """
    return [_document(node) for node in nodes]


def _document(node: BaseNode) -> Document:
    if not isinstance(node, BaseNode):
        raise DocumentError(f"{node!r:.80} is a {type(node).__name__}; give nodes or documents of LlamaIndex")
    if _REST in node.metadata:
        raise DocumentError(f"node {node.node_id!r}: metadata key {_REST!r} is taken; rename it")
    try:
        rest = node.model_dump(mode="json", exclude=_APART, exclude_defaults=True)
        source = node.ref_doc_id or node.node_id
    except ValueError as error:
        raise DocumentError(f"node {node.node_id!r} cannot be stored: {error}; take that out") from error
    document = Document(
        id=node.node_id,
        text=node.get_content(MetadataMode.NONE),
        title=node.get_metadata_str(MetadataMode.EMBED).strip() or None,
        metadata={**node.metadata, _REST: {**rest, "ref_doc_id": source, "keys": list(node.metadata)}},
    )
    _check_whole(node, document)
    return document


def _check_whole(node: BaseNode, document: Document) -> None:
    kind = type(node)
    if kind is not _KINDS.get(node.class_name()):
        raise DocumentError(f"node {node.node_id!r} is a {kind.__name__}; give one of {', '.join(_KINDS)}")
    back = node_of(document)
    lost = [it for it in kind.model_fields if it != "embedding" and getattr(node, it) != getattr(back, it)]
    if lost:
        raise DocumentError(
            f"node {node.node_id!r}: {', '.join(lost)} would not come back from JSON; "
            "take out what is no JSON, and give media by path or url"
        )


def node_of(found: Hit | Document) -> BaseNode:
    """The node that a document was made of.

    A document that was never a node becomes a `TextNode` of its id, with the text of its best passage and,
    if it has a title, with that in the metadata as "title"; its source is the document of this id.
    """
    rest = found.metadata.get(_REST)
    if rest is None:
        return TextNode(
            id_=found.id,
            text=found.text,
            metadata={**({} if found.title is None else {"title": found.title}), **found.metadata},
            relationships={schema.NodeRelationship.SOURCE: schema.RelatedNodeInfo(node_id=found.id)},
        )
    fields = {key: value for key, value in rest.items() if key not in ("keys", "ref_doc_id")}
    kind = _KINDS[fields["class_name"]]
    if "text_resource" in kind.model_fields:
        fields["text_resource"] = {**fields.get("text_resource", {}), "text": found.text}
    else:
        fields["text"] = found.text
    order = {key: found.metadata[key] for key in rest["keys"] if key in found.metadata}  # Qdrant sorts keys
    metadata = {key: value for key, value in {**order, **found.metadata}.items() if key != _REST}
    return kind.from_dict({**fields, "id_": found.id, "metadata": metadata})


_BOUNDS = {
    FilterOperator.GT: "gt",
    FilterOperator.GTE: "gte",
    FilterOperator.LT: "lt",
    FilterOperator.LTE: "lte",
}


def filter_of(filters: MetadataFilters | models.Filter | None) -> models.Filter | None:
    """LlamaIndex's filters as Qdrant's; those of Qdrant stay as they are.

    A condition holds of a list if it holds of one of its items. `!=`, `nin` and `not` hold where the key is
    missing, as in LlamaIndex. Order is that of numbers, or of dates in ISO 8601. Both text matches look for
    every word of the value, in any order and case.

    Raises:
        InputError: an operator is not known, or its value does not fit it.
    """
    if filters is None or isinstance(filters, models.Filter):
        return filters
    if not isinstance(filters, MetadataFilters):
        raise InputError(f"filters is a {type(filters).__name__}; give MetadataFilters or Qdrant's Filter")
    conditions: list[Any] = [
        filter_of(it) if isinstance(it, MetadataFilters) else _condition(it) for it in filters.filters
    ]
    match filters.condition:
        case FilterCondition.AND | None:
            return models.Filter(must=conditions)
        case FilterCondition.OR:
            return models.Filter(should=conditions)
        case FilterCondition.NOT:
            return models.Filter(must_not=conditions)
    raise InputError(f"condition {filters.condition!r} is not known; use and, or, not")


def _condition(it: MetadataFilter) -> models.Condition:
    key = it.key if re.fullmatch(r'[\w.\[\]"-]+', it.key) else f'"{it.key}"'
    match it.operator:
        case FilterOperator.EQ | FilterOperator.CONTAINS:
            return _equal(key, _one(it))
        case FilterOperator.NE:
            return models.Filter(must_not=[_equal(key, _one(it))])
        case FilterOperator.GT | FilterOperator.GTE | FilterOperator.LT | FilterOperator.LTE:
            return _ordered(key, it)
        case FilterOperator.IN | FilterOperator.ANY:
            return _any_of(key, _several(it))
        case FilterOperator.NIN:
            return models.Filter(must_not=[_any_of(key, _several(it))])
        case FilterOperator.ALL:
            return models.Filter(must=[_equal(key, value) for value in _several(it)])
        case FilterOperator.TEXT_MATCH | FilterOperator.TEXT_MATCH_INSENSITIVE:
            return models.FieldCondition(key=key, match=models.MatchText(text=str(_one(it))))
        case FilterOperator.IS_EMPTY:
            return models.IsEmptyCondition(is_empty=models.PayloadField(key=key))
    raise InputError(
        f"filter on {it.key!r}: operator {it.operator!r} is not known; use one of FilterOperator"
    )


def _one(it: MetadataFilter) -> str | int | float:
    if it.value is None or isinstance(it.value, list):
        raise InputError(
            f"filter {it.key!r} {it.operator.value} {it.value!r}: give one text or number; "
            "in, any and all take lists, and is_empty finds what is missing"
        )
    return it.value


def _several(it: MetadataFilter) -> Sequence[str | int | float]:
    if not isinstance(it.value, list):
        raise InputError(f"filter {it.key!r} {it.operator.value} {it.value!r}: give a list of values")
    return it.value


def _equal(key: str, value: str | int | float) -> models.FieldCondition:
    if isinstance(value, str) or (isinstance(value, int) and abs(value) > 2**53):
        return models.FieldCondition(key=key, match=models.MatchValue(value=value))
    return models.FieldCondition(key=key, range=models.Range(gte=value, lte=value))  # 3 is 3.0


def _any_of(key: str, values: Sequence[str | int | float]) -> models.Condition:
    texts = [value for value in values if isinstance(value, str)]
    if len(texts) == len(values):  # none of no values, too
        return models.FieldCondition(key=key, match=models.MatchAny(any=texts))
    return models.Filter(should=[_equal(key, value) for value in values])


def _ordered(key: str, it: MetadataFilter) -> models.FieldCondition:
    bounds: Any = {_BOUNDS[it.operator]: _one(it)}
    try:
        range_ = models.DatetimeRange(**bounds) if isinstance(it.value, str) else models.Range(**bounds)
    except ValidationError as error:
        raise InputError(
            f"filter {it.key!r} {it.operator.value} {it.value!r}: give a number, or a date such as 2024-05-31"
        ) from error
    return models.FieldCondition(key=key, range=range_)
