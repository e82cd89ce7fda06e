"""Skeletons: reading, listing, and normalizing them to one length and size."""

from datasets.skeletons.files import SKELETONS, find_skeletons, read_skeleton
from datasets.skeletons.lists import NAMES, read_skeletons
from datasets.skeletons.samples import Skeleton, SkeletonSamples, SkeletonViews, SkeletonViewSettings

__all__ = [
    "NAMES", "SKELETONS", "Skeleton", "SkeletonSamples", "SkeletonViewSettings", "SkeletonViews", "find_skeletons",
    "read_skeleton", "read_skeletons",
]  # fmt: skip
