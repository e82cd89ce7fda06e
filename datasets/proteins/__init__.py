"""Protein structures: read them, join their residues to graphs, and find what is known of their functions."""

from datasets.proteins.graph import ResidueGraphSettings, graph_of, residue_graph
from datasets.proteins.structure import RESIDUES, STRUCTURES, Backbone, is_structure, read_backbone, split_chain

__all__ = [
    "RESIDUES", "STRUCTURES", "Backbone", "ResidueGraphSettings", "graph_of", "is_structure", "read_backbone",
    "residue_graph", "split_chain",
]  # fmt: skip
