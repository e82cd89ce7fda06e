"""Clip classification: clips of raw videos, one class each, trained by cross entropy, scored by clip and by video.

The protocol of GloRe's Kinetics runs (arXiv 1811.12814, section 4.3): clips of 8 frames, 8 frames apart, at 224 x 224.
"""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from backbones import PerFrame
from datasets.files import FileList
from datasets.motion_shapes import MotionShapesSettings, make_motion_shapes
from datasets.video import (
    ColorSettings,
    ColorTransform,
    EvalView,
    EvalViewSettings,
    EvenSampling,
    IndexStore,
    RandomSampling,
    ShortVideo,
    TrainClips,
    TrainView,
    TrainViewSettings,
    VideoViews,
    find_store,
    find_videos,
    read_videos,
)
from engine.loop import Batch, TrainSettings
from engine.metrics import count_correct
from engine.optimizer import OptimizerSettings
from engine.ranks import Ranks
from engine.run import RunSettings
from engine.schedule import ScheduleSettings
from engine.settings import Settings, SettingsError
from models import takes_images
from tasks.classification import Classification, DataSettings, ModelSettings


class ClipDataSettings(DataSettings):
    """Which videos, and what the network sees of them. Lists may also be Kinetics CSVs, or splits of UCF101, HMDB51."""

    train_split: str | None = Field(None, description="split of `train`, where one file or folder holds several")
    val_split: str | None = Field(None, description="the same for `val`")
    index: str | None = Field(
        None, description="index that tools/check_videos.py wrote with --index; none: those beside the lists, if any"
    )
    make: MotionShapesSettings | None = Field(None, description="demo videos to make in `root` if they are not there")
    num_frames: int = Field(8, gt=0, description="frames of a clip")
    frame_interval: int = Field(8, gt=0, description="distance between two frames of a clip, in frames of the video")
    short_video: ShortVideo = Field("consecutive", description="what to do with videos shorter than a clip")
    train_view: TrainViewSettings = TrainViewSettings()
    val_view: EvalViewSettings = EvalViewSettings()
    color: ColorSettings = ColorSettings()


class ClipEvaluationSettings(Settings):
    """The views of each video in evaluation; their probabilities are averaged."""

    num_clips: int = Field(1, gt=0, description="clips along the video")
    num_crops: int = Field(1, gt=0, description="crops across the frame: 1 the centre, more from one end to the other")
    clips_per_forward: int = Field(16, gt=0, description="clips that pass through the network at once, per rank")


class ClipClassificationSettings(Settings):
    """A recipe of clip classification."""

    task: Literal["clip_classification"]
    model: ModelSettings
    data: ClipDataSettings
    optimizer: OptimizerSettings
    schedule: ScheduleSettings = ScheduleSettings()
    train: TrainSettings
    evaluation: ClipEvaluationSettings = ClipEvaluationSettings()
    run: RunSettings = RunSettings()


class ClipClassification(Classification):
    """Implements `engine.loop.Task` for the recipe `settings`."""

    Settings = ClipClassificationSettings
    item, view = "video", "clip"
    advice = """\
  python test/test-multi-clip.py            ten clips and three crops of each video instead of one
  python tools/predict.py VIDEO             what the network sees in a video of yours"""
    find_files = staticmethod(find_videos)

    def __init__(self, settings: ClipClassificationSettings, ranks: Ranks):
        super().__init__(settings, ranks)
        layout = torch.channels_last_3d if settings.train.channels_last else torch.contiguous_format
        self.color = ColorTransform(settings.data.color, memory_format=layout)

    def read_files(self, key: str, source: str, root: str | None, names: tuple | None) -> FileList:
        data = self.settings.data
        return read_videos(source, root, names, {"train": data.train_split, "val": data.val_split}[key])

    def make_demo(self, root: str, options: dict[str, Any]) -> None:
        make_motion_shapes(root, **options)

    def build_model(self) -> nn.Module:
        """The recipe's network; one for images is applied to each frame."""
        model = super().build_model()
        return PerFrame(model) if takes_images(self.settings.model.name) else model

    def train_samples(self, stream: str) -> TrainClips:
        data = self.settings.data
        sampling = RandomSampling(data.num_frames, data.frame_interval, short=data.short_video)
        view = TrainView(data.train_view, data.color)
        return TrainClips(self.train_files, sampling, view, self.settings.run.seed, stream, self._store(data.train))

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

    def eval_views(self, files: FileList) -> VideoViews:
        data, views = self.settings.data, self.settings.evaluation
        sampling = EvenSampling(data.num_frames, data.frame_interval, views.num_clips, short=data.short_video)
        return VideoViews(files, sampling, EvalView(data.val_view, views.num_crops), self._store(data.val))

    def _store(self, source: str) -> IndexStore | None:
        try:
            return find_store(source, self.settings.data.index)
        except FileNotFoundError as error:
            raise SettingsError(f"data.index: {error}") from error

    def network_input(self, views: torch.Tensor) -> torch.Tensor:
        return self.color(views)  # uint8 [B, 3, T, S, S] -> float, normalized

    @property
    def views_per_forward(self) -> int:
        return self.settings.evaluation.clips_per_forward

    @property
    def protocol(self) -> str:
        views = self.settings.evaluation
        return f"{views.num_clips}x{views.num_crops}"
