"""Small synthetic data sets of encoded files, on which demos and tests train in minutes.

Those for graphs, `families` and `protein_folds`, are not imported here: PyTorch Geometric, which proteins need, takes
seconds to import, and tasks on videos or images need not wait for it.
"""

from datasets.synthetic.image_shapes import ImageShapesSettings, make_image_shapes
from datasets.synthetic.motion_shapes import MotionShapesSettings, make_motion_shapes
from datasets.synthetic.scene_clips import SceneClipsSettings, make_scene_clips
from datasets.synthetic.scene_shapes import SceneShapesSettings, make_scene_shapes

__all__ = [
    "ImageShapesSettings", "MotionShapesSettings", "SceneClipsSettings", "SceneShapesSettings", "make_image_shapes",
    "make_motion_shapes", "make_scene_clips", "make_scene_shapes",
]  # fmt: skip
