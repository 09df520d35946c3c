"""Image sequences: patterns, headers, pixels, verification."""
