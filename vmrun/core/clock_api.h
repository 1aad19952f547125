/* The machine's one clock, real or virtual. Read by the compiler and by cffi, like core_api.h.
 *
 * Its time is nanoseconds since the machine started to run: 0 before. A real clock goes on with the host's CLOCK_MONOTONIC
 * while it is not held; a virtual one moves only where it is advanced. The time of day is a base plus this time. */
#ifndef VMR_CLOCK_API_H
#define VMR_CLOCK_API_H
#include "core_api.h"

typedef struct vmr_clock vmr_clock;
vmr_clock *vmr_machine_clock(vmr_machine *machine);
uint64_t vmr_clock_time(const vmr_clock *clock);
/* Nanoseconds since 1970: those of the host when the clock began, plus its time. */
uint64_t vmr_clock_day(const vmr_clock *clock);

/* Make it virtual, with a time of day of `day` at its time 0. -EBUSY: it runs already. */
int vmr_clock_make_virtual(vmr_clock *clock, uint64_t day);
/* Move a virtual clock by ns. Timers that fall due fire before it returns, in order of their deadlines, those with one
 * deadline in the order in which they were armed, and each sees its deadline as the time. -EINVAL: the clock is real.
 * -EDEADLK: called by a timer. One thread at a time. */
int vmr_clock_advance(vmr_clock *clock, uint64_t ns);
/* Hold the clock, and let it go on from where it stood: no time passes meanwhile, no timer fires, none is lost. Idempotent.
 * A clock that has not begun begins once nothing holds it. A virtual clock stands anyway. */
void vmr_clock_hold(vmr_clock *clock);
void vmr_clock_release(vmr_clock *clock);

/* One wait at a time. expired runs on the machine's I/O thread, from the machine's start to its end. */
typedef struct vmr_timer vmr_timer;
#define VMR_NEVER 0xffffffffffffffff
/* Arm and cancel take any thread. expired may still come after either where it was on its way: a device looks again.
 * A deadline that has passed is due at once; VMR_NEVER is never. */
void vmr_timer_arm(vmr_timer *timer, uint64_t deadline);
void vmr_timer_cancel(vmr_timer *timer);
/* What it waits for, VMR_NEVER: nothing. */
uint64_t vmr_timer_deadline(const vmr_timer *timer);
/* For Python: the machine frees it. */
int vmr_timer_new(vmr_machine *machine, void (*expired)(void *opaque), void *opaque, vmr_timer **timer);
#endif
