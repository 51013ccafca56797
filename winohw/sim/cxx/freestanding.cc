// The few symbols that a model without exceptions still wants from the C++ library, on top of C. With them the Zig
// toolchain need not build its C++ library, which takes a minute, before it can link.

#include <stdlib.h>

#include <new>

static void *allocate(size_t size) {
	void *memory = malloc(size ? size : 1);
	if (!memory)
		abort();
	return memory;
}

void *operator new(size_t size) { return allocate(size); }
void *operator new[](size_t size) { return allocate(size); }
void operator delete(void *memory) noexcept { free(memory); }
void operator delete[](void *memory) noexcept { free(memory); }
void operator delete(void *memory, size_t) noexcept { free(memory); }
void operator delete[](void *memory, size_t) noexcept { free(memory); }
extern "C" void __cxa_pure_virtual() { abort(); }
