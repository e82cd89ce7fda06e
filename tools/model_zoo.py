"""Writes docs/models.md: every model of the suite by name, with its size, cost, input and published number.

    python tools/model_zoo.py                   after a change to the tables of models.py, or to a recipe of a detector
    python tools/model_zoo.py -o FILE           or segmentor; about a minute

Parameters, inputs and published numbers are those of models.py. Multiply-adds are counted in a forward pass. Detectors
and segmentors are those of the recipes; their numbers are what the recipe says under Expect.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is imported: spinning threads slow the decoders

from models import AUTHORS_NAMES, MODELS, RELEASED_FILES, create_model
from settings import SettingsError, read_recipe
from tools.common.arguments import parse_arguments
from tools.common.errors import clear_errors

SUITE = Path(__file__).resolve().parent.parent
PAGE = SUITE / "docs/models.md"
HEAD = """\
# Models

Written by `python tools/model_zoo.py` from the tables in `models.py`; do not edit it by hand.

`create_model(name)` builds any of these networks with new weights; outside the clone, use
`torch.hub.load("path/to/clone", name, source="local")`. `load_weights(model, file)` reads the weight files that the
authors released; the tables give their names where the authors do. This suite offers no weights for download.

- Files with `pretrain` or `22k` before the suffix, such as `hornet_large_gf_in22k.pth`, are starting points for
  `load_pretrained`: their classifier is for other classes, or may be missing.
- The `.tar` archives hold files of MXNet, which `tools/read_mxnet.py` converts; the recipes in `configs/imagenet` have
  the commands. Networks of `glore_0-3` have units in conv4 only.

- **GMACs**: multiply-adds for one input, in billions; papers call them FLOPs.
- **published**: the authors' score, with its protocol. We have not reproduced it: we had neither the data nor the
  released weights. [fidelity.md](fidelity.md) says what was compared instead.

In addition, `timm/NAME` and `torchvision/NAME` build any classifier of these libraries, for images or for clips:
`timm/convnext_atto`, `torchvision/r3d_18`. `list_models("timm/convnext*")` lists them, and
[backbones.md](backbones.md#networks-of-timm-and-torchvision) explains how they are trained here.
"""
COLUMNS = ("name", "parameters", "GMACs", "input", "published", "authors' files", "also called")
DENSE_HEAD = """\
## Detectors and segmentors

Each row is the network of a recipe, with the score that the recipe expects. Backbones and heads combine freely, see
[dense.md](dense.md). Parameters include heads that are used only in training.
"""
DENSE_COLUMNS = ("recipe", "backbone", "head", "parameters", "to expect")
NUM_CLASSES = {"coco": 80, "ade20k": 150, "cityscapes": 19}
"""Folder of recipes -> classes of its data set."""


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=PAGE, metavar="FILE")
    args = parse_arguments(parser, argv)
    text = "".join(f"{line}\n" for line in [*lines(count_macs), "", *dense_lines(count_parameters)])
    try:
        args.output.write_text(text)
    except OSError as error:
        raise SettingsError(f"cannot write {args.output}: {error.strerror}") from error


def lines(macs_of: Callable[[str], int]) -> Iterator[str]:
    """The lines of the page: a section for each paper. `macs_of` counts a model's multiply-adds."""
    yield HEAD.rstrip()
    for paper in dict.fromkeys(info.paper for info in MODELS.values()):
        yield from ("", f"## {paper}", "", f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}")
        for name in (name for name, info in MODELS.items() if info.paper == paper):
            yield f"| {' | '.join(row(name, macs_of(name)))} |"


def count_macs(name: str) -> int:
    """Multiply-adds of one forward pass of the model `name` on one input of its own shape."""
    import torch

    from tools.benchmarks.model import count_flops

    with torch.device("meta"):
        model = create_model(name)
    return count_flops(model, MODELS[name].input_shape) // 2


def row(name: str, num_macs: int) -> tuple[str, ...]:
    """A model's cells, in the order of `COLUMNS`."""
    info = MODELS[name]
    others = [other for other, ours in AUTHORS_NAMES.items() if ours == name]
    sizes = f"{info.num_parameters / 1e6:.2f} M", in_billions(num_macs), " x ".join(map(str, info.input_shape))
    return f"`{name}`", *sizes, info.protocol, _code(RELEASED_FILES.get(name, ())), _code(others)


def dense_lines(parameters_of: Callable[[str], int]) -> Iterator[str]:
    """The lines on detectors and segmentors. `parameters_of` counts those of a recipe, `configs/coco/NAME.yaml`."""
    yield DENSE_HEAD.rstrip()
    for folder in NUM_CLASSES:
        yield from ("", f"| {' | '.join(DENSE_COLUMNS)} |", f"|{'---|' * len(DENSE_COLUMNS)}")
        for path in sorted((SUITE / "configs" / folder).glob("*.yaml")):
            name = f"configs/{folder}/{path.name}"
            yield f"| {' | '.join(dense_row(name, parameters_of(name)))} |"


def count_parameters(recipe: str) -> int:
    """Parameters of the detector or segmentor of a recipe."""
    import torch

    from engine.distributed import Ranks
    from settings import parse_settings
    from tasks import find_task

    values = read_recipe(SUITE / recipe)
    task = find_task(values, recipe)
    owner = task(parse_settings(task.Settings, values, recipe), Ranks(0, 1, torch.device("cpu")))
    with torch.device("meta"):
        model = owner.create_network(NUM_CLASSES[Path(recipe).parent.name])
    return sum(parameter.numel() for parameter in model.parameters())


def dense_row(recipe: str, num_parameters: int) -> tuple[str, ...]:
    """A recipe's cells, in the order of `DENSE_COLUMNS`."""
    model = read_recipe(SUITE / recipe)["model"]
    head = f"`{model['head']}`" + (f", `{model['neck']}`" if "neck" in model else "")
    link = f"[{Path(recipe).stem}](../{recipe})"
    return link, f"`{model['backbone']}`", head, f"{num_parameters / 1e6:.2f} M", expected(recipe)


def expected(recipe: str) -> str:
    """What a recipe says under Expect in its opening comment."""
    field, texts = "", []
    for line in (SUITE / recipe).read_text().splitlines():
        if not line.startswith("# "):
            continue
        field = line[2:12].strip() or field
        if field == "Expect":
            texts.append(line[12:].strip())
    return " ".join(texts)


def in_billions(number: int) -> str:
    return f"{number / 1e9:.{2 if number >= 1e8 else 3}f}"


def _code(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


if __name__ == "__main__":
    clear_errors(main)
