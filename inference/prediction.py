"""A trained network's prediction for an input."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Prediction:
    """The prediction for a file, for an input given instead of one, or for a window of a video or stream.

    It is falsy if there is no prediction: `if prediction: ...`.
    """

    path: str
    """The file or address; "frames 3", for example, for the third input if that was given in memory."""
    guesses: tuple[tuple[str, float], ...] = ()
    """The most probable classes and their probabilities, best first."""
    failure: str = ""
    """Why there is no prediction: the file cannot be read, or the network's outputs are NaN or infinite."""
    probabilities: dict[str, float] = field(default_factory=dict, repr=False)
    """The probability of every class, best first."""
    seconds: tuple[float, float] | None = None
    """Start and end of the window, from the start of the video or stream; None: the whole file."""

    def __bool__(self) -> bool:
        return not self.failure

    @property
    def label(self) -> str:
        """The most probable class; "" without a prediction."""
        return self.guesses[0][0] if self.guesses else ""

    @property
    def probability(self) -> float:
        """The probability of the most probable class; NaN without a prediction."""
        return self.guesses[0][1] if self.guesses else float("nan")
