"""The work of the scripts that check and convert files before training."""
