"""Explained answers as text and as a table."""

from explained_answers import LONG, SHORT, explained

from explain.path_report import COLUMNS, answer_lines, path_text, table_rows


def test_a_path_is_a_line_with_arrows_from_head_to_tail():
    assert path_text(explained([LONG]), LONG) == "George -father_of-> Nadia <-sister_of- Hanna -mother_of-> Flora"


def test_an_answer_is_shown_with_its_paths():
    assert answer_lines(explained([SHORT, LONG], known=True)) == [
        " 98.71 % Flora  (known, score without this fact 3.72)",
        "    1. George -father_of-> Hanna -mother_of-> Flora",
        "       score 3.80 with nothing else, -1.40 without it",
        "    2. George -father_of-> Nadia <-sister_of- Hanna -mother_of-> Flora",
        "       score 1.25 with nothing else, -1.50 without it",
    ]
    first, second = answer_lines(explained([]))
    assert first == " 98.71 % Flora  (score 3.72)" and second.startswith("    no path")


def test_the_table_has_a_row_for_each_step():
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in table_rows(explained([SHORT, LONG]))]
    assert [(row["path"], row["step"]) for row in rows] == [("1", "1"), ("1", "2"), ("2", "1"), ("2", "2"), ("2", "3")]
    assert rows[3] == {
        "head": "George", "relation": "grandfather_of", "tail": "?", "answer": "Flora", "probability": "0.987120",
        "known": "no", "score": "3.724000", "path": "2", "score_alone": "1.250000", "score_without": "-1.500000",
        "importance": "0.700000", "step": "2", "fact_head": "Hanna", "fact_relation": "sister_of", "fact_tail": "Nadia",
    }  # fmt: skip
    (row,) = table_rows(explained([], known=True))
    assert len(row) == len(COLUMNS) and row[3:7] == ["Flora", "0.987120", "yes", "3.724000"] and not any(row[7:])
