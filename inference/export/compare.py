"""How close an exported file is to the network: outputs at several batch sizes, predictions for files, seconds."""

import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from inference.export.views import FileViews

Forward = Callable[[torch.Tensor], torch.Tensor]
"""Network input [B, ...] to logits [B, classes], both float32 on the CPU."""
BATCH_SIZES = (1, 2, 5)
TOLERANCE = 1e-4
"""Largest difference of float32 logits from the network's, as a fraction of the largest absolute logit."""


@torch.inference_mode()
def max_differences(
    network: Forward, other: Forward, shape: tuple[int, ...], sizes: Sequence[int] = BATCH_SIZES
) -> dict[int, float]:
    """Batch size -> largest difference of the logits for random input, as a fraction of the largest absolute logit."""
    generator = torch.Generator().manual_seed(1)
    differences = {}
    for size in sizes:
        x = torch.randn(size, *shape, generator=generator)
        expected = network(x).double()
        difference = (other(x).double() - expected).abs().max() / expected.abs().max().clamp(min=1e-30)
        differences[size] = float(difference)
    return differences


@dataclass(frozen=True)
class Agreement:
    """Predictions of an exported file against the network's, for the same files."""

    num_files: int
    top1_agreement: float
    """Fraction of files with the same most probable class."""
    max_probability_difference: float
    """Largest difference over all files and classes."""
    mean_probability_difference: float
    """Mean over the files of each file's largest difference."""
    top1_accuracy: float | None
    """Of the exported file, over the files with a label; None if there are none."""
    network_top1_accuracy: float | None

    @property
    def num_changed(self) -> int:
        """Number of files whose most probable class differs."""
        return round((1 - self.top1_agreement) * self.num_files)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@torch.inference_mode()
def measure_agreement(
    network: Forward, others: Mapping[str, Forward], files: Iterable[FileViews], multi_label: bool
) -> dict[str, Agreement]:
    """The agreement of each of `others`; {} if there are no files. A file's views are averaged, as in evaluation."""

    def probabilities(forward: Forward, views: torch.Tensor) -> np.ndarray:
        logits = forward(views).double()
        return (logits.sigmoid() if multi_label else logits.softmax(1)).mean(0).numpy()

    expected, found, labels = [], {name: [] for name in others}, []
    for file in files:
        expected.append(probabilities(network, file.views))
        labels.append(file.label)
        for name, other in others.items():
            found[name].append(probabilities(other, file.views))
    if not expected:
        return {}
    return {name: _agreement(np.stack(expected), np.stack(rows), np.array(labels)) for name, rows in found.items()}


def _agreement(expected: np.ndarray, found: np.ndarray, labels: np.ndarray) -> Agreement:
    guesses, expected_guesses = found.argmax(1), expected.argmax(1)
    difference, known = np.abs(found - expected), labels >= 0
    return Agreement(
        num_files=len(expected),
        top1_agreement=float((guesses == expected_guesses).mean()),
        max_probability_difference=float(difference.max()),
        mean_probability_difference=float(difference.max(1).mean()),
        top1_accuracy=float((guesses == labels)[known].mean()) if known.any() else None,
        network_top1_accuracy=float((expected_guesses == labels)[known].mean()) if known.any() else None,
    )


@torch.inference_mode()
def compare_speed(
    network: Forward, others: Mapping[str, Forward], shape: tuple[int, ...], batch_size: int, repeats: int
) -> dict[str, tuple[float, float]]:
    """Name -> (median milliseconds a batch, times as fast as the network); "eager" is the network itself.

    They take turns, and a ratio compares neighbors in time. With one thread this is processor time, which other
    programs do not affect.
    """
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    x = torch.randn(batch_size, *shape, generator=torch.Generator().manual_seed(2))
    steps = {"eager": network, **others}
    seconds = {name: [] for name in steps}
    for turn in range(repeats + 1):
        for name, step in steps.items():
            start = clock()
            step(x)
            if turn:  # the first warms up
                seconds[name].append(clock() - start)
    eager = seconds["eager"]
    return {
        name: (1000 * statistics.median(own), statistics.median(a / b for a, b in zip(eager, own, strict=True)))
        for name, own in seconds.items()
    }
