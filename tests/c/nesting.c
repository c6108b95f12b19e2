/* temp_disable nests: an anchor counts when as many were ended as begun. */
#include "common.h"

static int branch_counts(void) {
    redmagic_backwards_branch(control_);
    return counted();
}

int main(void) {
    redmagic_start();
    pretend_attached();
    CHECK(branch_counts());
    for (int depth = 1; depth <= 100; depth++) {
        redmagic_temp_disable();
        CHECK(!branch_counts());
    }
    redmagic_function_entry(control_);
    redmagic_force_begin_trace(control_);
    redmagic_force_jump_to_trace(control_);
    CHECK(!counted());
    for (int depth = 99; depth >= 0; depth--) {
        CHECK(!branch_counts());
        redmagic_temp_enable();
    }
    CHECK(branch_counts());
    CHECK(!misused());
    pretend_detached();
    return 0;
}
