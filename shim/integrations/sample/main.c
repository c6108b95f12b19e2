/* sample [options] program.asm [numbers]: see README.md. */
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#include <redmagic.h>

#include "vm.h"

static const char usage[] =
    "usage: sample [options] program.asm [numbers]\n"
    "  --threads N      run the program in N threads at once; outputs in order\n"
    "  --itimer-us N    a SIGALRM every N microseconds, which every loop polls\n"
    "  --fork-at N      at the Nth backward jump, fork; the child runs on first\n"
    "  --exit-at N      exit(7) there\n"
    "  --crash-at N     die of SIGSEGV there\n"
    "  --longjmp        errors longjmp instead of returning\n"
    "  --unbalance temp_enable|branchable   one end too many, before the program runs\n"
    "  --report         say on stderr what the VM counted\n";

static struct program *program;
static int64_t first_event = INT64_MAX;
static bool longjmps, report;
static int args, threads = 1;
static int64_t arg[8];

struct run {
    pthread_t thread;
    char *text;
    size_t length;
    int status;
};

static int run(FILE *out) {
    struct vm *vm = calloc(1, sizeof *vm);
    if (vm == NULL || (vm->stack = calloc(STACK_VALUES, sizeof(struct value))) == NULL) {
        fprintf(stderr, "sample: out of memory\n");
        exit(2);
    }
    vm->program = program;
    vm->top = vm->stack;
    vm->out = out;
    vm->until_event = first_event;
    vm->longjmps = longjmps;
    vm->shared = threads > 1;
    vm->args = args;
    memcpy(vm->arg, arg, sizeof arg);
    struct function *function = program->function;
    while (strcmp(function->name, "main") != 0) {
        function++;
    }
    struct value result;
    int status = eval(vm, function, NULL, 0, &result) ? 0 : 3;
    if (report) {
        fprintf(stderr, "sample: in traces %lld times, polls of the timer %lld, even numbers %lld\n",
                (long long)vm->traced_count, (long long)vm->polls, (long long)vm->evens);
    }
    free(vm->stack);
    free(vm);
    return status;
}

static void *run_thread(void *pointer) {
    struct run *to = pointer;
    FILE *out = open_memstream(&to->text, &to->length);
    if (out == NULL) {
        perror("sample: open_memstream");
        exit(2);
    }
    to->status = run(out);
    fclose(out);
    return NULL;
}

static void on_timer(int signal) {
    (void)signal;
    timer_pending = 1;
}

int main(int argc, char **argv) {
    /*
     * First of all. Under `redmagic run` this connects to the daemon; otherwise
     * it prepares for `redmagicd attach`.
     */
    redmagic_start();
    natives_declare();
    long itimer = 0;
    int at = 1;
    for (; at < argc && strncmp(argv[at], "--", 2) == 0; at++) {
        const char *option = argv[at] + 2;
        if (strcmp(option, "longjmp") == 0) {
            longjmps = true;
            continue;
        }
        if (strcmp(option, "report") == 0) {
            report = true;
            continue;
        }
        const char *value = at + 1 < argc ? argv[++at] : "";
        long long number = atoll(value);
        if (strcmp(option, "unbalance") == 0 && strcmp(value, "temp_enable") == 0) {
            /* An end without its begin: noted (see `redmagic status`), otherwise nothing. */
            redmagic_temp_enable();
        } else if (strcmp(option, "unbalance") == 0 && strcmp(value, "branchable") == 0) {
            unsigned long frame = 0;
            redmagic_end_branchable_frame(&frame);
        } else if (number <= 0) {
            fputs(usage, stderr);
            return 2;
        } else if (strcmp(option, "threads") == 0 && number <= 64) {
            threads = (int)number;
        } else if (strcmp(option, "itimer-us") == 0) {
            itimer = (long)number;
        } else if (strcmp(option, "fork-at") == 0) {
            first_event = settings.fork_at = number;
        } else if (strcmp(option, "exit-at") == 0) {
            first_event = settings.exit_at = number;
        } else if (strcmp(option, "crash-at") == 0) {
            first_event = settings.crash_at = number;
        } else {
            fputs(usage, stderr);
            return 2;
        }
    }
    if (at == argc || argc - at - 1 > 8) {
        fputs(usage, stderr);
        return 2;
    }
    program = program_load(argv[at]);
    for (at++; at < argc; at++) {
        arg[args++] = strtoll(argv[at], NULL, 0);
    }
    if (itimer > 0) {
        struct sigaction action = {.sa_handler = on_timer, .sa_flags = SA_RESTART};
        sigaction(SIGALRM, &action, NULL);
        struct itimerval every = {{itimer / 1000000, itimer % 1000000}, {itimer / 1000000, itimer % 1000000}};
        setitimer(ITIMER_REAL, &every, NULL);
    }
    int status = 0;
    if (threads == 1) {
        status = run(stdout);
    } else {
        struct run runs[64] = {0};
        for (int i = 0; i < threads; i++) {
            if (pthread_create(&runs[i].thread, NULL, run_thread, &runs[i]) != 0) {
                fprintf(stderr, "sample: cannot start a thread\n");
                return 2;
            }
        }
        for (int i = 0; i < threads; i++) {
            pthread_join(runs[i].thread, NULL);
            fwrite(runs[i].text, 1, runs[i].length, stdout);
            free(runs[i].text);
            status = runs[i].status ? runs[i].status : status;
        }
    }
    program_free(program);
    return status;
}
