#define _GNU_SOURCE
#include "stream.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

enum { NONBLOCKING, SOCKET, POLLED };

/* The private, non-blocking open file behind fd, or -1 where the host gives none. */
static int reopen(int fd, const struct stat *st, bool output) {
  bool reopens = S_ISFIFO(st->st_mode) || (S_ISCHR(st->st_mode) && st->st_rdev != makedev(5, 2)); /* ptmx makes a new pair */
  if (!reopens) return -1;
  char path[64];
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  return open(path, (output ? O_WRONLY : O_RDONLY) | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}

int vmr_stream_open(vmr_machine *machine, vmr_stream *stream, int fd, bool output) {
  *stream = (vmr_stream){.fd = -1};
  if (fd < 0) return 0;
  struct stat st;
  if (fstat(fd, &st) < 0) {
    int errnum = errno;
    return vmr_fail(machine, errnum, "fd %d: %s", fd, strerror(errnum));
  }
  stream->fd = reopen(fd, &st, output);
  stream->kind = NONBLOCKING;
  if (stream->fd < 0) {
    stream->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    stream->kind = S_ISSOCK(st.st_mode) ? SOCKET : S_ISREG(st.st_mode) ? NONBLOCKING : POLLED;
    if (stream->kind == POLLED && fcntl(fd, F_GETFL) & O_NONBLOCK) stream->kind = NONBLOCKING;
  }
  if (stream->fd >= 0) return 0;
  int errnum = errno;
  return vmr_fail(machine, errnum, "duplicating fd %d: %s", fd, strerror(errnum));
}

void vmr_stream_close(vmr_stream *stream) {
  if (stream->fd >= 0) close(stream->fd);
  stream->fd = -1;
}

static bool would_block(const vmr_stream *stream, short events) {
  if (stream->kind != POLLED) return false;
  struct pollfd pollfd = {.fd = stream->fd, .events = events};
  return poll(&pollfd, 1, 0) <= 0;
}

#define MESSAGE_FLAGS (MSG_DONTWAIT | MSG_NOSIGNAL)

ssize_t vmr_stream_read(vmr_stream *stream, const struct iovec *iov, int count) {
  if (stream->fd < 0) return 0;
  if (would_block(stream, POLLIN)) return -EAGAIN;
  struct msghdr message = {.msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)count};
  ssize_t got;
  do {
    got = stream->kind == SOCKET ? recvmsg(stream->fd, &message, MESSAGE_FLAGS) : readv(stream->fd, iov, count);
  } while (got < 0 && errno == EINTR);
  if (got < 0 && errno == EIO) return 0; /* a terminal whose other side hung up */
  return got < 0 ? -errno : got;
}

ssize_t vmr_stream_write(vmr_stream *stream, const struct iovec *iov, int count) {
  if (stream->fd < 0) return -EPIPE;
  if (would_block(stream, POLLOUT)) return -EAGAIN;
  struct msghdr message = {.msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)count};
  struct iovec small; /* a pipe that polls writable takes PIPE_BUF bytes without blocking */
  if (stream->kind == POLLED) {
    while (count > 1 && !iov->iov_len) iov++, count--;
    small = (struct iovec){iov->iov_base, iov->iov_len < PIPE_BUF ? iov->iov_len : PIPE_BUF};
    iov = &small;
    count = 1;
  }
  ssize_t put;
  do {
    put = stream->kind == SOCKET ? sendmsg(stream->fd, &message, MESSAGE_FLAGS) : writev(stream->fd, iov, count);
  } while (put < 0 && errno == EINTR);
  return put < 0 ? -errno : put;
}
