"""One frozen description of an engine, and every width that follows from it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from winohw.algorithm.modular import ExactDivision
from winohw.algorithm.ranges import signed_bits, stage_widths
from winohw.algorithm.toomcook import Winograd, format_points, parse_points, winograd
from winohw.gateware.accumulator import RECURRENCE
from winohw.gateware.descriptor import DescriptorLimits
from winohw.gateware.multiplier import check_parameters, products_per_cell
from winohw.gateware.single_port_memory import LARGE_WORDS
from winohw.numerics.formats import Exact, Profile, Quantized

__all__ = ["EngineConfig"]


#: Sums of products of 8 bits are coarse: outputs of a quiet channel are larger than they.
_FRACTION_BITS = 7
#: Room for a bias that is many times as large as they.
_SUM_BITS = 24


@dataclass(frozen=True)
class EngineConfig:
    """Parameters of one engine. Two equal configurations give the same gateware.

    Parameters
    ----------
    tile_size : int
        m of F(m×m, r×r) for the main kernel; 1 is direct convolution.
    kernel_size : int
        r of the main kernel; n = m + r - 1 is at most 8.
    kernels : iterable of int
        All kernel sizes on offer at run time, each with the tile size n + 1 - r; only `kernel_size` unless told. More
        than one needs integer points.
    points : tuple, optional
        Toom-Cook points, as `winohw.algorithm.toomcook.winograd` takes them; None: its own.
    matrices : Winograd, optional
        Matrices of the user (learned ones) in place of sizes and points, for one kernel.
    profile : Exact or Quantized
        The arithmetic. Of a `Quantized` the hardware has the widths and the rounding; the shifts come with each layer.
    weights : str
        "chip": kernels are transformed by the engine; "host": they arrive transformed.
    input_lanes : int
        Pc, input channels a cycle, 1 or more.
    output_lanes : int
        Pk, output channels a cycle, 1 or more.
    fold : int
        Cycles a patch; divides n. The array has n·n·Pc·Pk / fold multipliers.
    max_tiles : int
        Tiles a block, 1 or more; those that the accumulators hold, but with a "stationary" datapath.
    line_words : int
        Words of each line buffer bank, 1 … 65536; a word holds one pixel of one patch, Pc channels.
    drain_tiles : int
        Tiles that wait between accumulators and output transform, 1 or more.
    output_columns : int
        Columns of a tile that the output transform takes a cycle; divides n / fold.
    max_products : int
        Most products of one output (channels · r · r), which bounds the accumulators' width; at least those of one
        group of input channels with the largest kernel.
    requantizer : str
        "tflite" (multiplier and shift) or "shift".
    requantizer_lanes : int
        Pixels a cycle, 1 … largest tile size.
    dimension_bits : int
        Width of sizes and counts, 4 … 16.
    family : str
        "generic", "ecp5" or "ice40": what multipliers and memories are made of.
    multiplier : str
        Kind of the multipliers, see `winohw.gateware.multiplier`; that of the family unless told, on ice40 with a
        stationary datapath the one of two products.
    statistics : bool
        Whether the engine counts cycles, those of work and of waiting; without, its status has zeros in their place.
        A wide datapath cannot do without.
    descriptor_checks : bool
        Whether fields of a descriptor are checked against each other; without, the host has to be trusted.
    datapath : str
        "wide", or one of two for parts with few registers, with one kernel of 2 or more, weights from the host, which
        wait in memory, one a beat of their stream, and one lane of input and requantizer; `drain_tiles` and
        `output_columns` have no meaning then. "compact", for the exact profile and one output lane: finished sums rest
        in the accumulators' memory and leave one a cycle through a pair of adders. "stationary", for the quantized
        profile with 8 bits or fewer of V and U: patches are transformed in the line buffer, once, and a sum stays in
        its register until all input channels have been added.
    line_memory : str
        "dual", or "single" with another datapath than the wide one: the line buffer's memories have one port, so that
        no pixels are taken while a block is computed. On ice40 these are the large memories, of 16384 words each.

    Raises
    ------
    TypeError, ValueError
        A parameter is of the wrong kind, out of range, or does not go with another.
    """

    tile_size: int = 4
    kernel_size: int = 3
    kernels: tuple[int, ...] = ()
    points: tuple | None = None
    matrices: Winograd | None = None
    profile: Profile = field(default_factory=Exact)
    weights: str = "chip"
    input_lanes: int = 1
    output_lanes: int = 1
    fold: int = 1
    max_tiles: int = 64
    line_words: int = 2048
    drain_tiles: int = 64
    output_columns: int = 1
    max_products: int = 9 * 1024
    requantizer: str = "tflite"
    requantizer_lanes: int = 1
    dimension_bits: int = 12
    family: str = "generic"
    multiplier: str = ""
    statistics: bool = True
    descriptor_checks: bool = True
    datapath: str = "wide"
    line_memory: str = "dual"

    def __post_init__(self) -> None:
        base = self.matrices
        if base is None:
            base = winograd(self.tile_size, self.kernel_size, self.points)
            if self.points is not None:
                object.__setattr__(self, "points", parse_points(self.points))
        elif self.points is not None:
            raise ValueError("points and matrices exclude each other")
        object.__setattr__(self, "tile_size", base.tile_size)
        object.__setattr__(self, "kernel_size", base.kernel_size)
        kernels = tuple(sorted(set(self.kernels or (self.kernel_size,))))
        object.__setattr__(self, "kernels", kernels)
        if self.kernel_size not in kernels:
            raise ValueError(f"kernels {kernels} do not contain the kernel size {self.kernel_size}")
        if len(kernels) > 1:
            if base.points is None:
                raise ValueError(f"several kernels {kernels} need Toom-Cook points; {base} has none")
            if base.fractional:
                raise ValueError(f"several kernels {kernels} need integer points, not {format_points(base.points)}")
            if kernels[0] < 1 or kernels[-1] >= base.n:
                raise ValueError(
                    f"kernels must be within 1 ... {base.n - 1} on an input tile of {base.n}, not {kernels}"
                )
        for name in (
            *("input_lanes", "output_lanes", "fold", "max_tiles"),
            *("line_words", "drain_tiles", "output_columns", "max_products"),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"{name} must be an integer, not {value!r}")
            if value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        if base.n % self.fold:
            raise ValueError(f"fold must divide the input tile {base.n}, not {self.fold}")
        if self.columns % self.output_columns:
            raise ValueError(
                f"output_columns must divide the {self.columns} columns a cycle, not {self.output_columns}"
            )
        least = kernels[-1] ** 2 * self.input_lanes
        if self.max_products < least:
            raise ValueError(
                f"max_products must be at least {least}, one group of input channels, not {self.max_products}"
            )
        for name, allowed in (
            ("weights", ("chip", "host")),
            ("requantizer", ("tflite", "shift")),
            ("family", ("generic", "ecp5", "ice40")),
            ("datapath", ("wide", "compact", "stationary")),
            ("line_memory", ("dual", "single")),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, not {getattr(self, name)!r}")
        if not 1 <= self.requantizer_lanes <= self.largest_tile:
            raise ValueError(
                f"requantizer_lanes must be within 1 ... {self.largest_tile}, not {self.requantizer_lanes}"
            )
        if not 4 <= self.dimension_bits <= 16:
            raise ValueError(f"dimension_bits must be within 4 ... 16, not {self.dimension_bits}")
        if self.line_words > 1 << 16:
            raise ValueError(f"line_words must be at most {1 << 16}, not {self.line_words}")
        for name in ("statistics", "descriptor_checks"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name} must be True or False, not {getattr(self, name)!r}")
        if not isinstance(self.profile, Exact | Quantized):
            raise TypeError(f"profile must be Exact or Quantized, not {self.profile!r}")
        if isinstance(self.profile, Exact) and not base.is_exact():
            raise ValueError(f"the exact profile needs exact matrices; those of {base} are not")
        if self.small:
            self._check_small()
        elif self.line_memory != "dual" or not self.statistics:
            raise ValueError(
                "a wide datapath needs the line_memory 'dual' and statistics, "
                f"not {self.line_memory!r} and {self.statistics}"
            )
        if not self.multiplier:
            dual = self.family == "ice40" and self.datapath == "stationary"
            object.__setattr__(self, "multiplier", "ice40_dual" if dual else self.family)
        check_parameters(self.v_bits, self.u_bits, self.multiplier)

    def _check_small(self) -> None:
        """The checks of the datapaths for small parts."""
        needs = f"a {self.datapath} datapath needs"
        stationary = self.datapath == "stationary"
        wanted_values = {
            "input_lanes": 1,
            **({"line_memory": "single"} if stationary else {"output_lanes": 1}),
            "requantizer_lanes": 1,
            "weights": "host",
            "kernels": (self.kernel_size,),
        }
        for name, wanted in wanted_values.items():
            if getattr(self, name) != wanted:
                raise ValueError(f"{needs} {name} {wanted!r}, not {getattr(self, name)!r}")
        if stationary != isinstance(self.profile, Quantized):
            wanted = "a quantized" if stationary else "the exact"
            raise ValueError(f"{needs} {wanted} profile, not {type(self.profile).__name__}")
        if stationary:
            self._check_stationary(needs)
        if self.input_tile < 3:
            raise ValueError(f"{needs} an input tile of 3 or more, not {self.input_tile}")
        if self.line_memory == "single":
            if self.fold == 1 or self.direct:
                raise ValueError("the line_memory 'single' needs a fold of 2 or more, and is not for direct engines")
            if self.family == "ice40" and self.line_words > LARGE_WORDS:
                raise ValueError(
                    f"line_words must be at most {LARGE_WORDS} with the line_memory 'single', not {self.line_words}"
                )

    def _check_stationary(self, needs: str) -> None:
        for name, bits in (("V", self.v_bits), ("U", self.u_bits)):
            if bits > 8:
                raise ValueError(f"{needs} {name} of at most 8 bits, not {bits}")
        if self.fold * 2 > self.input_tile:
            raise ValueError(f"{needs} a fold of at most {self.input_tile // 2}, not {self.fold}")

    # --- mathematics ---------------------------------------------------------------------------------------------
    def winograd(self, kernel: int | None = None) -> Winograd:
        """Matrices for one of the kernels, by default the main one."""
        if kernel is None or kernel == self.kernel_size:
            return self._base
        if kernel not in self.kernels:
            raise ValueError(f"this engine offers kernels {self.kernels}, not {kernel}")
        return winograd(self.input_tile + 1 - kernel, kernel, self._base.points)

    @cached_property
    def _base(self) -> Winograd:
        return self.matrices or winograd(self.tile_size, self.kernel_size, self.points)

    @cached_property
    def family_matrices(self) -> dict[int, Winograd]:
        """Matrices of every kernel on offer."""
        return {kernel: self.winograd(kernel) for kernel in self.kernels}

    @property
    def input_tile(self) -> int:
        """n, edge of the input tile."""
        return self.tile_size + self.kernel_size - 1

    @property
    def columns(self) -> int:
        """Q, tap columns a cycle."""
        return self.input_tile // self.fold

    @property
    def small(self) -> bool:
        """Whether the datapath is one of those for small parts."""
        return self.datapath != "wide"

    @property
    def direct(self) -> bool:
        """Whether this is a direct engine, which strides by itself; a 1x1 kernel leaves nothing to stride over."""
        return self.tile_size == 1 and len(self.kernels) == 1 and self.input_tile > 1

    @property
    def largest_tile(self) -> int:
        """Largest tile size of the kernels on offer."""
        return self.input_tile + 1 - min(self.kernels)

    @property
    def steps(self) -> tuple[int, ...]:
        """Distances between patches that the line buffer must serve."""
        return (1, 2) if self.direct else tuple(self.input_tile + 1 - r for r in self.kernels)

    @property
    def multipliers(self) -> int:
        """Multipliers of the array, each of which makes a product a cycle; those of the requantizer come on top."""
        return self.input_tile * self.columns * self.input_lanes * self.output_lanes

    @property
    def multiplier_cells(self) -> int:
        """DSP blocks that the array's multipliers take."""
        return -(-self.multipliers // products_per_cell(self.multiplier))

    @property
    def effective_macs_per_cycle(self) -> float:
        """Multiply-accumulates of direct convolution a cycle, for the main kernel."""
        return self.tile_size**2 * self.kernel_size**2 * self.input_lanes * self.output_lanes / self.fold

    # --- widths --------------------------------------------------------------------------------------------------
    @property
    def quantized(self) -> bool:
        """Whether stages are narrowed."""
        return isinstance(self.profile, Quantized)

    @cached_property
    def v_exact_bits(self) -> int:
        """Width of a transformed pixel before narrowing: the extremes of Bt d B over int8."""
        return stage_widths(self._base, 1).v

    @cached_property
    def u_exact_bits(self) -> int:
        """Width of a transformed weight before narrowing, over all kernels on offer."""
        return max(stage_widths(matrices, 1).u for matrices in self.family_matrices.values())

    @property
    def v_bits(self) -> int:
        """Width of a transformed pixel at the multipliers."""
        return self.profile.input.bits if self.quantized else self.v_exact_bits

    @property
    def u_bits(self) -> int:
        """Width of a transformed weight at the multipliers."""
        return self.profile.weight.bits if self.quantized else self.u_exact_bits

    @property
    def result_bits(self) -> int:
        """Width of the convolution's sums: |sum| <= max_products * 2^14."""
        return min(32, signed_bits(-self.max_products << 14, self.max_products << 14))

    @cached_property
    def division(self) -> ExactDivision:
        """Division by the matrices' factor, the same for all kernels on offer."""
        return ExactDivision(self._base.divisor**2, self.result_bits)

    @property
    def acc_bits(self) -> int:
        """Width of the accumulators: modular in the exact profile, wide enough in the quantized one."""
        if not self.quantized:
            return self.division.acc_bits
        channels = self.max_products // min(self.kernels) ** 2
        bound = channels << (self.v_bits + self.u_bits - 2)
        return signed_bits(-bound, bound)

    @property
    def m_bits(self) -> int:
        """Width of a sum at the output transform."""
        return self.profile.product.bits if self.quantized else self.acc_bits

    @property
    def max_shifts(self) -> tuple[int, int, int]:
        """Largest shifts of V, U and M: beyond the width there is nothing left to shift.

        With a stationary datapath one more than what avoids all saturation has to do, for V and M.
        """
        if self.datapath == "stationary":
            v_shift, m_shift = self.v_exact_bits - self.v_bits + 1, self.acc_bits - self.m_bits + 1
            return max(0, v_shift), min(31, self.u_exact_bits), min(31, max(0, m_shift))
        return min(31, self.v_exact_bits), min(31, self.u_exact_bits), min(31, self.acc_bits)

    @property
    def fraction_bits(self) -> int:
        """Bits behind the point of a sum at the requantizer: how far a requantization without multipliers may shift a
        sum to the left.
        """
        return _FRACTION_BITS if self.datapath == "stationary" and self.requantizer == "shift" else 0

    @property
    def largest_bias(self) -> int:
        """With `fraction_bits`, in units of the sums that leave the output transform."""
        return (1 << self.sum_bits - 1 - self.fraction_bits) - 1 - self._largest_sum

    @property
    def sum_bits(self) -> int:
        """Width of a sum at the requantizer, with its bias."""
        if not self.fraction_bits:
            return 32
        return min(32, max(_SUM_BITS, signed_bits(-self._largest_sum, self._largest_sum) + 1 + self.fraction_bits))

    @property
    def _largest_sum(self) -> int:
        """Magnitude of what leaves the output transform of the quantized profile."""
        return int(abs(self._base.at).sum(axis=1).max()) ** 2 << self.m_bits - 1

    def max_groups(self, kernel: int) -> int:
        """Most groups of Pc input channels with a kernel, so that the accumulators cannot overflow."""
        return self.max_products // (kernel**2 * self.input_lanes)

    @property
    def u_bytes(self) -> int:
        """Bytes of a transformed weight on the weight stream."""
        return 1 if self.u_bits <= 8 else 2 if self.u_bits <= 16 else 4

    @property
    def weight_bytes(self) -> int:
        """Bytes a beat of the weight stream: a kernel row, or a row of transformed weights, or one of them."""
        if self.small:
            return self.u_bytes
        return max(self.kernels) if self.weights == "chip" else self.input_tile * self.u_bytes

    def row_bytes(self, kernel: int) -> int:
        """Bytes of a kernel row that count: what a beat holds beyond the kernel is filling."""
        return kernel if self.weights == "chip" else self.weight_bytes

    def kernel_rows(self, kernel: int) -> int:
        """Beats of one kernel."""
        if self.small:
            return self.input_tile**2
        return kernel if self.weights == "chip" else self.input_tile

    # --- timing that the sequencer and the planner share -----------------------------------------------------------
    def group_rows(self, kernel: int) -> int:
        """Beats of the kernels of one group, all lanes."""
        return self.kernel_rows(kernel) * self.input_lanes * self.output_lanes

    def group_interval(self, kernel: int) -> int:
        """Least cycles between the starts of two groups, for loading the shadow registers of all lanes.

        Rows come one a cycle, so a group cannot take fewer cycles than it has rows. Its first kernel comes in the cycle
        after the swap, the others each `kernel_rows` later, and the next swap in the cycle after the last of them.
        """
        rows = self.group_rows(kernel)
        return max(rows, rows - self.kernel_rows(kernel) + 2)

    @property
    def least_group(self) -> int:
        """Least cycles between two visits of the same accumulator."""
        return RECURRENCE

    @property
    def behavioural(self) -> EngineConfig:
        """The same engine for simulation: for vendors' primitives their twins, which behave alike cycle for cycle.

        Nothing of an iCE40 but its multipliers is a primitive, and its output transform is another one.
        """
        family = "ice40" if self.family == "ice40" and self.datapath == "wide" else "generic"
        return replace(self, family=family, multiplier="lut" if self.multiplier == "lut" else "generic")

    def limits(self) -> DescriptorLimits:
        """What the descriptor reader accepts."""
        return DescriptorLimits(
            input_tile=self.input_tile,
            kernels=self.kernels,
            max_groups=tuple(self.max_groups(kernel) for kernel in self.kernels),
            fold=self.fold,
            max_tiles=self.max_tiles,
            line_words=self.line_words,
            output_lanes=self.output_lanes,
            dimension_bits=self.dimension_bits,
            shift_taps=self.input_tile**2 if self.quantized else 0,
            max_shifts=self.max_shifts,
            related=self.descriptor_checks,
        )

    # --- numerics ------------------------------------------------------------------------------------------------
    def exact_profile(self) -> Profile:
        """The profile of an exact engine, with the width that its accumulators are built for."""
        if self.quantized:
            raise ValueError("a quantized engine needs a profile with shifts for each layer")
        return Exact(self.result_bits)

    @property
    def calibration(self) -> dict[str, Any]:
        """What `winohw.numerics.calibrate.calibrate` has to know of a quantized engine."""
        if not isinstance(self.profile, Quantized):
            raise ValueError("an exact engine needs no calibration")
        steps = self.profile.input, self.profile.weight, self.profile.product
        return {
            "bits": tuple(step.bits for step in steps),
            "max_shift": self.max_shifts,
            "rounding": self.profile.input.rounding,
        }

    def check_profile(self, profile: Profile) -> None:
        """Raise ValueError unless the hardware computes in `profile`."""
        if self.quantized != isinstance(profile, Quantized):
            raise ValueError(f"this engine's profile is {type(self.profile).__name__}, not {type(profile).__name__}")
        if not self.quantized:
            return
        for name, most in zip(("input", "weight", "product"), self.max_shifts, strict=True):
            built, wanted = getattr(self.profile, name), getattr(profile, name)
            if (built.bits, built.rounding, built.saturate) != (wanted.bits, wanted.rounding, wanted.saturate):
                raise ValueError(
                    f"the {name} step of this engine has {built.bits} bits, {built.rounding.value}, "
                    f"{'saturating' if built.saturate else 'wrapping'}; the profile has {wanted.bits} bits, "
                    f"{wanted.rounding.value}, {'saturating' if wanted.saturate else 'wrapping'}"
                )
            if wanted.max_shift > most:
                raise ValueError(f"shifts of the {name} step must be at most {most}, not {wanted.max_shift}")

    def describe(self) -> str:
        """The configuration in one line."""
        m, r = self.tile_size, self.kernel_size
        kind = "direct convolution" if self.direct else f"F({m}x{m}, {r}x{r})"
        lanes = f"{self.input_tile}x{self.columns} taps x {self.input_lanes} x {self.output_lanes} channels"
        return f"{kind}, {self.multipliers} multipliers ({lanes}), {'quantized' if self.quantized else 'exact'}"
