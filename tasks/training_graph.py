"""The graph of the training facts, without what a batch asks for."""

from typing import Literal

import torch
from torch_geometric.data import Data

from eurgraph.reach import IndexedGraph, index_graph


class TrainingGraph:
    """A graph of facts and their inverses, as `datasets.graphs.knowledge_graph` makes it, in sorted order.

    Args:
        graph: edge i < N is fact i, edge N + i its inverse.
        num_relations: relations of the facts, without inverses.
    """

    def __init__(self, graph: Data, num_relations: int):
        self.index = index_graph(graph, 2 * num_relations)
        self._num_facts = graph.edge_index.shape[1] // 2
        self._place = torch.empty_like(self.index.edge)
        self._place[self.index.edge] = torch.arange(len(self._place), device=self._place.device)
        ends = self.index.source, self.index.target
        self._ends = torch.minimum(*ends) * graph.num_nodes + torch.maximum(*ends)

    def without(self, facts: torch.Tensor, remove: Literal["triple", "pair"]) -> IndexedGraph:
        """The graph without the edges of some facts [B] and of their inverses.

        `pair`: also without every other edge between the two entities of such a fact.
        """
        gone = self._place[torch.cat([facts, facts + self._num_facts])]
        if remove == "pair":
            return self.index.only(~torch.isin(self._ends, self._ends[gone]))
        keep = torch.ones_like(self._place, dtype=torch.bool)
        keep[gone] = False
        return self.index.only(keep)
