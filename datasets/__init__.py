"""Data sets: videos and images, from files to batches."""
