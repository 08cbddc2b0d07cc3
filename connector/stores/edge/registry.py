"""What `registry.json` says of a folder's collections, and what each collection says of itself.

The registry is what counts. A collection's own `collection.json` repeats its part of it, so that a registry
that is lost can be made again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from connector.core.errors import StoreError


class Entry(BaseModel):
    """A collection: the name of its folder, which lies in "collections", and its metadata."""

    model_config = ConfigDict(extra="allow")

    folder: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]*[A-Za-z0-9_-][A-Za-z0-9._-]*$")]
    info: dict[str, str]


class Registry(BaseModel):
    """What `registry.json` says."""

    model_config = ConfigDict(extra="allow")

    format: Literal[1]
    collections: dict[str, Entry]
    aliases: dict[str, str] = {}

    @model_validator(mode="after")
    def _check(self) -> Registry:
        homes = [it.folder for it in self.collections.values()]
        if len(set(homes)) < len(homes):
            raise ValueError("two collections in one folder")
        if astray := set(self.aliases.values()) - set(self.collections):
            raise ValueError(f"an alias leads to {min(astray)!r:.80}, which is not there")
        return self

    def said_by(self, name: str) -> Said:
        """What a collection should say of itself."""
        aliases = sorted(alias for alias, it in self.aliases.items() if it == name)
        return Said(format=1, name=name, aliases=aliases, info=self.collections[name].info)


class Said(BaseModel):
    """What a collection says of itself, in its folder's `collection.json`."""

    model_config = ConfigDict(extra="allow")

    format: Literal[1]
    name: str
    aliases: list[str]
    info: dict[str, str]


SAID_FILE = "collection.json"


def found(collections: Path) -> Iterator[tuple[Path, Said | None]]:
    """The folders with a shard, and what each says of itself; None where that cannot be read."""
    for home in sorted(it.parent for it in collections.glob("*/shard")):
        try:
            yield home, Said.model_validate_json((home / SAID_FILE).read_bytes())
        except (OSError, ValidationError):
            yield home, None


def rebuilt(collections: Path) -> tuple[Registry, list[Path]]:
    """The registry that a folder's collections speak of, and the folders that do not say what they are.

    Raises:
        StoreError: none says what it is, or two say that they are the same.
    """
    registry, unknown = Registry(format=1, collections={}), list[Path]()
    for home, said in found(collections):
        if said is None:
            unknown.append(home)
            continue
        for name in {said.name, *said.aliases} & {*registry.collections, *registry.aliases}:
            raise StoreError(f"{home} is one of two that say they are {name!r}; move the older one away")
        registry.collections[said.name] = Entry(folder=home.name, info=said.info)
        registry.aliases |= dict.fromkeys(said.aliases, said.name)
    if not registry.collections:
        raise StoreError(
            f"{collections} holds no {SAID_FILE}, which collections of an earlier version lack; restore "
            "registry.json from a copy, or an export"
        )
    return registry, unknown


def kept(path: Path) -> bool:
    """Whether a registry is not to be made again: it is a later version's, or cannot be read at all."""
    try:
        return int(json.loads(path.read_bytes())["format"]) > 1
    except FileNotFoundError:
        return False
    except OSError:
        return True
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return False
