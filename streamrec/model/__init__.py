"""The model: recall channels, ranking, and training; only training needs torch and river."""
