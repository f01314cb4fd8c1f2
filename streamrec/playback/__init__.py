"""Playing events into the pipeline, in time, and watching what comes out."""
