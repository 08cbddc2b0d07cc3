"""Answer questions with LangChain by quoting the passages that late interaction finds, with citations.

python examples/langchain_rag.py [FILE] [QUESTION]

No language model is asked: `quote` stands where yours would, and its answer is the best passage.
"""

from __future__ import annotations

import tempfile

from _corpus import corpus, given
from langchain_core.documents import Document
from langchain_core.prompt_values import PromptValue
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable, RunnableLambda, RunnablePassthrough

from connector.integrations.langchain import MATCH, LateInteractionRetriever, LateInteractionVectorStore

PROMPT = ChatPromptTemplate.from_template("{passages}\n\n{question}")


def passages(found: list[Document]) -> str:
    return "\n".join(f"[{it.id}] {' '.join(it.page_content.split())}" for it in found)


def quote(prompt: PromptValue) -> str:
    """In the place of a language model: the first passage of the prompt, which cites itself."""
    return str(prompt.to_messages()[0].content).splitlines()[0]


def chain(retriever: LateInteractionRetriever) -> Runnable[str, str]:
    inputs = {"passages": retriever | passages, "question": RunnablePassthrough()}
    return inputs | PROMPT | RunnableLambda(quote)


def main(file: str | None, questions: list[str]) -> None:
    documents = [
        Document(it.text, id=it.id, metadata={"title": it.title, **it.metadata})
        for it in corpus(file)
        if file or it.metadata["module"] in ("itertools", "shutil")
    ]
    with (
        tempfile.TemporaryDirectory() as folder,
        LateInteractionVectorStore.from_documents(documents, collection="docs", path=folder) as store,
    ):
        print(f"{len(documents)} documents; answers are quotations, as no language model is asked")
        retriever = LateInteractionRetriever(connector=store.connector, k=3, match="words")
        for question in questions:
            print(f"\n{question}\n  {chain(retriever).invoke(question)[:200]}")
            best, *others = retriever.invoke(question)
            words = [it for it in best.metadata[MATCH]["words"] if it["query"].isalnum() and it["passage"]]
            pairs = [f"{it['query']} ~ {' '.join(it['passage'])}" for it in words[:3]]
            print(f"  by {'; '.join(pairs)}\n  see also {', '.join(str(it.id) for it in others)}")


if __name__ == "__main__":
    file, question = given(__doc__, "FILE", "QUESTION")
    main(
        file,
        [question] if question else ["how do I copy a file's times, too?", "group what has the same key"],
    )
