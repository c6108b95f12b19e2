/*
 * started [ARGUMENT...]: says what it finds when it starts, one thing a line, so that it can be compared with how
 * others have started it. With SPIN as its first argument it then runs for some 100 ms; with FORK it says whether a child that it
 * makes at once is attached to.
 */
#include "vm.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static void status(void) {
  static const char *const wanted[] = {"SigBlk:", "SigIgn:", "SigCgt:", "Threads:", "Cpus_allowed:", "TracerPid:"};
  char line[512];
  FILE *file = fopen("/proc/self/status", "r");
  while (file != NULL && fgets(line, sizeof line, file) != NULL)
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
      if (strncmp(line, wanted[i], strlen(wanted[i])) == 0)
        fputs(line, stdout);
  if (file != NULL)
    fclose(file);
}

int main(int argc, char **argv) {
  char path[64], link[256];
  for (int fd = 0; fd < 64; fd++) {
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(path, link, sizeof link - 1);
    if (length >= 0) {
      link[length] = 0;
      /* Pipes differ by their numbers. */
      dprintf(1, "fd %d %.*s\n", fd, (int)strcspn(link, ":"), link);
    }
  }
  redmagic_start();
  for (int i = 0; i < argc; i++)
    printf("argument %s\n", argv[i]);
  for (char **variable = environ; *variable != NULL; variable++)
    printf("variable %s\n", *variable);
  printf("parent %d group %d session %d\n", getppid(), getpgrp(), getsid(0));
  int child = waitpid(-1, NULL, WNOHANG);
  printf("child %d %s\n", child, child < 0 ? strerror(errno) : "");
  status();
  if (readlink("/proc/self/exe", link, sizeof link - 1) > 0)
    printf("program %.40s\n", link);
  fflush(stdout);
  if (argc > 1 && strcmp(argv[1], "SPIN") == 0)
    printf("result %lu\n", (unsigned long)vm_run(vm_argument(argc, argv, 2, 3000000), 1, NULL, NULL));
  if (argc > 1 && strcmp(argv[1], "FORK") == 0) {
    if (fork() == 0) {
      printf("attached %d\n", redmagic_attached() ? 1 : 0);
      fflush(stdout);
      _exit(0);
    }
    while (wait(NULL) < 0 && errno == EINTR)
      ;
  }
  return 7;
}
