"""Typed settings and YAML recipes. User input is checked before anything starts.

A recipe is a YAML file; `key=value` arguments override single values by their dotted path. The result is parsed into
frozen pydantic models that forbid unknown keys. All problems are reported together, each with the path of its key, what
is accepted and, for an unknown key, the closest valid name.

This is the lowest layer: every package may import it, and it imports none of them.
"""

import difflib
import types
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

Parsed = TypeVar("Parsed", bound=BaseModel)


class UserError(Exception):
    """An error whose message says what is wrong and what to do. Commands show it without a traceback."""

    on_every_rank: ClassVar[bool] = False
    """Whether all ranks raise it together, so that a single rank can report it."""


class SettingsError(UserError, ValueError):
    """A recipe or an override is invalid."""

    on_every_rank = True


class Settings(BaseModel):
    """Base class of all typed settings. Unknown keys are errors, and instances are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    CHANGEABLE: ClassVar[tuple[str, ...]] = ()
    """Settings or whole sections that may change when a run is resumed."""


def did_you_mean(name: str, choices: Iterable[str], cutoff: float = 0.5) -> str:
    """The end of an error message: "; did you mean 'x'?" for the closest of `choices`, or "" if none is close."""
    nearest = difflib.get_close_matches(str(name), list(choices), n=1, cutoff=cutoff)
    return f"; did you mean {nearest[0]!r}?" if nearest else ""


def read_recipe(path: str | Path, overrides: list[str] | tuple[str, ...] = ()) -> dict[str, Any]:
    """Reads a recipe as plain dicts and lists, and applies `overrides` such as `optimizer.lr=0.1` in order."""
    path = Path(path)
    if not path.is_file():
        hint = did_you_mean(str(path), map(str, Path("configs").rglob("*.yaml")), cutoff=0.3)
        raise SettingsError(f"recipe {path} does not exist{hint}")
    try:
        recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise SettingsError(f"recipe {path} is not valid YAML: {error}") from error
    if not isinstance(recipe, dict):
        raise SettingsError(f"recipe {path} must contain a mapping of settings, got {type(recipe).__name__}")
    for override in overrides:
        _apply_override(recipe, override)
    return recipe


def _apply_override(recipe: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise SettingsError(f"override {override!r} does not have the form key=value, for example optimizer.lr=0.1")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SettingsError(f"override {override!r}: {text!r} is not valid YAML") from error
    *parents, leaf = key.split(".")
    section = recipe
    for depth, name in enumerate(parents):
        if section.get(name) is None:
            section[name] = {}
        section = section[name]
        if not isinstance(section, dict):
            raise SettingsError(f"override {override!r}: {'.'.join(parents[: depth + 1])} is a value, not a section")
    section[leaf] = value


def parse_settings(schema: type[Parsed], values: dict[str, Any], source: str = "recipe") -> Parsed:
    """`values` as an instance of `schema`. Raises SettingsError that lists every problem by its dotted key."""
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        problems = [_explain(schema, problem) for problem in error.errors()]
        raise SettingsError(f"{source}:\n  " + "\n  ".join(problems)) from None


def _explain(schema: type[BaseModel], problem: dict[str, Any]) -> str:
    location = problem["loc"]
    key = ".".join(str(part) for part in location)
    if problem["type"] == "extra_forbidden":
        names = _field_names(schema, location[:-1])
        hint = did_you_mean(str(location[-1]), names) or f"; known here: {', '.join(sorted(names))}"
        return f"{key}: unknown setting{hint}"
    if problem["type"] == "missing":
        return f"{key}: is required"
    if problem["type"] == "value_error":  # from one of our validators, whose message is complete
        return f"{key}: {problem['ctx']['error']}" if key else str(problem["ctx"]["error"])
    message = problem["msg"][0].lower() + problem["msg"][1:]
    return f"{key}: {message}, got {problem['input']!r}"


def _field_names(schema: type[BaseModel], location: tuple) -> list[str]:
    """The field names of the model at `location` in `schema`."""
    for part in location:
        if isinstance(part, int) or part not in schema.model_fields:
            continue
        inner = _model_inside(schema.model_fields[part].annotation)
        if inner is not None:
            schema = inner
    return list(schema.model_fields)


def _model_inside(annotation: Any) -> type[BaseModel] | None:
    """The pydantic model in an annotation such as `Model`, `Model | None` or `list[Model]`; None if there is none."""
    if (
        isinstance(annotation, type)
        and not isinstance(annotation, types.GenericAlias)
        and issubclass(annotation, BaseModel)
    ):
        return annotation
    return next(filter(None, map(_model_inside, typing.get_args(annotation))), None)


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """What differs between two nested dicts: {dotted key: (old value, new value)}."""
    found: dict[str, tuple[Any, Any]] = {}
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            found |= differences(before, after, f"{prefix}{key}.")
        elif before != after:
            found[f"{prefix}{key}"] = (before, after)
    return found


def is_changeable(schema: type[BaseModel], key: str) -> bool:
    """Whether the setting `key`, such as `data.num_workers`, may change when a run is resumed."""
    for name in key.split("."):
        if name in getattr(schema, "CHANGEABLE", ()):
            return True
        if name not in schema.model_fields:
            return False
        schema = _model_inside(schema.model_fields[name].annotation) or schema
    return False
