"""What a height map is good for: other channels along it, a table of what lies on it, and a mesh."""
