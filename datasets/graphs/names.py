"""Names of entities and relations, and their numbers."""

from collections.abc import Iterable, Sequence

from settings import did_you_mean


class Names(Sequence):
    """Names in the order of their numbers, from 0; a name is added by `add`.

    Args:
        names: the first of them.
        kind: what they name, for messages: "entity" or "relation".
    """

    def __init__(self, names: Iterable[str] = (), kind: str = "entity"):
        self.kind = kind
        self._numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
        self._names: tuple[str, ...] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        if self._names is None or len(self._names) < len(self._numbers):
            self._names = tuple(self._numbers)
        return self._names

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, number):
        return self.names[number]

    def __contains__(self, name: object) -> bool:
        return name in self._numbers

    def add(self, name: str) -> int:
        """The number of `name`, the next one if it is new."""
        return self._numbers.setdefault(name, len(self._numbers))

    def number(self, name: str) -> int:
        """The number of `name`.

        Raises:
            ValueError: it has none; the message has the nearest name.
        """
        number = self._numbers.get(name)
        if number is None:
            raise ValueError(f"no {self.kind} is called {name!r}{did_you_mean(name, self._near(name))}")
        return number

    def _near(self, name: str) -> list[str]:
        """Names that could be meant; of many, those with the same beginning or end: comparing all takes seconds."""
        if len(self) <= 2000:
            return list(self.names)
        start, end = name[:2].casefold(), name[-3:].casefold()
        folded = name.casefold()
        near = [other for other in self.names if other.casefold() == folded]
        similar = (o for o in self.names if o[:2].casefold() == start or o[-3:].casefold() == end)
        near += [other for other in similar if abs(len(other) - len(name)) <= 3]
        return near[:2000]
