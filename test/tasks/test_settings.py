"""Every setting of every recipe, given odd values: it is refused by its name, or the recipe starts."""

import typing

import pytest
import torch
from pydantic import BaseModel

from datasets.synthetic.image_shapes import make_image_shapes
from engine.distributed import Ranks
from engine.optimizer import build_optimizer
from settings import SettingsError, UserError, parse_settings
from tasks.clip_classification import ClipClassification
from tasks.image_classification import ImageClassification

ALONE = Ranks(0, 1, torch.device("cpu"))
INFINITE, NAN = float("inf"), float("nan")
ODD = [
    *(INFINITE, -INFINITE, NAN, 0, -1, 1e23, 10**30, 10**400, 1e15, 5e-324, -0.0, 0.5, 1.5, True),
    *("", " ", "\0", "1:20", "020", ".inf", "x" * 5000, "rand-m9-foo5", None, {}, {"x": 1}, {1: 2}),
    *([], [0], [0.9, 0.1], [0.5, 0.5], [0, 0], [1, 1], [-1, 1], [INFINITE, 1], [NAN, NAN], [0.9, 1.5], [1e15, 1e15]),
    *([1, 2, 3], [0, 0, 0], [3, 2, 1], [NAN] * 3, [1e15] * 4, [[1]], ["["]),
]
NEEDED = {  # of optional sections, beside the setting under test
    "token_labels": {"root": "maps"},
    "distillation": {"teacher": "resnet10t", "weights": "gone.pth"},
    "mix": {"mixup": 0.8, "cutmix": 1.0},
}


def paths(schema, above=()):
    """The path of every setting below `schema`, also in optional sections."""
    for name, field in schema.model_fields.items():
        yield (*above, name)
        for inner in (field.annotation, *typing.get_args(field.annotation)):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from paths(inner, (*above, name))


def with_value(recipe, path, value):
    recipe = dict(recipe)
    section = recipe
    for name in path[:-1]:
        section[name] = dict(section.get(name) or NEEDED.get(name, {}))
        section = section[name]
    section[path[-1]] = value
    return recipe


@pytest.fixture(scope="session")
def few_shapes(tmp_path_factory):
    return make_image_shapes(tmp_path_factory.mktemp("images") / "shapes", num_train=12, num_val=6, size=32)


@pytest.fixture(params=[ImageClassification, ClipClassification])
def task_and_recipe(request, few_shapes, motion_videos):
    folder = few_shapes if request.param is ImageClassification else motion_videos
    recipe = {
        "model": {"name": "hornet_debug_7x7"},
        "data": {"train": f"{folder}/train.txt", "val": f"{folder}/val.txt", "num_workers": 0},
        "optimizer": {"name": "adamw", "lr": 0.001},
        "train": {"num_epochs": 1, "batch_size": 2},
    }
    if request.param is ImageClassification:
        recipe["task"] = "image_classification"
        recipe["data"] |= {"train_view": {"size": 32}, "val_view": {"size": 32}}
    else:
        recipe |= {"task": "clip_classification", "model": {"name": "glore_resnet_debug_3d"}}
        recipe["data"] |= {"num_frames": 4, "frame_interval": 2, "val_view": {"short_side": 36, "crop": 32}}
        recipe["data"]["train_view"] = {"short_side": [36, 44], "crop": 32}
    return request.param, recipe


def odd_settings(task, recipe):
    """(path, value, settings) of all odd values that are accepted; the others must be refused by name."""
    for path in paths(task.Settings):
        for value in ODD:
            try:
                yield path, value, parse_settings(task.Settings, with_value(recipe, path, value))
            except SettingsError as error:
                # A rule about several settings may name the others.
                assert path[-1] in str(error) or (len(path) > 1 and path[-2] in str(error)), (path, value, error)


def test_odd_values_are_refused_by_name(task_and_recipe):
    accepted = list(odd_settings(*task_and_recipe))
    assert 100 < len(accepted) < 600  # of more than 5,000
    numbers = [value for _, value, _ in accepted if isinstance(value, float)]
    assert all(abs(number) < 1e16 for number in numbers)


@pytest.mark.weekly
def test_accepted_odd_values_start(task_and_recipe):
    """One step of training, and an evaluation."""
    for path, value, settings in odd_settings(*task_and_recipe):
        if path[0] == "run":
            continue
        try:
            task = task_and_recipe[0](settings, ALONE)
            task.check()
            model = task.build_model().train()
            batch = next(iter(task.train_batches(0, 1, 2, "train")))
            task.training_step(model, batch)[0].backward()
            build_optimizer(model, settings.optimizer).step()
            task.evaluate(model.eval())
        except UserError as error:
            assert any(name in str(error) for name in path) or str(value) in str(error), (path, value, error)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train.batch_size": 64}, r"train\.batch_size=64 is more than the \d+ samples of the whole run"),
        ({"data.mix.cutmix_minmax": [0.9, 0.1]}, r"data\.mix: cutmix_minmax is \(0\.9, 0\.1\); expected .* lower one"),
        ({"data.mix.cutmix_minmax": [0.51, 0.52]}, r"data\.mix: cutmix_minmax .* leaves no choice of a box in 32 pix"),
        ({"data.mix.mixup": 1e-300}, r"mixup is 1e-300; expected 0, or 0\.001 or more"),
        ({"optimizer.betas": [0.9, 1.5]}, r"optimizer\.betas\.1: input should be less than 1, got 1\.5"),
        (
            {"optimizer.lr": INFINITE},
            r"optimizer\.lr: inf is out of range; expected a finite number",
        ),
        ({"model.options": {"drop_path": NAN}}, r"model\.options: nan is out of range"),
        ({"model.options": {"drop_path": "a"}}, r"model: "),
        ({"data.root": ""}, r"data\.root: is empty; write null for none"),
        ({"data.root": "a\0b"}, r"data\.root: 'a\\x00b' has a null character"),
        ({"data.class_names": "x" * 300}, r"data\.class_names: "),
        ({"data.train": 2020}, r"data\.train: .* valid string, got 2020; put it in quotes if it is text"),
    ],
)
def test_settings_beyond_reason(task_and_recipe, changes, message):
    task, recipe = task_and_recipe
    for key, value in changes.items():
        recipe = with_value(recipe, key.split("."), value)
    with pytest.raises(SettingsError, match=message):
        task(parse_settings(task.Settings, recipe), ALONE).check()


def test_a_warm_up_longer_than_the_run_is_reported(task_and_recipe, caplog):
    task, recipe = task_and_recipe
    task(parse_settings(task.Settings, with_value(recipe, ["schedule", "warmup_steps"], 13)), ALONE).check()
    assert ("longer than the run of 6 steps" in caplog.text) == (task is ImageClassification)  # the other has 12
