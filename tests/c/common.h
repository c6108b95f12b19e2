/* For tests of the C API without a daemon. */
#ifndef COMMON_H
#define COMMON_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <redmagic.h>

#define CHECK(condition)                                                                    \
    do {                                                                                    \
        if (!(condition)) {                                                                 \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);         \
            exit(1);                                                                        \
        }                                                                                   \
    } while (0)

#ifndef REDMAGIC_DISABLED
/*
 * Stands in for a daemon that never does anything: a control region full of high counters,
 * and entries without traces. What the shim writes there shows what it did. The layout
 * is that of proto/src/control.rs and `ShimPage` in proto/src/descriptor.rs.
 */
enum { CONTROL_BYTES = 2 << 20, ENTRIES_BYTES = 1 << 20, GENERATION = 32, MISUSE = 48, HOTNESS = 96 };
static unsigned char control_[CONTROL_BYTES], before_[CONTROL_BYTES], entries_[ENTRIES_BYTES];

static inline void **channel_(void) {
    void **page = (void **)&redmagic_channel;
    __asm__("" : "+r"(page)); /* it is more than the one word that the header declares */
    return page;
}

static inline void pretend_attached(void) {
    memset(control_, 0x40, sizeof control_);
    memset(control_ + MISUSE, 0, HOTNESS - MISUSE);
    channel_()[1] = entries_;
    channel_()[0] = control_;
    memcpy(before_, control_, sizeof control_);
}

static inline void pretend_detached(void) { channel_()[0] = NULL; }

/* Whether a hotness counter went down since the last question. */
static inline int counted(void) {
    int changed = memcmp(control_ + HOTNESS, before_ + HOTNESS, CONTROL_BYTES - HOTNESS) != 0;
    memcpy(before_, control_, sizeof control_);
    return changed;
}

/* Whether a misuse was noted since the last question. */
static inline int misused(void) {
    int changed = memcmp(control_ + MISUSE, before_ + MISUSE, HOTNESS - MISUSE) != 0;
    memcpy(before_ + MISUSE, control_ + MISUSE, HOTNESS - MISUSE);
    return changed;
}
#endif

#endif
