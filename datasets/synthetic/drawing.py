"""Draws the frames of the synthetic sets: soft-edged, two-colored shapes over a muted, drifting texture."""

import numpy as np

RADII = (0.12, 0.34)  # smallest and largest radius, as shares of the frame's short side


def _star(u, v):
    angle = np.abs(np.arctan2(v, u)) % (0.4 * np.pi)
    angle = np.minimum(angle, 0.4 * np.pi - angle)  # from the nearest of five tips, 0 ... 36 degrees
    # The edge from a tip at radius 1 to a dent at radius 0.5 is a straight line: x + slope * y = 1.
    slope = (2 - np.cos(0.2 * np.pi)) / np.sin(0.2 * np.pi)
    return np.hypot(u, v) * (np.cos(angle) + slope * np.sin(angle))


# Shape -> gauge(u, v): below 1 inside, 1 on the outline, u and v in units of the shape's radius.
SHAPES = {
    "disc": np.hypot,
    "ring": lambda u, v: np.abs(np.hypot(u, v) - 0.7) / 0.3,
    "square": lambda u, v: 1.2 * np.maximum(np.abs(u), np.abs(v)),
    "triangle": lambda u, v: 2 * np.maximum(np.maximum(-0.5 * u + 0.866 * v, -0.5 * u - 0.866 * v), u),
    "cross": lambda u, v: np.maximum(np.maximum(np.abs(u), np.abs(v)), np.minimum(np.abs(u), np.abs(v)) / 0.36),
    "star": _star,
}


def draw_colors(rng):
    """Two strong colors of opposite hue, [2, 3] in 0 ... 255: the halves of a shape, so that rotation always shows."""
    hue = rng.uniform() + np.array([[0.0], [0.5]])
    return np.float32(127.5 + 115 * np.clip(2 * np.cos(2 * np.pi * (hue + np.arange(3) / 3)), -1, 1))


def draw_background(rng, size, num_frames, speeds, num_waves=12):
    """A muted texture of plane waves that drifts steadily in a random direction: float32 [3, T, H, W].

    `speeds` is the range of its speed, in periods of the texture's longest wave per frame.
    """
    kx, ky = rng.normal(0, 2.5, (2, num_waves)).round()  # whole waves per side: the texture wraps around, too
    phase = rng.uniform(size=num_waves)
    strength = np.float32(rng.normal(0, 8, num_waves) + rng.normal(0, 4, (3, 1, 1, num_waves)))  # more gray than color
    heading, speed = rng.uniform(0, 2 * np.pi), rng.uniform(*speeds)
    drift = (kx * np.cos(heading) + ky * np.sin(heading)) * speed  # [K], in periods per frame
    # A wave at (t, y, x) is the real part of a product with one factor per axis, so a sum of waves is a matrix product.
    times = _spin(np.outer(np.arange(num_frames), -drift) + phase)[:, None]  # [T, 1, K]
    rows = _spin(np.outer(np.arange(size[0]) / size[0], ky))  # [H, K]
    columns = _spin(np.outer(np.arange(size[1]) / size[1], kx))  # [W, K]
    factors = strength * times * rows  # [3, T, H, K]
    waves = (factors.reshape(-1, num_waves) @ columns.T).real  # a single product, [3 * T * H, K] x [K, W], threads best
    waves = waves.reshape(*factors.shape[:3], -1)  # [3, T, H, W]
    return np.clip(waves + rng.uniform(80, 175), 0, 255)


def _spin(turns):
    return np.exp(2j * np.pi * turns).astype(np.complex64)


def draw_shape(canvas, kind, phases, colors, wraps=True):
    """Paints one shape into `canvas` [P, T, H, W] in place.

    `phases` [T, 4] are its x, y, size and turn in each frame, all in [0, 1); `colors` [2, P] those of its two halves.
    P is 3 for pictures, 1 for masks. What lies beyond an edge of the frame comes in at the opposite one; it is cut off
    if not `wraps`, and then x, y and size may be any numbers.
    """
    num_planes, num_frames, height, width = canvas.shape
    x, y, size, turn = phases.T.astype(np.float32)[:, :, None, None]  # [T, 1, 1] each
    x, y = x * width, y * height
    radius = min(height, width) * RADII[0] * (RADII[1] / RADII[0]) ** size
    # Only a patch of P x P pixels around the center is painted; its indices wrap around the frame.
    reach = np.arange(-np.ceil(radius.max()), np.ceil(radius.max()) + 2)  # [P]
    rows = (np.floor(y) + reach[:, None]).astype(int)  # [T, P, 1]
    columns = (np.floor(x) + reach).astype(int)  # [T, 1, P]
    pixels = (np.arange(num_frames)[:, None, None] * height + rows % height) * width + columns % width  # [T, P, P]
    dx, dy = ((columns - x) / radius).astype(np.float32), ((rows - y) / radius).astype(np.float32)
    cos, sin = np.cos(2 * np.float32(np.pi) * turn), np.sin(2 * np.float32(np.pi) * turn)
    u, v = dx * cos + dy * sin, dy * cos - dx * sin  # [T, P, P], the shape's own coordinates
    cover = np.clip((1 - SHAPES[kind](u, v)) * radius + 0.5, 0, 1)  # outlines are soft, one pixel wide
    second = np.clip(u * radius + 0.5, 0, 1)
    if not wraps:
        inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)  # [T, P, P]
        pixels, cover, second = pixels[inside], cover[inside], second[inside]
    for plane, start, end in zip(canvas.reshape(num_planes, -1), *colors, strict=True):
        under = plane[pixels]
        plane[pixels] = under + cover * (start + (end - start) * second - under)


def draw_mask(shapes, size, num_frames, wraps=True):
    """Where the shapes are: float32 [T, H, W], the fraction of each pixel that they cover.

    `shapes` are pairs of a kind and its phases, as `draw_shape` takes them, `wraps` too; `size` is (H, W).
    """
    canvas = np.zeros((1, num_frames, *size), np.float32)
    for kind, phases in shapes:
        draw_shape(canvas, kind, phases, np.ones((2, 1), np.float32), wraps)
    return canvas[0]
