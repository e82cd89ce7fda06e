"""Shows where two runs differ: recipes, environments, losses step by step, and scores.

    python tools/compare_runs.py runs/demo/glore_motion runs/demo/glore_motion-2

Exits with status 0 if they are the same and 1 if they differ. Timings are ignored.
"""

import argparse
import json
import math
import sys
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))


from engine.environment import START_ONLY, read_environments
from engine.json_io import read_json_lines
from settings import SettingsError, differences, read_recipe
from tools.common.arguments import parse_arguments
from tools.common.errors import clear_errors

TIMING = ("waiting_for_data", "_per_second")
MAX_LINES = 12


def compare(a: Path, b: Path) -> Iterator[tuple[str, list[str]]]:
    """Yields (heading, differences) for each aspect of the runs in the folders `a` and `b`.

    Raises SettingsError if one of them is not a run directory.
    """
    for folder in (a, b):
        if not (folder / "recipe.yaml").exists():
            raise SettingsError(f"{folder} is not a run directory: it has no recipe.yaml")
    recipes = (read_recipe(folder / "recipe.yaml") for folder in (a, b))
    yield "recipe", [_change(*change) for change in differences(*recipes).items() if change[0] != "run.dir"]
    yield "environment", _environments(a, b)
    rows = [_rows(folder / "metrics.jsonl") for folder in (a, b)]
    for split in sorted({split for run_rows in rows for _, split in run_rows}):
        yield f"{split} lines of metrics.jsonl", _metrics(split, *rows)
    reports = sorted({path.parent.name for folder in (a, b) for path in folder.glob("evaluations/*/summary.json")})
    for report in reports:
        ours, theirs = (_read(folder / "evaluations" / report / "summary.json") for folder in (a, b))
        yield f"evaluation {report}", [_change(*change) for change in differences(ours, theirs).items()]


def _environments(a: Path, b: Path) -> list[str]:
    ours, theirs = (read_environments(folder / "environment.json") for folder in (a, b))
    lines = []
    if len(ours) != len(theirs):
        lines.append(f"starts: {len(ours)} -> {len(theirs)}; comparing the last of each")
    last = (
        {} if not starts else {k: v for k, v in starts[-1].items() if k not in START_ONLY} for starts in (ours, theirs)
    )
    return lines + [_change(*change) for change in differences(*last).items()]


def _metrics(split: str, ours: dict, theirs: dict) -> list[str]:
    """The first step at which lines of `split` differ, and the largest difference of each value."""
    steps = [sorted(step for step, other in rows if other == split) for rows in (ours, theirs)]
    lines, largest = [], {}
    if steps[0] != steps[1]:
        unmatched = next(pair for pair in zip_longest(*steps) if pair[0] != pair[1])
        lines.append(f"steps: {len(steps[0])} -> {len(steps[1])} lines; the first without a match is at step "
                     f"{min(step for step in unmatched if step is not None)}")  # fmt: skip
    first = None
    for step in sorted(set(steps[0]) & set(steps[1])):
        changes = differences(ours[step, split], theirs[step, split])
        if changes and first is None:
            first = step
            lines += [f"first at step {step}: {_change(*change)}" for change in changes.items()]
        for key, (before, after) in changes.items():
            if isinstance(before, float) and isinstance(after, float):
                gap = abs(before - after) / max(abs(before), abs(after), 1e-12)
                largest[key] = max(largest.get(key, (0.0, 0)), (gap, step))
    lines += [f"largest: {key} by {100 * gap:.3g} % at step {step}" for key, (gap, step) in largest.items()]
    return lines


def _rows(path: Path) -> dict[tuple[int, str], dict[str, Any]]:
    """The lines of a metrics.jsonl, as (step, split) -> values."""
    rows = read_json_lines(path)
    return {(row["step"], row["split"]): _without_timing(row) for row in rows}


def _read(path: Path) -> dict[str, Any]:
    return _without_timing(json.loads(path.read_text())) if path.exists() else {}


def _without_timing(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if not key.endswith(TIMING) and key != "weights"}


def _change(key: str, pair: tuple[Any, Any]) -> str:
    before, after = pair
    if all(isinstance(value, float) and math.isfinite(value) for value in pair):
        return f"{key}: {before:.9g} -> {after:.9g}"
    return f"{key}: {before!r} -> {after!r}"


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("a", type=Path, metavar="RUN_A", help="a run directory")
    parser.add_argument("b", type=Path, metavar="RUN_B", help="another run directory")
    args = parse_arguments(parser, argv)
    try:
        changed = [(heading, lines) for heading, lines in compare(args.a, args.b) if lines]
    except (OSError, ValueError, KeyError) as error:
        raise SettingsError(f"cannot read {args.a} and {args.b}: {error}") from error
    for heading, lines in changed:
        print(f"{heading}:")
        for line in lines[:MAX_LINES]:
            print(f"  {line}")
        if len(lines) > MAX_LINES:
            print(f"  ... and {len(lines) - MAX_LINES} more")
    if changed:
        sys.exit(1)
    print("recipe, environment, every line of metrics.jsonl and every report are the same")


if __name__ == "__main__":
    clear_errors(main)
