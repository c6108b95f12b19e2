/*
 * The loop of shim/integrations/sample/programs/sum.asm in C: how fast a processor can add
 * up the first billion numbers one at a time. The empty asm keeps the compiler
 * from replacing the loop by n(n+1)/2 and from unrolling the sum into several.
 *
 *   gcc -O2 -fno-tree-vectorize -o sum bench/sample/sum.c && ./sum [n]
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
    int64_t n = argc > 1 ? strtoll(argv[1], NULL, 0) : 1000000000;
    uint64_t sum = 0;
    int64_t i = 0;
    do {
        i++;
        sum += (uint64_t)i;
        __asm__ volatile("" : "+r"(sum));
    } while (i < n);
    printf("%" PRId64 "\n", (int64_t)sum);
    return 0;
}
