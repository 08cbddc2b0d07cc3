"""API keys: where they come from, and how they are kept out of everything that is printed."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from pathlib import Path

from qdrant_client import QdrantClient

from connector.core.errors import InputError

KEY_VARIABLE = "QDRANT_API_KEY"


_HIDDEN = "***"


_SHORTEST = 4
"""Characters of a secret; a shorter one would be found in every other word."""


_LONG = 8
"""Characters of a secret that is no part of a word, and so is hidden wherever it stands."""


def api_key_from_environment(variable: str = KEY_VARIABLE) -> str | None:
    """The key in `QDRANT_API_KEY`, or in the file that `QDRANT_API_KEY_FILE` names; None if neither is set.

    An empty variable counts as not set, and white space around the key is not a part of it.

    Args:
        variable: the first of the two, for another key.

    Raises:
        InputError: both are set, the file cannot be read or is empty, or a header cannot carry the key. The
            message never holds what was read.
    """
    key, file = os.environ.get(variable, "").strip(), os.environ.get(f"{variable}_FILE", "")
    if key and file:
        raise InputError(f"{variable} and {variable}_FILE are both set; unset one of them")
    if not file:
        return check_key(key, variable) if key else None
    what = f"{file}, which {variable}_FILE names,"
    try:
        key = Path(file).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise InputError(
            f"{what} cannot be read ({error.strerror}); write the API key into it and allow reading"
        ) from error
    except UnicodeDecodeError:  # its text holds bytes of the file
        raise InputError(f"{what} is not a text; write the API key into it, and nothing else") from None
    if not key:
        raise InputError(f"{what} is empty; write the API key into it")
    return check_key(key, what)


def check_key(key: str, source: str) -> str:
    """The key, if a header can carry it.

    Raises:
        InputError: it has other characters than printable ASCII; the message names the source alone.
    """
    if not all("!" <= character <= "~" for character in key):
        raise InputError(
            f"the API key of {source} has white space or characters beyond ASCII; give the key, nothing else"
        )
    return key


def redacted(url: str) -> str:
    """An address without the user and the query in it, either of which may hold a secret."""
    scheme, slashes, rest = url.partition("//") if "//" in url else ("", "", url)
    if "@" in rest:  # up to the last one, as passwords that should have been quoted are not
        rest = f"{_HIDDEN}@{rest.rpartition('@')[2]}"
    path, question, _ = rest.partition("?")
    return scheme + slashes + path + (question and question + _HIDDEN)


class Secrets:
    """Texts that are taken out of whatever is logged or raised.

    Args:
        texts: keys, passwords and the like; those that are too short to be secret are passed over.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        given = {text for text in texts if len(text) >= _SHORTEST}
        quoted = {json.dumps(text)[1:-1] for text in given}
        longest = sorted(given | quoted, key=len, reverse=True)  # one may be a part of another
        self._found = re.compile("|".join(map(_pattern, longest)) or r"(?!)")

    @classmethod
    def of(cls, client: QdrantClient, url: str = "") -> Secrets:
        """What a client sends to prove who it is, and what its address holds of it."""
        sent: dict[str, str] = getattr(client._client, "_rest_headers", {})
        proofs = [value for name, value in sent.items() if name.lower() in ("api-key", "authorization")]
        return cls([*proofs, *(proof.split()[-1] for proof in proofs if proof.split()), *in_url(url)])

    def hide(self, text: str) -> str:
        """The text with stars in place of secrets; of short ones where they stand as whole words."""
        return self._found.sub(_HIDDEN, text)

    def in_(self, text: str) -> bool:
        """Whether the text holds one."""
        return self.hide(text) != text

    def __repr__(self) -> str:
        return f"Secrets({_HIDDEN})"


def _pattern(secret: str) -> str:
    found = re.escape(secret)
    escaped = r"(?<=\\[bfnrt])"  # as a line break before it is written in JSON
    return found if len(secret) >= _LONG else rf"(?:(?<!\w)|{escaped}){found}(?!\w)"


def in_url(url: str) -> list[str]:
    """What may be secret in an address: the user and the password before its "@"."""
    user, at, _ = url.rpartition("//")[2].rpartition("@")
    return [user, user.partition(":")[2]] if at else []
