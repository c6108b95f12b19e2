/*
 * What bytecode calls in C. Calls inside the interpreter's own program are traced into,
 * unless it is told otherwise, here.
 */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <redmagic.h>

#include "vm.h"

void natives_declare(void) {
    /*
     * mix() depends on its arguments only and changes nothing: with the same arguments a
     * second call can be left out. (A function that reads memory which may change, or
     * that can fail with a longjmp, is not elidable.)
     */
    redmagic_elidable_function((void *)mix);
    /*
     * checksum() is a loop that compiled code runs faster than any trace of it. Keep
     * the call. The recorder would find out by itself, after unrolling it a few times.
     */
    redmagic_do_not_trace_function((void *)checksum);
}

/* From the finaliser of MurmurHash3 (Austin Appleby, public domain). */
int64_t mix(int64_t a, int64_t b) {
    uint64_t h = (uint64_t)a ^ ((uint64_t)b * 0x9e3779b97f4a7c15u);
    h = (h ^ (h >> 33)) * 0xff51afd7ed558ccdu;
    h = (h ^ (h >> 33)) * 0xc4ceb9fe1a85ec53u;
    return (int64_t)((h ^ (h >> 33)) >> 16);
}

int64_t checksum(int64_t a) {
    uint64_t sum = 0;
    for (uint64_t bits = (uint64_t)a, i = 0; i < 64; i++) {
        sum = sum * 31 + ((bits >> i) & 1) + i;
    }
    return (int64_t)(sum & 0xffffff);
}

struct object *object_new(int64_t length) {
    struct object *object = malloc(sizeof *object + (size_t)length * sizeof object->items[0]);
    if (object == NULL) {
        fprintf(stderr, "sample: out of memory\n");
        exit(2);
    }
    object->references = 1;
    object->length = length;
    for (int64_t i = 0; i < length; i++) {
        object->items[i] = (struct value){.tag = TAG_INT, .as.i = 0};
    }
    return object;
}

/* Recursive, for what the object held. */
void object_free(struct object *object) {
    for (int64_t i = 0; i < object->length; i++) {
        struct value item = object->items[i];
        if (item.tag >= TAG_OBJECTS && --item.as.object->references == 0) {
            object_free(item.as.object);
        }
    }
    free(object);
}

void print_value(struct vm *vm, struct value value) {
    switch (value.tag) {
    case TAG_INT: fprintf(vm->out, "%" PRId64 "\n", value.as.i); break;
    case TAG_DOUBLE: fprintf(vm->out, "%.17g\n", value.as.d); break;
    case TAG_BOX: fprintf(vm->out, "box with %" PRId64 " references\n", value.as.object->references); break;
    case TAG_ARRAY: fprintf(vm->out, "array of %" PRId64 "\n", value.as.object->length); break;
    default: fprintf(vm->out, "nothing\n");
    }
}

static bool poly_int(struct vm *vm, struct value *x, const struct value *y) {
    if (y->tag != TAG_INT) {
        return fail_because(vm, "poly of an integer and something else");
    }
    x->as.i = (int64_t)((uint64_t)x->as.i + (uint64_t)y->as.i);
    return true;
}

static bool poly_double(struct vm *vm, struct value *x, const struct value *y) {
    (void)vm;
    x->as.d += y->tag == TAG_DOUBLE ? y->as.d : (double)y->as.i;
    return true;
}

static bool poly_other(struct vm *vm, struct value *x, const struct value *y) {
    (void)x, (void)y;
    return fail_because(vm, "poly of what is no number");
}

poly_function *const poly_add[] = {
    [TAG_NONE] = poly_other, [TAG_INT] = poly_int,     [TAG_DOUBLE] = poly_double,
    [TAG_BOX] = poly_other,  [TAG_ARRAY] = poly_other,
};

/* Raises an error: false goes up through every eval, or a longjmp skips them. */
bool fail(struct vm *vm, int64_t code) {
    vm->error = code;
    if (vm->longjmps && vm->handler != NULL) {
        longjmp(*vm->handler, 1);
    }
    return false;
}

bool fail_because(struct vm *vm, const char *reason) {
    if (vm->handler == NULL) {
        fprintf(stderr, "sample: error: %s\n", reason);
    }
    return fail(vm, -1);
}

bool try_call(struct vm *vm, struct function *function, const struct value *args, int count, struct value *result) {
    jmp_buf here, *outer = vm->handler;
    struct value *top = vm->top;
    int depth = vm->depth;
    /*
     * A longjmp skips the end_branchable_frame of every eval it leaves. This frame is
     * ended here in their place: the thread's current frame is again the one that it
     * was at the begin, however many were left.
     */
    unsigned long frame;
    bool done;
    redmagic_begin_branchable_frame(&frame);
    vm->handler = &here;
    if (_setjmp(here) == 0) {
        done = eval(vm, function, args, count, result);
    } else {
        for (struct value *r = top; r < vm->stack + STACK_VALUES && r < vm->top; r++) {
            struct value old = *r;
            *r = (struct value){.tag = TAG_NONE};
            if (old.tag >= TAG_OBJECTS && --old.as.object->references == 0) {
                object_free(old.as.object);
            }
        }
        vm->top = top;
        vm->depth = depth;
        done = false;
    }
    vm->handler = outer;
    redmagic_end_branchable_frame(&frame);
    return done;
}

bool is_active(const struct vm *vm, const struct function *function) {
    for (int i = 0; i < vm->depth; i++) {
        if (vm->calls[i] == function) {
            return true;
        }
    }
    return false;
}

struct settings settings;
volatile int timer_pending;

/* The slow path of the poll in every backward jump. */
void event(struct vm *vm) {
    if (timer_pending) {
        timer_pending = 0;
        vm->polls++;
    }
    if (vm->until_event > 0) {
        return;
    }
    vm->until_event = INT64_MAX;
    if (settings.exit_at) {
        fflush(vm->out);
        exit(7);
    }
    if (settings.crash_at) {
        fflush(vm->out);
        static volatile int *volatile nowhere;
        *nowhere = 0;
    }
    if (settings.fork_at) {
        /* The child goes on with the program; the parent waits for it, then does so too. */
        fflush(vm->out);
        pid_t child = fork();
        if (child > 0) {
            int status = 0;
            if (waitpid(child, &status, 0) != child) {
                perror("sample: waitpid");
                exit(2);
            }
            fprintf(vm->out, "child ended with status %d\n", status);
        } else if (child < 0) {
            perror("sample: fork");
            exit(2);
        }
    }
}
