"""The settings of action recognition from skeletons."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from datasets.skeletons import SkeletonViewSettings
from datasets.synthetic.skeleton_moves import SkeletonMovesSettings
from engine.task import TaskSettings
from eurgraph.bodies import BODIES, Body, body_for
from settings import Settings
from tasks.classification_settings import ClassifierSettings, DataSettings, EvaluationSettings
from tasks.losses import LossSettings

Groups = Annotated[str, BeforeValidator(lambda value: str(value) if isinstance(value, int) else value)]


class SkeletonModelSettings(ClassifierSettings):
    """The network."""

    name: Literal["eurnet_skeleton", "stgcn"] = Field("eurnet_skeleton", description="eurnet_skeleton or stgcn")
    pretrained: str | None = Field(None, description="file of initial weights, for a network for the same body")
    options: dict[str, Any] = Field(
        {}, description="further arguments of the network's builder, such as one_relation: true"
    )


class BodySettings(Settings):
    """A custom body."""

    bones: tuple[tuple[int, int], ...] = Field(description="pairs of joints that bones connect, one fewer than joints")
    center: int = Field(0, ge=0, description="the joint that the others are relative to, such as the hip")

    @model_validator(mode="after")
    def _is_a_tree(self):
        body_for(len(self.bones) + 1, self.bones, self.center)
        return self


class SkeletonDataSettings(DataSettings):
    """Skeleton sequences. A list may also be an NPZ file, or a folder whose file names encode actions (see `names`)."""

    CHANGEABLE = (*DataSettings.CHANGEABLE, "train_split", "val_split", "test_split")

    make: SkeletonMovesSettings | None = Field(None, description="demo skeletons to make in `root`, if there are none")
    names: str | None = Field(
        None,
        description="how sequence names encode action and subject: msr_action3d, utkinect, ntu_subject, ntu_view (by "
        "camera), or a pattern with (?P<action>...) and (?P<group>...)",
    )
    val_split: Groups | None = Field(None, description="with `names`, the subjects or cameras to validate on: 2,4,6")
    test_split: Groups | None = Field(None, description="with `names`, the subjects or cameras to test on")
    train_split: Groups | None = Field(
        None,
        description="the subjects or cameras to train on: 1,3,5, or `not 2,4,6`; none: all in neither val_split nor "
        "test_split",
    )
    body: Literal["kinect", "kinect_v2", "openpose", "msr_action3d"] | BodySettings = Field(
        "kinect", description="the joints: a body by its name, or {bones: [[0, 1], ...], center: 0}"
    )
    num_people: int = Field(1, gt=0, le=100, description="people per clip: those who move the most")
    num_frames: int = Field(32, gt=0, le=10_000, description="frames per clip, evenly spaced")
    train_view: SkeletonViewSettings = SkeletonViewSettings()

    @property
    def tree(self) -> Body:
        """The body of the recipe."""
        return BODIES[self.body] if isinstance(self.body, str) else Body(self.body.bones, self.body.center)

    @model_validator(mode="before")
    @classmethod
    def _trains_on_the_others(cls, values: Any) -> Any:
        if not isinstance(values, dict) or values.get("train_split") is not None:
            return values
        scored = {name: str(values[name]) for name in ("val_split", "test_split") if values.get(name) is not None}
        if not scored:
            return values
        others, negated = ",".join(scored.values()), [name for name in scored if scored[name].startswith("not ")]
        if negated and len(scored) > 1:
            raise ValueError(f"{negated[0]}={scored[negated[0]]!r} beside another split needs train_split; set it too")
        return {**values, "train_split": others.removeprefix("not ") if negated else f"not {others}"}

    @model_validator(mode="after")
    def _mixes_no_pictures(self):
        if self.mix.is_on:
            raise ValueError("mix is for images and clips; skeletons have train_view instead: remove it")
        return self


class SkeletonEvaluationSettings(EvaluationSettings):
    """How sequences are evaluated: each once, whole."""

    clips_per_forward: int = Field(32, gt=0, le=2**20, description="sequences per forward pass, per rank")


class SkeletonActionSettings(TaskSettings):
    """A recipe for action recognition from skeletons."""

    CHANGEABLE = ("evaluation",)

    task: Literal["skeleton_action"]
    model: SkeletonModelSettings = SkeletonModelSettings()
    data: SkeletonDataSettings
    loss: LossSettings = LossSettings()
    evaluation: SkeletonEvaluationSettings = SkeletonEvaluationSettings()
