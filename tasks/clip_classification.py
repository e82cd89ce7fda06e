"""Clip classification: clips of raw videos, one class each, trained by cross entropy, scored by clip and by video.

The protocol of GloRe's Kinetics runs (arXiv 1811.12814, section 4.3): clips of 8 frames, 8 frames apart, at 224 x 224.
"""

import logging
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from datasets.motion_shapes import MotionShapesSettings, make_motion_shapes
from datasets.video import (
    UNLABELED,
    ColorSettings,
    ColorTransform,
    EvalView,
    EvalViewSettings,
    EvenSampling,
    RandomSampling,
    ShortVideo,
    TrainClips,
    TrainView,
    TrainViewSettings,
    VideoError,
    VideoList,
    VideoViews,
    default_num_workers,
    read_class_names,
    read_videos,
    to_device,
    train_loader,
    view_loader,
)
from engine.evaluation import Evaluation, Predictions, evaluate_predictions, predict_items
from engine.loop import Batch, TrainSettings
from engine.metrics import count_correct
from engine.optimizer import OptimizerSettings
from engine.progress import progress_bar
from engine.ranks import Ranks
from engine.run import RunSettings
from engine.schedule import ScheduleSettings
from engine.settings import Settings, SettingsError
from models import create_model, load_pretrained

log = logging.getLogger(__name__)

Result = TypeVar("Result")


class ModelSettings(Settings):
    """Which network, and the weights it starts from."""

    name: str = Field(description="a name of models.list_models()")
    num_classes: int | None = Field(None, gt=0, description="classes; none: as many as the training list has")
    pretrained: str | None = Field(
        None, description="weights to start from: a 3-D network's, or a 2-D ImageNet network's, which are inflated"
    )
    options: dict[str, Any] = Field({}, description="further arguments of the network's builder, such as dropout: 0.5")


class DataSettings(Settings):
    """Which videos, and what the network sees of them."""

    train: str = Field(
        description="training videos: a list file, a folder with one folder per class, or a Kinetics CSV"
    )
    val: str = Field(description="validation videos, in the same forms")
    root: str | None = Field(None, description="folder that the paths of the lists start from; none: the list's own")
    val_root: str | None = Field(None, description="the same for the validation list, where it differs")
    train_split: str | None = Field(None, description="split of `train`, where one file or folder holds several")
    val_split: str | None = Field(None, description="the same for `val`")
    class_names: str | None = Field(
        None, description="mapping table of class names (index, name); none: from the videos"
    )
    make: MotionShapesSettings | None = Field(None, description="demo videos to make in `root` if they are not there")
    num_frames: int = Field(8, gt=0, description="frames of a clip")
    frame_interval: int = Field(8, gt=0, description="distance between two frames of a clip, in frames of the video")
    short_video: ShortVideo = Field("consecutive", description="what to do with videos shorter than a clip")
    train_view: TrainViewSettings = TrainViewSettings()
    val_view: EvalViewSettings = EvalViewSettings()
    color: ColorSettings = ColorSettings()
    num_workers: int | None = Field(
        None, ge=0, description="decoding processes per rank; none: from the number of cores"
    )
    worker_start: Literal["fork", "forkserver", "spawn"] | None = Field(
        None, description="how decoding processes start; none: fork on Linux, spawn elsewhere"
    )


class EvaluationSettings(Settings):
    """The views of each video in evaluation; their probabilities are averaged."""

    num_clips: int = Field(1, gt=0, description="clips along the video")
    num_crops: int = Field(1, gt=0, description="crops across the frame: 1 the centre, more from one end to the other")
    clips_per_forward: int = Field(16, gt=0, description="clips that pass through the network at once, per rank")


class ClipClassificationSettings(Settings):
    """A recipe of clip classification."""

    task: Literal["clip_classification"]
    model: ModelSettings
    data: DataSettings
    optimizer: OptimizerSettings
    schedule: ScheduleSettings = ScheduleSettings()
    train: TrainSettings
    evaluation: EvaluationSettings = EvaluationSettings()
    run: RunSettings = RunSettings()


class ClipClassification:
    """Implements `engine.loop.Task` for the recipe `settings`."""

    Settings = ClipClassificationSettings

    def __init__(self, settings: ClipClassificationSettings, ranks: Ranks):
        self.settings, self.ranks = settings, ranks
        layout = torch.channels_last_3d if settings.train.channels_last else torch.contiguous_format
        self.color = ColorTransform(settings.data.color, memory_format=layout)

    # The videos are read from disk when they are first asked for: to evaluate or to predict takes no training videos.

    @cached_property
    def train_videos(self) -> VideoList:
        data, num_classes = self.settings.data, self.settings.model.num_classes
        videos = self._read("data.train", data.train, data.root, data.train_split, self._table)
        _check_labels("data.train", videos, lowest=0, num_classes=num_classes or videos.num_classes)
        return videos

    @cached_property
    def val_videos(self) -> VideoList:
        data = self.settings.data
        videos = self._read("data.val", data.val, data.val_root or data.root, data.val_split, self._names or None)
        _check_labels("data.val", videos, lowest=UNLABELED, num_classes=self.num_classes)
        return videos

    @cached_property
    def num_classes(self) -> int:
        return self.settings.model.num_classes or len(self._names) or self.train_videos.num_classes

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """A name for each class of the network; `class 7` where there is none."""
        if len(self._names) > self.num_classes:
            raise SettingsError(f"there are {len(self._names)} class names, but model.num_classes={self.num_classes}")
        return (*self._names, *(f"class {label}" for label in range(len(self._names), self.num_classes)))

    @cached_property
    def _names(self) -> tuple[str, ...]:
        """Names of the table, else of the training videos; none if these cannot be read and need not be."""
        if self._table is not None:
            return self._table
        try:
            return self.train_videos.class_names
        except SettingsError:
            if self.settings.model.num_classes is None:
                raise
            return ()

    @cached_property
    def _table(self) -> tuple[str, ...] | None:
        path = self.settings.data.class_names
        if path is None:
            return None
        if not Path(path).exists():
            self._make_demo()
        return _told("data.class_names", read_class_names, path)

    def _read(self, key: str, source: str, root: str | None, split: str | None, names: tuple | None) -> VideoList:
        self._make_demo()
        return _told(key, read_videos, source, root, names, split)

    def _make_demo(self) -> None:
        """Makes the recipe's demo videos, unless they are there."""
        data = self.settings.data
        if data.make is None:
            return
        if data.root is None:
            raise SettingsError("data.make needs data.root: the folder for the videos it makes")
        options = data.make.model_dump()
        self.ranks.on_main(lambda: _told("data.make", lambda: make_motion_shapes(data.root, **options)))

    # What engine.loop asks for.

    @property
    def num_train_samples(self) -> int:
        return len(self.train_videos)

    def check(self) -> None:
        """Reads all that the recipe names, so that what is wrong with it is said before anything starts."""
        for videos in (self.train_videos, self.val_videos):
            log.info("%s", videos)
        with torch.device("meta"):
            self.build_model()

    def build_model(self) -> nn.Module:
        model = self.settings.model
        return _told("model", lambda: create_model(model.name, num_classes=self.num_classes, **model.options))

    def load_initial_weights(self, model: nn.Module) -> None:
        if self.settings.model.pretrained:
            log.info("%s", load_pretrained(model, self.settings.model.pretrained))

    def train_batches(self, first_batch: int, num_batches: int, batch_size: int, stream: str) -> Iterable[Batch]:
        data = self.settings.data
        dataset = TrainClips(
            self.train_videos,
            RandomSampling(data.num_frames, data.frame_interval, short=data.short_video),
            TrainView(data.train_view, data.color),
            seed=self.settings.run.seed,
            stream=stream,
        )
        loader = train_loader(
            dataset, first_batch, num_batches, batch_size, self.ranks.rank, self.ranks.num_ranks, **self._workers()
        )
        return to_device(loader, self.ranks.device)

    def training_step(self, model: nn.Module, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Mean cross entropy of the batch, and sums over it: `loss`, `top1`, `top5`."""
        labels = batch["label"]
        clips = self.color(batch["clip"], batch.get("hls"), batch.get("noise_seed"))  # uint8 -> float [B, 3, T, S, S]
        logits = model(clips).float()  # [B, num_classes]
        loss = F.cross_entropy(logits, labels)
        sums = {
            "loss": loss * len(labels),
            "top1": count_correct(logits, labels, 1),
            "top5": count_correct(logits, labels, 5),
        }
        return loss, sums

    def evaluate(self, model: nn.Module) -> Evaluation | None:
        """Scores of `model` on every validation video. Raises VideoError if not one of them can be read."""
        predictions = self.predict(model, self.val_videos)
        if predictions is None:
            return None
        if len(predictions.index) == 0:
            first = predictions.failures[0]
            raise VideoError(first["path"], f"{first['reason']}; nor can any other video of data.val be read")
        return evaluate_predictions(predictions, item="video", view="clip")

    def predict(self, model: nn.Module, videos: VideoList) -> Predictions | None:
        """Predictions for `videos` from the recipe's views, on the main rank; `model` is in evaluation mode."""
        data, views = self.settings.data, self.settings.evaluation
        dataset = VideoViews(
            videos,
            EvenSampling(data.num_frames, data.frame_interval, views.num_clips, short=data.short_video),
            EvalView(data.val_view, views.num_crops),
        )
        videos_per_batch = max(1, views.clips_per_forward // dataset.num_views)
        loader = view_loader(dataset, videos_per_batch, self.ranks.rank, self.ranks.num_ranks, **self._workers())

        def logits(batch: Batch) -> torch.Tensor:
            clips = batch["clips"].flatten(0, 1)  # [B, V, 3, T, S, S] -> [B * V, 3, T, S, S]
            parts = [model(self.color(part)).float() for part in clips.split(views.clips_per_forward)]
            return torch.cat(parts).unflatten(0, batch["clips"].shape[:2])  # [B, V, num_classes]

        with progress_bar(len(loader), 0, self.ranks, "evaluating", unit="batch") as bar:
            batches = _counted(to_device(loader, self.ranks.device), bar)
            return predict_items(batches, logits, self.ranks, num_items=len(videos), num_views=dataset.num_views)

    # What reports and predictions ask for.

    def resolved_recipe(self) -> dict[str, Any]:
        """The whole recipe with every default and the number of classes filled in, as plain types."""
        recipe = self.settings.model_dump(mode="json")
        recipe["model"]["num_classes"] = self.num_classes
        return recipe

    def describe(self, index: int) -> tuple[str, str]:
        """Identifier and path of validation video `index`."""
        video = self.val_videos[index]
        return video.id, video.path

    def _workers(self) -> dict[str, Any]:
        data = self.settings.data
        num_workers = data.num_workers
        if num_workers is None:
            num_workers = default_num_workers(self.ranks.num_ranks_here)
        return {
            "num_workers": num_workers,
            "worker_start": data.worker_start,
            "pin_memory": self.ranks.device.type == "cuda",
        }


def _told(key: str, read: Callable[..., Result], *arguments: Any) -> Result:
    """`read(*arguments)`, its errors as errors of the setting `key`."""
    try:
        return read(*arguments)
    except (OSError, TypeError, ValueError) as error:
        raise SettingsError(f"{key}: {error}") from error


def _counted(batches: Iterable[Batch], bar: Any) -> Iterable[Batch]:
    for batch in batches:
        yield batch
        bar.update()


def _check_labels(key: str, videos: VideoList, lowest: int, num_classes: int) -> None:
    """Raises SettingsError where a label is below `lowest` or beyond the network's classes."""
    wrong = ((videos.labels < lowest) | (videos.labels >= num_classes)).nonzero()[0]
    if len(wrong) == 0:
        return
    video = videos[int(wrong[0])]
    if video.label < lowest:
        raise SettingsError(f"{key}: {video.path} has no label ({video.label}); training needs one for every video")
    raise SettingsError(
        f"{key}: {video.path} has label {video.label}, but the network has {num_classes} classes (0 to "
        f"{num_classes - 1}); set model.num_classes={int(videos.labels.max()) + 1} or mend the list"
    )
