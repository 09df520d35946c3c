"""What travels between the stages: frames, geometry, time, settings, errors. No files, no models."""
