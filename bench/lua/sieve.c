/*
 * sieve.lua in C, over memory as Lua's tables have it: 16 bytes an element, the last half of them a tag that is looked at before each
 * store, an array that is doubled when it is full, and counted each time, as Lua does to find its size. What a compiler of
 * traces could reach at best: most of the time is waiting for memory.
 *
 *   gcc -O2 -o sieve bench/lua/sieve.c && time ./sieve [rounds]
 */
#include <stdio.h>
#include <stdlib.h>

enum { EMPTY = 0, FALSE = 1, TRUE = 17, NIL_TAG = 15 };

struct element {
    long value;
    unsigned char tag;
};

static long elements(const volatile struct element *array, long size) {
    long count = 0;
    for (long i = 0; i < size; i++)
        count += (array[i].tag & NIL_TAG) != EMPTY;
    return count;
}

int main(int argc, char **argv) {
    long rounds = argc > 1 ? atol(argv[1]) : 85, limit = 700000, count = 0;
    for (long round = 0; round < rounds; round++) {
        volatile struct element *flags = NULL;
        long size = 0;
        for (long i = 1; i <= limit; i++) {
            if (i > size) {
                long next = elements(flags, size) == size && size > 0 ? 2 * size : 4;
                flags = realloc((void *)flags, next * sizeof *flags);
                if (flags == NULL)
                    return 1;
                for (; size < next; size++)
                    flags[size].tag = EMPTY;
            }
            if (flags[i - 1].tag == EMPTY)
                flags[i - 1].tag = TRUE;
        }
        count = 0;
        for (long i = 2; i <= limit; i++)
            if (flags[i - 1].tag != FALSE) {
                count++;
                for (long k = i * i; k <= limit; k += i)
                    if ((flags[k - 1].tag & NIL_TAG) != EMPTY)
                        flags[k - 1].tag = FALSE;
            }
        free((void *)flags);
    }
    printf("%ld\n", count);
    return 0;
}
