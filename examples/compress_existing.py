"""Give a collection that another program fills late interaction, in a hundredth of its bytes.

    python examples/compress_existing.py [FILE]

It runs against Qdrant in this process; give `url="http://localhost:6333"` in the place of `client=client` for
a server. The program is played by a few lines that store one vector a passage, as LangChain does.
"""

from __future__ import annotations

from _corpus import corpus, given
from qdrant_client import QdrantClient, models

from connector import Connector, Document, Encoder, load_encoder

QUESTION = "make a copy of everything inside an object"


def another_program(client: QdrantClient, documents: list[Document], encoder: Encoder) -> None:
    """A collection in LangChain's layout, with one float32 vector a passage."""
    params = models.VectorParams(size=encoder.cls_width, distance=models.Distance.COSINE)
    client.create_collection("docs", vectors_config={"dense": params})
    embeddings = encoder.encode_documents([it.text for it in documents])
    points = [
        models.PointStruct(
            id=number,
            vector={"dense": embedding.cls.tolist()},
            payload={"page_content": it.text, "metadata": {**it.metadata, "name": it.id}},
        )
        for number, (it, embedding) in enumerate(zip(documents, embeddings, strict=True))
    ]
    client.upsert("docs", points)
    floats = sum(len(it) for it in embeddings) * encoder.token_width / len(embeddings)
    print(f"{len(points)} passages, {4 * encoder.cls_width:,} bytes each in one float32 vector;")
    print(f"one for each token would be {4 * floats:,.0f}")


def main(file: str | None) -> None:
    client, encoder = QdrantClient(":memory:"), load_encoder()
    another_program(client, corpus(file), encoder)

    with Connector.attach("docs", client=client, model=encoder) as connector:
        size = connector.stats().bytes_per_passage
        print(f"late interaction beside it: {size['total']:,.0f}, of which tokens {size['tokens']:,.0f}\n")
        print(QUESTION)
        for hit in connector.search(QUESTION, k=3):
            print(f"  late interaction: {hit.metadata['name']}")
        asked = encoder.encode_queries([QUESTION])[0].cls.tolist()
        for point in client.query_points("docs", query=asked, using="dense", limit=3).points:
            print(f"  its own vector:   {(point.payload or {})['metadata']['name']}")
        connector.detach()  # takes all of it away again
    client.close()


if __name__ == "__main__":
    main(*given(__doc__, "FILE"))
