"""Questions for training: both directions, what is known, what is drawn."""

import numpy as np

from datasets.graphs import KnownAnswers, TrainQuestions, questions_of
from datasets.samples import TrainSamples

FACTS = np.random.default_rng(0).integers((7, 3, 7), size=(40, 3))
FACTS = np.unique(FACTS, axis=0)
R = 3


def right_answers(entity, relation):
    if relation < R:
        return sorted(t for h, r, t in FACTS.tolist() if (h, r) == (entity, relation))
    return sorted(h for h, r, t in FACTS.tolist() if (t, r) == (entity, relation - R))


def test_question_numbers_name_both_directions():
    head, relation, tail = FACTS[5]
    questions = questions_of(FACTS, np.array([10, 11]), R)
    assert questions.tolist() == [[head, relation, tail], [tail, relation + R, head]]


def test_known_answers_are_those_of_a_search():
    known = KnownAnswers(FACTS, R)
    entities, relations = (part.ravel() for part in np.meshgrid(np.arange(7), np.arange(2 * R)))
    row, answer = known.of(entities, relations)
    for number, (entity, relation) in enumerate(zip(entities.tolist(), relations.tolist(), strict=True)):
        assert sorted(answer[row == number].tolist()) == right_answers(entity, relation)
    assert len(known) == len(FACTS)
    assert [len(part) for part in known.of(entities[:0], relations[:0])] == [0, 0]


def make(num_negatives=0, num_entities=7, seed=3):
    return TrainQuestions(FACTS, KnownAnswers(FACTS, R), num_entities, R, seed, "train", num_negatives)


def test_an_epoch_asks_for_every_fact_in_both_directions():
    samples = make()
    assert isinstance(samples, TrainSamples) and len(samples) == 2 * len(FACTS)
    asked = sorted(tuple(samples[number]["question"].tolist()) for number in range(len(samples)))
    both = questions_of(FACTS, np.arange(len(samples)), R)
    assert asked == sorted(map(tuple, both.tolist()))
    numbers = range(3, 9)
    facts = samples.facts_of(numbers)
    assert [samples[number]["index"] // 2 for number in numbers] == facts.tolist()
    assert samples.path(3) == f"fact {facts[0]}"


def test_a_batch_has_every_known_answer():
    samples = make()
    parts = [samples[number] for number in (0, 5, 9)]
    batch = samples.collate(parts)
    for row in range(3):
        entity, relation, answer = (batch[name][row].item() for name in ("heads", "relations", "answers"))
        known = batch["known"][1][batch["known"][0] == row].tolist()
        assert sorted(known) == right_answers(entity, relation) and answer in known
    assert "negatives" not in batch


def test_drawn_entities_are_never_right_and_cover_all_others():
    samples, again = make(500), make(500)
    for number in range(12):
        sample = samples[number]
        entity, relation, _ = sample["question"].tolist()
        wrong = set(range(7)) - set(right_answers(entity, relation))
        assert set(sample["negatives"].tolist()) == wrong
        assert (sample["negatives"] == again[number]["negatives"]).all()
    assert (make(500, seed=4)[0]["negatives"] != samples[0]["negatives"]).any()


def test_where_every_entity_is_right_any_is_drawn():
    facts = np.array([[0, 0, 0], [0, 0, 1]])
    samples = TrainQuestions(facts, KnownAnswers(facts, 1), 2, 1, 0, "train", 50)
    tails = next(sample for sample in map(samples.__getitem__, range(4)) if sample["question"][1] == 0)
    assert set(tails["negatives"].tolist()) == {0, 1}
