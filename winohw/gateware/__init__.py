"""The Amaranth components, one file a stage, and the engine that joins them."""
