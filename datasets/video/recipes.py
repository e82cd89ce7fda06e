"""How videos are re-encoded for training.

The recipes `short288`, `short256` and `short160` are those of https://github.com/facebookresearch/GloRe (README):
MPEG-4, with the shorter side at most that many pixels. `training` is ours: a keyframe every 4 frames and no B-frames,
so that frames far apart need little decoding; docs/preparing_videos.md has the measurements behind it.
"""

from typing import NamedTuple

COLORS = "+write_colr"  # writes how colors are coded, even if the source says so only in part


class Recipe(NamedTuple):
    """How videos are re-encoded."""

    short_side: int  # at most, in pixels; smaller videos keep their size
    codec: str
    options: dict[str, str]  # of the encoder, by ffmpeg's names
    muxer: dict[str, str]  # options of the container
    even: bool = False  # even width and height, as subsampled colors need; H.264 insists on it

    @property
    def filter(self) -> str:
        """ffmpeg's scale filter, with width and height as formulas; colors get the limited range of video."""
        width = f"min(iw,({self.short_side}*iw)/min(iw,ih))"
        width, height = (f"trunc({width}/2)*2", "-2") if self.even else (width, "-1")
        return f"scale={width}:{height}:out_range=tv".replace(",", r"\,")

    @property
    def comment(self) -> str:
        """The comment written into each target, which identifies the recipe that it was made by.

        It ends with the rule for frames, because files made by an earlier rule may lack frames.
        """
        options = " ".join(f"{name}={value}" for name, value in self.options.items())
        return f"short side {self.short_side}, {self.codec} {options}, every frame at its time"


RECIPES = {
    "short288": Recipe(288, "mpeg4", {"b": "640k"}, {"movflags": COLORS}),
    "short256": Recipe(256, "mpeg4", {"b": "512k"}, {"movflags": COLORS}),
    "short160": Recipe(160, "mpeg4", {"b": "240k"}, {"movflags": COLORS}),
    "training": Recipe(
        256,
        "mpeg4",
        {"b": "512k", "g": "4", "bf": "0", "mbd": "rd", "trellis": "1", "cmp": "satd", "subcmp": "satd"},
        {"movflags": f"+faststart{COLORS}"},
        even=True,
    ),
}
