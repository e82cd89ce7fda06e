"""Image classification: reproducible samples, unreadable files, errors, exact resume, reports."""

import csv
import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from run_files import losses
from simulated_runs import TwoRanks

from datasets.file_list import FileError, read_class_names
from datasets.synthetic.image_shapes import make_image_shapes
from engine.distributed import Ranks
from engine.task import ResumeFolder
from models import WeightsError
from settings import SettingsError, parse_settings
from tasks.image_classification import ImageClassification, ImageClassificationSettings
from tools import evaluate, predict, train
from tools.common.errors import clear_errors

ALONE = Ranks(0, 1, torch.device("cpu"))
single_clip = partial(evaluate.main, presets=["evaluation.num_clips=1"], task="clip_classification")
AUGMENT = {"size": 64, "auto_augment": "rand-m9-mstd0.5-inc1"}


@pytest.fixture(scope="session")
def shapes(tmp_path_factory):
    """24 training and 9 validation images of 6 shapes."""
    return make_image_shapes(tmp_path_factory.mktemp("images") / "shapes", num_train=24, num_val=9, size=48)


@pytest.fixture
def images(shapes, tmp_path):
    """A copy of the data set that tests may damage."""
    return shutil.copytree(shapes, tmp_path / "images")


def make_task(folder, **changes) -> ImageClassification:
    recipe = {
        "task": "image_classification",
        "model": {"name": "eurnet_debug"},
        "data": {
            "train": f"{folder}/train.txt",
            "val": f"{folder}/val.txt",
            "train_view": AUGMENT,
            "val_view": {"size": 64},
            "num_workers": 0,
        },
        "optimizer": {"name": "adamw", "lr": 0.001},
        "train": {"num_epochs": 1, "batch_size": 4},
        "evaluation": {"images_per_forward": 4},
    }
    for key, value in changes.items():
        section, _, name = key.partition("__")
        recipe[section] = recipe.get(section, {}) | ({name: value} if name else value)
    return ImageClassification(parse_settings(ImageClassificationSettings, recipe), ALONE)


def batches(task, first=0, count=6, stream="train"):
    return list(task.train_batches(first, count, 4, stream))


def test_a_sample_depends_only_on_seed_and_number(shapes):
    """Even though timm's transforms draw from global generators, in the main process and in workers."""
    whole = batches(make_task(shapes), count=9)
    pictures = torch.cat([batch["image"] for batch in whole])
    assert pictures.shape == (36, 3, 64, 64) and pictures.dtype == torch.uint8
    assert sorted(torch.cat([batch["index"] for batch in whole])[:24].tolist()) == list(range(24))
    torch.manual_seed(7), np.random.seed(7)
    later = batches(make_task(shapes, data__num_workers=2), first=4, count=3)
    assert torch.equal(torch.cat([batch["image"] for batch in later]), pictures[16:28])
    other = batches(make_task(shapes), count=1, stream="precise_bn")[0]
    assert not torch.equal(other["image"], pictures[:4])


def test_repeats_are_different_views_of_one_image(shapes):
    first = batches(make_task(shapes, data__repeats=2), count=1)[0]
    assert first["index"][0] == first["index"][1] != first["index"][2] == first["index"][3]
    assert not torch.equal(first["image"][0], first["image"][1])


def test_losses_by_hand(shapes):
    """Smoothed cross entropy, with plain labels and with mixed ones."""
    batch = batches(make_task(shapes), count=1)[0]
    plain = make_task(shapes, loss__label_smoothing=0.1)
    torch.manual_seed(0)
    model = plain.build_model()
    loss, sums = plain.training_step(model, batch)
    logits = model(plain.pixels(batch["image"])).float()
    smooth = 0.9 * torch.nn.functional.one_hot(batch["label"], 6) + 0.1 / 6
    torch.testing.assert_close(loss, -(smooth * logits.log_softmax(1)).sum(1).mean())
    assert loss.requires_grad and 0 <= sums["top1"] <= sums["top5"] <= 4
    torch.testing.assert_close(sums["loss"], 4 * loss)
    mixed = make_task(shapes, loss__label_smoothing=0.1, data__mix={"mixup": 0.8, "probability": 1e-9})
    same, sums = mixed.training_step(model, batch)
    torch.testing.assert_close(same, loss)
    assert sums.keys() == {"loss"}  # a mixed image has no single correct class


def test_evaluation_reports_unreadable_images(images):
    broken = sorted(images.glob("val/*/*"))[3]
    broken.write_bytes(broken.read_bytes()[:200])
    task = make_task(images)
    evaluation = task.evaluate(task.build_model().eval())
    summary = evaluation.summary()
    assert (summary["images_read"], summary["images_listed"]) == (8, 9) and summary["coverage"] == 8 / 9
    assert [failure["path"] for failure in evaluation.predictions.failures] == [str(broken)]
    for path in images.glob("val/*/*"):
        path.write_bytes(b"")
    with pytest.raises(FileError, match=r"cannot identify image file; no validation image can be read"):
        task.evaluate(task.build_model().eval())


def test_names_that_people_and_other_systems_give(tmp_path):
    """Classes keep their names through class_names.txt; a file whose name is not UTF-8 does not spoil a table."""
    for name in ("3 point shot ", '"quoted"', "10", "0", "a, b"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (64, 64)).save(tmp_path / name / "caf\udce9.png")
    task = make_task(tmp_path, data__train=str(tmp_path), data__val=str(tmp_path))
    (table := tmp_path / "class_names.txt").write_text(task.run_files()["class_names.txt"])
    assert read_class_names(table) == task.class_names == ('"quoted"', "0", "10", "3 point shot", "a, b")
    folder = ResumeFolder(tmp_path / "predictions", {})
    task.evaluate_resumably(task.build_model().eval(), folder).write(tmp_path / "report")
    with open(tmp_path / "report/predictions.csv", newline="", encoding="utf-8") as file:
        rows = [(row["id"], row["class"]) for row in csv.DictReader(file)]
    assert rows[3] == (r"3 point shot /caf\udce9.png", "3 point shot") and len(rows) == 5
    (tmp_path / "th\udce9").mkdir()
    with pytest.raises(SettingsError, match=r"data\.train: .*subfolder 'th\\udce9': .*bytes that are not UTF-8"):
        make_task(tmp_path, data__train=str(tmp_path)).check()


def test_an_unreadable_training_image_is_replaced_and_reported(images):
    broken = sorted(images.glob("train/*/*"))[5]
    broken.write_bytes(b"")
    runs = [batches(make_task(images)) for _ in range(2)]
    failures = [failure for batch in runs[0] for failure in batch["failures"]]
    assert [(failure["path"], failure["reason"]) for failure in failures] == [
        (str(broken), "cannot identify image file")
    ]
    index = torch.cat([batch["index"] for batch in runs[0]])
    labels = torch.cat([batch["label"] for batch in runs[0]])
    assert failures[0]["index"] not in index and torch.equal(
        labels, torch.tensor(make_task(images).train_files.labels)[index]
    )
    for ours, theirs in zip(*runs, strict=True):
        assert torch.equal(ours["image"], theirs["image"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model__name": "glore_resnet_debug_3d"}, r"model\.name: glore_resnet_debug_3d is for clips"),
        (
            {"data__mix": {"mixup": 0.8}, "train__batch_size": 5},
            r"data\.mix takes samples in pairs, but .* gives 5 per pass",
        ),
        ({"data__mix": {"mode": "pair"}}, r"without mixup or cutmix, mode does nothing"),
        ({"data__val_view": {"sise": 64}}, r"data\.val_view\.sise: unknown setting; did you mean 'size'"),
        ({"data__train": "gone"}, r"data\.train: no list of images at gone"),
        ({"model__num_classes": 4}, r"data\.train: .* has label 4, but the network has 4 classes \(0 to 3\)"),
    ],
)
def test_bad_settings_are_explained(shapes, changes, message):
    with pytest.raises(SettingsError, match=message):
        make_task(shapes, **changes).check()


def test_labels_that_another_list_would_number_otherwise_are_refused(images):
    for folder in sorted((images / "val").iterdir())[2:]:
        shutil.rmtree(folder)
    named = make_task(images, data__train=f"{images}/train", data__val=f"{images}/val")
    assert named.val_files.num_classes == 6  # numbered by the training folders
    start = r"data\.val: .*/val numbers its own 2 classes from 0, but "
    message = f"{start}the training list has no class names, .* give data\\.class_names"
    with pytest.raises(SettingsError, match=message):
        make_task(images, data__val=f"{images}/val").check()
    message = f"{start}the network has 6, .* give data\\.class_names"
    changes = {"data__train": "gone", "data__val": f"{images}/val", "model__num_classes": 6}  # an evaluation alone
    with pytest.raises(SettingsError, match=message):
        make_task(images, **changes).val_files  # noqa: B018
    with pytest.raises(
        SettingsError, match=r"data\.val: .*images holds train and val, not classes; name .*images/train"
    ):
        make_task(images, data__val=str(images)).check()


def test_a_folder_beside_a_list_without_names_is_refused(images, shapes):
    """Equal counts of classes do not make its alphabetical numbers those of the list."""
    unnamed = {"data__class_names": None}
    message = r"data\.{}: .* numbers its own 6 classes from 0, but the training list has no class names"
    for key in ("val", "test"):
        with pytest.raises(SettingsError, match=message.format(key)):
            make_task(shapes, **unnamed, **{f"data__{key}": f"{images}/val"}).check()
    more = [{"train": f"{images}/train"}]
    with pytest.raises(SettingsError, match=message.format(r"more\.0\.train")):
        make_task(shapes, **unnamed, data__more=more).check()
    changes = {"data__train": "gone", "model__num_classes": 6}  # released weights, and a folder of all classes
    assert make_task(shapes, **unnamed, **changes, data__val=f"{images}/val").val_files.num_classes == 6


def test_a_run_starts_from_chosen_classes_of_a_file(shapes, tmp_path):
    wide = make_task(shapes, model__num_classes=30).build_model()
    torch.save(wide.state_dict(), tmp_path / "wide.pth")
    (tmp_path / "rows.txt").write_text("5 9 1 0 28 29")
    files = {"name": "eurnet_debug", "pretrained": f"{tmp_path}/wide.pth", "pretrained_classes": f"{tmp_path}/rows.txt"}
    task = make_task(shapes, model=files)
    model = task.build_model()
    task.load_initial_weights(model)
    assert torch.equal(model.head.weight, wide.head.weight[[5, 9, 1, 0, 28, 29]])
    task = make_task(shapes, model=files | {"pretrained_classes": f"{tmp_path}/gone.txt"})
    with pytest.raises(WeightsError, match=r"model\.pretrained_classes: .*gone\.txt"):
        task.load_initial_weights(model)
    with pytest.raises(
        SettingsError, match="pretrained_classes are classes of the file `pretrained`, which is not set"
    ):
        make_task(shapes, model__pretrained_classes="rows.txt")


def test_a_run_starts_from_the_average_in_a_file(shapes, tmp_path):
    task = make_task(shapes)
    weights = task.build_model().state_dict()
    average = {name: tensor + 1 for name, tensor in weights.items()}
    torch.save({"model": weights, "model_ema": average}, tmp_path / "both.pth")
    for wanted, expected in ((False, weights), (True, average)):
        files = {"model__pretrained": f"{tmp_path}/both.pth", "model__pretrained_average": wanted}
        task = make_task(shapes, **files)
        task.load_initial_weights(model := task.build_model())
        assert torch.equal(model.norm.weight, expected["norm.weight"])
    with pytest.raises(SettingsError, match="pretrained_average is that of the file `pretrained`, which is not set"):
        make_task(shapes, model__pretrained_average=True)


# Whole runs, with every source of random numbers enabled.


@pytest.fixture(scope="module")
def recipe(shapes, tmp_path_factory):
    """A recipe of 12 steps, with 9 validation images, one of them unreadable."""
    folder = tmp_path_factory.mktemp("image_runs")
    pictures = shutil.copytree(shapes, folder / "images")
    sorted(pictures.glob("val/*/*"))[4].write_bytes(b"")
    (folder / "recipe.yaml").write_text(f"""
        task: image_classification
        model: {{name: eurnet_debug, options: {{drop_path: 0.2}}}}
        data:
          train: {pictures}/train
          val: {pictures}/val
          train_view: {{size: 64, auto_augment: rand-m9-mstd0.5-inc1}}
          val_view: {{size: 64}}
          erase: {{probability: 0.5}}
          mix: {{mixup: 0.8, cutmix: 1.0}}
          num_workers: 0
        loss: {{label_smoothing: 0.1}}
        optimizer: {{name: adamw, lr: 0.001, weight_decay: 0.05, no_decay_vectors: true, layer_decay: 0.9}}
        schedule: {{warmup_epochs: 1, warmup_prefix: false}}
        train: {{num_epochs: 2, batch_size: 4, checkpoint_every_steps: 2, log_every_steps: 1, evaluate_every_epochs: 2}}
        evaluation: {{images_per_forward: 2}}
        run: {{device: cpu}}
    """)
    return folder / "recipe.yaml"


@pytest.fixture(scope="module")
def run(recipe):
    train.main(["-c", str(recipe), f"run.dir={recipe.parent / 'run'}"])
    return recipe.parent / "run"


@pytest.mark.slow
def test_an_interrupted_run_resumes_bit_for_bit(run, recipe, tmp_path, monkeypatch):
    step, calls = ImageClassification.training_step, []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == 8:
            raise KeyboardInterrupt
        return step(*arguments)

    arguments = ["-c", str(recipe), f"run.dir={tmp_path / 'run'}"]
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(ImageClassification, "training_step", interrupted)
        train.main(arguments)
    train.main(arguments)
    assert losses(tmp_path / "run") == losses(run) and len(losses(run)) == 12
    ours, theirs = (
        torch.load(folder / "checkpoints/last.pt", weights_only=True)["model"] for folder in (tmp_path / "run", run)
    )
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_two_ranks_predict_the_same_as_one(images):
    """With an odd number of images, one of them unreadable."""
    sorted(images.glob("val/*/*"))[4].write_bytes(b"")
    task = make_task(images, evaluation__images_per_forward=2)
    model = task.build_model().eval()
    one = task.predict(model, task.val_files)
    assert len(one.index) == 8 and one.num_items == 9
    for rank in (1, 0):
        task.ranks = TwoRanks(rank, 2, torch.device("cpu"))
        two = task.predict(model, task.val_files)
    assert np.array_equal(one.index, two.index) and np.array_equal(one.probabilities, two.probabilities)
    assert one.failures == two.failures and len(one.failures) == 1


def tables(report):
    summary = json.loads((report / "summary.json").read_text())
    assert summary.pop("crops_per_second") > 0
    return summary, {path.name: path.read_bytes() for path in report.glob("*.csv")}


@pytest.mark.slow
def test_two_processes_write_the_same_report_as_one(run, start):
    report = run / "evaluations/centre"
    one = tables(report)
    assert (one[0]["images_read"], one[0]["images_listed"], one[0]["crops_per_image"]) == (8, 9, 1)
    shutil.rmtree(report)
    start("tools/evaluate.py", "--run-dir", run, processes=2)
    assert tables(report) == one


def test_predict_writes_class_names(run, recipe, tmp_path):
    paths = sorted((recipe.parent / "images/val").glob("*/*"))
    predict.main(["--run-dir", str(run), "--top", "2", "--csv", str(tmp_path / "guesses.csv"), str(paths[0])])
    rows = list(csv.DictReader((tmp_path / "guesses.csv").read_text().splitlines()))
    shapes = {path.parent.name for path in paths}
    assert [row["path"] for row in rows] == [str(paths[0])] and {rows[0]["guess1"], rows[0]["guess2"]} <= shapes


@pytest.mark.parametrize(
    ("main", "arguments", "message"),
    [
        (predict.main, ["gone.jpg"], "no file or folder of images at gone.jpg"),
        (single_clip, [], "is for the task image_classification, not clip_classification; use tools/evaluate.py"),
    ],
)
def test_errors_are_shown_as_one_message(run, main, arguments, message, capsys):
    with pytest.raises(SystemExit):
        clear_errors(lambda: main(["--run-dir", str(run), *arguments]))
    assert message in capsys.readouterr().err


def test_token_labels_train_a_network_with_a_token_label_head(shapes, tmp_path):
    """Label maps with the image's class in every cell give the same loss as plain labels."""
    files = make_task(shapes).train_files
    for item in (files[number] for number in range(len(files))):
        target = tmp_path / Path(item.path).parent.name / f"{Path(item.path).stem}.pt"
        target.parent.mkdir(exist_ok=True)
        torch.save(torch.stack([torch.full((1, 4, 4), 60.0), torch.full((1, 4, 4), item.label)]), target)
    # No RandAugment: it could move cells without scores into the view.
    changes = {"model__name": "glnet_debug_tklb", "loss__token_weight": 0.3, "data__train_view": {"size": 64}}
    task = make_task(shapes, data__token_labels={"root": str(tmp_path), "grid": 2}, **changes)
    task.check()
    torch.manual_seed(0)
    model = task.build_model()
    batch = batches(task, count=1)[0]
    assert batch["label_map"].shape == (4, 2, 1, 4, 4) and batch["crop"].shape == (4, 4)

    def loss_of(task):
        torch.manual_seed(5)  # for the box that the network mixes
        loss, sums = task.training_step(model, batch)
        assert sums.keys() == {"loss"}
        return loss

    plain = make_task(shapes, **changes)
    with_maps = loss_of(task)
    batch = {name: value for name, value in batch.items() if name not in ("label_map", "crop")}
    torch.testing.assert_close(loss_of(plain), with_maps)
    with_maps.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_a_teacher_contributes_to_the_loss(shapes, tmp_path):
    teacher = timm.create_model("resnet10t", num_classes=6).eval()
    torch.save(teacher.state_dict(), tmp_path / "teacher.pth")
    distillation = {"teacher": "resnet10t", "weights": str(tmp_path / "teacher.pth"), "kind": "hard"}
    student = {"model__name": "eat_debug", "model__options": {"distilled": True}}
    task, alone = make_task(shapes, loss__distillation=distillation, **student), make_task(shapes, **student)
    task.check()
    with pytest.raises(SettingsError, match="eat_debug has a second head, which only a teacher trains"):
        alone.check()
    model, batch = task.build_model(), batches(task, count=1)[0]
    both, _ = task.training_step(model, batch)
    label_loss, _ = alone.training_step(model, batch)
    images = task.pixels(batch["image"])
    teacher_loss = torch.nn.functional.cross_entropy(model(images)[1], teacher(images).argmax(1))
    torch.testing.assert_close(both, (label_loss + teacher_loss) / 2)
    predictions = task.predict(model.eval(), task.val_files)
    assert predictions.probabilities.shape == (9, 5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"loss__distillation": {"teacher": "resnet10t", "weights": "w"}},
            "eurnet_debug has no distillation head",
        ),
        ({"loss__token_weight": 1.0}, "eurnet_debug has no token-label head; use glnet_4g_tklb"),
        ({"data__token_labels": {"root": "maps"}, "data__mix": {"mixup": 0.8}}, "networks for token labels mix images"),
    ],
)
def test_losses_that_a_network_does_not_support_are_rejected(shapes, changes, message):
    with pytest.raises(SettingsError, match=message):
        make_task(shapes, **changes).build_model()
