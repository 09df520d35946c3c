"""Clips with known truth, for tests of this package and of others."""
