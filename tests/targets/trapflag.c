/*
 * trapflag ITERATIONS: once there is a session, sets the trap flag as a tracer leaves it behind that lets go of a thread at
 * the wrong moment, and goes on. Says whether it is still set after the first trap; with it every instruction would trap.
 */
#include "vm.h"
#include <signal.h>
#include <stdio.h>
#include <time.h>

static unsigned long rflags(void) {
  unsigned long flags;
  __asm__ volatile("pushfq\n\tpopq %0" : "=r"(flags) : : "memory");
  return flags;
}

int main(int argc, char **argv) {
  redmagic_start();
  uint64_t iterations = vm_argument(argc, argv, 1, 1000000);
  struct sigaction action;
  time_t end = time(NULL) + 10;
  do {
    vm_run(iterations, 1, NULL, NULL);
    sigaction(SIGTRAP, NULL, &action);
  } while (action.sa_handler == SIG_DFL && time(NULL) < end);
  if (action.sa_handler == SIG_DFL) {
    puts("no session");
    return 1;
  }
  __asm__ volatile("pushfq\n\torq $0x100, (%%rsp)\n\tpopfq\n\tnop" : : : "cc", "memory");
  int set = (rflags() & 0x100) != 0;
  printf("%s sum %016llx\n", set ? "set" : "cleared", (unsigned long long)vm_run(iterations, 2, NULL, NULL));
  return 0;
}
