"""EAT against the authors' numbers; its curves, local operators and readouts; files of weights in every form."""

import re

import pytest
import torch
import torch.nn.functional as F
from golden_networks import check_entries, check_numbers
from golden_weights import read_golden, state_dict_for

from backbones import eat
from backbones.curves import CURVES
from backbones.eat import EAT, LocalBlock, eat_debug
from backbones.token_mixing import BandedAttention, DeformableConv, TokenConv
from models import AUTHORS_NAMES, WeightsError, create_model, load_pretrained, load_weights

NAMES = ["eat_tiny", "eat_small", "eat_medium", "eat_base", "eat_tiny_384", "eat_small_384"]


def save(content, path):
    torch.save(content, path)
    return path


def shake(model):
    """Far from its start, so that every part counts."""
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


@pytest.mark.parametrize("name", [NAMES[0], *(pytest.param(name, marks=pytest.mark.slow) for name in NAMES[1:])])
def test_entries_and_operations_equal_the_authors(name):
    check_entries(name, getattr(eat, name))


def test_tiny_network_equals_the_authors():
    check_numbers("eat_tiny", eat.eat_tiny, with_gradients=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_gradients_equal_the_authors(name):
    check_numbers(name, getattr(eat, name), with_gradients=True)


@pytest.mark.parametrize(
    "options",
    [{"curve": curve, "curve_level": "pixel"} for curve in CURVES]
    + [{"curve": curve, "curve_level": "token"} for curve in CURVES if curve != "sis"]
    + [{"local": local, "kernel_size": 5} for local in eat.LOCAL_OPERATORS]
    + [{"readout": readout} for readout in eat.READOUTS]
    + [{"local": "attention", "readout": "class_token"}, {"local_ratio": 0.25, "drop_path": 0.3}],
)
def test_every_option_learns(options):
    model = eat_debug(num_classes=5, image_size=32, depth=2, **options)
    logits = model(torch.randn(2, 3, 32, 32))
    assert logits.shape == (2, 5)
    logits.square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert model.eval().forward_features(torch.randn(1, 3, 32, 32)).shape[1:] == model.pos_embed.shape[1:]


def test_pieces_of_sweep_in_sweep_are_patches():
    pixels = shake(eat_debug(num_classes=5))
    patches = eat_debug(num_classes=5, curve="sweep", curve_level="token").eval()
    weights = pixels.state_dict()
    weights["patch_embed.weight"] = weights["patch_embed.weight"].unflatten(2, (8, 8))
    weights |= {name: order for name, order in patches.state_dict().items() if name.startswith("loc_encoder.")}
    patches.load_state_dict(weights)
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(pixels(images), patches(images))


@pytest.mark.parametrize("name", CURVES)
def test_tokens_go_back_to_their_places(name):
    curve = eat.SpaceFillingCurve(name, 8, 2)
    tokens = torch.randn(2, 64, 3)
    assert torch.equal(curve.inverse(curve(tokens, dim=1), dim=1), tokens)
    assert torch.equal(curve(tokens.mT, dim=2), curve(tokens, dim=1).mT)
    assert torch.equal(curve(tokens, dim=1), tokens[:, curve.index_flat.flatten()])


def test_token_conv_is_a_convolution_and_keeps_tokens_as_rows():
    conv, tokens = TokenConv(6, 5), torch.randn(2, 9, 6)
    out = conv(tokens)
    torch.testing.assert_close(out, F.conv1d(tokens.mT, conv.weight, conv.bias, padding=2).mT)
    assert out.is_contiguous()


@pytest.mark.parametrize("kernel_size", [1, 3, 7, 41])
def test_banded_attention_is_attention_under_a_mask(kernel_size):
    banded = shake(BandedAttention(8, num_heads=2, kernel_size=kernel_size))
    tokens = torch.randn(2, 12, 8)
    q, k, v = banded.qkv(tokens).unflatten(2, (3, 2, 4)).permute(2, 0, 3, 1, 4)
    place = torch.arange(12)
    band = (place[:, None] - place).abs() <= kernel_size // 2
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=band).transpose(1, 2).flatten(2)
    torch.testing.assert_close(banded(tokens), banded.proj(expected))


def test_deformable_convolution_starts_straight_and_follows_its_offsets():
    deformable, tokens = DeformableConv(4, 3), torch.randn(2, 9, 4)
    weight = deformable.weight.squeeze(3)
    torch.testing.assert_close(deformable(tokens), F.conv1d(tokens.mT, weight / 2, padding=1).mT)
    with torch.no_grad():  # for each of 2 groups and 3 places a pair: along the sequence, and across, where nothing is
        deformable.conv_offset_mask.bias[:12:2] = 1.0
        deformable.conv_offset_mask.bias[12:] = 100.0
    later = F.pad(tokens[:, 1:], (0, 0, 0, 1))
    out = deformable(tokens)
    torch.testing.assert_close(out[:, 1:], F.conv1d(later.mT, weight, padding=1).mT[:, 1:])


def test_near_half_sees_neighbors_only_and_far_half_sees_all():
    block = shake(LocalBlock(16, 8, 2, eat._local_operator("conv", 8, 2, 3)))
    block.mlp = torch.nn.Identity()
    block.norm2 = torch.nn.Identity()
    tokens = torch.randn(1, 10, 16, requires_grad=True)
    out = block(tokens)[0]
    (near,) = torch.autograd.grad(out[4, 8:].sum(), tokens, retain_graph=True)
    (far,) = torch.autograd.grad(out[4, :8].sum(), tokens)
    assert near[0].abs().sum(1).nonzero().flatten().tolist() == [3, 4, 5]
    assert far[0].abs().sum(1).count_nonzero() == 10


def test_distilled_networks_have_two_independent_queries():
    torch.manual_seed(0)
    model = shake(eat_debug(num_classes=5, distilled=True))
    plain = eat_debug(num_classes=5).eval()
    weights = model.state_dict()
    images = torch.randn(2, 3, 64, 64)
    logits, teacher_logits = model.train()(images)
    plain.load_state_dict({name: weights[name] for name in plain.state_dict()})
    torch.testing.assert_close(plain(images), logits)
    plain.load_state_dict(
        {"cls_token": weights["dist_token"], "head.weight": weights["head_dist.weight"]}
        | {"head.bias": weights["head_dist.bias"]},
        strict=False,
    )
    torch.testing.assert_close(plain(images), teacher_logits)
    torch.testing.assert_close(model.eval()(images), (logits + teacher_logits) / 2)
    model.reset_classifier(3)
    assert model(images).shape == (2, 3)


@pytest.mark.parametrize("layout", ["own", "two rows", "shared classifier"])
def test_files_of_distilled_networks_in_every_likely_form(tmp_path, layout):
    model = shake(create_model("eat_debug", num_classes=5, distilled=True))
    weights = dict(model.state_dict())
    if layout == "two rows":
        weights["cls_token"] = torch.cat([weights["cls_token"], weights.pop("dist_token")], dim=1)
    if layout == "shared classifier":
        for entry in ("weight", "bias"):
            weights[f"head.{entry}"].copy_(weights.pop(f"head_dist.{entry}"))
    loaded = create_model("eat_debug", num_classes=5, distilled=True).eval()
    assert load_weights(loaded, save({"model": weights}, tmp_path / "dist.pth")).misfits() == []
    images = torch.randn(1, 3, 64, 64)
    assert torch.equal(loaded(images), model(images))


def test_errors_for_files_of_distilled_networks(tmp_path):
    weights = create_model("eat_debug", num_classes=5, distilled=True).state_dict()
    path = save(weights | {"blocks_dist.0.norm1.weight": torch.ones(64)}, tmp_path / "own_blocks.pth")
    with pytest.raises(WeightsError, match=r"1 not in the model: blocks_dist\.0\.norm1\.weight"):
        load_weights(create_model("eat_debug", num_classes=5, distilled=True), path)
    path = save(create_model("eat_tiny_dist", num_classes=5).state_dict(), tmp_path / "dist.pth")
    with pytest.raises(WeightsError, match="Try: eat_tiny_dist, which the file fits"):
        load_weights(create_model("eat_tiny", num_classes=5), path)


@pytest.mark.parametrize(("with_order", "prefix"), [(True, "module."), (False, "")])
def test_authors_files_load(tmp_path, with_order, prefix):
    golden = read_golden("eat_tiny")
    weights = state_dict_for(golden["state_dict"], skip=golden["fixed"])
    model = create_model("eat_progress3_patch16_224")
    if with_order:
        weights |= {name: model.state_dict()[name] for name in golden["fixed"]}
    content = {"model": {prefix + name: tensor for name, tensor in weights.items()}, "epoch": 299}
    assert len(load_weights(model, save(content, tmp_path / "EAT-Ti.pth")).loaded) == 254
    assert torch.equal(model.head.weight, weights["head.weight"])


def test_masks_of_banded_attention_are_not_needed(tmp_path):
    model = create_model("eat_debug", local="attention")
    masks = {f"blocks.{i}.local.local.mask": torch.ones(1, 1, 64, 64) for i in range(4)}
    assert load_weights(model, save(model.state_dict() | masks, tmp_path / "banded.pth")).misfits() == []


def test_files_along_another_curve_are_refused(tmp_path):
    path = save(create_model("eat_debug", curve="hilbert").state_dict(), tmp_path / "hilbert.pth")
    message = "eat_debug: its sequence follows a curve other than sis: build the network with curve=hilbert"
    with pytest.raises(WeightsError, match=message):
        load_weights(create_model("eat_debug"), path)
    weights = create_model("eat_debug").state_dict()
    weights["loc_encoder.index_flat"] = weights["loc_encoder.index_flat"].flip(1)
    with pytest.raises(WeightsError, match="a curve other than sis, and none of this suite's"):
        load_weights(create_model("eat_debug"), save(weights, tmp_path / "odd.pth"))


@pytest.mark.parametrize("readout", ["class_attention", "class_token"])
@pytest.mark.parametrize(("curve", "level"), [("sis", "pixel"), ("hilbert", "pixel"), ("scan", "token")])
def test_fine_tuning_on_larger_images_resizes_positions(tmp_path, curve, level, readout):
    options = {"curve": curve, "curve_level": level, "readout": readout}
    small = create_model("eat_debug", num_classes=5, **options)
    large = create_model("eat_debug", num_classes=5, image_size=128, **options)
    with torch.no_grad():  # positions that tell their row and column
        rows_columns = torch.stack(torch.meshgrid(*[torch.linspace(-1, 1, 8)] * 2, indexing="ij"))
        along = "sweep" if curve == "sis" else curve
        small.pos_embed[:, -64:, :2] = eat.SpaceFillingCurve(along, 8)(rows_columns.flatten(1)[None], dim=2).mT
    path = save(small.state_dict(), tmp_path / "small.pth")
    assert load_pretrained(large, path).misfits() == []
    positions = large.pos_embed[:, -256:, :2].mT
    rows, columns = eat.SpaceFillingCurve(along, 16).inverse(positions, dim=2).detach().unflatten(2, (16, 16))[0]
    torch.testing.assert_close(rows, columns.T)
    assert (rows.diff(dim=0) > 0).all() and rows[3].std() < 1e-6
    if readout == "class_token":
        assert torch.equal(large.pos_embed[:, 0], small.pos_embed[:, 0])


@pytest.mark.parametrize("readout", ["class_attention", "class_token"])
@pytest.mark.parametrize(("curve", "level"), [("sis", "pixel"), ("zorder", "pixel"), ("scan", "token")])
def test_the_map_of_another_size_is_that_of_a_network_built_for_it(curve, level, readout):
    options = {"curve": curve, "curve_level": level, "readout": readout}
    small, large = (
        shake(eat_debug(num_classes=5, **options)),
        eat_debug(image_size=128, num_classes=5, **options).eval(),
    )
    large.load_state_dict(large.adapt_weights(small.state_dict(), resize=True))
    images = torch.randn(2, 3, 128, 128)
    (level,) = small.forward_pyramid(images)
    assert level.shape == (2, 64, 16, 16)
    torch.testing.assert_close(level, large.forward_pyramid(images)[0])


@pytest.mark.parametrize(("curve", "level"), [("sis", "pixel"), ("hilbert", "pixel"), ("hilbert", "token")])
def test_the_map_shows_every_token_where_its_patch_is(curve, level):
    """Without blocks and positions, a cell of the map depends on its own patch alone."""
    model = eat_debug(num_classes=5, depth=1, curve=curve, curve_level=level).eval()
    model.blocks = torch.nn.Identity()
    torch.nn.init.zeros_(model.pos_embed)
    images = torch.randn(1, 3, 44, 60)
    (before,) = model.forward_pyramid(images)
    images[:, :, 17, 33] += 1  # in the third row of patches, and in the fifth column
    images[:, :, 43, 59] += 1
    (after,) = model.forward_pyramid(images)
    assert before.shape == (1, 64, 6, 8)
    assert (before != after).any(1)[0].nonzero().tolist() == [[2, 4], [5, 7]]


def test_pieces_of_rows_are_no_map():
    with pytest.raises(ValueError, match=re.escape("pieces of pixel rows (curve=scan), which do not form a grid")):
        eat_debug(curve="scan").forward_pyramid(torch.zeros(1, 3, 64, 64))


def test_errors_for_another_image_size_suggest_load_pretrained(tmp_path):
    path = save(create_model("eat_debug", readout_depth=2).state_dict(), tmp_path / "small.pth")
    with pytest.raises(WeightsError, match="Try: load_pretrained, which resizes what depends on the size"):
        load_weights(create_model("eat_debug", readout_depth=2, image_size=128), path)


def test_pieces_of_rows_cannot_be_resized(tmp_path):
    path = save(create_model("eat_debug", curve="scan").state_dict(), tmp_path / "scan.pth")
    with pytest.raises(WeightsError, match=r"pieces of pixel rows .* with the file's image_size=64"):
        load_pretrained(create_model("eat_debug", curve="scan", image_size=128), path)


@pytest.mark.parametrize("local", eat.LOCAL_OPERATORS)
def test_mixed_precision_learns_and_stays_near(local):
    torch.manual_seed(0)
    model, images = eat_debug(num_classes=5, local=local).eval(), torch.randn(4, 3, 64, 64)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(images)
        logits.float().square().sum().backward()
    assert (logits - model(images)).abs().max() < 0.05 * logits.float().std()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_tokens_stay_rows_in_memory():
    model = eat_debug().eval()
    strides = []
    for block in model.blocks:
        block.register_forward_hook(lambda module, args, output: strides.append(output.is_contiguous()))
    model(torch.randn(2, 3, 64, 64))
    assert strides == [True] * 4


@pytest.mark.parametrize("shape", [(2, 3, 32, 32), (3, 64, 64), (2, 3, 64, 96)])
def test_errors_for_other_images_state_the_size(shape):
    message = f"takes RGB images [B, 3, 64, 64], not {list(shape)}; resize them, or build it with another image_size"
    with pytest.raises(ValueError, match=re.escape(message)):
        eat_debug()(torch.zeros(shape))
    with pytest.raises(ValueError, match=re.escape("not [2, 1, 64, 64]; they must have 3 channels")):
        eat_debug()(torch.zeros(2, 1, 64, 64))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"local": "deformed"}, "local cannot be 'deformed'; did you mean 'deformable'? (choices: conv, attention"),
        (
            {"readout": "means"},
            "readout cannot be 'means'; did you mean 'mean'? (choices: class_attention, class_token",
        ),
        ({"curve_level": "patch"}, "curve_level cannot be 'patch' (choices: pixel, token)"),
        ({"curve": "hilbrt"}, "no curve is called 'hilbrt'; did you mean 'hilbert'?"),
        ({"curve_level": "token"}, "for single elements use sweep"),
        ({"image_size": 60}, "image_size=60 is not a multiple of patch_size=8"),
        ({"distilled": True, "readout": "mean"}, "readout must be class_attention, not mean"),
        ({"local_ratio": 1.0}, "local_ratio=1.0 must leave channels for both halves"),
        ({"kernel_size": 4}, "kernel_size must be odd"),
        ({"num_heads": 3}, "num_heads must be even, not 3"),
        ({"num_heads": 6}, "its 3 heads can share equally, not 32"),
        ({"num_classes": -1}, "num_classes must be 0 or more, not -1"),
    ],
)
def test_options_that_do_not_go_together(options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        eat_debug(**options)


def test_authors_names_build_the_same_networks():
    with torch.device("meta"):
        for name, ours in AUTHORS_NAMES.items():
            assert create_model(name).model_name == ours


def test_new_networks_start_as_the_authors_do():
    torch.manual_seed(0)
    model = EAT(dim=192, depth=2)
    for parameter in (model.pos_embed, model.head.weight, model.blocks[0].mlp.fc1.weight):
        assert parameter.std().item() == pytest.approx(0.02, rel=0.03)
    bound = (3 * 256) ** -0.5  # PyTorch's own, from the number of inputs
    assert model.patch_embed.weight.abs().max().item() == pytest.approx(bound, rel=0.01)
    assert model.blocks[0].attn.qkv.bias.abs().max() == 0
