"""TIFF, OME-TIFF and ImageJ TIFF, read and written."""
