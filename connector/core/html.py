"""A page that needs nothing else: no file, script, font or style from outside.

Its policy allows its own style and script, by their hashes, and nothing else, so that even a mistake in
escaping could not run or load anything.
"""

from __future__ import annotations

import base64
import hashlib
from html import escape

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1f; --paper: #fff; --faint: #5a5a66; --line: #d8d8e0; }
@media (prefers-color-scheme: dark) { :root { --ink: #ececf1; --paper: #17171b; --faint: #a5a5b2;
  --line: #3a3a44; } }
* { box-sizing: border-box; }
body { margin: 2rem auto; padding: 0 1rem; max-width: 52rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.7 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.4rem; line-height: 1.3; margin: 0 0 .25rem; }
h2 { font-size: 1rem; margin: 1.75rem 0 .5rem; }
p { margin: 0; }
.faint { color: var(--faint); font-size: .9rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .95rem; }
th, td { text-align: start; vertical-align: top; padding: .2rem .75rem .2rem 0;
  border-bottom: 1px solid var(--line); font-weight: normal; }
thead th, tfoot th, tfoot td { font-weight: bold; }
.number { text-align: end; font-variant-numeric: tabular-nums; white-space: nowrap; }
"""


def html_page(title: str, body: str, style: str, script: str, *, asks: bool = False) -> str:
    """The page, to be saved as UTF-8.

    Args:
        title: as text.
        body: as markup, every text in it escaped.
        style: beside that of all pages.
        script: of the page.
        asks: whether the script may ask the server that the page comes from.
    """
    style = _STYLE + style
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_policy(style, script, asks)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{style}</style>
</head>
<body>
<main>
{body}
</main>
<script>{script}</script>
</body>
</html>
"""


def _policy(style: str, script: str, asks: bool) -> str:
    """What the page may run and load: this style and this script, and perhaps answers of its own server."""
    hashes = [base64.b64encode(hashlib.sha256(it.encode()).digest()).decode() for it in (style, script)]
    return (
        f"default-src 'none'; style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'; "
        + ("connect-src 'self'; " if asks else "")
        + "base-uri 'none'; form-action 'none'"
    )
