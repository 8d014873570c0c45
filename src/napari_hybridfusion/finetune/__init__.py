"""The dock that fine-tunes a model."""
