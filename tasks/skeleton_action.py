"""Action recognition from skeletons: sequences of joints, one class per sequence, cross-entropy loss.

Each sequence is centered on the hip, scaled to units of its bones, and resampled to a fixed number of frames. The whole
sequence is evaluated, once.
"""

from functools import cached_property, partial
from typing import Any

import torch
from torch import nn

from datasets.file_list import FileList
from datasets.skeletons import Skeleton, SkeletonSamples, SkeletonViews, find_skeletons, read_skeletons
from datasets.skeletons.drawing import draw_skeletons
from datasets.synthetic.skeleton_moves import make_skeleton_moves
from engine.task import Batch, Picture
from models import create_model
from settings import SettingsError
from tasks.classification import Classification
from tasks.sample_pictures import caption, first_of_each_class
from tasks.skeleton_settings import SkeletonActionSettings


class SkeletonAction(Classification):
    """Trains and evaluates a network on skeletons."""

    Settings = SkeletonActionSettings
    settings: SkeletonActionSettings
    item, view = "skeleton", "sequence"
    takes_pictures = False
    advice = """\
  ./run_local.sh tools/predict.py SKELETON  the actions in your own files
  ./run_local.sh tools/evaluate.py          the scores once more, with a report on every sequence"""
    find_inputs = staticmethod(find_skeletons)

    @cached_property
    def skeleton(self) -> Skeleton:
        data = self.settings.data
        return Skeleton(data.tree.parents, data.tree.center, data.num_people, data.num_frames)

    def read_files(self, source: str, root: str | None, names: tuple | None, split: str | None) -> FileList:
        return read_skeletons(source, root, names, split, self.settings.data.names)

    def make_demo(self, root: str, options: dict[str, Any]) -> None:
        make_skeleton_moves(root, **options)

    def build_model(self) -> nn.Module:
        data, model = self.settings.data, self.settings.model
        sizes = {"num_joints": data.tree.num_joints, "bones": data.tree.bones, "center": data.tree.center}
        if model.name == "eurnet_skeleton":
            sizes |= {"num_frames": data.num_frames, "num_people": data.num_people}
        if given := sorted(sizes.keys() & model.options.keys()):
            raise SettingsError(f"model.options.{given[0]}: data.body, data.num_frames and data.num_people decide it")
        try:
            return create_model(model.name, num_classes=self.num_classes, **sizes, **model.options)
        except (TypeError, ValueError) as error:
            raise SettingsError(f"model: {error}") from error

    def train_samples(self, stream: str) -> SkeletonSamples:
        data, seed = self.settings.data, self.settings.run.seed
        options = (seed, stream, data.repeats, self.train_weights)
        return SkeletonSamples(self.train_files, self.skeleton, data.train_view, *options)

    def eval_views(self, files: FileList) -> SkeletonViews:
        return SkeletonViews(files, self.skeleton)

    def training_input(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        return batch["skeleton"], batch["label"]

    def network_input(self, views: torch.Tensor) -> torch.Tensor:
        return views

    def training_shapes(self) -> list[tuple[str, tuple[int, ...]]]:
        return [self.validation_shape()]

    def validation_shape(self) -> tuple[str, tuple[int, ...]]:
        data = self.settings.data
        return "data.body", (data.num_people, data.num_frames, data.tree.num_joints, 3)

    def overrides_for_input(self, shape: tuple[int, ...]) -> list[str]:
        return []  # networks are built for the recipe's skeletons

    @property
    def views_per_forward(self) -> int:
        return self.settings.evaluation.clips_per_forward

    @property
    def protocol(self) -> str:
        return f"whole{self.list_suffix}"

    # engine.task.Shows, for tools/show_data.py.

    def training_pictures(self, count: int) -> list[Picture]:
        samples = self.train_samples("train")
        whole = SkeletonViews(samples.items, self.skeleton)
        pictures = []
        for number in range(min(count, len(samples))):
            sample = samples[number]
            if "error" in sample:
                raise sample["error"]
            item = samples.items[sample["index"]]
            stages = {"whole": whole.read_views(item)[0], "network input": sample["skeleton"]}
            pictures.append(self._picture(samples.items, item, stages))
        return pictures

    def validation_pictures(self, count: int) -> list[Picture]:
        views = self.eval_views(self.val_files)
        rows = first_of_each_class(self.val_files.labels)[:count]
        samples = [views[row] for row in rows]
        shown = [(views.items[sample["index"]], sample["views"][0]) for sample in samples if "views" in sample]
        return [self._picture(views.items, item, {"network input": clip}) for item, clip in shown]

    def _picture(self, files: FileList, item: Any, clips: dict[str, torch.Tensor]) -> Picture:
        draw = partial(draw_skeletons, parents=self.skeleton.parents)
        return Picture([caption(self, files, item)], {name: draw(clip) for name, clip in clips.items()})
