"""The dock's part that reads and corrects a result."""
