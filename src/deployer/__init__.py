"""Replaces a running service without losing the work it is doing."""

__version__ = "0.1.0"
