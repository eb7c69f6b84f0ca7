"""Measuring two sides beside each other: processes, probes, statistics."""
