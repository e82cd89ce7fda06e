"""Questions on a knowledge graph: samples for training and evaluation, and the known answers.

A question is (head, relation, ?), with a relation from 0 to R - 1, or (?, relation, tail), asked as
(tail, relation + R, ?). Question 2 i asks for the tail of fact i, question 2 i + 1 for its head.
"""

import numpy as np
import torch

from datasets.samples import EvalSamples, TrainSamples


def questions_of(triples: np.ndarray, numbers: np.ndarray, num_relations: int) -> np.ndarray:
    """The questions of these numbers [M], with their answers: int64 [M, 3], given entity, relation, answer."""
    asked = triples[numbers // 2]
    backwards = (numbers % 2 == 1)[:, None]
    return np.where(backwards, asked[:, ::-1] + np.array([0, num_relations, 0]), asked)


class KnownAnswers:
    """Finds the entities known to answer a question.

    Args:
        triples: the known facts, int64 [N, 3].
        num_relations: R.
    """

    def __init__(self, triples: np.ndarray, num_relations: int):
        both = np.concatenate([triples, triples[:, ::-1] + np.array([0, num_relations, 0])])
        order = np.lexsort((both[:, 1], both[:, 0]))
        self._num_keys = 2 * num_relations
        self._keys = both[order, 0] * self._num_keys + both[order, 1]
        self._answers = both[order, 2]

    def __len__(self) -> int:
        """The number of known facts."""
        return len(self._answers) // 2

    def of(self, entities: np.ndarray, relations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """For questions [B]: their rows [M], and the entities [M] that are known to answer them."""
        keys = entities * self._num_keys + relations
        first, last = (np.searchsorted(self._keys, keys, side) for side in ("left", "right"))
        count = last - first
        row = np.repeat(np.arange(len(keys)), count)
        within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        return row, self._answers[np.repeat(first, count) + within]


class TrainQuestions(TrainSamples):
    """Questions whose answers are facts of the training graph, in both directions.

    A batch is as in `EvalQuestions`, and may have `negatives` [B, K], entities not known to be right.

    Args:
        triples: the facts [N, 3].
        known: the answers that are known.
        num_entities, num_relations: how many there are; relations without inverses.
        seed, stream: see `TrainSamples`.
        num_negatives: K.
    """

    def __init__(
        self,
        triples: np.ndarray,
        known: KnownAnswers,
        num_entities: int,
        num_relations: int,
        seed: int,
        stream: str = "train",
        num_negatives: int = 0,
    ):
        super().__init__(range(2 * len(triples)), seed, stream)
        self._triples, self._known, self._num_relations = triples, known, num_relations
        self._num_entities, self._num_negatives = num_entities, num_negatives

    def read(self, item: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        (question,) = questions_of(self._triples, np.array([item]), self._num_relations)
        sample = {"question": question}
        if self._num_negatives:
            sample["negatives"] = self._draw(question, rng)
        return sample

    def _draw(self, question: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Entities [K], drawn with replacement from those not known to answer; from all if every one is."""
        _, known = self._known.of(question[:1], question[1:2])
        known = np.unique(known)
        if len(known) >= self._num_entities:
            return rng.integers(self._num_entities, size=self._num_negatives)
        # The k-th entity that is not known is k plus the number of known ones before it.
        drawn = rng.integers(self._num_entities - len(known), size=self._num_negatives)
        return drawn + np.searchsorted(known - np.arange(len(known)), drawn, side="right")

    def collate(self, samples: list[dict[str, np.ndarray]]) -> dict[str, torch.Tensor]:
        batch = _collate(samples, self._known)
        if self._num_negatives:
            batch["negatives"] = torch.from_numpy(np.stack([sample["negatives"] for sample in samples]))
        return batch

    def facts_of(self, numbers: range) -> np.ndarray:
        """The facts that samples of these numbers ask for: rows of the training facts."""
        return np.array([self.item_at(number) // 2 for number in numbers])

    def path(self, number: int) -> str:
        return f"fact {self.item_at(number) // 2}"


class EvalQuestions(EvalSamples):
    """Both questions of every fact asked for, once.

    A batch has `heads`, `relations`, `answers` [B], and `known` [2, M], rows and entities of other right answers.

    Args:
        triples: the facts [N, 3] to ask for.
        known: the answers that are known.
        num_relations: R.
    """

    def __init__(self, triples: np.ndarray, known: KnownAnswers, num_relations: int):
        super().__init__(range(2 * len(triples)))
        self._triples, self._known, self._num_relations = triples, known, num_relations

    def read(self, item: int) -> dict[str, np.ndarray]:
        (question,) = questions_of(self._triples, np.array([item]), self._num_relations)
        return {"question": question}

    def collate(self, samples: list[dict[str, np.ndarray]]) -> dict[str, torch.Tensor]:
        return _collate(samples, self._known)

    def path(self, number: int) -> str:
        return f"fact {number // 2}"


def _collate(samples: list[dict[str, np.ndarray]], known: KnownAnswers) -> dict[str, torch.Tensor]:
    questions = np.stack([sample["question"] for sample in samples])
    heads, relations, answers = torch.from_numpy(questions.T.copy())
    right = torch.from_numpy(np.stack(known.of(questions[:, 0], questions[:, 1])))
    return {"heads": heads, "relations": relations, "answers": answers, "known": right}
