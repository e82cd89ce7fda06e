"""What `tools/benchmark.py` measures, one module each."""
