"""Writes the HTML page of a run, or of a comparison of runs."""

import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from report.charts import number, percent
from report.comparison import duels, environment_changes, line_up, score_table, setting_changes
from report.curves import draw_curves
from report.run_files import RunFiles, open_run_files
from report.sections import sections_of
from report.verdict import judge
from settings import UserError

log = logging.getLogger(__name__)

TEMPLATES = Path(__file__).parent / "templates"
PAGE = "report.html"


class PageError(UserError):
    """A page that cannot be written."""


def write_page(folders: Sequence[Path], path: Path | None = None, evaluation: str | None = None) -> Path:
    """Writes the page of the run in `folders`, or compares several -> its path.

    Args:
        folders: run directories.
        path: the page; None: report.html in the run directory, or comparison.html in the first of several.
        evaluation: the name of the evaluation to show; None: the newest; for several runs the newest that all have.

    Raises SettingsError if a folder is not a run directory or has no such evaluation, and PageError if the page cannot
    be written; an old page then stays.
    """
    runs = [open_run_files(folder) for folder in folders]
    path = path or folders[0] / (PAGE if len(runs) == 1 else "comparison.html")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "w", encoding="utf-8") as file:  # before the work, as it may fail
            file.write(render_run(runs[0], evaluation) if len(runs) == 1 else render_comparison(runs, evaluation))
        os.replace(temporary, path)
    except OSError as error:
        raise PageError(f"cannot write {path}: {error.strerror or error}; name another file with --output") from error
    finally:
        with suppress(OSError):
            temporary.unlink()
    return path


def try_to_write_page(folder: Path) -> None:
    """Writes the page of a run. A failure is only a warning: the page must not fail a run."""
    try:
        log.info("page: %s", write_page([folder]))
    except Exception as error:
        log.warning("cannot make the page of %s: %s; its files have all results", folder, error)


def render_run(run: RunFiles, evaluation_name: str | None = None) -> str:
    """The page of a run as HTML."""
    evaluation = run.find_evaluation(evaluation_name)
    return _render(
        "run.html.jinja",
        run=run,
        evaluation=evaluation,
        verdict=judge(evaluation) if evaluation else None,
        sections=list(sections_of(run, evaluation)),
    )


def render_comparison(runs: Sequence[RunFiles], evaluation_name: str | None = None) -> str:
    """The page that compares runs as HTML."""
    contestants = line_up(runs, evaluation_name)
    return _render(
        "comparison.html.jinja",
        contestants=contestants,
        scores=score_table(contestants),
        charts=draw_curves({each.letter: each.run.metrics for each in contestants}),
        settings=setting_changes(contestants),
        environment=environment_changes(contestants),
        duels=duels(contestants),
    )


def _render(template: str, **data: Any) -> str:
    jinja = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True, finalize=_printable
    )
    jinja.filters |= {"percent": percent, "number": number, "raw_file": _raw_file}
    return jinja.get_template(template).render(**data)


def _printable(value: Any) -> Any:
    """Text without what HTML cannot contain: control characters, and half-decoded bytes of file names."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in value)


def _raw_file(name: str) -> Markup:
    """A style sheet or script beside the templates, unchanged."""
    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))
