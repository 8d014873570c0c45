"""Light that is not even: flat field and dark frame, read or estimated, and taken out when pixels are read."""
