"""What click lacks: types of parameters, commands that check their texts, and options of `SearchOptions`.

As in `connector.cli.options`, nothing here imports a heavy library before a command runs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal, get_args, get_origin

import click

from connector.core.errors import InputError


class Count(click.IntRange):
    """A whole number from `min` on, which 64 bits hold, as all that counts with it does."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number."""
        number: int = super().convert(value, param, ctx)
        if number >= 2**63:
            self.fail(f"{number} is wider than 64 bits; give a smaller number", param, ctx)
        return number


def parse_filter(_ctx: click.Context, _param: click.Parameter, condition: str | None) -> Any:
    """A Qdrant filter from its JSON; None for None.

    Raises:
        InputError: it is none.
    """
    if condition is None:
        return None
    from pydantic import ValidationError
    from qdrant_client import models

    try:
        return models.Filter.model_validate_json(condition)
    except ValidationError as error:
        raise InputError(
            f"filter {condition!r} is not a Qdrant filter ({error.errors()[0]['msg']}); give one such as "
            '{"must": [{"key": "year", "match": {"value": 2020}}]}'
        ) from error


class Index(click.ParamType[Any]):
    """A metadata key and the kind of its values, such as year:integer."""

    name = "KEY:KIND"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """The two."""
        parts = re.fullmatch(r"(.+?):([^:]+(?::tenant)?)", str(value))
        if parts is None:
            self.fail(f"{value!r} names no kind; give KEY:KIND, such as year:integer", param, ctx)
        return parts[1], parts[2]


def declared_once(indexes: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Kinds by keys.

    Raises:
        InputError: a key comes with two kinds.
    """
    kinds: dict[str, str] = {}
    for key, kind in indexes:
        if kinds.setdefault(key, kind) != kind:
            raise InputError(f"index of {key!r}: it is {kinds[key]} and {kind}; give one of them")
    return kinds


indexes = click.option(
    "--index",
    "indexes",
    multiple=True,
    type=Index(),
    callback=lambda _ctx, _param, given: declared_once(given) or None,
    metavar="KEY:KIND",
    help="Index a metadata key for filters, such as year:integer; may be given several times.",
)


class TextCommand(click.Command):
    """A command whose texts are UTF-8; only paths may be any bytes, as the system has them."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does.

        Raises:
            BadParameter: a text is not UTF-8.
        """
        rest = super().parse_args(ctx, args)
        for param in self.get_params(ctx):
            given = ctx.params.get(param.name or "")
            for text in given if isinstance(given, tuple) else (given,):
                if isinstance(text, str) and isinstance(param.type, click.types.StringParamType):
                    _check_utf8(text, ctx, param)
        return rest


def _check_utf8(text: str, ctx: click.Context, param: click.Parameter) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        reason = f"{text!r} is not UTF-8 at position {error.start}; give it in UTF-8"
        raise click.BadParameter(reason, ctx, param) from None


class SearchCommand(TextCommand):
    """A command with options of `SearchOptions`, which are made when they are first needed.

    Args:
        args, settings: of `click.Command`.
        search: fields of `SearchOptions`, in the order of `--help`, where they stand before the last option.
    """

    def __init__(self, *args: Any, search: Sequence[str], **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._search = [*search]

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """All parameters; the first call makes those of `SearchOptions`."""
        if self._search:
            self.params[-1:-1] = map(_search_option, self._search)
            self._search.clear()
        return super().get_params(ctx)


def _search_option(name: str) -> click.Option:
    """A field of `SearchOptions` as an option: its type, limits, default and description."""
    from connector.collection.search.options import SearchOptions

    field = SearchOptions.model_fields[name]
    settings: dict[str, Any] = {"help": field.description, "default": field.default}
    kinds = get_args(field.annotation) if type(None) in get_args(field.annotation) else [field.annotation]
    kinds = [kind for kind in kinds if kind is not type(None)]
    limits = {end: getattr(it, end) for it in field.metadata for end in ("ge", "le") if hasattr(it, end)}
    if all(get_origin(kind) is Literal for kind in kinds):
        choices = [choice for kind in kinds for choice in get_args(kind)]
        empty = len(kinds) < len(get_args(field.annotation)) and field.default is not None
        settings["type"] = click.Choice([*choices, "none"] if empty else choices)
        settings["callback"] = lambda _ctx, _param, value: None if value == "none" else value
    elif kinds == [bool]:
        settings["is_flag"] = True
    elif get_origin(kinds[0]) is tuple:
        settings |= {"multiple": True, "metavar": "ID", "help": f"{field.description} May be repeated."}
    elif limits:
        whole = int in kinds
        settings["type"] = Count(limits["ge"]) if whole else click.FloatRange(limits["ge"], limits["le"])
    elif name == "filter":
        settings |= {"callback": parse_filter, "metavar": "JSON"}
    option = f"-{name}" if len(name) == 1 else f"--{name.replace('_', '-')}"
    return click.Option([option], **settings)
