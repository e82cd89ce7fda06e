"""Distillation: its equations, and errors about the teacher."""

import pytest
import timm
import torch

from settings import SettingsError
from tasks.distillation import DistillationSettings, distillation_loss, load_teacher

CPU = torch.device("cpu")


def settings(**changes):
    return DistillationSettings(**{"teacher": "resnet10t", "weights": "teacher.pth"} | changes)


def test_losses_by_hand():
    torch.manual_seed(0)
    student, teacher, label_loss = torch.randn(3, 7), torch.randn(3, 7), torch.tensor(2.0)
    hard = -student.log_softmax(1)[torch.arange(3), teacher.argmax(1)].mean()
    torch.testing.assert_close(distillation_loss(label_loss, student, teacher, settings()), 1 + 0.5 * hard)
    p, q = (teacher / 4).softmax(1), (student / 4).softmax(1)
    soft = 16 * (p * (p / q).log()).sum() / 21
    chosen = settings(kind="soft", temperature=4, weight=0.25)
    torch.testing.assert_close(distillation_loss(label_loss, student, teacher, chosen), 1.5 + 0.25 * soft)
    torch.testing.assert_close(distillation_loss(label_loss, teacher, teacher, chosen), torch.tensor(1.5))


def test_a_teacher_is_loaded_from_its_file_and_frozen(tmp_path):
    original = timm.create_model("resnet10t", num_classes=6).eval()
    torch.save({"model": original.state_dict()}, tmp_path / "teacher.pth")
    chosen = settings(weights=str(tmp_path / "teacher.pth"))
    teacher = load_teacher(chosen, num_classes=6, device=CPU)
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(teacher(images), original(images))
    assert not teacher.training and not any(parameter.requires_grad for parameter in teacher.parameters())
    with pytest.raises(SettingsError, match=r"distillation\.weights: .*teacher\.pth: does not fit ResNet"):
        load_teacher(chosen, num_classes=7, device=CPU)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"teacher": "regnety_16"}, "timm has no network 'regnety_16'; did you mean 'regnety_160'"),
        ({"weights": "no/such.pth"}, r"loss\.distillation\.weights: file no/such\.pth does not exist"),
    ],
)
def test_a_bad_teacher_is_explained(changes, message):
    with pytest.raises(SettingsError, match=message):
        load_teacher(settings(**changes), num_classes=6, device=CPU)
