"""An explained answer with two paths, for tests of what is shown of it."""

from explain.path_report import ExplainedAnswer
from explain.paths import AnswerPath, AnswerPaths

PEOPLE = ("George", "Hanna", "Flora", "Nadia", "Carl", "a $name$ that is\nmuch too long for a picture")
RELATIONS = ("father_of", "mother_of", "sister_of", "brother_of", "grandfather_of")
SHORT = AnswerPath((0, 1), (0, 1, 2), ((0, 0, 1), (1, 1, 2)), 0.5, 3.8, -1.4)
LONG = AnswerPath((2, 13, 1), (0, 3, 1, 2), ((0, 0, 3), (1, 2, 3), (1, 1, 2)), 0.7, 1.25, -1.5)


def explained(paths, answer=2, known=False):
    found = AnswerPaths(0, 4, answer, 3.724, list(paths))
    return ExplainedAnswer(("George", "grandfather_of", "?"), 0.98712, known, found, PEOPLE, RELATIONS)
