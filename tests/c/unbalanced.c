/* An end without its begin does nothing but be noted; what follows works as ever. */
#include "common.h"

int main(void) {
    unsigned long frame = 77;
    redmagic_temp_enable();
    redmagic_end_branchable_frame(&frame);
    redmagic_end_merge_block();
    redmagic_start();
    pretend_attached();
    CHECK(!misused());
    redmagic_temp_enable();
    CHECK(misused());
    CHECK(frame == 77);
    redmagic_end_branchable_frame(&frame);
    CHECK(misused() && frame == 77);
    redmagic_end_merge_block();
    CHECK(!misused());
    redmagic_temp_disable();
    redmagic_backwards_branch(control_);
    CHECK(!counted());
    redmagic_temp_enable();
    redmagic_backwards_branch(control_);
    CHECK(counted() && !misused());
    pretend_detached();
    redmagic_temp_enable();
    redmagic_end_branchable_frame(&frame);
    return 0;
}
