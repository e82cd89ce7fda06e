"""Writes docs/models.md: every model of the suite by name, with its size, cost, input and published number.

    python tools/model_zoo.py                   after a change to the tables of models.py; about a minute
    python tools/model_zoo.py -o FILE

Parameters, inputs and published numbers are those of models.py. Multiply-adds are counted in a forward pass.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is imported: spinning threads slow the decoders

from models import AUTHORS_NAMES, MODELS, RELEASED_FILES, create_model
from settings import SettingsError
from tools.common.arguments import parse_arguments
from tools.common.errors import clear_errors

PAGE = Path(__file__).resolve().parent.parent / "docs/models.md"
HEAD = """\
# Models

Written by `python tools/model_zoo.py` from the tables in `models.py`; do not edit it by hand.

`create_model(name)` builds each of these networks with fresh weights, and outside the clone so does
`torch.hub.load("path/to/clone", name, source="local")`. `load_weights(model, file)` reads the files of weights that the
authors released; the table gives their names where the authors' pages do. This suite offers no weights for download.

- **GMACs**: multiply-adds of one input, in billions; papers call them FLOPs.
- **published**: the authors' number, with the protocol behind it. Not measured here: we had neither the data nor the
  released weights. [fidelity.md](fidelity.md) says what was compared instead.
"""
COLUMNS = ("name", "parameters", "GMACs", "input", "published", "authors' files", "also called")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=PAGE, metavar="FILE")
    args = parse_arguments(parser, argv)
    text = "".join(f"{line}\n" for line in lines(count_macs))
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


def in_billions(number: int) -> str:
    return f"{number / 1e9:.{2 if number >= 1e8 else 3}f}"


def _code(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


if __name__ == "__main__":
    clear_errors(main)
