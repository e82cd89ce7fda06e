"""Clip classification: clips of raw videos, one class each, trained by cross entropy, scored by clip and by video.

The protocol of GloRe's Kinetics runs (arXiv 1811.12814, section 4.3): clips of 8 frames, 8 frames apart, at 224 x 224.
"""

import logging
from collections.abc import Iterable
from functools import cached_property
from typing import Any, Literal

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
    VideoList,
    VideoViews,
    default_num_workers,
    prefetch,
    read_class_names,
    read_videos,
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
    make: MotionShapesSettings | None = Field(None, description="demo videos to make in `root` when they are not there")
    num_frames: int = Field(8, gt=0, description="frames of a clip")
    frame_interval: int = Field(8, gt=0, description="distance between two frames of a clip, in frames of the video")
    short_video: ShortVideo = Field("consecutive", description="what to do with videos shorter than a clip")
    train_view: TrainViewSettings = TrainViewSettings()
    val_view: EvalViewSettings = EvalViewSettings()
    color: ColorSettings = ColorSettings()
    num_workers: int | None = Field(
        None, ge=0, description="decoding processes per rank; none: from the number of cores"
    )
    worker_start: Literal["fork", "forkserver", "spawn"] = Field("fork", description="how decoding processes start")


class EvaluationSettings(Settings):
    """The views of each video in evaluation; their probabilities are averaged."""

    num_clips: int = Field(1, gt=0, description="clips along the video")
    num_crops: Literal[1, 3] = Field(1, description="crops across the frame: the centre, or both ends and the centre")
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
        if settings.data.make is not None:
            self._make_demo()
        layout = torch.channels_last_3d if settings.train.channels_last else torch.contiguous_format
        self.color = ColorTransform(settings.data.color, memory_format=layout)

    # The videos are read from disk when they are first asked for: an evaluation does not need the training list.

    @cached_property
    def train_videos(self) -> VideoList:
        data = self.settings.data
        videos = self._read("data.train", data.train, data.root, data.train_split, self._given_class_names)
        _check_labels("data.train", videos, lowest=0, num_classes=self.settings.model.num_classes or videos.num_classes)
        return videos

    @cached_property
    def val_videos(self) -> VideoList:
        data = self.settings.data
        names = self._given_class_names or self.train_videos.class_names or None
        videos = self._read("data.val", data.val, data.val_root or data.root, data.val_split, names)
        _check_labels("data.val", videos, lowest=UNLABELED, num_classes=self.num_classes)
        return videos

    def _read(
        self, key: str, source: str, root: str | None, split: str | None, class_names: tuple[str, ...] | None
    ) -> VideoList:
        try:
            return read_videos(source, root, class_names, split)
        except (OSError, ValueError) as error:
            raise SettingsError(f"{key}: {error}") from error

    @cached_property
    def _given_class_names(self) -> tuple[str, ...] | None:
        """Names from the recipe's table."""
        data = self.settings.data
        if data.class_names is None:
            return None
        try:
            return read_class_names(data.class_names)
        except (OSError, ValueError) as error:
            raise SettingsError(f"data.class_names: {error}") from error

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """A name for each class of the network; `class 7` where the videos have none."""
        names = self._given_class_names or self.train_videos.class_names
        return (*names, *(f"class {label}" for label in range(len(names), self.num_classes)))

    @cached_property
    def num_classes(self) -> int:
        return self.settings.model.num_classes or len(self._given_class_names or ()) or self.train_videos.num_classes

    @property
    def num_train_samples(self) -> int:
        return len(self.train_videos)

    def _make_demo(self) -> None:
        data = self.settings.data
        if data.root is None:
            raise SettingsError("data.make needs data.root: the folder for the videos it makes")
        if self.ranks.is_main:
            make_motion_shapes(data.root, **data.make.model_dump())
        self.ranks.barrier()

    # What engine.loop asks for.

    def build_model(self) -> nn.Module:
        model = self.settings.model
        try:
            return create_model(model.name, num_classes=self.num_classes, **model.options)
        except (TypeError, ValueError) as error:
            raise SettingsError(f"model: {error}") from error

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
        return prefetch(loader, self.ranks.device)

    def training_step(self, model: nn.Module, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
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
        predictions = self.predict(model, self.val_videos)
        return None if predictions is None else evaluate_predictions(predictions)

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
            batches = _counted(prefetch(loader, self.ranks.device), bar)
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
