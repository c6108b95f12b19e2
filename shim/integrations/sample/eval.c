/*
 * The interpreter loop, and where the annotations go. Built twice: with computed gotos
 * (indirect threading), and as one switch with -DSAMPLE_SWITCH. Redmagic does not
 * care: it sees only machine code and the calls below.
 */
#include <redmagic.h>

#include "vm.h"

#define likely(x) __builtin_expect(!!(x), 1)

static inline void retain(struct value value) {
    if (value.tag >= TAG_OBJECTS) {
        value.as.object->references++;
    }
}

/*
 * A reference count reaches zero now and then, seldom in the turn that is recorded. A
 * guard on that would send every other case out of the trace for the rest of the turn.
 * In a merge block, the rare path runs natively up to end_merge_block, and the
 * trace goes on behind it. Begin and end are in one function, always both reached.
 */
static inline void release(struct value value) {
    if (value.tag >= TAG_OBJECTS) {
        redmagic_begin_merge_block();
        if (--value.as.object->references == 0) {
            object_free(value.as.object);
        }
        redmagic_end_merge_block();
    }
}

static inline void set(struct value *to, struct value value) {
    struct value old = *to;
    *to = value;
    release(old);
}

static inline void set_int(struct value *to, int64_t i) {
    set(to, (struct value){.tag = TAG_INT, .as.i = i});
}

static inline void set_double(struct value *to, double d) {
    set(to, (struct value){.tag = TAG_DOUBLE, .as.d = d});
}

/* The order of two values: 1 less, 2 equal, 4 greater, 0 unordered. */
static inline int compare(const struct value *x, const struct value *y) {
    if (likely(x->tag == TAG_INT && y->tag == TAG_INT)) {
        return x->as.i < y->as.i ? 1 : x->as.i == y->as.i ? 2 : 4;
    }
    if (x->tag == TAG_DOUBLE && y->tag == TAG_DOUBLE) {
        return x->as.d < y->as.d ? 1 : x->as.d == y->as.d ? 2 : x->as.d > y->as.d ? 4 : 0;
    }
    return 0;
}

#ifdef SAMPLE_SWITCH
#define TARGET(name) case OP_##name
#define NEXT goto next
#else
#define TARGET(name) op_##name
#define NEXT goto *target[pc->op]
#endif

#define A (&reg[pc->a])
#define B (&reg[pc->b])
#define C (&reg[pc->c])

#define ARITHMETIC(name, integer, floating)                                      \
    TARGET(name) : {                                                             \
        struct value x = *B, y = *C;                                             \
        if (likely(x.tag == TAG_INT && y.tag == TAG_INT)) {                      \
            set_int(A, integer);                                                 \
        } else if (x.tag == TAG_DOUBLE && y.tag == TAG_DOUBLE) {                 \
            set_double(A, floating);                                             \
        } else {                                                                 \
            fail_because(vm, #name " of values that do not go together");        \
            goto failed;                                                         \
        }                                                                        \
        pc++;                                                                    \
        NEXT;                                                                    \
    }

/* A conditional jump. Only jumps backwards make loops; forward ones need nothing. */
#define JUMP_IF(condition)                                                      \
    {                                                                           \
        const struct insn *to = pc + pc->imm;                                   \
        if (condition) {                                                        \
            if (to <= pc) {                                                     \
                goto backwards;                                                 \
            }                                                                   \
            pc = to;                                                            \
        } else {                                                                \
            if (to <= pc) {                                                     \
                /* The loop is over. Not needed for correctness; it saves     \
                 * a recording of this very loop from running on into what      \
                 * follows. */                                                  \
                redmagic_fellthrough_branch((void *)to);                        \
            }                                                                   \
            pc++;                                                               \
        }                                                                       \
        NEXT;                                                                   \
    }

bool eval(struct vm *vm, struct function *function, const struct value *args, int count, struct value *result) {
#ifndef SAMPLE_SWITCH
    static const void *const target[] = {
#define OP(name, operands) &&op_##name,
        OPCODES(OP)
#undef OP
    };
#endif
    struct unit *unit = function->unit;
    const struct insn *pc = unit->insn;
    struct value *reg = vm->top;
    /*
     * Storage that lives exactly as long as this activation. Because eval calls itself,
     * the loop "at bytecode X" may be running at several depths of the native stack;
     * with frames marked, a recording that begins in this one closes only in this
     * one, and not when a deeper call happens to pass the same bytecode.
     */
    unsigned long frame;

    if (vm->depth >= DEPTH_LIMIT || vm->top + function->registers > vm->stack + STACK_VALUES) {
        return fail_because(vm, "stack overflow");
    }
    if (count > function->registers) {
        return fail_because(vm, "too many arguments");
    }
    vm->top += function->registers;
    vm->calls[vm->depth++] = function;
    for (int i = 0; i < count; i++) {
        retain(args[i]);
        reg[i] = args[i];
    }
    redmagic_begin_branchable_frame(&frame);
    /*
     * Recursion has no backward jump: fib() is a loop all the same. This makes a
     * function's first bytecode a place where a trace can begin. It stands after
     * begin_branchable_frame, so that the trace belongs to the new frame.
     */
    redmagic_function_entry((void *)pc);

#ifdef SAMPLE_SWITCH
next:
    switch (pc->op) {
#else
    NEXT;
#endif

    TARGET(int) : {
        set_int(A, pc->imm);
        pc++;
        NEXT;
    }
    TARGET(const) : {
        set(A, unit->constant[pc->imm]);
        pc++;
        NEXT;
    }
    TARGET(param) : {
        set_int(A, unit->param);
        pc++;
        NEXT;
    }
    TARGET(arg) : {
        set_int(A, pc->b < vm->args ? vm->arg[pc->b] : pc->imm);
        pc++;
        NEXT;
    }
    TARGET(mov) : {
        retain(*B);
        set(A, *B);
        pc++;
        NEXT;
    }
    ARITHMETIC(add, (int64_t)((uint64_t)x.as.i + (uint64_t)y.as.i), x.as.d + y.as.d)
    ARITHMETIC(sub, (int64_t)((uint64_t)x.as.i - (uint64_t)y.as.i), x.as.d - y.as.d)
    ARITHMETIC(mul, (int64_t)((uint64_t)x.as.i * (uint64_t)y.as.i), x.as.d * y.as.d)
    TARGET(div) : {
        struct value x = *B, y = *C;
        if (x.tag == TAG_DOUBLE && y.tag == TAG_DOUBLE) {
            set_double(A, x.as.d / y.as.d);
        } else if (x.tag == TAG_INT && y.tag == TAG_INT && y.as.i != 0 && y.as.i != -1) {
            set_int(A, x.as.i / y.as.i);
        } else {
            fail_because(vm, "division");
            goto failed;
        }
        pc++;
        NEXT;
    }
    TARGET(mod) : {
        struct value x = *B, y = *C;
        if (x.tag != TAG_INT || y.tag != TAG_INT || y.as.i == 0 || y.as.i == -1) {
            fail_because(vm, "remainder");
            goto failed;
        }
        set_int(A, x.as.i % y.as.i);
        pc++;
        NEXT;
    }
    TARGET(addi) : {
        if (B->tag != TAG_INT) {
            fail_because(vm, "addi of what is no integer");
            goto failed;
        }
        set_int(A, (int64_t)((uint64_t)B->as.i + (uint64_t)(int64_t)pc->imm));
        pc++;
        NEXT;
    }
    TARGET(tod) : {
        if (B->tag != TAG_INT) {
            fail_because(vm, "tod of what is no integer");
            goto failed;
        }
        set_double(A, (double)B->as.i);
        pc++;
        NEXT;
    }
    TARGET(poly) : {
        /*
         * Two types meet here and the code for each is reached through a table. In a
         * trace the type is nearly always the one of the recording: promote says so. The
         * trace checks it once, and the tag, the table's entry and the call's target
         * are constants after that.
         */
        unsigned long tag = redmagic_promote(B->tag);
        struct value sum = *B;
        if (!poly_add[tag](vm, &sum, C)) {
            goto failed;
        }
        set(A, sum);
        pc++;
        NEXT;
    }
    TARGET(jmp) : JUMP_IF(true)
    TARGET(jlt) : JUMP_IF(compare(A, B) == 1)
    TARGET(jle) : JUMP_IF(compare(A, B) & 3)
    TARGET(jeq) : JUMP_IF(compare(A, B) == 2)
    TARGET(jne) : JUMP_IF(compare(A, B) != 2)
    TARGET(array) : {
        if (B->tag != TAG_INT || B->as.i < 0 || B->as.i > 100000000) {
            fail_because(vm, "length of an array");
            goto failed;
        }
        int64_t length = B->as.i;
        set(A, (struct value){.tag = TAG_ARRAY, .as.object = object_new(length)});
        pc++;
        NEXT;
    }
    TARGET(aget) : {
        struct value array = *B, index = *C;
        if (array.tag != TAG_ARRAY || index.tag != TAG_INT || (uint64_t)index.as.i >= (uint64_t)array.as.object->length) {
            fail_because(vm, "index");
            goto failed;
        }
        struct value item = array.as.object->items[index.as.i];
        retain(item);
        set(A, item);
        pc++;
        NEXT;
    }
    TARGET(aset) : {
        struct value array = *A, index = *B;
        if (array.tag != TAG_ARRAY || index.tag != TAG_INT || (uint64_t)index.as.i >= (uint64_t)array.as.object->length) {
            fail_because(vm, "index");
            goto failed;
        }
        retain(*C);
        set(&array.as.object->items[index.as.i], *C);
        pc++;
        NEXT;
    }
    TARGET(box) : {
        struct object *box = object_new(1);
        box->items[0] = *B;
        retain(*B);
        set(A, (struct value){.tag = TAG_BOX, .as.object = box});
        pc++;
        NEXT;
    }
    TARGET(unbox) : {
        if (B->tag != TAG_BOX) {
            fail_because(vm, "unbox of what is no box");
            goto failed;
        }
        struct value item = B->as.object->items[0];
        retain(item);
        set(A, item);
        pc++;
        NEXT;
    }
    TARGET(drop) : {
        set(A, (struct value){.tag = TAG_NONE});
        pc++;
        NEXT;
    }
    TARGET(parity) : {
        /* An if-then-else inside one bytecode, taken both ways in turn: without the
         * merge block every second turn would leave the trace for good. */
        redmagic_begin_merge_block();
        if (B->as.i & 1) {
            A->as.i += 1;
        } else {
            A->as.i += 1000;
            vm->evens += 1;
        }
        redmagic_end_merge_block();
        pc++;
        NEXT;
    }
    TARGET(mix) : {
        int64_t mixed = mix(B->as.i, C->as.i);
        set_int(A, mixed);
        pc++;
        NEXT;
    }
    TARGET(checksum) : {
        int64_t sum = checksum(B->as.i);
        set_int(A, sum);
        pc++;
        NEXT;
    }
    TARGET(print) : {
        /*
         * Formatting and writing is nothing a trace could make faster, and what runs
         * there (stdio's locks, a callback) should not count as part of this loop.
         * Between the two calls the program runs natively; the trace continues after
         * the second. Never leave such a block by return, goto or longjmp.
         */
        redmagic_temp_disable();
        print_value(vm, *A);
        redmagic_temp_enable();
        pc++;
        NEXT;
    }
    TARGET(call) : {
        struct value value;
        if (!eval(vm, &vm->program->function[pc->imm], B, pc->c, &value)) {
            goto failed;
        }
        set(A, value);
        pc++;
        NEXT;
    }
    TARGET(trycall) : {
        struct value value;
        if (!try_call(vm, &vm->program->function[pc->imm], B, pc->c, &value)) {
            value = (struct value){.tag = TAG_INT, .as.i = vm->error};
        }
        set(A, value);
        pc++;
        NEXT;
    }
    TARGET(fail) : {
        fail(vm, A->as.i);
        goto failed;
    }
    TARGET(ret) : {
        retain(*A);
        *result = *A;
        for (struct value *r = reg; r < reg + function->registers; r++) {
            set(r, (struct value){.tag = TAG_NONE});
        }
        vm->top = reg;
        vm->depth--;
        redmagic_end_branchable_frame(&frame);
        return true;
    }
    TARGET(reload) : {
        /* Frees bytecode while traces of it may exist: unit_free says how. */
        struct function *other = &vm->program->function[pc->imm];
        if (is_active(vm, other) || vm->shared || A->tag != TAG_INT) {
            fail_because(vm, "reload of a function that is in use");
            goto failed;
        }
        int64_t param = A->as.i;
        unit_free(other);
        unit_load(vm->program, other, param);
        pc++;
        NEXT;
    }
    TARGET(fbegin) : {
        /*
         * The program (not a counter) says that the stretch up to `fend` is worth a
         * trace. The id is this instruction; it is recorded the first time, however
         * cold, and every later time this call enters it.
         */
        redmagic_force_begin_trace((void *)pc);
        pc++;
        NEXT;
    }
    TARGET(fend) : {
        /* The end of the stretch that began at the label; from here on natively. */
        redmagic_force_end_trace((void *)(pc + pc->imm));
        pc++;
        NEXT;
    }
    TARGET(fjump) : {
        /*
         * A forward jump to a place that has a trace. It is no loop, so
         * backwards_branch would be wrong; this continues in the trace of the target,
         * and does nothing if there is none.
         */
        pc += pc->imm;
        redmagic_force_jump_to_trace((void *)pc);
        NEXT;
    }
    TARGET(untraced) : {
        /* For points that must not be in a trace at all, such as a debugger's hook
         * that reads the machine code around it: a recording gives up here. */
        redmagic_ensure_not_traced();
        pc++;
        NEXT;
    }
    TARGET(nojit) : {
        /* The program knows that this loop is not worth it. */
        redmagic_disable_branch((void *)(pc + pc->imm));
        pc++;
        NEXT;
    }
    TARGET(traced) : {
        /* For statistics only: a program must not behave differently in a trace. */
        vm->traced_count += redmagic_is_traced();
        pc++;
        NEXT;
    }
#ifdef SAMPLE_SWITCH
    default:
        __builtin_unreachable(); /* the assembler makes no other */
    }
#endif

backwards:
    pc += pc->imm;
    /* What an interpreter does in every loop: signals, a lock to hand over, a quota. */
    if (!likely(--vm->until_event > 0 && !timer_pending)) {
        event(vm);
    }
    /*
     * THE annotation: the program continues at `pc` after a jump backwards. It stands after
     * pc was changed and before anything of the new instruction is done, since a trace that
     * begins here begins with the state this call is made in. One call for all jumps is
     * enough: loops are told apart by the id.
     */
    redmagic_backwards_branch((void *)pc);
    NEXT;

failed:
    /* Errors return through every eval: each gives back what it holds. (With --longjmp,
     * fail() never comes back, and try_call gives it back for all of them.) */
    for (struct value *r = reg; r < reg + function->registers; r++) {
        set(r, (struct value){.tag = TAG_NONE});
    }
    vm->top = reg;
    vm->depth--;
    redmagic_end_branchable_frame(&frame);
    return false;
}
