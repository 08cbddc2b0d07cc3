"""LlamaIndex's nodes and filters, and ours."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable
from typing import Any

from llama_index.core import schema
from llama_index.core.schema import BaseNode, MetadataMode, TextNode
from llama_index.core.vector_stores import FilterCondition, FilterOperator, MetadataFilter, MetadataFilters
from qdrant_client import models

from connector.core.errors import DocumentError, InputError
from connector.core.types import Document, Hit, passage_text
from connector.encoders import Encoder
from connector.encoders.titles import title_in_front
from connector.integrations.common import titled
from connector.integrations.filters import all_of, any_of, empty, equal, none_of, ordered

logger = logging.getLogger(__name__)

# The metadata key under which all else of a node is stored.
_REST = "_llama_index"
# Of the document that a node comes from; the node itself, if from none.
SOURCE = f"{_REST}.ref_doc_id"
_APART: Any = {"id_": True, "embedding": True, "metadata": True, "text": True, "text_resource": {"text"}}
_NODES: list[type[BaseNode]] = [schema.Document, schema.ImageNode, schema.IndexNode, schema.Node, TextNode]
_KINDS = {kind.class_name(): kind for kind in _NODES}
_CONDITIONS: dict[FilterCondition, Callable[[list[Any]], models.Filter]] = {
    FilterCondition.AND: all_of,
    FilterCondition.OR: any_of,
    FilterCondition.NOT: none_of,
}
_OF_LISTS = {FilterOperator.IN, FilterOperator.NIN, FilterOperator.ANY, FilterOperator.ALL}


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
    kind, id_ = type(node), getattr(node, "node_id", None)
    if kind not in _KINDS.values():
        raise DocumentError(f"node {id_!r} is a {kind.__name__}; give one of {', '.join(_KINDS)}")
    if _REST in node.metadata:
        raise DocumentError(f"node {id_!r}: metadata key {_REST!r} is taken; rename it")
    try:
        rest = node.model_dump(mode="json", exclude=_APART, exclude_defaults=True)
        source = node.ref_doc_id or node.node_id
    except ValueError as error:
        raise DocumentError(f"node {id_!r} cannot be stored: {error}; take that out") from error
    document = Document(
        id=node.node_id,
        text=node.get_content(MetadataMode.NONE),
        title=node.get_metadata_str(MetadataMode.EMBED).strip() or None,
        metadata={**node.metadata, _REST: {**rest, "ref_doc_id": source, "keys": list(node.metadata)}},
    )
    back = node_of(document)
    lost = [it for it in kind.model_fields if it != "embedding" and getattr(node, it) != getattr(back, it)]
    if lost:
        which = f"node {id_!r}: {', '.join(lost)}"
        raise DocumentError(
            f"{which} would not come back from JSON; take it out, or give media by path or url"
        )
    return document


def encoded_texts(encoder: Encoder, nodes: Iterable[BaseNode]) -> list[str]:
    """What a model reads of nodes, as everywhere in LlamaIndex, but for metadata that leaves text no room."""
    texts, cut = [], 0
    for node in nodes:
        title, text = node.get_metadata_str(MetadataMode.EMBED).strip(), node.get_content(MetadataMode.NONE)
        kept = title_in_front(encoder, title, text) if text.strip() else title
        texts.append(node.get_content(MetadataMode.EMBED) if kept == title else passage_text(kept, text))
        cut += kept != title
    if cut:
        logger.warning(
            "the metadata of %d of %d nodes does not fit the model's window beside their texts: its first "
            "words alone are read; name keys in excluded_embed_metadata_keys",
            *(cut, len(texts)),
        )
    return texts


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
            metadata=titled(found),
            relationships={schema.NodeRelationship.SOURCE: schema.RelatedNodeInfo(node_id=found.id)},
        )
    kind = _KINDS[rest["class_name"]]
    fields = {key: value for key, value in rest.items() if key not in ("keys", "ref_doc_id")}
    if "text_resource" in kind.model_fields:
        fields["text_resource"] = {**fields.get("text_resource", {}), "text": found.text}
    else:
        fields["text"] = found.text
    order = {key: found.metadata[key] for key in rest["keys"] if key in found.metadata}  # Qdrant sorts keys
    metadata = {key: value for key, value in {**order, **found.metadata}.items() if key != _REST}
    return kind.from_dict({**fields, "id_": found.id, "metadata": metadata})


def filter_of(filters: MetadataFilters | models.Filter | None) -> models.Filter | None:
    """LlamaIndex's filters as Qdrant's; those of Qdrant stay as they are.

    A condition holds of a list if it holds of one of its items. `!=`, `nin` and `not` hold where the key is
    missing, as in LlamaIndex. Numbers and truth values are equal as in Python. Order is that of numbers, or
    of dates in ISO 8601. Both text matches look for every word of the value, in any order and case.

    Raises:
        InputError: an operator is not known, or its value does not fit it.
    """
    if filters is None or isinstance(filters, models.Filter):
        return filters
    if not isinstance(filters, MetadataFilters):
        raise InputError(f"filters is a {type(filters).__name__}; give MetadataFilters or Qdrant's Filter")
    combined = _CONDITIONS.get(filters.condition or FilterCondition.AND)
    if combined is None:
        raise InputError(f"condition {filters.condition!r} is not known; use and, or, not")
    parts = filters.filters
    conditions = [filter_of(it) if isinstance(it, MetadataFilters) else _condition(it) for it in parts]
    return combined(conditions) if conditions else all_of([])


def _condition(it: MetadataFilter) -> models.Condition:
    key = it.key if re.fullmatch(r'[\w.\[\]"-]+', it.key) else f'"{it.key}"'
    operator, value = getattr(it.operator, "value", it.operator), it.value
    if operator == FilterOperator.IS_EMPTY:
        return empty(key)
    if (operator in _OF_LISTS) is not isinstance(value, list) or value is None:
        wanted = "a list of values" if operator in _OF_LISTS else "one text or number, or use is_empty"
        raise InputError(f"filter {it.key!r} {operator} {value!r:.80}: give {wanted}")
    values: list[Any] = value if isinstance(value, list) else [value]
    match operator:
        case FilterOperator.EQ | FilterOperator.CONTAINS | FilterOperator.IN | FilterOperator.ANY:
            return equal(key, values)
        case FilterOperator.NE | FilterOperator.NIN:
            return none_of([equal(key, values)])
        case FilterOperator.ALL:
            return all_of([equal(key, [each]) for each in values])
        case FilterOperator.TEXT_MATCH | FilterOperator.TEXT_MATCH_INSENSITIVE:
            return models.FieldCondition(key=key, match=models.MatchText(text=str(value)))
        case FilterOperator.GT | FilterOperator.GTE | FilterOperator.LT | FilterOperator.LTE:
            return ordered(key, operator, value)
    raise InputError(f"filter on {key}: operator {operator!r} is not known; use one of FilterOperator")
