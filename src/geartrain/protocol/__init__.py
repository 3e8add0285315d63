"""Gearman without IO: no socket, no clock, no randomness, no event loop."""
