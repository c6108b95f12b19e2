/* The shim's SIGTRAP handler passes on what is the program's: to a handler installed before
 * redmagic_start, with the signal's information. */
#include <signal.h>

#include "common.h"

static volatile sig_atomic_t seen, code;

static void handler(int number, siginfo_t *info, void *context) {
    (void)context;
    seen += number == SIGTRAP;
    code = info->si_code;
}

int main(void) {
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    CHECK(sigaction(SIGTRAP, &action, NULL) == 0);
    redmagic_start();
    CHECK(raise(SIGTRAP) == 0);
    CHECK(seen == 1 && code == SI_TKILL);
    __asm__ volatile("int3");
    CHECK(seen == 2);
    return 0;
}
