"""Settings shared by clip and image classification."""

from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, field_validator, model_validator

from datasets.mixing import MixSettings
from evaluators.non_finite import MAX_NON_FINITE
from models import HUB
from settings import Settings, unknown_name
from tasks.loader_settings import LoaderSettings
from tasks.scored_list import ScoredListSettings, Share, check_lists_are_given, check_source_pattern


class ClassifierSettings(Settings):
    """A network with a classifier, and its initial weights."""

    CHANGEABLE = ("pretrained", "pretrained_classes", "pretrained_average")

    name: str = Field(description="a name of models.create_model")
    num_classes: int | None = Field(
        None, gt=0, le=10_000_000, description="number of classes; none: from the training list"
    )
    pretrained: str | None = Field(None, description="file of initial weights")
    pretrained_classes: str | None = Field(
        None,
        description="file with the class in `pretrained` from whose classifier each class starts, in order: lines of "
        "numbers (.txt), or a list or tensor (.pth)",
    )
    pretrained_average: bool = Field(
        False, description="start from the moving average (model_ema) in the file `pretrained`, not from the weights"
    )
    options: dict[str, Any] = Field(
        {}, description="further arguments of the network's builder, such as drop_path: 0.1"
    )

    @model_validator(mode="after")
    def _classes_of_a_file(self):
        if self.pretrained_classes is not None and self.pretrained is None:
            raise ValueError("pretrained_classes are classes of the file `pretrained`, which is not set")
        if self.pretrained_average and self.pretrained in (None, HUB):
            raise ValueError("pretrained_average is that of the file `pretrained`, which is not set")
        return self


class ModelSettings(ClassifierSettings):
    """The network and its initial weights."""

    name: str = Field(
        description="a name from models.list_models(), timm/NAME or torchvision/NAME; for clips, image networks "
        "process each frame"
    )
    pretrained: str | None = Field(
        None,
        description="file of initial weights; 3-D networks inflate the weights of a 2-D ImageNet network; hub: "
        "download the weights that timm or torchvision offers for its network",
    )


class MoreFiles(Settings):
    """An additional training list with the same classes."""

    train: str = Field(description="like data.train")
    root: str | None = Field(None, description="like data.root")
    split: str | None = Field(None, description="split of `train`, if one file or folder has several")
    times: float = Field(
        1.0, ge=1e-6, le=1e6, description="how often its files are seen, relative to those of data.train"
    )


class DataSettings(LoaderSettings):
    """The files and the dataloader workers that read them."""

    # The lists may move, because checkpoints record their contents: see `Task.fingerprint`.
    CHANGEABLE = (
        *("train", "root", "class_names", "more", "weights", "val", "val_root", "val_view"),
        *("test", "test_root", "source_pattern"),
        *LoaderSettings.CHANGEABLE,
    )

    train: str = Field(description="training files: a list file, a folder with one folder per class, or see the task")
    val: str | Share | None = Field(
        None,
        description="validation files, in the same formats; or a fraction of the training files, such as 0.1, chosen "
        "by run.seed and their ids; none: a fold of the training files",
    )
    test: str | None = Field(
        None,
        description="test files, in the same formats: scored once at the end of a run, with the best and the last "
        "checkpoint; they choose nothing",
    )
    folds: int | None = Field(
        None,
        ge=2,
        le=1000,
        description="cross-validation: divide the training files into this many folds, stratified by class; fold "
        "`fold` is for validation, the others are for training. If `val` is a fraction, it is held out of the others, "
        "and the fold is the test list",
    )
    fold: int | None = Field(None, ge=0, description="the held-out fold, from 0")
    fold_seed: int = Field(0, ge=0, description="seed of the division into folds, whatever run.seed is")
    fold_groups: str | None = Field(
        None,
        description="table with lines `id group`, a tab after ids that hold spaces: files of one group, such as one "
        "recording, share a fold and are held out together",
    )
    source_pattern: str | None = Field(
        None,
        description="the same from ids: a regular expression whose first group names the recording, such as "
        "'(.*)_c[0-9]+$' for UCF101",
    )
    root: str | None = Field(None, description="folder that listed paths are relative to; none: the list's folder")
    val_root: str | None = Field(None, description="root of the validation list, if it differs")
    test_root: str | None = Field(None, description="root of the test list, if it differs from that of validation")
    class_names: str | tuple[str, ...] | None = Field(
        None,
        description="table of class names (lines `label name`, CSV or JSON), or the names; none: the training files'",
    )
    more: list[MoreFiles] = Field([], description="additional training lists; an epoch covers the files of all lists")
    class_balance: float = Field(
        0.0,
        ge=0,
        le=1,
        description="how often classes are seen: 0: as often as listed; 1: equally often; 0.5: by the square root",
    )
    weights: str | None = Field(
        None,
        description="table with lines `id weight`, one per file: how often training files are seen; 1 for files not in "
        "it",
    )
    repeats: int = Field(1, gt=0, description="repeated augmentation: consecutive samples from the same file")
    mix: MixSettings = MixSettings()

    @model_validator(mode="after")
    def _validates_on_a_list_or_a_fold(self):
        if self.folds is None:
            for name in ("fold", "fold_seed"):
                if getattr(self, name):
                    raise ValueError(f"{name} needs folds, the number of folds; for example data.folds=5")
            if self.val is None:
                raise ValueError(
                    "val is required: the validation files, or a fraction of the training files such as val=0.1; or "
                    "set folds=5 fold=0, for cross-validation"
                )
        elif isinstance(self.val, str):
            raise ValueError("folds takes validation files from `train`; set data.val=null, or a fraction such as 0.1")
        elif self.test is not None and self.val is not None:
            raise ValueError("with folds and a fraction as val, fold `fold` is the test list; set data.test=null")
        elif self.fold is None or self.fold >= self.folds:
            raise ValueError(
                f"fold is {self.fold}; expected 0 to {self.folds - 1}, one of the {self.folds} folds, or all of them: "
                f"./run_local.sh tools/sweep.py -c RECIPE data.fold={','.join(map(str, range(self.folds)))}"
            )
        return self

    @model_validator(mode="after")
    def _sources_divide_something(self):
        for name in ("fold_groups", "source_pattern"):
            if getattr(self, name) and self.folds is None and not isinstance(self.val, float):
                raise ValueError(
                    f"{name} needs folds, or a fraction of the training files as val; for example data.val=0.1"
                )
        if self.fold_groups and self.source_pattern:
            raise ValueError("fold_groups and source_pattern both name the sources of files; set one of them to null")
        return self

    _is_pattern = field_validator("source_pattern")(check_source_pattern)
    _lists_are_given = model_validator(mode="after")(check_lists_are_given)


AccelerationMethod = Literal[
    "openvino", "onnxruntime", "compile", "bf16", "openvino_bf16", "onnxruntime_int8", "openvino_int8"
]
"""Methods of running a trained network other than PyTorch's eager mode; see `inference.acceleration.methods`."""


def _as_methods(value: Any) -> Any:
    """YAML reads `off` as false; a single method needs no list."""
    if value is False or value in ("off", "auto"):
        return value or "off"
    names = tuple(value) if isinstance(value, list | tuple) else () if value is None else (value,)
    known = ("off", "auto", *get_args(AccelerationMethod))
    if not names:
        raise ValueError(f"name a method; choices: {', '.join(known)}")
    for name in names:
        if name not in known[2:]:
            raise ValueError(unknown_name("method", name, known))
    return names


Acceleration = Annotated[Literal["off", "auto"] | tuple[AccelerationMethod, ...], BeforeValidator(_as_methods)]


class EvaluationSettings(ScoredListSettings):
    """How files are evaluated."""

    acceleration: Acceleration = Field(
        "off",
        description="how a trained network runs on a CPU in tools/evaluate.py and in predictions: auto: in OpenVINO or "
        "another runtime if that is faster, with the same float32 arithmetic; or methods to choose from, such as "
        "[openvino, openvino_int8] (docs/acceleration.md)",
    )
    max_non_finite: float = Field(
        MAX_NON_FINITE,
        ge=0,
        le=1,
        description="stop if a larger fraction of files has NaN or infinite outputs; otherwise they count as wrong",
    )


def check_pairs(settings: Any) -> None:
    """Raises ValueError if samples are mixed in pairs but a batch has an odd number of samples."""
    samples = settings.train.batch_size // settings.train.accumulation_steps
    if settings.data.mix.is_on and samples % 2:
        raise ValueError(f"data.mix takes samples in pairs, but train.batch_size gives {samples} per pass")
