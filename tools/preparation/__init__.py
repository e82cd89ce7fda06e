"""Implements the scripts that check and convert files before training."""
