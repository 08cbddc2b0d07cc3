"""Arguments that one line of a docstring describes together, such as `path, url: …`, each by itself.

An extension of griffe, which reads docstrings for the Python reference and knows one name a line.
"""

from __future__ import annotations

from typing import Any

from griffe import Class, DocstringParameter, DocstringSectionParameters, Extension, Function, Object


class GroupedArguments(Extension):
    def on_object(self, *, obj: Object, **_: Any) -> None:
        if obj.docstring is None or not isinstance(obj, Function | Class):
            return
        known = {it.name: it for it in obj.parameters} if isinstance(obj, Function) else {}
        sections = obj.docstring.parse("google", warn_unknown_params=False, warn_missing_types=False)
        obj.docstring.__dict__["parsed"] = sections  # where griffe keeps them
        for section in sections:
            if isinstance(section, DocstringSectionParameters):
                section.value = [
                    DocstringParameter(
                        name,
                        annotation=known[name].annotation if name in known else _annotation(obj, name),
                        value=known[name].default if name in known else None,
                        description=it.description,
                    )
                    for it in section.value
                    for name in it.name.split(", ")
                ]


def _annotation(obj: Object, name: str) -> Any:
    """Of a field of a class."""
    member = obj.members.get(name)
    return getattr(member, "annotation", None)
