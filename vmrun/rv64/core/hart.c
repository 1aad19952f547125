/* A hart's life: made, started, run on a host thread, asleep, kicked, freed; its registers for those who look on. */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

#include "exec.h"

#define NS_PER_S 1000000000ull
#define KNOWN_ISA 4095u
#define MIN_CODE_PAGES 8u

#define REG_PC 32
#define REG_PRIVILEGE 33
#define REG_F 64
#define REG_CSR 4096


uint64_t vmr_time(const vmr_hart *h) {
  uint64_t ns = vmr_clock_now(h->clock);
  return ns / NS_PER_S * h->timebase_hz + ns % NS_PER_S * h->timebase_hz / NS_PER_S;
}

/* ---- requests from other threads --------------------------------------------------------------------------------- */

void vmr_hart_serve(vmr_hart *h) {
  /* The order is vmr_vcpu_ops.quiesce's: the request to note an epoch, the epoch, the requests to forget. */
  uint32_t requests = atomic_fetch_and(&h->requests, ~VMR_REQ_QUIESCE) & VMR_REQ_QUIESCE;
  uint64_t now = vmr_reader_now(&h->vcpu.reader);
  requests |= atomic_fetch_and(&h->requests, ~(VMR_REQ_FENCE_I | VMR_REQ_SFENCE)) & ~VMR_REQ_QUIESCE;
  if (requests & VMR_REQ_FENCE_I) h->code_generation++;
  if (requests & VMR_REQ_SFENCE) {
    vmr_mmu_flush(h);
    h->ram = NULL;
    h->res_ptr = NULL;
  } else if (requests & VMR_REQ_FENCE_I)
    vmr_mmu_flush_fetch(h);
  if (requests & VMR_REQ_QUIESCE) vmr_reader_confirm(&h->vcpu.reader, now);
}

void vmr_hart_enter(vmr_hart *h) {
  vmr_reader_enter(&h->vcpu.reader);
  if (atomic_load(&h->requests) & VMR_REQ_FENCES) vmr_hart_serve(h);
}

void vmr_hart_leave(vmr_hart *h) { vmr_reader_leave(&h->vcpu.reader); }

bool vmr_hart_in_guest(const vmr_hart *h) { return atomic_load(&h->vcpu.reader.epoch) != 0; }

static void wake(vmr_hart *h) {
  if (!atomic_load(&h->asleep)) return;
  pthread_mutex_lock(&h->lock);
  pthread_cond_broadcast(&h->wake);
  pthread_mutex_unlock(&h->lock);
}

void vmr_hart_request(vmr_hart *h, uint32_t request) {
  atomic_fetch_or(&h->requests, request);
  if (request & VMR_REQ_KICK) wake(h);
}

void vmr_hart_raise(vmr_hart *h, uint32_t ip) {
  atomic_fetch_or(&h->ip, ip);
  wake(h);
}

static void hart_kick(vmr_vcpu *vcpu) { vmr_hart_request(vmr_hart_of(vcpu), VMR_REQ_KICK); }

static void clock_changed(void *hart) { wake(hart); }

static void hart_quiesce(vmr_vcpu *vcpu, bool forget) {
  vmr_hart_request(vmr_hart_of(vcpu), forget ? VMR_REQ_FENCE_I | VMR_REQ_SFENCE : VMR_REQ_QUIESCE);
}

static void input_set(void *hart, uint32_t input, bool level) {
  vmr_hart *h = hart;
  if (level)
    vmr_hart_raise(h, 1u << input);
  else
    atomic_fetch_and(&h->ip, ~(1u << input));
}

static const vmr_line_ops input_ops = {.set = input_set};

static int hart_line(vmr_vcpu *vcpu, uint32_t input, vmr_line *line) {
  if (input > 31 || !(1u << input & VMR_IP_ALL)) return -EINVAL;
  *line = (vmr_line){&input_ops, vmr_hart_of(vcpu), input};
  return 0;
}

/* ---- sleeping ---------------------------------------------------------------------------------------------------- */

/* The first nanosecond of the machine's time at which the timer fires. */
static uint64_t timer_ns(const vmr_hart *h) {
  unsigned __int128 ns = ((unsigned __int128)h->stimecmp * NS_PER_S + h->timebase_hz - 1) / h->timebase_hz;
  return ns < VMR_NEVER ? (uint64_t)ns : VMR_NEVER;
}

/* With the lock: wait for a wake-up, or for the timer where the clock runs towards it. */
static void wait(vmr_hart *h) {
  struct timespec deadline;
  if (h->sie & VMR_IP_STIP && vmr_clock_host_deadline(h->clock, timer_ns(h), &deadline))
    pthread_cond_timedwait(&h->wake, &h->lock, &deadline);
  else
    pthread_cond_wait(&h->wake, &h->lock);
}

void vmr_hart_sleep(vmr_hart *h) {
  if (vmr_pending(h) & h->sie) return;
  uint64_t from = vmr_host_ns();
  vmr_hart_leave(h);
  pthread_mutex_lock(&h->lock);
  atomic_store(&h->asleep, true);
  while (!(vmr_pending(h) & h->sie) && !(atomic_load(&h->requests) & VMR_REQ_KICK)) wait(h);
  atomic_store(&h->asleep, false);
  pthread_mutex_unlock(&h->lock);
  vmr_hart_enter(h);
  __atomic_store_n(&h->stats.wfi_ns, h->stats.wfi_ns + (vmr_host_ns() - from), __ATOMIC_RELAXED);
}

/* ---- starting and stopping (SBI HSM) ----------------------------------------------------------------------------- */

bool vmr_hart_start(vmr_hart *h, uint64_t pc, uint64_t opaque) {
  pthread_mutex_lock(&h->lock);
  bool stopped = atomic_load(&h->hsm) == VMR_HSM_STOPPED;
  if (stopped) {
    h->start_pc = pc;
    h->start_opaque = opaque;
    atomic_store(&h->hsm, VMR_HSM_START_PENDING);
    pthread_cond_broadcast(&h->wake);
  }
  pthread_mutex_unlock(&h->lock);
  return stopped;
}

/* The state SBI says a hart starts in: S-mode, satp 0, sstatus.SIE 0, a0 its number, a1 opaque. */
static void reset(vmr_hart *h, uint64_t pc, uint64_t opaque) {
  for (int i = 0; i < 32; i++) h->x[i] = h->f[i] = 0;
  h->x[10] = h->vcpu.index;
  h->x[11] = opaque;
  h->pc = pc;
  h->priv = VMR_PRIV_S;
  h->fs = h->fflags = h->frm = 0;
  h->sstatus = h->stvec = h->sscratch = h->sepc = h->scause = h->stval = h->satp = h->senvcfg = 0;
  h->scounteren = 7; /* as KVM starts its guests: cycle, time and instret are readable in U-mode */
  vmr_timer_set(h, ~0ull);
  h->sie = h->siselect = 0;
  h->res_ptr = NULL;
  h->mmio.active = false;
  atomic_fetch_and(&h->ip, ~VMR_IP_SSIP);
  vmr_mmu_flush(h);
  vmr_mmu_mode(h);
}

/* Wait until the hart is started. false: the machine stops. */
static bool wait_started(vmr_hart *h) {
  bool stopping;
  pthread_mutex_lock(&h->lock);
  atomic_store(&h->asleep, true);
  while (!(stopping = vmr_machine_stopping(h->vcpu.machine)) && atomic_load(&h->hsm) == VMR_HSM_STOPPED)
    pthread_cond_wait(&h->wake, &h->lock);
  atomic_store(&h->asleep, false);
  if (!stopping && atomic_load(&h->hsm) == VMR_HSM_START_PENDING) {
    reset(h, h->start_pc, h->start_opaque);
    atomic_store(&h->hsm, VMR_HSM_STARTED);
  }
  pthread_mutex_unlock(&h->lock);
  return !stopping;
}

/* ---- running ----------------------------------------------------------------------------------------------------- */

/* A piece of the access that left for Python is done now. false: it leaves for the next one. */
static bool complete_mmio(vmr_hart *h, vmr_exit *exit) {
  if (!h->mmio.active) return true;
  if (!vmr_bus_take(&h->mmio.access, exit)) {
    vmr_bus_ask(&h->mmio.access, exit);
    return false;
  }
  if (h->mmio.load) vmr_load_finish(h, h->mmio.rd, h->mmio.kind, h->mmio.access.value);
  h->mmio.active = false;
  h->pc += h->mmio.length;
  h->retired++;
  h->budget--;
  return true;
}

static void execute(vmr_hart *h) {
  vmr_hart_enter(h);
  h->slice = 0;
  vmr_jit_run(h, vmr_op_poll, NULL, 0);
#ifdef VMR_TRAMPOLINE
  while (h->next_ip) vmr_jit_run(h, h->next_ip->fn, h->next_ip, h->next_n);
#endif
  vmr_hart_leave(h);
}

static int run(vmr_hart *h, int64_t budget, vmr_exit *exit) {
  vmr_clock_begin(vmr_machine_clock(h->vcpu.machine));
  h->exit = exit;
  h->exiting = false;
  h->budget = budget;
  if (!complete_mmio(h, exit)) return 0;
  while (!h->exiting) {
    if (!wait_started(h)) {
      exit->kind = VMR_EXIT_STOPPED;
      break;
    }
    execute(h);
  }
  return 0;
}

static int hart_run(vmr_vcpu *vcpu, vmr_exit *exit) { return run(vmr_hart_of(vcpu), VMR_UNBOUNDED, exit); }

static void hart_free(vmr_vcpu *vcpu) {
  vmr_hart *h = vmr_hart_of(vcpu);
  if (atomic_fetch_sub(&h->shared->references, 1) == 1) free(h->shared);
  vmr_code_free(h);
  vmr_jit_free(h);
  pthread_cond_destroy(&h->wake);
  pthread_mutex_destroy(&h->lock);
  free(h);
}

static const vmr_vcpu_ops hart_ops = {.run = hart_run, .kick = hart_kick, .line = hart_line, .free = hart_free,
                                       .quiesce = hart_quiesce};

vmr_hart *vmr_hart_at(const vmr_machine *machine, uint64_t hartid) {
  vmr_vcpu *vcpu = hartid < vmr_vcpu_count(machine) ? vmr_vcpu_at(machine, (uint32_t)hartid) : NULL;
  return vcpu && vcpu->ops == &hart_ops ? vmr_hart_of(vcpu) : NULL;
}

/* ---- the public functions ---------------------------------------------------------------------------------------- */

static vmr_rv64_shared *shared_of(const vmr_machine *machine) {
  vmr_hart *first = vmr_hart_at(machine, 0);
  if (first) {
    atomic_fetch_add(&first->shared->references, 1);
    return first->shared;
  }
  vmr_rv64_shared *shared = calloc(1, sizeof *shared);
  if (!shared) return NULL;
  atomic_store(&shared->references, 1);
  shared->console.in = -1;
  return shared;
}

static vmr_hart *allocate(const vmr_machine *machine, uint64_t cache_bytes) {
  vmr_hart *h = calloc(1, sizeof *h);
  if (!h) return NULL;
  uint64_t limit = cache_bytes / sizeof(vmr_code_page);
  h->page_limit = limit < MIN_CODE_PAGES ? MIN_CODE_PAGES : limit > UINT16_MAX ? UINT16_MAX : (uint32_t)limit;
  h->pages = calloc(h->page_limit, sizeof(vmr_code_page *));
  h->shared = h->pages ? shared_of(machine) : NULL;
  if (!h->shared) {
    free(h->pages);
    free(h);
    return NULL;
  }
  pthread_mutex_init(&h->lock, NULL);
  pthread_condattr_t attributes;
  pthread_condattr_init(&attributes);
  pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
  pthread_cond_init(&h->wake, &attributes);
  pthread_condattr_destroy(&attributes);
  return h;
}

int vmr_rv64_new(vmr_machine *machine, uint32_t isa, uint32_t timebase_hz, uint64_t cache_bytes, vmr_vcpu **vcpu) {
  *vcpu = NULL;
  if (isa & ~KNOWN_ISA) return vmr_fail(machine, EINVAL, "unknown ISA bits %#x", isa & ~KNOWN_ISA);
  if (isa & VMR_RV64_D && !(isa & VMR_RV64_F)) return vmr_fail(machine, EINVAL, "the D extension needs F");
  if (!timebase_hz || timebase_hz > NS_PER_S)
    return vmr_fail(machine, EINVAL, "a timebase of %u Hz is outside 1 Hz to 1 GHz", timebase_hz);
  vmr_hart *h = allocate(machine, cache_bytes);
  if (!h) return vmr_fail(machine, ENOMEM, "out of memory for a hart");
  h->vcpu.ops = &hart_ops;
  h->isa = isa;
  h->timebase_hz = timebase_hz;
  h->misaligned_mask = isa & VMR_RV64_C ? 0 : 2;
  for (int mode = 0; mode < VMR_MODES; mode++) h->tlb[mode].used = true;
  vmr_decode_index(h);
  atomic_store(&h->hsm, VMR_HSM_STOPPED);
  int rc = vmr_vcpu_add(machine, &h->vcpu);
  if (rc) {
    hart_free(&h->vcpu);
    return rc;
  }
  h->clock = vmr_machine_clock(machine);
  h->clock_watcher = (vmr_clock_watcher){.changed = clock_changed, .opaque = h};
  vmr_clock_watch(vmr_machine_clock(machine), &h->clock_watcher);
  reset(h, 0, 0);
  rc = vmr_hart_declare_state(h);
  if (!rc) *vcpu = &h->vcpu;
  return rc;
}

int vmr_rv64_boot(vmr_vcpu *vcpu, uint64_t pc, uint64_t opaque) {
  vmr_hart *h = vmr_hart_of(vcpu);
  if (!vmr_hart_start(h, pc, opaque))
    return vmr_fail(vcpu->machine, EBUSY, "hart %u has been started already", vcpu->index);
  reset(h, pc, opaque); /* now, so that registers can be set before the first run */
  atomic_store(&h->hsm, VMR_HSM_STARTED);
  return 0;
}

int vmr_rv64_run(vmr_vcpu *vcpu, uint64_t instructions, vmr_exit *exit) {
  bool bounded = instructions && instructions < (uint64_t)VMR_UNBOUNDED;
  return run(vmr_hart_of(vcpu), bounded ? (int64_t)instructions : VMR_UNBOUNDED, exit);
}

int vmr_rv64_get(vmr_vcpu *vcpu, uint32_t reg, uint64_t *value) {
  vmr_hart *h = vmr_hart_of(vcpu);
  if (reg < 32) *value = h->x[reg];
  else if (reg == REG_PC) *value = h->pc;
  else if (reg == REG_PRIVILEGE) *value = h->priv;
  else if (reg >= REG_F && reg < REG_F + 32) *value = h->f[reg - REG_F];
  else if (reg >= REG_CSR && reg < 2 * REG_CSR) {
    uint64_t priv = h->priv;
    uint32_t fs = h->fs;
    h->priv = VMR_PRIV_S;
    h->fs = h->isa & VMR_RV64_F ? 3 : 0; /* an onlooker sees fcsr whatever FS says ... */
    if (reg - REG_CSR == VMR_CSR_SSTATUS) h->fs = fs;
    bool known = vmr_csr_read(h, reg - REG_CSR, h->retired, value);
    h->fs = fs; /* ... and leaves FS alone */
    h->priv = priv;
    return known ? 0 : -ENOENT;
  } else
    return -ENOENT;
  return 0;
}

static int set_csr(vmr_hart *h, uint32_t csr, uint64_t value) {
  uint64_t priv = h->priv;
  uint32_t fs = h->fs;
  h->priv = VMR_PRIV_S;
  h->fs = h->isa & VMR_RV64_F ? 3 : 0;
  bool known = vmr_csr_write(h, csr, value);
  if (csr != VMR_CSR_SSTATUS) h->fs = fs;
  h->priv = priv;
  vmr_mmu_mode(h);
  return known ? 0 : -ENOENT;
}

int vmr_rv64_set(vmr_vcpu *vcpu, uint32_t reg, uint64_t value) {
  vmr_hart *h = vmr_hart_of(vcpu);
  if (reg < 32) h->x[reg] = reg ? value : 0;
  else if (reg == REG_PC) h->pc = value & ~(1 | h->misaligned_mask);
  else if (reg == REG_PRIVILEGE) {
    if (value > VMR_PRIV_S) return vmr_fail(vcpu->machine, EINVAL, "privilege is 0 (U) or 1 (S)");
    h->priv = value;
    vmr_mmu_mode(h);
  } else if (reg >= REG_F && reg < REG_F + 32) h->f[reg - REG_F] = value;
  else if (reg >= REG_CSR && reg < 2 * REG_CSR) return set_csr(h, reg - REG_CSR, value);
  else return -ENOENT;
  return 0;
}

int vmr_rv64_set_imsic(vmr_vcpu *vcpu, vmr_imsic *imsic) {
  vmr_imsic_file *file = vmr_imsic_file_at(imsic, vcpu->index);
  if (!file) return vmr_fail(vcpu->machine, ENOENT, "there is no interrupt file for hart %u", vcpu->index);
  vmr_hart_of(vcpu)->imsic = file;
  return 0;
}

int vmr_rv64_get_stats(vmr_vcpu *vcpu, vmr_rv64_stats *stats) {
  const uint64_t *from = (const uint64_t *)&vmr_hart_of(vcpu)->stats;
  uint64_t *to = (uint64_t *)stats;
  for (size_t i = 0; i < sizeof *stats / sizeof *to; i++) to[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
  return 0;
}

int vmr_rv64_debug_console(vmr_machine *machine, int in_fd, int out_fd) {
  vmr_hart *first = vmr_hart_at(machine, 0);
  if (!first) return vmr_fail(machine, ENOENT, "a debug console needs a hart first");
  return vmr_sbi_console_connect(&first->shared->console, machine, in_fd, out_fd);
}
