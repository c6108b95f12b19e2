/*
 * exec ITERATIONS PROGRAM [ARGUMENT...]: runs the loop and execs PROGRAM out of a hook, in
 * the middle of it.
 */
#include "vm.h"
#include <stdio.h>
#include <unistd.h>

static void exec_at(void *context, uint64_t left) {
  char **command = context;
  if (left == 777) {
    execv(command[0], command);
    _exit(9);
  }
}

int main(int argc, char **argv) {
  redmagic_start();
  if (argc < 3)
    return 2;
  puts("before");
  fflush(stdout);
  vm_run(vm_argument(argc, argv, 1, 1000000), 1, exec_at, argv + 2);
  return 1;
}
