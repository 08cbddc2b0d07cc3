"""How a part of a recipe is named: a word and what follows it, such as "ward-4" or "pca-128"."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from connector.core.errors import RecipeError

S = TypeVar("S")


C = TypeVar("C")


@dataclass(frozen=True, slots=True)
class Method(Generic[S, C]):
    """One thing that recipes name.

    Args:
        form: how it is written, a name and what follows it: "first-K", "stopwords-LANGUAGE", "whole-words".
        summary: one line for a person.
        source: where it comes from.
        make: from what follows the name, "" where nothing does, and what is known around it, to the thing;
            raises `RecipeError`.
    """

    form: str
    summary: str
    source: str
    make: Callable[[str, C], S]

    @property
    def name(self) -> str:
        """The part of the form that stays the same."""
        return self.form.rpartition("-")[0] if self.form[-1].isupper() else self.form


def count(text: str, least: int = 1) -> int:
    """The whole number that follows a name, as in "pca-128"."""
    if not (text.isascii() and text.isdecimal() and int(text) >= least):
        raise RecipeError(f"{text!r} is not a number; give one such as 16, at least {least}")
    return int(text)


def named(part: str, methods: Sequence[Method[S, C]]) -> tuple[Method[S, C], str] | None:
    """The method that a part names, and what follows its name: something where it takes one, else nothing."""
    for method in methods:
        takes = method.name != method.form
        if part == method.form and not takes:
            return method, ""
        if takes and part.startswith(f"{method.name}-"):
            return method, part[len(method.name) + 1 :]
    return None


def made(what: str, spec: str, part: str, methods: Sequence[Method[S, C]], kind: str, context: C) -> S:
    """What one part of a text names.

    Args:
        what, spec: what the text is and the whole of it, for messages.
        part: the part.
        methods: those it may name; `kind` is what they are called.
        context: what is known around it.

    Raises:
        RecipeError: the part is not known, or what follows its name is not.
    """
    found = named(part, methods)
    if found is None:
        known = ", ".join(method.form for method in methods)
        raise RecipeError(f"{what} {spec!r}: {part!r} is not known; the known {kind}: {known}")
    method, rest = found
    try:
        return method.make(rest, context)
    except RecipeError as error:
        raise RecipeError(f"{what} {spec!r}: {part}: {error}") from None
