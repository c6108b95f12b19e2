/*
 * threads ITERATIONS [THREADS]: every thread runs the loop, with its own seed. Prints one
 * checksum a thread.
 */
#include "vm.h"
#include <pthread.h>
#include <stdio.h>

struct work {
  pthread_t thread;
  uint64_t iterations, seed, sum;
};

static void *work(void *argument) {
  struct work *work = argument;
  for (int phase = 0; phase < 8; phase++)
    work->sum = work->sum * 31 + vm_run(work->iterations / 8 + 1, work->seed + (uint64_t)phase, NULL, NULL);
  return NULL;
}

int main(int argc, char **argv) {
  redmagic_start();
  uint64_t iterations = vm_argument(argc, argv, 1, 1000000), threads = vm_argument(argc, argv, 2, 4);
  struct work *all = calloc(threads, sizeof *all);
  for (uint64_t i = 0; i < threads; i++) {
    all[i].iterations = iterations;
    all[i].seed = i * 977 + 1;
    if (pthread_create(&all[i].thread, NULL, work, &all[i]) != 0)
      return 1;
  }
  for (uint64_t i = 0; i < threads; i++) {
    pthread_join(all[i].thread, NULL);
    printf("thread %d %016llx\n", (int)i, (unsigned long long)all[i].sum);
  }
  return 7;
}
