"""Clip classification: clips of raw videos, one class per video, cross-entropy loss, scores per clip and per video.

With several classes per video (`loss.multi_label`): binary cross entropy and mean average precision.

The defaults follow GloRe's Kinetics runs (arXiv 1811.12814, section 4.3): clips of 8 frames, 8 frames apart, 224 x 224.
"""

import logging
from collections.abc import Iterator
from functools import cached_property, partial
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import nn

from backbones import PerFrame
from backbones.library_network import LibraryInput
from datasets.file_list import FileList
from datasets.mixing import Mixer
from datasets.synthetic.motion_shapes import MotionShapesSettings, make_motion_shapes
from datasets.video import (
    READERS,
    ClipShape,
    ColorSettings,
    ColorTransform,
    EvalView,
    EvalViewSettings,
    EvenSampling,
    EvenSegments,
    Multigrid,
    MultigridSettings,
    RandomSampling,
    RandomSegments,
    ReaderName,
    ShortVideo,
    StepGrids,
    TrainClips,
    TrainView,
    TrainViewSettings,
    VideoOpener,
    VideoViews,
    find_store,
    find_videos,
    read_videos,
)
from engine.distributed import Ranks
from engine.task import Answer, Batch, TaskSettings
from evaluators.classification import ClassificationEvaluation, Predictions, ViewScorer
from evaluators.multi_label import evaluate_multi_label, score_multi_label_views
from models import takes_images
from tasks.class_lists import read_setting
from tasks.classification import Classification
from tasks.classification_settings import DataSettings, EvaluationSettings, ModelSettings, check_pairs
from tasks.clip_windows import answer_windows
from tasks.fitting_settings import scaled
from tasks.library_input import fill_library_input
from tasks.losses import ClipLossSettings
from tasks.multi_label import multi_label_step

log = logging.getLogger(__name__)


class ClipDataSettings(DataSettings):
    """Videos, clips and views. Lists may also be Kinetics CSV files, or splits of UCF101 or HMDB51."""

    CHANGEABLE = (*DataSettings.CHANGEABLE, "train_split", "val_split", "test_split", "index")

    train_split: str | None = Field(None, description="split of `train`, if one file or folder has several")
    val_split: str | None = Field(None, description="split of `val`, if one file or folder has several")
    test_split: str | None = Field(None, description="split of `test`, if one file or folder has several")
    index: str | None = Field(
        None, description="index written by tools/check_videos.py --index; none: any indices next to the lists"
    )
    make: MotionShapesSettings | None = Field(None, description="demo videos to make in `root` if they do not exist")
    reader: ReaderName = Field(
        "pyav",
        description="decoding library; all give identical frames, except torchcodec_cuda, whose colors differ slightly",
    )
    timeout_seconds: float | None = Field(
        300, ge=0.001, le=1e7, description="a video that takes longer to read counts as unreadable; null: wait forever"
    )
    num_frames: int = Field(8, gt=0, le=10_000, description="frames per clip")
    sampling: Literal["dense", "segments"] = Field(
        "dense",
        description="dense: frames at a fixed interval; segments: one frame from each of num_frames equal segments",
    )
    frame_interval: int = Field(
        8, gt=0, le=1_000_000, description="distance between frames of a clip, in frames of the video"
    )
    frame_seconds: float | None = Field(
        None, ge=1e-6, le=1e6, description="distance in seconds instead of frame_interval"
    )
    short_video: ShortVideo = Field("consecutive", description="how to handle videos shorter than a clip")
    train_view: TrainViewSettings = TrainViewSettings()
    val_view: EvalViewSettings = EvalViewSettings()
    multigrid: MultigridSettings | None = Field(
        None, description="vary the length and size of training clips from step to step, to train faster"
    )
    color: ColorSettings = ColorSettings()

    @model_validator(mode="after")
    def _segments_have_no_interval(self):
        if self.sampling == "segments" and self.frame_seconds is not None:
            raise ValueError("frame_seconds has no effect with sampling: segments; remove it")
        return self

    @model_validator(mode="after")
    def _forked_processes_have_no_gpu(self):
        if self.worker_start == "fork" and self.num_workers != 0 and not READERS[self.reader].can_fork:
            raise ValueError(f"reader: {self.reader} does not work in forked workers; set worker_start to spawn")
        return self


class ClipEvaluationSettings(EvaluationSettings):
    """The views of each video in evaluation. Their probabilities are averaged."""

    num_clips: int = Field(1, gt=0, le=1000, description="clips, evenly spaced along the video")
    num_crops: int = Field(
        1, gt=0, le=1000, description="crops per clip: 1: the centre; more: evenly spaced across the frame"
    )
    clips_per_forward: int = Field(16, gt=0, le=2**20, description="clips per forward pass, per rank")


def _input_of_library(known: LibraryInput) -> dict[str, Any]:
    """The settings that correspond to a library's description of its network's input."""
    size = known.shape[-1]
    lowest, highest = TrainViewSettings().short_side
    settings = {
        "color.mean": known.mean,
        "color.std": known.std,
        "train_view": {"crop": size, "short_side": (size, size * highest / lowest)},
        "val_view": {"crop": size, "short_side": int(size / (known.crop_fraction or 1))},
    }
    return settings if len(known.shape) == 3 else {**settings, "num_frames": known.shape[1]}


class ClipClassificationSettings(TaskSettings):
    """A recipe of clip classification.

    For a network of timm or torchvision, input settings that the recipe leaves open come from the library.
    """

    CHANGEABLE = ("evaluation",)

    task: Literal["clip_classification"]
    model: ModelSettings
    data: ClipDataSettings
    loss: ClipLossSettings = ClipLossSettings()
    evaluation: ClipEvaluationSettings = ClipEvaluationSettings()

    @model_validator(mode="before")
    @classmethod
    def _fits_the_library(cls, recipe: Any) -> Any:
        return fill_library_input(recipe, _input_of_library)

    @model_validator(mode="after")
    def _mixing_takes_pairs(self):
        check_pairs(self)
        return self

    @model_validator(mode="after")
    def _several_classes_have_no_balance(self):
        if self.loss.multi_label and self.data.class_balance:
            raise ValueError(
                "data.class_balance needs a single class per video; with loss.multi_label set it to 0, and use "
                "data.weights to weight individual videos"
            )
        return self


class ClipClassification(Classification):
    """Trains and evaluates a network on video clips."""

    Settings = ClipClassificationSettings
    item, view = "video", "clip"
    advice = """\
  ./run_local.sh test/test-multi-clip.py    scores from ten clips x three crops per video instead of one
  ./run_local.sh tools/predict.py VIDEO     predictions for your own videos"""
    find_inputs = staticmethod(find_videos)
    smaller_files = "smaller files (tools/convert_videos.py)"

    def __init__(self, settings: ClipClassificationSettings, ranks: Ranks):
        super().__init__(settings, ranks)
        layout = torch.channels_last_3d if settings.train.channels_last else torch.contiguous_format
        self.color = ColorTransform(settings.data.color, memory_format=layout)

    @property
    def curves(self) -> dict[str, str]:
        if self.multi_label:
            return {"loss": "loss", "mean_average_precision": "mean average precision"}
        return super().curves

    @property
    def multi_label(self) -> bool:
        return self.settings.loss.multi_label

    def read_files(self, source: str, root: str | None, names: tuple | None, split: str | None) -> FileList:
        return read_videos(source, root, names, split)

    def opener(self, *lists: str) -> VideoOpener:
        """Opens videos, using the indices that tools/check_videos.py stored for `lists`."""
        data = self.settings.data
        stores = (read_setting("data.index", find_store, name, data.index) for name in lists)
        stores = tuple(store for store in stores if store is not None)
        return read_setting("data.reader", VideoOpener, data.reader, data.timeout_seconds, stores)

    def _workers(self) -> dict[str, Any]:
        workers = super()._workers()
        if not READERS[self.settings.data.reader].can_fork:
            workers["worker_start"] = workers["worker_start"] or "spawn"
        return workers

    @cached_property
    def mixer(self) -> Mixer | None:
        mix = self.settings.data.mix
        return Mixer(mix, self.num_classes, self.settings.loss.label_smoothing) if mix.is_on else None

    def make_demo(self, root: str, options: dict[str, Any]) -> None:
        make_motion_shapes(root, **options)

    def build_model(self) -> nn.Module:
        """The network of the recipe. Image networks are applied to each frame."""
        model = super().build_model()
        return PerFrame(model) if takes_images(self.settings.model.name) else model

    def train_samples(self, stream: str) -> TrainClips:
        data, seed = self.settings.data, self.settings.run.seed
        sampling, view = self.grid(ClipShape(data.num_frames, data.train_view.crop))
        grids = None
        if data.multigrid and stream == "train":
            grids = StepGrids(self.multigrid, self.settings.train.batch_size, self.grid)
        opener, weights = self.opener(data.train, *(more.train for more in data.more)), self.train_weights
        return TrainClips(self.train_files, sampling, view, seed, stream, data.repeats, weights, opener, grids)

    @cached_property
    def multigrid(self) -> Multigrid:
        """The clip shapes of each step."""
        data, train = self.settings.data, self.settings.train
        num_steps = train.num_steps(self.num_train_samples)
        return Multigrid(data.multigrid, data.num_frames, data.train_view.crop, num_steps)

    def grid(self, shape: ClipShape) -> tuple[RandomSampling | RandomSegments, TrainView]:
        """Sampler and transform for training clips of a shape. Smaller clips cover at most as much of a video."""
        data, view = self.settings.data, self.settings.data.train_view
        if shape.size != view.crop:
            lowest, highest = view.short_side
            view = view.model_copy(
                update={"crop": shape.size, "short_side": (lowest * shape.size / view.crop, highest)}
            )
        sampling = RandomSegments(shape.num_frames)
        if data.sampling == "dense":
            speed = (1.0, data.num_frames / shape.num_frames)
            interval, seconds = data.frame_interval, data.frame_seconds
            sampling = RandomSampling(shape.num_frames, interval, speed, data.short_video, seconds)
        return sampling, TrainView(view, data.color)

    def check(self) -> None:
        super().check()
        if self.settings.data.multigrid:
            shapes = [f"{shape.num_frames} x {shape.size}" for shape in self.multigrid.shapes()]
            log.info("multigrid: clips of %s; %.0f %% of the pixels", ", ".join(shapes), 100 * self.multigrid.cost())

    def training_shapes(self) -> list[tuple[str, tuple[int, ...]]]:
        data = self.settings.data
        shapes = [("data.train_view.crop", ClipShape(data.num_frames, data.train_view.crop))]
        if data.multigrid:
            shapes += [("data.multigrid", shape) for shape in self.multigrid.shapes()]
        return [(key, (3, shape.num_frames, shape.size, shape.size)) for key, shape in shapes]

    def validation_shape(self) -> tuple[str, tuple[int, ...]]:
        data = self.settings.data
        return "data.val_view.crop", (3, data.num_frames, data.val_view.crop, data.val_view.crop)

    def overrides_for_input(self, shape: tuple[int, ...]) -> list[str]:
        data, size = self.settings.data, shape[-1]
        overrides = []
        if len(shape) == 4 and shape[1] != data.num_frames:
            overrides.append(f"data.num_frames={shape[1]}")
        for key, view in (("train_view", data.train_view), ("val_view", data.val_view)):
            if view.crop != size:
                short_side = scaled(view.short_side, size / view.crop)
                overrides += [f"data.{key}.crop={size}", f"data.{key}.short_side={short_side}"]
        return [*overrides, "data.multigrid=null"] if data.multigrid else overrides

    def training_input(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        clips = self.color(batch["clip"], batch.get("hls"), batch.get("noise_seed"))  # uint8 -> float [B, 3, T, S, S]
        labels = batch["label"]
        if self.multi_label:
            rows = batch["index"].tolist()  # rows of the videos that were read, including replacements
            targets = torch.from_numpy(self.train_files.targets(rows, self.num_classes))
            labels = targets.float().to(clips.device)
        if self.mixer is None:
            return clips, labels
        clips, shares = self.mixer(clips, labels)
        return clips.contiguous(memory_format=self.color.memory_format), shares

    def training_step(self, model: nn.Module, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        if not self.multi_label:
            return super().training_step(model, batch)
        clips, targets = self.training_input(batch)
        return multi_label_step(model(clips).float(), targets, is_mixed=self.mixer is not None)

    def view_scorer(self, files: FileList, num_guesses: int) -> ViewScorer:
        if not self.multi_label:
            return super().view_scorer(files, num_guesses)
        return partial(score_multi_label_views, targets_of=lambda rows: files.targets(rows, self.num_classes))

    def score(self, predictions: Predictions) -> ClassificationEvaluation:
        if not self.multi_label:
            return super().score(predictions)
        targets = self.val_files.targets(predictions.index, self.num_classes)
        return evaluate_multi_label(predictions, targets, self.naming, self.settings.evaluation.max_non_finite)

    def eval_views(self, files: FileList) -> VideoViews:
        data, views = self.settings.data, self.settings.evaluation
        sampling = EvenSegments(data.num_frames, views.num_clips)
        if data.sampling == "dense":
            interval, seconds = data.frame_interval, data.frame_seconds
            sampling = EvenSampling(data.num_frames, interval, views.num_clips, data.short_video, seconds)
        return VideoViews(
            files, sampling, EvalView(data.val_view, views.num_crops), self.opener(self.lists.place(views.on)[0])
        )

    def answer_parts(
        self,
        model: nn.Module,
        source: str,
        num_answers: int,
        seconds: float | None = None,
        stride: float | None = None,
        done: int = 0,
    ) -> Iterator[Answer]:
        return answer_windows(self, model, source, num_answers, seconds, stride, done)

    def network_input(self, views: torch.Tensor) -> torch.Tensor:
        return self.color(views)  # uint8 [B, 3, T, S, S] -> float, normalized

    @property
    def normalization(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        return self.color.settings.mean, self.color.settings.std

    @property
    def views_per_forward(self) -> int:
        return self.settings.evaluation.clips_per_forward

    @property
    def protocol(self) -> str:
        views = self.settings.evaluation
        return f"{views.num_clips}x{views.num_crops}{self.list_suffix}"
