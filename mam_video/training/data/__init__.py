"""Training pictures, cut-outs and composites as they lie on disk."""
