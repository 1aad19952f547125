/* State as a value: whatever lives on a machine can be saved to bytes and loaded from them. Read by the compiler and by
 * cffi, like core_api.h.
 *
 * The bytes name their own parts, all numbers little-endian: u32 magic, u32 version, u8 length and text of the kind, u32 count
 * of fields; then for each field u8 length and text of its name, u8 width of an element, u32 count of elements, the elements. */
#ifndef VMR_STATE_API_H
#define VMR_STATE_API_H
#include "core_api.h"

#define VMR_STATE_MAGIC 0x53524d56 /* "VMRS" */
/* object: a device, a controller, a clock, messages, or a hart, as its constructor returned it. Only while no vCPU runs and
 * with the clock held or virtual, where it is to be the state of one moment.
 * save returns the size, whatever capacity is (bytes beyond are not written); -EBUSY: something cannot be saved now. */
int64_t vmr_state_save(vmr_machine *machine, void *object, uint8_t *bytes, uint64_t capacity);
/* Every value is checked as a guest's would be; -EINVAL: the bytes are no state of the object, which stays as it was. Devices
 * come before the controllers at the other end of their lines, these before vCPUs, and the clock before all. */
int vmr_state_load(vmr_machine *machine, void *object, const uint8_t *bytes, uint64_t size);
#endif
