"""The sequence model: the only package that imports torch and river."""
