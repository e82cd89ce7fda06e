"""Settings that the recipes of clip and of image classification share."""

from typing import Any, Literal

from pydantic import Field

from datasets.mixing import MixSettings
from settings import Settings


class ModelSettings(Settings):
    """Which network, and the weights it starts from."""

    name: str = Field(description="a name of models.list_models(); for clips, a network for images sees each frame")
    num_classes: int | None = Field(None, gt=0, description="classes; none: as many as the training list has")
    pretrained: str | None = Field(
        None, description="weights to start from; a 3-D network also takes a 2-D ImageNet network's, which are inflated"
    )
    options: dict[str, Any] = Field(
        {}, description="further arguments of the network's builder, such as drop_path: 0.1"
    )


class MoreFiles(Settings):
    """A further training list, with the same classes."""

    train: str = Field(description="as data.train")
    root: str | None = Field(None, description="as data.root")
    split: str | None = Field(None, description="split of `train`, where one file or folder holds several")
    times: float = Field(1.0, gt=0, description="how often its files are seen for each time that data.train's are")


class DataSettings(Settings):
    """Which files, and the processes that read them."""

    CHANGEABLE = ("root", "val_root", "num_workers", "worker_start", "timeout_seconds")

    train: str = Field(description="training files: a list file, a folder with one folder per class, or see the task")
    val: str = Field(description="validation files, in the same forms")
    root: str | None = Field(None, description="folder that the paths of the lists start from; none: the list's own")
    val_root: str | None = Field(None, description="the same for the validation list, where it differs")
    class_names: str | None = Field(
        None, description="mapping table of class names (index, name); none: from the files"
    )
    more: list[MoreFiles] = Field([], description="further training lists, mixed with `train`; an epoch has all files")
    class_balance: float = Field(
        0.0,
        ge=0,
        le=1,
        description="0: classes are seen as often as they are listed; 1: all equally often; 0.5: as the square root",
    )
    weights: str | None = Field(
        None, description="table of lines `id weight`: how often training files are seen, 1 for those not in it"
    )
    repeats: int = Field(1, gt=0, description="repeated augmentation: samples in a row that are of the same file")
    mix: MixSettings = MixSettings()
    num_workers: int | None = Field(
        None, ge=0, description="reading processes per rank; none: from the number of cores"
    )
    worker_start: Literal["fork", "forkserver", "spawn"] | None = Field(
        None, description="how reading processes start; none: fork on Linux, spawn elsewhere"
    )
    timeout_seconds: float = Field(600, gt=0, description="how long a batch may take before the run stops")


def check_pairs(settings: Any) -> None:
    """Raises ValueError where samples are to be mixed in pairs, and are odd in number."""
    samples = settings.train.batch_size // settings.train.accumulation_steps
    if settings.data.mix.is_on and samples % 2:
        raise ValueError(f"data.mix takes samples in pairs, but train.batch_size shares out to {samples} at once")
