"""Synthetic training scenes: layers, motion, photographic degradation, prompts, hair."""
