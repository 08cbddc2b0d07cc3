"""The application: a collection that is searched, explained and written to over HTTP."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Collection
from functools import cache
from pathlib import Path

from fastapi import FastAPI, HTTPException, Request, Security
from fastapi.responses import HTMLResponse, Response
from fastapi.security import HTTPBearer

from connector.api.bulk_ingest import check_passages, count_checked
from connector.api.connector import Connector
from connector.collection.documents.writer import IngestReport
from connector.core.errors import InputError
from connector.core.explanation import Explanation
from connector.core.html import render_page
from connector.core.types import Document
from connector.encoders.chunking import Chunking
from connector.integrations.http.answers import (
    HealthAnswer,
    IngestAnswer,
    SearchAnswer,
    options_of,
    searched,
    searched_together,
)
from connector.integrations.http.middleware import SENT, TRUSTED, Guard, answer_errors, documented
from connector.integrations.http.requests import (
    BatchRequest,
    ExplainRequest,
    IngestRequest,
    Limits,
    SearchRequest,
)
from connector.integrations.http.server import LOOPBACK, Workers
from connector.stores.server.credentials import check_key

_HEALTH_SECONDS = 5.0
"""In which the store has to answer to be well."""


_FRESH_SECONDS = 1.0
"""For which an answer about health is given again."""


_PAGE_HEADERS = {
    "Cache-Control": "no-cache",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""With which the page is sent: it is in nobody's frame, and its address, with the query, goes nowhere."""


def app(
    connector: Connector,
    *,
    key: str | None = None,
    hosts: Collection[str] | None = LOOPBACK,
    limits: Limits | None = None,
) -> FastAPI:
    """An application that serves a collection; mount it in your own, or give it to any ASGI server.

    An ingest that runs ends early, keeping what it has written, once `app.state.stopping` is set.

    Args:
        connector: the collection; whoever gives it closes it.
        key: what requests have to show as `Authorization: Bearer KEY`; None if anybody may ask.
        hosts: without a key, the hosts that requests may name; None for all, where something in front of
            the application sees to who may ask.
        limits: of requests; by default those of `Limits()`.

    Raises:
        InputError: the connector is no `Connector`, or the key is empty or nothing that a header can carry.
    """
    if not isinstance(connector, Connector):
        raise InputError(f"connector is a {type(connector).__name__}; give a Connector")
    if key is not None and not check_key(key, "key"):
        raise InputError("key is empty, and would let everybody in; give a key, or None")
    limits, stopping = limits or Limits(), threading.Event()
    searches, ingests = Workers(limits.searches, limits.waiting), Workers(1, limits.ingests)
    health = _Health(connector)
    made = FastAPI(
        title=f"Search in {connector.name}",
        description="Late interaction on Qdrant: search, explain and ingest.",
        docs_url=None,  # its scripts come from elsewhere
        redoc_url=None,
    )
    made.state.stopping = stopping
    made.add_middleware(Guard, key=key, hosts=hosts, limits=limits)
    answer_errors(made)
    secured = [] if key is None else [Security(HTTPBearer(auto_error=False))]

    @made.get("/", include_in_schema=False)
    async def search_page() -> Response:
        return HTMLResponse(page(connector.name), headers=_PAGE_HEADERS)

    @made.get("/health", responses=documented(403, 503), response_model_exclude_none=True)
    async def is_well(request: Request) -> HealthAnswer:
        """Whether the store answers, and what it holds."""
        answer = await health()
        return answer if request.scope[TRUSTED] else HealthAnswer(status="ok")

    @made.post("/search", responses=documented(*SENT), dependencies=secured)
    async def search(asked: SearchRequest, request: Request) -> SearchAnswer:
        """The best documents for a query, each by its best passage."""
        return await searches(request, lambda: searched(connector, asked))

    @made.post("/search/batch", responses=documented(*SENT), dependencies=secured)
    async def search_batch(asked: BatchRequest, request: Request) -> list[SearchAnswer]:
        """The best documents for each of several queries, in the order of the queries.

        They are those that one search after another finds, in several times fewer seconds. In `ms` each query
        has its share of what all took. An unusable query refuses all of them.
        """
        return await searches(request, lambda: searched_together(connector, asked))

    @made.post("/explain", responses=documented(*SENT, 404), dependencies=secured)
    async def explain(asked: ExplainRequest, request: Request) -> Explanation:
        """The words that a document's score comes from."""
        return await searches(request, lambda: _explained(connector, asked))

    @made.post("/documents", responses=documented(*SENT), dependencies=secured)
    async def ingest(asked: IngestRequest, request: Request) -> IngestAnswer:
        """Write documents; those with the same ids are replaced, and nothing is written if one is unusable.

        Sending them again is harmless. Searches go on in the meantime, and ingests take turns. Begin a
        collection whose codec is learned from texts with as many documents as one request takes.
        """
        report = await ingests(request, lambda: _ingested(connector, asked, limits.passages, stopping))
        return IngestAnswer.model_validate(report, from_attributes=True)

    return made


@cache
def page(name: str) -> str:
    """The search page of a collection.

    It asks the server that it comes from, and puts in what it answers as text, never as markup.
    """
    return render_page(Path(__file__).parent / "static/search.html", asks=True, name=name)


def _explained(connector: Connector, asked: ExplainRequest) -> Explanation:
    if not connector.matching_ids([asked.id]):
        raise HTTPException(404, "the collection holds no document of this id; give one that a search finds")
    return connector.explain(asked.query, asked.id, **options_of(asked))


def _ingested(
    connector: Connector, asked: IngestRequest, most: int, stopping: threading.Event
) -> IngestReport:
    def go_on(report: IngestReport) -> None:
        if stopping.is_set():
            raise HTTPException(
                503, f"the server is ending; {report.documents} documents are written, send the rest again"
            )

    documents = [Document(**it.model_dump()) for it in asked.documents]
    chunking = Chunking(asked.chunk_tokens, asked.chunk_overlap)
    count_checked(documents, chunking, skip_bad=False)
    check_passages(connector, documents, chunking, most)
    if asked.indexes:
        connector.create_index(asked.indexes)
    return connector.ingest(
        documents, chunk_tokens=asked.chunk_tokens, chunk_overlap=asked.chunk_overlap, progress=go_on
    )


class _Health:
    """Whether the store answers; asked by one thread, once for all who ask at the same time."""

    def __init__(self, connector: Connector) -> None:
        self._connector = connector
        self._asking: asyncio.Future[HealthAnswer] | None = None
        self._asked = 0.0

    async def __call__(self) -> HealthAnswer:
        """The answer, which may be a second old.

        Raises:
            HTTPException: 503, as the store does not answer in time.
            ConnectorError: it answers that something is wrong.
        """
        if self._asking is None or (self._asking.done() and time.monotonic() - self._asked > _FRESH_SECONDS):
            self._asked = time.monotonic()
            self._asking = asyncio.ensure_future(asyncio.to_thread(self._ask))
        try:
            return await asyncio.wait_for(asyncio.shield(self._asking), _HEALTH_SECONDS)
        except TimeoutError:
            raise HTTPException(503, f"the store did not answer in {_HEALTH_SECONDS:g} seconds") from None

    def _ask(self) -> HealthAnswer:
        self._connector.refresh()
        collection = self._connector.collection
        return HealthAnswer(
            status="ok",
            collection=self._connector.name,
            recipe=collection.recipe.name,
            documents=collection.documents(),
        )
