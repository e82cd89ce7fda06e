"""Figures that scripts draw."""
