/*
 * signals ITERATIONS [sigint]: the loop under a storm. A 1 ms interval timer (SIGALRM), a
 * SIGUSR1 to itself from every timer signal, and SIGINT handlers count. The loop's
 * result is deterministic and goes to stdout; the counts go to stderr. With `sigint`
 * the program ends, with status 3, in the first iteration after a SIGINT.
 */
#include "vm.h"
#include <signal.h>
#include <stdio.h>
#include <sys/time.h>
#include <unistd.h>

static volatile sig_atomic_t alarms, users, interrupts;

static void on_signal(int number) {
  if (number == SIGALRM) {
    alarms++;
    kill(getpid(), SIGUSR1);
  } else if (number == SIGUSR1) {
    users++;
  } else {
    interrupts++;
  }
}

static void poll_interrupt(void *context, uint64_t left) {
  (void)context;
  (void)left;
  if (interrupts != 0) {
    puts("interrupted");
    fflush(stdout);
    _exit(3);
  }
}

int main(int argc, char **argv) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = on_signal;
  sigaction(SIGALRM, &action, NULL);
  sigaction(SIGUSR1, &action, NULL);
  sigaction(SIGINT, &action, NULL);
  redmagic_start();
  int until_interrupt = argc > 2 && strcmp(argv[2], "sigint") == 0;
  struct itimerval every = {{0, 1000}, {0, 1000}};
  setitimer(ITIMER_REAL, &every, NULL);
  if (until_interrupt) {
    puts("ready");
    fflush(stdout);
  }
  uint64_t iterations = vm_argument(argc, argv, 1, 1000000), sum = 0;
  for (uint64_t phase = 0; phase < 8; phase++)
    sum = sum * 31 + vm_run(iterations / 8 + 1, phase + 1, until_interrupt ? poll_interrupt : NULL, NULL);
  memset(&every, 0, sizeof every);
  setitimer(ITIMER_REAL, &every, NULL);
  printf("sum %016llx, signals %s\n", (unsigned long long)sum, alarms > 0 && users > 0 ? "seen" : "lost");
  fprintf(stderr, "alarms %d users %d interrupts %d\n", (int)alarms, (int)users, (int)interrupts);
  return 0;
}
