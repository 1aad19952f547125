/* Thunks, control flow and memory accesses of the translator on x86-64 (System V calling convention). */
#include "x86_asm.h"

#define CALL_BYTES 5u
const uint32_t vmr_host_entry_bytes = CALL_BYTES;

/* ---- thunks ------------------------------------------------------------------------------------------------------- */

static void each_home(vmr_emit *e, void (*move)(vmr_emit *, unsigned, int32_t)) {
  for (unsigned g = 1; g < 32; g++)
    if (has_home(g)) move(e, home(g), AT_X(g));
}
static void spill(vmr_emit *e) { each_home(e, store64); }
static void fill(vmr_emit *e) { each_home(e, load64); }

static void jump_c(vmr_emit *e, vmr_op_fn *fn) {
  mov_const(e, RAX, (uintptr_t)fn);
  op_rr(e, 0, 0xff, 4, RAX);
}
static void push(vmr_emit *e, unsigned reg) { opcode(e, 0, 0x50 | (reg & 7), 0, 0, reg); }
static void pop(vmr_emit *e, unsigned reg) { opcode(e, 0, 0x58 | (reg & 7), 0, 0, reg); }
static void ret(vmr_emit *e) { put8(e, 0xc3); }

static const uint8_t saved[] = {RBX, RBP, R12, R13, R14, R15};
#define SAVED (sizeof saved / sizeof *saved)

#define MXCSR_DEFAULT 0x1f80u /* to nearest even, subnormals as they are, no exception traps */

/* call(h, ip, n, fn). Translated code runs with the stack as a handler finds it: 8 below a multiple of 16. MXCSR is the
 * default one meanwhile, whatever a library of the process has made of it. */
static void thunk_call(vmr_emit *e) {
  for (unsigned i = 0; i < SAVED; i++) push(e, saved[i]);
  op_ri(e, W, X_SUB, RSP, 8);
  op_rm(e, 0, 0x0fae, 3, RSP, 0); /* stmxcsr */
  op_rm(e, 0, 0xc7, 0, RSP, 4);
  put32(e, MXCSR_DEFAULT);
  op_rm(e, 0, 0x0fae, 2, RSP, 4); /* ldmxcsr */
  op_rr(e, 0, 0xff, 2, RCX);
  op_rm(e, 0, 0x0fae, 2, RSP, 0);
  op_ri(e, W, X_ADD, RSP, 8);
  for (unsigned i = SAVED; i-- > 0;) pop(e, saved[i]);
  ret(e);
}

static void thunk_enter(vmr_emit *e) {
  op_rm(e, W, 0x8d, HART, RDI, BIAS);
  mov_rr(e, COUNT, RDX);
  fill(e);
  ret(e);
}

/* The arguments of a handler: ip is in RAX. */
static void arguments(vmr_emit *e) {
  mov_rr(e, RSI, RAX);
  mov_rr(e, RDX, COUNT);
  op_rm(e, W, 0x8d, RDI, HART, -BIAS);
}

static void dispatch(vmr_emit *e) {
#ifdef VMR_TRAMPOLINE
  store64(e, RSI, AT(next_ip));
  store64(e, RDX, AT(next_n));
  ret(e);
#else
  op_rm(e, 0, 0xff, 4, RSI, offsetof(vmr_op, fn));
#endif
}

static void thunk_taken(vmr_emit *e, vmr_op_fn *slice_end) {
  spill(e);
  arguments(e);
  op_rr(e, W, 0x85, RDX, RDX);
  vmr_place end = short_if(e, CC_LE);
  dispatch(e);
  short_here(e, end);
  jump_c(e, slice_end);
}

static void thunk_next(vmr_emit *e) {
  spill(e);
  arguments(e);
  dispatch(e);
}

/* RCX: the handler. */
static void thunk_handler(vmr_emit *e) {
  spill(e);
  arguments(e);
  op_rr(e, 0, 0xff, 4, RCX);
}

/* fn(h, RAX, RDX). The homes are spilled. */
static void call_c(vmr_emit *e, uintptr_t fn) {
  op_rm(e, W, 0x8d, RDI, HART, -BIAS);
  mov_rr(e, RSI, RAX);
  mov_const(e, RAX, fn);
  op_rr(e, 0, 0xff, 2, RAX);
}

/* RAX: ip; ECX: the operation. */
static void thunk_fp(vmr_emit *e, const vmr_jit_targets *targets) {
  spill(e);
  mov_rr(e, RDX, RCX);
  call_c(e, (uintptr_t)targets->fp);
  fill(e);
  ret(e);
}

/* RAX: ip; ECX: instructions before it that are not counted yet. R12 and R13 hold both over the call. */
static void thunk_access(vmr_emit *e, bool load, const vmr_jit_targets *targets) {
  spill(e);
  mov_rr(e, R12, RAX);
  mov_rr(e, R13, RCX);
  mov_const(e, RDX, load);
  call_c(e, (uintptr_t)targets->access);
  op_rr(e, 0, 0x85, RAX, RAX);
  vmr_place failed = short_if(e, CC_NE);
  fill(e);
  ret(e);
  short_here(e, failed); /* not back to the caller: the homes are spilled, go on as a handler would */
  op_ri(e, W, X_ADD, RSP, 8);
  mov_rr(e, RCX, RAX);
  mov_rr(e, RAX, R12);
  op_rr(e, W, GROUP(X_SUB), COUNT, R13);
  arguments(e);
  op_ri(e, 0, X_CMP, RCX, VMR_ACCESS_TRAP);
  vmr_place left = short_if(e, CC_NE);
  jump_c(e, targets->trap);
  short_here(e, left);
  jump_c(e, targets->leave);
}

/* RAX: the pc. */
static void thunk_far(vmr_emit *e, vmr_op_fn *far) {
  spill(e);
  store64(e, RAX, AT(pc));
  mov_const(e, RAX, 0);
  arguments(e);
  jump_c(e, far);
}

void vmr_host_thunks(vmr_emit *e, vmr_place thunks[VMR_THUNKS], const vmr_jit_targets *targets) {
  for (unsigned i = 0; i < VMR_THUNKS; i++) {
    while (vmr_here(e) & 15 && !e->full) put8(e, 0xcc);
    thunks[i] = vmr_here(e);
    switch ((vmr_thunk)i) {
    case VMR_THUNK_CALL: thunk_call(e); break;
    case VMR_THUNK_ENTER: thunk_enter(e); break;
    case VMR_THUNK_TAKEN: thunk_taken(e, targets->slice_end); break;
    case VMR_THUNK_NEXT: thunk_next(e); break;
    case VMR_THUNK_HANDLER: thunk_handler(e); break;
    case VMR_THUNK_LOAD: thunk_access(e, true, targets); break;
    case VMR_THUNK_STORE: thunk_access(e, false, targets); break;
    case VMR_THUNK_FP: thunk_fp(e, targets); break;
    case VMR_THUNK_FAR: thunk_far(e, targets->far); break;
    case VMR_THUNKS: break;
    }
  }
}

/* ---- flow --------------------------------------------------------------------------------------------------------- */

static void call_to(vmr_emit *e, vmr_place target) {
  put8(e, 0xe8);
  put32(e, 0);
  vmr_host_bind(e, vmr_here(e) - 4, target);
}

void vmr_host_bind(vmr_emit *e, vmr_place jump, vmr_place target) {
  if (e->full) return;
  uint32_t distance = target - (jump + 4);
  memcpy(e->base + jump, &distance, 4);
}

void vmr_host_entry(vmr_emit *e, vmr_place enter) { call_to(e, enter); }

void vmr_host_retire(vmr_emit *e, uint32_t done) {
  if (done) op_ri(e, W, X_SUB, COUNT, (int32_t)done);
}

vmr_place vmr_host_retire_jump(vmr_emit *e, uint32_t done) {
  op_ri(e, W, X_SUB, COUNT, (int32_t)done);
  return jump_if(e, CC_G);
}

vmr_place vmr_host_jump(vmr_emit *e) { return jump32(e); }

vmr_place vmr_host_branch(vmr_emit *e, vmr_condition when, unsigned rs1, unsigned rs2) {
  static const uint8_t conditions[] = {CC_E, CC_NE, CC_L, CC_GE, CC_B, CC_AE};
  unsigned left = source(e, rs1, RAX);
  if (!rs2) op_rr(e, W, 0x85, left, left); /* test: no borrow and no overflow, as against 0 */
  else op_g(e, W, GROUP(X_CMP), left, rs2);
  return jump_if(e, conditions[when]);
}

void vmr_host_leave(vmr_emit *e, vmr_place thunk, const vmr_op *ip) {
  mov_const(e, RAX, (uintptr_t)ip);
  jump_to(e, thunk);
}

void vmr_host_leave_to(vmr_emit *e, vmr_place thunk, const vmr_op *ip, vmr_op_fn *fn) {
  mov_const(e, RCX, (uintptr_t)fn);
  vmr_host_leave(e, thunk, ip);
}

#define JUMP_AT(field) ((int32_t)(offsetof(vmr_hart, jumps) + offsetof(vmr_jump, field)) - BIAS)
static_assert(sizeof(vmr_jump) == 32, "the index of an instruction's halfword, times 16, is its entry's distance");

/* RAX: the pc; done instructions later. */
static void look_up(vmr_emit *e, vmr_place thunk, uint32_t done) {
  op_ri(e, W, X_SUB, COUNT, (int32_t)done);
  vmr_host_bind(e, jump_if(e, CC_LE), thunk);
  op_rr(e, 0, 0x8b, RCX, RAX);
  op_ri(e, 0, X_AND, RCX, (VMR_JUMPS - 1) << 1);
  shift_i(e, 0, X_SHL, RCX, 4);
  op_rx(e, W, GROUP(X_CMP), RAX, HART, RCX, 0, JUMP_AT(pc));
  vmr_host_bind(e, jump_if(e, CC_NE), thunk);
  load64(e, RDX, AT(jump_key));
  op_rx(e, W, GROUP(X_CMP), RDX, HART, RCX, 0, JUMP_AT(key));
  vmr_host_bind(e, jump_if(e, CC_NE), thunk);
  op_rx(e, W, 0x8b, RDX, HART, RCX, 0, JUMP_AT(bias));
  store64(e, RDX, AT(pc_bias));
  op_rx(e, 0, 0xff, 4, HART, RCX, 0, JUMP_AT(code));
}

void vmr_host_far(vmr_emit *e, vmr_place thunk, uint64_t offset, uint32_t done) {
  mov_const(e, RAX, offset);
  op_rm(e, W, GROUP(X_ADD), RAX, HART, AT(pc_bias));
  look_up(e, thunk, done);
}

void vmr_host_far_register(vmr_emit *e, vmr_place thunk, unsigned rs1, int32_t imm, unsigned link, uint64_t after,
                           uint32_t done, uint64_t misaligned, vmr_place *refused) {
  get(e, RAX, rs1);
  if (imm) op_ri(e, W, X_ADD, RAX, imm);
  op_ri(e, W, X_AND, RAX, -2);
  if (misaligned) {
    op_rr(e, 0, 0xf7, 0, RAX); /* test */
    put32(e, (uint32_t)misaligned);
    *refused = jump_if(e, CC_NE);
  }
  if (link) {
    mov_const(e, RCX, after);
    op_rm(e, W, GROUP(X_ADD), RCX, HART, AT(pc_bias));
    set(e, link, RCX);
  }
  look_up(e, thunk, done);
}

/* ---- memory ------------------------------------------------------------------------------------------------------- */

static_assert(sizeof(vmr_tlb_entry) == 16 && offsetof(vmr_tlb_entry, tag) == 0, "the page's number times 16 is its entry");

/* The address of rs1 + imm: in the host register returned, RAX if it had to be computed. Then RCX is made what is to be
 * added for the host's address; *slow is the jump for a miss. RAX and RDX may be overwritten. */
static unsigned look_up_data(vmr_emit *e, unsigned size, unsigned rs1, int32_t imm, int32_t table, vmr_place *slow) {
  unsigned address = RAX;
  if (has_home(rs1) && !imm) address = home(rs1);
  else if (has_home(rs1)) op_rm(e, W, 0x8d, RAX, home(rs1), imm);
  else {
    get(e, RAX, rs1);
    if (imm) op_ri(e, W, X_ADD, RAX, imm);
  }
  op_rr(e, 0, 0x8b, RCX, address);
  shift_i(e, 0, X_SHR, RCX, 12 - 4);
  op_ri(e, 0, X_AND, RCX, (VMR_TLB_SIZE - 1) << 4);
  op_rm(e, W, GROUP(X_ADD), RCX, HART, table);
  mov_rr(e, RDX, address);
  op_ri(e, W, X_AND, RDX, (int32_t)(~(uint32_t)VMR_PAGE_MASK | (size - 1)));
  op_rm(e, W, GROUP(X_CMP), RDX, RCX, 0);
  *slow = jump_if(e, CC_NE);
  op_rm(e, W, 0x8b, RCX, RCX, offsetof(vmr_tlb_entry, addend));
  return address;
}

#define KIND_F 8u /* and above: of f registers, 10 single, 11 double */

vmr_place vmr_host_load(vmr_emit *e, unsigned kind, unsigned rd, unsigned rs1, int32_t imm, vmr_place *resume) {
  static const struct {
    uint32_t how, op;
  } loads[] = {{W, 0x0fbe}, {W, 0x0fbf}, {W, 0x63}, {W, 0x8b}, {0, 0x0fb6}, {0, 0x0fb7}, {0, 0x8b}};
  vmr_place slow;
  unsigned address = look_up_data(e, 1u << (kind & 3), rs1, imm, AT(load_tlb), &slow);
  if (kind >= KIND_F) {
    op_rx(e, kind & 1 ? W : 0, 0x8b, RAX, address, RCX, 0, 0);
    op_rm(e, kind & 1 ? W : 0, 0x89, RAX, HART, AT_F(rd));
    if (!(kind & 1)) { /* a single stands in a box of ones */
      op_rm(e, 0, 0xc7, 0, HART, AT_F(rd) + 4);
      put32(e, 0xffffffff);
    }
    *resume = vmr_here(e);
    return slow;
  }
  unsigned to = rd ? result(rd) : RAX;
  op_rx(e, loads[kind].how, loads[kind].op, to, address, RCX, 0, 0);
  if (rd) done(e, rd);
  *resume = vmr_here(e);
  return slow;
}

vmr_place vmr_host_store(vmr_emit *e, unsigned kind, unsigned rs2, unsigned rs1, int32_t imm, vmr_place *resume) {
  static const struct {
    uint32_t how, op;
  } stores[] = {{BYTE, 0x88}, {P_66, 0x89}, {0, 0x89}, {W, 0x89}};
  vmr_place slow;
  unsigned address = look_up_data(e, 1u << (kind & 3), rs1, imm, AT(store_tlb), &slow);
  unsigned value = RDX;
  if (kind >= KIND_F) load64(e, RDX, AT_F(rs2));
  else if (has_home(rs2)) value = home(rs2);
  else get(e, RDX, rs2);
  op_rx(e, stores[kind & 3].how, stores[kind & 3].op, value, address, RCX, 0, 0);
  *resume = vmr_here(e);
  return slow;
}

void vmr_host_slow(vmr_emit *e, vmr_place thunk, const vmr_op *ip, uint32_t with, vmr_place resume) {
  mov_const(e, RAX, (uintptr_t)ip);
  mov_const(e, RCX, with);
  call_to(e, thunk);
  jump_to(e, resume);
}
