"""Optical flow between neighbouring frames, and hard cuts."""
