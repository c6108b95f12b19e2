/* Disabling is a thread's own affair. */
#include <pthread.h>

#include "common.h"

static void *other(void *unused) {
    redmagic_backwards_branch(control_);
    CHECK(counted());
    redmagic_temp_enable(); /* not the main thread's */
    CHECK(misused());
    redmagic_temp_disable();
    return unused;
}

int main(void) {
    redmagic_start();
    pretend_attached();
    redmagic_temp_disable();
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, other, NULL) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    redmagic_backwards_branch(control_);
    CHECK(!counted());
    redmagic_temp_enable();
    redmagic_backwards_branch(control_);
    CHECK(counted());
    pretend_detached();
    return 0;
}
