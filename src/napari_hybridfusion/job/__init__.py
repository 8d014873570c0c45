"""Work beside the window: prepared, run, cancelled."""
