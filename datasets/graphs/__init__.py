"""Knowledge graphs: facts in text files, the graph they form, and the questions on it."""

from datasets.graphs.names import Names
from datasets.graphs.questions import EvalQuestions, KnownAnswers, TrainQuestions, questions_of
from datasets.graphs.splits import GraphQuestions, KnowledgeSplits, read_splits
from datasets.graphs.triples import Columns, Triples, facts_of, knowledge_graph, read_triples

__all__ = ["Columns", "EvalQuestions", "GraphQuestions", "KnowledgeSplits", "KnownAnswers", "Names", "TrainQuestions",
           "Triples", "facts_of", "knowledge_graph", "questions_of", "read_splits", "read_triples"]  # fmt: skip
