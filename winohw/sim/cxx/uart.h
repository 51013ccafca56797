// What Python sees of the serial line (`winohw/host/board_sim.py`).
#ifndef WINOHW_UART_H
#define WINOHW_UART_H

#include <stdint.h>

// Ports as in `model_port`, seen from the model; cycles a bit.
extern "C" __attribute__((visibility("default"))) void *winohw_uart_open(uint32_t rx, uint32_t tx, uint32_t divisor);
extern "C" __attribute__((visibility("default"))) void winohw_uart_close(void *handle);
// Runs up to `cycles`; ends before that when `received` is full, or, once all is sent, with a byte `stop` that is not the
// first one received (above 255: never). The counts say how much there is, and then how much was sent and received.
// Returns the cycles.
extern "C" __attribute__((visibility("default"))) uint64_t winohw_uart_run(
	void *handle, uint64_t cycles, const uint8_t *send, uint64_t *send_count, uint8_t *received,
	uint64_t *received_count, uint32_t stop);

#endif
