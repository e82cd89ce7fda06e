"""Command-line tools: train, evaluate, predict, benchmark and more."""
