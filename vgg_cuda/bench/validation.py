"""Whether a JSON value is of a type that Python's hints name; the first place where it is not.

Reports come from files that anybody may have written. What :func:`conform` returns has the types
that the hints promise, all the way down, so that no later code meets a surprise.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import types
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")

MAX_INT = 2**63

_NAMES = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


def conform(value: object, hint: Any, where: str) -> Any:
    """``value`` as the type ``hint``; objects become the dataclasses that the hint names.

    ``hint`` is built of str, int, float, bool, None, Any, Literal, list, dict[str, ...], pairs,
    unions and dataclasses. ``where`` names the value in the message: ``results[2].median_s``.
    Numbers must be finite. Raises ``ValueError``.
    """
    if hint is Any:
        return _json(value, where)
    if hint in _NAMES:
        return _scalar(value, hint, where)
    if hint is types.NoneType:
        if value is not None:
            raise _unexpected(value, "null", where)
        return None
    if dataclasses.is_dataclass(hint):
        return build(value, hint, where)  # type: ignore[arg-type]
    origin, args = get_origin(hint), get_args(hint)
    if origin is Literal:
        if not any(type(value) is type(arg) and value == arg for arg in args):
            raise _unexpected(value, " or ".join(repr(arg) for arg in args), where)
        return value
    if origin in (Union, types.UnionType):  # here always T | None
        if value is None:
            return None
        (inner,) = (arg for arg in args if arg is not types.NoneType)
        return conform(value, inner, where)
    if origin is list:
        return [conform(v, args[0], f"{where}[{i}]") for i, v in enumerate(_list(value, where))]
    if origin is tuple:
        values = _list(value, where)
        if len(values) != len(args):
            raise ValueError(f"{where}: expected {len(args)} values, got {len(values)}")
        return tuple(
            conform(v, a, f"{where}[{i}]")
            for i, (v, a) in enumerate(zip(values, args, strict=True))
        )
    if origin is dict:
        return {k: conform(v, args[1], f"{where}.{k}") for k, v in _object(value, where).items()}
    raise TypeError(f"{where}: no rule for {hint}")


def build(value: object, cls: type[T], where: str) -> T:
    """The dataclass ``cls`` from a JSON object; absent fields take their defaults.

    Raises ``ValueError`` for a field that is missing, unknown or of another type.
    """
    given, prefix = _object(value, where), f"{where}." if where else ""
    hints = _hints(cls)  # type: ignore[arg-type]  # mypy takes no type for hashable
    if unknown := sorted(given.keys() - hints.keys()):
        raise ValueError(f"{prefix}{unknown[0]}: no such field; known are {', '.join(hints)}")
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        required = field.default is field.default_factory is dataclasses.MISSING
        if required and field.name not in given:
            raise ValueError(f"{prefix}{field.name}: missing")
    return cls(**{k: conform(v, hints[k], prefix + k) for k, v in given.items()})


@functools.lru_cache
def _hints(cls: type[Any]) -> dict[str, Any]:
    return get_type_hints(cls)


def _scalar(value: object, hint: type, where: str) -> Any:
    if not isinstance(value, (int, float) if hint is float else hint) or (
        isinstance(value, bool) and hint is not bool
    ):
        raise _unexpected(value, _NAMES[hint], where)
    if isinstance(value, str):
        return _text(value, where)
    if isinstance(value, int) and not -MAX_INT <= value < MAX_INT:
        raise ValueError(f"{where}: expected a whole number of 64 bits")
    return _finite(value, where) if hint is float else value


def _finite(value: Any, where: str) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"{where}: expected a finite number, got {number}")
    return number


def _text(value: str, where: str) -> str:
    if not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value):
        raise _unexpected(value, "text that UTF-8 can hold", where)
    return value


def _json(value: object, where: str) -> object:
    if isinstance(value, dict):
        return {k: _json(v, f"{where}.{k}") for k, v in _object(value, where).items()}
    if isinstance(value, list):
        return [_json(v, f"{where}[{i}]") for i, v in enumerate(value)]
    if isinstance(value, float):
        return _finite(value, where)
    if isinstance(value, str):
        return _text(value, where)
    if value is None or isinstance(value, int):
        return value
    raise _unexpected(value, "what JSON can hold", where)


def _list(value: object, where: str) -> list[Any]:
    if not isinstance(value, (list, tuple)):
        raise _unexpected(value, "a list", where)
    return list(value)


def _object(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise _unexpected(value, "an object", where or "the report")
    for key in value:
        _text(key, where or "the report")
    return value


def _unexpected(value: object, expected: str, where: str) -> ValueError:
    shown = repr(value)
    return ValueError(
        f"{where}: expected {expected}, got {shown if len(shown) <= 60 else shown[:57] + '...'}"
    )
