/* A byte stream to or from the host that never blocks, whatever the descriptor: pipe, terminal, socket or file. */
#ifndef VMR_STREAM_H
#define VMR_STREAM_H
#include <sys/uio.h>

#include "core.h"

typedef struct vmr_stream {
  int fd;       /* the stream's own; -1: closed */
  int kind;     /* stream.c's */
} vmr_stream;

/* Take a private descriptor for fd (-1 makes a closed stream). O_NONBLOCK is never set on the caller's open file: it
 * would change the shell's terminal as well. */
int vmr_stream_open(vmr_machine *machine, vmr_stream *stream, int fd, bool output);
void vmr_stream_close(vmr_stream *stream);
/* Bytes moved, 0 at the end of input, -EAGAIN, or -errno. */
ssize_t vmr_stream_read(vmr_stream *stream, const struct iovec *iov, int count);
ssize_t vmr_stream_write(vmr_stream *stream, const struct iovec *iov, int count);
#endif
