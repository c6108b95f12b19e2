/* plain: a program without the shim. */
#include <stdio.h>

int main(void) {
  puts("plain program");
  return 5;
}
