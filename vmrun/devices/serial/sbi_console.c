/* SBI's debug console: bytes of the guest's RAM to and from the host, with no device in between. */
#include "sbi_console.h"

#include <poll.h>
#include <unistd.h>

int vmr_sbi_console_connect(vmr_sbi_console *console, vmr_machine *machine, int in_fd, int out_fd) {
  console->in = in_fd;
  return vmr_outlet_open(machine, "SBI console", out_fd, NULL, &console->out);
}

static uint64_t get(const vmr_sbi_console *console, void *bytes, uint64_t size) {
  struct pollfd input = {.fd = console->in, .events = POLLIN};
  if (input.fd < 0 || !size || poll(&input, 1, 0) <= 0) return 0;
  ssize_t got = read(input.fd, bytes, size);
  return got < 0 ? 0 : (uint64_t)got;
}

vmr_sbi_result vmr_sbi_console_call(const vmr_sbi_console *console, const vmr_machine *machine, uint64_t function,
                                    const uint64_t args[3]) {
  if (function == 2) {
    uint8_t byte = (uint8_t)args[0];
    return (vmr_sbi_result){vmr_outlet_write(console->out, &byte, 1) ? VMR_SBI_SUCCESS : VMR_SBI_FAILED, 0};
  }
  if (function > 2) return (vmr_sbi_result){VMR_SBI_NOT_SUPPORTED, 0};
  void *bytes = args[2] ? NULL : vmr_gpa_ptr(machine, args[1], args[0]); /* a2: the address' upper half */
  if (!bytes && args[0]) return (vmr_sbi_result){VMR_SBI_INVALID_PARAM, 0};
  uint64_t moved = function == 0 ? vmr_outlet_write(console->out, bytes, args[0]) : get(console, bytes, args[0]);
  return (vmr_sbi_result){VMR_SBI_SUCCESS, moved};
}

int64_t vmr_sbi_console_putchar(const vmr_sbi_console *console, uint8_t byte) {
  return vmr_outlet_write(console->out, &byte, 1) ? VMR_SBI_SUCCESS : VMR_SBI_FAILED;
}

int64_t vmr_sbi_console_getchar(const vmr_sbi_console *console) {
  uint8_t byte;
  return get(console, &byte, 1) ? byte : -1;
}
