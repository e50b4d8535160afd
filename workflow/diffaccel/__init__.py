"""Finds how far a diffusion pipeline can be accelerated without visible loss."""

__version__ = "0.1.0"
