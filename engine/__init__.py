"""The training engine: ranks, optimizer, training loop, checkpoints, run directory.

Nothing here knows a model or a data set by name. A task (`engine/task.py`) provides them.
"""
