"""Fusions: the steps of `transformer`, how much they must fuse, and which one is to blame for a wrong graph."""
