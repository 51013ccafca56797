// What the C++ that stands for a netlist offers to the harness. `compiler.py` appends an implementation to the
// output of Yosys.
#ifndef WINOHW_MODEL_H
#define WINOHW_MODEL_H

#include <stddef.h>
#include <stdint.h>

struct Model;

// Bits of a top-level port, least significant chunk first; bits beyond the width must stay zero.
struct PortBits {
	uint32_t *chunks;
	uint32_t width;
};

Model *model_create();
void model_destroy(Model *model);
PortBits model_port(Model *model, uint32_t index);
// Whether one evaluation settles all combinational logic.
bool model_settles_at_once();
// The next evaluation sees a rising clock edge, or none.
void model_edge(Model *model, bool rising);
void model_evaluate(Model *model);
// Takes over the new state; tells whether anything changed (only if evaluations do not settle at once).
bool model_commit(Model *model);

// Only in builds with waveforms. Text since the last call; cleared by the next.
void model_waveform_open(Model *model);
const char *model_waveform_sample(Model *model, uint64_t cycle, size_t *length);

#endif
