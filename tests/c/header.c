/* Compiled only, as C11 and as C++17: the header alone, twice, in a strict compiler. */
#include <redmagic.h>
#include <redmagic.h>

int interpret(unsigned long *frame, unsigned char *id, unsigned long tag);

int interpret(unsigned long *frame, unsigned char *id, unsigned long tag) {
    redmagic_start();
    redmagic_begin_branchable_frame(frame);
    redmagic_function_entry(id);
    redmagic_force_begin_trace(id);
    redmagic_force_end_trace(id);
    redmagic_force_jump_to_trace(id);
    redmagic_ensure_not_traced();
    redmagic_temp_disable();
    redmagic_temp_enable();
    redmagic_begin_merge_block();
    redmagic_end_merge_block();
    redmagic_do_not_trace_function(id);
    redmagic_elidable_function(id);
    redmagic_disable_branch(id);
    redmagic_constant_memory(id, 1);
    redmagic_constant_memory_end(id);
    if (redmagic_promote(tag) == 1) {
        redmagic_backwards_branch(id);
    } else {
        redmagic_fellthrough_branch(id);
    }
    redmagic_end_branchable_frame(frame);
    if (redmagic_attached()) {
        return 0;
    }
    return redmagic_is_traced();
}
