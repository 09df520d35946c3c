"""Matte a whole clip from one box on its first frame."""
