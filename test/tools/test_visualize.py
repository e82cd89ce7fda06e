"""tools/visualize.py on every family, and what it says when it cannot."""

import shutil

import av
import pytest
import safetensors.torch
import torch
from PIL import Image

from datasets.synthetic import make_image_shapes
from evaluators.confusion_plot import plot_font
from explain.page import Page
from models import create_model
from settings import SettingsError, UserError
from tools import visualize


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    folder = make_image_shapes(tmp_path_factory.mktemp("images") / "set", num_train=6, num_val=6, size=36)
    return next((folder / "val/star").iterdir())


@pytest.fixture(scope="module")
def video(motion_videos):
    return next((motion_videos / "val/right").glob("*.mp4"))


@pytest.fixture
def show(tmp_path, image, video):
    """show(model, kind, *arguments): the picture that visualize.py makes of a file with a fresh network."""

    def run(name, kind, *arguments, output="out.png", file=None, class_names=None):
        folder = image.parent.parent.parent if kind == "image" else video.parent.parent.parent
        class_names = class_names or f"{folder}/mapping_table.txt"
        view = "{size: 64}" if kind == "image" else "{short_side: 72, crop: 64}"
        frames = "" if kind == "image" else "num_frames: 8, frame_interval: 2,"
        (tmp_path / "recipe.yaml").write_text(f"""
            task: {kind}_classification
            model: {{name: {name}}}
            data:
              {{{frames} train: {folder}/train.txt, val: {folder}/val.txt, val_view: {view},
                class_names: {class_names}}}
            optimizer: {{lr: 0.1}}
            train: {{num_epochs: 1, batch_size: 4}}
            run: {{device: cpu, num_threads: 1}}
        """)
        torch.manual_seed(0)
        weights = create_model(name, num_classes=6 if kind == "image" else 8).state_dict()
        safetensors.torch.save_file(weights, tmp_path / "weights.safetensors")
        file = file or (image if kind == "image" else video)
        options = ["-c", str(tmp_path / "recipe.yaml"), "--checkpoint", str(tmp_path / "weights.safetensors")]
        visualize.main([str(file), *options, "-o", str(tmp_path / output), *arguments])
        return tmp_path / output

    return run


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    "name", ["eat_debug", *map(slow, ("eurnet_debug", "hornet_debug_gf", "glnet_debug", "glnet_debug_tklb"))]
)
def test_sheets_of_images(show, name):
    with Image.open(show(name, "image", "--class", "star")) as sheet:
        assert sheet.format == "PNG" and sheet.width == 1240 and sheet.height > 600
        assert len(sheet.convert("RGB").getcolors(2**24)) > 500


@pytest.mark.filterwarnings("error::UserWarning")
def test_class_names_that_the_font_lacks_or_that_are_long(show, image, tmp_path, monkeypatch, capsys):
    drawn = []

    def record(page, left, top, text, **style):
        page.figure.text(0, 0, text, **style)
        width = max(plot_font(style.get("size", 9) * 100 / 72).getlength(line) for line in text.split("\n"))
        drawn.append((text, 100 * left + width))

    monkeypatch.setattr(Page, "text", record)
    names = [letter * 120 for letter in "wxyz"] + ["人在跑步", "W" * 120]
    (tmp_path / "names.txt").write_text("".join(f"{label}\t{name}\n" for label, name in enumerate(names)))
    file = shutil.copy(image, tmp_path / "跑.png")
    show("eat_debug", "image", "--class", "人在跑步", file=file, class_names=tmp_path / "names.txt")
    assert any("Grad-CAM for class 4" in text for text, _ in drawn) and "人在跑步" in capsys.readouterr().err
    assert any(text.startswith("\N{REPLACEMENT CHARACTER}.png: eat_debug predicts") for text, _ in drawn)
    drawn.clear()
    show("eat_debug", "image", "--class", "W" * 120, class_names=tmp_path / "names.txt")
    assert all(right <= 1240 for text, right in drawn if "W" in text)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("glore_resnet_debug_3d", ["--layer", "conv4", "--maps", "2"]),
        slow("eurnet_debug_video", ["--stage", "2", "--patch", "3,7,1"]),
        slow("eat_debug", []),
    ],
)
def test_sheets_of_clips(show, name, options):
    with Image.open(show(name, "clip", *options)) as sheet:
        assert sheet.width == 1240 and sheet.height > 600


@pytest.mark.slow
def test_animations_have_a_picture_per_frame(show):
    with Image.open(show("hornet_debug_gf", "clip", output="a.gif")) as animation:
        assert animation.n_frames == 8 and animation.info["duration"] == 250
    path = show("resnet_debug_3d", "clip", "--fps", "10", output="folder/a.MP4")
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.average_rate == 10 and len(list(container.decode(stream))) == 8


def test_layers_are_listed(show, capsys):
    show("glore_resnet_debug_3d", "clip", "--list-layers", output="none.png")
    lines = capsys.readouterr().err.splitlines()
    assert any(line.split(maxsplit=1) == ["conv4.B01_extra.conv_proj", "32 x 4 x 4 x 4"] for line in lines)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("image", ["--class", "stars"], "no class is called 'stars'; did you mean 'star'"),
        ("image", ["--layer", "stage.3"], "no layer is called 'stage.3'; did you mean 'stages.3'"),
        ("image", ["--patch", "4,4"], "--patch 4,4: the stage has rows 0 to 3, columns 0 to 3 and frames 0 to 0"),
        ("image", ["--stage", "5"], "--stage 5: the network has stages 1 to 4"),
        ("image", ["--view", "2"], r"--view 2: the recipe has 1 view\(s\) of each image"),
    ],
)
def test_what_does_not_exist_is_named(show, kind, options, message):
    with pytest.raises(SettingsError, match=message):
        show("eurnet_debug", kind, *options)


def test_outputs_are_checked_first(show, image, tmp_path):
    with pytest.raises(SettingsError, match=r"out.jpg must end in one of .png, .gif, .mp4; did you mean '.png'"):
        show("eat_debug", "image", output="out.jpg")
    with pytest.raises(SettingsError, match=r"an image has one frame; write a \.png"):
        show("eat_debug", "image", output="out.gif")
    with pytest.raises(SettingsError, match=r"cannot write in .*/no: Not a directory; choose another one with -o"):
        (tmp_path / "no").write_text("")
        show("eat_debug", "image", output="no/out.png")
    with pytest.raises(SettingsError, match="only EurNet has such a graph"):
        show("eat_debug", "image", "--patch", "1,1")


def test_files_are_checked(show, image, tmp_path, capsys):
    (tmp_path / "broken.png").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"broken\.png"):
        show("eat_debug", "image", file=tmp_path / "broken.png")
    with pytest.raises(SettingsError, match=r"has 6 images; name one of them"):
        show("eat_debug", "image", file=image.parent.parent)
    with pytest.raises(SystemExit):
        visualize.main([str(image), str(image)])
    assert "got 2 files; visualize.py takes one video or image" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        visualize.main([str(image), "--patch", "1"])
    assert "expected ROW,COL or ROW,COL,FRAME, not '1'" in capsys.readouterr().err


def test_a_patch_is_two_or_three_numbers(capsys):
    for text in ("4", "a,b", "1,2,3,4", "-1,2"):
        with pytest.raises(SystemExit):
            visualize.main(["clip.mp4", f"--patch={text}"])
        assert f"expected ROW,COL or ROW,COL,FRAME, not {text!r}" in capsys.readouterr().err
