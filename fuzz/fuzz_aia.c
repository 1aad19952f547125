/* libFuzzer target: arbitrary accesses to an APLIC, to IMSICs and to the CSRs of two harts, and wires that move.
 *
 * The input is a program of one-byte operations with their arguments. Beside the sanitizers, one thing is checked after
 * each: a hart sees an external interrupt exactly when its file delivers one. */
#include <stdlib.h>
#include <string.h>

#include "core_api.h"
#include "aplic_api.h"
#include "imsic_api.h"
#include "rv64_api.h"

#define APLIC 0x0d000000ull
#define APLIC_BYTES 0x4000u
#define IMSIC 0x28000000ull
#define HARTS 2u
#define SOURCES 70u
#define IDENTITIES 127u
#define CSR(number) (4096u + (number))
#define S_EXTERNAL 9u
#define SIP_SEIP 0x200u

typedef struct input {
  const uint8_t *data;
  size_t left;
} input;

typedef struct target {
  vmr_machine *machine;
  vmr_imsic *imsic;
  vmr_vcpu *harts[HARTS];
} target;

static uint64_t take(input *in, size_t size) {
  uint64_t value = 0;
  if (size > in->left) size = in->left;
  memcpy(&value, in->data, size);
  in->data += size;
  in->left -= size;
  return value;
}

/* A value that is often a small number, often a bit, and sometimes anything. */
static uint64_t take_value(input *in) {
  switch (take(in, 1) % 4) {
    case 0: return take(in, 1);
    case 1: return 1ull << take(in, 1) % 64;
    case 2: return take(in, 1) % 4 << 18 | take(in, 1); /* an APLIC's target */
    default: return take(in, 8);
  }
}

/* An offset at which a register of the APLIC often is. */
static uint64_t take_register(input *in) {
  static const uint32_t bases[] = {0, 0x1c00, 0x1cdc, 0x1d00, 0x1ddc, 0x1e00, 0x1edc, 0x1f00, 0x1fdc, 0x2000, 0x3000};
  uint64_t offset = bases[take(in, 1) % (sizeof bases / sizeof *bases)] + 4 * take(in, 1) % 0x120;
  return take(in, 1) % 8 ? offset : take(in, 2) % (APLIC_BYTES + 16);
}

static void step(const target *t, input *in) {
  static const uint32_t csrs[] = {0x150, 0x151, 0x15c, 0xdb0, 0x104, 0x144};
  uint64_t value, gpa;
  vmr_line line;
  vmr_vcpu *hart = t->harts[take(in, 1) % HARTS];
  uint32_t csr = CSR(csrs[take(in, 1) % (sizeof csrs / sizeof *csrs)]);
  switch (take(in, 1) % 8) {
    case 0:
      gpa = APLIC + take_register(in);
      vmr_bus_poke(t->machine, gpa, 4, take_value(in));
      break;
    case 1: vmr_bus_peek(t->machine, APLIC + take_register(in), 1u << take(in, 1) % 4, &value); break;
    case 2:
      gpa = IMSIC + take(in, 1) % 3 * 4096 + take(in, 1) % 16;
      vmr_bus_poke(t->machine, gpa, 1u << take(in, 1) % 4, take_value(in));
      break;
    case 3:
      if (!vmr_irqchip_line(t->machine, (uint32_t)take(in, 1), &line)) take(in, 1) & 1 ? vmr_line_raise(line) : vmr_line_lower(line);
      break;
    case 4: vmr_rv64_set(hart, csr, take_value(in)); break;
    case 5: vmr_rv64_get(hart, csr, &value); break;
    case 6: vmr_imsic_set(t->imsic, (uint32_t)take(in, 1) % 3, (uint32_t)take(in, 2) % 0x120, take_value(in), take(in, 8)); break;
    default: vmr_imsic_claim(t->imsic, (uint32_t)take(in, 1) % 3); break;
  }
}

static void check(const target *t) {
  for (uint32_t i = 0; i < HARTS; i++) {
    uint64_t sip, delivery;
    if (vmr_rv64_get(t->harts[i], CSR(0x144), &sip) || vmr_imsic_get(t->imsic, i, VMR_ISELECT_EIDELIVERY, &delivery)) abort();
    int due = delivery && vmr_imsic_top(t->imsic, i);
    if (due != vmr_imsic_output(t->imsic, i) || due != !!(sip & SIP_SEIP)) abort();
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  input in = {data, size};
  target t;
  vmr_aplic *aplic;
  vmr_line outputs[HARTS];
  vmr_msi messages;
  if (vmr_machine_new(&t.machine)) abort();
  for (uint32_t i = 0; i < HARTS; i++)
    if (vmr_rv64_new(t.machine, VMR_RV64_SSAIA, 10000000, 0, &t.harts[i])) abort();
  for (uint32_t i = 0; i < HARTS; i++)
    if (vmr_vcpu_line(t.machine, i, S_EXTERNAL, &outputs[i])) abort();
  if (vmr_imsic_new(t.machine, IMSIC, HARTS * VMR_IMSIC_PAGE, HARTS, IDENTITIES, outputs, &t.imsic)) abort();
  for (uint32_t i = 0; i < HARTS; i++)
    if (vmr_rv64_set_imsic(t.harts[i], t.imsic)) abort();
  if (vmr_machine_msi(t.machine, &messages) || vmr_aplic_new(t.machine, APLIC, APLIC_BYTES, SOURCES, messages, &aplic)) abort();
  while (in.left) {
    step(&t, &in);
    check(&t);
  }
  vmr_machine_free(t.machine);
  return 0;
}
