/* Windows and regions come, move and go while two harts and a thread of a device hammer them. Built with a sanitizer by
 * test_core_live.py, which assembles the harts' program.
 *
 *   core_live CODE ROUNDS SEED
 *
 * Ends with 0 and one line of counts, or with a text and 1. A device that is called after its window was removed, or
 * memory that is touched after its region was, is what the sanitizer, or the host's own protection, ends it for. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"
#include "rv64_api.h"

#define RAM 0x80000000ull
#define CODE 0x80200000ull
#define WINDOW(i) (0x10000000ull + 0x1000ull * (i))
#define REGION(i) (0x40000000ull + 0x100000ull * (i))
#define FLASH 0x60000000ull
#define PLACES 3
#define MANY 6
#define REGION_SIZE 0x10000u
#define WINDOW_MAGIC 0x1234567u
#define REGION_MAGIC 0x7654321u
#define AT_MAGIC 0x700u
#define AT_CODE 0x1000u
#define AT_DEVICE 0x3000u
#define RET 0x00008067u

#define CHECK(what) \
  do { \
    if (!(what)) { \
      fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #what, vmr_machine_error(machine)); \
      exit(1); \
    } \
  } while (0)

static vmr_machine *machine;
static _Atomic uint64_t reads, writes, toggles, dma, tasks;
static atomic_bool ending;

/* ---- devices --------------------------------------------------------------------------------------------------------- */

typedef struct device {
  uint32_t magic; /* plain: a sanitizer sees who reads it after free */
  vmr_window *window;
} device;

static uint64_t device_read(void *opaque, uint64_t offset, uint32_t size) {
  (void)offset, (void)size;
  atomic_fetch_add(&reads, 1);
  return ((device *)opaque)->magic;
}

static void device_write(void *opaque, uint64_t offset, uint32_t size, uint64_t value) {
  (void)offset, (void)size, (void)value;
  atomic_fetch_add(&writes, 1);
  CHECK(((device *)opaque)->magic == WINDOW_MAGIC);
}

static const vmr_bus_ops device_ops = {.read = device_read, .write = device_write, .min_width = 1};

/* Each write changes the flash's mode, from inside the access and with the lock that every access takes. */
static struct {
  pthread_mutex_t lock;
  vmr_region *region;
  bool trapping;
} flash = {.lock = PTHREAD_MUTEX_INITIALIZER};

static uint64_t flash_read(void *opaque, uint64_t offset, uint32_t size) {
  (void)opaque, (void)offset, (void)size;
  pthread_mutex_lock(&flash.lock);
  pthread_mutex_unlock(&flash.lock);
  return 0;
}

static void flash_write(void *opaque, uint64_t offset, uint32_t size, uint64_t value) {
  (void)opaque, (void)offset, (void)size, (void)value;
  pthread_mutex_lock(&flash.lock);
  flash.trapping = !flash.trapping;
  CHECK(!vmr_region_trap(flash.region, flash.trapping));
  CHECK(vmr_region_remove(flash.region) == -EDEADLK);
  atomic_fetch_add(&toggles, 1);
  pthread_mutex_unlock(&flash.lock);
}

static const vmr_bus_ops flash_ops = {.read = flash_read, .write = flash_write, .min_width = 1};

/* ---- threads --------------------------------------------------------------------------------------------------------- */

static void *run_hart(void *vcpu) {
  vmr_exit left;
  CHECK(!vmr_vcpu_run(vcpu, &left));
  CHECK(left.kind == VMR_EXIT_STOPPED);
  return NULL;
}

static void write_like_a_device(_Atomic uint64_t *count) {
  for (uint32_t i = 0; i < PLACES; i++) {
    uint8_t *hva = vmr_gpa_ptr_for_write(machine, REGION(i) + AT_DEVICE, 64);
    if (!hva) continue;
    for (uint32_t at = 0; at < 64; at++) __atomic_store_n(&hva[at], (uint8_t)at, __ATOMIC_RELAXED);
    vmr_mark_dirty(machine, hva, 64);
    atomic_fetch_add(count, 1);
  }
}

static void *run_worker(void *opaque) {
  vmr_reader reader;
  (void)opaque;
  vmr_reader_add(machine, &reader, false);
  while (!atomic_load(&ending)) {
    vmr_reader_enter(&reader);
    write_like_a_device(&dma);
    vmr_reader_leave(&reader);
  }
  vmr_reader_drop(&reader);
  return NULL;
}

static void task_run(void *opaque) {
  (void)opaque;
  write_like_a_device(&tasks);
}

/* ---- changes --------------------------------------------------------------------------------------------------------- */

static device *devices[MANY];
static vmr_region *regions[MANY];
static bool logged[MANY];

static uint64_t place(bool memory) {
  uint32_t i = (uint32_t)rand() % (PLACES + 1);
  return i == PLACES ? VMR_NOWHERE : memory ? REGION(i) : WINDOW(i);
}

static bool moved(int rc) {
  CHECK(!rc || rc == -EEXIST);
  return !rc;
}

static void change_window(device **slot) {
  if (!*slot) {
    device *made = malloc(sizeof *made);
    made->magic = WINDOW_MAGIC;
    if (moved(vmr_bus_attach(machine, place(false), 0x1000, &device_ops, made, &made->window))) *slot = made;
    else free(made);
  } else if (rand() % 3) {
    moved(vmr_bus_move(machine, (*slot)->window, place(false)));
  } else {
    CHECK(!vmr_bus_remove(machine, (*slot)->window));
    (*slot)->magic = 0;
    free(*slot);
    *slot = NULL;
  }
}

static vmr_region *new_region(void) {
  vmr_region *region;
  uint64_t magic = REGION_MAGIC;
  uint32_t code = RET;
  CHECK(!vmr_region_add(machine, VMR_NOWHERE, REGION_SIZE, (uint32_t)rand() % 3, rand() % 2, &region));
  CHECK(!vmr_region_write(region, AT_MAGIC, &magic, sizeof magic));
  CHECK(!vmr_region_write(region, AT_CODE, &code, sizeof code));
  moved(vmr_region_move(region, place(true)));
  return region;
}

static void change_log(vmr_region *region, bool *log) {
  uint64_t bits[1];
  if (!*log) CHECK(!vmr_dirty_start(region));
  else if (rand() % 4) CHECK(!vmr_dirty_fetch(region, bits, 1));
  else CHECK(!vmr_dirty_stop(region));
  *log = *log ? vmr_dirty_fetch(region, bits, 1) != -ENOENT : true;
}

static void change_region(uint32_t i) {
  if (!regions[i]) {
    regions[i] = new_region();
    logged[i] = false;
  } else if (rand() % 3) {
    moved(vmr_region_move(regions[i], place(true)));
  } else if (rand() % 2) {
    change_log(regions[i], &logged[i]);
  } else {
    CHECK(!vmr_region_remove(regions[i]));
    regions[i] = NULL;
  }
}

/* A device that began to write before the region was hidden ends after it: its bytes are there, and the log knows. */
static void write_while_it_is_hidden(void) {
  vmr_region *region;
  vmr_reader reader;
  uint64_t bits[1];
  char found[4];
  CHECK(!vmr_region_add(machine, REGION(0), REGION_SIZE, VMR_REGION_RAM, 0, &region));
  CHECK(!vmr_dirty_start(region));
  vmr_reader_add(machine, &reader, false);
  vmr_reader_enter(&reader);
  char *hva = vmr_gpa_ptr_for_write(machine, REGION(0) + 5 * 4096, 4);
  CHECK(hva && !vmr_region_move(region, VMR_NOWHERE) && !vmr_gpa_ptr(machine, REGION(0), 1));
  memcpy(hva, "late", 4);
  vmr_mark_dirty(machine, hva, 4);
  vmr_reader_leave(&reader);
  vmr_reader_drop(&reader);
  CHECK(!vmr_dirty_fetch(region, bits, 1) && bits[0] == 1ull << 5);
  CHECK(!vmr_region_read(region, 5 * 4096, found, 4) && !memcmp(found, "late", 4));
  CHECK(!vmr_region_remove(region));
}

static void load_code(const char *path) {
  static uint8_t code[0x10000];
  FILE *file = fopen(path, "rb");
  CHECK(file);
  size_t size = fread(code, 1, sizeof code, file);
  fclose(file);
  CHECK(!vmr_ram_write(machine, CODE, code, size));
}

int main(int argc, char **argv) {
  if (argc != 4) return 2;
  uint32_t rounds = (uint32_t)atoi(argv[2]);
  srand((unsigned)atoi(argv[3]));
  vmr_vcpu *harts[2];
  pthread_t threads[2], worker;
  if (vmr_machine_new(&machine)) return 1;
  CHECK(!vmr_ram_add(machine, RAM, 16 << 20));
  CHECK(!vmr_region_add(machine, FLASH, 0x2000, VMR_REGION_FLASH, 0, &flash.region));
  CHECK(!vmr_bus_add(machine, FLASH, 0x2000, &flash_ops, NULL));
  for (int i = 0; i < 2; i++) CHECK(!vmr_rv64_new(machine, 4095, 10000000, 1 << 20, &harts[i]));
  if (!vmr_rv64_jit_probe()) CHECK(!vmr_rv64_jit(harts[1], 2, 4 << 20)); /* one interprets, one translates */
  load_code(argv[1]);
  write_while_it_is_hidden();
  CHECK(!vmr_rv64_boot(harts[0], CODE, 0));
  CHECK(!vmr_machine_start(machine));
  for (int i = 0; i < 2; i++) CHECK(!vmr_thread_start(machine, &threads[i], "hart", run_hart, harts[i]));
  CHECK(!vmr_thread_start(machine, &worker, "worker", run_worker, NULL));
  vmr_io_task task = {.run = task_run};
  for (uint32_t round = 0; round < rounds; round++) {
    uint64_t value;
    if (rand() % 2) change_window(&devices[rand() % MANY]);
    else change_region((uint32_t)rand() % MANY);
    if (round % 16 == 0) vmr_io_post(machine, &task);
    if (round % 16 == 8) vmr_bus_peek(machine, WINDOW(0), 4, &value);
  }
  atomic_store(&ending, true);
  vmr_machine_stop(machine);
  for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
  pthread_join(worker, NULL);
  uint64_t loops[2];
  for (int i = 0; i < 2; i++) CHECK(!vmr_rv64_get(harts[i], 27, &loops[i])); /* s11 */
  vmr_machine_free(machine);
  for (uint32_t i = 0; i < MANY; i++) free(devices[i]);
  printf("hart0 %llu hart1 %llu reads %llu writes %llu toggles %llu dma %llu tasks %llu\n", (unsigned long long)loops[0],
         (unsigned long long)loops[1], (unsigned long long)reads, (unsigned long long)writes, (unsigned long long)toggles,
         (unsigned long long)dma, (unsigned long long)tasks);
  return 0;
}
