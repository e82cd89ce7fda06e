"""Training clips whose length and size change from step to step: the long and short cycles of the multigrid schedule.

Paper: A Multigrid Method for Efficiently Training Video Models, https://arxiv.org/abs/1912.00998

Differences: every step has the same number of samples. In the paper, steps with smaller clips have more of them and a
higher learning rate, so that a run has fewer steps; here a run keeps its steps, samples and learning rate, and steps
with smaller clips cost less. Sizes are multiples of `SIZE_UNIT` pixels.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

from pydantic import Field

from settings import Settings

LONG_CYCLE = ((1 / 4, 1 / 2**0.5), (1 / 2, 1 / 2**0.5), (1 / 2, 1.0), (1.0, 1.0))  # fractions of length and size
SHORT_CYCLE = (1 / 2, 1 / 2**0.5, 1.0)  # fractions of the size, capped by that of the long cycle
SIZE_UNIT = 16  # pixels


class MultigridSettings(Settings):
    """Clips change in length and size from step to step; every step has the same number of samples."""

    long_cycles: int = Field(
        3,
        gt=0,
        le=1000,
        description="how often the run cycles through clips of 1/4, 1/2, 1/2 and 1 of the frames at 0.7, 0.7, 1 and 1 "
        "of the size; the paper has one cycle per level of the learning rate",
    )
    short_cycle: bool = Field(True, description="within these, steps alternate between 1/2, 0.7 and 1 of the size")
    final: float = Field(0.2, ge=0, lt=1, description="fraction of the run, at its end, with only full clips; 0 to 1")


class ClipShape(NamedTuple):
    """Number of frames of a clip, and its side in pixels."""

    num_frames: int
    size: int


class Multigrid:
    """The shape of the training clips as a function of the step.

    Args:
        settings: how the shape changes.
        num_frames, size: of a full clip.
        num_steps: of the whole run.
    """

    def __init__(self, settings: MultigridSettings, num_frames: int, size: int, num_steps: int):
        self.settings, self.num_steps = settings, num_steps
        self.full = ClipShape(num_frames, size)
        self._num_cycled = round(num_steps * (1 - settings.final))

    def at(self, step: int) -> ClipShape:
        """The shape of the clips of a step; steps count from 0."""
        settings, num_cycled = self.settings, self._num_cycled
        if step >= num_cycled:
            return self.full
        num_phases = settings.long_cycles * len(LONG_CYCLE)
        length, size = LONG_CYCLE[step * num_phases // num_cycled % len(LONG_CYCLE)]
        if settings.short_cycle:
            size = min(size, SHORT_CYCLE[step % len(SHORT_CYCLE)])
        return ClipShape(max(1, round(self.full.num_frames * length)), self._rounded(size))

    def shapes(self) -> list[ClipShape]:
        """All shapes of the run, smallest first."""
        return sorted(self._counts())

    def cost(self) -> float:
        """Pixels of all clips of the run, as a fraction of those with full clips."""
        pixels = sum(count * shape.num_frames * shape.size**2 for shape, count in self._counts().items())
        return pixels / (self.num_steps * self.full.num_frames * self.full.size**2)

    def _counts(self) -> Counter[ClipShape]:
        """Number of steps with each shape. Counts by phases of the long cycle, as a run may have millions of steps."""
        num_cycled, num_phases = self._num_cycled, self.settings.long_cycles * len(LONG_CYCLE)
        counts = Counter({self.full: self.num_steps - num_cycled})
        for phase in range(num_phases):
            start, end = (-(-number * num_cycled // num_phases) for number in (phase, phase + 1))
            for step in range(start, min(end, start + len(SHORT_CYCLE))):
                counts[self.at(step)] += len(range(step, end, len(SHORT_CYCLE)))
        return +counts  # without shapes that no step has

    def _rounded(self, share: float) -> int:
        if share == 1:
            return self.full.size
        return min(self.full.size, max(1, round(self.full.size * share / SIZE_UNIT)) * SIZE_UNIT)


class StepGrids:
    """`grids(number)` -> the sampling and the view for a sample, by the shape of its step.

    Args:
        shapes: the shape of each step.
        samples_per_step: over all ranks.
        make: from a shape to the sampling and the view that give such clips.
    """

    def __init__(self, shapes: Multigrid, samples_per_step: int, make: Callable[[ClipShape], tuple[Any, Any]]):
        self.shapes, self.samples_per_step = shapes, samples_per_step
        self._grids = {shape: make(shape) for shape in shapes.shapes()}

    def __call__(self, number: int) -> tuple[Any, Any]:
        return self._grids[self.shapes.at(number // self.samples_per_step)]
