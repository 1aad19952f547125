/* In the translator's place where there is none for the host's processor: no hart ever has one. */
#include <errno.h>

#include "hart.h"

void vmr_jit_decoded(vmr_hart *h, vmr_code_page *page, uint32_t slot) {
  (void)h;
  (void)page;
  (void)slot;
}

void vmr_jit_forget(vmr_hart *h, vmr_code_page *page) {
  (void)h;
  (void)page;
}

void vmr_jit_give_up(vmr_hart *h, vmr_code_page *page) {
  (void)h;
  (void)page;
}

void vmr_jit_page_free(vmr_code_page *page) { (void)page; }

void vmr_jit_free(vmr_hart *h) { (void)h; }

void vmr_jit_run(vmr_hart *h, vmr_op_fn *fn, const vmr_op *ip, int64_t n) { fn(h, ip, n); }

int vmr_rv64_jit(vmr_vcpu *vcpu, uint32_t threshold, uint64_t code_bytes) {
  (void)code_bytes;
  return threshold ? vmr_fail(vcpu->machine, ENOTSUP, "code is not translated for this host's processor") : 0;
}

int vmr_rv64_jit_probe(void) { return -ENOTSUP; }
