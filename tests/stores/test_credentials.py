"""An API key is found where it was put, and shown nowhere."""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from qdrant_client import QdrantClient

from connector.core.errors import ConnectorError, InputError, StoreUnavailable
from connector.stores import ServerStore, api_key_from_environment, open_store
from connector.stores.server import connection
from connector.stores.server import retry as retry_module
from connector.stores.server.credentials import Secrets, redacted

KEY = 'k3y"of\\the.Cluster=='
"""With characters that JSON and Python write in another way."""

# Where it comes from


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QDRANT_API_KEY", raising=False)
    monkeypatch.delenv("QDRANT_API_KEY_FILE", raising=False)


def test_no_key_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert api_key_from_environment() is None
    monkeypatch.setenv("QDRANT_API_KEY", "")
    monkeypatch.setenv("QDRANT_API_KEY_FILE", "")
    assert api_key_from_environment() is None


def test_a_key_comes_from_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QDRANT_API_KEY", KEY)
    assert api_key_from_environment() == KEY


@pytest.mark.parametrize("content", [KEY, f"{KEY}\n", f"  {KEY}\r\n\n"])
def test_a_key_comes_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    (tmp_path / "key").write_bytes(content.encode())
    monkeypatch.setenv("QDRANT_API_KEY_FILE", str(tmp_path / "key"))
    assert api_key_from_environment() == KEY


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (None, "cannot be read.*write the API key"),
        (b"", "empty; write the API key"),
        (b" \n", "empty; write the API key"),
        (b"\xff\xfek3y", "not a text; write the API key"),
        (b"k3y of two words", "white space"),
        ("k3ÿ".encode(), "beyond ASCII"),
        (b"k3y\n[other]\n", "white space"),
    ],
)
def test_a_file_without_a_key_is_named_and_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, match: str
) -> None:
    file = tmp_path / "key file"
    if content is not None:
        file.write_bytes(content)
    monkeypatch.setenv("QDRANT_API_KEY_FILE", str(file))
    with pytest.raises(InputError, match=match) as caught:
        api_key_from_environment()
    assert str(file) in str(caught.value)
    assert "k3" not in shown(caught.value)


def test_two_keys_are_one_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").write_text("another")
    monkeypatch.setenv("QDRANT_API_KEY", KEY)
    monkeypatch.setenv("QDRANT_API_KEY_FILE", str(tmp_path / "key"))
    with pytest.raises(InputError, match="both set") as caught:
        api_key_from_environment()
    assert KEY not in str(caught.value)


# What is shown


def shown(error: BaseException) -> str:
    """All that a traceback, a log of one, and a curious reader print of an error."""
    printed = [str(error), repr(error), *traceback.format_exception(error)]
    inner: BaseException | None = error
    while (inner := inner.__cause__ or inner.__context__) is not None:
        if inner is error.__cause__ or not error.__suppress_context__:
            printed += [str(inner), repr(inner)]
    return "\n".join(printed)


def is_shown(text: str) -> bool:
    """Whether any part of the key is, however it is written."""
    return any(part in text for part in (KEY, KEY[:6], KEY[6:], "k3y", "Cluster"))


Body = Callable[[str], bytes]
"""An answer's body, given all headers of the request."""

BODIES: dict[str, Body] = {
    "text": lambda headers: headers.encode(),
    "late": lambda headers: (480 * "x" + headers).encode(),
    "later": lambda headers: (180 * "x" + headers).encode(),
    "json": lambda headers: b'{"status": {"error": "' + _quoted(headers) + b'"}, "time": 0.0}',
    "result": lambda headers: b'{"result": {"collections": "' + _quoted(headers) + b'"}, "time": 0.0}',
    "unknown": lambda headers: b'{"result": {"' + _quoted(headers) + b'": 1}, "status": "ok", "time": 0.0}',
}


def _quoted(text: str) -> bytes:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "").encode()


@contextmanager
def echo(status: int, body: Body, after: int = 0) -> Iterator[str]:
    """An address that answers as Qdrant does so many times, and then repeats the headers of each request."""
    left = [after]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            good = b'{"result": {"collections": []}, "status": "ok", "time": 0.0}'
            left[0] -= 1
            sent = good if left[0] >= 0 else body(f"api-key: {self.headers['api-key']}")
            self.send_response(200 if left[0] >= 0 else status)
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        do_PUT = do_POST = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("status", [200, 400, 401, 404, 429, 500, 503])
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_key_that_a_server_repeats_is_not_shown(
    status: int, body: Body, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(retry_module, "ATTEMPTS", 2)
    monkeypatch.setattr(retry_module, "FIRST_PAUSE", 0.0)
    caplog.set_level(logging.DEBUG, "connector")
    with echo(status, body) as url, pytest.raises(StoreUnavailable) as caught:
        open_store(url=url, api_key=KEY)
    assert not is_shown(shown(caught.value))
    with echo(status, body, after=1) as url:
        store = open_store(url=url, api_key=KEY)
        assert not is_shown(repr(store) + str(store) + store.location)
        for use in (store.names, lambda: store.count("c"), lambda: store.delete("c", ["x"])):
            with pytest.raises(ConnectorError) as failed:
                use()
            assert not is_shown(shown(failed.value))
        store.close()
    assert bool(caplog.records) == (status in (429, 500, 503))
    assert not is_shown(caplog.text)


def test_the_key_of_a_client_of_ones_own_is_not_shown() -> None:
    for headers in ({"api-key": KEY}, {"Authorization": f"Bearer {KEY}"}):
        client = QdrantClient(url="http://127.0.0.1:1", headers=headers, check_compatibility=False)
        secrets = ServerStore(client, "the given client")._call.secrets
        assert not is_shown(secrets.hide(f"you sent {KEY}, did you?") + repr(secrets))
        client.close()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://localhost:6333", "http://localhost:6333"),
        ("http://user:k3y@host:6333/prefix", "http://***@host:6333/prefix"),
        ("https://k3y@host", "https://***@host"),
        ("http://user:k3y/with@signs@host", "http://***@host"),
        ("user:k3y@host:6333", "***@host:6333"),
        ("https://host/prefix?token=k3y", "https://host/prefix?***"),
        ("the given client", "the given client"),
        ("", ""),
    ],
)
def test_addresses_lose_their_secrets(url: str, expected: str) -> None:
    assert redacted(url) == expected


@pytest.mark.parametrize("host", ["127.0.0.1:1", "127.0.0.1:99999", "[::1"])
def test_a_password_in_an_address_is_not_shown(host: str) -> None:
    url = "@".join(["http://user:k3y", host])  # not on the line that a traceback shows
    with pytest.raises(ConnectorError) as caught:
        open_store(url=url)
    assert "k3y" not in shown(caught.value)
    assert "***@" in str(caught.value)


@pytest.mark.parametrize("key", ["k3y\n", "k3y ", "k3ÿ", "k3\0y"])
def test_a_key_that_no_header_can_carry_is_refused(key: str) -> None:
    with pytest.raises(InputError, match="API key") as caught:
        open_store(url="http://127.0.0.1:1", api_key=key)
    assert "k3" not in str(caught.value)


def test_secrets_are_hidden_longest_first() -> None:
    assert Secrets(["abcd", "abcdef", ""]).hide("abcdef abcd ab") == "*** *** ab"


@pytest.mark.parametrize(
    ("url", "warned"),
    [
        ("http://qdrant.invalid:6333", True),
        ("https://qdrant.invalid:6333", False),
        ("qdrant.invalid:6333", False),  # https, as there is a key
        ("http://127.0.0.1:1", False),
        ("http://[::1]:1", False),
        ("http://localhost:1", False),
    ],
)
def test_a_key_that_all_can_read_is_warned_of_once(
    url: str, warned: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "CONNECT_SECONDS", 1)
    with pytest.raises(StoreUnavailable):
        open_store(url=url, api_key=KEY)
    assert len(caplog.records) == warned
    assert not is_shown(caplog.text)
    if warned:
        assert "qdrant.invalid" in caplog.text
        assert "use https" in caplog.text
    caplog.clear()
    with pytest.raises(StoreUnavailable):
        open_store(url=url)
    assert not caplog.records
