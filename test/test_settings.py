"""Recipes, overrides, and the errors about bad ones."""

import pytest

from settings import Settings, SettingsError, differences, is_changeable, parse_settings, read_recipe
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
        ("steps", r"'steps' does not have the form key=value"),
        ("steps.x=1", r"steps is a value, not a section"),
        ("steps=[", r"is not valid YAML"),
    ],
)
def test_bad_overrides_are_explained(recipe, override, message):
    with pytest.raises(SettingsError, match=message):
        parse(recipe, override)


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
        ("data.train", False),
        ("optimizer.lr", False),
        ("no.such", False),
    ],
)
def test_what_may_change_when_a_run_is_resumed(key, changeable):
    assert is_changeable(ClipClassificationSettings, key) == changeable
