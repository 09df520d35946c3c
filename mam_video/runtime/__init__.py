"""Threads, time and files that end well; nothing here knows what a matte is."""
