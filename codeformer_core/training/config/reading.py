"""YAML or JSON -> frozen dataclasses; a key that doesn't exist is an error with the nearest name.

A file may begin from another: `preset: small` or `preset: ./mine.yaml`; the keys it names replace that one's, section
by section. So a user's file holds what differs, and nothing else.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import json
import reprlib
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ...runtime.foreign import is_mapping, is_object, is_sequence
from .run import RunConfig

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Config = TypeVar("Config", bound="DataclassInstance")

_FOLDER = Path(__file__).parent / "presets"
PRESETS = tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))
_PRESET = "preset"
_DEEPEST = 8


def read_config(source: str, changes: Sequence[str] = (), sections: Mapping[str, Any] | None = None) -> RunConfig:
    """A preset's name or a file, then `sections` (section -> key -> value), then `changes`
    ("stages.stage1.batch_size=8").

    Raises ValueError naming the file and key, what was found and what is allowed.
    """
    mapping = _merge(_read_with_base(source, 0), sections or {})
    for change in changes:
        mapping = _merge(mapping, _from_words(change))
    return build(RunConfig, mapping, source)


def build(cls: type[Config], mapping: Any, where: str) -> Config:
    """The dataclass `cls` from a mapping, nested ones too; `where` names the place in messages."""
    if not is_mapping(mapping):
        raise ValueError(f"{where}: expected keys and values, got {_shown(mapping)}")
    fields = {field.name: field for field in dataclasses.fields(cls)}
    for key in mapping:
        if key not in fields:
            raise ValueError(f"{where}: there is no key {key!r}{nearest(str(key), fields)}")
    needed = [name for name, field in fields.items() if field.default is dataclasses.MISSING]
    if missing := [name for name in needed if name not in mapping]:
        raise ValueError(f"{where}: missing {', '.join(missing)}; start from a preset ({', '.join(PRESETS)})")
    hints = typing.get_type_hints(cls)
    values = {name: _convert(hints[name], mapping[name], f"{where}: {name}") for name in fields if name in mapping}
    try:
        return cls(**values)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def as_mapping(config: Any) -> dict[str, Any]:
    """A config as plain dicts, lists, numbers and words: what `build` reads, and JSON writes."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def nearest(name: str, allowed: typing.Iterable[str]) -> str:
    """ "; did you mean ...?" or the list of what is allowed."""
    allowed = list(allowed)
    close = difflib.get_close_matches(name, allowed, 1)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(allowed)}"


def _convert(kind: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in arguments:
            return None
        return _convert(next(argument for argument in arguments if argument is not type(None)), value, where)
    if dataclasses.is_dataclass(kind):
        assert isinstance(kind, type)  # annotations hold classes, never instances
        return build(kind, value, where)
    if origin is tuple:
        if not is_sequence(value) or isinstance(value, str | bytes):
            raise ValueError(f"{where}: expected a list, got {_shown(value)}")
        if arguments[-1] is Ellipsis:
            arguments = arguments[:1] * len(value)
        if len(arguments) != len(value):
            raise ValueError(f"{where}: expected {len(arguments)} values, got {_shown(value)}")
        return tuple(
            _convert(argument, item, f"{where}[{index}]")
            for index, (argument, item) in enumerate(zip(arguments, value, strict=True))
        )
    if origin is not None and issubclass(origin, Mapping):
        if not is_mapping(value):
            raise ValueError(f"{where}: expected names and values, got {_shown(value)}")
        return {str(name): _convert(arguments[1], item, f"{where}.{name}") for name, item in value.items()}
    return _plain(kind, value, where)


def _plain(kind: type, value: Any, where: str) -> Any:
    if kind is float:
        if isinstance(value, str):  # YAML reads 1e-4 as a word
            with contextlib.suppress(ValueError):
                value = float(value)
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max:
            return float(value)
        raise ValueError(f"{where}: expected a number, got {_shown(value)}")
    if (kind is int and isinstance(value, bool)) or not isinstance(value, kind):
        names = {int: "a whole number", str: "a word", bool: "true or false"}
        raise ValueError(f"{where}: expected {names.get(kind, kind.__name__)}, got {_shown(value)}")
    return value


def _shown(value: Any) -> str:
    return reprlib.repr(value)[:80]


def _read_with_base(source: str, depth: int, beside: Path | None = None) -> dict[str, Any]:
    if depth > _DEEPEST:
        raise ValueError(f"{source}: presets that begin from each other")
    path = _FOLDER / f"{source}.yaml" if source in PRESETS else (beside or Path()) / source
    mapping = _read_file(path)
    base = mapping.pop(_PRESET, None)
    if base is None:
        return mapping
    if not isinstance(base, str):
        raise ValueError(f"{path}: preset must be a name or a file, got {_shown(base)}")
    return _merge(_read_with_base(base, depth + 1, path.parent), mapping)


def _read_file(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ValueError(f"{path}: no such preset or file{nearest(str(path), PRESETS)}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: can't be read ({getattr(error, 'strerror', None) or error})") from error
    loaded = _parse(text, str(path), is_json=path.suffix.lower() == ".json")
    if not is_object(loaded):
        raise ValueError(f"{path}: expected keys and values, got {_shown(loaded)}")
    return loaded


def _parse(text: str, where: str, *, is_json: bool) -> Any:
    try:
        return _parse_json(text) if is_json else _parse_yaml(text)
    except RecursionError as error:
        raise ValueError(f"{where}: nested too deeply") from error
    except ValueError as error:
        kind = "JSON" if is_json else "YAML"
        raise ValueError(f"{where}: not {kind} ({' '.join(str(error).split())[:200]})") from error


def _parse_json(text: str) -> Any:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        _refuse_repeated([key for key, _ in pairs])
        return dict(pairs)

    return json.loads(text, object_pairs_hook=once)


def _parse_yaml(text: str) -> Any:
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            _refuse_repeated([key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"])
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(text, Loader)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def _refuse_repeated(keys: list[Any]) -> None:
    """Of two values for one key the first would be lost without a word."""
    repeated = [key for index, key in enumerate(keys) if key in keys[:index]]
    if repeated:
        raise ValueError(f"the key {repeated[0]!r} stands there twice")


def _merge(base: Mapping[Any, Any], changes: Mapping[Any, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if is_mapping(old) and is_mapping(value) else value
    return merged


def _from_words(change: str) -> dict[str, Any]:
    """ "stages.stage1.batch_size=8" -> {"stages": {"stage1": {"batch_size": 8}}}"""
    keys, equals, text = change.partition("=")
    if not equals or not keys:
        raise ValueError(f"--set {change}: expected KEY=VALUE, such as stages.stage1.batch_size=8")
    value = _parse(text, f"--set {change}", is_json=False)
    for key in reversed(keys.strip().split(".")):
        value = {key: value}
    return value
