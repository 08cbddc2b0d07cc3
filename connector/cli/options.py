"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from connector.core.errors import InputError

Command = Callable[..., Any]

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")


def place(command: Command) -> Command:
    """Where the collection is."""
    for option in (
        click.option(
            "--url",
            metavar="URL",
            help="Address of a Qdrant server; its key from QDRANT_API_KEY, or a file, QDRANT_API_KEY_FILE.",
        ),
        click.option("--path", metavar="DIR", help="Folder of an embedded Qdrant."),
        click.option("--collection", required=True, metavar="NAME", help="Name of the collection."),
    ):
        command = option(command)
    return command


def where(path: str | None, url: str | None) -> dict[str, Any]:
    """The place as arguments of `Connector`."""
    if (path is None) == (url is None):
        raise click.UsageError("give one of --path DIR (embedded) and --url URL (a server)")
    from connector.stores.server.credentials import api_key_from_environment

    return {"path": path, "url": url, "api_key": api_key_from_environment() if url else None}


def confirm(question: str) -> None:
    """Ask before something is lost.

    Raises:
        ClickException: the answer is no, or nobody is there to give one.
    """
    try:
        agreed = click.confirm(question, err=True)
    except click.Abort:
        raise click.ClickException(
            "nobody answered, and nothing was done; give --yes to do it unasked"
        ) from None
    if not agreed:
        raise click.ClickException("nothing was done")


def recipe_parts(command: Command) -> Command:
    """Parts in place of the recipe's, which the command gets as `**parts`."""
    for option in (
        click.option(
            "--quantization",
            metavar="NAME",
            help="What Qdrant scores tokens by (layout multivector): scalar, turbo-4, turbo-2, turbo-1.5, "
            "turbo-1, binary-2, binary-1.5, binary or product.",
        ),
        click.option(
            "--lexical", metavar="LANGUAGE", help="Index words, too, for --candidates-by, such as english."
        ),
        click.option(
            "--fde", metavar="muvera", help="Store MUVERA encodings, too, for --candidates-by muvera."
        ),
        click.option(
            "--head", metavar="DIR", help="Folder of a trained head, for linear-D in a codec and saliency."
        ),
        click.option("--codec", metavar="PARTS", help="Such as pca-128+residual-2; see `connector codecs`."),
        click.option(
            "--query-reduction",
            metavar="STEPS",
            help="In place of the recipe's, such as idf-weight, or none.",
        ),
        click.option(
            "--reduction",
            metavar="STEPS",
            help="In place of the recipe's, such as punctuation+ward-4, or none; see `connector reductions`.",
        ),
    ):
        command = option(command)
    return command


def candidates(default: int) -> Callable[[Command], Command]:
    """How candidates are found, and how they are scored."""

    def options(command: Command) -> Command:
        for option in (
            click.option(
                "--cls-weight",
                type=click.FloatRange(0, 1),
                metavar="W",
                help="Score W·CLS + (1 − W)·tokens.  [default: the collection's]",
            ),
            click.option(
                "--alignment",
                metavar="top-K",
                help="Tokens of a passage for each query token, such as top-4 or top-1.5%.  [default: the "
                "collection's; else MaxSim]",
            ),
            click.option(
                "--candidates-by",
                type=click.Choice(["dense", "lexical", "hybrid", "hybrid-dbsf", "muvera"]),
                default="dense",
                show_default=True,
                help="What finds them: CLS vectors, words (BM25), both (fused by ranks or scores) or MUVERA.",
            ),
            click.option(
                "--candidates",
                default=default,
                show_default=True,
                type=click.IntRange(1),
                help="Passages to find and rerank; at least as many as hits.",
            ),
        ):
            command = option(command)
        return command

    return options


def parse_filter(condition: str | None) -> Any:
    """A Qdrant filter from its JSON; None for None."""
    from pydantic import ValidationError
    from qdrant_client import models

    if condition is None:
        return None
    try:
        return models.Filter.model_validate_json(condition)
    except ValidationError as error:
        raise InputError(
            f"filter {condition!r} is no Qdrant filter ({error.errors()[0]['msg']}); give one such as "
            '{"must": [{"key": "year", "match": {"value": 2020}}]}'
        ) from error
