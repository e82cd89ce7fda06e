"""Our parsers accept every command and setting on the right of the tables of docs/from_their_commands.md, and the
commands of docs/dense.md."""

import argparse
import re
import shlex

import pytest
import torch
from conftest import ROOT

from engine.distributed import Ranks
from models import list_models
from settings import parse_settings, read_recipe
from tasks import find_task
from tasks.scenes import SceneTask
from tools import predict
from tools.common.arguments import add_run_arguments, parse_arguments

# Names of files, and parts of commands.
NAMES = {
    "Hosts",
    "address=",
    "slots=",
    "recipe.yaml",
    "metrics.jsonl",
    "curves.png",
    "model.options",
    "train.batch_size",
}
BUILT = ("model.name", "model.options", "model.head_options")
SETTING = re.compile(r"(model|data|loss|optimizer|schedule|train|evaluation|run)\.[\w.]+=\S+")


def read_tables():
    """Yields (recipe, code span) for each code span of a right-hand side."""
    recipe = None
    for number, line in enumerate((ROOT / "docs/from_their_commands.md").read_text().splitlines(), 1):
        if not line.startswith("|"):
            recipe = next(iter(re.findall(r"`./run_local.sh (configs/\S+)`", line)), recipe)
        elif not line.startswith(("|---", "| theirs")):
            _, right = line.strip("| ").split(" | ")
            spans = re.findall(r"`([^`]+)`", right)
            own = next((span for span in spans if span.startswith("configs/") and f"with `{span}`" in right), recipe)
            yield from (pytest.param(own, span, id=f"{number}: {span[:40]}") for span in spans if span not in NAMES)


def check_settings(recipe: str, overrides: list[str]) -> None:
    values = read_recipe(ROOT / recipe, overrides)
    task = find_task(values, recipe)
    settings = parse_settings(task.Settings, values, recipe)
    if any(override.startswith(BUILT) for override in overrides):  # the builder checks these
        owner = task(settings, Ranks(0, 1, torch.device("cpu")))
        with torch.device("meta"):
            if isinstance(owner, SceneTask):  # without its data set, which would say the number of classes
                owner.create_network(num_classes=7)
            else:
                owner.build_model()


def check_launch(words: list[str], options: str) -> None:
    """[OPTIONS] CONFIG [key=value ...]; `options` is the help of the script that takes them."""
    while words[0].startswith("--"):
        assert f"{words[0]} " in options, f"there is no option {words[0]}"
        words = words[2:]
    check_settings(words[0], words[1:])


def check_command(words: list[str]) -> None:
    run_dist = (ROOT / "run_dist.sh").read_text().split("set -euo")[0]
    while re.fullmatch(r"[A-Z_]+=\S+", words[0]):
        words = words[1:]
    if words[0] == "./run_local.sh" and words[1].endswith(".py"):
        words = words[1:]
    script = words[0]
    assert script == "sbatch" or (ROOT / script).exists()
    if script == "./run_local.sh":
        check_launch(words[1:], "")
    elif script == "./run_dist.sh":
        check_launch(words[1:], run_dist)
    elif script == "sbatch":
        check_launch(words[words.index("tools/slurm_job.sh") + 1 :], run_dist)
    elif script == "tools/benchmark.py":
        assert words[1] == "model" and words[2] in list_models()
    elif script == "tools/predict.py":
        args = predict.read_arguments(words[1:])
        if args.config:
            check_settings(args.config, args.overrides)
    elif script in ("tools/check_images.py", "tools/make_coco.py", "tools/read_mxnet.py"):
        pass  # their own tests run them
    else:
        parser = argparse.ArgumentParser()
        add_run_arguments(parser)
        parser.add_argument("overrides", nargs="*")
        args = parse_arguments(parser, words[1:])
        if args.config:
            check_settings(args.config, args.overrides)


@pytest.mark.parametrize(("recipe", "span"), list(read_tables()))
def test_a_command_or_setting_is_accepted(recipe, span):
    words = shlex.split(span)
    if span.startswith("configs/"):
        check_settings(span, [])
    elif all(SETTING.fullmatch(word) for word in words):
        check_settings(recipe, words)
    else:
        check_command(words)


def test_the_tables_are_found():
    assert len(list(read_tables())) > 120


def test_the_commands_of_the_page_on_detection_and_segmentation():
    blocks = re.findall(r"```\n(\./run.*?)```", (ROOT / "docs/dense.md").read_text(), re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    commands = [shlex.split(line, comments=True) for line in lines]
    assert len(commands) > 12 and all(command[0] == "./run_local.sh" for command in commands)
    for command in commands:
        check_command(command)


@pytest.mark.parametrize("path", sorted((ROOT / "configs/imagenet").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_commands_for_released_weights_in_the_recipes(path):
    header = re.sub(r"\\\n# +", "", path.read_text().split("\ntask:")[0])
    for command in re.findall(r"\./run_local\.sh tools/[^(\n]*", header):
        check_command(shlex.split(command, comments=True))


@pytest.mark.parametrize("path", sorted((ROOT / "configs/imagenet").glob("glnet_*.yaml")), ids=lambda path: path.stem)
def test_glnets_weights_are_scored_as_by_the_authors(path):
    text = path.read_text()
    assert ("train.precision=float32" in text) == ("tklb" not in path.stem)
    assert ("--average" in text) == (path.stem == "glnet_16g")
