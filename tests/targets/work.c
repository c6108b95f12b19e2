/*
 * work [THREADS]: says "ready", then runs the loop in every thread, short phase after short phase,
 * until a line comes on stdin; then all threads finish. Checks every phase against a
 * reference that runs the same bytecode by a second, unannotated interpreter, and prints
 * how many were wrong. The answer to a line "channel" is the value of redmagic_channel.
 */
#include "vm.h"
#include <pthread.h>
#include <stdio.h>

/* Iterations: long enough to be compiled, short enough to end soon. */
enum { PHASE = 400000 };

static volatile int done;

static uint64_t reference(uint64_t iterations, uint64_t seed) {
  uint64_t r1 = seed | 1, r2 = 0, r3 = 0x2545f4914f6cdd1d;
  for (uint64_t left = iterations; left != 0; left--) {
    r1 ^= r1 << 13, r1 ^= r1 >> 7, r1 ^= r1 << 17;
    if (!(r1 & 1))
      r2 += r1, r2 = r2 << 7 | r2 >> 57;
    if (!(r1 >> 3 & 1))
      r2 *= r3;
    if (!(r1 >> 17 & 1))
      r3 ^= r1, r3 += 0x9e3779b9;
    if (!(r1 >> 29 & 1))
      r2 ^= r3;
    r2 += left;
  }
  return r2 ^ r3;
}

static void *run(void *argument) {
  uint64_t seed = (uint64_t)argument, wrong = 0, phases = 0;
  while (!done) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    wrong += vm_run(PHASE, seed >> 8, NULL, NULL) != reference(PHASE, seed >> 8);
    phases++;
  }
  return (void *)(phases == 0 ? ~0ul : wrong);
}

int main(int argc, char **argv) {
  redmagic_start();
  uint64_t threads = vm_argument(argc, argv, 1, 1), wrong = 0;
  pthread_t all[16];
  if (threads > 16)
    return 2;
  for (uint64_t i = 0; i < threads; i++)
    if (pthread_create(&all[i], NULL, run, (void *)(i + 1)) != 0)
      return 2;
  puts("ready");
  fflush(stdout);
  char line[64];
  while (fgets(line, sizeof line, stdin) != NULL && strcmp(line, "channel\n") == 0) {
    printf("channel %lx\n", (unsigned long)redmagic_channel);
    fflush(stdout);
  }
  done = 1;
  for (uint64_t i = 0; i < threads; i++) {
    void *result;
    pthread_join(all[i], &result);
    wrong += (uint64_t)result;
  }
  printf("wrong %llu\n", (unsigned long long)wrong);
  return wrong != 0;
}
