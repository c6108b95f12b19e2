/* Every function can be called with no daemon, leaves errno alone and allocates nothing;
 * as a macro and as a function, before and after redmagic_start. Also without any
 * library, with REDMAGIC_DISABLED. */
#include "common.h"

static long allocations;

/* Takes the place of libc's for the program and every library. */
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *old, size_t size);
void *malloc(size_t size) { return allocations++, __libc_malloc(size); }
void *calloc(size_t count, size_t size) { return allocations++, __libc_calloc(count, size); }
void *realloc(void *old, size_t size) { return allocations++, __libc_realloc(old, size); }

static int native(void) { return 1; }

static void all(void) {
    static char bytes[64];
    unsigned long outer, inner;
    redmagic_backwards_branch(bytes);
    redmagic_fellthrough_branch(bytes);
    redmagic_function_entry(bytes);
    redmagic_begin_branchable_frame(&outer);
    redmagic_begin_branchable_frame(&inner);
    redmagic_end_branchable_frame(&inner);
    redmagic_end_branchable_frame(&outer);
    redmagic_force_begin_trace(bytes);
    redmagic_force_end_trace(bytes);
    redmagic_force_jump_to_trace(bytes);
    redmagic_ensure_not_traced();
    redmagic_temp_disable();
    redmagic_temp_enable();
    redmagic_do_not_trace_function((void *)(size_t)native);
    redmagic_disable_branch(bytes);
    CHECK(redmagic_is_traced() == 0);
    redmagic_begin_merge_block();
    redmagic_end_merge_block();
    CHECK(redmagic_promote(0) == 0);
    CHECK(redmagic_promote(~0ul) == ~0ul);
    CHECK(redmagic_promote(0x123456789abcdef0ul) == 0x123456789abcdef0ul);
    redmagic_constant_memory(bytes, sizeof bytes);
    redmagic_constant_memory_end(bytes);
    redmagic_constant_memory_end(bytes);
    redmagic_elidable_function((void *)(size_t)native);
}

int main(void) {
    free(malloc(1));
    CHECK(allocations > 0); /* the count works */
    allocations = 0;
    errno = 12345;
    all();
    CHECK(errno == 12345);
    redmagic_start();
    CHECK(errno == 12345);
    redmagic_start();
    for (int i = 0; i < 1000; i++) {
        all();
    }
    CHECK(errno == 12345);
    CHECK(allocations == 0);
    CHECK(!redmagic_attached());
#ifndef REDMAGIC_DISABLED
    /* Functions have addresses, macros or not. */
    void (*branch)(void *) = redmagic_backwards_branch;
    void (*merge)(void) = redmagic_begin_merge_block;
    branch(NULL);
    merge();
    CHECK(errno == 12345 && allocations == 0);
    CHECK(redmagic_channel == NULL);
#endif
    return native() - 1;
}
