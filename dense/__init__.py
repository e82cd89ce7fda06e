"""What is built on a feature pyramid: necks, segmentation heads, detectors.

A backbone is anything with `forward_pyramid(images) -> maps [B, C_i, H_i, W_i]`, `pyramid_channels` and
`pyramid_strides`; nothing here depends on a family of networks.
"""
