"""The README and the pages of docs/: code runs, links lead somewhere, generated parts are up to date."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import connector
from connector.core import errors
from tests.test_examples import FRAMEWORKS, skip_without_frameworks

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
DOCS = sorted(ROOT.glob("docs/*.md"))
PAGES = [README, *DOCS]

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(page: Path) -> list[tuple[str, str]]:
    """The Python of a page and, of each block, what the page says that it prints, if it does."""
    found = re.findall(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```$)?", text_of(page), re.DOTALL | re.M)
    return [(code, said) for code, said in found]


def runs(code: str) -> bool:
    """Whether it can be run here: not on a server, and not as a program, which a revision is not."""
    defined = {it.name for it in ast.parse(code).body if isinstance(it, ast.FunctionDef)}
    return "url=" not in code and "upgrade" not in defined


RUNNER = """
import contextlib, io, json, os, sys, traceback

printed = {}
for page, blocks in json.load(sys.stdin).items():
    os.makedirs(page)
    os.chdir(page)
    printed[page] = []
    for number, code in enumerate(blocks):
        with contextlib.redirect_stdout(io.StringIO()) as out:
            try:
                exec(compile(code, f"{page}, block {number}", "exec"), {"__name__": "__main__"})
                failed = None
            except Exception:
                failed = traceback.format_exc()
        printed[page].append((out.getvalue(), failed))
    os.chdir("..")
json.dump(printed, sys.stdout)
"""
"""Runs one block after another, each with names of its own, those of a page in one folder."""


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[tuple[str, str | None]]]:
    """What the blocks of each page print, and how they fail."""
    there = {page.stem: [code for code, _ in blocks(page) if runs(code)] for page in PAGES}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", RUNNER],
        input=json.dumps({page: codes for page, codes in there.items() if codes}),
        cwd=tmp_path_factory.mktemp("pages"),
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if any(runs(code) for code, _ in blocks(page))],
    ids=lambda page: page.stem,
)
def test_the_code_of_a_page_runs_when_pasted(
    page: Path, printed: dict[str, list[tuple[str, str | None]]]
) -> None:
    there = [(code, said) for code, said in blocks(page) if runs(code)]
    for (code, said), (out, failed) in zip(there, printed[page.stem], strict=True):
        skip_without_frameworks(code)
        assert failed is None, failed
        assert out.strip() or "print" not in code
        for line in said.splitlines():
            assert line in out


def test_the_readme_finds_the_bee(printed: dict[str, list[tuple[str, str | None]]]) -> None:
    found = [" bees A bee that has found flowers", "2 documents;", "dances in the hive", "dances in the hive"]
    there = [code for code, _ in blocks(README) if runs(code)]
    for code, (out, _), words in zip(there, printed["README"], found, strict=True):
        skip_without_frameworks(code)
        assert words in out


@each_page
def test_code_that_is_not_run_is_python(page: Path) -> None:
    for number, (code, _) in enumerate(blocks(page)):
        compile(code, f"{page.name}, block {number}", "exec")


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_each_integration_is_shown_in_ten_lines(framework: str) -> None:
    (block,) = [code for code, _ in blocks(ROOT / "docs" / "integrations.md") if f"from {framework}" in code]
    assert block.count("\n") <= 10


# Links


def unfenced(page: Path) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", text_of(page), flags=re.DOTALL | re.MULTILINE)


def prose(page: Path) -> str:
    """A page without its code."""
    return re.sub(r"`[^`\n]*`|^ {4}.*$", "", unfenced(page), flags=re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """What links into a page may name: its headings, as GitHub and the site's generator spell them."""
    headings = re.findall(r"^#+ (.*)$", unfenced(page), re.MULTILINE)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", it).strip().lower()) for it in headings}


def links(page: Path) -> Iterator[str]:
    """Links and pictures of a page that do not lead to another site."""
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if not re.match(r"[a-z]+:", target):
            yield target


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    for target in links(page):
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        assert there.is_relative_to(ROOT), target
        if page is not README:
            assert there.is_relative_to(ROOT / "docs"), f"{target} is not on the site"
        if anchor:
            assert anchor in anchors(there), target


def test_the_readme_is_short_and_links_every_page() -> None:
    assert text_of(README).count("\n") <= 250
    assert {f"docs/{page.name}" for page in DOCS} <= set(links(README))


def test_every_page_is_in_the_navigation() -> None:
    def pages(nav: Any) -> Iterator[str]:
        for entry in nav:
            for value in entry.values():
                yield from [value] if isinstance(value, str) else pages(value)

    site = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]
    assert sorted(pages(site["nav"])) == [page.name for page in DOCS]


# What is generated


@cache
def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # for dataclasses, which look there
    spec.loader.exec_module(module)
    return module


def test_the_command_reference_is_what_help_says() -> None:
    page = text_of(ROOT / "docs" / "command-reference.md")
    assert page == script("command_reference").reference(), "run python docs/scripts/command_reference.py"


@pytest.mark.parametrize("name", ["frontier", "explanation", "migration"])
def test_a_picture_is_what_its_figures_say(name: str) -> None:
    drawn = text_of(ROOT / "docs" / "images" / f"{name}.svg")
    assert drawn == script("pictures").PICTURES[name](), "run python docs/scripts/pictures.py"


def test_the_python_reference_has_every_public_name() -> None:
    named = set(re.findall(r"^::: connector\.(\w+)$", text_of(ROOT / "docs" / "api.md"), re.MULTILINE))
    assert "::: connector.core.errors" in text_of(ROOT / "docs" / "api.md")
    assert set(connector.__all__) - set(vars(errors)) <= named
