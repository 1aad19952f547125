/* The guest side of bench/core.py: bare S-mode loops, timed with the time CSR, counted with instret.
 *
 * "mix" does what CoreMark does (linked lists, a matrix, a state machine, a CRC) in code of its own; "memory" chases
 * pointers and streams through more than a last-level cache share; "float" is double arithmetic; "two" is "mix" on two
 * harts at once. One line per loop goes to the SBI debug console:  bench NAME ROUNDS TICKS INSTRUCTIONS CHECK
 */
#include <stdint.h>

struct sbi_result {
  long error;
  long value;
};

static struct sbi_result sbi(long extension, long function, long a, long b, long c) {
  register long a0 __asm__("a0") = a;
  register long a1 __asm__("a1") = b;
  register long a2 __asm__("a2") = c;
  register long a6 __asm__("a6") = function;
  register long a7 __asm__("a7") = extension;
  __asm__ volatile("ecall" : "+r"(a0), "+r"(a1) : "r"(a2), "r"(a6), "r"(a7) : "memory");
  return (struct sbi_result){a0, a1};
}

#define SBI_HSM 0x48534DL
#define SBI_SRST 0x53525354L
#define SBI_DBCN 0x4442434EL

static uint64_t ticks(void) {
  uint64_t value;
  __asm__ volatile("rdtime %0" : "=r"(value));
  return value;
}

static uint64_t retired(void) {
  uint64_t value;
  __asm__ volatile("rdinstret %0" : "=r"(value));
  return value;
}

/* ---- output ---------------------------------------------------------------------------------------------------- */

static char line[256];
static unsigned used;

static void put_text(const char *text) {
  while (*text) line[used++] = *text++;
}

static void put_number(uint64_t value) {
  char digits[20];
  unsigned n = 0;
  do digits[n++] = (char)('0' + value % 10);
  while (value /= 10);
  while (n) line[used++] = digits[--n];
}

static void report(const char *name, uint64_t rounds, uint64_t time, uint64_t instructions, uint64_t check) {
  used = 0;
  put_text("bench ");
  put_text(name);
  for (int field = 0; field < 4; field++) {
    put_text(" ");
    put_number(field == 0 ? rounds : field == 1 ? time : field == 2 ? instructions : check);
  }
  put_text("\n");
  sbi(SBI_DBCN, 0, used, (long)line, 0);
}

/* ---- loops ----------------------------------------------------------------------------------------------------- */

struct item {
  struct item *next;
  int16_t key, value;
};

struct work {
  struct item items[96];
  int16_t a[12][12], b[12][12];
  int32_t c[12][12];
  char text[160];
  uint32_t seed;
};
static struct work works[2];

static uint32_t random_next(uint32_t *seed) {
  *seed ^= *seed << 13;
  *seed ^= *seed >> 17;
  *seed ^= *seed << 5;
  return *seed;
}

static uint16_t crc16(uint16_t crc, uint16_t data) {
  for (int bit = 0; bit < 16; bit++) {
    unsigned carry = (crc ^ data) & 1;
    crc >>= 1;
    data >>= 1;
    if (carry) crc ^= 0xa001;
  }
  return crc;
}

static struct item *list_sort(struct item *head) { /* merge sort, bottom up */
  for (int run = 1;; run *= 2) {
    struct item *rest = head, **tail = &head;
    int merges = 0;
    while (rest) {
      struct item *left = rest, *right = rest;
      int left_n = 0, right_n = run;
      merges++;
      while (left_n < run && right) right = right->next, left_n++;
      while (left_n > 0 || (right_n > 0 && right)) {
        if (left_n && (!right_n || !right || left->key <= right->key)) {
          *tail = left, left = left->next, left_n--;
        } else {
          *tail = right, right = right->next, right_n--;
        }
        tail = &(*tail)->next;
      }
      rest = right;
    }
    *tail = 0;
    if (merges <= 1) return head;
  }
}

static uint16_t list_round(struct work *w, uint16_t crc) {
  for (int i = 0; i < 96; i++) {
    w->items[i].next = i < 95 ? &w->items[i + 1] : 0;
    w->items[i].key = (int16_t)random_next(&w->seed);
    w->items[i].value = (int16_t)(i * 7);
  }
  struct item *head = list_sort(w->items), *reversed = 0;
  while (head) {
    struct item *next = head->next;
    head->next = reversed;
    reversed = head;
    head = next;
  }
  for (int wanted = 0; wanted < 24; wanted++) {
    struct item *found = reversed;
    while (found && found->value != wanted * 21) found = found->next;
    if (found) crc = crc16(crc, (uint16_t)found->key);
  }
  return crc;
}

static uint16_t matrix_round(struct work *w, uint16_t crc) {
  for (int i = 0; i < 12; i++)
    for (int j = 0; j < 12; j++) w->a[i][j] = (int16_t)(i * 3 + j + crc), w->b[i][j] = (int16_t)(i - j * 5);
  for (int i = 0; i < 12; i++)
    for (int j = 0; j < 12; j++) {
      int32_t sum = 0;
      for (int k = 0; k < 12; k++) sum += w->a[i][k] * w->b[k][j];
      w->c[i][j] = sum;
    }
  for (int i = 0; i < 12; i++) crc = crc16(crc, (uint16_t)(w->c[i][11 - i] >> 2));
  return crc;
}

static uint16_t state_round(struct work *w, uint16_t crc) {
  static const char alphabet[] = "0123456789+-.eE,x ";
  unsigned counts[5] = {0}, state = 0;
  for (int i = 0; i < 160; i++) w->text[i] = alphabet[random_next(&w->seed) % 18];
  for (int i = 0; i < 160; i++) {
    char c = w->text[i];
    switch (state) {
    case 0: state = c >= '0' && c <= '9' ? 1 : c == '+' || c == '-' ? 2 : c == '.' ? 3 : 0; break;
    case 1: state = c >= '0' && c <= '9' ? 1 : c == '.' ? 3 : c == 'e' || c == 'E' ? 4 : 0; break;
    case 2: state = c >= '0' && c <= '9' ? 1 : 0; break;
    case 3: state = c >= '0' && c <= '9' ? 3 : c == 'e' || c == 'E' ? 4 : 0; break;
    default: state = c >= '0' && c <= '9' ? 4 : c == '+' || c == '-' ? 4 : 0; break;
    }
    counts[state]++;
  }
  for (int i = 0; i < 5; i++) crc = crc16(crc, (uint16_t)counts[i]);
  return crc;
}

static uint64_t mix(struct work *w, uint64_t rounds) {
  uint16_t crc = 0xffff;
  w->seed = 0x2545f491;
  for (uint64_t i = 0; i < rounds; i++) {
    crc = list_round(w, crc);
    crc = matrix_round(w, crc);
    crc = state_round(w, crc);
  }
  return crc;
}

#define WORDS (4u << 20) /* 32 MiB of 64-bit words */
static uint64_t field[WORDS];

static uint64_t memory(struct work *w, uint64_t rounds) {
  uint64_t sum = 0, at = 1;
  (void)w;
  for (uint64_t round = 0; round < rounds; round++) {
    for (uint64_t i = 0; i < WORDS; i += 4) field[i] += i, sum += field[i + 1] + field[i + 2];
    for (int i = 0; i < 200000; i++) {
      at = (at * 2862933555777941757u + 3037000493u) % WORDS;
      sum += field[at]++;
    }
  }
  return sum & 0xffffffff;
}

static uint64_t floats(struct work *w, uint64_t rounds) {
  double x = 0.3, sum = 0;
  (void)w;
  for (uint64_t i = 0; i < rounds * 1000; i++) {
    x = 3.7 * x * (1.0 - x);
    sum += x / (1.0 + x);
  }
  return (uint64_t)(sum * 16.0);
}

/* ---- harts ----------------------------------------------------------------------------------------------------- */

static volatile uint64_t other_rounds, other_done;

void other_main(void) {
  while (!other_rounds) {
  }
  __asm__ volatile("fence" ::: "memory");
  mix(&works[1], other_rounds);
  __asm__ volatile("fence" ::: "memory");
  other_done = 1;
}

static void run(const char *name, uint64_t (*loop)(struct work *, uint64_t), uint64_t rounds) {
  uint64_t time = ticks(), count = retired();
  uint64_t check = loop(&works[0], rounds);
  report(name, rounds, ticks() - time, retired() - count, check);
}

void _start(void);

void boot_main(long hart) {
  run("mix", mix, MIX_ROUNDS);
  run("memory", memory, MEMORY_ROUNDS);
  run("float", floats, FLOAT_ROUNDS);
  if (sbi(SBI_HSM, 0, hart ? 0 : 1, (long)_start, 0).error == 0) {
    uint64_t time = ticks(), count = retired();
    other_rounds = MIX_ROUNDS;
    uint64_t check = mix(&works[0], MIX_ROUNDS);
    while (!other_done) {
    }
    report("two", 2 * MIX_ROUNDS, ticks() - time, retired() - count, check);
  }
  sbi(SBI_SRST, 0, 0, 0, 0);
  for (;;) {
  }
}
