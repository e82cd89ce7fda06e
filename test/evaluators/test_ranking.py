"""Ranks and their means against golden numbers, which were made with exact fractions, and by hand."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from evaluators.gather import gather
from evaluators.ranking import RankingEvaluation, Ranks, rows_of_questions

GOLDEN = json.loads((Path(__file__).parent.parent / "golden" / "kg_ranking.json").read_text())


class OneRank:
    def gather(self, value):
        return [value]


def ranks_of(queries):
    """The ranks of questions with their own numbers of candidates."""
    counts = []
    for query in queries:
        scores, known = torch.tensor([query["scores"]]), torch.tensor(query["filter"], dtype=torch.long)
        rows = rows_of_questions(
            torch.tensor([0]), scores, torch.tensor([query["target"]]), torch.stack([torch.zeros_like(known), known])
        )
        assert rows["finite"].all()
        counts.append(rows["others"][0])
    return Ranks(*np.array(counts).T)


def assert_scores(actual, expected):
    for name, value in expected.items():
        assert actual[name] == pytest.approx(value, rel=1e-12, abs=1e-12), name


@pytest.mark.parametrize("part", ["tiny", "scores"])
def test_ranks_of_golden_scores(part):
    golden = GOLDEN[part]
    ranks = ranks_of(golden["queries"])
    assert ranks.mean_rank_of_ties.tolist() == golden["ranks"]
    assert ranks.optimistic.tolist() == golden["ranks_optimistic"]
    assert ranks.pessimistic.tolist() == golden["ranks_pessimistic"]
    assert ranks.others.tolist() == golden["num_negatives"]
    assert_scores(ranks.scores(), golden["expected"])


def golden_graph():
    """Rows of all questions of the golden graph in batches of 7, by the plainest way to find what is known."""
    graph = GOLDEN["graph"]
    asked = np.array(graph["test"])
    known = {tuple(fact) for part in ("train", "valid", "test") for fact in graph[part]}
    table = torch.tensor(graph["scores_r_h_t"])  # [R, N, N]
    questions = []
    for head, relation, tail in asked.tolist():
        tails = [t for t in range(graph["num_entities"]) if (head, relation, t) in known]
        heads = [h for h in range(graph["num_entities"]) if (h, relation, tail) in known]
        questions += [(table[relation, head], tail, tails), (table[relation, :, tail], head, heads)]
    batches = []
    for first in range(0, len(questions), 7):
        part = questions[first : first + 7]
        row = [row for row, (_, _, right) in enumerate(part) for _ in right]
        batches.append(
            {
                "index": torch.arange(first, first + len(part)),
                "scores": torch.stack([scores for scores, _, _ in part]),
                "answers": torch.tensor([answer for _, answer, _ in part]),
                "known": torch.tensor([row, [entity for _, _, right in part for entity in right]]),
                "failures": [],
            }
        )
    return graph, asked, batches


def evaluate(batches, asked, names, max_non_finite=0.0):
    def rows_of(batch):
        return rows_of_questions(batch["index"], batch["scores"], batch["answers"], batch["known"])

    gathered = gather(batches, rows_of, OneRank(), 2 * len(asked))
    return RankingEvaluation(gathered, asked, *names, "ind_test", 123, max_non_finite)


NAMES = ([f"e{number}" for number in range(23)], [f"r{number}" for number in range(4)])


def test_both_directions_of_a_golden_graph():
    graph, asked, batches = golden_graph()
    evaluation = evaluate(batches[::-1], asked, NAMES)
    ranks = evaluation.ranks.mean_rank_of_ties
    assert ranks[::2].tolist() == graph["tail_ranks"] and ranks[1::2].tolist() == graph["head_ranks"]
    assert_scores(evaluation.summary(), graph["expected"])
    tails = evaluation.index % 2 == 0
    assert_scores(evaluation.ranks.of(tails).scores(), graph["expected_tail"])
    assert_scores(evaluation.ranks.of(~tails).scores(), graph["expected_head"])
    for relation, expected in graph["expected_by_relation"].items():
        rows = asked[evaluation.index // 2, 1] == int(relation)
        assert_scores(evaluation.ranks.of(rows).scores(), expected)
    assert evaluation.score == evaluation.summary()["mrr"]


def test_the_report_has_every_relation_and_question(tmp_path):
    graph, asked, batches = golden_graph()
    evaluation = evaluate(batches, asked, NAMES)
    evaluation.write(tmp_path)
    relations = list(csv.DictReader((tmp_path / "relations.csv").open()))
    both = {row["relation"]: row for row in relations if row["asked for"] == "both"}
    for relation, expected in graph["expected_by_relation"].items():
        assert float(both[f"r{relation}"]["mrr"]) == pytest.approx(expected["mrr"], abs=1e-6)
    questions = list(csv.DictReader((tmp_path / "questions.csv").open()))
    assert [float(row["rank"]) for row in questions[::2]] == graph["tail_ranks"]
    head, relation, tail = asked[1]
    expected = {
        "question": "3",
        "head": f"e{head}",
        "relation": f"r{relation}",
        "tail": f"e{tail}",
        "asked for": "head",
    }
    assert expected.items() <= questions[3].items()
    text = "\n".join(evaluation.lines())
    assert "ind_test: 46 questions, 123 known facts" in text and "MRR" in evaluation.headline()


def test_ties_are_neither_for_nor_against_the_answer():
    """Where all scores are alike, sorting would make the first answer the best, and the last one the worst."""
    alike = ranks_of([{"scores": [0.5] * 9, "target": target, "filter": []} for target in range(9)])
    assert (alike.mean_rank_of_ties == 5).all()


def test_drawn_candidates_give_the_expected_hits():
    rng = np.random.default_rng(0)
    others = rng.integers(50, 200, size=20_000)
    better = rng.integers(others // 3)
    ranks = Ranks(better, np.zeros_like(better), others)
    assert ranks.drawn_hits() == pytest.approx(ranks.scores()["hits@10_50"], abs=0.01)
    assert ranks.drawn_hits(1) != ranks.drawn_hits(0) == ranks.drawn_hits(0)
    best = Ranks(np.zeros(3, int), np.zeros(3, int), np.array([0, 1, 500]))
    assert best.drawn_hits() == best.scores()["hits@10_50"] == 1
    worst = Ranks(np.array([1, 9]), np.zeros(2, int), np.array([1, 9]))
    assert worst.drawn_hits() == worst.scores()["hits@10_50"] == 0


def test_the_interval_holds_the_mean_and_narrows_with_more_questions():
    better = np.random.default_rng(0).integers(0, 20, size=2000)
    ranks = Ranks(better, np.zeros_like(better), np.full_like(better, 30))
    few = ranks.of(np.arange(100))
    (low, high), (few_low, few_high) = ranks.interval(), few.interval()
    assert low < ranks.scores()["mrr"] < high and high - low < (few_high - few_low) / 2


def test_answers_with_nan_count_as_last_and_too_many_leave_no_score():
    _, asked, batches = golden_graph()
    plain = evaluate(batches, asked, NAMES)
    batches[0]["scores"][2, 5] = float("nan")
    some = evaluate(batches, asked, NAMES, max_non_finite=0.1)
    assert some.ranks.mean_rank_of_ties[2] == plain.ranks.others[2] + 1
    assert some.score < plain.score and "NaN or infinite outputs for 1 of 46" in some.headline()
    none = evaluate(batches, asked, NAMES, max_non_finite=0.01)
    assert np.isnan(none.score) and "more than evaluation.max_non_finite=0.01" in "\n".join(none.lines())


def test_no_question_has_no_score():
    empty = evaluate([], np.zeros((0, 3), dtype=int), NAMES)
    assert empty.score == float("-inf") and np.isnan(empty.summary()["mrr"])
