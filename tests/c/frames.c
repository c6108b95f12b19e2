/* Branchable frames: each is another one, and the end of one restores the frame around it,
 * also when the ends of inner ones were skipped (longjmp). */
#include "common.h"

static unsigned long current(void) {
    unsigned long frame;
    redmagic_begin_branchable_frame(&frame);
    unsigned long found = frame; /* what it will restore: the frame that was current */
    redmagic_end_branchable_frame(&frame);
    return found;
}

static void recurse(int depth, unsigned long around) {
    unsigned long frame;
    CHECK(current() == around);
    redmagic_begin_branchable_frame(&frame);
    CHECK(frame == around);
    unsigned long own = current();
    CHECK(own != around);
    if (depth > 0) {
        recurse(depth - 1, own);
        CHECK(current() == own);
        recurse(depth - 1, own);
    }
    CHECK(current() == own);
    redmagic_end_branchable_frame(&frame);
    CHECK(current() == around);
}

int main(void) {
    redmagic_start();
    pretend_attached();
    recurse(8, current());
    unsigned long outside = current(), outer, inner, innermost;
    redmagic_begin_branchable_frame(&outer);
    redmagic_begin_branchable_frame(&inner);
    redmagic_begin_branchable_frame(&innermost);
    redmagic_end_branchable_frame(&outer);
    CHECK(current() == outside);
    CHECK(!misused());
    pretend_detached();
    return 0;
}
