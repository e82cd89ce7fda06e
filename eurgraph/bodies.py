"""Bodies: which joints a skeleton has, and the bones between them. Joints are numbered as the files number them."""

from collections.abc import Sequence
from typing import NamedTuple


class Body(NamedTuple):
    """A tree of joints.

    `parents` raises ValueError if the bones do not connect every joint to the center in exactly one way.
    """

    bones: tuple[tuple[int, int], ...]
    """Pairs of joints, in any order."""
    center: int
    """The root of the tree, such as the hip."""

    @property
    def num_joints(self) -> int:
        return len(self.bones) + 1

    @property
    def parents(self) -> tuple[int, ...]:
        """For each joint its neighbor on the way to the center; for the center itself."""
        return _steps(self)[0]

    @property
    def depths(self) -> tuple[int, ...]:
        """For each joint the number of bones to the center."""
        return _steps(self)[1]


def _steps(body: Body) -> tuple[tuple[int, ...], tuple[int, ...]]:
    num_joints = body.num_joints
    joints = {joint for bone in body.bones for joint in bone} | {body.center}
    if wrong := sorted(joint for joint in joints if not 0 <= joint < num_joints):
        raise ValueError(
            f"{len(body.bones)} bones join the joints 0 to {num_joints - 1}, but the body names joint {wrong[0]}"
        )
    parents, depths = {body.center: body.center}, {body.center: 0}
    waiting = [body.center]
    while waiting:
        joint = waiting.pop(0)
        for bone in body.bones:
            other = bone[bone[0] == joint]
            if joint in bone and other not in parents:
                parents[other], depths[other] = joint, depths[joint] + 1
                waiting.append(other)
    if apart := sorted(set(range(num_joints)) - parents.keys()):
        raise ValueError(f"no bones lead from joint {apart[0]} to the center, joint {body.center}")
    return tuple(parents[joint] for joint in range(num_joints)), tuple(depths[joint] for joint in range(num_joints))


_MSR_ACTION3D = (
    *((19, 2), (0, 2), (1, 2), (0, 7), (7, 9), (9, 11), (1, 8), (8, 10), (10, 12), (2, 3), (3, 6), (6, 4), (6, 5)),
    *((4, 13), (5, 14), (13, 15), (14, 16), (15, 17), (16, 18)),
)
_KINECT = (
    *((0, 1), (1, 2), (2, 3), (2, 4), (4, 5), (5, 6), (6, 7), (2, 8), (8, 9), (9, 10), (10, 11)),
    *((0, 12), (12, 13), (13, 14), (14, 15), (0, 16), (16, 17), (17, 18), (18, 19)),
)
_KINECT_V2 = (
    *((0, 1), (1, 20), (20, 2), (2, 3), (20, 4), (4, 5), (5, 6), (6, 7), (20, 8), (8, 9), (9, 10), (10, 11)),
    *((0, 12), (12, 13), (13, 14), (14, 15), (0, 16), (16, 17), (17, 18), (18, 19)),
    *((7, 22), (22, 21), (11, 24), (24, 23)),
)
_OPENPOSE = (
    *((1, 0), (0, 14), (14, 16), (0, 15), (15, 17), (1, 2), (2, 3), (3, 4), (1, 5), (5, 6), (6, 7)),
    *((2, 8), (8, 9), (9, 10), (5, 11), (11, 12), (12, 13)),
)

BODIES = {
    "kinect": Body(_KINECT, center=0),
    "kinect_v2": Body(_KINECT_V2, center=0),
    "openpose": Body(_OPENPOSE, center=1),
    "msr_action3d": Body(_MSR_ACTION3D, center=6),
}
"""Kinect's first SDK (20 joints, UTKinect), its second (25, NTU RGB+D), OpenPose (18, Kinetics-skeleton), and the order
of MSR Action3D's files (20)."""


def body_for(num_joints: int, bones: Sequence[Sequence[int]] | None = None, center: int | None = None) -> Body:
    """The body with these bones or, without bones, the first of `BODIES` with this many joints; `center` overrides its.

    Raises ValueError if there is none, or the bones are not a tree of `num_joints` joints.
    """
    if bones is None:
        known = {body.num_joints: body for body in reversed(BODIES.values())}
        if num_joints not in known:
            numbers = ", ".join(f"{body.num_joints} ({name})" for name, body in BODIES.items())
            raise ValueError(f"no body of {num_joints} joints is known, but {numbers}; give its bones")
        body = known[num_joints]
    else:
        body = Body(tuple((int(first), int(second)) for first, second in bones), 0)
    if center is not None:
        body = body._replace(center=center)
    if body.num_joints != num_joints:
        raise ValueError(f"{num_joints} joints need {num_joints - 1} bones that join them, not {len(body.bones)}")
    _steps(body)  # raises if they are not a tree
    return body
