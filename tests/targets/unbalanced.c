/*
 * unbalanced ITERATIONS: calls temp_enable without a disable, end_branchable_frame without a
 * begin, fellthrough of other loops, and ends of blocks that never began, all in the hot
 * loop. The results must be right and the daemon must name what is wrong.
 */
#include "vm.h"
#include <stdio.h>

static void unbalance(void *context, uint64_t left) {
  unsigned long *frame = context;
  switch (left % 5000) {
  case 0:
    redmagic_temp_enable();
    break;
  case 1:
    redmagic_end_branchable_frame(frame);
    break;
  case 2:
    redmagic_end_merge_block();
    break;
  case 3:
    redmagic_fellthrough_branch((void *)frame);
    break;
  case 4:
    redmagic_force_end_trace((void *)frame);
    break;
  case 5:
    redmagic_constant_memory_end(frame);
    break;
  }
}

int main(int argc, char **argv) {
  redmagic_start();
  unsigned long frame = 12345;
  uint64_t sum = 0;
  for (uint64_t phase = 0; phase < 4; phase++)
    sum = sum * 31 + vm_run(vm_argument(argc, argv, 1, 1000000) / 4, phase + 1, unbalance, &frame);
  printf("sum %016llx\n", (unsigned long long)sum);
  return 4;
}
