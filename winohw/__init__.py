"""winohw: a bit-exact int8 Winograd convolution engine for open FPGAs."""

__version__ = "0.1.0"
