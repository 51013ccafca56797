"""What the hardware computes: number formats, rounding, the golden model stage by stage, calibration."""
