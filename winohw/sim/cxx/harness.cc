// Moves the beats of all streams of a compiled model from and to buffers, with stalls, until all have arrived. The rules
// and the order of events within a cycle are those of testbench.py, so that both count the same cycles.
//
// Within a cycle: drive inputs, evaluate with a rising edge, look at the outputs as they were before that edge, commit.

#include "harness.h"
#include "model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

namespace {

const uint64_t STEP = 0x9E3779B97F4A7C15u;

uint64_t mix(uint64_t x) {
	x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
	x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
	return x ^ (x >> 31);
}

struct Bits {
	uint32_t *chunks;
	uint32_t width;

	uint32_t bytes() const { return (width + 31) / 32 * 4; }
	void load(const uint64_t *words) { memcpy(chunks, words, bytes()); }
	void store(uint64_t *words) const { memcpy(words, chunks, bytes()); }
	bool equals(const uint64_t *words) const { return memcmp(chunks, words, bytes()) == 0; }
};

struct Stream {
	StreamPlan plan;
	Bits payload, valid, ready; // `chunks` is null where there is no port
	uint64_t count = 0, first = NEVER, last = NEVER, stalls = 0, waiting = 0;
	uint64_t *data = nullptr;
	uint64_t capacity = 0;
	uint64_t *pending = nullptr; // payload that waits to be accepted
	bool offered = false;        // an input payload stands, or an output payload waits
	bool accepts = true;

	bool done() const { return plan.total == OPEN_ENDED || count >= plan.total; }

	uint64_t hash(uint64_t cycle) const { return mix(plan.seed + (cycle + 1) * STEP); }
	bool stalled(uint64_t cycle) const { return hash(cycle) >> 11 < plan.threshold; }

	void transferred(uint64_t cycle) {
		if (first == NEVER)
			first = cycle;
		last = cycle;
		stalls += waiting;
		waiting = 0;
		count++;
	}

	void drive_input(uint64_t cycle) {
		if (offered)
			return;
		offered = !done() && !stalled(cycle);
		if (valid.chunks)
			valid.chunks[0] = offered;
		if (!payload.chunks)
			return;
		if (offered)
			payload.load(data + count * plan.words);
		else if (valid.chunks)
			junk(cycle);
	}

	void junk(uint64_t cycle) {
		uint64_t base = hash(cycle);
		uint32_t chunks = payload.bytes() / 4;
		for (uint32_t chunk = 0; chunk < chunks; chunk++) {
			uint64_t word = mix(base + (chunk / 2 + 1) * STEP);
			payload.chunks[chunk] = uint32_t(chunk % 2 ? word >> 32 : word);
		}
		if (payload.width % 32)
			payload.chunks[chunks - 1] &= (uint32_t(1) << payload.width % 32) - 1;
	}

	bool observe_input(uint64_t cycle) {
		if (!offered)
			return false;
		if (ready.chunks && !ready.chunks[0]) {
			waiting++;
			return false;
		}
		transferred(cycle);
		offered = false;
		return true;
	}

	void drive_output(uint64_t cycle, bool always) {
		if (!ready.chunks)
			return;
		accepts = always || !stalled(cycle);
		ready.chunks[0] = accepts;
	}

	Outcome observe_output(uint64_t cycle, bool *moved) {
		bool is_valid = !valid.chunks || valid.chunks[0];
		if (offered) {
			if (!is_valid)
				return WITHDRAWN;
			if (payload.chunks && !payload.equals(pending))
				return CHANGED;
		}
		offered = is_valid && !accepts;
		if (!is_valid)
			return RUNNING;
		if (!accepts) {
			waiting++;
			if (payload.chunks)
				payload.store(pending);
		} else if (count != plan.total) {
			*moved = true;
			transferred(cycle);
			if (payload.chunks)
				payload.store(room());
		} else if (plan.is_stream && valid.chunks) {
			return TOO_MANY;
		}
		return RUNNING;
	}

	// Where the beat that was just counted goes.
	uint64_t *room() {
		if (count > capacity) {
			capacity = capacity ? capacity * 2 : 1024;
			data = static_cast<uint64_t *>(realloc(data, capacity * plan.words * 8));
			if (!data)
				abort();
			memset(data + (count - 1) * plan.words, 0, (capacity - count + 1) * plan.words * 8);
		}
		return data + (count - 1) * plan.words;
	}
};

struct Harness {
	Model *model;
	Stream *streams;
	uint32_t count;
	RunPlan run;
	uint64_t cycle = 0, moved = 0, tail = 0;
	FILE *waveform = nullptr;

	Bits bits(uint32_t port) const {
		if (port == NO_PORT)
			return {nullptr, 0};
		PortBits found = model_port(model, port);
		return {found.chunks, found.width};
	}

	bool done() const {
		for (uint32_t k = 0; k < count; k++)
			if (!streams[k].done())
				return false;
		return true;
	}

	void settle() {
		model_edge(model, false);
		do
			model_evaluate(model);
		while (!model_settles_at_once() && model_commit(model));
	}

	Outcome step(uint32_t *culprit) {
		bool finished = done();
		if (finished && tail >= run.idle)
			return FINISHED;
		if (!finished && cycle == run.limit)
			return AT_LIMIT;
		if (!finished && cycle - moved >= run.patience)
			return QUIET;
		for (uint32_t k = 0; k < count; k++)
			if (streams[k].plan.is_input)
				streams[k].drive_input(cycle);
			else
				streams[k].drive_output(cycle, finished);
		if (!model_settles_at_once())
			settle();
		model_edge(model, true);
		model_evaluate(model);
		if (waveform && cycle >= run.waveform_first && cycle <= run.waveform_last) {
			size_t length;
			const char *text = model_waveform_sample(model, cycle, &length);
			fwrite(text, 1, length, waveform);
		}
		for (uint32_t k = 0; k < count; k++) {
			Stream &stream = streams[k];
			Outcome outcome = RUNNING;
			bool transfer = false;
			if (stream.plan.is_input)
				transfer = stream.observe_input(cycle);
			else
				outcome = stream.observe_output(cycle, &transfer);
			if (transfer && stream.plan.is_stream)
				moved = cycle;
			if (outcome != RUNNING) {
				*culprit = k;
				return outcome;
			}
		}
		model_commit(model);
		cycle++;
		tail = finished ? tail + 1 : 0;
		return RUNNING;
	}
};

} // namespace

void *winohw_open(const StreamPlan *plans, uint32_t count, const RunPlan *run) {
	Harness *harness = static_cast<Harness *>(calloc(1, sizeof(Harness)));
	harness->model = model_create();
	harness->streams = static_cast<Stream *>(calloc(count, sizeof(Stream)));
	harness->count = count;
	harness->run = *run;
	for (uint32_t k = 0; k < count; k++) {
		Stream &stream = harness->streams[k];
		stream = Stream();
		stream.plan = plans[k];
		stream.payload = harness->bits(plans[k].payload);
		stream.valid = harness->bits(plans[k].valid);
		stream.ready = harness->bits(plans[k].ready);
		stream.data = plans[k].data;
		stream.capacity = plans[k].data ? plans[k].total : 0;
		stream.pending = static_cast<uint64_t *>(calloc(plans[k].words, 8));
	}
	return harness;
}

void winohw_close(void *handle) {
	Harness *harness = static_cast<Harness *>(handle);
	for (uint32_t k = 0; k < harness->count; k++) {
		if (!harness->streams[k].plan.data)
			free(harness->streams[k].data);
		free(harness->streams[k].pending);
	}
	if (harness->waveform)
		fclose(harness->waveform);
	model_destroy(harness->model);
	free(harness->streams);
	free(harness);
}

void winohw_set(void *handle, uint32_t port, const uint64_t *words) {
	static_cast<Harness *>(handle)->bits(port).load(words);
}

void winohw_get(void *handle, uint32_t port, uint64_t *words) {
	Harness *harness = static_cast<Harness *>(handle);
	harness->settle();
	harness->bits(port).store(words);
}

uint32_t winohw_run(void *handle, uint64_t cycles, uint32_t *culprit) {
	Harness *harness = static_cast<Harness *>(handle);
	if (harness->run.waveform_path && !harness->waveform) {
		harness->waveform = fopen(harness->run.waveform_path, "w");
		if (!harness->waveform)
			return NO_FILE;
		model_waveform_open(harness->model);
	}
	Outcome outcome = RUNNING;
	for (; cycles && outcome == RUNNING; cycles--)
		outcome = harness->step(culprit);
	return outcome;
}

uint64_t winohw_cycles(void *handle) {
	return static_cast<Harness *>(handle)->cycle;
}

void winohw_stream(void *handle, uint32_t index, StreamState *state) {
	const Stream &stream = static_cast<Harness *>(handle)->streams[index];
	*state = {stream.count, stream.first, stream.last, stream.stalls, stream.data};
}
