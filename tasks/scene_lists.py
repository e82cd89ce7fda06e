"""The lists of detection and segmentation: training, validation and test images, and their classes."""

import os
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from datasets.class_table import class_names_from
from datasets.file_list import read_class_names
from datasets.held_out import held_out, share_in_words, sources_by_pattern
from datasets.synthetic.scene_shapes import make_scene_shapes
from engine.task import Task
from settings import SettingsError
from tasks.class_lists import read_setting
from tasks.named_classes import NamedClasses
from tasks.scored_list import on_test


class SceneLists(NamedClasses):
    """The part of detection and segmentation that finds the images and their classes."""

    # Implemented by subclasses.

    def read_items(self, split: str, source: str, root: str | None) -> Any:
        """The images of "train", "val" or "test" with annotations: a sequence with `class_names` and `identities()`."""
        raise NotImplementedError

    def to_learn_from(self, items: Any) -> Any:
        """The images among the training images `items` that training sees."""
        return items

    # Lists.

    @cached_property
    def _whole(self) -> Any:
        """The images of data.train."""
        self.make_demo()
        data = self.settings.data
        return self.read_items("train", data.train, data.root)

    @cached_property
    def _held(self) -> np.ndarray | None:
        """Which images of data.train are held out for validation, bool [N]; None if data.val is not a fraction."""
        data = self.settings.data
        if isinstance(data.val, str):
            return None
        names = [os.path.splitext(os.path.relpath(item.path, self._whole.root))[0] for item in self._whole]
        if data.source_pattern is not None:
            names = read_setting("data.source_pattern", sources_by_pattern, names, data.source_pattern)
        return read_setting("data.val", held_out, names, data.val, self.settings.run.seed)

    @cached_property
    def train_items(self) -> Any:
        """The training images with their annotations."""
        items = self._whole if self._held is None else self._whole.subset(np.flatnonzero(~self._held))
        return self.to_learn_from(items)

    @cached_property
    def _validation(self) -> Any:
        data = self.settings.data
        if self._held is not None:
            return self._whole.subset(np.flatnonzero(self._held))
        self.make_demo()
        return self.read_items("val", data.val, data.val_root or data.root)

    @cached_property
    def _test(self) -> Any:
        data = self.settings.data
        if data.test is None:
            raise SettingsError("evaluation.on=test needs data.test, images that choose nothing")
        self.make_demo()
        return self.read_items("test", data.test, data.test_root or data.val_root or data.root)

    @property
    def lists(self) -> dict[str, Any]:
        """The recipe's scored images, by setting: "val" and, if there are any, "test"."""
        tested = {} if self.settings.data.test is None else {"test": self._test}
        return {"val": self._validation, **tested}

    @property
    def val_items(self) -> Any:
        """The images that an evaluation scores: the validation images, or with evaluation.on=test the test images."""
        return self._test if self.settings.evaluation.on == "test" else self._validation

    @property
    def list_suffix(self) -> str:
        """The suffix of the protocol's name: "-test" for test images."""
        return "-test" * (self.settings.evaluation.on == "test")

    def test_task(self) -> Task | None:
        return None if self.settings.data.test is None else on_test(self)

    def validation_source(self) -> dict[str, str]:
        data, on = self.settings.data, self.settings.evaluation.on
        files, part = self.place()
        root = data.val_root or data.root
        places = {"list": files, "root": data.test_root or root if on == "test" else root}
        source = {name: os.path.abspath(place) for name, place in places.items() if place is not None}
        return source if part is None else {**source, "split": part}

    def place(self) -> tuple[str, str | None]:
        """(setting, part of it) that the scored images come from; the part is None if they are all of it."""
        data = self.settings.data
        if self.settings.evaluation.on == "test":
            return data.test, None
        if isinstance(data.val, str):
            return data.val, None
        return data.train, share_in_words(data.val, self.settings.run.seed)

    def root_setting(self, split: str) -> str:
        """The setting that says where the images of a split are."""
        names = {"train": ("root",), "val": ("val_root", "root"), "test": ("test_root", "val_root", "root")}[split]
        given = (name for name in names if getattr(self.settings.data, name) is not None)
        return f"data.{next(given, 'root')}"

    # Classes and demo files.

    @cached_property
    def named_classes(self) -> tuple[str, ...] | None:
        """The class names in the recipe; None if it has none."""
        given = self.settings.data.class_names
        if given is None:
            return None
        if not isinstance(given, str):
            return read_setting("data.class_names", class_names_from, given, "the names")
        self.make_demo()
        return tuple(read_setting("data.class_names", read_class_names, given, self.counted == "pixels"))

    @property
    def class_names(self) -> tuple[str, ...]:
        names = self.named_classes or self.train_items.class_names
        expected = self.settings.model.num_classes
        if expected is not None and len(names) != expected:
            raise SettingsError(
                f"model.num_classes is {expected}, but the data have {len(names)} classes; leave it out, or set "
                "data.class_names to the classes of the network"
            )
        return names

    def make_demo(self) -> None:
        """Makes the recipe's demo images on the main rank, if it has any and they do not exist."""
        make = self.settings.data.make
        if make is not None and not self._has_made:
            folder = Path(self.settings.data.train).parent
            make_set = partial(make_scene_shapes, folder, **make.model_dump())
            self.ranks.on_main(lambda: read_setting("data.make", make_set))
            self._has_made = True

    _has_made = False
