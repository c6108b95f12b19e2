/*
 * crash ITERATIONS [segv|abort|trap|handled|blocked]: dies in the loop, of a null pointer, of abort(),
 * of its own int3 with the default action. `handled`: has its own SIGTRAP handler, counts its
 * int3s and goes on. `blocked`: blocks SIGTRAP (with no int3) and goes on.
 */
#include "vm.h"
#include <signal.h>
#include <stdio.h>

static const char *how = "segv";
static volatile sig_atomic_t traps;
static char *volatile nowhere = (char *)8;

static void on_trap(int number) {
  (void)number;
  traps++;
}

static void crash_at(void *context, uint64_t left) {
  (void)context;
  if (left % 100000 != 999)
    return;
  if (strcmp(how, "handled") == 0)
    __asm__ volatile("int3");
  if (left != 999)
    return;
  if (strcmp(how, "segv") == 0)
    *(volatile int *)nowhere = 1;
  else if (strcmp(how, "abort") == 0)
    abort();
  else if (strcmp(how, "trap") == 0)
    __asm__ volatile("int3");
}

int main(int argc, char **argv) {
  if (argc > 2)
    how = argv[2];
  if (strcmp(how, "handled") == 0)
    signal(SIGTRAP, on_trap);
  redmagic_start();
  if (strcmp(how, "blocked") == 0) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTRAP);
    sigprocmask(SIG_BLOCK, &set, NULL);
  }
  puts("before");
  fflush(stdout);
  uint64_t sum = vm_run(vm_argument(argc, argv, 1, 1000000), 1, crash_at, NULL);
  sigset_t now;
  sigprocmask(SIG_BLOCK, NULL, &now);
  printf("sum %016llx traps %d blocked %d\n", (unsigned long long)sum, (int)traps, sigismember(&now, SIGTRAP));
  return 0;
}
