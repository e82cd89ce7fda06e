"""What the results of a run depend on besides its recipe: the contents of its lists and tables, as counts and digests.

A checkpoint holds the fingerprint of its run. A resumed run compares it with its own, because the lists that a recipe
names may have changed in the meantime.
"""

import hashlib
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from engine.checkpoint import CheckpointError, read_fact
from engine.distributed import Ranks
from engine.run import Run
from settings import SettingsError

log = logging.getLogger(__name__)

Part = Literal["training", "outputs", "validation"]
"""training: what the weights depend on; outputs: what the network's outputs mean; validation: what the scores depend
on."""
PARTS: tuple[Part, ...] = ("training", "outputs", "validation")


class Contents(NamedTuple):
    """The number of items and a digest of their contents."""

    count: int
    digest: str = ""

    @classmethod
    def of(cls, things: Iterable[str]) -> "Contents":
        """The contents of a list, in its order."""
        count, digest = 0, hashlib.sha256()
        for count, thing in enumerate(things, 1):  # noqa: B007
            digest.update(thing.encode("utf-8", "surrogateescape") + b"\n")
        return cls(count, digest.hexdigest()[:16])

    @classmethod
    def of_rows(cls, rows: np.ndarray) -> "Contents":
        """The contents of a table of integers [N, D], in the order of its rows."""
        return cls(len(rows), hashlib.sha256(np.ascontiguousarray(rows, "<i8")).hexdigest()[:16])


Fingerprint = Mapping[str, Mapping[str, Contents]]
"""Part -> name -> contents: {"training": {"training files": Contents(240_000, "1f0c...")}}."""


def as_plain(fingerprint: Fingerprint) -> dict[str, Any]:
    """The fingerprint as a checkpoint stores it."""
    return {part: {name: list(contents) for name, contents in names.items()} for part, names in fingerprint.items()}


def changes(saved: dict[str, Any], now: Fingerprint, part: Part) -> list[str]:
    """What differs in a part between a stored fingerprint and that of this start, in words; [] if nothing does.

    Entries that only one of them has are not compared: they come from another version of the task.
    """
    found = []
    for name, (count, digest) in now.get(part, {}).items():
        before, digest_before = saved.get(part, {}).get(name, (count, digest))
        if before != count:
            found.append(f"{name}: {before} before, {count} now")
        elif digest_before != digest:
            found.append(f"{name}: {count} as before, but different ones or in a different order")
    return found


def check_same_on_all_ranks(fingerprint: Fingerprint, ranks: Ranks) -> None:
    """Raises CheckpointError on a rank whose lists differ from those of the main rank."""
    on_main = ranks.broadcast(as_plain(fingerprint))
    found = [change for part in PARTS for change in changes(on_main, fingerprint, part)]
    if found:
        raise CheckpointError(
            f"rank {ranks.rank} reads different data from rank 0 ({'; '.join(found)}, where before is rank 0); all "
            "machines of a run need the same lists"
        )


def check_same_training(saved: dict[str, Any], fingerprint: Fingerprint, run: Run) -> None:
    """Raises SettingsError if the data that this start reads differs from the data that `run` was trained on."""
    if "fingerprint" not in saved:
        log.warning("%s has a checkpoint that does not record its data: check that it is the same", run.folder)
        return
    found = [change for part in ("training", "outputs") for change in changes(saved["fingerprint"], fingerprint, part)]
    if found:
        listed = "\n  ".join(found)
        raise SettingsError(
            f"the data of the run in {run.folder} has changed since its last checkpoint:\n  {listed}\n"
            "Restore the data to resume it, or set run.resume=false to start a new run next to it. To start that run "
            f"from the weights so far: model.pretrained={run.checkpoints.last}"
        )


def is_validation_other(saved: dict[str, Any], fingerprint: Fingerprint) -> bool:
    """Whether scores from before a restart cannot be compared with new ones. Logs a warning if so."""
    found = changes(saved.get("fingerprint", {}), fingerprint, "validation")
    if found:
        log.warning(
            "the validation data has changed since the last checkpoint (%s). Earlier scores cannot be compared with "
            "new ones, so the search for the best weights starts over",
            "; ".join(found),
        )
    return bool(found)


def warn_of_other_outputs(weights: Path, outputs: Mapping[str, Contents]) -> None:
    """Logs a warning if the network in a file was trained for other outputs, such as other classes."""
    for change in _changes_since(weights, "outputs", outputs):
        log.warning("%s was trained with different outputs: %s. Outputs are matched by index", weights, change)


def warn_of_start_from_other_outputs(weights: Path, outputs: Mapping[str, Contents]) -> None:
    """Logs a warning if the last layer that training starts from was trained for as many, but different, outputs."""
    for change in _changes_since(weights, "outputs", outputs):
        log.warning("model.pretrained: %s was trained with different outputs: %s. Its last layer is matched by index",
                    weights, change)  # fmt: skip


def warn_of_other_training(weights: Path, training: Mapping[str, Contents]) -> None:
    """Logs a warning if the weights in a file were trained with other samples held out of the training list."""
    for change in _changes_since(weights, "training", training):
        log.warning(
            "%s was trained on a different part of its list: %s. Some scored items may have been trained on; the run's "
            "own run.seed and data give a valid score",
            weights, change,
        )  # fmt: skip


def _changes_since(weights: Path, part: Part, contents: Mapping[str, Contents]) -> list[str]:
    found = read_fact(weights, "fingerprint")
    saved = found if isinstance(found, dict) else {}  # other software may use the key for anything
    return changes(saved, {part: contents}, part)
