"""Predictions on your own files with a trained network, each as soon as it is made.

>>> predictor = Predictor("runs/demo/glore_motion")  # doctest: +SKIP
>>> for prediction in predictor("my_videos"):  # doctest: +SKIP
...     print(prediction.path, prediction.label, prediction.probability, prediction.failure)
"""

import io
import json
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import count
from numbers import Integral
from pathlib import Path
from typing import Any

from datasets.file_list import Given
from datasets.video.stream import is_stream
from engine.task import Answer, AnswersQuestions, Predicts, PredictsParts, Task
from inference.acceleration import AcceleratedNetwork, Choice, accelerate
from inference.prediction import Prediction
from inference.trained import check_overrides, load_trained
from settings import SettingsError

BYTES = bytes | bytearray | memoryview


class Predictor:
    """Predicts with a trained network, with the views, batches and arithmetic of `tools/evaluate.py`.

        predictor = Predictor("best.safetensors")
        for prediction in predictor(["a.mp4", "folder"]):
            print(prediction.path, prediction.guesses, prediction.failure)

    An unreadable input gives a `Prediction` with a `failure`, in its place.

    Args:
        source, overrides, config, run_dir, device, average: see `inference.load_trained`; a weight file, a run
            directory, or None for the newest run.
        top: the number of `guesses` of a prediction.
        acceleration: "off", "auto" or methods; see `inference.acceleration`. None: as in the recipe, which is off
           unless it sets `evaluation.acceleration`.

    Raises SettingsError or WeightsError if there is no such network, or its task does not predict on files.
    """

    def __init__(
        self,
        source: str | Path | None = None,
        overrides: Sequence[str] = (),
        *,
        config: str | Path | None = None,
        run_dir: str | Path | None = None,
        device: str | None = None,
        average: bool = False,
        top: int = 5,
        acceleration: str | Sequence[str] | None = None,
    ):
        if not isinstance(top, Integral) or top < 1:
            raise SettingsError(f"top is {top!r}; it must be a whole number and at least 1")
        if acceleration is not None:
            overrides = [*check_overrides(overrides), f"evaluation.acceleration={json.dumps(acceleration)}"]
        options = {"config": config, "run_dir": run_dir, "device": device, "average": average}
        self.task, model, self.weights = load_trained(source, overrides, **options)
        self.top = top
        check_predicts(type(self.task), self.task.settings.task)
        self.model = accelerate(self.task, model, self.weights, average)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes in the order of the network's outputs."""
        return self.task.class_names

    @property
    def acceleration(self) -> Choice | None:
        """How the network runs, with what was measured; None: in PyTorch's eager mode."""
        return self.model.choice if isinstance(self.model, AcceleratedNetwork) else None

    def __call__(self, inputs: Any) -> Iterator[Prediction]:
        """Predictions for `inputs` in order, each as soon as its batch is done.

        Args:
            inputs: a path; a folder, which means all files in it; an open binary file, or its bytes; frames, uint8
                [T, H, W, 3], as an array or a tensor; for networks of images an image, uint8 [H, W, 3] or Pillow's; the
                address of a stream (rtsp://..., http://...) or a camera (/dev/video0), which gives a prediction for
                each window, see `windows`; or an iterable of these.

        The inputs in a sequence are batched as in an evaluation of a list of files, so every digit is the same. Other
        iterables are read one item at a time, each when the prediction before it is done.

        Raises SettingsError if there is no such file or folder.
        """
        if _is_single(inputs):
            inputs = [inputs]
        if not isinstance(inputs, Iterable):
            raise _cannot_predict(inputs)
        named = (_named(one, number) for one, number in zip(inputs, count(1), strict=False))
        if isinstance(inputs, Sequence):
            return self._predict(list(named))
        return (prediction for one in named for prediction in self._predict([one]))

    def _predict(self, inputs: list[Any]) -> Iterator[Prediction]:
        """Looks for all files first, so that a wrong path is an error before the first prediction."""
        parts: list[Any] = []  # streams, and lists of neighboring files
        for one in inputs:
            if is_stream(one):
                parts.append(one)
            elif parts and isinstance(parts[-1], list):
                parts[-1].append(one)
            else:
                parts.append([one])
        found = [self.find_inputs(part) if isinstance(part, list) else part for part in parts]
        return self._predict_parts(found)

    def _predict_parts(self, parts: list[Any]) -> Iterator[Prediction]:
        for part in parts:
            yield from self.windows(part) if isinstance(part, str) else self.predict_found(part)

    def find_inputs(self, places: Iterable[Any]) -> Sequence[Any]:
        """The files in `places`, paths and folders, with a `path` each. Raises SettingsError if there is none."""
        try:
            return self.task.find_inputs(places)
        except (OSError, ValueError) as error:
            raise SettingsError(str(error)) from error

    def predict_found(
        self, inputs: Sequence[Any], done: Collection[int] = (), one_by_one: bool = False
    ) -> Iterator[Prediction]:
        """Predictions for what `find_inputs` found, without the rows `done`, on which no digit depends.

        `one_by_one`: each as soon as its file is read, not in batches as in an evaluation; this may change the last
        digits.
        """
        for answer in self.task.answer(self.model, inputs, len(self.class_names), done, one_by_one):
            yield self._prediction(answer)

    def windows(
        self, source: str | Path, seconds: float | None = None, stride: float | None = None, done: int = 0
    ) -> Iterator[Prediction]:
        """Predictions for sliding windows over a long video, in one decoding pass, or over a stream until it ends.

        Every window is predicted as if it were a separate video. Memory does not grow with the length. If a live
        stream comes faster than the network predicts, only the newest window is predicted and others are skipped; a
        file gives every window.

        Args:
            source: a video file, the address of a stream, or a camera.
            seconds: length of a window; None: one clip, as the recipe samples it.
            stride: from the start of a window to the start of the next, in seconds; None: half a window.
            done: number of windows to skip at the start.

        Raises:
            SettingsError: the network's task does not support windows, or the recipe fixes no length for clips.
            VideoError: the source cannot be opened.
        """
        self.check_windows(source)
        if not isinstance(source, str | os.PathLike):
            raise SettingsError(f"windows slide over a file or a stream; name it, not {type(source).__name__}")
        answers = self.task.answer_parts(self.model, str(source), len(self.class_names), seconds, stride, done)
        return map(self._prediction, answers)

    def check_windows(self, source: Any) -> None:
        """Raises SettingsError, naming the `source`, if the network's task does not support windows."""
        if not isinstance(self.task, PredictsParts):
            raise SettingsError(
                f"{source}: a timeline or stream needs a network for clips, but this one is for the task "
                f"{self.task.settings.task}"
            )

    def _prediction(self, answer: Answer) -> Prediction:
        probabilities = dict(answer.guesses)
        return Prediction(answer.path, tuple(answer.guesses[: self.top]), answer.failure, probabilities, answer.seconds)


def check_predicts(task_class: type[Task], name: str) -> None:
    """Raises SettingsError if the task `name` cannot predict."""
    if issubclass(task_class, AnswersQuestions):
        raise SettingsError(
            f"the network is for {name}: ask it about a graph with tools/predict.py --graph FACTS --ask QUESTION"
        )
    if not issubclass(task_class, Predicts):
        raise SettingsError(f"the task {name} cannot predict on your own files: it does not implement `answer`")


def _is_single(inputs: Any) -> bool:
    """Whether `inputs` is one input, and not an iterable of them."""
    return isinstance(inputs, str | os.PathLike) or _is_content(inputs)


def _is_content(one: Any) -> bool:
    """Whether it is not a path: an open file or its bytes, an array or tensor, or a Pillow image."""
    # Checked on the type: a Pillow image would be decoded by the check.
    is_array = any(hasattr(type(one), name) for name in ("__array__", "__array_interface__"))
    return is_array or hasattr(one, "read") or isinstance(one, BYTES)


def _cannot_predict(one: Any, number: int | None = None) -> SettingsError:
    which = f", input {number}" if number else ""
    return SettingsError(
        f"cannot predict on {type(one).__name__}{which}: expected a path, an open file or its bytes, an array or "
        "image, or several of these"
    )


def _named(one: Any, number: int) -> str | Given:
    """A path as text; anything else with the name that messages use."""
    if isinstance(one, str | os.PathLike):
        return os.fspath(one)
    if not _is_content(one) and not isinstance(one, Sequence):  # lists may hold frames
        raise _cannot_predict(one, number)
    if isinstance(one, BYTES):
        one = io.BytesIO(one)
    if hasattr(one, "read"):
        name = getattr(one, "name", None)
        return Given(name if isinstance(name, str) else f"file {number}", one)
    return Given(f"frames {number}", one)
