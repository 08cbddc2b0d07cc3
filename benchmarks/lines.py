"""How many lines of code each part of the package has.

    python benchmarks/lines.py

Docstrings, comments and blank lines do not count.
"""

from __future__ import annotations

import ast
import tokenize
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parent.parent / "connector"
NO_CODE = {
    *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT),
    *(tokenize.ENCODING, tokenize.ENDMARKER),
}


def code_lines(path: Path) -> int:
    """The lines of a file on which code stands."""
    with path.open("rb") as file:
        tokens = [token for token in tokenize.tokenize(file.readline) if token.type not in NO_CODE]
    lines = {line for token in tokens for line in range(token.start[0], token.end[0] + 1)}
    for node in ast.walk(ast.parse(path.read_bytes())):
        documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            lines -= {*range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1)}
    return len(lines)


def main() -> None:
    parts: Counter[str] = Counter()
    for path in sorted(ROOT.rglob("*.py")):
        parts[path.relative_to(ROOT).parts[0]] += code_lines(path)
    for part, lines in parts.most_common():
        print(f"{lines:>7,} {part}")
    print(f"{parts.total():>7,} in all")


if __name__ == "__main__":
    main()
