"""Talking to a board, or to a simulated one, over the same protocol."""
