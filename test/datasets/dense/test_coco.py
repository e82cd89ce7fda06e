"""Files in COCO's form: what is read of them, the policies, and one error for each fault."""

import json
from copy import deepcopy

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from datasets.dense.coco import read_coco, with_objects
from datasets.synthetic import make_scene_shapes

SQUARE = [[10, 5, 30, 5, 30, 25, 10, 25]]


def content(**changes):
    """Two images, three categories with gaps in their ids, an object, a crowd."""
    base = {
        "images": [
            {"id": 7, "file_name": "a.jpg", "height": 40, "width": 50},
            {"id": 3, "file_name": "sub/b.jpg", "height": 30, "width": 60},
        ],
        "annotations": [
            {"id": 11, "image_id": 7, "category_id": 90, "bbox": [10, 5, 20, 20], "segmentation": SQUARE},
            {
                "id": 12, "image_id": 7, "category_id": 4, "bbox": [0, 0, 10, 40], "iscrowd": 1, "area": 400,
                "segmentation": {"size": [40, 50], "counts": [0, 400, 1600]},
            },
        ],
        "categories": [{"id": 90, "name": "zebra"}, {"id": 4, "name": "ant"}, {"id": 17, "name": "cat"}],
    }  # fmt: skip
    return {**base, **changes}


def write(folder, content, name="set.json"):
    path = folder / name
    path.write_text(json.dumps(content))
    return path


def with_annotation(**changes):
    """The content with its first annotation changed."""
    changed = content()
    changed["annotations"][0] = {**changed["annotations"][0], **changes}
    return changed


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return make_scene_shapes(tmp_path_factory.mktemp("coco") / "scenes", num_train=40, num_val=2, size=48)


def test_categories_are_numbered_by_their_sorted_ids(tmp_path):
    images = read_coco(write(tmp_path, content()))
    assert images.class_names == ("ant", "cat", "zebra") and images.category_ids == (4, 17, 90)
    objects = images.objects(0)
    assert objects.labels.tolist() == [2] and objects.boxes.tolist() == [[10, 5, 30, 25]]
    assert objects.ignored.tolist() == [[0, 0, 10, 40]] and objects.masks is None
    assert images[0] == (0, 7, str(tmp_path / "a.jpg"), (40, 50)) and images[-1].path == str(tmp_path / "sub/b.jpg")
    assert images.counts().tolist() == [1, 0] and images.class_counts().tolist() == [0, 0, 1]


def test_class_names_number_the_categories(tmp_path):
    path = write(tmp_path, content())
    images = read_coco(path, class_names=("zebra", "ox", "ant"))
    assert images.objects(0).labels.tolist() == [0]
    assert images.category_ids[0] == 90 and images.category_ids[2] == 4 and images.category_ids[1] not in (4, 17, 90)
    with pytest.raises(ValueError, match=r"category 'zebra' \(id 90\) is not one of the 2 classes of the model"):
        read_coco(path, class_names=("ant", "cat"))
    with pytest.raises(ValueError, match=r"did you mean 'zebras'\?"):
        read_coco(path, class_names=("ant", "cat", "zebras"))
    with pytest.raises(ValueError, match="class_names: no class names; give at least one"):
        read_coco(path, class_names=())


def test_a_category_id_of_zero_keeps_its_number(tmp_path):
    changed = content(categories=[{"id": 0, "name": "ant"}, {"id": 90, "name": "zebra"}, {"id": 4, "name": "cat"}])
    assert read_coco(write(tmp_path, changed), class_names=("ant", "cat", "zebra")).category_ids == (0, 4, 90)


def test_masks_equal_pycocotools(scenes):
    path = scenes / "instances_train.json"
    images, theirs = read_coco(path, scenes / "images" / "train", masks=True), COCO(str(path))
    assert len(images) == 40 and len(with_objects(images)) == sum(images.counts() > 0) < 40
    for index, item in enumerate(images):
        annotations = theirs.loadAnns(theirs.getAnnIds(imgIds=item.id, iscrowd=False))
        objects = images.objects(index)
        assert objects.masks.shape == (len(annotations), *item.size) and objects.masks.dtype == np.uint8
        for mask, entry in zip(objects.masks, annotations, strict=True):
            assert np.array_equal(mask, theirs.annToMask(entry))
        assert objects.labels.tolist() == [entry["category_id"] - 1 for entry in annotations]


def test_all_forms_of_a_mask_are_the_same_mask(tmp_path):
    runs = coco_mask.encode(np.asfortranarray(coco_mask.decode(coco_mask.frPyObjects(SQUARE, 40, 50))[..., 0]))
    flat = coco_mask.decode(runs).ravel("F")
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat, [2]])))
    counts = np.diff(np.concatenate([[0], edges])).tolist()
    forms = [SQUARE, {"size": [40, 50], "counts": counts}, {"size": [40, 50], "counts": runs["counts"].decode()}]
    masks = [
        read_coco(write(tmp_path, with_annotation(segmentation=form)), masks=True).objects(0).masks for form in forms
    ]
    assert masks[0].sum() == 400 and all(np.array_equal(masks[0], mask) for mask in masks)


def test_two_polygons_are_one_mask(tmp_path):
    both = [*SQUARE, [32, 5, 36, 5, 36, 9, 32, 9]]
    assert read_coco(write(tmp_path, with_annotation(segmentation=both)), masks=True).objects(0).masks.sum() == 416


def test_boxes_are_clipped_and_degenerate_ones_left_out_of_training(tmp_path, caplog):
    changed = content()
    boxes = [[-5, -5, 10, 10], [45, 35, 20, 20], [60, 5, 5, 5], [5, 5, 0.5, 9], [5, 5, 9, 0]]
    changed["annotations"] = [
        {"id": number, "image_id": 7, "category_id": 4, "bbox": box} for number, box in enumerate(boxes)
    ]
    changed["annotations"] += [
        {"id": 8, "image_id": 7, "category_id": 4, "bbox": [1, 1, 9, 9], "area": 0},
        {"id": 9, "image_id": 7, "category_id": 4, "bbox": [99, 1, 9, 9], "iscrowd": 1},
    ]
    boxes += [[1, 1, 9, 9], [99, 1, 9, 9]]
    images = read_coco(write(tmp_path, changed))
    assert images.objects(0).boxes.tolist() == [[0, 0, 5, 5], [45, 35, 50, 40]]
    assert len(images.objects(0).ignored) == 0 and images.counts().tolist() == [2, 0]
    assert "because their area is 0 or less: 1 of 7, for example annotation 8; if the areas were never" in caplog.text
    assert "degenerate or outside their image: 4, for example that of annotation 2" in caplog.text
    truth = images.ground_truth()
    assert [entry["bbox"] for entry in truth["annotations"]] == boxes
    assert [entry["area"] for entry in truth["annotations"]] == [100, 400, 25, 4.5, 0, 0, 81]


def test_images_without_objects_are_left_out_of_training_alone(tmp_path, caplog):
    caplog.set_level("INFO")
    images = read_coco(write(tmp_path, content()))
    kept = with_objects(images)
    assert [item.id for item in kept] == [7] and "they have no objects: 1" in caplog.text
    assert len(images.objects(1).boxes) == 0 and images.objects(1).boxes.shape == (0, 4)
    nothing = write(tmp_path, content(annotations=content()["annotations"][1:]))
    with pytest.raises(ValueError, match=r"none of its 2 images has an object; are its annotations empty\?"):
        with_objects(read_coco(nothing))


def test_the_ground_truth_is_what_the_file_says(scenes):
    path = scenes / "instances_train.json"
    stated = json.loads(path.read_text())
    images = read_coco(path, scenes / "images" / "train", masks=True)
    truth = images.ground_truth()
    for name in ("images", "annotations"):
        key = lambda entry: entry["id"]  # noqa: E731
        assert sorted(truth[name], key=key) == sorted(stated[name], key=key)
    assert [(entry["id"], entry["name"]) for entry in truth["categories"]] == [
        (entry["id"], entry["name"]) for entry in stated["categories"]
    ]
    rows = [3, 0, int(np.flatnonzero(images.counts() == 0)[0])]
    part = images.subset(rows).ground_truth()
    assert part["images"] == [truth["images"][row] for row in rows] == images.ground_truth(rows)["images"]
    assert {entry["image_id"] for entry in part["annotations"]} <= {rows[0] + 1, rows[1] + 1}
    api = COCO()
    api.dataset = part
    api.createIndex()
    assert len(api.getImgIds()) == 3


def test_a_subset_has_the_objects_of_its_images(scenes):
    images = read_coco(scenes / "instances_train.json", masks=True)
    rows = [20, 5, 9]
    part = images.subset(rows).subset([2, 0])
    assert [item.id for item in part] == [images[9].id, images[20].id] and part[1].index == 1
    assert np.array_equal(part.objects(0).masks, images.objects(9).masks)
    assert np.array_equal(part.counts(), images.counts()[[9, 20]]) and np.array_equal(part.sizes, images.sizes[[9, 20]])


def test_identities_tell_changed_objects(tmp_path):
    same, moved = content(), with_annotation(bbox=[10, 5, 20, 21])
    first, again, other = (
        list(read_coco(write(tmp_path, c, name)).identities()) for c, name in ((same, "a"), (same, "b"), (moved, "c"))
    )
    assert first == again and first[0] != other[0] and first[1] == other[1]
    triangle = with_annotation(segmentation=[[10, 5, 30, 5, 30, 25]])
    whole, cut = (list(read_coco(write(tmp_path, c), masks=True).identities()) for c in (content(), triangle))
    assert whole[0] != cut[0] and whole[1] == cut[1]


def test_images_that_are_listed_twice_are_counted(tmp_path, caplog):
    changed = content()
    read_coco(write(tmp_path, changed))
    assert not caplog.text
    changed["images"].append({**changed["images"][0], "id": 8})
    assert len(read_coco(write(tmp_path, changed))) == 3
    assert "images whose file another image has: 1, for example 8 that of 7; list each file once" in caplog.text


def test_boxes_that_reach_beyond_their_image_are_counted(tmp_path, caplog):
    annotations = [
        {"id": number, "image_id": 7, "category_id": 4, "bbox": box, "segmentation": SQUARE}
        for number, box in enumerate([[10, 10, 45, 38], [20, 5, 49, 39], [5, 5, 20, 20], [1, 1, 50, 39]])
    ]
    read_coco(write(tmp_path, content(annotations=annotations)))
    assert "cut at its border: 2 of 4, for example that of annotation 0" in caplog.text and "x1, y1" not in caplog.text
    read_coco(write(tmp_path, content(annotations=annotations[:3])))
    assert "2 of 3, for example that of annotation 0; are they x1, y1, x2, y2?" in caplog.text


def without(name):
    return {key: value for key, value in content().items() if key != name}


TWICE = deepcopy(content()["annotations"][:1] * 2)
FAULTS = [
    (without("images"), r"has no images, but \['annotations', 'categories'\]; expected COCO format"),
    (without("annotations"), r"has no annotations, but \['categories', 'images'\]; expected COCO format"),
    (without("categories"), r"has no categories, but \['annotations', 'images'\]; expected COCO format"),
    ([1, 2], r"is a list; expected COCO format, an object with images, annotations, categories"),
    (content(images=3), r"images is 3; expected a list of objects"),
    (content(images=[]), r"lists no images; training and validation need at least one"),
    (content(categories=[]), r"has no categories; expected at least one, with id and name"),
    (content(categories=[{"id": 1}]), r"category \{'id': 1\}: expected a whole number as id, and a name"),
    (content(categories=[{"id": 4, "name": "a"}, {"id": 4, "name": "b"}]), r"category 4 'b': its id appears twice"),
    (content(images=[{"id": 7, "file_name": "a"}]), r"image 7: expected height and width in pixels"),
    (content(images=[{"file_name": "a"}]), r"expected a whole number as id, and a file_name"),
    (content(images=content()["images"] * 2), r"image id 7 appears twice; ids must differ"),
    (content(annotations=TWICE), r"annotation 11: ids must be whole numbers of 64 bits that differ"),
    (with_annotation(image_id=5), r"annotation 11: it is of image 5, which is not among the images"),
    (with_annotation(category_id=5), r"annotation 11: its category_id is 5, which is not among the categories"),
    (with_annotation(image_id=[7]), r"annotation 11: it is of image \[7\], which is not among the images"),
    (with_annotation(category_id={}), r"annotation 11: its category_id is \{\}, which is not among the categories"),
    (
        content(images=[{"id": 7, "file_name": "a", "height": 20_000, "width": 30_000}]),
        r"image 7: it is of 30000 x 20000 pixels; the limit is 100 million",
    ),
    (with_annotation(bbox=[1, 2, 3]), r"its bbox is \[1, 2, 3\]; expected \[x, y, width, height\] in pixels"),
    (with_annotation(bbox=[1, 2, -3, 4]), r"expected finite numbers, and a width and height of at least 0"),
    (with_annotation(bbox="1 2 3 4"), r"its bbox is '1 2 3 4'"),
    (with_annotation(iscrowd=2), r"iscrowd is 2; expected 0 or 1"),
    (with_annotation(area="big"), r"its area is 'big'; expected a number of pixels"),
    (with_annotation(segmentation=[[1, 2, 3, 4, 5, 6, 7]]), r"a polygon has 7 numbers, an odd count"),
    (with_annotation(segmentation=[[1, 2, 3, 4]]), r"a polygon has 4 numbers; expected at least 6, three corners"),
    (with_annotation(segmentation=[["x"] * 6]), r"a polygon is \['x'.*expected a list of numbers"),
    (with_annotation(segmentation=[1, 2, 3, 4, 5, 6]), r"a polygon is 1; expected a list of numbers"),
    (
        with_annotation(segmentation={"size": [50, 40], "counts": [2000]}),
        r"its run lengths are of size 40 x 50, but its image of 50 x 40; size is \[height, width\]",
    ),
    (with_annotation(segmentation={"size": [40, 50], "counts": [9]}), r"add up to 9 pixels, but its image has 2000"),
    (with_annotation(segmentation={"size": [40, 50], "counts": [-1, 2001]}), r"expected whole numbers from 0"),
    (with_annotation(segmentation={"counts": "x"}), r"expected run lengths with size \[height, width\] and counts"),
    (with_annotation(segmentation="mask.png"), r"its segmentation is of type str; expected a list of polygons"),
    (
        with_annotation(segmentation=[]),
        r"it has no segmentation, but masks are learned; model.head_options.mask_convs=null",
    ),
]


@pytest.mark.parametrize(("wrong", "message"), FAULTS, ids=lambda value: value[:40] if isinstance(value, str) else "")
def test_each_fault_has_its_own_message(tmp_path, wrong, message):
    with pytest.raises(ValueError, match=rf"set\.json:? .*{message}"):
        read_coco(write(tmp_path, wrong), masks=True)


def test_without_masks_segmentations_are_not_looked_at(tmp_path):
    assert len(read_coco(write(tmp_path, with_annotation(segmentation="x"))).objects(0).boxes) == 1


@pytest.mark.parametrize(("counts", "message"), [("0000000000", "add up to 0 pixels"), ("`", "the text ends early")])
def test_compressed_run_lengths_are_looked_at_before_an_evaluation_hangs_on_them(tmp_path, counts, message):
    changed = with_annotation(segmentation={"size": [40, 50], "counts": counts})
    with pytest.raises(ValueError, match=rf"set\.json: annotation 11: its run lengths .*{message}"):
        read_coco(write(tmp_path, changed), masks=True)


@pytest.mark.parametrize("first", [0, None], ids=["from 0", "without"])
def test_an_object_of_id_0_is_found_as_any_other(tmp_path, first):
    changed = content()
    for number, annotation in enumerate(changed["annotations"]):
        annotation.pop("id")
        annotation |= {} if first is None else {"id": number}
    truth = read_coco(write(tmp_path, changed)).ground_truth()
    assert [entry["id"] for entry in truth["annotations"]] == list(range(1, len(changed["annotations"]) + 1))


@pytest.mark.parametrize("given", [{}, {"area": None}], ids=["missing", "null"])
@pytest.mark.parametrize("form", ["polygon", "run lengths"])
def test_without_an_area_it_is_that_of_the_mask(tmp_path, given, form):
    thin = [[10, 5, 11, 5, 30, 25, 29, 25]]
    runs = coco_mask.merge(coco_mask.frPyObjects(thin, 40, 50))
    segmentation = thin if form == "polygon" else {"size": [40, 50], "counts": runs["counts"].decode()}
    path = write(tmp_path, with_annotation(segmentation=segmentation, **given))
    areas = [read_coco(path, masks=masks).ground_truth()["annotations"][0]["area"] for masks in (True, False)]
    assert areas == [coco_mask.area(runs), 400] and areas[0] < 40


@pytest.mark.parametrize("area", [0, -3, 7.5])
def test_a_given_area_stays_what_it_is(tmp_path, area):
    images = read_coco(write(tmp_path, with_annotation(area=area)), masks=True)
    assert images.ground_truth()["annotations"][0]["area"] == area
    assert images.counts().tolist() == [int(area > 0), 0]


@pytest.mark.parametrize("part", ["images", "annotations", "categories"])
def test_ids_beyond_64_bits_are_named(tmp_path, part):
    changed = content()
    changed[part][0]["id"] = 10**20
    with pytest.raises(ValueError, match=r"set\.json: .*(whole number|among)"):
        read_coco(write(tmp_path, changed))


def test_a_missing_file_gets_a_suggestion(tmp_path):
    write(tmp_path, content(), "instances.json")
    with pytest.raises(FileNotFoundError, match=r"did you mean 'instances.json'\?"):
        read_coco(tmp_path / "instance.json")
    with pytest.raises(FileNotFoundError, match="no root folder of the images"):
        read_coco(tmp_path / "instances.json", root=tmp_path / "gone")
