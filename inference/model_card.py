"""The model card of a shared network: README.md of the Hugging Face hub, YAML facts first and then text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from models import model_info
from pretrained import PretrainedConfig
from settings import write_yaml

NUM_LISTED = 100
"""Number of class names in the text; config.json has all."""
METRICS = {"top-1 accuracy": "accuracy", "mean average precision": "mean_average_precision"}
"""Title of a score -> its name on the hub."""


class Score(NamedTuple):
    """The result of one evaluation."""

    protocol: str
    source: str
    """The list of files that was scored."""
    numbers: Mapping[str, float]
    """Title -> fraction in 0..1."""
    coverage: str
    """How many of the files could be read, such as "163 of 163 videos"."""


@dataclass(frozen=True)
class ModelCard:
    """The facts of a card. Only a network trained with a recipe has more than the first three."""

    name: str
    config: PretrainedConfig
    license: str
    item: str = ""
    """What is classified: "video", "image"."""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    num_training_items: int | None = None
    step: str | None = None
    scores: list[Score] = field(default_factory=list)
    environment: Mapping[str, Any] = field(default_factory=dict)
    """The start of the run, from environment.json."""

    def headline(self) -> str:
        """The network and its first score, in a line."""
        score = [f"{_shown(score.numbers)} ({score.protocol}, {score.coverage})" for score in self.scores[:1]]
        return ", ".join([f"{self.config.architecture}, {self.config.num_classes} classes", *score])

    def text(self) -> str:
        """README.md."""
        lines = [f"# {self.name}", "", self._summary(), "", *self._use(), *self._scores(), *self._training()]
        lines += [*self._classes(), *self._citation()]
        return f"---\n{self._front_matter()}---\n\n" + "\n".join(lines) + "\n"

    @property
    def _shape(self) -> tuple[int | None, ...]:
        return self.config.input_shape or model_info(self.config.architecture).input_shape

    @property
    def _kind(self) -> str:
        return "video" if len(self._shape) == 4 else "image"

    def _front_matter(self) -> str:
        family = re.split("[/_]", self.config.architecture)[0]
        facts: dict[str, Any] = {"license": self.license, "library_name": "pytorch"}
        facts |= {"pipeline_tag": f"{self._kind}-classification", "tags": ["video-graph-reasoning", family]}
        metrics = sorted({_metric(title) for score in self.scores for title in score.numbers})
        if metrics:
            results = [self._result(score) for score in self.scores]
            facts |= {"metrics": metrics, "model-index": [{"name": self.name, "results": results}]}
        return write_yaml(facts)

    def _result(self, score: Score) -> dict[str, Any]:
        metrics = [
            {"type": _metric(title), "name": f"{title}, {score.protocol}", "value": round(value, 6)}
            for title, value in score.numbers.items()
        ]
        dataset = {"name": score.source, "type": score.source}
        return {"task": {"type": f"{self._kind}-classification"}, "dataset": dataset, "metrics": metrics}

    def _summary(self) -> str:
        info = model_info(self.config.architecture)
        frames = ", which sees clips frame by frame" if self.config.per_frame else ""
        what = f"`{self.config.architecture}` ({info.paper}){frames}"
        if not self.recipe:
            return f"The weights of {what}. It was saved without a run, so nothing is known of its training."
        return f"{what}, trained to tell {self.config.num_classes} classes of {self.item}s apart."

    def _use(self) -> Iterator[str]:
        axes = "B, 3, T, H, W" if len(self._shape) == 4 else "B, 3, H, W"
        yield "## Use"
        yield ""
        yield "In a clone of the suite that wrote this folder:"
        yield ""
        yield "```"
        yield "from pretrained import from_pretrained"
        yield ""
        output = f"logits [B, {self.config.num_classes}]" if self.config.num_classes else "features [B, C]"
        yield f'model = from_pretrained("{self.name}")  # float [{axes}], normalized -> {output}'
        yield "```"
        yield ""
        if self.recipe:
            file = "VIDEO" if self._kind == "video" else "IMAGE"
            yield f"`./run_local.sh tools/predict.py --checkpoint {self.name} {file}` classifies files. The weights"
            yield "carry the recipe below, and with it how to cut, scale and normalize them."
            yield ""
        sides = ("T" if side is None else str(side) for side in self._shape)
        yield f"Input: {' x '.join(sides)}" + self._normalization() + "."
        yield ""

    def _normalization(self) -> str:
        if self.config.mean is None or self.config.std is None:
            return ""
        mean, std = (", ".join(f"{value:.4g}" for value in values) for values in (self.config.mean, self.config.std))
        return f", values from 0 to 1 less the mean ({mean}), divided by ({std})"

    def _scores(self) -> Iterator[str]:
        if not self.recipe:
            return
        yield "## Scores"
        yield ""
        if not self.scores:
            yield "No report on these weights was found beside them."
            yield ""
            return
        yield f"| list | protocol | {self.item}s read | score |"
        yield "|---|---|---|---|"
        for score in self.scores:
            yield f"| {score.source} | {score.protocol} | {score.coverage} | {_shown(score.numbers)} |"
        yield ""
        if self._kind == "video":
            yield "A protocol of AxB: A clips of each video, B crops of each clip, probabilities averaged."
        yield "Measured on these lists only: check it on files of your own before you rely on it."
        yield ""

    def _training(self) -> Iterator[str]:
        if not self.recipe:
            return
        yield "## Training"
        yield ""
        count = f", {self.num_training_items:,} {self.item}s" if self.num_training_items is not None else ""
        yield f"- list: {self.recipe.get('data', {}).get('train')}{count}"
        if self.step is not None:
            yield f"- weights of step {self.step}, seed {self.recipe.get('run', {}).get('seed')}"
        packages = self.environment.get("packages") or {}
        if packages:
            versions = ", ".join(f"{name} {packages[name]}" for name in ("torch", "timm", "av") if packages.get(name))
            devices = {rank.get("device") for rank in self.environment.get("ranks", [])}
            yield f"- on {self.environment.get('num_ranks')} x {', '.join(map(str, devices))}, with {versions}"
        yield ""
        yield "<details><summary>The whole recipe</summary>"
        yield ""
        yield "```yaml"
        data = {key: value for key, value in self.recipe["data"].items() if key != "class_names"}
        yield write_yaml({**self.recipe, "data": data}).rstrip()
        yield "```"
        yield ""
        yield "</details>"
        yield ""

    def _classes(self) -> Iterator[str]:
        names = self.config.class_names
        if names is None:
            return
        yield "## Classes"
        yield ""
        more = f" and {len(names) - NUM_LISTED} more, all in config.json" if len(names) > NUM_LISTED else ""
        yield ", ".join(name.replace("_", "\\_") for name in names[:NUM_LISTED]) + more + "."
        yield ""

    def _citation(self) -> Iterator[str]:
        yield "## License and paper"
        yield ""
        yield f"License of the weights: {self.license}. Please cite: {model_info(self.config.architecture).paper}."


def _metric(title: str) -> str:
    return METRICS.get(title, title.replace(" ", "_").replace("-", "_"))


def _shown(numbers: Mapping[str, float]) -> str:
    return ", ".join(f"{100 * value:.2f} % {title}" for title, value in numbers.items())
