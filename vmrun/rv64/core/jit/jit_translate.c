/* From collected instructions to code. `done` is how many instructions the count is behind. */
#include "exec.h"
#include "jit.h"

typedef struct vmr_making {
  vmr_hart *h;
  struct vmr_jit *jit;
  vmr_code_page *page;
  vmr_emit *out;
  uint32_t done;
  /* Known here, until code is entered from elsewhere: */
  bool fp_on;      /* FS is not off */
  bool fp_nearest; /* rounding is to nearest even, and NX is raised */
  bool fp_dirty;   /* FS is dirty */
} vmr_making;

static void stub(const vmr_making *m, vmr_jit_stub made) { m->jit->stubs[m->jit->stub_count++] = made; }

static uint64_t offset_of(const vmr_making *m, int slot) { return (uintptr_t)(m->page->ops + slot) >> 3; }

/* The collected instruction of the slot that code can be entered at, or NULL. */
static const vmr_jit_insn *inside(const vmr_making *m, uint32_t slot) {
  const vmr_jit_insn *at = vmr_jit_collected(m->jit, (int)slot);
  return at && (at->target || at == m->jit->insns) ? at : NULL;
}

/* The instruction at hand is a jump to the slot: count it and go there. */
static void take(vmr_making *m, uint32_t slot, uint32_t done) {
  vmr_place on = vmr_host_retire_jump(m->out, done);
  stub(m, (vmr_jit_stub){.kind = STUB_LEAVE_TAKEN, .slot = (uint16_t)slot, .jump = on, .resume = vmr_host_jump(m->out)});
}

static void branch(vmr_making *m, const vmr_jit_insn *at, unsigned condition) {
  const vmr_insn *insn = &at->insn;
  int target = vmr_jit_target(at);
  if (target < 0) {
    vmr_place past = vmr_host_branch(m->out, condition ^ 1, insn->rs1, insn->rs2);
    vmr_host_far(m->out, m->jit->thunks[VMR_THUNK_FAR], offset_of(m, at->slot + insn->imm / 2), m->done + 1);
    vmr_host_bind(m->out, past, vmr_here(m->out));
  } else if (insn->imm <= 0) { /* likely taken */
    vmr_place past = vmr_host_branch(m->out, condition ^ 1, insn->rs1, insn->rs2);
    take(m, (uint32_t)target, m->done + 1);
    vmr_host_bind(m->out, past, vmr_here(m->out));
  } else {
    vmr_place taken = vmr_host_branch(m->out, condition, insn->rs1, insn->rs2);
    stub(m, (vmr_jit_stub){.kind = STUB_TAKEN, .slot = (uint16_t)target, .done = m->done + 1, .jump = taken});
  }
  m->done++;
}

/* next: the instruction that follows in the code. */
static void jal(vmr_making *m, const vmr_jit_insn *at, const vmr_jit_insn *next) {
  int target = vmr_jit_target(at);
  if (at->insn.rd) vmr_host_pc(m->out, at->insn.rd, offset_of(m, at->slot + at->insn.length));
  if (target < 0)
    vmr_host_far(m->out, m->jit->thunks[VMR_THUNK_FAR], offset_of(m, at->slot + at->insn.imm / 2), m->done + 1);
  else if (next && next->slot == target) { /* straight on, but for the end of the slice */
    vmr_place on = vmr_host_retire_jump(m->out, m->done + 1);
    vmr_host_leave(m->out, m->jit->thunks[VMR_THUNK_TAKEN], &m->page->ops[target]);
    vmr_host_bind(m->out, on, vmr_here(m->out));
  } else
    take(m, (uint32_t)target, m->done + 1);
  m->done = 0;
}

static void jalr(vmr_making *m, const vmr_jit_insn *at) {
  vmr_place refused = 0;
  vmr_host_far_register(m->out, m->jit->thunks[VMR_THUNK_FAR], at->insn.rs1, at->insn.imm, at->insn.rd,
                        offset_of(m, at->slot + at->insn.length), m->done + 1, m->h->misaligned_mask, &refused);
  if (refused) stub(m, (vmr_jit_stub){.kind = STUB_HANDLER, .slot = at->slot, .done = m->done, .jump = refused});
}

static void access(vmr_making *m, const vmr_jit_insn *at, unsigned kind, bool load) {
  const vmr_insn *insn = &at->insn;
  vmr_jit_stub slow = {.kind = load ? STUB_LOAD : STUB_STORE, .slot = at->slot, .done = m->done};
  slow.jump = load ? vmr_host_load(m->out, kind, insn->rd, insn->rs1, insn->imm, &slow.resume)
                   : vmr_host_store(m->out, kind, insn->rs2, insn->rs1, insn->imm, &slow.resume);
  stub(m, slow);
  m->done++;
}

/* ---- floating point: what is not as it mostly is goes to the handler, and code goes on at the next head ----------- */

static void stubs(const vmr_making *m, vmr_jit_stub made, const vmr_slow *slow) {
  for (uint32_t i = 0; i < slow->count; i++) {
    made.jump = slow->jumps[i];
    if (i) made.kind = STUB_SAME;
    stub(m, made);
  }
}

static void fp_require(vmr_making *m, const vmr_jit_insn *at, bool nearest) {
  vmr_slow off = {0};
  if (!m->fp_on) vmr_host_fp_on(m->out, &off);
  if (nearest && !m->fp_nearest) vmr_host_fp_nearest(m->out, &off);
  stubs(m, (vmr_jit_stub){.kind = STUB_HANDLER, .slot = at->slot, .done = m->done}, &off);
  m->fp_on = true;
  m->fp_nearest = m->fp_nearest || nearest;
}

static void fp_dirty(vmr_making *m) {
  if (!m->fp_dirty) vmr_host_fp_dirty(m->out);
  m->fp_dirty = true;
}

static void fp(vmr_making *m, const vmr_jit_insn *at, unsigned operation) {
  vmr_slow slow = {0};
  fp_require(m, at, vmr_jit_fp_rounds(operation));
  if (!vmr_host_fp(m->out, operation, &at->insn, &slow)) slow = (vmr_slow){.count = 1, .jumps = {vmr_host_jump(m->out)}};
  unsigned op = operation & VMR_JIT_FP_OP;
  if (op != VMR_FP_CLASS_S && op != VMR_FP_CLASS_D) fp_dirty(m);
  stubs(m, (vmr_jit_stub){.kind = STUB_FP, .slot = at->slot, .done = operation, .resume = vmr_here(m->out)}, &slow);
  m->done++;
}

static void fp_move(vmr_making *m, const vmr_jit_insn *at, vmr_fp_move move) {
  vmr_slow slow = {0};
  fp_require(m, at, false);
  vmr_host_fp_move(m->out, move, &at->insn, &slow);
  if (move != VMR_MOVE_X_W && move != VMR_MOVE_X_D) fp_dirty(m);
  stubs(m, (vmr_jit_stub){.kind = STUB_HANDLER, .slot = at->slot, .done = m->done}, &slow);
  m->done++;
}

static void fp_access(vmr_making *m, const vmr_jit_insn *at, unsigned kind, bool load) {
  fp_require(m, at, false);
  access(m, at, kind, load);
  if (load) fp_dirty(m);
}

/* Forms that have a simpler one. */
static void alu(vmr_making *m, const vmr_insn *insn, vmr_shape shape, vmr_alu operation) {
  unsigned rd = insn->rd, rs1 = insn->rs1;
  m->done++;
  if (!rd) return;
  if (shape == SHAPE_R) vmr_host_unary(m->out, operation, rd, rs1);
  else if (shape == SHAPE_RI && operation == VMR_ALU_ADD && !rs1) vmr_host_const(m->out, rd, (uint64_t)(int64_t)insn->imm);
  else if (shape == SHAPE_RI && operation == VMR_ALU_ADD && !insn->imm) vmr_host_unary(m->out, VMR_ALU_MV, rd, rs1);
  else if (shape == SHAPE_RI) vmr_host_alu_imm(m->out, operation, rd, rs1, insn->imm);
  else if (operation == VMR_ALU_ADD && !rs1) vmr_host_unary(m->out, VMR_ALU_MV, rd, insn->rs2);
  else vmr_host_alu(m->out, operation, rd, rs1, insn->rs2);
}

static void constant(vmr_making *m, const vmr_jit_insn *at, vmr_shape shape) {
  m->done++;
  if (!at->insn.rd) return;
  uint64_t imm = (uint64_t)(int64_t)at->insn.imm;
  if (shape == SHAPE_LUI) vmr_host_const(m->out, at->insn.rd, imm);
  else vmr_host_pc(m->out, at->insn.rd, offset_of(m, at->slot) + imm);
}

#define FENCE_WRITES 0x5 /* of pred and of succ: I O R W from bit 3 down */
#define FENCE_READS 0xa

static void fence(vmr_making *m, int32_t raw) {
  m->done++;
  if (raw >> 24 & FENCE_WRITES && raw >> 20 & FENCE_READS) vmr_host_fence(m->out);
}

static void instruction(vmr_making *m, const vmr_jit_insn *at, const vmr_jit_insn *next) {
  vmr_shape shape = (vmr_shape)at->shape;
  unsigned operation = at->operation;
  switch (shape) {
  case SHAPE_RR:
  case SHAPE_RI:
  case SHAPE_R: alu(m, &at->insn, shape, (vmr_alu)operation); break;
  case SHAPE_LUI:
  case SHAPE_AUIPC: constant(m, at, shape); break;
  case SHAPE_LOAD: access(m, at, operation, true); break;
  case SHAPE_STORE: access(m, at, operation, false); break;
  case SHAPE_BRANCH: branch(m, at, operation); break;
  case SHAPE_JAL: jal(m, at, next); break;
  case SHAPE_JALR: jalr(m, at); break;
  case SHAPE_FENCE: fence(m, at->insn.imm); break;
  case SHAPE_FP: fp(m, at, operation); break;
  case SHAPE_FP_MOVE: fp_move(m, at, (vmr_fp_move)operation); break;
  case SHAPE_FP_LOAD: fp_access(m, at, operation, true); break;
  case SHAPE_FP_STORE: fp_access(m, at, operation, false); break;
  case SHAPE_NONE: break;
  }
}

/* Past the last instruction. */
static void finish(vmr_making *m, vmr_jit_end end, uint32_t next) {
  switch (end) {
  case END_JUMP: break;
  case END_PAGE: vmr_host_far(m->out, m->jit->thunks[VMR_THUNK_FAR], offset_of(m, VMR_PAGE_SLOTS), m->done); break;
  case END_NEXT:
    vmr_host_retire(m->out, m->done);
    stub(m, (vmr_jit_stub){.kind = STUB_LEAVE_NEXT, .slot = (uint16_t)next, .jump = vmr_host_jump(m->out)});
    break;
  case END_HANDLER:
    vmr_host_retire(m->out, m->done);
    vmr_host_leave(m->out, m->jit->thunks[VMR_THUNK_NEXT], &m->page->ops[next]);
    break;
  }
}

/* A jump to a slot: its code, which may be this, or for now the way out at `leave`. */
static void lead(const vmr_making *m, vmr_place jump, uint32_t slot, vmr_place leave) {
  const vmr_jit_insn *at = inside(m, slot);
  if (at) {
    vmr_host_bind(m->out, jump, at->at);
    return;
  }
  vmr_host_bind(m->out, jump, leave);
  vmr_jit_link_to(m->jit, m->page, slot, jump);
  vmr_jit_head(m->h, m->page, slot);
}

/* before: where the stub before it begins. Returned: where this one does. */
static vmr_place emit_stub(const vmr_making *m, const vmr_jit_stub *s, vmr_place before) {
  const vmr_op *ip = &m->page->ops[s->slot];
  vmr_place here = vmr_here(m->out);
  switch (s->kind) {
  case STUB_TAKEN: {
    vmr_host_bind(m->out, s->jump, here);
    vmr_place on = vmr_host_retire_jump(m->out, s->done);
    lead(m, on, s->slot, vmr_here(m->out));
    vmr_host_leave(m->out, m->jit->thunks[VMR_THUNK_TAKEN], ip);
    break;
  }
  case STUB_LEAVE_TAKEN:
    vmr_host_bind(m->out, s->resume, here);
    lead(m, s->jump, s->slot, here);
    vmr_host_leave(m->out, m->jit->thunks[VMR_THUNK_TAKEN], ip);
    break;
  case STUB_LEAVE_NEXT:
    lead(m, s->jump, s->slot, here);
    vmr_host_leave(m->out, m->jit->thunks[VMR_THUNK_NEXT], ip);
    break;
  case STUB_LOAD:
  case STUB_STORE:
    vmr_host_bind(m->out, s->jump, here);
    vmr_host_slow(m->out, m->jit->thunks[s->kind == STUB_LOAD ? VMR_THUNK_LOAD : VMR_THUNK_STORE], ip, s->done, s->resume);
    break;
  case STUB_FP:
    vmr_host_bind(m->out, s->jump, here);
    vmr_host_slow(m->out, m->jit->thunks[VMR_THUNK_FP], ip, s->done, s->resume);
    break;
  case STUB_HANDLER:
    vmr_host_bind(m->out, s->jump, here);
    vmr_host_retire(m->out, s->done);
    vmr_host_leave_to(m->out, m->jit->thunks[VMR_THUNK_HANDLER], ip, vmr_jit_plain(m->jit, m->page, s->slot));
    break;
  case STUB_SAME:
    vmr_host_bind(m->out, s->jump, before);
    return before;
  }
  return here;
}

/* Entries for those who come from outside, at the head and at what this code jumps to itself. */
static void enter_inside(const vmr_making *m) {
  struct vmr_jit *jit = m->jit;
  for (uint32_t i = 1; i < jit->count; i++)
    if (jit->insns[i].target) {
      vmr_place entry = vmr_here(m->out);
      vmr_host_entry(m->out, jit->thunks[VMR_THUNK_ENTER]);
      vmr_host_bind(m->out, vmr_host_jump(m->out), jit->insns[i].at);
      vmr_jit_head(m->h, m->page, jit->insns[i].slot);
      vmr_jit_install(jit, m->page, jit->insns[i].slot, entry);
    }
}

/* Handlers of slots that the code leads to find the fields of their instruction there. */
static void decode(const vmr_making *m, uint32_t slot) {
  if (m->page->ops[slot].fn == vmr_op_decode) vmr_code_decode_slot(m->h, m->page, slot);
}

/* After the slot, which is done by its handler, code may go on. */
static void back_after(const vmr_making *m, uint32_t slot) {
  uint32_t length = LENGTH_OF(&m->page->ops[slot]);
  if (length && slot + length < VMR_PAGE_SLOTS) vmr_jit_head(m->h, m->page, slot + length);
}

#define ROOM ((VMR_JIT_INSNS + 1u) * VMR_HOST_INSN_BYTES)

bool vmr_jit_translate(vmr_hart *h, vmr_code_page *page, uint32_t slot) {
  struct vmr_jit *jit = h->jit;
  vmr_making m = {.h = h, .jit = jit, .page = page, .out = &jit->out};
  if ((size_t)(jit->out.end - jit->out.at) < ROOM) vmr_jit_flush(h);
  uint32_t next;
  vmr_jit_end end = vmr_jit_collect(h, page, slot, &next);
  if (!jit->count) return false;
  jit->stub_count = 0;
  for (uint32_t i = 0; i < jit->count; i++) decode(&m, jit->insns[i].slot);
  if (end == END_HANDLER) decode(&m, next);
  vmr_place entry = vmr_here(m.out);
  vmr_host_entry(m.out, jit->thunks[VMR_THUNK_ENTER]);
  for (uint32_t i = 0; i < jit->count; i++) {
    vmr_jit_insn *at = &jit->insns[i];
    if (at->target) {
      vmr_host_retire(m.out, m.done);
      m.done = 0;
      m.fp_on = m.fp_nearest = m.fp_dirty = false;
    }
    at->at = vmr_here(m.out);
    instruction(&m, at, i + 1 < jit->count ? at + 1 : NULL);
  }
  finish(&m, end, next);
  for (uint32_t i = 0, last = 0; i < jit->stub_count; i++) last = emit_stub(&m, &jit->stubs[i], last);
  if (m.out->full) { /* an instruction took more than VMR_HOST_INSN_BYTES */
    vmr_jit_flush(h);
    return false;
  }
  vmr_jit_install(jit, page, slot, entry);
  enter_inside(&m);
  if (end == END_HANDLER) back_after(&m, next);
  return true;
}
