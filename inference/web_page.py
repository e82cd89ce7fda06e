"""A web page for this machine: drop a video or an image on it, and read what the network takes it for."""

from __future__ import annotations

import os
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inference.predictor import Predictor
from settings import SettingsError

if TYPE_CHECKING:
    import gradio

FONTS = ("system-ui", "sans-serif")
FIXED_WIDTH_FONTS = ("ui-monospace", "monospace")
"""Of the reader's machine: gradio's own themes fetch theirs from the internet."""
STYLE = "footer {display: none !important}"


def build_page(predictor: Predictor, top: int = 5) -> gradio.Blocks:
    """The page, for `serve`. It shows the `top` most probable classes, or why a file has none.

    Raises SettingsError if gradio is missing.
    """
    gradio = _import_gradio()
    task, num_classes = predictor.task, len(predictor.class_names)
    facts = f"`{task.settings.model.name}`, {num_classes} classes, weights `{_short(predictor.weights)}`"
    with gradio.Blocks(title=f"Classify {task.item}s", analytics_enabled=False) as page:
        gradio.Markdown(f"# Classify {task.item}s\n{facts}. Files stay on the machine that runs this page.")
        with gradio.Row():
            file = gradio.File(label=f"Drop a {task.item} here, or click to choose one", type="filepath", height=220)
            with gradio.Column():
                labels = gradio.Label(label="Most probable classes", num_top_classes=top)
                message = gradio.Markdown(visible=False, elem_id="message")
        answer = _answer(predictor, gradio)
        file.change(answer, file, [labels, message], show_progress="full", api_name="classify")
    return page


def _answer(predictor: Predictor, gradio: Any) -> Callable[[str | None], tuple[Any, Any]]:
    """The function behind the page: path of the uploaded file -> the labels and the message."""

    def answer(path: str | None) -> tuple[Any, Any]:
        nothing, silent = gradio.update(value=None), gradio.update(value="", visible=False)
        if path is None:
            return nothing, silent
        try:
            (prediction,) = predictor([path])
        except SettingsError as error:
            failure = str(error)
        else:
            failure = prediction.failure
            if not failure:
                return gradio.update(value=dict(prediction.guesses)), silent
        reason = escape(failure.replace(path, Path(path).name))
        text = f"**{escape(Path(path).name)} cannot be classified:** {reason}"
        return nothing, gradio.update(value=text, visible=True)

    return answer


def serve(page: gradio.Blocks, port: int, block: bool = True) -> str:
    """Serves the page to this machine alone, and returns its address; with `block`, until Ctrl-C.

    Raises SettingsError if the port is taken.
    """
    gradio = _import_gradio()
    theme = gradio.themes.Base(font=list(FONTS), font_mono=list(FIXED_WIDTH_FONTS))
    try:
        _, address, _ = page.launch(
            server_name="127.0.0.1",
            server_port=port,
            share=False,
            ssr_mode=False,
            footer_links=[],
            css=STYLE,
            theme=theme,
            quiet=True,
            prevent_thread_lock=True,
        )
    except OSError as error:
        raise SettingsError(f"port {port} cannot be used ({error}); choose another with --port") from error
    if block:
        print(f"{address}  (Ctrl-C ends it)", flush=True)
        page.block_thread()
    return address


def _import_gradio() -> Any:
    os.environ.update(GRADIO_ANALYTICS_ENABLED="False", HF_HUB_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1")
    try:
        import gradio
    except ImportError as error:
        raise SettingsError("the web page needs gradio: pip install '.[web]' in the clone") from error
    return gradio


def _short(path: Path) -> str:
    return str(Path(*path.parts[-3:]))
