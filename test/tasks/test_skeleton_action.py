"""Actions from skeletons: exact resume, equal scores on ranks, predictions, and what is said of wrong recipes."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from simulated_runs import TwoRanks, train_whole_and_broken, without_plots

from datasets.file_list import FileError
from datasets.synthetic.skeleton_moves import make_skeleton_moves
from engine.distributed import Ranks
from inference import Predictor
from inference.trained import load_trained
from settings import SettingsError, apply_overrides, parse_settings, write_yaml
from tasks.skeleton_action import SkeletonAction
from tools import evaluate, predict, train, visualize


@pytest.fixture(scope="module", autouse=True)
def quick_runs():
    with without_plots():
        yield


@pytest.fixture(scope="module")
def moves(tmp_path_factory) -> Path:
    return make_skeleton_moves(tmp_path_factory.mktemp("moves") / "set", num_train=16, num_val=9)


def recipe(moves: Path) -> dict:
    return {
        "task": "skeleton_action",
        "model": {"options": {"dim": 8, "num_blocks": [1], "drop_path": 0.3}},
        "data": {
            "train": f"{moves}/train.txt",
            "val": f"{moves}/val.txt",
            "class_names": f"{moves}/mapping_table.txt",
            "num_frames": 16,
            "num_workers": 0,
        },
        "optimizer": {"name": "adamw", "lr": 0.003},
        "train": {"num_epochs": 1, "batch_size": 3, "checkpoint_every_steps": 2, "log_every_steps": 1},
        "run": {"device": "cpu"},
    }


def make_task(values: dict, *changes: str) -> SkeletonAction:
    values = apply_overrides(copy.deepcopy(values), changes)
    return SkeletonAction(parse_settings(SkeletonAction.Settings, values), Ranks(0, 1, torch.device("cpu")))


def test_a_run_resumes_exactly_is_scored_on_ranks_and_predicts(moves, tmp_path, capsys):
    whole, _ = train_whole_and_broken(SkeletonAction, recipe(moves), tmp_path)
    (report,) = whole.glob("evaluations/*/summary.json")
    assert json.loads(report.read_text())["skeletons_read"] == 9

    task, model, _ = load_trained(whole)
    one = task.evaluate(model)
    for rank in (1, 0):
        task.ranks = TwoRanks(rank, 2, torch.device("cpu"))
        two = task.evaluate(model)
    assert one.predictions.probabilities.tobytes() == two.predictions.probabilities.tobytes()

    first, *_ = Predictor(whole)(f"{moves}/val.npz")
    clip = np.load(moves / "val.npz")["0000"]
    np.savez(tmp_path / "alone.npz", moved=clip[:, None] + 1)  # elsewhere in the room, as one of several people
    (tmp_path / "bad.skeleton").write_text("")
    second, third = Predictor(whole)([tmp_path / "alone.npz", tmp_path / "bad.skeleton"])
    assert second.probabilities == pytest.approx(first.probabilities, abs=1e-5)
    assert third.failure == "the file is empty"
    predict.main(["--run-dir", str(whole), f"{moves}/val.npz:0000"])
    assert f"% {first.label}" in capsys.readouterr().out
    with pytest.raises(SettingsError, match=r"visualize.py explains .* and this network is for skeleton_action"):
        visualize.main(["--run-dir", str(whole), f"{moves}/val.npz:0000"])


def test_samples_are_a_function_of_seed_epoch_and_index(moves):
    task = make_task(recipe(moves))
    samples, again = task.train_samples("train"), task.train_samples("train")
    assert torch.equal(samples[21]["skeleton"], again[21]["skeleton"])
    assert samples[21]["skeleton"].shape == (1, 16, 20, 3)
    other = make_task(recipe(moves), "run.seed=1").train_samples("train")
    assert not torch.equal(samples[21]["skeleton"], other[21]["skeleton"])


def test_without_augmentation_training_sees_what_evaluation_sees(moves):
    still = [f"data.train_view.{name}" for name in ("shortest=1", "rotation=0", "scale=0", "jitter=0")]
    samples = (task := make_task(recipe(moves), *still)).train_samples("train")
    sample = samples[5]
    torch.testing.assert_close(sample["skeleton"], task.eval_views(task.train_files)[sample["index"]]["views"][0])


def test_two_people_stgcn_and_a_body_of_your_own(moves, tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "a.npz", **{f"a{a}_s{s}_e1": rng.normal(size=(9, 2, 3, 3)) for a in (1, 2) for s in (1, 2)})
    values = recipe(moves)
    values["data"] |= {"train": f"{tmp_path}/a.npz", "val": f"{tmp_path}/a.npz", "class_names": None}
    values["data"] |= {"names": "msr_action3d", "body": {"bones": [[0, 1], [1, 2]], "center": 1}, "num_people": 2}
    for change in (["model.options={dim: 8, num_blocks: [1]}"], ["model.name=stgcn", "model.options={dim: 4}"]):
        task = make_task(values, "data.val_split=2", "train.batch_size=2", *change)
        task.check()
        (batch,) = task.train_batches(0, 1, 2, "train")
        loss, _ = task.training_step(task.build_model(), batch)
        assert batch["skeleton"].shape == (2, 2, 16, 3, 3) and loss.isfinite()
        assert [item.id for item in task.train_files] == ["a1_s1_e1", "a2_s1_e1"]
        assert [item.id for item in task.val_files] == ["a1_s2_e1", "a2_s2_e1"]


def test_subjects_that_were_trained_on_are_told_when_they_are_scored(moves, tmp_path, capsys):
    rng = np.random.default_rng(0)
    names = [f"a{action}_s{subject}_e1" for action in (1, 2) for subject in (1, 2, 3, 4)]
    np.savez(tmp_path / "all.npz", **{name: rng.normal(size=(9, 20, 3)) for name in names})
    np.savez(tmp_path / "others.npz", **{name: rng.normal(size=(9, 20, 3)) for name in names})
    values, source = recipe(moves), f"{tmp_path}/all.npz"
    values["data"] |= {"train": source, "val": source, "class_names": ["bow", "kick"], "names": "msr_action3d"}
    values["data"] |= {"val_split": "2,4"}
    (tmp_path / "recipe.yaml").write_text(write_yaml(values))
    train.main(["-c", str(tmp_path / "recipe.yaml"), f"run.dir={tmp_path / 'run'}"])
    shared, other = "list are also in the training list", "trained on a different part of"
    for changes, told in (
        ([], []),
        (["data.val_split=1,3"], [shared]),
        (["data.val_split=1,3", "data.train_split=2,4"], [other]),
        ([f"data.val={tmp_path}/others.npz"], []),
        (["evaluation.on=test", f"data.test={source}", "data.test_split=2"], []),
        (["evaluation.on=test", f"data.test={source}", "data.test_split=1,2"], [shared]),
    ):
        capsys.readouterr()
        evaluate.main(["--run-dir", str(tmp_path / "run"), *changes])
        error = capsys.readouterr().err
        assert [text for text in (shared, other) if text in error] == told
    (tmp_path / "all.npz").rename(tmp_path / "moved.npz")
    evaluate.main(["--run-dir", str(tmp_path / "run"), f"data.val={tmp_path}/moved.npz"])
    assert shared not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "subjects"),
    [
        (["data.val_split=2", "data.test_split=3"], ["1,4", "2", "3"]),
        (["data.val_split=2", "data.test_split=3", "data.train_split=1"], ["1", "2", "3"]),
        (["data.val=0.4", "data.test_split=3,4"], ["1,2", "1,2", "3,4"]),
        (["data.val=0.4", "data.test_split=not 1,2"], ["1,2", "1,2", "3,4"]),
    ],
)
def test_subjects_are_trained_on_or_scored(moves, tmp_path, changes, subjects):
    names = [f"a{action}_s{subject}_e{again}" for action in (1, 2) for subject in (1, 2, 3, 4) for again in (1, 2, 3)]
    np.savez(tmp_path / "all.npz", **{name: np.zeros((9, 20, 3)) for name in names})
    values, source = recipe(moves), f"{tmp_path}/all.npz"
    values["data"] |= {"train": source, "val": source, "test": source, "class_names": None, "names": "msr_action3d"}
    task = make_task(values, *changes)
    test = task.test_task()
    lists = [{item.id for item in files} for files in (task.train_files, task.val_files, test.val_files)]
    assert [sorted({name[4] for name in names}) for names in lists] == [part.split(",") for part in subjects]
    assert len(set.union(*lists)) == sum(map(len, lists))
    assert test.report_facts()["list"].startswith(f"{task.settings.data.test_split} of {tmp_path}")


def test_pictures_of_samples_and_an_unreadable_file(moves, tmp_path):
    task = make_task(recipe(moves))
    shown, scored = task.training_pictures(2), task.validation_pictures(3)
    assert [frames.shape for frames in shown[0].stages.values()] == [(16, 96, 96, 3)] * 2
    assert [picture.lines[0].split(": ")[1] for picture in scored] == ["0 bow", "1 kick_left", "2 kick_right"]
    (tmp_path / "val.txt").write_text(f"x 0 {moves}/val.npz:0000\ny 1 {moves}/val.npz:gone\n")
    task = make_task(recipe(moves), f"data.val={tmp_path}/val.txt")
    evaluation = task.evaluate(task.build_model().eval())
    assert evaluation.summary()["coverage"] == 0.5
    assert [failure["reason"] for failure in evaluation.failures] == ["no sequence 'gone' is in it"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("data.mix.mixup=0.2", "mix is for images and clips; skeletons have train_view instead"),
        ("data.body=kinectv2", "data.body"),
        ("data.body={bones: [[0, 1], [0, 1]]}", "no bones lead from joint 2 to the center, joint 0"),
        ("model.name=gearnet", "model.name: .*eurnet_skeleton"),
        ("model.options.depth=3", "model: no option of eurnet_skeleton is called 'depth'"),
        (
            "model.options.num_frames=8",
            "model.options.num_frames: data.body, data.num_frames and data.num_people decide",
        ),
        ("data.num_frames=18", "model: num_frames must be a multiple of 4, not 18"),
        ("data.names=utkinec", "not one of msr_action3d, utkinect, .*; did you mean 'utkinect'"),
        ("data.val_split=2", "split='2' needs data.names|split='not 2' needs data.names"),
        ("data={val_split: not 1, test: x, test_split: 2}", "val_split='not 1' beside another split needs train_split"),
        ("data.test_split=2", "test_split describes the list data.test, which is not set"),
    ],
)
def test_recipes_that_do_not_fit(moves, change, message):
    with pytest.raises(SettingsError, match=message):
        make_task(recipe(moves), change).check()


def test_another_body_is_named(moves):
    task = make_task(recipe(moves), "data.body=kinect_v2")
    evaluation = task.eval_views(task.val_files)[0]
    assert "have 20 joints, but the body of the recipe has 25; is data.body right" in evaluation["failure"]["reason"]


@pytest.mark.parametrize("axes", [(1, 0, 2, 3), (3, 0, 2, 1)])
def test_arrays_with_another_order_of_axes_stop_the_run(moves, tmp_path, axes):
    array = np.random.default_rng(0).normal(size=(40, 2, 25, 3)).transpose(axes)
    np.savez(tmp_path / "a.npz", **{f"a{number}_s1_e1": array for number in (1, 2)})
    values = recipe(moves)
    values["data"] |= {"train": f"{tmp_path}/a.npz", "val": f"{tmp_path}/a.npz", "class_names": None}
    task = make_task(values, "data.names=msr_action3d", "data.body=kinect_v2", "data.num_people=2")
    with pytest.raises(FileError, match=r"would be 40 people in [23] frames and looks like .* files in a row"):
        list(task.train_batches(0, 1, 2, "train"))
    with pytest.raises(FileError, match="would be 40 people in"):
        task.evaluate(task.build_model().eval())
