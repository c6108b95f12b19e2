/* A child finds no daemon and no lock held, whatever other threads were doing when it was
 * made; it can declare memory itself. */
#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common.h"

enum { CHILDREN = 300, THREADS = 3 };
static atomic_int stop;
static char bytes[THREADS + 1][4096];

static void *churn(void *pointer) {
    char *mine = pointer;
    while (!stop) {
        for (int i = 0; i < 4096; i += 16) {
            redmagic_constant_memory(mine + i, 16);
        }
        for (int i = 0; i < 4096; i += 16) {
            redmagic_constant_memory_end(mine + i);
        }
    }
    return NULL;
}

static void child(void) {
    alarm(10); /* a child that hangs dies of SIGALRM */
    if (redmagic_channel != NULL) {
        _exit(2);
    }
    for (int i = 0; i < 4096; i += 16) {
        redmagic_constant_memory(bytes[THREADS] + i, 16);
        redmagic_backwards_branch(bytes[THREADS] + i);
    }
    redmagic_constant_memory_end(bytes[THREADS]);
    redmagic_start();
    _exit(redmagic_channel == NULL ? 0 : 3);
}

int main(void) {
    redmagic_start();
    pretend_attached();
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        CHECK(pthread_create(&threads[i], NULL, churn, bytes[i]) == 0);
    }
    for (int i = 0; i < CHILDREN; i++) {
        pid_t pid = fork();
        CHECK(pid >= 0);
        if (pid == 0) {
            child();
        }
        int status;
        CHECK(waitpid(pid, &status, 0) == pid);
        if (status != 0) {
            fprintf(stderr, "child %d ended with status %#x\n", i, status);
            return 1;
        }
        CHECK(redmagic_channel != NULL); /* the parent keeps its own */
    }
    stop = 1;
    for (int i = 0; i < THREADS; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
    pretend_detached();
    return 0;
}
