/* 10,000 ranges declared, ended and declared again from several threads: quick, without a
 * leak, and every end raises the generation that traces compare. */
#include <pthread.h>
#include <stdint.h>
#include <time.h>

#include "common.h"

enum { RANGES = 10000, THREADS = 4, TURNS = 20 };
static char bytes[RANGES * 16];

static long resident_kb(void) {
    FILE *status = fopen("/proc/self/status", "r");
    char line[256];
    long kb = -1;
    CHECK(status != NULL);
    while (fgets(line, sizeof line, status) != NULL) {
        if (sscanf(line, "VmRSS: %ld", &kb) == 1) {
            break;
        }
    }
    fclose(status);
    return kb;
}

/* Each thread has a quarter of the ranges to itself. */
static void *work(void *pointer) {
    int first = (int)(intptr_t)pointer;
    for (int turn = 0; turn < TURNS; turn++) {
        for (int i = first; i < RANGES; i += THREADS) {
            redmagic_constant_memory(bytes + i * 16, 16);
        }
        for (int i = first; i < RANGES; i += THREADS) {
            redmagic_constant_memory(bytes + i * 16, 8); /* again: replaces the length */
        }
        for (int i = first; i < RANGES; i += THREADS) {
            redmagic_constant_memory_end(bytes + i * 16);
        }
    }
    return NULL;
}

static void in_threads(void) {
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        CHECK(pthread_create(&threads[i], NULL, work, (void *)(intptr_t)i) == 0);
    }
    for (int i = 0; i < THREADS; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
}

static uint64_t generation(void) {
    uint64_t value;
    memcpy(&value, control_ + GENERATION, sizeof value);
    return value;
}

int main(void) {
    redmagic_start();
    in_threads();
    long kb = resident_kb();
    struct timespec start, end;
    clock_gettime(CLOCK_MONOTONIC, &start);
    in_threads();
    clock_gettime(CLOCK_MONOTONIC, &end);
    CHECK(end.tv_sec - start.tv_sec < 30);
    CHECK(resident_kb() - kb < 4096);
    pretend_attached();
    uint64_t before = generation();
    in_threads();
    CHECK(generation() - before == (uint64_t)RANGES * TURNS);
    CHECK(!misused()); /* no declaration was lost */
    pretend_detached();
    return 0;
}
