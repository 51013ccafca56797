// What Python sees (`compiled.py` mirrors these structures with ctypes).
#ifndef WINOHW_HARNESS_H
#define WINOHW_HARNESS_H

#include <stdint.h>

#define WINOHW_API extern "C" __attribute__((visibility("default")))

enum Outcome { RUNNING = 0, FINISHED = 1, AT_LIMIT = 2, QUIET = 3, WITHDRAWN = 4, CHANGED = 5, TOO_MANY = 6, NO_FILE = 7 };

static const uint32_t NO_PORT = UINT32_MAX;
static const uint64_t OPEN_ENDED = UINT64_MAX;
static const uint64_t NEVER = UINT64_MAX;

struct StreamPlan {
	uint32_t is_input;
	uint32_t payload, valid, ready; // ports; NO_PORT: nothing to carry, always valid, always ready
	uint32_t words;                 // 64-bit words a beat occupies in `data`
	uint32_t is_stream;             // 0: a plain signal, one beat a cycle
	uint64_t seed, threshold;       // stall pattern, see stalls.py
	uint64_t total;                 // beats, or OPEN_ENDED
	uint64_t *data;                 // `total` beats to send or room to receive; NULL: the harness finds room
};

struct StreamState {
	uint64_t count, first, last, stalls; // first and last are NEVER before the first transfer
	uint64_t *data;
};

struct RunPlan {
	uint64_t limit, patience, idle;
	uint64_t waveform_first, waveform_last; // cycles, inclusive
	const char *waveform_path;              // NULL: none
};

WINOHW_API void *winohw_open(const StreamPlan *plans, uint32_t count, const RunPlan *run);
WINOHW_API void winohw_close(void *handle);
WINOHW_API void winohw_set(void *handle, uint32_t port, const uint64_t *words);
// Of a port, after the end of the run.
WINOHW_API void winohw_get(void *handle, uint32_t port, uint64_t *words);
// Up to `cycles` further cycles. `culprit` is the stream that broke a rule.
WINOHW_API uint32_t winohw_run(void *handle, uint64_t cycles, uint32_t *culprit);
WINOHW_API uint64_t winohw_cycles(void *handle);
WINOHW_API void winohw_stream(void *handle, uint32_t index, StreamState *state);

#endif
