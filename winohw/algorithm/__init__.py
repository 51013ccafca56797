"""What Winograd convolution is: exact matrices, growth of every stage, kernels, strides. No hardware, no rounding."""
