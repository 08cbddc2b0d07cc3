"""`connector serve`: the API, the page in a browser, the command, and what they refuse."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from connector import AsyncConnector, Connector, Document, Encoder, Hits, Recipe
from connector.cli import main
from connector.collection.search.options import SearchOptions
from connector.core.errors import InputError, MissingExtra, StoreUnavailable
from connector.integrations.http.app import app, page
from connector.integrations.http.requests import Limits
from connector.integrations.http.server import LOOPBACK, Address, _Server, is_loopback
from tests.server.doubles import double

KEY = "a-key-of-this-test"
LEVELS = 8  # of shading, as in search.css
EVIL = "</title><script>window.evil = 1</script><img src=x onerror='window.evil = 2'>"
HOSTILE = Document(
    id=f'{EVIL}" onmouseover="window.evil = 3',
    text=f"🦦 The axolotl {EVIL} keeps its gills. 👩‍👩‍👧 שלום",
    title=f"Axolotl {EVIL}",
    metadata={f"key {EVIL}": f"value {EVIL}", "list": [1, {"a": None}]},
)
JSON = {"Content-Type": "application/json"}
QUERIES = ["how do bees share where food is", "what makes bread rise?", "rock into flour", "bread", "bread"]


@contextmanager
def serving(connector: Connector, **options: Any) -> Iterator[httpx.Client]:
    """A real server on loopback, in a thread, and a client of it."""
    import uvicorn

    with Address.take("127.0.0.1", 0) as address:
        config = uvicorn.Config(app(connector, **options), log_config=None, access_log=False, ws="none")
        started = threading.Event()
        server = _Server(config, started.set, threading.Event())
        thread = threading.Thread(target=server.run, kwargs={"sockets": [address.taken]})
        thread.start()
        try:
            assert started.wait(20)
            with httpx.Client(base_url=address.url, timeout=60) as client:
                yield client
        finally:
            server.should_exit = True
            thread.join(20)
            assert not thread.is_alive()


@pytest.fixture(scope="module")
def connector(
    encoder: Encoder, documents: list[Document], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Connector]:
    """Twelve documents and a hostile one."""
    path = tmp_path_factory.mktemp("served")
    with Connector.create("docs", path=path, recipe="compact", model=encoder) as connector:
        connector.ingest([*documents, HOSTILE])
        yield connector


@pytest.fixture(scope="module")
def client(connector: Connector) -> Iterator[httpx.Client]:
    with serving(connector) as client:
        yield client


@pytest.fixture
def empty(encoder: Encoder, tmp_path: Path) -> Iterator[Connector]:
    """A collection that holds nothing yet."""
    with Connector.create("new", path=tmp_path / "qdrant", recipe="compact", model=encoder) as connector:
        yield connector


def problem(response: httpx.Response, status: int, *words: str) -> None:
    assert response.status_code == status, response.text
    assert set(response.json()) == {"detail"}
    assert "Traceback" not in response.text
    for word in words:
        assert word in response.json()["detail"]


# The API


def test_health_says_what_is_served(client: httpx.Client) -> None:
    answer = {"status": "ok", "collection": "docs", "recipe": "compact", "documents": 13}
    assert client.get("/health").json() == answer


def test_a_search_finds_what_the_library_finds(client: httpx.Client, connector: Connector) -> None:
    asked = {"query": "what makes bread rise?", "k": 3}
    answer = client.post("/search", json=asked).json()
    expected = connector.search("what makes bread rise?", 3)
    assert [hit["id"] for hit in answer["hits"]] == [hit.id for hit in expected]
    first = answer["hits"][0]
    assert first["score"] == pytest.approx(expected[0].score)
    assert first["text"] == expected[0].text
    assert first["metadata"] == {"number": 2, "even": True}
    assert first["passage"] == 0
    assert first["title"] is first["matches"] is None
    assert set(answer["ms"]) == {"encode", "candidates", "rerank", "feedback", "total", "explain"}
    held = connector.stats().bytes_per_passage["total"]
    sizes = [it["bytes"] for it in client.post("/search", json={"query": "x", "k": 13}).json()["hits"]]
    assert sum(sizes) / len(sizes) == pytest.approx(held, abs=0.1)


def test_a_search_takes_what_the_library_takes(client: httpx.Client) -> None:
    even = {"must": [{"key": "even", "match": {"value": True}}]}
    asked = {"query": "bread", "filter": even, "candidates": 5, "alignment": "top-2"}
    asked["fusion"] = "sum:tokens=0.5,cls=0.5"
    hits = client.post("/search", json=asked).json()["hits"]
    assert len(hits) == 6
    assert all(hit["metadata"]["even"] for hit in hits)
    assert set(hits[0]["parts"]) == {"tokens", "cls"}
    hits = client.post("/search", json={"query": "bread", "rerank": None}).json()["hits"]
    assert set(hits[0]["parts"]) == {"cls"}
    problem(client.post("/search", json={"query": "bread", "rerank": "nobody"}), 422, "rerank")


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "a page": {"offset": 2},
    "a least similarity": {"min_similarity": 0.3},
    "diverse": {"mmr": 0.3},
    "groups": {"group_by": "even", "group_size": 2},
    "the next group": {"group_by": "even", "k": 1, "offset": 1},
    "few candidates": {"candidates": 3, "k": 9},
    "found": {"rerank": None, "min_similarity": 0},
}


def assert_answers(answer: dict[str, Any], expected: Hits) -> None:
    hits = answer["hits"]
    assert [(it["id"], it["group"]) for it in hits] == [(it.id, it.group) for it in expected]
    assert [type(it["group"]) for it in hits] == [type(it.group) for it in expected]
    for name in ("score", "similarity"):
        assert [it[name] for it in hits] == pytest.approx([getattr(it, name) for it in expected], abs=1e-4)
    assert (answer["pool"], answer["note"]) == (expected.pool, expected.note)


@pytest.mark.parametrize("case", OPTIONS)
def test_a_search_pages_groups_and_chooses_as_the_library_does(
    client: httpx.Client, connector: Connector, case: str
) -> None:
    asked = {"k": 3, **OPTIONS[case]}
    answer = client.post("/search", json={"query": QUERIES[0], **asked})
    assert answer.status_code == 200, answer.text
    expected = connector.search(QUERIES[0], **asked)
    assert len(expected) > 0
    assert_answers(answer.json(), expected)
    plain = connector.search(QUERIES[0], asked["k"])
    changed = [hit.id for hit in expected] != [hit.id for hit in plain]
    assert changed is (case != "plain")


@pytest.mark.parametrize("case", OPTIONS)
def test_a_batch_answers_as_one_after_another(client: httpx.Client, connector: Connector, case: str) -> None:
    asked = {"k": 3, **OPTIONS[case]}
    response = client.post("/search/batch", json={"queries": QUERIES, **asked})
    assert response.status_code == 200, response.text
    assert len(response.json()) == len(QUERIES)
    for query, answer in zip(QUERIES, response.json(), strict=True):
        assert_answers(answer, connector.search(query, **asked))
        alone = client.post("/search", json={"query": query, **asked}).json()
        assert [it["bytes"] for it in answer["hits"]] == [it["bytes"] for it in alone["hits"]]
        assert set(answer) == set(alone)
        assert answer["ms"]["explain"] is None


def test_a_batch_is_searched_a_part_at_a_time(client: httpx.Client, connector: Connector) -> None:
    queries = [f"{word} {n}" for n in range(16) for word in ("bread", "otter", "moon", "wool")]
    answers = client.post("/search/batch", json={"queries": queries, "k": 2, "candidates": 1000}).json()
    assert len(answers) == 64
    for query, answer in zip(queries[::9], answers[::9], strict=True):
        assert_answers(answer, connector.search(query, 2, candidates=1000))


def test_beyond_the_pool_an_answer_says_why_it_is_empty(client: httpx.Client) -> None:
    asked = {"query": "bread", "candidates": 3, "offset": 13}
    answer = client.post("/search", json=asked).json()
    assert answer["hits"] == []
    assert answer["truncated"] == 0
    long = client.post("/search", json={"query": "bread rises " * 300}).json()
    assert long["truncated"] > 300
    assert f"the candidates are of {answer['pool']} documents; candidates=" in answer["note"]
    (same,) = client.post("/search/batch", json={"queries": ["bread"], "candidates": 3, "offset": 13}).json()
    assert (same["pool"], same["note"]) == (answer["pool"], answer["note"])


def test_words_of_grouped_and_diverse_hits_are_explained(client: httpx.Client) -> None:
    more = {"mmr": 0.5, "group_by": "even", "group_size": 2, "min_similarity": -1, "explain": True}
    hits = client.post("/search", json={"query": QUERIES[1], "k": 2, **more}).json()["hits"]
    assert [it["group"] for it in hits] in ([True, True, False, False], [False, False, True, True])
    assert [it["unexplained"] for it in hits] == [None] * 4
    assert any(it["matches"] for it in hits)


def test_words_that_matched_stand_where_they_say(client: httpx.Client) -> None:
    answer = client.post("/search", json={"query": "axolotl gills", "k": 1, "explain": True}).json()
    (hit,) = answer["hits"]
    assert hit["id"] == HOSTILE.id
    found = {(it["where"], hit[it["where"]][it["start"] : it["end"]]) for it in hit["matches"]}
    assert {("title", "Axolotl"), ("text", "axolotl"), ("text", "gills")} <= found
    assert max(it["weight"] for it in hit["matches"]) == 1
    assert sum(it["part"] for it in hit["matches"]) <= hit["score"] + 1e-6
    assert answer["ms"]["explain"] > 0


def test_hits_without_words_say_why(encoder: Encoder, tmp_path: Path) -> None:
    recipe = Recipe(name="words", layout="dense", lexical="english")
    with Connector.create("words", path=tmp_path / "qdrant", recipe=recipe, model=encoder) as connector:
        connector.ingest([Document(id="a", text="Bread rises.")])
        with serving(connector) as client:
            asked = {"query": "bread", "k": 1, "explain": True}
            (hit,) = client.post("/search", json=asked).json()["hits"]
            assert (hit["matches"], hit["unexplained"]) == ([], None)
            (hit,) = client.post("/search", json={**asked, "candidates_by": "lexical"}).json()["hits"]
            assert hit["matches"] is None
            assert "nothing but the order" in hit["unexplained"]


def test_an_explanation_sums_to_the_score(client: httpx.Client, connector: Connector) -> None:
    answer = client.post("/explain", json={"query": "holding hands", "id": "doc 0"}).json()
    expected = connector.explain("holding hands", "doc 0")
    assert answer["score"] == pytest.approx(expected.score)
    assert sum(pair["part"] for pair in answer["pairs"]) == pytest.approx(answer["score"], abs=1e-4)
    assert answer["text"] == expected.text
    for pair in answer["pairs"]:
        for word in pair["passage"]:
            assert word["end"] == 0 or answer["text"][word["start"] : word["end"]] == word["text"]
    problem(client.post("/explain", json={"query": "x", "id": "nobody"}), 404, "id")


def test_ingest_search_explain(empty: Connector) -> None:
    with serving(empty) as client:
        assert client.post("/search", json={"query": "anything"}).json()["hits"] == []
        documents = [
            {"id": "a", "text": "Otters hold hands.", "metadata": {"year": 1}},
            {"id": "b", "text": "Bread rises. " * 40, "title": "Baking"},
        ]
        body = {"documents": documents, "chunk_tokens": 30}
        report = client.post("/documents", json=body).json()
        assert (report["documents"], report["unchanged"], report["refused"]) == (2, 0, {})
        assert report["passages"] > 2
        assert report["bytes_per_passage"]["total"] > 0
        assert client.post("/documents", json=body).json()["unchanged"] == 2
        (hit,) = client.post("/search", json={"query": "bread", "k": 1}).json()["hits"]
        assert (hit["id"], hit["title"]) == ("b", "Baking")
        assert client.post("/explain", json={"query": "bread", "id": "b"}).json()["pairs"]
        time.sleep(1.1)  # an answer about health is a second old at most
        assert client.get("/health").json()["documents"] == 2


def test_the_passages_of_a_request_are_bounded_and_nothing_is_written_of_more(empty: Connector) -> None:
    long = {"id": "b", "text": "Bread rises. " * 80}
    body = {"documents": [{"id": "a", "text": "Otters."}, long], "chunk_tokens": 3, "chunk_overlap": 2}
    with serving(empty, limits=Limits(passages=20)) as client:
        problem(client.post("/documents", json=body), 422, "'b'", "chunks of 3 tokens", "over 20", "larger")
        assert empty.collection.documents() == 0
        assert client.post("/documents", json={**body, "chunk_tokens": 200}).status_code == 200


def test_titles_that_do_not_fit_are_counted(empty: Connector) -> None:
    document = {"id": "a", "text": "Bread rises. " * 80, "title": "Sourdough " * 300}
    body = {"documents": [document], "chunk_tokens": 200, "chunk_overlap": 100}
    with serving(empty) as client:
        report = client.post("/documents", json=body).json()
    assert (report["titles_cut"], report["truncated"]) == (1, 0)
    assert report["passages"] <= 4


def test_metadata_is_indexed_where_a_strict_server_wants_it(encoder: Encoder) -> None:
    year = {"must": [{"key": "year", "match": {"value": 2021}}]}
    body: dict[str, Any] = {"documents": [{"id": "1", "text": "one", "metadata": {"year": 2021}}]}
    there = double(strict=True)
    with (
        Connector.create("docs", client=there, recipe="dense", model=encoder) as connector,
        serving(connector) as client,
    ):
        assert client.post("/documents", json=body).status_code == 200
        refused = client.post("/search", json={"query": "one", "filter": year})
        problem(refused, 422, "strict mode", "index add year:")
        problem(client.post("/documents", json={**body, "indexes": {"year": "number"}}), 422, "indexes")
        assert client.post("/documents", json={**body, "indexes": {"year": "integer"}}).status_code == 200
        found = client.post("/search", json={"query": "one", "filter": year}).json()
        assert [hit["id"] for hit in found["hits"]] == ["1"]
        assert connector.indexes == {"year": "integer"}


def test_nothing_is_written_if_one_document_is_unusable(empty: Connector) -> None:
    good, same = {"id": "a", "text": "Otters."}, {"id": "a", "text": "Bread."}
    deep: Any = 1
    for _ in range(70):
        deep = [deep]
    bad = [
        same,
        {"id": "b", "text": "a\0b"},
        {"id": "b", "text": "x", "metadata": {"n": 10**30}},
        {"id": "b", "text": "x", "metadata": {"n": deep}},
        {"id": "b", "text": "x" * 100_001},
    ]
    with serving(empty) as client:
        for document in bad:
            problem(client.post("/documents", json={"documents": [good, document]}), 422, document["id"])
        problem(client.post("/documents", json={"documents": [good], "chunk_overlap": 3}), 422, "chunk")
        problem(client.post("/documents", json={"documents": [good], "chunk_tokens": 9999}), 422, "9999")
    assert empty.collection.documents() == 0


# What is refused


BODIES: dict[str, tuple[str, bytes, int]] = {
    "no JSON": ("/search", b"{oops", 400),
    "no UTF-8": ("/search", b'{"query": "\xff\xfe"}', 400),
    "nothing": ("/search", b"", 422),
    "null": ("/search", b"null", 422),
    "a list": ("/search", b"[]", 422),
    "deep": ("/search", b"[" * 100_000, 400),
    "deep and whole": ("/search", b'{"query": ' + b"[" * 900 + b"]" * 900 + b"}", 422),
    "a number of 5,000 digits": ("/search", b'{"query": "x", "k": ' + b"9" * 5000 + b"}", 400),
    "no query": ("/search", b"{}", 422),
    "an unknown field": ("/search", b'{"query": "x", "limit": 3}', 422),
    "an empty query": ("/search", b'{"query": ""}', 422),
    "a blank query": ("/search", b'{"query": " \\n "}', 422),
    "a query that is long": ("/search", b'{"query": "' + b"x" * 10_001 + b'"}', 422),
    "NUL": ("/search", b'{"query": "a\\u0000b"}', 422),
    "a lone surrogate": ("/search", b'{"query": "a\\ud800b"}', 422),
    "k of 0": ("/search", b'{"query": "x", "k": 0}', 422),
    "k of 10^30": ("/search", b'{"query": "x", "k": 1' + b"0" * 30 + b"}", 422),
    "k as text": ("/search", b'{"query": "x", "k": "5"}', 422),
    "k of NaN": ("/search", b'{"query": "x", "k": NaN}', 422),
    "candidates": ("/search", b'{"query": "x", "candidates": 10001}', 422),
    "an offset of -1": ("/search", b'{"query": "x", "offset": -1}', 422),
    "an offset that is large": ("/search", b'{"query": "x", "offset": 10001}', 422),
    "a similarity of 2": ("/search", b'{"query": "x", "min_similarity": 2}', 422),
    "a similarity of NaN": ("/search", b'{"query": "x", "min_similarity": NaN}', 422),
    "mmr of 1.5": ("/search", b'{"query": "x", "mmr": 1.5}', 422),
    "mmr of NaN": ("/search", b'{"query": "x", "mmr": NaN}', 422),
    "an empty key": ("/search", b'{"query": "x", "group_by": ""}', 422),
    "a long key": ("/search", b'{"query": "x", "group_by": "' + b"a." * 501 + b'"}', 422),
    "groups of nothing": ("/search", b'{"query": "x", "group_by": "a", "group_size": 0}', 422),
    "groups that are large": ("/search", b'{"query": "x", "group_by": "a", "group_size": 101}', 422),
    "too many to compare": ("/search", b'{"query": "x", "mmr": 0, "candidates": 1001}', 422),
    "too many to group": ("/search", b'{"query": "x", "group_by": "a", "candidates": 1001}', 422),
    "too many explained in groups": (
        "/search",
        b'{"query": "x", "group_by": "a", "group_size": 6, "explain": true}',
        422,
    ),
    "no queries": ("/search/batch", b'{"queries": []}', 422),
    "a query for a batch": ("/search/batch", b'{"query": "x"}', 422),
    "a text as queries": ("/search/batch", b'{"queries": "x"}', 422),
    "too many queries": ("/search/batch", json.dumps({"queries": ["x"] * 65}).encode(), 422),
    "a blank among queries": ("/search/batch", b'{"queries": ["x", " "]}', 422),
    "NUL among queries": ("/search/batch", b'{"queries": ["x", "a\\u0000b"]}', 422),
    "a number among queries": ("/search/batch", b'{"queries": ["x", 1]}', 422),
    "a long query among queries": ("/search/batch", b'{"queries": ["x", "' + b"x" * 10_001 + b'"]}', 422),
    "words of a batch": ("/search/batch", b'{"queries": ["x"], "explain": true}', 422),
    "candidates of a batch": ("/search/batch", b'{"queries": ["x"], "candidates": 1001}', 422),
    "hits of a batch": ("/search/batch", json.dumps({"queries": ["x"] * 11, "k": 1000}).encode(), 422),
    "a batch by words without an index": (
        "/search/batch",
        b'{"queries": ["x"], "candidates_by": "lexical"}',
        422,
    ),
    "candidates of an explanation": (
        "/explain",
        b'{"query": "x", "id": "doc 0", "candidates": 10001}',
        422,
    ),
    "too many explained": ("/search", b'{"query": "x", "k": 51, "explain": true}', 422),
    "a weight of NaN": ("/search", b'{"query": "x", "fusion": "sum:cls=NaN"}', 422),
    "a weight of -2": ("/search", b'{"query": "x", "fusion": "sum:cls=-2"}', 422),
    "an alignment": ("/search", b'{"query": "x", "alignment": "top-0"}', 422),
    "words without an index": ("/search", b'{"query": "x", "candidates_by": "lexical"}', 422),
    "an unknown filter": ("/search", b'{"query": "x", "filter": {"year": 1}}', 422),
    "a list as a filter": ("/search", b'{"query": "x", "filter": [1]}', 422),
    "a filter with a bad key": (
        "/search",
        b'{"query": "x", "filter": {"must": [{"key": "a b[", "match": {"value": 1}}]}}',
        422,
    ),
    "a filter by a bad id": ("/search", b'{"query": "x", "filter": {"must": [{"has_id": ["x"]}]}}', 422),
    "a deep filter": (
        "/search",
        b'{"query": "x", "filter": ' + b'{"must": [' * 200 + b"]}" * 200 + b"}",
        422,
    ),
    "an explanation of a blank": ("/explain", b'{"query": " ", "id": "doc 0"}', 422),
    "an explanation of NUL": ("/explain", b'{"query": "x", "id": "\\u0000"}', 404),
    "no documents": ("/documents", b'{"documents": []}', 422),
    "too many documents": (
        "/documents",
        json.dumps({"documents": [{"id": "a", "text": "x"}] * 1001}).encode(),
        422,
    ),
    "a document without a text": ("/documents", b'{"documents": [{"id": "a"}]}', 422),
    "a surrogate in metadata": (
        "/documents",
        b'{"documents": [{"id": "a", "text": "x", "metadata": {"\\udc00": 1}}]}',
        422,
    ),
    "infinity in metadata": (
        "/documents",
        b'{"documents": [{"id": "a", "text": "x", "metadata": {"a": [-Infinity]}}]}',
        422,
    ),
}


@pytest.mark.parametrize("case", BODIES)
def test_a_body_that_cannot_be_used(client: httpx.Client, case: str) -> None:
    path, body, status = BODIES[case]
    problem(client.post(path, content=body, headers=JSON), status)


def test_what_is_too_much_is_named(client: httpx.Client) -> None:
    groups = {"query": "x", "k": 20, "group_by": "even", "group_size": 51}
    problem(client.post("/search", json=groups), 422, "k is 20", "group_size 51", "1,000")
    problem(client.post("/search", json={"query": "x", "mmr": 1, "candidates": 2000}), 422, "2000", "1,000")
    batch = {"queries": ["x"] * 64, "k": 200}
    problem(client.post("/search/batch", json=batch), 422, "64 queries", "12,800", "10,000")
    problem(client.post("/search/batch", json={"queries": ["x", "a\0b"]}), 422, "query 1", "NUL")
    assert client.post("/search", json={"query": "x", "group_size": 1000}).status_code == 200  # no groups


def test_a_body_must_be_called_json(client: httpx.Client) -> None:
    for kind in (
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "application/jsonx",
    ):
        problem(
            client.post("/search", content=b'{"query": "x"}', headers={"Content-Type": kind}), 415, "JSON"
        )
    problem(client.post("/search", content=b'{"query": "x"}'), 415, "application/json")
    told = {"Content-Type": "Application/JSON; charset=utf-8"}
    assert client.post("/search", content=b'{"query": "x"}', headers=told).status_code == 200


def test_a_long_body_is_refused_however_it_comes(client: httpx.Client) -> None:
    most = Limits().others

    def chunks() -> Iterator[bytes]:
        yield b'{"query": "'
        for _ in range(most // 1000 + 1):
            yield b"x" * 1000
        yield b'"}'

    problem(client.post("/search", content=b" " * (most + 1), headers=JSON), 413, f"{most:,}")
    problem(client.post("/search", content=chunks(), headers=JSON), 413, f"{most:,}")
    problem(client.post("/search/batch", json={"queries": ["x" * 9_000] * 60}), 413, f"{most:,}")
    head = "POST /search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    assert raw(client, f"{head}Content-Length: 99999999999999999999\r\n\r\n").startswith("HTTP/1.1 413")
    assert raw(client, f"{head}Content-Length: -1\r\n\r\n").startswith("HTTP/1.1 400")


def test_who_sends_a_long_body_is_not_cut_off(client: httpx.Client) -> None:
    many = 20 * Limits().others  # more than what the system keeps of a connection that nobody reads
    head = "POST /search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    place = (client.base_url.host, client.base_url.port or 0)
    with socket.create_connection(place, timeout=10) as connection:
        connection.sendall(f"{head}Content-Length: {many}\r\n\r\n".encode())
        answer = connection.recv(65536)
        assert answer.startswith(b"HTTP/1.1 413")
        connection.sendall(b" " * many)
        while more := connection.recv(65536):  # closed at the end, and not reset before
            answer += more
    assert b"connection: close" in answer.lower()
    assert answer.endswith(b"}")


def test_a_body_that_does_not_come_is_not_waited_for(connector: Connector) -> None:
    with serving(connector, limits=Limits(seconds=0.3)) as client:
        head = "POST /search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        assert raw(client, f'{head}Content-Length: 20\r\n\r\n{{"query"').startswith("HTTP/1.1 408")


def raw(client: httpx.Client, text: str) -> str:
    """What is answered to bytes that no client would send."""
    place = (client.base_url.host, client.base_url.port or 0)
    with socket.create_connection(place, timeout=10) as connection:
        connection.sendall(text.encode())
        return connection.recv(65536).decode()


def test_other_hosts_and_other_sites_are_not_answered(client: httpx.Client) -> None:
    for host in ("evil.example", "localhost.evil.example", "127.0.0.1.nip.io:8000", "", "[::2]:80"):
        problem(client.get("/health", headers={"Host": host}), 403, "localhost")
        assert client.get("/", headers={"Host": host}).status_code == 403
    for host in (*LOOPBACK, "LOCALHOST:1", "127.0.0.1:65000", "[::1]:8000"):
        assert client.get("/health", headers={"Host": host}).status_code == 200
    asked = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    response = client.request("OPTIONS", "/search", headers=asked)
    assert response.status_code == 405
    assert not [name for name in response.headers if name.startswith("access-control")]


def test_with_a_key_nothing_but_the_page_and_health_is_open(connector: Connector) -> None:
    with serving(connector, key=KEY) as client:
        assert client.get("/health").json() == {"status": "ok"}
        assert client.get("/").status_code == 200
        assert KEY not in client.get("/").text
        asked = {"json": {"query": "bread"}}
        problem(client.post("/search/batch", json={"queries": ["bread"]}), 401, "Bearer")
        for authorization in ("", KEY, f"Basic {KEY}", "Bearer", f"Bearer {KEY}x", "Bearer ключ"):
            shown = {"Authorization": authorization.encode()}
            response = client.post("/search", **asked, headers=shown)
            problem(response, 401, "Bearer")
            assert response.headers["www-authenticate"] == "Bearer"
            for path in ("/openapi.json", "/elsewhere", "/health/"):
                problem(client.get(path, headers=shown), 401)
        shown = {"Authorization": f"bearer {KEY}"}
        assert client.post("/search", **asked, headers=shown).status_code == 200
        assert client.get("/health", headers=shown).json()["documents"] == 13
        assert client.get("/health", headers={"Host": "search.example"}).status_code == 200
        schema = client.get("/openapi.json", headers=shown).json()
        assert schema["components"]["securitySchemes"] == {"HTTPBearer": {"type": "http", "scheme": "bearer"}}


def test_mounted_in_another_application(connector: Connector) -> None:
    import fastapi

    outer = fastapi.FastAPI()
    outer.mount("/find", app(connector, key=KEY))

    async def asked() -> list[int]:
        transport = httpx.ASGITransport(outer)
        async with httpx.AsyncClient(transport=transport, base_url="http://search.example") as client:
            shown, body = {"Authorization": f"Bearer {KEY}"}, {"query": "bread"}
            answers = [
                await client.get("/find/health"),
                await client.get("/find/"),
                await client.post("/find/search", json=body),
                await client.post("/find/search", json=body, headers=shown),
            ]
            return [it.status_code for it in answers]

    assert asyncio.run(asked()) == [200, 200, 401, 200]


def test_a_store_that_fails_is_not_described(connector: Connector, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise StoreUnavailable("no server answers at https://secret.example")

    with serving(connector) as client:
        monkeypatch.setattr(Connector, "search", fail)
        monkeypatch.setattr(Connector, "refresh", fail)
        for response in (client.post("/search", json={"query": "x"}), client.get("/health")):
            problem(response, 503, "log")
            assert "secret" not in response.text


def test_what_is_too_much_is_told_to_come_again(connector: Connector) -> None:
    with (
        serving(connector, limits=Limits(searches=1, waiting=2)) as client,
        ThreadPoolExecutor(12) as pool,
    ):
        ask = lambda _: client.post("/search", json={"query": "bread", "k": 10, "explain": True})  # noqa: E731
        answers = list(pool.map(ask, range(12)))
    assert {it.status_code for it in answers} == {200, 503}
    assert {it.headers["retry-after"] for it in answers if it.status_code == 503} == {"1"}


# Many at once


def test_fifty_searches_at_once_find_the_same(client: httpx.Client, connector: Connector) -> None:
    queries = [
        f"{word} {number}" for number in range(5) for word in ("otter", "bread", "moon", "wool", "bees")
    ] * 2
    expected = {query: [hit.id for hit in connector.search(query, 5)] for query in queries}

    def search(query: str) -> list[str]:
        response = client.post("/search", json={"query": query, "k": 5})
        assert response.status_code == 200, response.text
        return [hit["id"] for hit in response.json()["hits"]]

    with ThreadPoolExecutor(50) as pool:
        assert list(pool.map(search, queries)) == [expected[query] for query in queries]


def test_ingests_take_turns_and_searches_go_on(empty: Connector) -> None:
    empty.ingest([Document(id="first", text="Bread rises.")])

    def ingest(client: httpx.Client, mark: str) -> int:
        documents = [{"id": f"{mark} {n}", "text": f"Text {n} of {mark}. "} for n in range(60)]
        return int(client.post("/documents", json={"documents": documents}).json()["documents"])

    with serving(empty) as client, ThreadPoolExecutor(2) as pool:
        running = [pool.submit(ingest, client, mark) for mark in ("a", "b")]
        searches = 0
        while not all(it.done() for it in running):
            assert client.post("/search", json={"query": "bread", "k": 1}).json()["hits"][0]["id"] == "first"
            searches += 1
        assert [it.result() for it in running] == [60, 60]
        assert searches > 5
    assert empty.collection.documents() == 121


# The description


def test_the_description_is_whole(client: httpx.Client) -> None:
    schema = client.get("/openapi.json").json()
    assert set(schema["paths"]) == {"/health", "/search", "/search/batch", "/explain", "/documents"}
    for path in ("/search", "/search/batch", "/explain", "/documents"):
        operation = schema["paths"][path]["post"]
        assert operation["description"]
        assert {"200", "400", "401", "413", "415", "422", "503"} <= set(operation["responses"])
    for name in ("SearchRequest", "BatchRequest", "ExplainRequest"):
        options = schema["components"]["schemas"][name]["properties"]
        assert set(SearchOptions.model_fields) <= set(options)
        assert [it for it in SearchOptions.model_fields if not options[it].get("description")] == []
        assert [options[it]["maximum"] for it in ("k", "offset", "group_size")] == [1000, 10_000, 1000]
    answer = schema["components"]["schemas"]["HitAnswer"]
    assert {"similarity", "group"} <= set(answer["properties"])
    assert all(f"{name}:" in answer["description"] for name in answer["properties"])
    for path in ("/docs", "/redoc", "/docs/oauth2-redirect"):
        assert client.get(path).status_code == 404


FUZZ = """
[checks.positive_data_acceptance]
enabled = false
"""
"""A schema cannot say all of what a document or a filter has to be."""


def fuzzed(connector: Connector, folder: Path, phases: str, examples: int) -> None:
    """Every status, header and answer is as described, and none is 500."""
    (folder / "schemathesis.toml").write_text(FUZZ)
    command = [sys.executable, "-m", "schemathesis.cli", "run", "--phases", phases]
    command += ["--max-examples", str(examples), "--seed", "1", "--generation-deterministic", "--no-color"]
    with serving(connector) as client:
        command.append(f"{client.base_url}/openapi.json")
        run = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr


def test_schemathesis_finds_nothing(empty: Connector, documents: list[Document], tmp_path: Path) -> None:
    empty.ingest(documents)
    fuzzed(empty, tmp_path, "examples,fuzzing", 25)


@pytest.mark.slow
def test_schemathesis_finds_nothing_at_length(
    empty: Connector, documents: list[Document], tmp_path: Path
) -> None:
    empty.ingest(documents)
    fuzzed(empty, tmp_path, "examples,coverage,fuzzing", 500)


# The page


@contextmanager
def tab_of(browser: Any, client: httpx.Client, expected: tuple[str, ...] = ()) -> Iterator[Any]:
    """A tab; nothing may be complained of but what is expected, nor anything asked of another server."""
    context = browser.new_context(viewport={"width": 900, "height": 700})
    tab = context.new_page()
    troubles: list[str] = []
    requests: list[str] = []
    tab.on("console", lambda message: troubles.append(message.text))
    tab.on("pageerror", lambda error: troubles.append(str(error)))
    tab.on("dialog", lambda dialog: (troubles.append(f"dialog {dialog.message}"), dialog.dismiss()))
    tab.on("request", lambda request: requests.append(request.url))
    yield tab
    context.close()
    assert [it for it in troubles if not any(word in it for word in expected)] == []
    assert {it for it in requests if not it.startswith(str(client.base_url))} == set()


@pytest.fixture
def tab(browser: Any, client: httpx.Client) -> Iterator[Any]:
    with tab_of(browser, client) as tab:
        tab.goto(f"{client.base_url}/")
        tab.wait_for_selector("#about:not(:empty)")
        yield tab


def ask(tab: Any, query: str) -> None:
    """Type a query where the cursor is when the page comes, and wait for its hits with their words."""
    tab.locator("#q").fill(query)
    tab.keyboard.press("Enter")
    tab.wait_for_selector("mark")


def test_a_search_in_the_browser(tab: Any) -> None:
    assert tab.locator("#about").text_content() == "13 documents, recipe compact"
    assert tab.evaluate("document.activeElement.id") == "q"
    ask(tab, "what makes bread rise?")
    assert tab.locator("li").count() == 10
    first = tab.locator("li").first
    assert first.locator("h2").text_content() == "doc 2"
    assert first.locator(".text").text_content().startswith("Sourdough bread rises")
    words = first.locator("mark").evaluate_all("them => them.map(it => [it.textContent, it.dataset.heat])")
    assert {"Sourdough", "bread", "rises"} <= {word for word, _ in words}
    assert {int(heat) for _, heat in words} <= set(range(1, LEVELS + 1))
    assert str(LEVELS) in {heat for _, heat in words}
    assert re.search(r"score \d\.\d{4}\s*\d+ bytes", first.locator(".facts").inner_text().replace("\n", " "))
    status = tab.locator("#status")
    assert status.get_attribute("aria-live") == "polite"
    said = (
        r"10 hits in [\d.]+ ms: encode [\d.]+ ms, candidates [\d.]+ ms, rerank [\d.]+ ms, "
        r"feedback [\d.]+ ms; \d+ bytes a passage"
    )
    assert re.fullmatch(said, status.text_content())
    assert tab.locator("#results").get_attribute("aria-busy") == "false"
    first.locator("summary").click()
    assert first.locator("dl").inner_text().split() == ["number", "2", "even", "true"]
    assert len(tab.screenshot()) > 10_000


def test_a_search_has_an_address(tab: Any, client: httpx.Client) -> None:
    ask(tab, "bread & butter?")
    assert tab.url == f"{client.base_url}/?q=bread+%26+butter%3F"
    assert tab.title() == "bread & butter? – Search in docs"
    ask(tab, "moons of Jupiter")
    tab.wait_for_selector("li:first-child h2:has-text('doc 3')")
    tab.go_back()
    tab.wait_for_selector("li:first-child h2:has-text('doc 2')")
    assert tab.locator("#q").input_value() == "bread & butter?"
    tab.reload()
    tab.wait_for_selector("mark")
    assert tab.locator("h2").first.text_content() == "doc 2"
    tab.go_back()
    tab.wait_for_selector("li", state="detached")
    assert tab.locator("#q").input_value() == ""


def test_a_reader_asks_for_more_like_a_hit(tab: Any, client: httpx.Client) -> None:
    ask(tab, "bread")
    last = tab.locator("li").last
    name = last.locator("h2").text_content()
    last.get_by_role("button", name="More like this").click()
    tab.wait_for_selector("[aria-pressed=true]")
    tab.wait_for_selector("mark")
    assert tab.url.startswith(f"{client.base_url}/?q=bread&like=")
    liked = tab.locator("li:has([aria-pressed=true])")
    assert liked.locator("h2").text_content() == name
    liked.get_by_role("button", name="Like this").click()
    tab.wait_for_selector("[aria-pressed=true]", state="detached")
    assert tab.url == f"{client.base_url}/?q=bread"
    tab.go_back()
    tab.wait_for_selector("[aria-pressed=true]")


def test_hostile_texts_are_shown_as_they_are(tab: Any) -> None:
    ask(tab, f"axolotl gills {EVIL}")
    first = tab.locator("li").first
    assert first.locator("h2").text_content() == HOSTILE.title
    assert first.locator(".text").text_content() == HOSTILE.text
    assert first.locator(".facts bdi").text_content() == HOSTILE.id
    first.locator("summary").click()
    assert first.locator("dt").first.text_content() == f"key {EVIL}"
    assert first.locator("dd").all_text_contents() == [f"value {EVIL}", '[1,{"a":null}]']
    assert {"axolotl", "gills"} <= set(first.locator(".text mark").all_text_contents())
    assert tab.evaluate("window.evil") is None
    assert tab.locator("img, iframe, a, link").count() == 0
    assert tab.locator("script").count() == 1


def test_the_name_of_a_collection_is_text(client: httpx.Client) -> None:
    assert EVIL not in page(EVIL)
    html = client.get("/").text
    assert not re.search(r"https?:|//[a-z]|@import|url\(|innerHTML", html)
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', html)
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "connect-src 'self'; base-uri 'none'; form-action 'none'" in policy
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        (inside,) = re.findall(f"<{tag}>(.*)</{tag}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'; " in policy
    assert client.get("/").headers["x-frame-options"] == "DENY"


def test_errors_and_nothing_found_are_told(browser: Any, empty: Connector) -> None:
    with serving(empty) as client, tab_of(browser, client, ("422", "ERR_CONNECTION_REFUSED")) as tab:
        tab.goto(f"{client.base_url}/?q=otters")
        tab.wait_for_selector("#status:has-text('No hits.')")
        tab.locator("#q").evaluate("box => { box.value = 'a\\0b'; box.form.requestSubmit(); }")
        tab.wait_for_selector("#status.wrong")
        assert "NUL" in tab.locator("#status").text_content()
        tab.route("**/search", lambda route: route.abort("connectionrefused"))
        tab.locator("#q").fill("bread")
        tab.get_by_role("button", name="Search").click()
        tab.wait_for_selector("#status:has-text('does not answer')")


def test_the_page_asks_for_the_key_and_forgets_it(browser: Any, connector: Connector) -> None:
    with serving(connector, key=KEY) as client, tab_of(browser, client, ("401",)) as tab:
        tab.goto(f"{client.base_url}/?q=bread")
        tab.wait_for_selector("#key-form:not([hidden])")
        assert tab.evaluate("document.activeElement.id") == "key"
        tab.keyboard.type("wrong")
        tab.keyboard.press("Enter")
        tab.wait_for_selector("#status:has-text('wrong')")
        tab.locator("#key").fill(KEY)
        tab.keyboard.press("Enter")
        tab.wait_for_selector("mark")
        tab.wait_for_selector("#about:not(:empty)")
        assert tab.locator("#key-form").is_hidden()
        assert tab.locator("#about").text_content() == "13 documents, recipe compact"
        assert KEY not in tab.url
        assert tab.evaluate("[localStorage.length, document.cookie]") == [0, ""]


# The command

Invoke = Callable[..., Any]


@pytest.fixture
def invoke(tmp_path: Path) -> Invoke:
    words = ["serve", "--collection", "docs", "--path", str(tmp_path / "qdrant")]
    return lambda *more, **env: CliRunner().invoke(main, [*words, *map(str, more)], env=env)


def refused(result: Any, *words: str) -> None:
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert [word for word in words if word not in result.stderr] == []


def test_other_machines_are_not_served_without_a_key(invoke: Invoke, tmp_path: Path) -> None:
    for host in ("0.0.0.0", "::", "192.0.2.1", "search.example"):
        refused(
            invoke("--host", host, "--recipe", "tiny"), host, "CONNECTOR_API_KEY", "CONNECTOR_API_KEY_FILE"
        )
    assert not (tmp_path / "qdrant").exists()
    assert [is_loopback(host) for host in ("127.8.9.1", "::1", "LocalHost", "::", "")] == [True] * 3 + [
        False
    ] * 2


def test_a_key_that_cannot_be_used(invoke: Invoke, tmp_path: Path) -> None:
    file = tmp_path / "key"
    refused(invoke(CONNECTOR_API_KEY_FILE=str(file)), str(file), "cannot be read")
    file.write_text(" \n")
    refused(invoke(CONNECTOR_API_KEY_FILE=str(file)), "is empty")
    file.write_bytes(b"\xff\xfe")
    refused(invoke(CONNECTOR_API_KEY_FILE=str(file)), "is not a text")
    refused(invoke(CONNECTOR_API_KEY_FILE=str(file), CONNECTOR_API_KEY="x"), "both set")
    result = invoke(CONNECTOR_API_KEY="secret key")
    refused(result, "CONNECTOR_API_KEY", "white space")
    assert "secret" not in result.output


def test_a_port_that_is_taken(invoke: Invoke) -> None:
    with Address.take("127.0.0.1", 0) as address:
        port = address.url.rpartition(":")[2]
        refused(invoke("--port", port, "--recipe", "tiny"), port, "--port")
    refused(invoke("--host", "a..b", CONNECTOR_API_KEY="k"), "--host")


def test_a_missing_collection(invoke: Invoke) -> None:
    refused(invoke("--port", 0), "'docs'", "--recipe")


def test_without_the_extra() -> None:
    code = "import sys; sys.modules['fastapi'] = None; import connector.integrations.http"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert str(MissingExtra("fastapi", "serve")) in run.stderr
    words = "['serve', '--collection', 'x', '--path', 'x']"
    code = f"import sys; sys.modules['uvicorn'] = None; from connector.cli import main; main({words})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 1
    assert run.stderr.strip() == f"Error: {MissingExtra('uvicorn', 'serve')}"


def test_the_command_serves_until_it_is_told_to_end(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "connector.cli", "serve", "--collection", "docs"]
    command += ["--path", str(tmp_path / "qdrant"), "--recipe", "tiny", "--port", "0"]
    for told in (signal.SIGINT, signal.SIGTERM):
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "CONNECTOR_API_KEY": KEY},
        )
        assert process.stdout is not None
        assert process.stdout.readline().startswith("docs: ")
        url = process.stdout.readline().split()[-1]
        shown = {"Authorization": f"Bearer {KEY}"}
        with httpx.Client(base_url=url, headers=shown, timeout=60) as client:
            body = {"documents": [{"id": "a", "text": "Bread rises."}]}
            report = client.post("/documents", json=body).json()
            assert report["documents"] + report["unchanged"] == 1
            assert client.post("/search", json={"query": "bread"}).json()["hits"][0]["id"] == "a"
        process.send_signal(told)
        out, err = process.communicate(timeout=30)
        assert (process.returncode, err) == (0, "")
        assert KEY not in out
    with Connector.open("docs", path=tmp_path / "qdrant") as connector:
        assert connector.collection.documents() == 1


@pytest.mark.parametrize(("told", "times"), [(signal.SIGINT, 1), (signal.SIGTERM, 1), (signal.SIGINT, 2)])
def test_a_signal_ends_an_ingest(told: signal.Signals, times: int, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "connector.cli", "serve", "--collection", "docs"]
    command += ["--path", str(tmp_path / "qdrant"), "--recipe", "tiny", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("docs: ")
    url = process.stdout.readline().split()[-1]
    text = "Text, no long one. " * 8 if times == 1 else "A text that takes its time. " * 50
    documents = [{"id": f"doc {number}", "text": f"{number} {text}"} for number in range(1000)]
    answers: list[httpx.Response | httpx.HTTPError] = []

    def ingest() -> None:
        try:
            answers.append(httpx.post(f"{url}documents", json={"documents": documents}, timeout=60))
        except httpx.HTTPError as error:
            answers.append(error)

    asking = threading.Thread(target=ingest)
    asking.start()
    time.sleep(2)
    process.send_signal(told)
    if times == 2:
        time.sleep(0.5)
        process.send_signal(told)
    _, err = process.communicate(timeout=60 if times == 1 else 5)
    asking.join(timeout=10)
    assert err == ""
    (answer,) = answers
    with Connector.open("docs", path=tmp_path / "qdrant") as connector:
        written = connector.collection.documents()
    if times == 2:
        assert process.returncode == 128 + told
        assert isinstance(answer, httpx.HTTPError)
        assert written == 0
        return
    assert process.returncode == 0
    assert isinstance(answer, httpx.Response)
    assert answer.status_code == 503
    assert f"; {written} documents are written" in answer.json()["detail"]
    assert 0 < written < 1000


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 10))])
def test_sigterm_under_writes_keeps_what_was_acknowledged(seed: int, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "connector.cli", "serve", "--collection", "docs"]
    command += ["--path", str(tmp_path / "qdrant"), "--recipe", "default", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("docs: ")
    url = process.stdout.readline().split()[-1]
    acknowledged, first = set[str](), threading.Event()

    def write(writer: int) -> None:
        for number in itertools.count():
            sent = [f"{writer} {number} {part}" for part in range(3)]
            body = {"documents": [{"id": id_, "text": f"Text {id_} of a writer."} for id_ in sent]}
            try:
                if httpx.post(f"{url}documents", json=body, timeout=60).status_code != 200:
                    return
            except httpx.HTTPError:
                return
            acknowledged.update(sent)
            first.set()

    writers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for writer in writers:
        writer.start()
    assert first.wait(60)
    time.sleep(random.Random(seed).uniform(0, 1))
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    for writer in writers:
        writer.join()
    assert (process.returncode, err) == (0, "")
    with Connector.open("docs", path=tmp_path / "qdrant") as connector:
        assert acknowledged <= set(connector.matching_ids(acknowledged))


def test_what_is_no_connector_and_empty_keys_are_refused(empty: Connector) -> None:
    given: Any = AsyncConnector(empty, ThreadPoolExecutor(1))
    with pytest.raises(InputError, match="AsyncConnector; give a Connector"):
        app(given)
    with pytest.raises(InputError, match="key is empty"):
        app(empty, key="")
    with pytest.raises(InputError, match="white space"):
        app(empty, key="a key")
