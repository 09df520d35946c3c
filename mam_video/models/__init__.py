"""Models: one contract (`base.py`), one file per model."""
