"""How a run goes: settings, ranks, optimizer, loop, evaluation, checkpoints, run directory.

Nothing here knows a model or a data set by name; a task (see `tasks/`) hands them over.
"""
