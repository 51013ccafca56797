"""Whole layers and networks for the engine: images, filter banks, cost model."""
