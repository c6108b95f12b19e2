/*
 * kept ITERATIONS: a thread runs a loop that relies on no constant memory, with a hook that is
 * never traced, so that it stays a call; half-way through it waits there for the line "go".
 * "run" runs another loop in the first thread; "channel" is answered with the value of redmagic_channel. At the end of input
 * both sums are printed.
 */
#include "vm.h"
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

static uint64_t iterations;
static int go[2];

static void hook(uint64_t left) {
  char byte;
  if (left == iterations / 2) {
    puts("waiting");
    fflush(stdout);
    if (read(go[0], &byte, 1) != 1)
      _exit(3);
  }
}

static void *run(void *pointer) {
  static char id;
  volatile uint64_t *sum = pointer;
  for (uint64_t left = iterations; left != 0; left--) {
    redmagic_backwards_branch(&id);
    hook(left);
    *sum = *sum * 31 + left;
    /* Only after the wait: exits that nobody has taken before. */
    if (left < iterations / 2 && left % 64 == 5)
      *sum ^= left;
    if (left < iterations / 2 && left % 64 == 9)
      *sum += 77;
  }
  redmagic_fellthrough_branch(&id);
  return NULL;
}

int main(int argc, char **argv) {
  redmagic_start();
  redmagic_do_not_trace_function((void *)hook);
  iterations = vm_argument(argc, argv, 1, 1000000);
  uint64_t sum = 0, other = 0;
  char line[64];
  pthread_t thread;
  puts("ready");
  fflush(stdout);
  if (pipe(go) != 0 || fgets(line, sizeof line, stdin) == NULL || pthread_create(&thread, NULL, run, &sum) != 0)
    return 2;
  while (fgets(line, sizeof line, stdin) != NULL) {
    if (strcmp(line, "run\n") == 0)
      other = other * 31 + vm_run(100000, 11, NULL, NULL);
    if (strcmp(line, "go\n") == 0 && (write(go[1], "", 1) != 1 || pthread_join(thread, NULL) != 0))
      return 3;
    printf("channel %lx\n", (unsigned long)redmagic_channel);
    fflush(stdout);
  }
  printf("sums %016llx %016llx\n", (unsigned long long)sum, (unsigned long long)other);
  return 0;
}
