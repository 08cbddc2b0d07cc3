"""Options that commands share, and decorators that turn them into what a command works with.

Nothing here imports a heavy library before a command runs, so that `connector --help` stays quick.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from connector.cli.parameters import Count, parse_filter
from connector.core.errors import InputError

if TYPE_CHECKING:
    from connector.collection.recipe import Recipe

Command = Callable[..., Any]
Decorator = Callable[[Command], Command]

FILE = click.Path(dir_okay=False, path_type=Path)


FOLDER = click.Path(file_okay=False, path_type=Path)


PATH = click.Path(path_type=Path)


def gathered(name: str, make: Callable[..., Any], **options: Decorator) -> Decorator:
    """Options that the command gets as one thing.

    Args:
        name: the command's argument.
        make: makes it of the options' values, by their names.
        options: the options, by the names that click gives their values, in the order of `--help`.
    """

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def with_gathered(*args: Any, **given: Any) -> None:
            values = {option: given.pop(option) for option in options}
            command(*args, **{name: make(**values)}, **given)

        chosen: Command = with_gathered
        for option in reversed(options.values()):
            chosen = option(chosen)
        return chosen

    return decorate


keep_own = click.option(
    "--keep-own", is_flag=True, help="Keep a document with the query's own id, which BEIR leaves out."
)


def source(name: str, **settings: Any) -> Decorator:
    """An argument for documents that are read several times, with further settings of `click.argument`."""

    def check(_ctx: click.Context, _param: click.Parameter, given: Any) -> Any:
        if any(str(it) == "-" for it in (given if isinstance(given, tuple) else (given,))):
            raise InputError(
                "-: standard input is read once, and this command reads its documents several times; give a "
                "file or a folder"
            )
        return given

    return click.argument(name, type=PATH, callback=check, **settings)


json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")

yes = click.option("--yes", is_flag=True, help="Do not ask.")

collection = click.option("--collection", required=True, metavar="NAME", help="Name of the collection.")

ANYWHERE = click.Path(readable=False)


path = click.option("--path", type=ANYWHERE, metavar="DIR", help="Folder of an embedded Qdrant.")

model = click.option("--model", metavar="ID", help="Model id or folder.  [default: all-MiniLM-L6-v2]")

cache = click.option("--cache", type=FOLDER, help="Keep the encoder's output here.")


def url(**settings: Any) -> Decorator:
    """`--url`, with further settings of `click.option`."""
    text = "Address of a Qdrant server; its key from QDRANT_API_KEY, or a file, QDRANT_API_KEY_FILE."
    return click.option("--url", metavar="URL", help=text, **settings)


def where(path: str | None = None, url: str | None = None) -> dict[str, Any]:
    """The place as arguments of `Connector.open` and `open_store`.

    Raises:
        UsageError: both are given, or neither.
    """
    if (path is None) == (url is None):
        raise click.UsageError("give one of --path DIR (embedded) and --url URL (a server)")
    from connector.stores.server.credentials import api_key_from_environment

    return {"path": path, "url": url, "api_key": api_key_from_environment() if url else None}


anywhere = gathered("at", where, path=path, url=url())
on_server = gathered("at", where, url=url(required=True))


def opened(place: Decorator = anywhere) -> Decorator:
    """`--collection` and where it is; the command gets the `Connector` first, open, and it is closed."""

    def decorate(command: Command) -> Command:
        @collection
        @place
        @functools.wraps(command)
        def with_connector(*, collection: str, at: dict[str, Any], **given: Any) -> None:
            from connector.api.connector import Connector
            from connector.core.deadline import within

            with within(given.get("timeout")):
                connector = Connector.open(collection, **at)
            with connector:
                command(connector, **given)

        return with_connector

    return decorate


def one_of(required: bool = True, **options: str) -> Decorator:
    """Refuse a command line with several of these options, or, if one is required, with none.

    Args:
        required: whether there must be one.
        options: parameters, and what their options are called in the message.
    """

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def checked(*args: Any, **given: Any) -> None:
            count = sum(given[name] not in (None, False, ()) for name in options)
            if count > 1 or (required and not count):
                raise click.UsageError(f"give one of {' and '.join(options.values())}")
            command(*args, **given)

        return checked

    return decorate


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


def count(*names: str, least: int = 1, **settings: Any) -> Decorator:
    """An option for a whole number, at least so much, with further settings of `click.option`."""
    return click.option(*names, type=Count(least), metavar="N", **settings)


def input_file(option: str, text: str) -> Decorator:
    """An option for a file to read, and its help."""
    return click.option(option, type=FILE, metavar="FILE", help=text)


def queries(text: str) -> Decorator:
    """`--queries`, for a file or folder of records, and its help."""
    return click.option("--queries", type=PATH, metavar="FILE", help=text)


qrels = input_file(
    "--qrels", "In place of qrels/SPLIT.tsv: judgements in TREC's four columns or BEIR's three."
)


def judged_files(command: Command) -> Command:
    """`--queries` and `--qrels`, in place of those of a BEIR folder."""
    text = "In place of queries.jsonl: records with _id and text; - reads JSON lines."
    return queries(text)(qrels(command))


def output_file(option: str, text: str, ending: str = "") -> Decorator:
    """An option for a file to write at the end.

    Args:
        option: its name.
        text: its help.
        ending: of the file's name, such as ".json"; any if empty.

    Returns:
        The option. A file that could not be written is an `InputError`, before any work is done.
    """

    def check(_ctx: click.Context, _param: click.Parameter, file: Path | None) -> Path | None:
        if file is None:
            return None
        if not file.name.lower().endswith(ending):
            raise InputError(f"{option} {str(file)!r}: give a file that ends in {ending}")
        if not file.parent.is_dir():
            raise InputError(f"{option}: there is no folder {str(file.parent)!r}; make it first")
        from connector.core.sources.files import check_writable

        try:
            check_writable(file)
        except OSError as error:
            message = f"{option} {str(file)!r} cannot be written ({error.strerror}); give another file"
            raise InputError(message) from error
        return file

    return click.option(option, type=FILE, metavar=f"FILE{ending}", callback=check, help=text)


def _recipe(_ctx: click.Context, _param: click.Parameter, name: str | None) -> Recipe | None:
    from connector.collection.recipe import get_recipe

    return None if name is None else get_recipe(name)


def recipe(text: str = "", default: str | None = None) -> Decorator:
    """`--recipe`, which the command gets as a `Recipe`."""
    return click.option(
        "--recipe",
        callback=_recipe,
        default=default,
        metavar="NAME",
        help=f"{text}See `connector recipes`; or a .json file of `connector tune`.",
    )


_PARTS = {
    "reduction": (
        "STEPS",
        "In place of the recipe's, such as punctuation+ward-4, or none; see `connector reductions`.",
    ),
    "query_rows": (
        "ROWS",
        "Which rows of a query ask: own, all, or auto, as the model was trained.",
    ),
    "query_reduction": ("STEPS", "In place of the recipe's, such as icf-8, or none."),
    "query_weights": ("WEIGHTS", "What query tokens weigh: 1, sqrt-idf or idf."),
    "codec": ("PARTS", "Such as pca-128+residual-2; see `connector codecs`."),
    "head": ("DIR", "Folder of a trained head, for linear-D in a codec and saliency."),
    "fde": ("muvera", "Store MUVERA encodings, too, for --candidates-by muvera."),
    "lexical": ("LANGUAGE", "Index words, too, for --candidates-by, such as english."),
    "quantization": (
        "NAME",
        "What Qdrant scores tokens by (layout multivector): scalar, turbo-4, turbo-2, turbo-1.5, turbo-1, "
        "binary-2, binary-1.5, binary or product.",
    ),
}
"""Parts in place of the recipe's: what follows the option, and its help."""


def recipe_and_parts(text: str = "", default: str | None = None) -> Decorator:
    """`--recipe` and parts in its place; the command gets a `Recipe`, or None if nothing is asked for."""

    def chosen(recipe: Recipe | None, **parts: str | None) -> Recipe | None:
        from connector.collection.recipe import get_recipe

        return (recipe or get_recipe("default")).varied(**parts) if any(parts.values()) else recipe

    parts = {
        name: click.option(f"--{name.replace('_', '-')}", metavar=metavar, help=help)
        for name, (metavar, help) in _PARTS.items()
    }
    return gathered("recipe", chosen, recipe=recipe(text, default), **parts)


def spread(command: Command) -> Command:
    """How a server keeps a new collection, and a cluster spreads it; the command gets what is given."""
    for option in (
        click.option("--on-disk-payload/--in-memory-payload", default=None, help="Likewise the payload."),
        click.option("--on-disk/--in-memory", default=None, help="Where Qdrant reads its vectors from."),
        count("--write-consistency-factor", help="Of the copies, how many a write waits for."),
        count("--replication-factor", help="Copies of each of its shards."),
        count("--shard-number", help="Shards of a new collection on a cluster."),
    ):
        command = option(command)
    return command


def metadata_filter(text: str) -> Decorator:
    """`--filter`, which the command gets as a `qdrant_client.models.Filter`."""
    return click.option("--filter", metavar="JSON", callback=parse_filter, help=text)
