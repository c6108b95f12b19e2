// The scope guards: end what they began on every way out, and cannot be copied.
#include <type_traits>

#include "common.h"

static_assert(!std::is_copy_constructible_v<redmagic_disable> && !std::is_copy_assignable_v<redmagic_disable>);
static_assert(!std::is_copy_constructible_v<redmagic_merge> && !std::is_copy_assignable_v<redmagic_merge>);
static_assert(std::is_nothrow_default_constructible_v<redmagic_disable>);
static_assert(std::is_nothrow_default_constructible_v<redmagic_merge>);

static void leave(int how) {
    redmagic_disable outer;
    redmagic_merge merge;
    redmagic_disable inner;
    redmagic_backwards_branch(control_);
    CHECK(!counted());
    if (how == 1) {
        throw 1;
    }
    if (how == 2) {
        return;
    }
}

int main() {
    redmagic_start();
    pretend_attached();
    for (int how = 0; how < 3; how++) {
        try {
            leave(how);
        } catch (int) {
            CHECK(how == 1);
        }
        redmagic_backwards_branch(control_);
        CHECK(counted());
    }
    CHECK(!misused());
    pretend_detached();
    return 0;
}
