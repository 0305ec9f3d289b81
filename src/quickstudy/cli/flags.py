"""Command-line flags: one parser whose errors are single sentences, and flags made from a frozen dataclass."""

import argparse
import dataclasses
import difflib
import math
import os
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NoReturn, get_args, get_origin


class Parser(argparse.ArgumentParser):
    """An argument parser that raises `ValueError` with one sentence instead of printing its usage."""

    def __init__(self, command: str, description: str, epilog: str | None = None):
        super().__init__(f"quickstudy {command}", description=description, epilog=epilog, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        raise ValueError(message)

    def read(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Parse; an unknown flag is answered with the nearest one."""
        found, unknown = self.parse_known_args(arguments)
        if unknown:
            flag = unknown[0].partition("=")[0]
            known = sorted(option for action in self._actions for option in action.option_strings if option.startswith("--"))
            near = difflib.get_close_matches(flag, known, n=1, cutoff=0.4)
            what = f"there is no flag {flag}" if flag.startswith("-") else f"there is no place for {flag!r}"
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
            self.error(f"{what} in {self.prog}; {hint}")
        return found


def whole_number(text: str, least: int = 0) -> int:
    """An argument type: a whole number of at least `least`."""
    value = int(text)
    if not least <= value < 2**32:
        raise argparse.ArgumentTypeError(f"must be a whole number from {least} to {2**32 - 1}, not {text}")
    return value


def count(text: str) -> int:
    """An argument type: a whole number of at least one."""
    return whole_number(text, 1)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"must be a finite number, not {text}")
    return value


# argparse names a type in its own messages by its __name__.
whole_number.__name__ = count.__name__ = "whole number"
_finite.__name__ = "number"
_READERS: Mapping[type, Callable[[str], Any]] = {int: int, float: _finite, str: str}


class _OmniglotFolder(argparse.Action):
    """Puts the folder where the data set looks for it, and nothing into the result: it is no setting of a run."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        os.environ["QUICKSTUDY_OMNIGLOT"] = values


def add_data_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say where fetched data are."""
    told = "a folder that holds Omniglot, instead of the fetched one (or set QUICKSTUDY_OMNIGLOT)"
    parser.add_argument("--omniglot", metavar="DIR", action=_OmniglotFolder, default=argparse.SUPPRESS, help=told)


def add_config_flags(parser: argparse._ActionsContainer, config: type, help_of: Mapping[str, str]) -> None:
    """Add a flag for every field of a frozen dataclass of bool, int, float, str, `Literal`, tuples of these, or one of these or None.

    Flags that are not given are absent from the result. A field whose name the parser already uses gets `--config-` before its name.
    Raises `TypeError` for a field of another type.
    """
    taken = set(parser._option_string_actions)
    hints = typing.get_type_hints(config)
    for field in dataclasses.fields(config):
        options: dict[str, Any] = {
            "default": argparse.SUPPRESS,
            "help": help_of.get(field.name, "").replace("%", "%%"),
            "dest": _destination(field.name),
        }
        if _plain(hints[field.name]) is bool:
            options["action"] = argparse.BooleanOptionalAction
        else:
            options |= _reading(hints[field.name], f"{config.__module__}.Config.{field.name}")
        flag = f"--{field.name.replace('_', '-')}"
        parser.add_argument(f"--config-{flag[2:]}" if flag in taken else flag, **options)


def _destination(field: str) -> str:
    """Where a field's value is kept, out of the way of the command's own flags."""
    return f"config.{field}"


def _plain(hint: Any) -> Any:
    """The type of which a flag gives a value, where a sweep may give an array."""
    alternatives = get_args(hint) if get_origin(hint) in (types.UnionType, typing.Union) else ()
    plain = [one for one in (bool, int, float) if one in alternatives]
    return plain[0] if plain and type(None) not in alternatives else hint


def _reading(hint: Any, where: str) -> dict[str, Any]:
    """How argparse reads a value of a type."""
    hint = _plain(hint)
    arguments = get_args(hint)
    if hint in _READERS:
        return {"type": _READERS[hint], "metavar": hint.__name__.upper()}
    if get_origin(hint) is Literal:
        return {"choices": arguments} | ({"type": int} if isinstance(arguments[0], int) else {})
    if get_origin(hint) is tuple:
        lengths = {"nargs": "+"} if arguments[-1] is Ellipsis else {"nargs": len(arguments)}
        return _reading(arguments[0], where) | lengths
    if get_origin(hint) in (types.UnionType, typing.Union) and type(None) in arguments and len(arguments) == 2:
        inner = _reading(next(a for a in arguments if a is not type(None)), where)
        return inner | {"type": _or_none(inner["type"])}
    raise TypeError(f"{where} has type {hint}, for which there is no flag")


def _or_none(reader: Callable[[str], Any]) -> Callable[[str], Any]:
    return lambda text: None if text == "none" else reader(text)


def given_config(found: argparse.Namespace, config: type) -> dict[str, Any]:
    """The configuration fields that were given, tuples as tuples."""
    given = {
        field.name: vars(found)[_destination(field.name)] for field in dataclasses.fields(config) if _destination(field.name) in found
    }
    return {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
