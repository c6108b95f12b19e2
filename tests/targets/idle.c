/*
 * idle: has the shim, but never calls redmagic_start. Says "ready" and waits for stdin to end.
 */
#include <redmagic.h>
#include <stdio.h>

int main(int argc, char **argv) {
  if (argc > 100)
    redmagic_start();
  redmagic_backwards_branch(argv);
  puts("ready");
  fflush(stdout);
  while (getchar() != EOF) {
  }
  puts("wrong 0");
  return 0;
}
