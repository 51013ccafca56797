"""An oracle for int8 convolution: TFLite models written here, run by LiteRT's reference kernels."""

from dataclasses import dataclass

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from numpy.typing import NDArray

from winohw.numerics.requantize import Activation

FUSED = {
    Activation.NONE: schema.ActivationFunctionType.NONE,
    Activation.RELU: schema.ActivationFunctionType.RELU,
    Activation.RELU6: schema.ActivationFunctionType.RELU6,
}


@dataclass(frozen=True)
class LiteRtConvolution:
    """One CONV_2D operator: weights OHWI int8, a bias and a weight scale per output channel."""

    weights: NDArray[np.int8]
    bias: NDArray[np.int32]
    input_scale: float
    input_zero_point: int
    weight_scales: NDArray[np.float32]
    output_scale: float
    output_zero_point: int
    activation: Activation = Activation.NONE
    stride: int = 1
    padding: str = "same"

    def run(self, pixels: NDArray[np.int8]) -> NDArray[np.int8]:
        """Output pixels NHWC of the input pixels NHWC."""
        interpreter = Interpreter(
            model_content=self.model(pixels.shape), experimental_op_resolver_type=OpResolverType.BUILTIN_REF
        )
        interpreter.allocate_tensors()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], pixels)
        interpreter.invoke()
        return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])

    def output_shape(self, shape: tuple[int, ...]) -> list[int]:
        filters, *kernel, _ = self.weights.shape
        lost = [0, 0] if self.padding == "same" else [size - 1 for size in kernel]
        extents = [-(-(size - less) // self.stride) for size, less in zip(shape[1:3], lost, strict=True)]
        return [shape[0], *extents, filters]

    def model(self, shape: tuple[int, ...]) -> bytes:
        """The flatbuffer of the model for inputs of that shape."""
        buffers = [schema.BufferT(), schema.BufferT(data=list(self.weights.tobytes()))]
        buffers.append(schema.BufferT(data=list(self.bias.astype("<i4").tobytes())))
        kind = schema.TensorType
        zeros = np.zeros(len(self.bias), dtype=int)
        bias_scales = np.float32(self.input_scale) * self.weight_scales
        tensors = [
            _tensor("input", kind.INT8, shape, 0, [self.input_scale], [self.input_zero_point]),
            _tensor("weights", kind.INT8, self.weights.shape, 1, self.weight_scales, zeros),
            _tensor("bias", kind.INT32, self.bias.shape, 2, bias_scales, zeros),
            _tensor("output", kind.INT8, self.output_shape(shape), 0, [self.output_scale], [self.output_zero_point]),
        ]
        options = schema.Conv2DOptionsT(
            padding=schema.Padding.SAME if self.padding == "same" else schema.Padding.VALID,
            strideW=self.stride,
            strideH=self.stride,
            fusedActivationFunction=FUSED[self.activation],
            dilationWFactor=1,
            dilationHFactor=1,
        )
        operator = schema.OperatorT(
            opcodeIndex=0,
            inputs=[0, 1, 2],
            outputs=[3],
            builtinOptionsType=schema.BuiltinOptions.Conv2DOptions,
            builtinOptions=options,
        )
        graph = schema.SubGraphT(tensors=tensors, inputs=[0], outputs=[3], operators=[operator])
        code = schema.OperatorCodeT(
            builtinCode=schema.BuiltinOperator.CONV_2D,
            deprecatedBuiltinCode=schema.BuiltinOperator.CONV_2D,
            version=3,
        )
        model = schema.ModelT(version=3, operatorCodes=[code], subgraphs=[graph], buffers=buffers)
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def _tensor(name, kind, shape, buffer, scales, zero_points):
    quantization = schema.QuantizationParametersT(
        scale=[float(scale) for scale in scales], zeroPoint=[int(zero) for zero in zero_points], quantizedDimension=0
    )
    return schema.TensorT(name=name, type=kind, shape=list(shape), buffer=buffer, quantization=quantization)
