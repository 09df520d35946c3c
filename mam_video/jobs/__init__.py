"""From files to files: matting a clip, previewing, evaluating."""
