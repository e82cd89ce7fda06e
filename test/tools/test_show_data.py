"""The pictures show what the network sees, in the colors of the files."""

import numpy as np
import pytest
import torch
from PIL import Image

from datasets.video import VideoError
from engine.distributed import Ranks
from engine.task import Picture
from settings import SettingsError, parse_settings, read_recipe
from tasks import find_task
from tasks.sample_pictures import first_of_each_class
from tools import show_data
from tools.pictures import data_pictures
from tools.pictures.contact_sheet import HEIGHT, draw_animation, draw_classes, draw_sheet

ALONE = Ranks(0, 1, torch.device("cpu"))


def show(folder, recipe, *arguments):
    show_data.main([str(recipe), "--output", str(folder), "--count", "3", "data.num_workers=0", *arguments])
    assert {path.name for path in folder.iterdir()} == {"train.png", "train.gif", "val.png", "classes.png"}
    return Image.open(folder / "train.png"), Image.open(folder / "train.gif")


def make_task(recipe, *overrides):
    settings = read_recipe(str(recipe), overrides)
    task_class = find_task(settings, str(recipe))
    return task_class(parse_settings(task_class.Settings, settings, str(recipe)), ALONE)


def test_clips(recipe, tmp_path):
    sheet, animation = show(tmp_path / "pictures", recipe)
    assert animation.n_frames == 4 and sheet.height > 4 * HEIGHT
    with pytest.raises(SystemExit):
        show_data.main([str(recipe), "--count", "0"])


@pytest.mark.parametrize("changes", [[], ["data.mix={mixup: 0.8}", "data.class_balance=1", "evaluation.num_clips=2"]])
def test_samples_equal_those_of_the_run(recipe, changes):
    task = make_task(recipe, "data.num_workers=0", "data.color={hls: null, noise: 0}", *changes)
    samples = task.training_pictures(4)
    (batch,) = task.train_batches(0, 1, 4, "train")
    for number, sample in enumerate(samples):
        whole, seen = sample.stages.values()
        item = task.train_files[int(batch["index"][number])]
        assert sample.lines[0] == f"{item.id}: {item.label} {task.class_names[item.label]}"
        assert whole.shape[0] == 4 and seen.shape == (4, 32, 32, 3)
        expected = batch["clip"][number].permute(1, 2, 3, 0)
        assert torch.equal(seen, expected) == (not changes) and len(sample.lines) == (2 if changes else 1)
    _, counts = task.sample_counts()
    assert len(counts) == (3 if changes else 2)
    np.testing.assert_allclose([count.sum() for count in counts.values()], [24, 24, 9] if changes else [24, 9])
    (view,) = {len(sample.stages) for sample in task.validation_pictures(2)}
    assert view == (2 if changes else 1)


def test_validation_shows_every_class_before_a_second_file_of_one(recipe):
    assert first_of_each_class(np.array([0, 0, 0, 2, 2, -1])) == [5, 0, 3, 1, 4, 2]
    task = make_task(recipe, "data.num_workers=0")
    labels = [picture.lines[0].split(": ")[1].split()[0] for picture in task.validation_pictures(9)]
    assert labels == ["0", "1", "2", "3", "4", "5", "6", "7", "0"]


def test_a_replaced_sample_shows_its_own_file(recipe):
    dataset = make_task(recipe).train_samples("train")
    whole = dataset.whole(5)
    read, broken = dataset.read_several, int(dataset[5]["index"])

    def read_several(item, rngs):
        if item.index == broken:
            raise VideoError(item.path, "broken")
        return read(item, rngs)

    dataset.read_several = read_several
    sample = dataset[5]
    assert sample["failures"] and sample["index"] != broken
    assert not torch.equal(dataset.whole(5)[:, :8, :8], whole[:, :8, :8])


def test_any_name_is_drawn(tmp_path):
    names = ["from_$5_to_$9", r"$\frac{", "two\nlines", "caf\udce9", "\u732b", "x" * 5000]
    wide = torch.zeros(2, 3, 9000, 3, dtype=torch.uint8)
    pictures = [Picture([f"1: {name}"], {"as\ndecoded": wide}) for name in names]
    draw_sheet(pictures, tmp_path / "a.png", "caf\udce9 " * 99)
    draw_animation(pictures, tmp_path / "a.gif", "\u732b", 4)
    draw_classes({"training": np.zeros(6), "$ $": np.full(6, np.nan)}, names, tmp_path / "classes.png")
    assert Image.open(tmp_path / "a.png").width < 3000 and (tmp_path / "classes.png").stat().st_size > 5000


def test_a_picture_that_fails_costs_no_other(recipe, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(data_pictures, "draw_animation", fail)
    with pytest.raises(SettingsError, match=r"could not draw train\.gif in .*; the warnings above say why"):
        show(tmp_path, recipe)
    assert {path.name for path in tmp_path.glob("*.png")} == {"train.png", "val.png", "classes.png"}


def test_images(tmp_path):
    folder = tmp_path / "shapes"
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"""
        task: image_classification
        model: {{name: eurnet_debug}}
        data:
          make: {{num_train: 12, num_val: 6}}
          root: {folder}
          train: {folder}/train.txt
          val: {folder}/val.txt
          train_view: {{size: 32}}
          val_view: {{size: 32}}
        optimizer: {{lr: 0.1}}
        train: {{num_epochs: 1, batch_size: 4}}
        run: {{device: cpu}}
    """)
    sheet, animation = show(tmp_path / "pictures", recipe)
    assert animation.n_frames == 2 and sheet.height < 3 * HEIGHT
