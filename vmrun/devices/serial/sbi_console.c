/* SBI's debug console: bytes of the guest's RAM to and from the host, with no device in between. */
#include "sbi_console.h"

#include <poll.h>
#include <unistd.h>

int vmr_sbi_console_connect(vmr_sbi_console *console, vmr_machine *machine, int in_fd, int out_fd) {
  console->in = in_fd;
  return vmr_outlet_open(machine, out_fd, NULL, &console->out);
}

static uint64_t get(const vmr_sbi_console *console, void *bytes, uint64_t size) {
  struct pollfd input = {.fd = console->in, .events = POLLIN};
  if (input.fd < 0 || !size || poll(&input, 1, 0) <= 0) return 0;
  ssize_t got = read(input.fd, bytes, size);
  return got < 0 ? 0 : (uint64_t)got;
}

#define CHUNK 4096u

/* Move size bytes at gpa; returns how many. They go through a buffer of our own: memory may change while the host is slow. */
static uint64_t move(const vmr_sbi_console *console, vmr_machine *machine, uint64_t gpa, uint64_t size, bool to_guest) {
  uint8_t bytes[CHUNK];
  uint64_t done = 0, want, moved;
  do {
    want = size - done < CHUNK ? size - done : CHUNK;
    if (!to_guest && !vmr_gpa_read(machine, gpa + done, bytes, want)) break;
    moved = to_guest ? get(console, bytes, want) : vmr_outlet_write(console->out, bytes, want);
    if (to_guest && !vmr_gpa_write(machine, gpa + done, bytes, moved)) break;
    done += moved;
  } while (moved == want && done < size);
  return done;
}

vmr_sbi_result vmr_sbi_console_call(const vmr_sbi_console *console, vmr_machine *machine, uint64_t function,
                                    const uint64_t args[3]) {
  if (function == 2) {
    uint8_t byte = (uint8_t)args[0];
    return (vmr_sbi_result){vmr_outlet_write(console->out, &byte, 1) ? VMR_SBI_SUCCESS : VMR_SBI_FAILED, 0};
  }
  if (function > 2) return (vmr_sbi_result){VMR_SBI_NOT_SUPPORTED, 0};
  bool to_guest = function == 1, there = !args[2] && vmr_gpa_holds(machine, args[1], args[0], to_guest); /* a2: upper half */
  if (!there && args[0]) return (vmr_sbi_result){VMR_SBI_INVALID_PARAM, 0};
  return (vmr_sbi_result){VMR_SBI_SUCCESS, args[0] ? move(console, machine, args[1], args[0], to_guest) : 0};
}

int64_t vmr_sbi_console_putchar(const vmr_sbi_console *console, uint8_t byte) {
  return vmr_outlet_write(console->out, &byte, 1) ? VMR_SBI_SUCCESS : VMR_SBI_FAILED;
}

int64_t vmr_sbi_console_getchar(const vmr_sbi_console *console) {
  uint8_t byte;
  return get(console, &byte, 1) ? byte : -1;
}
