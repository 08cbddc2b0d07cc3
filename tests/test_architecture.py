"""What holds for the source as a whole: imports go down, importing is quick, some things are never used."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import connector

ROOT = Path(connector.__file__).parent
SOURCES = sorted(ROOT.rglob("*.py"))
LAYERS = (
    "cli -> integrations -> api -> migrations, evaluation -> collection -> stores, encoders -> compression"
    " -> scoring -> core"
)
"""An import goes down only. The package itself imports its names when they are asked for."""

LAYER = {
    part: height for height, parts in enumerate(reversed(LAYERS.split(" -> "))) for part in parts.split(", ")
}

# Found by their text: importing them here would bring frameworks before their own tests have set them up.
PACKAGES = sorted(
    ".".join(path.parent.relative_to(ROOT.parent).parts)
    for path in SOURCES
    if path.name == "__init__.py" and "__all__ = " in path.read_text(encoding="utf-8")
)

each_source = pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__")


def part_of(module: str) -> str | None:
    """The name right below `connector`; None for the package itself."""
    return module.split(".")[1] if "." in module else None


def own_imports(path: Path) -> Iterator[str]:
    """The modules of this library that a file imports anywhere, in functions and for types alone too."""
    known = {module_name(source) for source in SOURCES}
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in known else str(node.module) for name in names]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] == "connector")


def calls(path: Path) -> Iterator[str]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)


def natural(name: str) -> list[tuple[int, int | str]]:
    return [(0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", name) if part]


def all_order(name: str) -> tuple[int, list[tuple[int, int | str]]]:
    """The order of ruff's RUF022: CONSTANTS, Classes, the rest, each in natural order."""
    return 0 if name.isupper() and len(name) > 1 else 1 if name[0].isupper() else 2, natural(name)


@each_source
def test_no_layer_imports_a_higher_one(path: Path) -> None:
    part = part_of(module_name(path))
    for module in own_imports(path) if part in LAYER else ():
        imported = part_of(module)
        assert LAYER[str(imported)] <= LAYER[str(part)], f"{part} imports {module}"


def test_every_module_is_in_a_package() -> None:
    parts = {path.relative_to(ROOT).parts[0] for path in SOURCES} - {"__init__.py"}
    assert parts == set(LAYER)


def test_no_level_has_more_than_twelve_names() -> None:
    for folder in {path.parent for path in SOURCES}:
        names = {path.name for path in SOURCES if path.parent == folder}
        names |= {path.name for path in folder.iterdir() if path.is_dir() and any(path.rglob("*.py"))}
        assert len(names) <= 12, f"{folder.relative_to(ROOT)} has {len(names)} names"


def test_imports_have_no_cycle() -> None:
    graph = {
        module_name(path): {module for module in own_imports(path) if module != module_name(path)}
        for path in SOURCES
        if path != ROOT / "__init__.py"
    }
    assert list(TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("package", PACKAGES)
def test_all_is_sorted_and_resolves(package: str) -> None:
    module = importlib.import_module(package)
    own = None if module is connector else all_order  # its names are in the order of lazy_loader
    assert module.__all__ == sorted(module.__all__, key=own)
    assert all(getattr(module, name) is not None for name in module.__all__)
    assert set(module.__all__) <= set(dir(module))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="attribute nothing"):
        _ = connector.nothing


def test_import_brings_no_heavy_library() -> None:
    code = "import sys, connector; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {
        "torch",
        "transformers",
        "sentence_transformers",
        "qdrant_client",
        "qdrant_edge",
        "numpy",
        "scipy",
    }
    assert not heavy & set(run.stdout.split())


def test_import_takes_less_than_twenty_bare_starts() -> None:
    assert best_of_five("import connector") < 20 * best_of_five("pass")


def test_help_takes_less_than_thirty_bare_starts() -> None:
    code = "from connector.cli import main; main(['--help'], standalone_mode=False)"
    assert best_of_five(code) < 30 * best_of_five("pass")


def best_of_five(code: str) -> float:
    """Seconds."""
    times = []
    for _ in range(5):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - started)
    return min(times)


@each_source
def test_only_commands_print(path: Path) -> None:
    if part_of(module_name(path)) != "cli":
        assert "print" not in calls(path)


@each_source
def test_no_data_is_ever_executed(path: Path) -> None:
    assert not {"eval", "exec", "torch.load", "np.load"} & set(calls(path))
    imported = {
        alias.name
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in [*node.names, ast.alias(getattr(node, "module", None) or "")]
    }
    assert not {"pickle", "dill", "joblib", "marshal", "shelve"} & imported


@each_source
def test_asserts_are_for_tests(path: Path) -> None:
    assert not [node.lineno for node in ast.walk(tree(path)) if isinstance(node, ast.Assert)]


def test_the_package_says_that_it_is_typed() -> None:
    assert (ROOT / "py.typed").is_file()
