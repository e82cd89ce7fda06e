"""Clips that change in length and size while a network is trained: the long and short cycles of the multigrid schedule.

Paper: A Multigrid Method for Efficiently Training Video Models, https://arxiv.org/abs/1912.00998

Different here: the number of samples of a step stays as it is. The paper gives a step of smaller clips more of them and
a higher learning rate, so that a run has fewer steps; here a run keeps its steps, its samples and its rate, and a step
of smaller clips costs less. Sizes are multiples of `SIZE_UNIT` pixels.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from pydantic import Field

from settings import Settings

LONG_CYCLE = ((1 / 4, 1 / 2**0.5), (1 / 2, 1 / 2**0.5), (1 / 2, 1.0), (1.0, 1.0))  # shares of length and of size
SHORT_CYCLE = (1 / 2, 1 / 2**0.5, 1.0)  # shares of the size, at most that of the long cycle
SIZE_UNIT = 16  # pixels


class MultigridSettings(Settings):
    """Training clips that change in length and size from step to step; the samples of a step stay as many."""

    long_cycles: int = Field(
        3,
        gt=0,
        description="how often the run goes through clips of 1/4, 1/2, 1/2 and all of the frames at 0.7, 0.7, 1 and 1 "
        "of the size; the paper has one cycle for each level of the learning rate",
    )
    short_cycle: bool = Field(True, description="within these, steps take turns at 1/2, 0.7 and all of the size")
    final: float = Field(
        0.2, ge=0, lt=1, description="share of the run, at its end, with clips of full length and size alone"
    )


class ClipShape(NamedTuple):
    """Frames of a clip, and its side in pixels."""

    num_frames: int
    size: int


class Multigrid:
    """The shape of the training clips as a function of the step.

    Args:
        settings: how they change.
        num_frames, size: of a full clip.
        num_steps: of the whole run.
    """

    def __init__(self, settings: MultigridSettings, num_frames: int, size: int, num_steps: int):
        self.settings, self.num_steps = settings, num_steps
        self.full = ClipShape(num_frames, size)

    def at(self, step: int) -> ClipShape:
        """The shape of the clips of a step, which count from 0."""
        settings = self.settings
        num_cycled = round(self.num_steps * (1 - settings.final))
        if step >= num_cycled:
            return self.full
        num_phases = settings.long_cycles * len(LONG_CYCLE)
        length, size = LONG_CYCLE[step * num_phases // num_cycled % len(LONG_CYCLE)]
        if settings.short_cycle:
            size = min(size, SHORT_CYCLE[step % len(SHORT_CYCLE)])
        return ClipShape(max(1, round(self.full.num_frames * length)), self._rounded(size))

    def shapes(self) -> list[ClipShape]:
        """All shapes of the run, the smallest first."""
        return sorted({self.at(step) for step in range(self.num_steps)})

    def cost(self) -> float:
        """Pixels of all clips of the run, as a share of those of full clips."""
        pixels = [shape.num_frames * shape.size**2 for shape in map(self.at, range(self.num_steps))]
        return sum(pixels) / (self.num_steps * self.full.num_frames * self.full.size**2)

    def _rounded(self, share: float) -> int:
        if share == 1:
            return self.full.size
        return min(self.full.size, max(1, round(self.full.size * share / SIZE_UNIT)) * SIZE_UNIT)


class StepGrids:
    """By what sampling and view the clip of a sample is taken, as the shape of its step says: `grids(number)`.

    Args:
        shapes: of the steps.
        samples_per_step: over all processes.
        make: from a shape to the sampling and the view that take such clips.
    """

    def __init__(self, shapes: Multigrid, samples_per_step: int, make: Callable[[ClipShape], tuple[Any, Any]]):
        self.shapes, self.samples_per_step = shapes, samples_per_step
        self._grids = {shape: make(shape) for shape in shapes.shapes()}

    def __call__(self, number: int) -> tuple[Any, Any]:
        return self._grids[self.shapes.at(number // self.samples_per_step)]
