"""Write documents, find them, put them in order and quote the best: two Haystack pipelines, in this process.

python examples/haystack_pipeline.py [FILE [QUESTION]]
"""

import os
import tempfile

os.environ.setdefault("HAYSTACK_TELEMETRY_ENABLED", "False")  # read when it is imported

from _corpus import corpus, given
from haystack import Document, Pipeline, component
from haystack.components.builders import PromptBuilder
from haystack.components.writers import DocumentWriter

from connector import load_encoder
from connector.core.types import passage_text
from connector.integrations import haystack as late

PROMPT = "{% for it in documents %}[{{ it.id }}] {{ it.content }}\n{% endfor %}\nQuestion: {{ question }}"


@component
class Quote:
    """Stands where a generator would, makes nothing up, and quotes the first line of the best passage."""

    @component.output_types(reply=str)
    def run(self, prompt: str) -> dict[str, str]:
        return {"reply": "no model wrote this; the best passage says: " + prompt.split("\n")[0]}


def main(folder: str, file: str | None, question: str) -> None:
    encoder = load_encoder()
    store = late.LateInteractionDocumentStore("docs", path=folder, model=encoder)
    writing = Pipeline()
    writing.add_component("writer", DocumentWriter(store))
    given = [(it.id, passage_text(it.title, it.text), dict(it.metadata)) for it in corpus(file)]
    documents = [Document(id=id_, content=text, meta=meta) for id_, text, meta in given]
    print(writing.run({"writer": {"documents": documents}})["writer"]["documents_written"], "documents")

    asking = Pipeline()
    asking.add_component("retriever", late.LateInteractionRetriever(store, top_k=10))
    asking.add_component("ranker", late.LateInteractionRanker(encoder, recipe="colbert", top_k=3))
    asking.add_component("prompt", PromptBuilder(PROMPT, required_variables="*"))
    asking.add_component("quote", Quote())
    for sender, receiver in [("retriever", "ranker"), ("ranker", "prompt.documents"), ("prompt", "quote")]:
        asking.connect(sender, receiver)
    query = {"query": question}
    inputs = {"retriever": query, "ranker": query, "prompt": {"question": question}}
    found = asking.run(inputs, include_outputs_from={"ranker"})
    print(question, found["quote"]["reply"], sep="\n  ")
    for document in found["ranker"]["documents"]:
        print(f"    {document.score:6.3f}  {document.id}")
    store.close()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        file, question = given(__doc__, "FILE", "QUESTION")
        main(scratch, file, question or "How do I merge sorted iterables?")
