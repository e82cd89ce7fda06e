"""Searches over settings: which trials there are, how each runs, and the table and page of their results."""
