"""What Winograd convolution is: exact matrices, growth of every stage, kernels and strides. No hardware, no rounding."""
