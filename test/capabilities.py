"""What a machine may lack. A test says that it needs it: `@pytest.mark.needs("gpu")`.

Where something is missing the test skips, and says why. Where it was promised, the test fails:

    TEST_CAPABILITIES="gpu ffmpeg" ./run_tests.sh
"""

import functools
import importlib
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from browser import find_chromium

PROMISES = "TEST_CAPABILITIES"
STRUCTURES = "PROTEIN_STRUCTURES"
"""The environment variable that names a folder with the structures of golden/residue_graphs.json."""


class Missing(Exception):
    """Why a capability is not there."""


def need_gpu() -> None:
    if not torch.cuda.is_available():
        raise Missing("no usable GPU")


def need_program(name: str) -> None:
    if shutil.which(name) is None:
        raise Missing(f"no program {name}")


def need_file(path: str) -> None:
    if not Path(path).exists():
        raise Missing(f"no {path}")


def need_structures() -> None:
    folder = os.environ.get(STRUCTURES)
    if folder is None:
        raise Missing(f"{STRUCTURES} names no folder")
    need_file(folder)


def need_module(name: str) -> None:
    try:
        importlib.import_module(name)
    except (ImportError, OSError, RuntimeError) as error:  # torchcodec without FFmpeg raises the last two
        raise Missing(f"{name} cannot be imported: {str(error).strip().splitlines()[0]}") from error


def need_onnx() -> None:
    for name in ("onnx", "onnxscript", "onnxruntime"):
        need_module(name)


def need_network_namespaces() -> None:
    need_program("ip")
    name = f"probe{os.getpid()}"
    try:
        for words in (["add", name], ["exec", name, "true"]):
            subprocess.run(["ip", "netns", *words], check=True, capture_output=True, text=True)
    except subprocess.CalledProcessError as error:
        raise Missing(f"no network namespaces (they need root): {error.stderr.strip()}") from error
    finally:
        subprocess.run(["ip", "netns", "delete", name], capture_output=True)


def need_chromium() -> None:
    need_module("playwright.sync_api")
    if find_chromium() is None:
        raise Missing("no Chromium")


def need_notebook() -> None:
    need_module("nbclient")
    need_module("ipykernel")


CHECKS: dict[str, Callable[[], None]] = {
    "chromium": need_chromium,
    "compiler": functools.partial(need_program, "c++"),
    "decord": functools.partial(need_module, "decord"),
    "ffmpeg": functools.partial(need_program, "ffmpeg"),
    "gpu": need_gpu,
    "gradio": functools.partial(need_module, "gradio"),
    "network_namespaces": need_network_namespaces,
    "notebook": need_notebook,
    "onnx": need_onnx,
    "openvino": functools.partial(need_module, "openvino"),
    "opencv": functools.partial(need_module, "cv2"),
    "proc": functools.partial(need_file, "/proc/self/smaps_rollup"),
    "setuptools": functools.partial(need_module, "setuptools"),
    "structures": need_structures,
    "torchcodec": functools.partial(need_module, "torchcodec.decoders"),
    "torchmetrics": functools.partial(need_module, "torchmetrics"),
}


@functools.cache
def why_missing(name: str) -> str | None:
    """Why this machine lacks the capability `name`, or None where it has it."""
    try:
        CHECKS[name]()
    except Missing as reason:
        return str(reason)
    return None


def promised() -> set[str]:
    """The capabilities that the environment promises; raises pytest.UsageError for a name that there is not."""
    names = set(os.environ.get(PROMISES, "").split())
    if unknown := sorted(names - CHECKS.keys()):
        raise pytest.UsageError(f"{PROMISES}: no capability is called {unknown[0]!r} (choices: {', '.join(CHECKS)})")
    return names


def check_needs(item: pytest.Item) -> None:
    """Skips a test whose needs are not met; fails it where they were promised."""
    for name in (name for mark in item.iter_markers("needs") for name in mark.args):
        if reason := why_missing(name):
            if name in promised():
                pytest.fail(f"{PROMISES} promises {name}, but: {reason}", pytrace=False)
            pytest.skip(reason)
