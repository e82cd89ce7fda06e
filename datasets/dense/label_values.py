"""How the values stored in label maps become labels, and how such files are read.

    own sets      0 ... K-1 are the classes, 255 and one further value of choice are ignored
    ADE20K        0 is ignored, 1 ... 150 are the classes 0 ... 149
    Cityscapes    `labelIds`: 19 of the 34 ids are classes, by the table of the paper's evaluation; the others are
                  ignored. `labelTrainIds`: as own sets

Every other value is an error: a label out of range trains and scores like any other until something crashes.
"""

import numpy as np
from PIL import Image

from datasets.image_file import ImageError

IGNORED = 255  # in label maps; no class has it
MAX_CLASSES = 255  # of maps of 8 bits
_INVALID = 256  # in tables

ADE20K_CLASSES = 150
CITYSCAPES = {  # the classes of Cityscapes' evaluation, by their values in `labelIds`
    7: "road",
    8: "sidewalk",
    11: "building",
    12: "wall",
    13: "fence",
    17: "pole",
    19: "traffic light",
    20: "traffic sign",
    21: "vegetation",
    22: "terrain",
    23: "sky",
    24: "person",
    25: "rider",
    26: "car",
    27: "truck",
    28: "bus",
    31: "train",
    32: "motorcycle",
    33: "bicycle",
}
CITYSCAPES_IDS = 34


class LabelValues:
    """What each value 0 ... 255 of a file means: a label, ignored, or an error.

    Args:
        table: by value, the label, `IGNORED`, or -1 for a value that must not occur; [256].
        accepted: the accepted values, for messages.
    """

    def __init__(self, table: np.ndarray, accepted: str):
        self.table = np.where(table < 0, _INVALID, table).astype(np.uint16)
        self.accepted = accepted

    def __call__(self, stored: np.ndarray, path: str) -> np.ndarray:
        """Stored values, uint8 [H, W] -> labels, uint8 [H, W]. Raises ImageError for a value that must not occur."""
        labels = self.table[stored]
        bad = labels == _INVALID
        if bad.any():
            values = np.unique(stored[bad]).tolist()
            shown = ", ".join(map(str, values[:5])) + ", ..." * (len(values) > 5)
            raise ImageError(path, f"has label {shown} in {int(bad.sum())} pixels; expected {self.accepted}")
        return labels.astype(np.uint8)


def own_values(num_classes: int, ignored_label: int | None = None) -> LabelValues:
    """0 ... num_classes - 1 are labels; 255 and `ignored_label`, which may be one of them, are ignored."""
    if not 0 < num_classes <= MAX_CLASSES:
        raise ValueError(f"{num_classes} classes; label maps of 8 bits hold 1 to {MAX_CLASSES}, and 255 for ignored")
    if ignored_label is not None and not 0 <= ignored_label <= 255:
        raise ValueError(f"ignored_label is {ignored_label}; expected a value of the label maps, 0 to 255")
    table = np.full(256, -1)
    table[:num_classes] = np.arange(num_classes)
    table[IGNORED] = IGNORED
    ignored = "255"
    if ignored_label is not None and ignored_label != IGNORED:
        table[ignored_label] = IGNORED
        ignored = f"{ignored_label} or 255"
    return LabelValues(table, f"0 to {num_classes - 1} for {num_classes} classes, or {ignored} for ignored")


def ade20k_values() -> LabelValues:
    table = np.full(256, -1)
    table[0] = table[IGNORED] = IGNORED
    table[1 : ADE20K_CLASSES + 1] = np.arange(ADE20K_CLASSES)
    return LabelValues(table, f"ADE20K's values, 1 to {ADE20K_CLASSES}, or 0 for others")


def cityscapes_values() -> LabelValues:
    table = np.full(256, -1)
    table[:CITYSCAPES_IDS] = table[IGNORED] = IGNORED
    table[list(CITYSCAPES)] = np.arange(len(CITYSCAPES))
    return LabelValues(table, f"Cityscapes' ids, 0 to {CITYSCAPES_IDS - 1}")


GRAY_STEPS = {"L;2": 85, "L;4": 17}
"""What Pillow calls the pixels of a gray PNG or TIFF of a few bits -> its factor on them: the highest is white."""
WIDE = {"I;16": "of 16 bits", "I;16B": "of 16 bits", "I": "of 32 bits"}
"""What Pillow calls images of one channel and more than 8 bits."""


def read_label_file(path: str, takes_wide: bool = False) -> np.ndarray:
    """The values stored in a label map of 8 bits, gray or palette: uint8 [H, W].

    `takes_wide`: also of 16 or 32 bits, int64 [H, W]. Raises ImageError for a file that is missing, damaged, in color,
    or of more bits.
    """
    try:
        with Image.open(path) as image:
            if takes_wide and image.mode in WIDE:
                return np.array(image).astype(np.int64)
            if image.mode not in ("L", "P", "1"):
                kind = WIDE.get(image.mode, image.mode)
                reason = f"is {kind}; a label map has one channel of 8 bits, whose values are the labels"
                raise ImageError(path, f"{reason}: save it as gray or palette PNG")
            stored = image.tile[0][3] if image.tile else None  # of TIFF, a tuple that begins with it
            step = GRAY_STEPS.get(stored[0] if isinstance(stored, tuple) else stored)
            values = np.array(image).astype(np.uint8)
            return values if step is None else values // step
    except ImageError:
        raise
    except Exception as error:  # on damaged files, Pillow's decoders raise whatever the bytes lead to
        reason = getattr(error, "strerror", None) or str(error).split("\n")[0]
        raise ImageError(path, f"cannot be read as a label map: {reason or type(error).__name__}") from error
