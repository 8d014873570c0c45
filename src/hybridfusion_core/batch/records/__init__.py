"""What a batch knows about itself on disk: its paths, its settings, what became of each field."""
