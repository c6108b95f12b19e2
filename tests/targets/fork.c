/*
 * fork ITERATIONS [libc|raw|vfork [kept]]: forks inside the hot loop, some iterations after it
 * has become hot. Child and parent finish the loop; both print (the child to a pipe,
 * so that the order is fixed). `raw` forks by system call, past the C library's
 * handlers; `vfork` runs /bin/echo. `kept`: in a
 * call that is never traced, so that both find themselves in a trace of the parent's; a
 * little later the child changes its bytecode.
 */
#include "vm.h"
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

struct state {
  const char *how;
  uint64_t at;
  int pipe[2];
  pid_t child;
  int kept;
};

static void fork_at(void *context, uint64_t left) {
  struct state *state = context;
  if (state->kept && state->child == 0 && left % 1000 == 0)
    vm_change(0x85ebca6b + (unsigned)left);
  if (left != state->at)
    return;
  if (strcmp(state->how, "vfork") == 0) {
    state->child = vfork();
    if (state->child == 0) {
      execl("/bin/echo", "echo", "from the child", (char *)NULL);
      _exit(9);
    }
    return;
  }
  state->child = strcmp(state->how, "raw") == 0 ? (pid_t)syscall(SYS_fork) : fork();
}

int main(int argc, char **argv) {
  redmagic_start();
  uint64_t iterations = vm_argument(argc, argv, 1, 1000000);
  struct state state = {argc > 2 ? argv[2] : "libc", iterations / 2, {-1, -1}, -1, argc > 3};
  if (state.kept)
    redmagic_do_not_trace_function((void *)fork_at);
  if (pipe(state.pipe) != 0)
    return 1;
  int vforks = strcmp(state.how, "vfork") == 0;
  uint64_t sum = vm_run(iterations, 5, fork_at, &state);
  /* Both go on in new traces. */
  sum = sum * 31 + vm_run(iterations / 4 + 1, 6, NULL, NULL);
  char text[64];
  int length = snprintf(text, sizeof text, "sum %016llx\n", (unsigned long long)sum);
  if (state.child == 0 && !vforks) {
    if (write(state.pipe[1], text, (size_t)length) != length)
      _exit(2);
    _exit(0);
  }
  close(state.pipe[1]);
  int status = -1;
  waitpid(state.child, &status, 0);
  char from_child[64] = "";
  ssize_t got = read(state.pipe[0], from_child, sizeof from_child - 1);
  printf("parent %schild %s%sstatus %d\n", text, got > 0 ? from_child : "", got > 0 ? "" : "(nothing)\n", status);
  return 0;
}
