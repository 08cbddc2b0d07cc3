"""What a shell and a terminal may give a command: other bytes, other encodings, odd numbers."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from connector import Connector, Document, Encoder
from connector.cli import main

ID, WORDS = "𝄞☃", "Rye bread, naïve 東京 ☃ 𝄞"

ENCODINGS = ["cp1252", "latin-1", "ascii", "utf-8"]


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory, encoder: Encoder) -> list[str]:
    """Options that say where a collection is, of which one document is in no code page."""
    folder = tmp_path_factory.mktemp("edges")
    with Connector.create("docs", path=folder, recipe="default", model=encoder) as connector:
        connector.ingest([Document(id=ID, text=WORDS, metadata={"é": "☃"}), Document(id="b", text="Bees.")])
    return ["--collection", "docs", "--path", str(folder)]


def call(
    monkeypatch: pytest.MonkeyPatch, *words: str, code: int = 0, encoding: str = "utf-8", text: bytes = b""
) -> tuple[str, str]:
    """What the program writes on stdout and stderr, if those and stdin have this encoding."""
    streams = {name: io.TextIOWrapper(io.BytesIO(), encoding) for name in ("stdout", "stderr")}
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text), encoding))
        for name, stream in streams.items():
            patched.setattr(sys, name, stream)
        with pytest.raises(SystemExit) as ended:
            main.main([*words], "connector")
        out, err = (it.buffer.getvalue() for it in streams.values())  # type: ignore[attr-defined]
    real = "utf-8" if encoding == "ascii" else encoding  # click takes ASCII for a missing setting
    assert ended.value.code == code, (out, err)
    return out.decode(real), err.decode(real)


def below(group: click.Group, *names: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """All commands, with the words that call them."""
    for name, command in group.commands.items():
        yield (*names, name), command
        if isinstance(command, click.Group):
            yield from below(command, *names, name)


COMMANDS = dict(below(main))
EACH = pytest.mark.parametrize("names", COMMANDS, ids=" ".join)


def lines_with(names: tuple[str, ...], kind: type[click.ParamType], value: str) -> Iterator[list[str]]:
    """Of each parameter of a type a command line that gives it this value, and the required ones 8."""
    command = COMMANDS[names]
    known = command.get_params(click.Context(command, **main.context_settings))
    for each in (it for it in known if isinstance(it.type, kind)):
        given = [(it, value if it is each else "8") for it in known if it.required or it is each]
        yield [*names, *(word for it, text in given for word in _words(it, text))]


def _words(parameter: click.Parameter, text: str) -> list[str]:
    return [text] if isinstance(parameter, click.Argument) else [parameter.opts[-1], text]


@EACH
def test_a_text_that_is_no_utf8_is_named(names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    for line in lines_with(names, click.types.StringParamType, "a\udcff"):
        own = "--recipe" in line or "--filter" in line  # which say themselves what they cannot read
        _, told = call(monkeypatch, *line, code=1 if own else 2)
        assert r"a\udcff" in told, told
        assert own or "is not UTF-8 at position 1" in told, told


@EACH
def test_a_number_beyond_64_bits_is_named(names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    for line in lines_with(names, click.types.IntParamType, "9" * 20):
        _, told = call(monkeypatch, *line, code=2)
        assert "wider than 64 bits" in told or "is not in the range" in told, told


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_help_is_written_in_every_encoding(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for names in [(), *COMMANDS]:
        assert "Usage: connector" in call(monkeypatch, *names, "--help", encoding=encoding)[0]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_results_are_written_in_every_encoding(
    encoding: str, at: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for words in (["stats"], ["search", WORDS], ["explain", WORDS, "--id", ID], ["delete", "--id", "☃"]):
        out, _ = call(monkeypatch, *words, *at, encoding=encoding)
        assert out
    for name in ("recipes", "reductions", "codecs"):
        assert call(monkeypatch, name, encoding=encoding)[0]
    found = json.loads(call(monkeypatch, "search", WORDS, *at, "--json", encoding=encoding)[0])
    assert (found["hits"][0]["id"], found["hits"][0]["text"]) == (ID, WORDS), "JSON loses nothing"
    wrong = call(monkeypatch, "stats", "--collection", "☃", *at[2:], encoding=encoding, code=1)[1]
    assert "Error: no collection" in wrong


def test_a_console_of_windows_shows_help() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "connector.cli", "search", "--help"],
        env={**os.environ, "PYTHONIOENCODING": "cp1252"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "…" in done.stdout.decode("cp1252")


def test_an_answer_that_is_no_text_is_no_yes(at: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    told = call(monkeypatch, "drop", *at, text=b"\xff\n", code=1)[1]
    assert "nobody answered" in told


def test_a_path_may_be_any_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = os.fsdecode(bytes(tmp_path) + b"/\xff")
    Path(folder).mkdir()
    (Path(folder) / "a.md").write_text("Rye bread.")
    at = ["--collection", "docs", "--path", f"{folder}/q"]
    call(monkeypatch, "ingest", folder, *at, "--recipe", "dense")
    assert "Rye bread." in call(monkeypatch, "search", "bread", *at)[0]


@pytest.mark.parametrize("asked", [{}, {"NO_COLOR": "1"}])
def test_no_colour_is_written_where_none_is_wanted(
    asked: dict[str, str], at: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in {"FORCE_COLOR": "1", "TERM": "xterm-256color", **asked}.items():
        monkeypatch.setenv(name, value)
    written = ""
    for words in (
        ["stats", *at],
        ["search", "bread", *at],
        ["explain", "bread", "--id", ID, *at],
        ["codecs"],
    ):
        written += "".join(call(monkeypatch, *words))
    colours = re.findall(r"\x1b\[[0-9;]*\b(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])\b[0-9;]*m", written)
    assert bool(colours) is not bool(asked), colours
