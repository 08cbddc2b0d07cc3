"""Many concurrent searches of `connector serve` against the same searches in this process.

Docstrings of Python's standard library, recipe `default`. First threads of this process search, one and then
more of them, each with one thread of torch; then a server of its own process is asked by clients that keep
their connections, over loopback and without pause. The clients are coroutines of this process, and take their
share of the cores. Exit code 1 says that a request failed.

    python benchmarks/serve.py [CLIENTS] [SECONDS] [PASSAGES]
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

os.environ.setdefault("OMP_NUM_THREADS", "1")

from connector import Connector
from connector.cli.demo_corpus import standard_library

THREADS = (1, 2, 3, 4, 8)
SECONDS_IN_PROCESS = 5.0
K = 10


def build(path: str, passages: int) -> list[str]:
    """Make the collection, and give the queries."""
    documents = standard_library()[:passages]
    with Connector.create("docs", path=path, recipe="default") as connector:
        report = connector.ingest(documents)
    print(f"{report.passages:,} passages, recipe default", flush=True)
    return [text for it in documents[::7] if (text := it.text.split(".")[0][:200]).strip()]


def report(what: str, seconds: float, times: list[float]) -> float:
    """Print latencies and give searches a second."""
    rate = len(times) / seconds
    p50, p95, p99 = (1e3 * statistics.quantiles(times, n=100)[at - 1] for at in (50, 95, 99))
    print(
        f"  {what:<24} {rate:7.1f} searches/s   p50 {p50:8.1f}   p95 {p95:8.1f}   p99 {p99:8.1f} ms",
        flush=True,
    )
    return rate


def in_process(path: str, queries: list[str], callers: int) -> float:
    """Searches a second of the best number of threads; they also serve as many callers as the server will."""
    with Connector.open("docs", path=path) as connector:
        for query in queries[:50]:
            connector.search(query, K)
        rates = {threads: searched_by(connector, queries, threads) for threads in THREADS}
        best = max(rates, key=lambda threads: rates[threads])
        return max(*rates.values(), searched_by(connector, queries, callers, at_once=best))


def searched_by(connector: Connector, queries: list[str], callers: int, at_once: int | None = None) -> float:
    """Searches a second of so many callers, each a thread, of which some have to wait for their turn."""
    end = time.perf_counter() + SECONDS_IN_PROCESS
    turns = ThreadPoolExecutor(at_once or 1)

    def search(query: str) -> None:
        if at_once is None:
            connector.search(query, K)
        else:  # first come, first served, as the server does
            turns.submit(connector.search, query, K).result()

    def work(first: int) -> list[float]:
        times = []
        for query in itertools.cycle(queries[first:] + queries[:first]):
            started = time.perf_counter()
            search(query)
            times.append(time.perf_counter() - started)
            if time.perf_counter() > end:
                return times
        return times

    started = time.perf_counter()
    firsts = [37 * caller % len(queries) for caller in range(callers)]
    with turns, ThreadPoolExecutor(callers) as pool:
        times = list(itertools.chain.from_iterable(pool.map(work, firsts)))
    what = f"{callers} threads" if at_once is None else f"{callers} callers"
    return report(f"in process, {what}", time.perf_counter() - started, times)


@contextmanager
def served(path: str) -> Iterator[tuple[str, int]]:
    """The command in a process of its own; gives its host and port."""
    command = [sys.executable, "-m", "connector.cli", "serve", "--collection", "docs", "--path", path]
    process = subprocess.Popen([*command, "--port", "0"], stdout=subprocess.PIPE, text=True)
    if process.stdout is None:
        raise SystemExit("the server has no output")
    try:
        page = next(line for line in process.stdout if "page" in line)
        address = urlsplit(page.split()[-1])
        yield str(address.hostname), int(address.port or 0)
    finally:
        process.send_signal(signal.SIGINT)
        print(f"  the server ended with exit code {process.wait(timeout=60)}")


class Clients:
    """Clients of one server, each with one connection and one request at a time."""

    def __init__(self, host: str, port: int, queries: list[str]) -> None:
        self._host, self._port = host, port
        self._requests = [self._request(query) for query in queries]
        self.times: list[float] = []
        self.errors: Counter[str] = Counter()

    def _request(self, query: str) -> bytes:
        body = json.dumps({"query": query, "k": K}).encode()
        head = (
            f"POST /search HTTP/1.1\r\nHost: {self._host}:{self._port}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    async def run(self, clients: int, seconds: float) -> float:
        """Ask for so long, and give how long that took with the last answers."""
        started = time.perf_counter()
        await asyncio.gather(*(self._client(number, started + seconds) for number in range(clients)))
        return time.perf_counter() - started

    async def _client(self, number: int, end: float) -> None:
        try:
            reader, writer = await asyncio.open_connection(self._host, self._port)
            for request in itertools.cycle(self._requests[number:] + self._requests[:number]):
                if time.perf_counter() > end:
                    break
                started = time.perf_counter()
                writer.write(request)
                status, body = await _answer(reader)
                if status != 200 or not body.startswith(b'{"hits":[{'):
                    self.errors[f"{status} {body[:80]!r}"] += 1
                self.times.append(time.perf_counter() - started)
            writer.close()
        except (OSError, asyncio.IncompleteReadError) as error:
            self.errors[repr(error)] += 1


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = int(head.split("content-length:")[1].split("\r\n")[0])
    return int(head.split()[1]), await reader.readexactly(length)


def main() -> None:
    clients, seconds, passages = (
        int(given or default)
        for given, default in itertools.zip_longest(sys.argv[1:4], (200, 20, 4000), fillvalue=0)
    )
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "qdrant")
        queries = build(path, passages)
        best = in_process(path, queries, clients)
        with served(path) as (host, port):
            asyncio.run(Clients(host, port, queries).run(8, 2))  # to warm up
            one = Clients(host, port, queries)
            report("served, 1 client", asyncio.run(one.run(1, SECONDS_IN_PROCESS)), one.times)
            many = Clients(host, port, queries)
            rate = report(f"served, {clients} clients", asyncio.run(many.run(clients, seconds)), many.times)
    errors = one.errors + many.errors
    print(
        f"  {len(many.times):,} requests, {errors.total()} errors; {rate / best:.2f} of the best in process"
    )
    for error, count in errors.most_common(5):
        print(f"    {count} × {error}")
    raise SystemExit(1 if errors else 0)


if __name__ == "__main__":
    main()
