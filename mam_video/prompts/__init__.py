"""Prompts that users give: boxes, points and words; values and their parsers."""
