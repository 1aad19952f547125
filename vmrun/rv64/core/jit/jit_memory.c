#define _GNU_SOURCE /* memfd_create */
#include "jit_memory.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U /* Linux 6.3, include/uapi/linux/memfd.h */
#endif

/* Kernels before 6.3 do not know MFD_EXEC, and need no permission to map a memfd executable. */
static int open_code(void) {
  int fd = memfd_create("vmrun-code", MFD_CLOEXEC | MFD_EXEC);
  return fd < 0 && errno == EINVAL ? memfd_create("vmrun-code", MFD_CLOEXEC) : fd;
}

static void *map(int fd, size_t size, int protection) {
  void *at = mmap(NULL, size, protection, MAP_SHARED, fd, 0);
  return at == MAP_FAILED ? NULL : at;
}

int vmr_code_memory_new(vmr_code_memory *memory, size_t size) {
  *memory = (vmr_code_memory){0};
  int fd = open_code();
  if (fd < 0) return -errno;
  int error = 0;
  uint8_t *write = NULL, *run = NULL;
  if (ftruncate(fd, (off_t)size) || !(write = map(fd, size, PROT_READ | PROT_WRITE)) ||
      !(run = map(fd, size, PROT_READ | PROT_EXEC)) || madvise(write, size, MADV_DONTFORK) ||
      madvise(run, size, MADV_DONTFORK))
    error = -errno;
  close(fd);
  if (error) {
    if (write) munmap(write, size);
    if (run) munmap(run, size);
    return error;
  }
  *memory = (vmr_code_memory){write, run, size};
  return 0;
}

void vmr_code_memory_settle(vmr_code_memory *memory) { madvise(memory->write, memory->size, MADV_DONTNEED); }

void vmr_code_memory_free(vmr_code_memory *memory) {
  if (!memory->size) return;
  munmap(memory->write, memory->size);
  munmap((void *)(uintptr_t)memory->run, memory->size);
  *memory = (vmr_code_memory){0};
}
