"""Running gateware: stream harness, compiled simulation, whole layers."""
