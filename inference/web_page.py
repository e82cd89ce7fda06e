"""A local web page: drop a video or an image on it, and read what the network predicts."""

from __future__ import annotations

import os
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from inference.predictor import Predictor
from settings import SettingsError
from tasks.classification import classifies_pictures

if TYPE_CHECKING:
    import gradio
    import numpy as np

FONTS = ("system-ui", "sans-serif")
FIXED_WIDTH_FONTS = ("ui-monospace", "monospace")
"""Fonts of the reader's machine: gradio's own themes load theirs from the internet."""
MAX_FRAMES, FRAMES_PER_ROW, WHITE = 8, 4, 255
STYLE = "footer {display: none !important} #frames img {max-width: 640px; width: 100%; image-rendering: pixelated}"


def build_page(predictor: Predictor, top: int = 5) -> gradio.Blocks:
    """The page, for `serve`. It shows the `top` most probable classes and the network's input, or the error.

    Raises SettingsError if gradio is missing, or the network is not a classifier.
    """
    if not classifies_pictures(type(predictor.task)):
        raise SettingsError(
            f"the page shows what classifiers find, and this network is for {predictor.task.settings.task}; "
            "tools/predict.py --output draws what it finds"
        )
    gradio = _import_gradio()
    task, num_classes = predictor.task, len(predictor.class_names)
    weights = "/".join(predictor.weights.resolve().parts[1:][-3:])
    facts = f"`{task.settings.model.name}`, {num_classes} classes, weights `{weights}`"
    with gradio.Blocks(title=f"Classify {task.item}s", analytics_enabled=False, delete_cache=(600, 3600)) as page:
        gradio.Markdown(f"# Classify {task.item}s\n{facts}. Files stay on the machine that runs this page.")
        with gradio.Row():
            with gradio.Column():
                file = gradio.File(
                    label=f"Drop your {task.item} here, or click to choose it", type="filepath", height=220
                )
                with gradio.Column(visible=False) as seen:
                    gradio.Markdown(f"What the network saw, the first {task.view}:")
                    frames = gradio.Image(show_label=False, container=False, buttons=[], elem_id="frames")
            with gradio.Column():
                message = gradio.HTML(visible=False, elem_id="message")
                labels = gradio.Label(label="Most probable classes", num_top_classes=top)
        outputs = [message, labels, seen, frames]
        file.change(_answer(predictor, gradio), file, outputs, show_progress="full", api_name="classify")
    return page


def _answer(predictor: Predictor, gradio: Any) -> Callable[[str | None], tuple[Any, ...]]:
    """The function behind the page: path of the uploaded file -> updates of its outputs."""

    def answer(path: str | None) -> tuple[Any, ...]:
        guesses, frames, text = None, None, ""
        if path is not None:
            name = escape(Path(path).name)
            try:
                (prediction,) = predictor([path])
                failure = prediction.failure
                guesses = None if failure else dict(prediction.guesses)
                frames = None if failure else _first_view(predictor, path)
            except SettingsError as error:
                failure = str(error)
            if failure:
                text = f"<strong>{name} cannot be classified:</strong> {escape(failure.replace(path, Path(path).name))}"
        seen = gradio.update(visible=frames is not None)
        return gradio.update(value=text, visible=bool(text)), gradio.update(value=guesses), seen, frames

    return answer


def _first_view(predictor: Predictor, path: str) -> np.ndarray:
    """The first view of the file, uint8 [H, W, 3]: at most two rows of four frames, evenly spaced."""
    views = predictor.task.eval_views(predictor.find_inputs([path]))[0]["views"]  # [V, 3, T, H, W] or [V, 3, H, W]
    frames = views[0] if views.ndim == 5 else views[0][:, None]  # [3, T, H, W]
    frames = frames[:, :: -(-frames.shape[1] // MAX_FRAMES)]
    rows = [torch.cat(row.unbind(1), dim=2) for row in frames.split(FRAMES_PER_ROW, dim=1)]
    rows = [functional.pad(row, (0, rows[0].shape[2] - row.shape[2]), value=WHITE) for row in rows]
    return torch.cat(rows, dim=1).permute(1, 2, 0).numpy()


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
