/* libFuzzer target: arbitrary register accesses, ring contents and notifications against every device that C serves.
 *
 * The first byte picks the device; the rest is a program of one-byte operations with their arguments. No outcome is
 * checked: the sanitizers are the oracle, and that the machine can still be drained and freed. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core_api.h"
#include "disk_api.h"
#include "pl011_api.h"
#include "plic_api.h"
#include "uart16550_api.h"
#include "virtio_blk_api.h"
#include "virtio_console_api.h"
#include "virtio_mmio_api.h"
#include "virtio_rng_api.h"

#define RAM 0x80000000ull
#define RAM_SIZE (1u << 20)
#define PLIC 0x0c000000ull
#define DEVICE 0x10001000ull
#define QUEUES 8
#define RINGS(queue) (RAM + 0x10000ull * (queue)) /* descriptors, then available ring, then used ring */
#define AVAIL 0x2000
#define USED 0x4000
#define ENTRIES 16
#define DISK_BYTES (70u << 10)

typedef struct input {
  const uint8_t *data;
  size_t left;
} input;

static uint64_t take(input *in, size_t size) {
  uint64_t value = 0;
  if (size > in->left) size = in->left;
  memcpy(&value, in->data, size);
  in->data += size;
  in->left -= size;
  return value;
}

/* An address that is often inside RAM, often at an edge, and sometimes anything. */
static uint64_t take_address(input *in) {
  switch (take(in, 1) % 4) {
    case 0: return RAM + take(in, 3) % RAM_SIZE;
    case 1: return RAM + RAM_SIZE - take(in, 1);
    case 2: return RINGS(take(in, 1) % QUEUES) + take(in, 2);
    default: return take(in, 8);
  }
}

static uint32_t take_length(input *in) {
  uint8_t kind = (uint8_t)take(in, 1);
  return kind < 128 ? kind : kind < 250 ? (uint32_t)take(in, 2) : (uint32_t)take(in, 4);
}

static void set(vmr_machine *machine, uint32_t reg, uint32_t value) { vmr_bus_poke(machine, DEVICE + reg, 4, value); }

/* What a well-behaved driver does first, so that the fuzzer need not find it. */
static void set_up(vmr_machine *machine, uint32_t features_low) {
  set(machine, VMR_VIRTIO_MMIO_STATUS, 0);
  set(machine, VMR_VIRTIO_MMIO_STATUS, 3);
  set(machine, VMR_VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
  set(machine, VMR_VIRTIO_MMIO_DRIVER_FEATURES, 1);
  set(machine, VMR_VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
  set(machine, VMR_VIRTIO_MMIO_DRIVER_FEATURES, features_low);
  set(machine, VMR_VIRTIO_MMIO_STATUS, 11);
  for (uint32_t queue = 0; queue < QUEUES; queue++) {
    set(machine, VMR_VIRTIO_MMIO_QUEUE_SEL, queue);
    set(machine, VMR_VIRTIO_MMIO_QUEUE_NUM, ENTRIES);
    set(machine, VMR_VIRTIO_MMIO_QUEUE_DESC_LOW, (uint32_t)RINGS(queue));
    set(machine, VMR_VIRTIO_MMIO_QUEUE_DRIVER_LOW, (uint32_t)RINGS(queue) + AVAIL);
    set(machine, VMR_VIRTIO_MMIO_QUEUE_DEVICE_LOW, (uint32_t)RINGS(queue) + USED);
    set(machine, VMR_VIRTIO_MMIO_QUEUE_READY, 1);
  }
  set(machine, VMR_VIRTIO_MMIO_STATUS, 15);
}

static void put_descriptor(vmr_machine *machine, input *in) {
  uint64_t queue = take(in, 1) % QUEUES, index = take(in, 1) % ENTRIES;
  struct {
    uint64_t gpa;
    uint32_t size;
    uint16_t flags, next;
  } desc = {take_address(in), take_length(in), (uint16_t)take(in, 1), (uint16_t)take(in, 1)};
  vmr_ram_write(machine, RINGS(queue) + 16 * index, &desc, sizeof desc);
}

static void offer(vmr_machine *machine, input *in) {
  uint64_t queue = take(in, 1) % QUEUES;
  uint16_t head = (uint16_t)take(in, 1), index = 0;
  vmr_ram_read(machine, RINGS(queue) + AVAIL + 2, &index, 2);
  vmr_ram_write(machine, RINGS(queue) + AVAIL + 4 + 2 * (index % ENTRIES), &head, 2);
  index++;
  vmr_ram_write(machine, RINGS(queue) + AVAIL + 2, &index, 2);
  set(machine, VMR_VIRTIO_MMIO_QUEUE_NOTIFY, (uint32_t)queue);
}

static void step(vmr_machine *machine, input *in) {
  static const uint64_t windows[] = {DEVICE, DEVICE, DEVICE, PLIC, PLIC + 0x2000, PLIC + 0x200000};
  uint64_t value, gpa;
  switch (take(in, 1) % 8) {
    case 0:
      gpa = windows[take(in, 1) % 6] + take(in, 2);
      vmr_bus_poke(machine, gpa, 1u << take(in, 1) % 4, take(in, 8));
      break;
    case 1:
      gpa = windows[take(in, 1) % 6] + take(in, 2);
      vmr_bus_peek(machine, gpa, 1u << take(in, 1) % 4, &value);
      break;
    case 2:
      gpa = take_address(in);
      value = take(in, 8);
      vmr_ram_write(machine, gpa, &value, sizeof value);
      break;
    case 3: set_up(machine, (uint32_t)take(in, 4)); break;
    case 4:
    case 5: put_descriptor(machine, in); break;
    case 6: offer(machine, in); break;
    default: set(machine, VMR_VIRTIO_MMIO_QUEUE_NOTIFY, (uint32_t)take(in, 1)); break;
  }
}

static void add_console(vmr_machine *machine, vmr_line line, int in_fd, int out_fd) {
  vmr_virtio_console *console;
  if (vmr_virtio_console_new(machine, DEVICE, 0x1000, line, 3, 80, 25, &console)) abort();
  vmr_virtio_console_port(console, 0, "", VMR_PORT_CONSOLE, in_fd, out_fd);
  vmr_virtio_console_port(console, 1, "in", 0, in_fd, -1);
  vmr_virtio_console_port(console, 2, "out", VMR_PORT_HANGUP, -1, out_fd);
}

static void add_device(vmr_machine *machine, uint8_t kind) {
  int null = open("/dev/null", O_RDWR | O_CLOEXEC), zero = open("/dev/zero", O_RDWR | O_CLOEXEC);
  int base = memfd_create("base", MFD_CLOEXEC), overlay = memfd_create("overlay", MFD_CLOEXEC);
  vmr_virtio_blk *disk;
  vmr_virtio_rng *rng;
  vmr_uart16550 *uart;
  vmr_pl011 *pl011;
  vmr_line line;
  int rc = ftruncate(base, DISK_BYTES) | vmr_irqchip_line(machine, 1, &line);
  switch (kind % 7) {
    case 0: rc |= vmr_virtio_blk_new(machine, DEVICE, 0x1000, line, base, VMR_DISK_OVERLAY, overlay, "fuzz", &disk); break;
    case 1: rc |= vmr_virtio_blk_new(machine, DEVICE, 0x1000, line, base, VMR_DISK_RW, -1, NULL, &disk); break;
    case 2: add_console(machine, line, zero, null); break;
    case 3: add_console(machine, line, null, zero); break;
    case 4: rc |= vmr_virtio_rng_new(machine, DEVICE, 0x1000, line, -1, &rng); break;
    case 5: rc |= vmr_pl011_new(machine, DEVICE, 0x1000, line, zero, null, &pl011); break;
    default: rc |= vmr_uart16550_new(machine, DEVICE, 0x100, line, zero, null, &uart); break;
  }
  if (rc) abort();
  close(null), close(zero), close(base), close(overlay);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  input in = {data, size};
  vmr_machine *machine;
  vmr_plic *plic;
  vmr_line outputs[2] = {0};
  if (vmr_machine_new(&machine)) abort();
  if (vmr_ram_add(machine, RAM, RAM_SIZE) || vmr_plic_new(machine, PLIC, 0x600000, 95, 2, outputs, &plic)) abort();
  add_device(machine, (uint8_t)take(&in, 1));
  if (vmr_machine_start(machine)) abort();
  while (in.left) step(machine, &in);
  vmr_machine_drain(machine, 1000);
  vmr_machine_stop(machine);
  vmr_machine_free(machine);
  return 0;
}
