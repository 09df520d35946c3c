"""Movies: reading, writing, time stamps, sound, damage, verification."""
