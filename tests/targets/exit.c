/*
 * exit ITERATIONS [exit|_exit|thread]: ends inside the loop, so inside a trace, with status
 * 21: by exit(), by _exit(), or by exit() from one of four threads that run the loop.
 */
#include "vm.h"
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

static const char *how = "exit";

static void exit_at(void *context, uint64_t left) {
  (void)context;
  if (left != 1234)
    return;
  if (strcmp(how, "_exit") == 0)
    _exit(21);
  exit(21);
}

static void *run(void *argument) {
  uint64_t iterations = (uint64_t)argument;
  vm_run(iterations, 2, NULL, NULL);
  return NULL;
}

int main(int argc, char **argv) {
  redmagic_start();
  uint64_t iterations = vm_argument(argc, argv, 1, 1000000);
  if (argc > 2)
    how = argv[2];
  puts("before");
  fflush(stdout);
  pthread_t thread;
  if (strcmp(how, "thread") == 0)
    for (int i = 0; i < 3; i++)
      pthread_create(&thread, NULL, run, (void *)(iterations * 100));
  vm_run(iterations, 1, exit_at, NULL);
  return 1;
}
