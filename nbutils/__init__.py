"""Build a small judge of RAG answers from an expensive one, and measure how far to trust it."""

__version__ = "0.1.0"
