"""Models: one contract (`base.py`), one file each."""
