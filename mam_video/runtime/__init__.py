"""Threads, timing, and files that are committed or rolled back. Nothing here knows what a matte is."""
