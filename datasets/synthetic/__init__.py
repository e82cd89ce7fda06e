"""Small synthetic data sets of encoded files, on which demos and tests train in minutes."""

from datasets.synthetic.families import FamiliesSettings, make_families
from datasets.synthetic.image_shapes import ImageShapesSettings, make_image_shapes
from datasets.synthetic.motion_shapes import MotionShapesSettings, make_motion_shapes
from datasets.synthetic.protein_folds import ProteinFoldsSettings, make_protein_folds
from datasets.synthetic.scene_clips import SceneClipsSettings, make_scene_clips
from datasets.synthetic.scene_shapes import SceneShapesSettings, make_scene_shapes

__all__ = [
    "FamiliesSettings", "ImageShapesSettings", "MotionShapesSettings", "ProteinFoldsSettings", "SceneClipsSettings",
    "SceneShapesSettings", "make_families", "make_image_shapes", "make_motion_shapes", "make_protein_folds",
    "make_scene_clips", "make_scene_shapes",
]  # fmt: skip
