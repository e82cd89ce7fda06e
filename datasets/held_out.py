"""A fraction of a list that is held out of training, chosen by a hash of the seed and of names.

So whether a file is held out depends neither on the other files nor on their order. Files of one source, such as clips
cut from one recording, share its name and are held out together.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence

import numpy as np

NUM_BITS = 64


def is_in_share(text: str, share: float) -> bool:
    """Whether `text` is in a fraction `share`, 0 to 1, of all texts: pseudorandom, but always the same."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=NUM_BITS // 8).digest()
    return int.from_bytes(digest, "big") < int(share * 2**NUM_BITS)


def held_out(names: Sequence[str], share: float, seed: int) -> np.ndarray:
    """Which files are held out, bool [N]: a function of the fraction, the seed and each name.

    Args:
        names: of each file, or of its source.
        share: fraction of the names that is held out, on average.
        seed: of the choice.

    Raises:
        ValueError: no file is held out, or every one is.
    """
    held = np.array([is_in_share(f"{seed}\t{name}", share) for name in names], dtype=bool)
    if held.all() or not held.any():
        which = "all" if held.any() else "none"
        raise ValueError(
            f"a fraction of {share:g} holds out {which} of {len(names)} files from {len(set(names))} sources; name a "
            "list of validation files, or choose another fraction or run.seed"
        )
    return held


def share_in_words(share: float, seed: int) -> str:
    """The files that `held_out` chooses, as reports name them."""
    return f"{100 * share:g} %, held out by seed {seed},"


def sources_by_pattern(ids: Iterable[str], pattern: str) -> list[str]:
    """The source of each file: the match of the first group of `pattern` in its id, else of the whole pattern.

    A file whose id does not match is its own source. Raises ValueError if none matches.
    """
    ids, expression = list(ids), re.compile(pattern)
    found = [expression.search(name) for name in ids]
    if not any(found):
        raise ValueError(f"{pattern!r} matches none of the {len(ids)} ids, for example {ids[0]!r}")
    sources = (match and match[bool(match.re.groups)] for match in found)  # None: an optional group that is not there
    return [name if source is None else source for name, source in zip(ids, sources, strict=True)]
