"""Settings that detection and segmentation share."""

from typing import Any

from pydantic import Field, field_validator, model_validator

from datasets.images import PixelSettings
from datasets.synthetic import SceneShapesSettings
from evaluators.non_finite import MAX_NON_FINITE
from settings import Settings
from tasks.loader_settings import LoaderSettings
from tasks.scored_list import ScoredListSettings, Share, check_lists_are_given, check_source_pattern

OTHER_PLACES = {"weights": "pretrained", "num_classes": "num_classes", "head": "head", "neck": "neck"}
OTHER_PLACES |= dict.fromkeys(("channels", "auxiliary_channels", "dropout", "norm", "head_options"), "head_options")
"""Arguments of the builders of whole networks besides the backbone's options -> the setting for each."""


class SceneModelSettings(Settings):
    """The network: a backbone, and a head on its levels."""

    CHANGEABLE = ("pretrained",)

    backbone: str = Field(
        description="a name from models.list_models(), or timm/NAME for a timm network with features_only"
    )
    options: dict[str, Any] = Field({}, description="further arguments of the backbone's builder, such as drop_path")
    head_options: dict[str, Any] = Field({}, description="further arguments of the head's builder")
    num_classes: int | None = Field(None, gt=0, le=255, description="number of classes; none: from the data")
    pretrained: str | None = Field(
        None,
        description="file of initial weights, for the backbone, such as an image classifier's, or for a whole network "
        "of this task",
    )

    @field_validator("options")
    @classmethod
    def _are_of_the_backbone(cls, options: dict[str, Any]) -> dict[str, Any]:
        for name, setting in OTHER_PLACES.items():
            if name in options:
                raise ValueError(f"{name} is not an option of the backbone's builder; set model.{setting}")
        return options


class SceneDataSettings(LoaderSettings):
    """The images, and the dataloader workers that read them."""

    # The lists may move, because checkpoints record their contents: see `Task.fingerprint`.
    CHANGEABLE = (
        *("train", "root", "class_names", "val", "val_root", "val_view", "test", "test_root", "source_pattern"),
        *LoaderSettings.CHANGEABLE,
    )

    make: SceneShapesSettings | None = Field(
        None, description="demo images to make in the folder of `train` if they do not exist"
    )
    class_names: str | tuple[str, ...] | None = Field(
        None,
        description="table of class names (lines `label name`, CSV or JSON), or the names; none: from the data",
    )
    val: str | Share = Field(
        description="validation images, in the same formats as `train`; or a fraction of the training images, such as "
        "0.1, chosen by run.seed and their paths"
    )
    val_root: str | None = Field(None, description="root of the validation images, if it differs")
    test: str | None = Field(
        None,
        description="test images, in the same formats: scored once at the end of a run, with the best and the last "
        "checkpoint; they choose nothing",
    )
    test_root: str | None = Field(None, description="root of the test images, if it differs from that of validation")
    source_pattern: str | None = Field(
        None,
        description="regular expression on the path below the root, without suffix, whose first group names the "
        "recording of an image: images of one recording are held out together",
    )
    pixels: PixelSettings = PixelSettings()

    _is_pattern = field_validator("source_pattern")(check_source_pattern)
    _lists_are_given = model_validator(mode="after")(check_lists_are_given)

    @model_validator(mode="after")
    def _sources_divide_something(self):
        if self.source_pattern and isinstance(self.val, str):
            raise ValueError("source_pattern needs a fraction of the training images as val; for example data.val=0.1")
        return self


class SceneEvaluationSettings(ScoredListSettings):
    """How images are evaluated."""

    images_per_forward: int = Field(
        1,
        gt=0,
        le=2**16,
        description="images per forward pass, per rank; several are padded to one size, which changes outputs near the "
        "borders",
    )
    max_non_finite: float = Field(
        MAX_NON_FINITE,
        ge=0,
        le=1,
        description="stop if a larger fraction of images has NaN or infinite outputs; otherwise they count as wrong",
    )
