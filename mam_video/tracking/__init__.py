"""Where is the subject? One mask for each frame, with a state and the reasons for it."""
