"""What a batch reports about its fields: tables, lists, a page."""
