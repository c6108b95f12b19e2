/*
 * A small bytecode VM whose only purpose is to show how an interpreter is annotated
 * with redmagic.h. The annotations are in eval.c (the loop), unit.c (bytecode that is
 * loaded and freed), natives.c (C functions that bytecode calls) and main.c (start).
 *
 * Registers hold tagged values: 64-bit integers, doubles, and two kinds of object with
 * a reference count. Every function has its own block of bytecode, and calls of the
 * interpreted program are calls of eval() by itself.
 */
#ifndef SAMPLE_VM_H
#define SAMPLE_VM_H

#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/*
 * Every instruction: its name, and its operands as they stand in the text.
 * r register (fields a, b, c in order)   i 32-bit number   k 64-bit number or double
 * l label   f function   n small count (field c)
 */
#define OPCODES(OP)                                                                   \
    OP(int, "ri")      /* a = number */                                               \
    OP(const, "rk")    /* a = constant of the unit */                                 \
    OP(param, "r")     /* a = the value this unit was loaded with */                  \
    OP(arg, "rii")     /* a = number b of the command line, or the default */         \
    OP(mov, "rr")                                                                     \
    OP(add, "rrr")                                                                    \
    OP(sub, "rrr")                                                                    \
    OP(mul, "rrr")                                                                    \
    OP(div, "rrr")                                                                    \
    OP(mod, "rrr")                                                                    \
    OP(addi, "rri")                                                                   \
    OP(tod, "rr")      /* a = double(b) */                                            \
    OP(poly, "rrr")    /* a = b + c, dispatched on the promoted type of b */          \
    OP(jmp, "l")                                                                      \
    OP(jlt, "rrl")                                                                    \
    OP(jle, "rrl")                                                                    \
    OP(jeq, "rrl")                                                                    \
    OP(jne, "rrl")                                                                    \
    OP(array, "rr")    /* a = array of b zeros */                                     \
    OP(aget, "rrr")    /* a = b[c] */                                                 \
    OP(aset, "rrr")    /* a[b] = c */                                                 \
    OP(box, "rr")      /* a = new box holding integer b */                            \
    OP(unbox, "rr")                                                                   \
    OP(drop, "r")      /* a = nothing; frees what nobody else holds */                \
    OP(parity, "rr")   /* a += 1 if b is odd, else a += 1000: in a merge block */     \
    OP(mix, "rrr")     /* a = mix(b, c): an elidable native */                        \
    OP(checksum, "rr") /* a = checksum(b): a native that is never traced into */      \
    OP(print, "r")                                                                    \
    OP(call, "rfrn")   /* a = function(n registers from the second) */                \
    OP(trycall, "rfrn") /* the same; an error in it gives a = its code */             \
    OP(fail, "r")      /* error with code a */                                        \
    OP(ret, "r")                                                                      \
    OP(reload, "fr")   /* frees the function's unit, loads it again with b */         \
    OP(fbegin, "")     /* begin a forced trace, known by this instruction */          \
    OP(fend, "l")      /* end the forced trace begun at the label */                  \
    OP(fjump, "l")     /* continue in the trace of the label, if there is one */      \
    OP(untraced, "")   /* never part of a trace */                                    \
    OP(nojit, "l")     /* no trace starts at the label */                             \
    OP(traced, "")     /* counts how often it ran in a trace (--report) */

enum opcode {
#define OP(name, operands) OP_##name,
    OPCODES(OP)
#undef OP
    OPCODE_COUNT
};

struct insn {
    uint8_t op, a, b, c;
    int32_t imm; /* number, index of a constant or function, or distance of a jump */
};

enum tag { TAG_NONE, TAG_INT, TAG_DOUBLE, TAG_OBJECTS, TAG_BOX = TAG_OBJECTS, TAG_ARRAY };

struct object;

struct value {
    unsigned long tag;
    union {
        int64_t i;
        double d;
        struct object *object;
    } as;
};

struct object {
    int64_t references;
    int64_t length;        /* of items; a box has one */
    struct value items[];
};

/* The bytecode of one function: one block of memory, which is constant while it lives. */
struct unit {
    int64_t param;
    int32_t insns, constants;
    struct value *constant;
    struct insn insn[];
};

struct function {
    char name[32];
    int registers;
    const char *text;      /* its source, up to the line "end" */
    int line;
    struct unit *unit;
};

struct program {
    char *text;
    int functions;
    struct function function[32];
};

#define STACK_VALUES (1 << 18)
#define DEPTH_LIMIT 12000

struct vm {
    struct program *program;
    struct value *stack;   /* every value from `top` on is TAG_NONE */
    struct value *top;
    int depth;
    FILE *out;
    int64_t until_event;   /* backward jumps until `event` is called */
    int64_t error;         /* code of the error being raised */
    bool longjmps;         /* errors longjmp instead of returning through eval */
    bool shared;           /* other threads run the same program */
    jmp_buf *handler;
    int64_t traced_count, polls, evens;
    int args;
    int64_t arg[8];
    struct function *calls[DEPTH_LIMIT]; /* the activations under way, outermost first */
};

/* What `main` was told to do at a certain backward jump. */
extern struct settings {
    int64_t exit_at, crash_at, fork_at;
} settings;
extern volatile int timer_pending; /* set by the SIGALRM handler, polled by every loop */

/* eval.c */
bool eval(struct vm *vm, struct function *function, const struct value *args, int count, struct value *result);

/* unit.c */
struct program *program_load(const char *path);
void program_free(struct program *program);
void unit_load(struct program *program, struct function *function, int64_t param);
void unit_free(struct function *function);

/* natives.c: all noinline, as functions of another file are */
void natives_declare(void);
struct object *object_new(int64_t length);
void object_free(struct object *object);
int64_t mix(int64_t a, int64_t b);
int64_t checksum(int64_t a);
void print_value(struct vm *vm, struct value value);
bool try_call(struct vm *vm, struct function *function, const struct value *args, int count, struct value *result);
bool fail(struct vm *vm, int64_t code);
bool fail_because(struct vm *vm, const char *reason);
void event(struct vm *vm);
bool is_active(const struct vm *vm, const struct function *function);
typedef bool poly_function(struct vm *, struct value *, const struct value *);
extern poly_function *const poly_add[];

#endif
