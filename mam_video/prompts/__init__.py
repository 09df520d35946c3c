"""What the user points with: boxes, points, text; values and their parsers."""
