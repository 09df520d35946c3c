"""Training pictures, cut-outs and composites on disk."""
