"""Answer a question from passages: search, matched words, a prompt with citations, a language model.

    python examples/rag.py ["QUESTION" …] [--file FILE]
    python examples/rag.py --transformers FOLDER_OR_ID
    OPENAI_API_KEY=… python examples/rag.py --endpoint http://localhost:11434/v1 --model NAME

A model is any function from a prompt to a text. Without one the prompt is shown, and the best passage quoted.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import urllib.request
from collections.abc import Callable

from _corpus import corpus

from connector import Connector, Hit, Hits
from connector.core.explanation import Pair

Model = Callable[[str], str]

QUESTIONS = ["How do I copy a whole folder?", "Which words are spelled nearly the same as mine?"]


def matched(connector: Connector, question: str, hit: Hit, most: int = 3) -> str:
    """The words of the question with those that they matched in the passage, the weightiest first."""

    def words(pair: Pair) -> str:
        return " ".join(list(dict.fromkeys(word.text.lower() for word in pair.passage))[:most])

    parts = connector.explain(question, hit).by_word()
    pairs = [it for it in parts if it.kind in ("tokens", "words") and it.query.text.isalnum()]
    return ", ".join(f"{it.query.text} ~ {words(it)}" for it in pairs[:most])


def prompt(question: str, hits: Hits) -> str:
    """What a model is asked: the passages, numbered for its citations, and the question."""
    passages = "\n\n".join(f"[{number}] {hit.id}: {hit.text}" for number, hit in enumerate(hits, 1))
    return (
        "Answer the question from these passages alone, and cite them like [1]. If they do not say it, say "
        f"so.\n\n{passages}\n\nQuestion: {question}\nAnswer:"
    )


def local(name: str) -> Model:
    """A model of transformers, in this process."""
    from transformers import pipeline

    generate = pipeline("text-generation", model=name)
    return lambda asked: str(generate(asked, max_new_tokens=200, return_full_text=False)[0]["generated_text"])


def endpoint(url: str, name: str) -> Model:
    """A model behind an endpoint that speaks as OpenAI's does; its key from OPENAI_API_KEY."""

    def ask(asked: str) -> str:
        body = {"model": name, "messages": [{"role": "user", "content": asked}]}
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get("OPENAI_API_KEY"):
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(
            f"{url.rstrip('/')}/chat/completions", json.dumps(body).encode(), headers
        )
        with urllib.request.urlopen(request, timeout=120) as answer:
            return str(json.load(answer)["choices"][0]["message"]["content"])

    return ask


def answer(connector: Connector, question: str, model: Model | None) -> None:
    hits = connector.search(question, k=3)
    print(f"\n{question}")
    for number, hit in enumerate(hits, 1):
        print(f"  [{number}] {hit.id}  ({matched(connector, question, hit)})")
    asked = prompt(question, hits)
    if model is not None:
        print(f"  {model(asked).strip()}")
    elif hits:
        print(f"  No model is given; it would be asked {len(asked.split())} words. The best passage says:")
        print(f"  {' '.join(hits[0].text.split())[:160]} [1]")


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("questions", nargs="*", default=QUESTIONS)
    options.add_argument("--file", help="search this file or folder instead of some docstrings")
    options.add_argument("--transformers", help="a local model, or the id of one")
    options.add_argument("--endpoint", help="an address that ends in /v1")
    options.add_argument("--model", default="", help="what the endpoint calls its model")
    given = options.parse_args()
    model = local(given.transformers) if given.transformers else None
    model = endpoint(given.endpoint, given.model) if given.endpoint else model
    with (
        tempfile.TemporaryDirectory() as folder,
        Connector.create("docs", path=folder) as connector,
    ):
        connector.ingest(corpus(given.file))
        print(f"{connector.stats().documents} documents")
        for question in given.questions or QUESTIONS:
            answer(connector, question, model)


if __name__ == "__main__":
    main()
