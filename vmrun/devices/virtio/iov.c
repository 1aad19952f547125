/* Parts of scattered buffers. A size or offset beyond the end is cut, never followed. */
#include <string.h>

#include "virtio.h"

uint32_t vmr_iov_slice(const struct iovec *iov, uint32_t count, uint64_t offset, uint64_t size, struct iovec *out) {
  uint32_t used = 0;
  for (uint32_t i = 0; i < count && size; i++) {
    if (offset >= iov[i].iov_len) {
      offset -= iov[i].iov_len;
      continue;
    }
    uint64_t part = iov[i].iov_len - offset;
    if (part > size) part = size;
    out[used++] = (struct iovec){(uint8_t *)iov[i].iov_base + offset, part};
    size -= part;
    offset = 0;
  }
  return used;
}

static size_t copy(const struct iovec *iov, uint32_t count, uint64_t offset, uint8_t *data, size_t size, bool to_iov) {
  size_t done = 0;
  for (uint32_t i = 0; i < count && done < size; i++) {
    if (offset >= iov[i].iov_len) {
      offset -= iov[i].iov_len;
      continue;
    }
    size_t part = iov[i].iov_len - offset;
    if (part > size - done) part = size - done;
    uint8_t *guest = (uint8_t *)iov[i].iov_base + offset;
    if (to_iov) memcpy(guest, data + done, part);
    else memcpy(data + done, guest, part);
    done += part;
    offset = 0;
  }
  return done;
}

size_t vmr_iov_read(const struct iovec *iov, uint32_t count, uint64_t offset, void *data, size_t size) {
  return copy(iov, count, offset, data, size, false);
}

size_t vmr_iov_write(const struct iovec *iov, uint32_t count, uint64_t offset, const void *data, size_t size) {
  return copy(iov, count, offset, (uint8_t *)data, size, true);
}
