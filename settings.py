"""Typed settings and YAML recipes: what a person writes is checked before anything starts.

A recipe is a YAML file; `key=value` arguments change single values by their dotted path. The result is parsed into
frozen pydantic models that forbid unknown keys. Every problem is reported at once, with the key's path, what is
accepted and, for an unknown key, the nearest right name.

This is the bottom of the house: every room may import it, and it imports none.
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
    """An error whose message says what is wrong and what to do: commands show it without a traceback."""

    on_every_rank: ClassVar[bool] = False
    """Whether all processes of a run raise it at once, so that one of them may speak for all."""


class SettingsError(UserError, ValueError):
    """A recipe or an override that cannot be used."""

    on_every_rank = True


class Settings(BaseModel):
    """Base class of all typed settings: unknown keys are errors, and values cannot change once parsed."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    CHANGEABLE: ClassVar[tuple[str, ...]] = ()
    """Settings, or whole sections, of which a run may be resumed with another value."""


def did_you_mean(name: str, choices: Iterable[str], cutoff: float = 0.5) -> str:
    """`; did you mean 'x'?` for the nearest of `choices`, or nothing where none comes near: to end an error with."""
    nearest = difflib.get_close_matches(str(name), list(choices), n=1, cutoff=cutoff)
    return f"; did you mean {nearest[0]!r}?" if nearest else ""


def read_recipe(path: str | Path, overrides: list[str] | tuple[str, ...] = ()) -> dict[str, Any]:
    """The recipe at `path` as plain dicts and lists, with `overrides` such as `optimizer.lr=0.1` applied in order."""
    path = Path(path)
    if not path.is_file():
        hint = did_you_mean(str(path), map(str, Path("configs").rglob("*.yaml")), cutoff=0.3)
        raise SettingsError(f"recipe {path} does not exist{hint}")
    try:
        recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise SettingsError(f"recipe {path} is not valid YAML: {error}") from error
    if not isinstance(recipe, dict):
        raise SettingsError(f"recipe {path} must hold a mapping of settings, it holds {type(recipe).__name__}")
    for override in overrides:
        _apply_override(recipe, override)
    return recipe


def _apply_override(recipe: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise SettingsError(f"override {override!r} is not of the form key=value, for example optimizer.lr=0.1")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SettingsError(f"override {override!r}: {text!r} is not a YAML value") from error
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
    """`values` as an instance of `schema`; raises SettingsError listing every problem by its dotted key."""
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
    if problem["type"] == "value_error":  # raised by a validator of ours: its message says it all
        return f"{key}: {problem['ctx']['error']}" if key else str(problem["ctx"]["error"])
    message = problem["msg"][0].lower() + problem["msg"][1:]
    return f"{key}: {message}, got {problem['input']!r}"


def _field_names(schema: type[BaseModel], location: tuple) -> list[str]:
    """Names of the fields of the model that sits at `location` inside `schema`."""
    for part in location:
        if isinstance(part, int) or part not in schema.model_fields:
            continue
        inner = _model_inside(schema.model_fields[part].annotation)
        if inner is not None:
            schema = inner
    return list(schema.model_fields)


def _model_inside(annotation: Any) -> type[BaseModel] | None:
    """The pydantic model in an annotation such as `Model`, `Model | None` or `list[Model]`."""
    if (
        isinstance(annotation, type)
        and not isinstance(annotation, types.GenericAlias)
        and issubclass(annotation, BaseModel)
    ):
        return annotation
    return next(filter(None, map(_model_inside, typing.get_args(annotation))), None)


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """{dotted key: (old value, new value)} of two nested dicts."""
    found: dict[str, tuple[Any, Any]] = {}
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            found |= differences(before, after, f"{prefix}{key}.")
        elif before != after:
            found[f"{prefix}{key}"] = (before, after)
    return found


def is_changeable(schema: type[BaseModel], key: str) -> bool:
    """Whether a run may be resumed with another value of the setting `key`, such as `data.num_workers`."""
    for name in key.split("."):
        if name in getattr(schema, "CHANGEABLE", ()):
            return True
        if name not in schema.model_fields:
            return False
        schema = _model_inside(schema.model_fields[name].annotation) or schema
    return False
