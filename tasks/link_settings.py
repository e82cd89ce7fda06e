"""The settings of link prediction."""

from typing import Any, Literal

from pydantic import Field

from datasets.graphs.splits import Protocol
from datasets.synthetic.families import FamiliesSettings
from engine.task import TaskSettings
from evaluators.non_finite import MAX_NON_FINITE
from settings import Settings
from tasks.scored_list import ScoredListSettings, Share


class ReasonerSettings(Settings):
    """The network."""

    CHANGEABLE = ("pretrained",)

    name: str = Field("eurnet_kg", description="eurnet_kg or nbfnet, of models.GRAPH_MODELS")
    options: dict[str, Any] = Field({}, description="further arguments of the network's builder, such as num_layers")
    pretrained: str | None = Field(None, description="file of initial weights, of a network with the same relations")


class TripleDataSettings(Settings):
    """The facts. Questions are held out of them or come from their own files."""

    CHANGEABLE = ("train", "val", "test", "relations")

    make: FamiliesSettings | None = Field(
        None, description="demo facts to make in the folder of `train`, if there are none"
    )
    train: str = Field(
        description="file of facts with lines `head<TAB>relation<TAB>tail`, also CSV or gzip; or a folder with "
        "train.txt, valid.txt and test.txt"
    )
    val: str | Share | None = Field(
        None,
        description="file of facts to ask for; or a fraction of those of `train`; none: the folder's valid.txt, or 0.1",
    )
    test: str | None = Field(
        None,
        description="file of facts to ask for at the end; or the folder of another graph with the same relations, as "
        "in GraIL's pairs NAME and NAME_ind; none: the folder's test.txt, if it has one",
    )
    columns: tuple[str, str, str] | None = Field(
        None,
        description="names of the head, relation and tail columns in files with a header; none: the first three",
    )
    header: bool = Field(False, description="whether files have a header")
    relations: str | tuple[str, ...] | None = Field(
        None, description="file with one relation name per line, or the names; none: those of `train`"
    )


class LinkLossSettings(Settings):
    """The training objective."""

    name: Literal["softmax", "negatives"] = Field(
        "softmax",
        description="softmax: cross entropy over all entities; negatives: binary cross entropy of the answer and of "
        "randomly sampled entities, as in NBFNet",
    )
    remove: Literal["triple", "pair"] = Field(
        "triple",
        description="what to remove from the graph before a batch is asked: the asked facts and their inverses; or "
        "all edges between a head and its answer, as NBFNet does on FB15k-237",
    )
    path_decay: float = Field(
        0,
        ge=0,
        description="weight of half the mean square of the path scores. A softmax ignores a constant offset: without "
        "this term scores drift far below 0, except those of nodes unlike any in training, which then rank first on "
        "another graph",
    )
    num_negatives: int = Field(32, gt=0, le=100_000, description="negatives: entities sampled for each question")
    temperature: float = Field(
        0.5, gt=0, description="negatives: temperature of the weights of sampled entities; high scores count more"
    )


class LinkEvaluationSettings(ScoredListSettings):
    """How questions are evaluated."""

    protocol: Protocol = Field(
        "ind_test",
        description="for a test on another graph. ind_test: test.txt is asked, train.txt and test.txt are known; "
        "ind_valid_test: valid.txt and test.txt are asked, all is known; facts: test.txt is asked, only train.txt is "
        "known",
    )
    questions_per_forward: int = Field(16, gt=0, le=2**16, description="questions per forward pass, per rank")
    max_non_finite: float = Field(
        MAX_NON_FINITE,
        ge=0,
        le=1,
        description="stop if a larger fraction of questions has NaN or infinite outputs; otherwise they count as wrong",
    )


class LinkPredictionSettings(TaskSettings):
    """A recipe of link prediction."""

    CHANGEABLE = ("evaluation",)

    task: Literal["link_prediction"]
    model: ReasonerSettings = ReasonerSettings()
    data: TripleDataSettings
    loss: LinkLossSettings = LinkLossSettings()
    evaluation: LinkEvaluationSettings = LinkEvaluationSettings()
