"""Many fields fused through Dask, resumable, with records, an output and a report."""
