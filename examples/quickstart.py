"""Ingest a few texts and search them, in this process.

python examples/quickstart.py [FOLDER]
"""

from __future__ import annotations

import argparse
import tempfile

from qdrant_client import models

from connector import Connector, Document

DOCUMENTS = [
    Document(
        id="otters",
        text="River otters hold hands while they sleep, so that the current does not part them.",
        metadata={"topic": "animals", "year": 2019},
    ),
    Document(
        id="bees",
        text="A bee that has found flowers dances in the hive to tell the others where they are.",
        metadata={"topic": "animals", "year": 2021},
    ),
    Document(
        id="bread",
        text="Sourdough rises because wild yeast and bacteria ferment the flour.",
        metadata={"topic": "food", "year": 2021},
    ),
    Document(
        id="glaciers",
        text="Glaciers grind rock into a fine flour that colours mountain lakes turquoise.",
        metadata={"topic": "earth", "year": 2020},
    ),
]


def main(folder: str) -> None:
    with Connector.create("docs", path=folder) as connector:
        report = connector.ingest(DOCUMENTS)
        print(f"{report.documents} documents, {report.bytes_per_passage['total']:.0f} bytes each")

    with Connector.open("docs", path=folder) as connector:  # it knows its recipe, codec and model
        question = "How do insects share the place of food?"
        print(question)
        for hit in connector.search(question, k=2):
            print(f"  {hit.score:.3f}  {hit.id}: {hit.text}")

        best = connector.search(question, k=1)[0]
        for name, part in best.parts.items():
            print(f"    {name}: {part.value:.3f}")
        for pair in connector.explain(question, best).by_word()[:5]:
            words = " ".join(word.text for word in pair.passage)  # merged tokens name all their words
            print(f"    {pair.kind:>8} {pair.query.text:>8} ~ {words}  ({pair.share:.0%} of the score)")

        recent = models.Filter(must=[models.FieldCondition(key="year", range=models.Range(lt=2021))])
        print(f"before 2021: {connector.search('flour', k=1, filter=recent)[0].id}")


if __name__ == "__main__":
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("FOLDER", nargs="?", help="where the collection is kept; by default it is not")
    with tempfile.TemporaryDirectory() as scratch:
        main(words.parse_args().FOLDER or scratch)
