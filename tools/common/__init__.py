"""Shared by the scripts: command lines, errors, finding runs, locations of reports and results."""
