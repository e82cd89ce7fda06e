"""A run becomes a folder for others: the same network, and a card with what its reports say."""

import json
import re
from pathlib import Path

import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from torch import nn
from torch.optim.swa_utils import AveragedModel

from backbones import PerFrame
from inference import from_pretrained, load_trained, save_pretrained
from models import create_model, create_pyramid
from settings import SettingsError
from tools import save_pretrained as tool

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def shared(brief_run, tmp_path_factory):
    return save_pretrained(brief_run, tmp_path_factory.mktemp("shared") / "glore_motion", license="mit")


def test_the_network_and_its_preprocessing_come_back(brief_run, shared):
    clip = torch.rand(1, 3, 4, 32, 32)
    expected, trained = load_trained(brief_run, device="cpu"), load_trained(shared, device="cpu")
    with torch.inference_mode():
        logits = expected.model(clip)
        assert torch.equal(trained.model(clip), logits) and torch.equal(from_pretrained(shared)(clip), logits)
    assert trained.task.class_names == expected.task.class_names
    assert trained.task.settings.data.frame_interval == 3 and trained.task.settings.model.options == {"dropout": 0.1}


def test_the_card_is_filled_from_the_run(brief_run, shared):
    card = ModelCard.load(shared / "README.md")
    summary = json.loads((brief_run / "evaluations/1x1/summary.json").read_text())
    assert (card.data.license, card.data.pipeline_tag) == ("mit", "video-classification")
    assert card.data.tags == ["video-graph-reasoning", "glore"] and card.data.metrics == ["accuracy"]
    (result,) = card.data.eval_results
    assert (result.metric_type, result.metric_value) == ("accuracy", round(summary["top1"], 6))
    assert f"| val.txt | 1x1 | 8 of 9 videos | {100 * summary['top1']:.2f} % top-1 accuracy |" in card.text
    assert "- list: train.txt, 24 videos" in card.text and "turn\\_clockwise" in card.text
    recipe = yaml.safe_load(card.text.split("```yaml\n")[1].split("```")[0])
    assert recipe["data"]["frame_interval"] == 3 and recipe["task"] == "clip_classification"


def test_nothing_tells_of_the_machine(shared, brief_run):
    for path in shared.iterdir():
        assert str(brief_run.parent).encode() not in path.read_bytes(), path


def test_scores_of_other_weights_are_left_out(brief_run, tmp_path):
    folder = save_pretrained(brief_run / "checkpoints/last.pt", tmp_path / "last")
    card = ModelCard.load(folder / "README.md")
    assert "No report on these weights" in card.text and card.data.eval_results is None
    again = save_pretrained(folder, tmp_path / "again")
    names = [load_trained(source, device="cpu").task.class_names for source in (again, brief_run)]
    assert names[0] == names[1]


@pytest.mark.parametrize("name", ["eat_debug", "glore_resnet_debug_3d", "timm/test_resnet", "frames"])
def test_a_network_without_a_run_has_a_card_that_says_so(tmp_path, name):
    model = PerFrame(create_model("eat_debug", 3)) if name == "frames" else create_model(name, 3)
    folder = save_pretrained(model, tmp_path / "fresh")
    card = ModelCard.load(folder / "README.md")
    assert "saved without a run" in card.text and "Scores" not in card.text
    assert type(from_pretrained(folder)) is type(model)
    with pytest.raises(SettingsError, match=r"carries no recipe"):
        load_trained(folder)


@pytest.mark.parametrize(
    ("model", "shape", "task"),
    [
        (lambda: create_model("eat_debug", 3, image_size=32), [3, 32, 32], "image-classification"),
        (lambda: create_model("timm/test_vit", 3, img_size=(64, 96)), [3, 64, 96], "image-classification"),
        (lambda: PerFrame(create_model("eat_debug", 3)), [3, None, 64, 64], "video-classification"),
        (lambda: create_model("glore_resnet_debug_3d", 3), [3, 8, 64, 64], "video-classification"),
    ],
)
def test_the_card_of_a_network_without_a_run_names_its_input(tmp_path, model, shape, task):
    folder = save_pretrained(model(), tmp_path / "fresh")
    card = ModelCard.load(folder / "README.md")
    assert json.loads((folder / "config.json").read_text())["input_shape"] == shape
    sides = [side or "T" for side in shape]
    assert f"Input: {' x '.join(map(str, sides))}." in card.text and card.data.pipeline_tag == task
    x = torch.rand(1, *(side or 2 for side in shape))
    assert from_pretrained(folder)(x).shape == (1, 3)


def changed():
    model = create_model("timm/test_resnet", 3)
    model.network.fc = nn.Linear(model.num_features, 4)
    return model


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: nn.Linear(2, 2), "a Linear that models.create_model did not build"),
        (lambda: create_pyramid("eat_debug"), "builds another network as eat_debug than this EATPyramid, which is a"),
        (lambda: PerFrame(create_pyramid("timm/test_resnet")), "than this TimmPyramid"),
        (lambda: create_pyramid("glore_resnet_debug_3d", time="mean"), "than this TimeAveraged"),
        (lambda: create_pyramid("dilated_resnet50"), "than this DilatedResNet"),
        (changed, "than this TimmNetwork, which is a backbone of create_pyramid or was changed"),
        (lambda: create_model("eurnet_kg", num_relations=3), "eurnet_kg is for graphs, and only networks for images"),
        (
            lambda: create_model("timm/test_vit", norm_layer=nn.LayerNorm),
            "timm/test_vit: the option norm_layer is <cla",
        ),
        (lambda: AveragedModel(create_model("eat_debug")), "AveragedModel wraps a network; pass its .module"),
    ],
)
def test_what_a_name_does_not_build_is_refused(tmp_path, model, message):
    with pytest.raises(SettingsError, match=re.escape(message)):
        save_pretrained(model(), tmp_path)


def test_a_compiled_network_is_shared_as_it_was(tmp_path):
    model = create_model("eat_debug", 3)
    shared = from_pretrained(save_pretrained(torch.compile(model), tmp_path / "compiled"))
    assert all(torch.equal(tensor, shared.state_dict()[name]) for name, tensor in model.state_dict().items())


def test_the_tool(brief_run, tmp_path, capsys, caplog):
    folder = tmp_path / "of a tool"
    tool.main([str(brief_run), str(folder)])
    assert Path(capsys.readouterr().out.strip()) == folder
    assert from_pretrained(folder).num_classes == 8
    with pytest.raises(SettingsError, match=r"already has config\.json"):
        tool.main([str(brief_run), str(folder)])
    tool.main([str(brief_run), str(folder), "--overwrite", "--license", "cc-by-4.0"])
    assert ModelCard.load(folder / "README.md").data.license == "cc-by-4.0"
