"""Objects of images from a file in COCO format: boxes, classes, and masks that are decoded on demand.

Format: https://cocodataset.org/#format-data. Custom data needs the same three lists: `images` (id, file_name, height,
width), `annotations` (id, image_id, category_id, bbox [x, y, width, height], and for masks segmentation) and
`categories` (id, name); `area` and `iscrowd` may be left out: the area is then that of the mask, or of the box if masks
are not read.

    labels     0 ... K-1: the categories by their sorted ids, or the place of their names in given class names
    crowds     (`iscrowd`) are not objects: in training their boxes are `ignored`, and evaluation gets them unchanged
    boxes      are clipped to their image; those under a pixel wide or high, outside it, or of area 0 are left out of
               training, and their number is logged. Evaluation keeps them, as COCO's own does
    empty      images without objects stay in evaluation; `with_objects` leaves them out of training

The annotations are packed into arrays and one string: forked workers share them, see `file_list`.
"""

import logging
import os
import pickle
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from datasets.class_table import class_names_from
from datasets.dense.coco_checks import (
    CORNERS_HINT,
    MIN_SIDE,
    annotation_fault,
    category_fault,
    image_faults,
    is_id,
    repeated_images,
    top_fault,
)
from datasets.dense.segmentation import decode_segmentation, segmentation_area
from datasets.file_list import PackedTexts
from datasets.text_files import existing_path, read_json
from settings import did_you_mean

log = logging.getLogger(__name__)


class CocoItem(NamedTuple):
    """One image: its row, its id in the file, its path, and (H, W) as the file says."""

    index: int
    id: int
    path: str
    size: tuple[int, int]


class Objects(NamedTuple):
    """The objects of an image, all boxes x1, y1, x2, y2 in pixels and inside it."""

    boxes: np.ndarray  # float32 [N, 4]
    labels: np.ndarray  # int64 [N]
    masks: np.ndarray | None  # uint8 [N, H, W], 0 or 1; None: the set is read without masks
    ignored: np.ndarray  # float32 [M, 4], the boxes of crowds


class CocoImages(Sequence):
    """The images of a file in COCO format; `images[i]` is a `CocoItem`, `images.objects(i)` its objects.

    Made by `read_coco`. `class_names`: in order of labels; `category_ids`: the file's id of each label (classes that
    the file does not have get new ids); `source`: the file; `root`: the folder of the images.
    """

    def __init__(self, source: str, root: str, classes: tuple[Sequence[str], Sequence[int]], tables: "_Tables"):
        self.source, self.root = source, root
        self.class_names, self.category_ids = map(tuple, classes)
        self._tables = tables
        self._rows = np.arange(len(tables.image_ids))

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def has_masks(self) -> bool:
        return self._tables.segmentations is not None

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> CocoItem:
        position = range(len(self))[index]  # negative: from the end; IndexError out of range
        tables, row = self._tables, int(self._rows[position])
        path = os.path.join(self.root, tables.file_names[row])
        return CocoItem(position, int(tables.image_ids[row]), path, tuple(tables.sizes[row].tolist()))

    def __repr__(self) -> str:
        return f"CocoImages({len(self)} images, {self.num_classes} classes, {self.source!r}, root={self.root!r})"

    @property
    def sizes(self) -> np.ndarray:
        """(H, W) of each image, int64 [N, 2]."""
        return self._tables.sizes[self._rows]

    def objects(self, index: int) -> Objects:
        """The objects in image `index`, with crowds separate, and without degenerate boxes."""
        item, tables, span = self[index], self._tables, self._span(index)
        is_crowd, usable = tables.is_crowd[span], tables.is_usable[span]
        boxes = _corners(tables.boxes[span], np.array(item.size)).astype(np.float32)
        rows = span.start + np.flatnonzero(usable & ~is_crowd)
        masks = None if tables.segmentations is None else self._masks(item, rows)
        return Objects(boxes[usable & ~is_crowd], tables.labels[rows].astype(np.int64), masks, boxes[usable & is_crowd])

    def counts(self) -> np.ndarray:
        """Number of objects in each image, without crowds and degenerate boxes: int64 [N]."""
        good = self._tables.is_usable & ~self._tables.is_crowd
        sums = np.concatenate([[0], np.cumsum(good)])
        starts = self._tables.starts
        return (sums[starts[1:]] - sums[starts[:-1]])[self._rows]

    def class_counts(self) -> np.ndarray:
        """Number of objects of each class: int64 [K]."""
        rows = np.concatenate([np.arange(self._span(i).start, self._span(i).stop) for i in range(len(self))])
        rows = rows[(self._tables.is_usable & ~self._tables.is_crowd)[rows]]
        return np.bincount(self._tables.labels[rows], minlength=self.num_classes)

    def subset(self, rows: Iterable[int]) -> "CocoImages":
        """The images of some rows, in their order, with the same classes."""
        subset = CocoImages(self.source, self.root, (self.class_names, self.category_ids), self._tables)
        subset._rows = self._rows[np.fromiter(rows, np.int64)]
        return subset

    def ground_truth(self, rows: Iterable[int] | None = None) -> dict[str, Any]:
        """The images of some rows (None: all) in the form of COCO's evaluation: images, annotations, categories.

        Nothing is left out: crowds, degenerate boxes and images without objects are included. Annotations are
        renumbered from 1: for COCO's evaluation, an object of id 0 is one that was never found.
        """
        tables, images, annotations = self._tables, [], []
        for index in range(len(self)) if rows is None else rows:
            item, span = self[index], self._span(index)
            height, width = item.size
            name = os.path.relpath(item.path, self.root)
            images.append({"id": item.id, "file_name": name, "height": height, "width": width})
            for row in range(span.start, span.stop):
                entry = {
                    "id": len(annotations) + 1,
                    "image_id": item.id,
                    "category_id": self.category_ids[tables.labels[row]],
                    "bbox": tables.boxes[row].tolist(),
                    "area": float(tables.areas[row]),
                    "iscrowd": int(tables.is_crowd[row]),
                }
                if tables.segmentations is not None:
                    entry["segmentation"] = tables.segmentations[row]
                annotations.append(entry)
        pairs = zip(self.category_ids, self.class_names, strict=True)
        categories = [{"id": number, "name": name} for number, name in pairs]
        return {"info": {}, "images": images, "annotations": annotations, "categories": categories}

    def identities(self) -> Iterator[str]:
        """Id, file name and a digest of the objects of each image, which identify it wherever its folder is."""
        tables = self._tables
        for index, item in enumerate(self):
            span, digest = self._span(index), 0
            for table in (tables.labels, tables.boxes, tables.is_crowd, tables.areas):
                digest = zlib.crc32(np.ascontiguousarray(table[span]).tobytes(), digest)
            if tables.segmentations is not None:
                digest = zlib.crc32(tables.segmentations.packed(span), digest)
            yield f"{item.id}\t{os.path.basename(item.path)}\t{digest:08x}"

    def missing(self) -> list[str]:
        """The paths that do not exist. Looks at every file, which takes a while on a network disk."""
        return [item.path for item in self if not os.path.isfile(item.path)]

    def _span(self, index: int) -> slice:
        row = int(self._rows[index])
        return slice(int(self._tables.starts[row]), int(self._tables.starts[row + 1]))

    def _masks(self, item: CocoItem, rows: np.ndarray) -> np.ndarray:
        masks = np.zeros((len(rows), *item.size), np.uint8)
        for mask, row in zip(masks, rows.tolist(), strict=True):
            mask[:] = decode_segmentation(self._tables.segmentations[row], item.size)
        return masks


class _Tables(NamedTuple):
    """The file's content. Annotations [A] are sorted by image; those of image i are starts[i] ... starts[i + 1] - 1."""

    image_ids: np.ndarray  # int64 [N]
    sizes: np.ndarray  # int64 [N, 2], (H, W)
    file_names: PackedTexts
    starts: np.ndarray  # int64 [N + 1]
    annotation_ids: np.ndarray  # int64 [A]
    boxes: np.ndarray  # float64 [A, 4], x, y, width, height as in the file
    labels: np.ndarray  # int32 [A]
    areas: np.ndarray  # float64 [A], in pixels
    is_crowd: np.ndarray  # bool [A]
    is_usable: np.ndarray  # bool [A]: not degenerate
    segmentations: "_PackedValues | None"


class _PackedValues:
    """Immutable plain values, packed as `file_list` packs texts; made of our own memory, so unpickling them is safe."""

    def __init__(self, values: Iterable[Any]):
        encoded = [pickle.dumps(value, protocol=5) for value in values]
        self._bytes = b"".join(encoded)
        self._ends = np.cumsum([0, *map(len, encoded)], dtype=np.int64)

    def __getitem__(self, index: int) -> Any:
        start, end = self._ends[index : index + 2].tolist()
        return pickle.loads(self._bytes[start:end])

    def packed(self, span: slice) -> memoryview:
        """The bytes of some neighboring values."""
        return memoryview(self._bytes)[self._ends[span.start] : self._ends[span.stop]]


def read_coco(
    path: str | Path,
    root: str | Path | None = None,
    class_names: Sequence[str] | None = None,
    masks: bool = False,
) -> CocoImages:
    """The images of a file in COCO format.

    Args:
        path: the JSON file.
        root: folder that its file names are relative to; None: the folder of the file.
        class_names: the classes of the model, in order of their labels; None: the file's categories by sorted ids.
        masks: whether to read masks; then every annotation must have a segmentation.

    Raises:
        FileNotFoundError: no such file or root; suggests a similar name.
        ValueError: the file is not in this format, lists no images, or has a category that is not in `class_names`. See
           `coco_checks` for what is checked.
    """
    path = existing_path(Path(path).expanduser(), "file of annotations")
    root = path.parent if root is None else existing_path(Path(root).expanduser(), "root folder of the images")
    content = read_json(path)
    _stop_at(path, top_fault(content) or category_fault(content["categories"]))
    _stop_at(path, next((fault for _, fault in image_faults(content["images"])), ""))
    if not content["images"]:
        raise ValueError(f"{path} lists no images; training and validation need at least one")
    _check_annotations(path, content, masks)
    classes, label_of = _number_classes(path, content, class_names)
    tables = _pack(content, label_of, masks)
    _log_degenerate(path, tables)
    _log_cut(path, tables)
    _log_repeated(path, content["images"])
    return CocoImages(str(path), str(root), classes, tables)


def with_objects(images: CocoImages) -> CocoImages:
    """The images with an object to learn from: a box that is neither a crowd nor degenerate.

    Raises ValueError if there is none.
    """
    rows = np.flatnonzero(images.counts())
    if not len(rows):
        raise ValueError(f"{images.source}: none of its {len(images)} images has an object; are its annotations empty?")
    if len(rows) < len(images):
        log.info("%s: images left out, because they have no objects: %d", images.source, len(images) - len(rows))
    return images.subset(rows)


def _stop_at(path: Path, fault: str) -> None:
    if fault:
        raise ValueError(f"{path}: {fault}")


def _number_classes(
    path: Path, content: dict[str, Any], class_names: Sequence[str] | None
) -> tuple[tuple[Sequence[str], Sequence[int]], dict[int, int]]:
    """((class names, their category ids), {category id: label}). Raises ValueError for a class that is unknown."""
    categories = sorted(content["categories"], key=lambda category: category["id"])
    names = class_names_from([category["name"] for category in categories], str(path))
    ids = [category["id"] for category in categories]
    if class_names is None:
        return (names, ids), {number: label for label, number in enumerate(ids)}
    class_names = class_names_from(class_names, "class_names")
    label_of = {n: class_names.index(name) for n, name in zip(ids, names, strict=True) if name in class_names}
    used = {annotation["category_id"] for annotation in content["annotations"]}
    for number, name in zip(ids, names, strict=True):
        if number in used and number not in label_of:
            raise ValueError(
                f"{path}: category {name!r} (id {number}) is not one of the {len(class_names)} classes of the model"
                f"{did_you_mean(name, class_names)}; choose the file the model was trained for, or other class names"
            )
    id_of = {label: number for number, label in label_of.items()}
    new_ids = iter(range(max(ids) + 1, max(ids) + 1 + len(class_names)))
    category_ids = [id_of[label] if label in id_of else next(new_ids) for label in range(len(class_names))]
    return (class_names, category_ids), label_of


def _sizes(content: dict[str, Any]) -> dict[int, tuple[int, int]]:
    """Id of each image -> (H, W)."""
    return {image["id"]: (image["height"], image["width"]) for image in content["images"]}


def _check_annotations(path: Path, content: dict[str, Any], masks: bool) -> None:
    """Raises ValueError for the first annotation with a fault."""
    sizes, seen = _sizes(content), set()
    category_ids = {category["id"] for category in content["categories"]}
    for number, annotation in enumerate(content["annotations"]):
        identity = annotation.get("id", number)
        fault = annotation_fault(annotation, sizes, category_ids, masks)
        if not is_id(identity) or identity in seen:
            fault = "ids must be whole numbers of 64 bits that differ"
        _stop_at(path, f"annotation {identity}: {fault}" if fault else "")
        seen.add(identity)


def _pack(content: dict[str, Any], label_of: dict[int, int], masks: bool) -> _Tables:
    images, annotations, sizes = content["images"], content["annotations"], _sizes(content)
    row_of = {image["id"]: row for row, image in enumerate(images)}
    rows = np.array([row_of[annotation["image_id"]] for annotation in annotations], np.int64)
    order = np.argsort(rows, kind="stable")
    annotations = [(annotations[number].get("id", number), annotations[number]) for number in order.tolist()]
    entries = [annotation for _, annotation in annotations]
    boxes = np.array([entry["bbox"] for entry in entries], np.float64).reshape(-1, 4)
    areas = np.array([_area(entry, sizes, masks) for entry in entries], float)
    image_sizes = np.array([sizes[image["id"]] for image in images], np.int64)
    inside = _corners(boxes, image_sizes[rows[order]])
    return _Tables(
        image_ids=np.array([image["id"] for image in images], np.int64),
        sizes=image_sizes,
        file_names=PackedTexts(image["file_name"] for image in images),
        starts=np.searchsorted(rows[order], np.arange(len(images) + 1)),
        annotation_ids=np.array([identity for identity, _ in annotations], np.int64),
        boxes=boxes,
        labels=np.array([label_of[entry["category_id"]] for entry in entries], np.int32),
        areas=areas,
        is_crowd=np.array([entry.get("iscrowd", 0) for entry in entries], bool),
        is_usable=(areas > 0) & (boxes[:, 2:] >= MIN_SIDE).all(1) & (inside[:, 2:] > inside[:, :2]).all(1),
        segmentations=_PackedValues(entry["segmentation"] for entry in entries) if masks else None,
    )


def _area(annotation: dict[str, Any], sizes: dict[int, tuple[int, int]], masks: bool) -> float:
    """The area that the file gives, whatever it is; without one, the area of the mask or box."""
    if annotation.get("area") is not None:
        return annotation["area"]
    if masks:
        return segmentation_area(annotation["segmentation"], sizes[annotation["image_id"]])
    return annotation["bbox"][2] * annotation["bbox"][3]


def _corners(boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Boxes x, y, width, height [A, 4] as x1, y1, x2, y2, clipped to the images' (H, W), [A, 2] or [2]."""
    corners = boxes.copy()
    corners[:, 2:] += boxes[:, :2]
    limits = np.broadcast_to(sizes[..., ::-1], (len(boxes), 2))
    return np.clip(corners, 0, np.tile(limits, 2))


def _log_cut(path: Path, tables: _Tables) -> None:
    """Logs how many boxes reach beyond their image by more than a pixel, and whether they look like corners."""
    sizes = np.repeat(tables.sizes, np.diff(tables.starts), axis=0)[:, ::-1]  # [A, 2], (W, H)
    beyond = (tables.boxes[:, :2] < -1).any(1) | (tables.boxes[:, :2] + tables.boxes[:, 2:] > sizes + 1).any(1)
    if not beyond.any():
        return
    looks_like_corners = 2 * beyond.sum() > len(beyond) and (tables.boxes[:, 2:] > tables.boxes[:, :2]).all()
    hint = CORNERS_HINT if looks_like_corners else ""
    log.warning(
        "%s: boxes that reach beyond their image, cut at its border: %d of %d, for example that of annotation %d%s",
        *(path, beyond.sum(), len(beyond), tables.annotation_ids[beyond.argmax()], hint),
    )


def _log_degenerate(path: Path, tables: _Tables) -> None:
    """Logs how many objects are left out of training, separately those that only their area excludes."""
    without_area = (tables.areas <= 0) & (tables.boxes[:, 2:] >= MIN_SIDE).all(1)
    if without_area.any():
        log.warning(
            "%s: objects left out of training, because their area is 0 or less: %d of %d, for example annotation %d; "
            "if the areas were never filled in, leave the key area out", path, without_area.sum(), len(without_area),
            tables.annotation_ids[without_area.argmax()],
        )  # fmt: skip
    bad = np.flatnonzero(~tables.is_usable & ~without_area)
    if len(bad):
        log.warning(
            "%s: boxes left out of training, because they are degenerate or outside their image: %d, for example that "
            "of annotation %d", path, len(bad), tables.annotation_ids[bad[0]],
        )  # fmt: skip


def _log_repeated(path: Path, images: list[dict[str, Any]]) -> None:
    if repeated := repeated_images(images):
        number, first = next(iter(repeated.items()))
        log.warning(
            "%s: images whose file another image has: %d, for example %d that of %d; list each file once, with all of "
            "its objects", path, len(repeated), number, first,
        )  # fmt: skip
