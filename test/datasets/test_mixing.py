import numpy as np
import pytest
import torch

from datasets.mixing import Mixer, MixSettings


@pytest.mark.parametrize("settings", [{"mixup": 0.8}, {"cutmix": 1.0}, {"mixup": 0.8, "cutmix": 1.0, "mode": "elem"}])
def test_clips_are_mixed_as_images_are(settings):
    """Every frame of a clip gets the share, or the box, that the clip's only frame would get as an image."""
    images, labels = torch.rand(4, 3, 16, 20, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 2])
    clips = images[:, :, None].expand(-1, -1, 5, -1, -1)
    mixer = Mixer(MixSettings(**settings), num_classes=3, label_smoothing=0.1)
    results = []
    for x in (images, clips.clone(), clips.contiguous(memory_format=torch.channels_last_3d)):
        np.random.seed(3)
        results.append(mixer(x.clone(), labels))
    (mixed, shares), *others = results
    assert not torch.equal(mixed, images) and torch.allclose(shares.sum(1), torch.ones(4))
    for clip, clip_shares in others:
        assert torch.equal(clip_shares, shares)
        assert torch.equal(clip, mixed[:, :, None].expand(-1, -1, 5, -1, -1))
