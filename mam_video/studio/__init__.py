"""The page where an artist works: a local server over the same library as the command line."""
