"""The settings of protein function prediction."""

from typing import Any, Literal

from pydantic import Field, model_validator

from datasets.proteins.graph import ResidueGraphSettings
from datasets.proteins.labels import Identity, Source
from datasets.synthetic.protein_folds import ProteinFoldsSettings
from engine.task import TaskSettings
from evaluators.non_finite import MAX_NON_FINITE
from settings import Settings
from tasks.loader_settings import LoaderSettings
from tasks.scored_list import ScoredListSettings, Share


class ProteinModelSettings(Settings):
    """The network."""

    CHANGEABLE = ("pretrained",)

    name: Literal["eurnet_protein", "gearnet"] = Field("eurnet_protein", description="eurnet_protein or gearnet")
    options: dict[str, Any] = Field({}, description="further arguments of the network's builder, such as num_layers")
    num_classes: int | None = Field(None, gt=0, description="number of labels; none: from the data")
    pretrained: str | None = Field(None, description="file of initial weights, for a network of the same sizes")


class ProteinDataSettings(LoaderSettings):
    """Structures and their labels."""

    CHANGEABLE = (
        *LoaderSettings.CHANGEABLE,
        *("train", "val", "test", "root", "annotations", "identity_table", "class_names", "max_missing"),
    )

    make: ProteinFoldsSettings | None = Field(
        None, description="demo structures to make in the folder of `train`, if there are none"
    )
    labels: Source = Field(
        "file",
        description="file: lists are tables with lines `file,label;label`; ec, go_mf, go_bp, go_cc: lists are lists of "
        "chains, with labels in DeepFRI's annotation file",
    )
    train: str = Field(description="table, or list of chains, of the training structures")
    val: str | Share = Field(
        0.2, description="list of validation structures; or a fraction of `train`, chosen by run.seed"
    )
    test: str | None = Field(None, description="list of the structures that evaluation.on=test scores")
    root: str | None = Field(None, description="folder of the structures; none: the table's folder")
    annotations: str | None = Field(None, description="DeepFRI's annotation file, for labels other than `file`")
    identity_table: str | None = Field(None, description="DeepFRI's table of test chains, for evaluation.identity")
    class_names: str | tuple[str, ...] | None = Field(
        None, description="table of labels (lines `number name`), or the names; none: from the data"
    )
    max_missing: float = Field(
        0.05, ge=0, le=1, description="stop before training if a larger fraction of the structures has no file"
    )
    graph: ResidueGraphSettings = ResidueGraphSettings()

    @model_validator(mode="after")
    def _has_annotations(self) -> "ProteinDataSettings":
        if self.labels != "file" and (self.annotations is None or self.root is None):
            raise ValueError(f"labels={self.labels} needs `annotations`, DeepFRI's file, and `root`, the structures")
        if self.labels == "file" and self.annotations is not None:
            raise ValueError("annotations are for labels=ec, go_mf, go_bp and go_cc; a table has its own labels")
        return self


class ProteinEvaluationSettings(ScoredListSettings):
    """How structures are evaluated."""

    identity: Identity | None = Field(
        None,
        description="score only test chains with less than this percent identity to every training chain, by "
        "data.identity_table; none: all",
    )
    proteins_per_forward: int = Field(8, gt=0, le=2**16, description="structures per forward pass, per rank")
    max_non_finite: float = Field(
        MAX_NON_FINITE,
        ge=0,
        le=1,
        description="stop if a larger fraction of structures has NaN or infinite outputs; otherwise nothing counts as "
        "predicted for them",
    )


class ProteinFunctionSettings(TaskSettings):
    """A recipe of protein function prediction."""

    CHANGEABLE = ("evaluation",)

    task: Literal["protein_function"]
    model: ProteinModelSettings = ProteinModelSettings()
    data: ProteinDataSettings
    evaluation: ProteinEvaluationSettings = ProteinEvaluationSettings()

    @model_validator(mode="after")
    def _can_choose(self) -> "ProteinFunctionSettings":
        if self.evaluation.identity is not None and (self.data.identity_table is None or self.evaluation.on != "test"):
            raise ValueError("evaluation.identity needs data.identity_table and evaluation.on=test")
        if self.evaluation.identity is not None and self.data.labels == "file":
            raise ValueError(
                "evaluation.identity is for lists of chains: data.labels must be ec, go_mf, go_bp or go_cc"
            )
        return self
