"""Playing events into the pipeline, and measuring the resulting lists."""
