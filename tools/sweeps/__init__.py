"""Searches over settings: the trials, how each runs, and the table and page of their results."""
