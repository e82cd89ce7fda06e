"""Shared by the scripts: command lines, errors, finding runs, where reports and results go."""
