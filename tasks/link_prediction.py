"""Link prediction on knowledge graphs: which entity answers (head, relation, ?), and which (?, relation, tail).

Protocol: Zhu et al., Neural Bellman-Ford Networks, NeurIPS 2021, https://arxiv.org/abs/2106.06935: every fact of the
training graph is asked for in both directions; the asked facts of a batch are taken out of the graph first. Evaluation
ranks all entities, without those that are known to be right.

Done differently here: the loss is a softmax over all entities by default, without the other known answers; ties count
at their mean rank; a batch means the same facts on any number of ranks.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from datasets.graphs import GraphQuestions, KnowledgeSplits, Names, knowledge_graph, read_splits
from datasets.samples import STREAMS, draw_order
from datasets.synthetic.families import FamiliesSettings, make_families
from engine.checkpoint import write_atomically
from engine.fingerprint import Contents, Part
from engine.progress import counted, progress_bar
from engine.task import Batch, Evaluation, NamedGraph, ResumeFolder, Task, TaskSettings
from evaluators.gather import gather
from evaluators.non_finite import MAX_NON_FINITE
from evaluators.ranking import RankingEvaluation
from evaluators.resumable_predictions import ResumablePredictions, Rows
from models import GRAPH_MODELS, WeightsError, create_model, load_pretrained
from settings import Settings, SettingsError
