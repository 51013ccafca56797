// The other end of a serial line, for a compiled model with the pins of one: bytes go in and out, the line is driven and
// sampled here. Both ends share the clock, so that the fewest cycles a bit will do.

#include "model.h"
#include "uart.h"

#include <stdlib.h>

namespace {

struct Uart {
	Model *model;
	uint32_t *rx, *tx; // seen from the model
	uint32_t divisor;
	uint64_t cycle;
	uint32_t sending, send_bits, send_timer;       // bits not yet on the line
	uint32_t receiving, receive_bits, receive_timer;

	// One cycle; whether a byte was completed.
	bool step(uint8_t *byte) {
		bool settles = model_settles_at_once();
		if (!settles) {
			model_edge(model, false);
			do
				model_evaluate(model);
			while (model_commit(model));
		}
		model_edge(model, true);
		model_evaluate(model);
		bool level = tx[0] & 1, complete = false;
		model_commit(model);
		cycle++;
		if (send_bits && --send_timer == 0) {
			sending >>= 1;
			send_timer = divisor;
			send_bits--;
			rx[0] = send_bits ? sending & 1 : 1;
		}
		if (!receive_bits) {
			if (!level) {
				receive_bits = 10;
				receive_timer = divisor / 2;
			}
		} else if (receive_timer-- == 1) {
			receive_timer = divisor;
			receiving = receiving >> 1 | uint32_t(level) << 9;
			if (--receive_bits == 0) {
				*byte = uint8_t(receiving >> 1);
				complete = level;
			}
		}
		return complete;
	}
};

} // namespace

void *winohw_uart_open(uint32_t rx, uint32_t tx, uint32_t divisor) {
	Uart *uart = static_cast<Uart *>(calloc(1, sizeof(Uart)));
	uart->model = model_create();
	uart->rx = model_port(uart->model, rx).chunks;
	uart->tx = model_port(uart->model, tx).chunks;
	uart->divisor = divisor;
	uart->rx[0] = 1;
	return uart;
}

void winohw_uart_close(void *handle) {
	Uart *uart = static_cast<Uart *>(handle);
	model_destroy(uart->model);
	free(uart);
}

uint64_t winohw_uart_run(void *handle, uint64_t cycles, const uint8_t *send, uint64_t *send_count, uint8_t *received,
                         uint64_t *received_count, uint32_t stop) {
	Uart *uart = static_cast<Uart *>(handle);
	uint64_t sent = 0, got = 0, begin = uart->cycle, room = *received_count;
	while (uart->cycle - begin < cycles && got < room) {
		if (!uart->send_bits && sent < *send_count) {
			uart->sending = 1u << 9 | uint32_t(send[sent++]) << 1;
			uart->send_bits = 10;
			uart->send_timer = uart->divisor;
			uart->rx[0] = 0;
		}
		uint8_t byte;
		if (uart->step(&byte)) {
			received[got++] = byte;
			if (byte == stop && got > 1 && sent == *send_count)
				break;
		}
	}
	*send_count = sent;
	*received_count = got;
	return uart->cycle - begin;
}
