"""Hydra composition to typed specs: the only door to hydra and omegaconf."""
