"""What a batch tells about its fields: flags, tables, pictures, a page."""
