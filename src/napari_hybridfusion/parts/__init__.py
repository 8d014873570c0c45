"""Boxes, lines and pictures that several forms share."""
