/*
 * spin ITERATIONS [PHASES] [gap]: the plain loop. Prints a checksum; its exit status is
 * the checksum's low 6 bits. With `gap`, the longest time between two looks at the
 * clock goes to stderr, in microseconds: a stall of the daemon's making would be
 * in it.
 */
#include "vm.h"
#include <stdio.h>
#include <time.h>

static uint64_t microseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

struct gap {
  uint64_t last, longest;
};

static void look(void *context, uint64_t left) {
  struct gap *gap = context;
  (void)left;
  uint64_t now = microseconds();
  if (now - gap->last > gap->longest)
    gap->longest = now - gap->last;
  gap->last = now;
}

int main(int argc, char **argv) {
  redmagic_start();
  uint64_t iterations = vm_argument(argc, argv, 1, 1000000), phases = vm_argument(argc, argv, 2, 1), sum = 0;
  int asked = argc > 3 && strcmp(argv[3], "gap") == 0;
  struct gap gap = {microseconds(), 0};
  for (uint64_t phase = 0; phase < phases; phase++) {
    sum = sum * 31 + vm_run(iterations / phases + 1, phase + 1, asked ? look : NULL, &gap);
    printf("phase %d %016llx\n", (int)phase, (unsigned long long)sum);
    fflush(stdout);
  }
  if (asked)
    fprintf(stderr, "longest gap %llu us\n", (unsigned long long)gap.longest);
  return (int)(sum & 63);
}
