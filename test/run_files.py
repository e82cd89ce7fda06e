"""Reads what a run has written, for tests that compare runs."""

import json
from pathlib import Path
from typing import Any

import torch


def lines(run: Path, split: str | None = "train") -> list[dict[str, Any]]:
    """The lines of a run's metrics, without what depends on the machine's speed; split None: of all splits."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [
        {name: value for name, value in row.items() if "per_second" not in name and name != "waiting_for_data"}
        for row in rows
        if split in (None, row["split"])
    ]


def losses(run: Path, split: str = "train") -> list[float]:
    return [line["loss"] for line in lines(run, split)]


def weights(run: Path, which: str = "model") -> dict[str, torch.Tensor]:
    """The weights of a run's last checkpoint; `which` may be "model_ema"."""
    return torch.load(run / "checkpoints/last.pt", weights_only=True)[which]
