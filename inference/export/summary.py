"""Measurements of exported files, as a text table."""

from typing import Any

HEADER = f"{'':6} {'MB':>7} {'difference':>11} {'agreement':>10} {'probability':>12} {'ms':>8} {'speed':>7}"


def summary(description: dict[str, Any]) -> str:
    """A row for each file of a description by `export_network`, and the meaning of the columns."""
    files, where = description["files"], description["measured_on"]
    rows = [f"{name:6} {_cells(facts)}".rstrip() for name, facts in files.items()]
    num_files = max((facts["agreement"]["num_files"] for facts in files.values() if "agreement" in facts), default=0)
    batch = f"batch {where['batch_size']}, {where['threads']} thread{'s' * (where['threads'] != 1)}"
    legend = [
        "difference: largest of the logits for batches of 1, 2 and 5, as a share of the largest logit",
        f"agreement, probability: same most probable class, and largest difference of any, on {num_files} files",
        f"ms, speed: {batch}, {where['processor']}; eager is PyTorch",
    ]
    return "\n".join([HEADER, *rows, *legend])


def _cells(facts: dict[str, Any]) -> str:
    differences, agreement, speed = (facts.get(name) for name in ("max_relative_difference", "agreement", "speed"))
    cells = [
        f"{facts['bytes'] / 1e6:7.1f}" if "bytes" in facts else " " * 7,
        f"{max(differences.values()):11.1e}" if differences else " " * 11,
        f"{100 * agreement['top1_agreement']:8.1f} %" if agreement else " " * 10,
        f"{agreement['max_probability_difference']:12.1e}" if agreement else " " * 12,
        f"{speed['milliseconds']:8.1f} {speed['times_as_fast_as_eager']:6.2f}x" if speed else "",
    ]
    return " ".join(cells)
