"""Pages that need nothing else: no file, script, font or style from outside.

A page is made of a template of Jinja2, whose values are escaped, and of a style and a script beside it. Its
policy allows that style and that script, by their hashes, and nothing else: even a mistake in escaping
could not run or load anything.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

_STATIC = Path(__file__).parent / "static"


def render_page(template: Path, *, asks: bool = False, **values: Any) -> str:
    """The page of a template, to be saved as UTF-8.

    Args:
        template: a file, NAME.html, that extends `page.html` by its blocks `title` and `body`. Beside it lie
            NAME.css, a style beside that of all pages, and NAME.js, the script of the page.
        asks: whether the script may ask the server that the page comes from.
        values: what the template names, as text; `Markup` is put in as it is.

    Raises:
        jinja2.UndefinedError: the template names what is not given.
    """
    files = (_STATIC / "page.css", template.with_suffix(".css"), template.with_suffix(".js"))
    shared, own, script = (file.read_text(encoding="utf-8") for file in files)
    style = shared + own
    environment = Environment(
        loader=FileSystemLoader([template.parent, _STATIC]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template.name).render(
        values,
        style=Markup(style),
        style_hash=_hash(style),
        script=Markup(script),
        script_hash=_hash(script),
        asks=asks,
    )


def _hash(text: str) -> str:
    """As a Content-Security-Policy names what it allows."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
