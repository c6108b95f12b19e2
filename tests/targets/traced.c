/*
 * traced PID: another tracer. Attaches to PID with ptrace, lets it run, says "tracing", and lets go
 * when stdin ends.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <unistd.h>

int main(int argc, char **argv) {
  if (argc < 2 || ptrace(PTRACE_SEIZE, atoi(argv[1]), NULL, NULL) != 0) {
    perror("traced");
    return 1;
  }
  puts("tracing");
  fflush(stdout);
  char byte;
  while (read(0, &byte, 1) > 0) {
  }
  return 0;
}
