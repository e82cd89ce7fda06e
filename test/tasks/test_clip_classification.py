"""Clip classification on small data sets: batches, evaluation, unreadable videos, and errors about bad input."""

import shutil

import numpy as np
import pytest
import torch
from encode import encode_video, number_frames
from PIL import Image

from datasets.file_list import FileError
from datasets.video import READERS, EvalView, EvenSampling, VideoError, VideoReader, VideoViews
from engine.distributed import Ranks
from settings import SettingsError, parse_settings
from tasks import TASKS, find_task
from tasks.clip_classification import ClipClassification, ClipClassificationSettings

VIEW = {"short_side": [36, 44], "crop": 32}
ALONE = Ranks(0, 1, torch.device("cpu"))


def make_task(folder, **changes) -> ClipClassification:
    recipe = {
        "task": "clip_classification",
        "model": {"name": "glore_resnet_debug_3d"},
        "data": {
            "train": f"{folder}/train.txt",
            "val": f"{folder}/val.txt",
            "num_frames": 4,
            "frame_interval": 2,
            "train_view": {"short_side": [36, 44], "crop": 32},
            "val_view": {"short_side": 36, "crop": 32},
            "num_workers": 0,
        },
        "optimizer": {"lr": 0.1},
        "train": {"num_epochs": 1, "batch_size": 4},
        "evaluation": {"clips_per_forward": 4},
    }
    for key, value in changes.items():
        section, _, name = key.partition("__")
        recipe[section] = recipe.get(section, {}) | {name: value}
    return ClipClassification(parse_settings(ClipClassificationSettings, recipe), ALONE)


@pytest.fixture
def videos(motion_videos, tmp_path):
    """A copy of the motion videos that tests may damage."""
    return shutil.copytree(motion_videos, tmp_path / "videos")


def test_batches_follow_the_recipe(motion_videos):
    task = make_task(motion_videos)
    batches = list(task.train_batches(0, 3, batch_size=4, stream="train"))
    assert [batch["clip"].shape for batch in batches] == [(4, 3, 4, 32, 32)] * 3
    assert batches[0]["clip"].dtype == torch.uint8 and batches[0]["hls"].shape == (4, 3)
    model = task.build_model()
    loss, sums = task.training_step(model, batches[0])
    assert loss.requires_grad and 0 <= sums["top1"] <= sums["top5"] <= 4
    assert task.class_names == tuple(f"class {label}" for label in range(8)) and task.num_classes == 8


def test_a_sample_depends_only_on_seed_and_number(motion_videos):
    """Not on the workers, the batch, the first step of the run or the number of ranks."""
    whole = list(make_task(motion_videos).train_batches(0, 16, 4, "train"))
    clips = torch.cat([batch["clip"] for batch in whole])
    index = torch.cat([batch["index"] for batch in whole])
    for epoch in (index[:24], index[24:48]):
        assert sorted(epoch.tolist()) == list(range(24))
    assert index[:24].tolist() != index[24:48].tolist()
    later = list(make_task(motion_videos, data__num_workers=2).train_batches(5, 3, 4, "train"))
    assert torch.equal(torch.cat([batch["clip"] for batch in later]), clips[20:32])
    second = make_task(motion_videos)
    second.ranks = Ranks(1, 2, torch.device("cpu"))
    ours = next(iter(second.train_batches(3, 1, 4, "train")))  # batch 3 of rank 1 of 2: samples 28 to 31
    assert torch.equal(ours["clip"], clips[28:32])
    other = next(iter(make_task(motion_videos).train_batches(0, 1, 4, "precise_bn")))
    assert not torch.equal(other["clip"], clips[:4])


def test_evaluation_reports_unreadable_videos(videos):
    broken = sorted(videos.glob("val/*/*.mp4"))[3]
    broken.write_bytes(broken.read_bytes()[:200])
    task = make_task(videos)
    model = task.build_model().eval()
    evaluation = task.evaluate(model)
    summary = evaluation.summary()
    assert (summary["videos_read"], summary["videos_listed"]) == (8, 9) and summary["coverage"] == 8 / 9
    (failure,) = evaluation.predictions.failures
    assert failure["path"] == str(broken) and failure["index"] not in evaluation.predictions.index
    assert task.naming.describe(failure["index"])[1] == str(broken)


def test_each_view_has_its_own_clip_and_crop(motion_videos):
    """Although frames that several clips share are decoded only once."""
    task = make_task(motion_videos)
    sampling, view = EvenSampling(4, 3, num_clips=5), EvalView(task.settings.data.val_view, num_crops=3)
    views = VideoViews(task.val_files, sampling, view)[2]["views"]
    assert views.shape == (15, 3, 4, 32, 32)
    for clip in range(5):
        with VideoReader(task.val_files[2].path) as video:
            crops = view(video.get_frames(sampling(video.num_frames, clip)))  # [3, 3, 4, 32, 32]
        assert torch.equal(views[3 * clip : 3 * clip + 3], crops)


@pytest.mark.slow
@pytest.mark.parametrize("worker_start", ["spawn", "forkserver"])
def test_workers_may_start_by_spawn_or_forkserver(motion_videos, worker_start):
    ours, theirs = (
        next(iter(make_task(motion_videos, **options).train_batches(2, 1, 4, "train")))
        for options in ({}, {"data__num_workers": 1, "data__worker_start": worker_start})
    )
    assert torch.equal(ours["clip"], theirs["clip"])


def test_gpu_decoding_uses_spawned_workers(motion_videos, monkeypatch):
    monkeypatch.setattr(READERS["torchcodec_cuda"], "load", lambda: None)
    options = []
    monkeypatch.setattr("tasks.loops.train_loader", lambda *_, **workers: options.append(workers) or [])
    make_task(motion_videos, data__reader="torchcodec_cuda").train_batches(0, 1, 4, "train")
    assert options[0]["worker_start"] == "spawn"
    with pytest.raises(SettingsError, match="torchcodec_cuda does not work in forked workers; set worker_start to"):
        make_task(motion_videos, data__reader="torchcodec_cuda", data__num_workers=1, data__worker_start="fork")


@pytest.mark.parametrize(
    ("options", "name"), [({"data__class_names": "mapping_table.txt"}, "left"), ({"model__num_classes": 8}, "class 0")]
)
def test_evaluation_does_not_need_the_training_videos(motion_videos, options, name):
    options = {k: f"{motion_videos}/{v}" if k == "data__class_names" else v for k, v in options.items()}
    task = make_task(motion_videos, data__train="gone.txt", **options)
    assert task.class_names[0] == name and task.evaluate(task.build_model().eval()).num_read == 9
    with pytest.raises(SettingsError, match=r"data\.train: no list of videos"):
        task.check()


def test_views_are_averaged(motion_videos):
    one = make_task(motion_videos)
    many = make_task(motion_videos, evaluation__num_clips=3, evaluation__num_crops=3)
    torch.manual_seed(0)
    model = one.build_model().eval()
    predictions = many.predict(model, many.val_files)
    assert predictions.num_views == 9 and predictions.probabilities.shape == (9, 5)
    assert not np.allclose(predictions.probabilities, one.predict(model, one.val_files).probabilities)


def test_an_unreadable_training_video_is_replaced_deterministically(videos):
    broken = sorted(videos.glob("train/*/*.mp4"))[5]
    broken.unlink()
    runs = [list(make_task(videos).train_batches(0, 6, 4, "train")) for _ in range(2)]
    failures = [failure for batch in runs[0] for failure in batch["failures"]]
    assert [failure["path"] for failure in failures] == [str(broken)]
    assert "no such file" in failures[0]["reason"].lower() and failures[0]["sample"] < 24
    index = torch.cat([batch["index"] for batch in runs[0]])
    assert failures[0]["index"] not in index and len(index) == 24
    for ours, theirs in zip(*runs, strict=True):
        assert torch.equal(ours["clip"], theirs["clip"]) and torch.equal(ours["label"], theirs["label"])
    labels = make_task(videos).train_files.labels[index]  # of the replacement, not of the unreadable video
    assert labels.tolist() == torch.cat([batch["label"] for batch in runs[0]]).tolist()


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_data_set_without_readable_videos_raises_a_clear_error(videos, num_workers):
    shutil.rmtree(videos / "train")
    with pytest.raises(VideoError, match="10 files in a row could not be read") as error:
        next(iter(make_task(videos, data__num_workers=num_workers).train_batches(0, 1, 4, "train")))
    assert error.value.path.endswith(".mp4") and "Traceback" not in str(error.value)


def test_unreadable_files_are_reported_with_reasons(tmp_path):
    encode_video(tmp_path / "good.mp4", number_frames(9, 48, 64))
    encode_video(tmp_path / "sound.mp4", None, audio=True)
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "train.txt").write_text("0 0 good.mp4\n")
    (tmp_path / "val.txt").write_text("0 0 good.mp4\n1 0 sound.mp4\n2 0 empty.mp4\n3 0 gone away.mp4\n4 -1 good.mp4\n")
    task = make_task(tmp_path)
    evaluation = task.evaluate(task.build_model().eval())
    reasons = {failure["path"].split("/")[-1]: failure["reason"] for failure in evaluation.predictions.failures}
    assert reasons.keys() == {"sound.mp4", "empty.mp4", "gone away.mp4"}
    assert (
        "no video" in reasons["sound.mp4"]
        and reasons["empty.mp4"]
        and "no such file" in reasons["gone away.mp4"].lower()
    )
    assert evaluation.summary()["videos_scored"] == 1 and evaluation.summary()["videos_read"] == 2


def test_the_short_video_policy_error_counts_as_unreadable(tmp_path):
    encode_video(tmp_path / "short.mp4", number_frames(5, 48, 64))
    for name in ("train", "val"):
        (tmp_path / f"{name}.txt").write_text("0 0 short.mp4\n")
    task = make_task(tmp_path, data__short_video="error")
    predictions = task.predict(task.build_model().eval(), task.val_files)
    assert "the video has 5 frames; a clip of 4, 2 apart, needs 7" in predictions.failures[0]["reason"]
    with pytest.raises(FileError, match=r"no validation video can be read"):
        task.evaluate(task.build_model().eval())
    assert make_task(tmp_path).evaluate(task.build_model().eval()).num_read == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data__val": "vall.txt"}, r"data\.val: no list of videos at .*vall\.txt"),
        ({"data__class_names": "names.txt"}, r"data\.class_names: no file of class names"),
        (
            {"model__num_classes": 3},
            r"data\.(train|val): .* has label \d, but the network has 3 classes \(0 to 2\); set model\.num_classes=8",
        ),
        (
            {"model__name": "glore_resnet50_3"},
            r"model: no model is called 'glore_resnet50_3'; did you mean 'glore_resnet50_3d'",
        ),
        (
            {"model__options": {"dropuot": 0.5}},
            r"model: no option of .* is called 'dropuot'; did you mean 'dropout'",
        ),
    ],
)
def test_bad_settings_are_explained(motion_videos, changes, message):
    changes = {k: str(motion_videos / v) if str(v).endswith(".txt") else v for k, v in changes.items()}
    with pytest.raises(SettingsError, match=message):
        task = make_task(motion_videos, **changes)
        assert task.val_files and task.build_model()


def test_a_bad_line_in_a_list_is_reported(videos):
    (videos / "val.txt").write_text("0 1 a.mp4\nx one b.mp4\n")
    with pytest.raises(SettingsError, match=r"val\.txt:2: .*label 'one' is not a whole number"):
        make_task(videos).val_files  # noqa: B018


def test_labels_out_of_range_are_reported(videos):
    for name, line, message in (
        ("train", "x -1 a.mp4\n", r"data\.train: .*a\.mp4 has no label \(-1\); every training file needs one"),
        ("val", "x 8 a.mp4\n", r"data\.val: .*a\.mp4 has label 8, but the network has 8 classes"),
    ):
        listed = (videos / f"{name}.txt").read_text()
        (videos / f"{name}.txt").write_text(listed + line)
        with pytest.raises(SettingsError, match=message):
            getattr(make_task(videos), f"{name}_files")
        (videos / f"{name}.txt").write_text(listed)


def test_folders_define_classes_and_their_names(motion_videos):
    task = make_task(motion_videos, data__train=f"{motion_videos}/train", data__val=f"{motion_videos}/val")
    assert task.class_names == tuple(sorted(path.name for path in (motion_videos / "train").iterdir()))
    assert len(task.train_files) == 24 and len(task.val_files) == 9
    assert task.resolved_recipe()["model"]["num_classes"] == 8


def test_an_unknown_task_is_explained():
    names = ", ".join(TASKS)
    with pytest.raises(SettingsError, match=f"task: must be one of {names}, got 'clips'"):
        find_task({"task": "clips"}, "recipe.yaml")


def rows_seen(task, num_epochs):
    samples = task.train_samples("train")
    return [int(samples[number]["index"]) for number in range(num_epochs * len(samples))]


def test_lists_are_mixed_and_classes_balanced(motion_videos, tmp_path):
    lines = (motion_videos / "train.txt").read_text().splitlines()
    for name, part in (("few.txt", lines[:3]), ("more.txt", lines[3:6])):
        (tmp_path / name).write_text("\n".join(part))
    more = {"train": str(tmp_path / "more.txt"), "root": str(motion_videos), "times": 2}
    task = make_task(tmp_path, data__train=str(tmp_path / "few.txt"), data__root=str(motion_videos), data__more=[more])
    assert task.num_train_samples == 6 and task.train_weights.tolist() == [1, 1, 1, 2, 2, 2]
    seen = np.bincount(rows_seen(task, 3), minlength=6)
    assert (seen[:3] >= 1).all() and seen[3:].sum() > seen[:3].sum()

    task = make_task(motion_videos, data__class_balance=1.0)
    counts = np.bincount(task.train_files.labels)
    assert np.allclose(np.bincount(task.train_files.labels, task.train_weights), counts > 0)
    (tmp_path / "weights.txt").write_text(f"{task.train_files[0].id} 0")
    task = make_task(motion_videos, data__weights=str(tmp_path / "weights.txt"))
    assert 0 not in rows_seen(task, 1)
    with pytest.raises(SettingsError, match=r"data\.more\.0\.train: no list of videos at gone\.txt"):
        make_task(motion_videos, data__more=[{"train": "gone.txt"}]).check()


@pytest.mark.parametrize("direct", [False, True])
def test_repeats_are_different_clips_of_one_video(motion_videos, direct):
    task = make_task(motion_videos, data__repeats=2, data__train_view=VIEW | {"direct": direct})
    (batch,) = task.train_batches(0, 1, batch_size=4, stream="train")
    assert batch["index"][::2].tolist() == batch["index"][1::2].tolist() and len(set(batch["index"].tolist())) == 2
    assert not torch.equal(batch["clip"][0], batch["clip"][1])
    samples = task.train_samples("train")
    for number in range(4):
        assert torch.equal(samples[number]["clip"], batch["clip"][number])
        assert torch.equal(samples[number]["hls"], batch["hls"][number])


@pytest.mark.parametrize(
    "changes",
    [
        {"data__sampling": "segments"},
        {"data__frame_seconds": 0.1},
        {"data__mix": {"mixup": 0.8, "cutmix": 1.0}, "loss__label_smoothing": 0.1},
        {"data__train_view": VIEW | {"rand_augment": [2, 9], "jitter": [0.4, 0.4, 0.4, 0.1]}},
    ],
    ids=str,
)
def test_sampling_and_augmentation_options(motion_videos, changes):
    task = make_task(motion_videos, **changes)
    task.check()
    (batch,) = task.train_batches(0, 1, batch_size=4, stream="train")
    assert batch["clip"].shape == (4, 3, 4, 32, 32)
    loss, sums = task.training_step(task.build_model(), batch)
    assert loss.isfinite() and ("top1" in sums) == ("data__mix" not in changes)
    views = task.eval_views(task.val_files)[0]["views"]
    assert views.shape == (1, 3, 4, 32, 32)


def test_a_list_may_contain_frame_folders(videos):
    line = (videos / "val.txt").read_text().splitlines()[0].split()
    path = videos / line[2]
    with VideoReader(path) as video:
        frames = video.get_frames(range(video.num_frames)).numpy()
    expected = make_task(videos).eval_views(make_task(videos).val_files)[0]["views"]
    path.unlink()
    path.mkdir()
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(path / f"{number}.png")
    assert torch.equal(make_task(videos).eval_views(make_task(videos).val_files)[0]["views"], expected)


def test_settings_without_effect_are_rejected(motion_videos):
    for changes, message in (
        (
            {"data__sampling": "segments", "data__frame_seconds": 0.1},
            "frame_seconds has no effect with sampling: segments",
        ),
        ({"data__mix": {"mixup": 0.8}, "train__batch_size": 5}, r"data\.mix takes samples in pairs, .* 5 per pass"),
        ({"data__reader": "decrod"}, r"data\.reader: .*'pyav', 'decord', 'torchcodec', 'torchcodec_cuda' or 'opencv'"),
    ):
        with pytest.raises(SettingsError, match=message):
            make_task(motion_videos, **changes)


def test_folds_divide_one_list(motion_videos):
    """Every video validates once, the classes are those of the whole list, and reports know the fold."""
    whole, seen = make_task(motion_videos).train_files, []
    for fold in range(3):
        task = make_task(motion_videos, data__val=None, data__folds=3, data__fold=fold)
        task.check()
        trained, validated = ([item.id for item in files] for files in (task.train_files, task.val_files))
        assert len(trained) == 16 and len(validated) == 8 and not set(trained) & set(validated)
        assert sorted(task.val_files.labels) == list(range(8))
        assert task.protocol == f"1x1-fold{fold}of3" and task.class_names == make_task(motion_videos).class_names
        assert task.report_facts()["list"].startswith(f"fold {fold} of 3 of ")
        seen += validated
    assert sorted(seen) == sorted(item.id for item in whole)
    other = make_task(motion_videos, data__val=None, data__folds=3, data__fold=2, data__fold_seed=1)
    assert other.fingerprint("training") != task.fingerprint("training")
    assert [item.id for item in other.val_files] != validated


def test_weights_and_further_lists_go_with_folds(motion_videos, tmp_path):
    names = [item.id for item in make_task(motion_videos).train_files]
    (tmp_path / "weights.txt").write_text("".join(f"{name} {row}\n" for row, name in enumerate(names)))
    folds = {"data__val": None, "data__folds": 4, "data__fold": 1}
    task = make_task(motion_videos, data__weights=str(tmp_path / "weights.txt"), **folds)
    assert task.train_weights.tolist() == [names.index(item.id) for item in task.train_files]
    (tmp_path / "groups.txt").write_text("".join(f"{name} {row // 6}\n" for row, name in enumerate(names)))
    grouped = make_task(motion_videos, data__fold_groups=str(tmp_path / "groups.txt"), **folds)
    assert len({names.index(item.id) // 6 for item in grouped.val_files}) == 1 and len(grouped.val_files) == 6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data__folds": 3, "data__fold": 0}, r"folds takes validation files from `train`; set data\.val=null"),
        ({"data__val": None, "data__folds": 3}, r"fold is None; expected 0 to 2, .*tools/sweep\.py.*data\.fold=0,1,2"),
        ({"data__val": None, "data__folds": 3, "data__fold": 3}, "fold is 3; expected 0 to 2"),
        ({"data__val": None}, "val is required"),
        ({"data__fold": 1}, r"fold needs folds, the number of folds; for example data\.folds=5"),
    ],
)
def test_settings_of_folds_that_do_not_go_together(motion_videos, changes, message):
    with pytest.raises(SettingsError, match=message):
        make_task(motion_videos, **changes)
