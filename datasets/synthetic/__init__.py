"""Small synthetic data sets of encoded files, on which demos and tests train in minutes."""

from datasets.synthetic.image_shapes import ImageShapesSettings, make_image_shapes
from datasets.synthetic.motion_shapes import MotionShapesSettings, make_motion_shapes

__all__ = ["ImageShapesSettings", "MotionShapesSettings", "make_image_shapes", "make_motion_shapes"]
