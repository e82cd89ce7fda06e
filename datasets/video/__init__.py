"""Raw videos: reading, indexing, sampling and transforming clips."""
