"""Nodes as documents of a collection, and back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from llama_index.core import schema
from llama_index.core.schema import BaseNode, MetadataMode, TextNode

from connector.core.errors import DocumentError
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
