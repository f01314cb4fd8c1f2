"""The sequence model: the only place that imports torch and river."""
