"""Sends the chunks of a matrix without a pause, whatever pauses are between matrices."""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out


class Bursts(wiring.Component):
    """A component whose input never stalls, behind a stream of whole matrices ``[chunk][...]``."""

    def __init__(self, dut: wiring.Component, chunks: int):
        self.dut = dut
        self.chunks = chunks
        self.names = [name for name in dut.signature.members if name not in ("i", "o")]
        super().__init__(
            {
                "i": In(stream.Signature(data.ArrayLayout(dut.i.payload.shape(), chunks))),
                "o": Out(dut.o.signature),
                **{name: dut.signature.members[name] for name in self.names},
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.dut = dut = self.dut
        for name in self.names:
            m.d.comb += getattr(dut, name).eq(getattr(self, name))
        waiting = Signal(self.i.payload.shape())
        chunk = Signal(range(self.chunks))
        with m.If(chunk == 0):
            m.d.comb += [self.i.ready.eq(1), dut.i.valid.eq(self.i.valid), dut.i.payload.eq(self.i.payload[0])]
            m.d.sync += waiting.eq(self.i.payload)
        with m.Else():
            m.d.comb += [dut.i.valid.eq(1), dut.i.payload.eq(waiting[chunk])]
        with m.If(dut.i.valid):
            m.d.sync += chunk.eq(0 if self.chunks == 1 else chunk + 1)
            with m.If(chunk == self.chunks - 1):
                m.d.sync += chunk.eq(0)
        wiring.connect(m, dut.o, wiring.flipped(self.o))
        return m
