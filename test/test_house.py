"""The layout of the code: imports only point down, the engine knows no classes, functions and files stay short."""

import ast
from pathlib import Path

import pytest
from conftest import ROOT

FLOORS = (
    {"settings"},
    {"datasets", "evaluators", "engine", "glore3d", "eurgraph", "backbones", "dense"},
    {
        "models",
        "model_protocol",
        "libraries",
        "weights",
        "weight_reader",
        "inert_pickle",
        "pretrained",
        "segmentors",
        "detectors",
    },
    {"tasks", "hubconf"},
    {"inference"},
    {"explain", "report"},
    {"tools"},
)
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
ALLOWED_ON_SAME_FLOOR = {
    "models": {"weights", "weight_reader", "model_protocol", "libraries"},
    "libraries": {"weight_reader"},
    "weights": {"weight_reader"},
    "weight_reader": {"inert_pickle"},
    "pretrained": {"models", "weight_reader"},
    "segmentors": {"models"},
    "detectors": {"models"},
}
SOURCES = sorted(
    path
    for path in ROOT.rglob("*.py")
    if not {".venv", "runs", "data", "build"} & set(path.relative_to(ROOT).parts) and ".egg-info" not in str(path)
)
OURS = [path for path in SOURCES if "test" not in path.relative_to(ROOT).parts]


def room_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports_of(tree: ast.AST, only_at_start: bool = False):
    """The modules that a file imports, except under TYPE_CHECKING."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif not (only_at_start and isinstance(node, ast.FunctionDef)):
            yield from imports_of(node, only_at_start)


@pytest.mark.parametrize("path", OURS, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path):
    room = room_of(path)
    allowed = {room, *ALLOWED_ON_SAME_FLOOR.get(room, ())}
    for name in imports_of(ast.parse(path.read_text())):
        other = name.split(".")[0]
        if other in FLOOR_OF and other not in allowed:
            assert FLOOR_OF[other] < FLOOR_OF[room], f"{path.relative_to(ROOT)} imports {name}"


def test_there_are_no_circular_imports():
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in OURS}
    graph = {
        name: {other for other in imports_of(ast.parse(path.read_text()), only_at_start=True) if other in modules}
        - {name}
        for name, path in modules.items()
    }
    done: set[str] = set()

    def visit(name, above):
        assert name not in above, f"circle: {' -> '.join([*above[above.index(name) :], name])}"
        if name not in done:
            for other in graph[name]:
                visit(other, [*above, name])
            done.add(name)

    for name in graph:
        visit(name, [])


WORDS_OF_TASKS = {
    *("label", "labels", "class_names", "num_classes", "top1", "top5", "accuracy", "confusion", "classification"),
    *("video", "videos", "image", "images", "clip", "clips", "evaluators", "datasets", "models"),
}


@pytest.mark.parametrize("path", sorted((ROOT / "engine").glob("*.py")), ids=lambda path: path.name)
def test_the_engine_knows_no_classes_and_no_file_formats(path):
    """No identifier and no key in engine/ mentions them: they belong to tasks, data sets and evaluators."""
    for node in ast.walk(ast.parse(path.read_text())):
        words = {
            ast.Name: lambda node: [node.id],
            ast.Attribute: lambda node: [node.attr],
            ast.arg: lambda node: [node.arg],
            ast.keyword: lambda node: [node.arg],
            ast.FunctionDef: lambda node: [node.name],
            ast.Constant: lambda node: [node.value],
            ast.ImportFrom: lambda node: [*node.module.split("."), *(alias.name for alias in node.names)],
        }.get(type(node), lambda node: [])(node)
        allowed = {"label"} if path.name == "plots.py" else set()  # the label of a curve
        assert not (WORDS_OF_TASKS - allowed) & {word for word in words if isinstance(word, str)}, ast.unparse(node)


def test_functions_classes_and_files_stay_short():
    """An exception needs a line above it with the reason: `# longer than 60 lines, because ...`."""
    too_long = []
    for path in SOURCES:
        text = path.read_text()
        rows = text.splitlines()
        if len(rows) > 450 and "longer than 450 lines" not in rows[0]:
            too_long.append(f"{path.relative_to(ROOT)}: {len(rows)} lines")
        for node in ast.walk(ast.parse(text)):
            limit = 60 if isinstance(node, ast.FunctionDef) else 300 if isinstance(node, ast.ClassDef) else None
            if limit and node.end_lineno - node.lineno + 1 > limit:
                first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
                if f"longer than {limit} lines" not in rows[first - 2]:
                    too_long.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}")
    assert too_long == []
