"""Every figure, and how figures look."""
