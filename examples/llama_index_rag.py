"""Ask a LlamaIndex query engine, which answers from passages that late interaction finds.

python examples/llama_index_rag.py [FILE [QUESTION]]
"""

from __future__ import annotations

import tempfile

from _corpus import corpus, given
from llama_index.core import Document, Settings, get_response_synthesizer
from llama_index.core.llms import MockLLM
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.query_engine import RetrieverQueryEngine

from connector import Connector
from connector.integrations.llama_index import LateInteractionRetriever, documents_of


def sources(file: str | None) -> list[Document]:
    return [
        Document(
            id_=it.id,
            text=it.text,
            metadata={**it.metadata, "title": it.title or it.id},
            excluded_embed_metadata_keys=list(it.metadata),  # of the metadata, only the title is encoded
            excluded_llm_metadata_keys=list(it.metadata),
        )
        for it in (corpus(file) if file else corpus()[:30])
    ]


def main(folder: str, file: str | None, question: str) -> None:
    Settings.llm = MockLLM()  # which is not asked: set your own, and leave the response mode out
    splitter = SentenceSplitter(
        chunk_size=200,  # the model reads 256 tokens
        chunk_overlap=20,
        id_func=lambda number, source: f"{source.node_id} #{number}",  # so that a second run changes nothing
    )
    nodes = splitter.get_nodes_from_documents(sources(file))
    with Connector.create("docs", path=folder) as connector:
        connector.ingest(documents_of(nodes))
        engine = RetrieverQueryEngine(
            LateInteractionRetriever(connector, similarity_top_k=3),
            response_synthesizer=get_response_synthesizer(response_mode="context_only"),
        )
        response = engine.query(question)
        print(f"{question}\nNo language model was asked: the answer is what these passages say.")
        for number, found in enumerate(response.source_nodes, 1):
            text = " ".join(found.node.get_content().split())
            parts = connector.explain(question, found.node.node_id).by_word()
            words = [it for it in parts if it.kind in ("tokens", "words")][:3]
            print(f"\n[{number}] {found.node.ref_doc_id}, score {found.score:.2f}\n    {text[:240]}")
            print("    matched: " + ", ".join(f"{it.query.text} ({it.share:.0%})" for it in words))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        file, question = given(__doc__, "FILE", "QUESTION")
        main(scratch, file, question or "How do I count words?")
