"""Arguments of public functions, checked against their annotations."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, get_type_hints

import numpy as np
from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from connector.core.errors import ConnectorError, InputError, own_words

P = ParamSpec("P")
T = TypeVar("T")

_STRICT = ConfigDict(strict=True, arbitrary_types_allowed=True)


def checked(function: Callable[P, T]) -> Callable[P, T]:
    """Check the arguments of a public function against their annotations before it is called.

    Nothing is converted: a text is not a number. Of an iterable it is only seen that it is one.

    Raises:
        InputError: names the first argument that does not fit, its value and what it should be.
    """
    signature = inspect.signature(function)

    @functools.cache
    def adapters() -> dict[str, TypeAdapter[Any]]:
        plain = {
            name
            for name, parameter in signature.parameters.items()
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        }
        hints = get_type_hints(function, include_extras=True)
        return {name: _adapter(hints[name]) for name in plain & hints.keys()}

    @functools.wraps(function)
    def call(*args: P.args, **options: P.kwargs) -> T:
        given = signature.bind(*args, **options).arguments
        for name, adapter in adapters().items():
            if name in given:
                _check(name, given[name], adapter)
        return function(*args, **options)

    return call


def invalid(name: str, value: Any, error: ValidationError) -> ConnectorError:
    """What to raise for a value that a pydantic type refuses: all that it could have been."""
    wanted = dict.fromkeys(map(_wanted, error.errors(include_url=False)))
    return own_words(error) or InputError(f"{name} is {value!r:.80}; it should be {' or '.join(wanted)}")


def _wanted(problem: ErrorDetails) -> str:
    return problem["msg"].removeprefix("Input should be ").replace("valid integer", "whole number")


def _check(name: str, value: Any, adapter: TypeAdapter[Any]) -> None:
    try:
        adapter.validate_python(value.item() if isinstance(value, np.generic) else value)
    except ValidationError as error:
        raise invalid(name, value, error) from None


def _adapter(hint: Any) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(hint, config=_STRICT)
    except PydanticUserError:  # a type that is a model has a configuration of its own
        return TypeAdapter(hint)
