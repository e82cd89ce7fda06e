"""Recipes, overrides, and the errors about bad ones."""

import math
from typing import Annotated

import pytest
import yaml
from pydantic import Field

from settings import (
    Settings,
    SettingsError,
    differences,
    is_changeable,
    parse_settings,
    parse_yaml,
    read_recipe,
    unknown_name,
    write_yaml,
)
from tasks import TASKS, find_task
from tasks.clip_classification import ClipClassificationSettings


class Optimizer(Settings):
    lr: float
    nesterov: bool = True


class Recipe(Settings):
    optimizer: Optimizer
    views: tuple[Optimizer, ...] = ()
    fallback: Optimizer | None = None
    steps: int = 3
    val: str | Annotated[float, Field(gt=0, lt=1)] = "val.txt"
    layers: str | tuple[Optimizer, ...] = ()


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("optimizer:\n  lr: 1e-1  # YAML reads this as text\nsteps: 5\n")
    return path


def parse(path, *overrides):
    return parse_settings(Recipe, read_recipe(path, overrides), "recipe.yaml")


def test_overrides_change_single_values(recipe):
    settings = parse(recipe, "optimizer.lr=0.25", "optimizer.nesterov=false", "fallback.lr=2")
    assert (settings.optimizer.lr, settings.optimizer.nesterov, settings.fallback.lr, settings.steps) == (
        0.25,
        False,
        2,
        5,
    )
    assert parse(recipe).optimizer.lr == 0.1


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimizr.lr=1", r"optimizr: unknown setting; did you mean 'optimizer'\?"),
        ("optimizer.nestrov=true", r"optimizer\.nestrov: unknown setting; did you mean 'nesterov'\?"),
        ("fallback={lr: 1, zzz: 2}", r"fallback\.zzz: unknown setting; known here: lr, nesterov"),
        ("views=[{lr: 1}, {l: 1}]", r"views\.1\.lr: is required"),
        ("optimizer.lr=fast", r"optimizer\.lr: input should be a valid number.*got 'fast'"),
        ("steps=2.5", r"steps: input should be a valid integer.*got 2\.5"),
        (
            "val=0",
            r"^recipe\.yaml:\n  val: input should be a valid string, got 0.*\n  val: input should be greater than 0",
        ),
        (
            "val=null",
            r"^recipe\.yaml:\n  val: input should be a valid string, got None\n  val: input should be a valid num",
        ),
        (
            "layers=[{lr: 1}, {l: 1}]",
            r"  layers: .*\n  layers\.1\.lr: is required\n  layers\.1\.l: unknown setting; did",
        ),
        ("steps", r"'steps' does not have the form key=value"),
        ("steps.x=1", r"steps is a value, not a section"),
        ("steps=[", r"is not valid YAML"),
        ("steps=1:20", r"steps: input should be a valid integer.*got '1:20'"),
        ("steps=.inf", r"steps: input should be a finite number"),
        ("steps=" + 5000 * "9", r"override .* is not valid YAML: Exceeds the limit"),
        ("steps=3 # three", r"in YAML, # starts a comment; put the value in quotes"),
        ("optimizer={lr: 1, lr: 2}", r"the key 'lr' appears twice in a section, first in line 1; remove one of them"),
    ],
)
def test_bad_overrides_are_explained(recipe, override, message):
    with pytest.raises(SettingsError, match=message):
        parse(recipe, override)


def test_plain_words_mean_what_people_mean(recipe):
    settings = parse(recipe, "steps=020", "optimizer.lr=1e-4", "optimizer.nesterov=off")
    assert (settings.steps, settings.optimizer.lr, settings.optimizer.nesterov) == (20, 1e-4, False)
    texts = ["no", "off", "y", "1:20", "020", "08", "0x1F", "0o17", "1_000", "2020-01-01", "=", "Infinity"]
    assert parse_yaml(f"[{', '.join(texts)}]", "x") == texts
    words = {"~": None, "": None, "true": True, "1e3": 1000.0, "-5": -5, "+.5": 0.5, "1.": 1.0, "-.inf": -math.inf}
    assert {word: parse_yaml(word, "x") for word in words} == words
    merged = parse_yaml("a: &a {k: 1, l: 2}\nb: {<<: *a, k: 3}", "x")["b"]
    assert merged == {"k": 3, "l": 2}  # not a key that appears twice


def test_what_is_written_is_read_alike():
    values = {"no": "no", "texts": ["1e5", "020", "1:20", "null", "", "0o17", "<<", "a: b", "\udce9"]}
    values |= {"numbers": [1e-5, 1e23, 3, -0.5, True, None]}
    text = write_yaml(values)
    assert parse_yaml(text, "x") == yaml.safe_load(text) == values


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: {c: 1}\na: 2", r"the key 'a' appears twice in a section, first in line 1; .*\(line 3, column 1\)"),
        ("a: !!python/object:os.system x", r"could not determine a constructor"),
        ("[" * 600 + "]" * 600, r"nested more than 100 levels deep \(line 1, column 101\)"),
        ("[" * 600, "nested more than 100 levels deep"),
        ("a0: &a0 []\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 600)), r"100 levels deep \(line 100,"),
        ("a: &a [{b: *a}]", r"\*a is inside the value that it refers to \(line 1, column 12\)"),
        ("!!bool x", "'x'"),
    ],
)
def test_bad_yaml_is_explained(text, message):
    with pytest.raises(SettingsError, match=rf"^recipe is not valid YAML: .*{message}"):
        parse_yaml(text, "recipe")


def test_every_problem_is_listed_at_once(recipe):
    with pytest.raises(SettingsError) as error:
        parse(recipe, "stepps=1", "optimizer.lr=x")
    assert "stepps" in str(error.value) and "optimizer.lr" in str(error.value)


def test_bad_files_are_explained(tmp_path):
    with pytest.raises(SettingsError, match=r"nowhere\.yaml does not exist"):
        read_recipe(tmp_path / "nowhere.yaml")
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(SettingsError, match="must contain a mapping of settings, got list"):
        read_recipe(tmp_path / "list.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"a: caf\xe9\n")
    with pytest.raises(SettingsError, match=r"cannot read the recipe .*latin\.yaml: it is not UTF-8 text, see byte 6"):
        read_recipe(tmp_path / "latin.yaml")
    (tmp_path / "broken.yaml").write_text("a: [1\n")
    with pytest.raises(SettingsError, match="is not valid YAML"):
        read_recipe(tmp_path / "broken.yaml")


def test_differences_by_dotted_key():
    old = {"a": {"b": 1, "c": 2}, "d": 3}
    assert differences(old, {"a": {"b": 1, "c": 5}, "e": 4}) == {"a.c": (2, 5), "d": (3, None), "e": (None, 4)}
    assert differences(old, old) == {}


def all_settings(base=Settings):
    for schema in base.__subclasses__():
        yield schema
        yield from all_settings(schema)


def test_every_settings_class_is_frozen_and_every_setting_is_described():
    for task in TASKS:
        find_task({"task": task}, "x.yaml")  # imports it
    schemas = [
        schema for schema in all_settings() if schema.__module__.split(".")[0] in ("datasets", "engine", "tasks")
    ]
    assert {"TrainSettings", "ImageDataSettings", "TrainViewSettings", "RunSettings"} <= {s.__name__ for s in schemas}
    for schema in schemas:
        assert schema.model_config["frozen"] and schema.model_config["extra"] == "forbid", schema
        for name, field in schema.model_fields.items():
            is_section = "Settings" in str(field.annotation)
            assert field.description or is_section or name == "task", f"{schema.__name__}.{name} has no description"


@pytest.mark.parametrize(
    ("key", "changeable"),
    [
        ("run.device", True),
        ("run.seed", False),
        ("evaluation.num_clips", True),
        ("train.sharding", True),
        ("train.batch_size", False),
        ("data.num_workers", True),
        ("data.train", True),  # its contents may not: see engine.fingerprint
        ("data.repeats", False),
        ("data.val_view.crop", True),
        ("data.train_view.crop", False),
        ("train.max_unreadable", True),
        ("optimizer.lr", False),
        ("no.such", False),
    ],
)
def test_what_may_change_when_a_run_is_resumed(key, changeable):
    assert is_changeable(ClipClassificationSettings, key) == changeable


def test_an_unknown_name_is_answered_with_the_nearest_and_all():
    assert unknown_name("head", "mask_rnn", ["fcn", "mask_rcnn"]) == (
        "no head is called 'mask_rnn'; did you mean 'mask_rcnn'? (choices: fcn, mask_rcnn)"
    )
    assert unknown_name("head", "x", {"fcn": 1}) == "no head is called 'x' (choices: fcn)"
