/*
 * longjmp ITERATIONS: the loop is left by longjmp out of a hook, again and again, then run
 * to its end.
 */
#include "vm.h"
#include <setjmp.h>
#include <stdio.h>

static jmp_buf out;

static void leave(void *context, uint64_t left) {
  uint64_t *at = context;
  if (left == *at)
    longjmp(out, 1);
}

int main(int argc, char **argv) {
  redmagic_start();
  uint64_t iterations = vm_argument(argc, argv, 1, 1000000);
  volatile int jumps = 0;
  volatile uint64_t round = 0;
  static uint64_t at;
  if (setjmp(out) != 0)
    jumps++;
  if (round < 50) {
    round++;
    at = iterations / 50 - 500;
    vm_run(iterations / 50, round, leave, &at);
  }
  at = 0;
  printf("jumps %d sum %016llx\n", jumps, (unsigned long long)vm_run(iterations, 3, leave, &at));
  return 0;
}
