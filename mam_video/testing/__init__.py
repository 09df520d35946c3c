"""Models and clips for tests, ours and those of other packages."""
