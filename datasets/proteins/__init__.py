"""Protein structures: reading them, building residue graphs, and finding their known functions."""

from datasets.proteins.graph import ResidueGraphSettings, graph_of, residue_graph
from datasets.proteins.structure import RESIDUES, STRUCTURES, Backbone, is_structure, read_backbone, split_chain

__all__ = [
    "RESIDUES", "STRUCTURES", "Backbone", "ResidueGraphSettings", "graph_of", "is_structure", "read_backbone",
    "residue_graph", "split_chain",
]  # fmt: skip
