"""Draws the paths behind answers as small graphs: the head on the left, the answer on the right, one row per path."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from engine.checkpoint import write_atomically
from evaluators.confusion_plot import PLAIN_TEXT, one_line
from explain.path_report import ExplainedAnswer, score_text
from explain.paths import AnswerPath

COLORS = ("#c8501e", "#2b6cb0", "#2f855a", "#6b46c1", "#8a6d1d", "#97266d", "#4a5568")
"""Colors of the first path, the second and so on; the last one for all further paths."""
MAX_NAME = 22  # characters of an entity
MAX_RELATION = 26
LETTER = 0.085  # width of a letter, in inches; so are all sizes below
COLUMN_GAP = 0.5  # between a node's name and a relation's
ROW = 0.72
HEADER = 0.72
LINE = 0.22
MARGIN = 0.25
BEND = 0.22  # of a curved edge, as a fraction of its length


class Edge(NamedTuple):
    """A fact, drawn once, in the color of the first path that has it."""

    fact: tuple[int, int, int]
    path: int


class Layout(NamedTuple):
    """The nodes' columns and rows, and the facts between them."""

    places: dict[int, tuple[float, float]]
    """Node -> column from 0 on, row from 0 on."""
    edges: list[Edge]

    @property
    def num_columns(self) -> int:
        return round(max(column for column, _ in self.places.values())) + 1

    @property
    def num_rows(self) -> int:
        return round(max(row for _, row in self.places.values())) + 1


class Panel(NamedTuple):
    """The part of the figure that shows one answer."""

    axes: Any
    answer: ExplainedAnswer
    layout: Layout
    places: dict[int, tuple[float, float]]
    """Node -> its position in inches."""
    boxes: dict[int, Any]
    """Node -> its label."""


def lay_out(paths: Sequence[AnswerPath]) -> Layout:
    """The head in the first column, the answer in the last; a path adds its new nodes in a new row.

    A node shared by several paths is placed by the first of them, at its number of steps from the head.
    """
    most = max(len(path.edges) for path in paths)
    head, answer = paths[0].nodes[0], paths[0].nodes[-1]
    places: dict[int, tuple[float, float]] = {head: (0, 0)}
    places.setdefault(answer, (most, 0))
    edges: dict[tuple[int, int, int], Edge] = {}
    row = 0
    for number, path in enumerate(paths):
        new = [node for node in path.nodes if node not in places]
        for node in new:
            # Short paths spread over all columns.
            places[node] = (round(path.nodes.index(node) * most / len(path.edges), 2), row)
        row += bool(new) or number == 0
        for fact in path.facts:
            edges.setdefault(fact, Edge(fact, number))
    return Layout(places, list(edges.values()))


def draw_paths(answers: Sequence[ExplainedAnswer], path: Path) -> None:
    """Writes a PNG with a panel for each answer. Raises CheckpointError if it cannot be written."""
    import matplotlib  # imported here: it takes a second, and only drawing needs it
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    layouts = [lay_out(answer.found.paths) if answer.found.paths else None for answer in answers]
    columns = max((layout.num_columns for layout in layouts if layout), default=2)
    pitch = max(_pitch(answer, layout) for answer, layout in zip(answers, layouts, strict=True))
    width = 2 * MARGIN + max(pitch * (columns - 1) + MAX_NAME * LETTER, 7)
    heights = [HEADER + ROW * (layout.num_rows if layout else 1) + LINE * len(answer.found.paths) + 0.2
               for answer, layout in zip(answers, layouts, strict=True)]  # fmt: skip
    total = sum(heights) + MARGIN
    with matplotlib.rc_context({**PLAIN_TEXT, "font.size": 10}):
        figure = Figure(figsize=(width, total), dpi=120)
        FigureCanvasAgg(figure)
        top, panels = total - MARGIN / 2, []
        for answer, layout, height in zip(answers, layouts, heights, strict=True):
            axes = figure.add_axes((0, (top - height) / total, 1, height / total))
            axes.set(xlim=(0, width), ylim=(0, height))
            axes.axis("off")
            panels.append(_draw_answer(axes, answer, layout, pitch, height))
            top -= height
        figure.draw_without_rendering()  # places the boxes where the arrows end
        for panel in filter(None, panels):
            _draw_edges(panel)
        write_atomically(path, lambda temporary: figure.savefig(temporary, format="png"))


def _pitch(answer: ExplainedAnswer, layout: Layout | None) -> float:
    """Distance from the middle of a column to the next, with room for names and relations."""
    if layout is None:
        return 0
    names = [len(_entity(answer, node)) for node in layout.places]
    relations = [len(_relation(answer, edge)) for edge in layout.edges]
    return LETTER * (max(names) + max(relations)) + COLUMN_GAP


def _entity(answer: ExplainedAnswer, node: int) -> str:
    return one_line(answer.entities[node], MAX_NAME)


def _relation(answer: ExplainedAnswer, edge: Edge) -> str:
    return one_line(answer.relations[edge.fact[1]], MAX_RELATION)


def _draw_answer(
    axes: Any, answer: ExplainedAnswer, layout: Layout | None, pitch: float, height: float
) -> Panel | None:
    """Draws the question, the nodes and the scores; `_draw_edges` draws the edges, if any."""
    head, relation, tail = (one_line(name, 40) for name in answer.question)
    title = f"{head}   {relation}   {tail}"
    axes.text(MARGIN, height - 0.12, title, va="top", weight="bold", size=11)
    found = f"{one_line(answer.answer, 40)}: {100 * answer.probability:.1f} %, {score_text(answer)}"
    axes.text(MARGIN, height - 0.36, found, va="top")
    if layout is None:
        axes.text(MARGIN, height - 0.7, "no path from what is given", va="top", color="0.4")
        return None
    left = MARGIN + MAX_NAME * LETTER / 2
    places = {node: (left + column * pitch, height - HEADER - ROW * (row + 0.5))
              for node, (column, row) in layout.places.items()}  # fmt: skip
    boxes = {node: _draw_node(axes, answer, node, place) for node, place in places.items()}
    for rank, path in enumerate(answer.found.paths):
        line = f"{rank + 1}.  score {path.score_alone:.2f} with nothing else, {path.score_without:.2f} without it"
        y = LINE * (len(answer.found.paths) - rank) + 0.12
        axes.text(MARGIN, y, line, va="top", size=9, color=_color(rank))
    return Panel(axes, answer, layout, places, boxes)


def _draw_edges(panel: Panel) -> None:
    for edge in reversed(panel.layout.edges):  # the first path on top
        _draw_edge(panel, edge)


def _color(rank: int) -> str:
    return COLORS[min(rank, len(COLORS) - 1)]


def _draw_node(axes: Any, answer: ExplainedAnswer, node: int, place: tuple[float, float]) -> Any:
    is_end = node in (answer.found.head, answer.found.answer)
    style = {"boxstyle": "round,pad=0.35", "facecolor": "#fdf1e7" if is_end else "white", "edgecolor": "0.35"}
    weight = "bold" if is_end else "normal"
    return axes.text(*place, _entity(answer, node), ha="center", va="center", bbox=style, weight=weight, zorder=3)


def _draw_edge(panel: Panel, edge: Edge) -> None:
    axes, answer, layout, places, boxes = panel
    head, _, tail = edge.fact
    bend = _bend(layout, edge)
    color, width = _color(edge.path), 2.0 if edge.path == 0 else 1.2
    axes.annotate("", places[tail], places[head], zorder=2, arrowprops={
        "arrowstyle": "-|>", "color": color, "linewidth": width, "mutation_scale": 13, "shrinkA": 2, "shrinkB": 2,
        "connectionstyle": f"arc3,rad={bend}", "patchA": boxes[head].get_bbox_patch(),
        "patchB": boxes[tail].get_bbox_patch(),
    })  # fmt: skip
    style = {"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none"}
    place = _on_curve(places[head], places[tail], bend, 0.35 if bend else 0.5)  # not where a straight edge has it
    axes.text(*place, _relation(answer, edge), ha="center", va="center", size=8.5, color=color, bbox=style, zorder=4)


def _on_curve(start: tuple[float, float], end: tuple[float, float], bend: float, share: float) -> tuple[float, float]:
    """The point at a fraction of matplotlib's arc3, a quadratic curve: the control point is `bend` lengths aside."""
    (x0, y0), (x1, y1) = start, end
    control = (x0 + x1) / 2 + bend * (y1 - y0), (y0 + y1) / 2 - bend * (x1 - x0)
    a, b, c = (1 - share) ** 2, 2 * share * (1 - share), share**2
    return a * x0 + b * control[0] + c * x1, a * y0 + b * control[1] + c * y1


def _bend(layout: Layout, edge: Edge) -> float:
    """0 for a straight edge. Edges with the same ends are separated, and an edge goes around a node in its path."""
    head, _, tail = edge.fact
    ends = {head, tail}
    same = [other.fact for other in layout.edges if {other.fact[0], other.fact[2]} == ends]
    if number := same.index(edge.fact):
        bend = BEND * ((number + 1) // 2) * (-1) ** number  # alternately to both sides of the first one
        return bend if layout.places[head] < layout.places[tail] else -bend
    (x0, y0), (x1, y1) = layout.places[head], layout.places[tail]
    for node, (x, y) in layout.places.items():
        is_between = min(x0, x1) < x < max(x0, x1)
        if node not in ends and is_between and abs(y0 + (y1 - y0) * (x - x0) / (x1 - x0) - y) < 0.3:
            return BEND if x1 > x0 else -BEND
    return 0.0
