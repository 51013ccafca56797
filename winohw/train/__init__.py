"""Training for the cheapest datapath: Winograd-aware quantized layers, export to the integer model, and search."""
