"""Typed settings and YAML recipes. User input is checked before anything starts.

A recipe is a YAML file; `key=value` arguments override single values by their dotted path. The result is parsed into
frozen pydantic models that forbid unknown keys. All problems are reported together, each with the path of its key, what
is accepted and, for an unknown key, the closest valid name.

Unquoted words follow the rules of YAML 1.2: `1e-4` is a number, `no` and `1:20` are text. So is `020`, which a setting
that takes a number reads as 20. A key that appears twice in a section is an error.

This is the lowest layer: every package may import it, and it imports none of them.
"""

import difflib
import re
import types
import typing
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

Parsed = TypeVar("Parsed", bound=BaseModel)
LARGEST = 10**15
"""The largest number in a recipe: no run has as many samples, and whole numbers up to this are exact in floats."""


LONGEST_SHOWN = 100  # characters of a value in a message
DEEPEST_NESTING = 100  # levels of sections and lists in a recipe
SUITE = Path(__file__).resolve().parent
"""The folder of the suite, which holds `configs/`."""


class UserError(Exception):
    """An error whose message says what is wrong and what to do. Commands show it without a traceback."""

    on_every_rank: ClassVar[bool] = False
    """Whether all ranks raise it together, so that a single rank can report it."""


class SettingsError(UserError, ValueError):
    """A recipe or an override is invalid."""

    on_every_rank = True


class Settings(BaseModel):
    """Base class of all typed settings. Unknown keys are errors, and instances are immutable.

    Numbers are finite and at most `LARGEST`. Text is not empty: use null for none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    CHANGEABLE: ClassVar[tuple[str, ...]] = ()
    """Settings or whole sections that may change when a run is resumed, because they do not affect the weights."""

    @field_validator("*")
    @classmethod
    def _within_reason(cls, value: Any) -> Any:
        for leaf in _leaves(value):
            if isinstance(leaf, int | float) and not abs(leaf) <= LARGEST:
                raise ValueError(f"{_shown(leaf)} is out of range; expected a finite number of at most {LARGEST:g}")
            if leaf == "":
                raise ValueError("is empty; write null for none")
            if isinstance(leaf, str) and "\0" in leaf:
                raise ValueError(f"{_shown(leaf)} has a null character, which no file name can have")
        return value


def _leaves(value: Any) -> Iterator[Any]:
    """The plain values in nested lists and dicts. Sections are left out, because they check themselves."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for inner in value:
            yield from _leaves(inner)
    else:
        yield value


def some_of(names: list[str], num_classes: int) -> str:
    """Some of the classes for a message: "2 of 5 classes: cat, dog"."""
    return f"{len(names)} of {num_classes} classes: {', '.join(names[:5])}" + ", ..." * (len(names) > 5)


def did_you_mean(name: str, choices: Iterable[str], cutoff: float = 0.5) -> str:
    """The end of an error message: "; did you mean 'x'?" for the closest of `choices`, or "" if none is close."""
    nearest = difflib.get_close_matches(str(name), list(choices), n=1, cutoff=cutoff)
    return f"; did you mean {nearest[0]!r}?" if nearest else ""


def unknown_name(what: str, name: str, choices: Iterable[str]) -> str:
    """An error message: there is no `what` of this name; the nearest of the `choices`, and all of them."""
    choices = list(choices)
    return f"no {what} is called {name!r}{did_you_mean(name, choices, cutoff=0.4)} (choices: {', '.join(choices)})"


def recipe_file(path: str | Path) -> Path:
    """The recipe `path` in the current folder, else in the suite's. Raises SettingsError if it is in neither.

    So `configs/demo/glore_motion.yaml` is found wherever a command is started.
    """
    found = next((place for place in (Path(path), SUITE / path) if place.is_file()), None)
    if found is None:
        names = {str(file.relative_to(root)) for root in (Path(), SUITE) for file in (root / "configs").rglob("*.yaml")}
        raise SettingsError(f"recipe {path} does not exist{did_you_mean(str(path), sorted(names), cutoff=0.3)}")
    return found


def read_recipe(path: str | Path, overrides: list[str] | tuple[str, ...] = ()) -> dict[str, Any]:
    """Reads a recipe as plain dicts and lists, and applies `overrides` such as `optimizer.lr=0.1` in order."""
    path = recipe_file(path)
    try:
        text = path.read_text(encoding="utf-8-sig")  # drops the byte order mark that some editors write
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"it is not UTF-8 text, see byte {error.start}"
        raise SettingsError(f"cannot read the recipe {path}: {reason}") from error
    recipe = parse_yaml(text, f"recipe {path}")
    if not isinstance(recipe, dict):
        raise SettingsError(f"recipe {path} must contain a mapping of settings, got {type(recipe).__name__}")
    return apply_overrides(recipe, overrides)


def apply_overrides(recipe: dict[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """`recipe`, changed in place by `overrides` such as `optimizer.lr=0.1`, in order."""
    for override in overrides:
        apply_override(recipe, override)
    return recipe


def apply_override(recipe: dict[str, Any], override: str) -> None:
    """Changes one value of a recipe, in place: `optimizer.lr=0.1`. Raises SettingsError if it is malformed."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise SettingsError(f"override {override!r} does not have the form key=value, for example optimizer.lr=0.1")
    if re.search(r"(^|\s)#", re.sub(r"""'[^']*'|"[^"]*\"""", "", text)):
        raise SettingsError(f"override {override!r}: in YAML, # starts a comment; put the value in quotes")
    value = parse_yaml(text, f"override {override!r}")
    *parents, leaf = key.split(".")
    section = recipe
    for depth, name in enumerate(parents):
        if section.get(name) is None:
            section[name] = {}
        section = section[name]
        if not isinstance(section, dict):
            raise SettingsError(f"override {override!r}: {'.'.join(parents[: depth + 1])} is a value, not a section")
    section[leaf] = value


def parse_yaml(text: str, source: str) -> Any:
    """The plain value of a YAML text: see the top of this file. Raises SettingsError that names `source`."""
    try:
        return yaml.load(text, _Loader)  # a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        raise SettingsError(f"{source} is not valid YAML: {error.problem or error.context}{where}") from error
    except (yaml.YAMLError, KeyError, ValueError) as error:  # the last two: `!!int x`, a number of 5,000 digits
        raise SettingsError(f"{source} is not valid YAML: {str(error).splitlines()[0]}") from error


def write_yaml(values: dict[str, Any]) -> str:
    """Plain values as YAML that `parse_yaml` and YAML 1.1 parsers read alike."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False)


class _Loader(yaml.SafeLoader):
    """The core schema of YAML 1.2, with merge keys (`<<`). PyYAML's own loader is for YAML 1.1."""

    yaml_implicit_resolvers: ClassVar[dict] = {}
    yaml_constructors: ClassVar[dict] = {}

    def __init__(self, stream):
        super().__init__(stream)
        self._level = 0  # of the current node
        self._heights: dict[yaml.Node, int] = {}  # levels of each node that has been read, aliases included

    def compose_node(self, parent, index):
        event, self._level = self.peek_event(), self._level + 1
        self._check_level(self._level, event)  # before Python's own limit, which torch.compile changes
        node = super().compose_node(parent, index)
        if not isinstance(event, yaml.AliasEvent):
            inner = [] if isinstance(node, yaml.ScalarNode) else node.value
            inner = [part for pair in inner for part in pair] if isinstance(node, yaml.MappingNode) else inner
            self._heights[node] = 1 + max((self._heights[part] for part in inner), default=0)
        elif node not in self._heights:
            problem = f"*{event.anchor} is inside the value that it refers to"
            raise yaml.composer.ComposerError(None, None, problem, event.start_mark)
        self._level -= 1
        self._check_level(self._level + self._heights[node], event)
        return node

    def _check_level(self, level: int, event: yaml.Event) -> None:
        if level > DEEPEST_NESTING:
            problem = f"it is nested more than {DEEPEST_NESTING} levels deep"
            raise yaml.composer.ComposerError(None, None, problem, event.start_mark)

    def compose_mapping_node(self, anchor):
        node = super().compose_mapping_node(anchor)
        first: dict[tuple[str, str], int] = {}
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if (key.tag, key.value) in first:
                line = first[key.tag, key.value] + 1
                problem = f"the key {key.value!r} appears twice in a section, first in line {line}; remove one of them"
                raise yaml.composer.ComposerError(None, None, problem, key.start_mark)
            first[key.tag, key.value] = key.start_mark.line
        return node


class _Dumper(yaml.SafeDumper):
    """Quotes text that either version of YAML would not read as text."""

    yaml_implicit_resolvers: ClassVar[dict] = dict(yaml.SafeDumper.yaml_implicit_resolvers)


_TAG = "tag:yaml.org,2002:"
_WHOLE = r"(?:0|[1-9][0-9]*)"
_PLAIN_WORDS = {  # tag -> the unquoted words that it applies to, and their first characters
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (rf"[-+]?{_WHOLE}", list("-+0123456789")),
    "float": (
        rf"[-+]?(?:{_WHOLE}(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
    "merge": (r"<<", ["<"]),
}
_MEANINGS = {
    "null": lambda loader, node: None,
    "bool": lambda loader, node: {"true": True, "false": False}[node.value.lower()],
    "int": lambda loader, node: int(node.value),
    "float": lambda loader, node: float(node.value.replace(".", "", node.value.lower()[-3:] in ("inf", "nan"))),
    "str": yaml.SafeLoader.construct_yaml_str,
    "seq": yaml.SafeLoader.construct_yaml_seq,
    "map": yaml.SafeLoader.construct_yaml_map,
}
for _name, (_pattern, _first) in _PLAIN_WORDS.items():
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(_TAG + _name, re.compile(f"^(?:{_pattern})$"), _first)
for _name, _meaning in _MEANINGS.items():
    _Loader.add_constructor(_TAG + _name, _meaning)
_Loader.add_constructor(None, yaml.SafeLoader.construct_undefined)


def parse_settings(schema: type[Parsed], values: dict[str, Any], source: str = "recipe") -> Parsed:
    """`values` as an instance of `schema`. Raises SettingsError that lists every problem by its dotted key."""
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        problems = [_explain(schema, problem, _location(values, problem)) for problem in error.errors()]
        raise SettingsError(f"{source}:\n  " + "\n  ".join(problems)) from None


def _location(values: Any, problem: dict[str, Any]) -> list[str | int]:
    """The keys that lead to a problem in `values`, without the types of a union, which pydantic also lists."""
    location = []
    for number, part in enumerate(problem["loc"], 1):
        is_inside = isinstance(values, dict) and part in values
        is_inside |= isinstance(values, list | tuple) and isinstance(part, int) and part < len(values)
        if is_inside:
            values = values[part]
        if is_inside or (problem["type"] == "missing" and number == len(problem["loc"])):
            location.append(part)
    return location


def _explain(schema: type[BaseModel], problem: dict[str, Any], location: list[str | int]) -> str:
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
    shown = _shown(problem["input"])
    hint = "; put it in quotes if it is text" if problem["type"] == "string_type" and shown[0] in "-.0123456789" else ""
    return f"{key}: {message}, got {shown}{hint}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def _field_names(schema: type[BaseModel], location: list[str | int]) -> list[str]:
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
