/*
 * vm.h - the bytecode loop that the fault targets share.
 *
 * A register machine with one annotated loop whose body branches on the bits of a
 * pseudo-random number, so that many side traces form. The result depends on
 * every iteration; a lost, repeated or wrong one changes it. Each call of vm_run copies
 * its bytecode to a new place: new ids, so recordings go on for as long as the
 * program runs.
 */
#ifndef VM_H
#define VM_H

#include <redmagic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum vm_op { VM_XORSHIFT, VM_ADD, VM_MUL, VM_ADDI, VM_XOR, VM_ROTATE, VM_SKIP_IF, VM_HOOK, VM_LOOP, VM_END };

struct vm_insn {
  unsigned char op, a, b;
  unsigned char skip; /* VM_SKIP_IF: how many instructions */
  unsigned imm;
};

/* What VM_HOOK calls, with the number of iterations left; NULL for nothing. */
typedef void (*vm_hook)(void *context, uint64_t left);

static const struct vm_insn vm_program[] = {
    {VM_XORSHIFT, 1, 0, 0, 0},
    {VM_SKIP_IF, 1, 0, 2, 0},
    {VM_ADD, 2, 1, 0, 0},
    {VM_ROTATE, 2, 0, 0, 7},
    {VM_SKIP_IF, 1, 0, 1, 3},
    {VM_MUL, 2, 3, 0, 0},
    {VM_SKIP_IF, 1, 0, 2, 17},
    {VM_XOR, 3, 1, 0, 0},
    {VM_ADDI, 3, 0, 0, 0x9e3779b9},
    {VM_SKIP_IF, 1, 0, 1, 29},
    {VM_XOR, 2, 3, 0, 0},
    {VM_ADD, 2, 0, 0, 0},
    {VM_HOOK, 0, 0, 0, 0},
    {VM_LOOP, 0, 0, 0, 0},
    {VM_END, 0, 0, 0, 0},
};

/* The bytecode that runs, for a hook that changes it. */
static struct vm_insn *vm_running;

/* Changes the constant of its ADDI, as an interpreter would that frees a code object and makes another in its place. */
static inline void vm_change(unsigned imm) {
  redmagic_constant_memory_end(vm_running);
  for (struct vm_insn *insn = vm_running; insn->op != VM_END; insn++)
    if (insn->op == VM_ADDI)
      insn->imm = imm;
  redmagic_constant_memory(vm_running, sizeof vm_program);
}

/* Runs `iterations` (at least 1) of the loop and returns its checksum. */
static __attribute__((noinline)) uint64_t vm_run(uint64_t iterations, uint64_t seed, vm_hook hook, void *context) {
  struct vm_insn *program = malloc(sizeof vm_program);
  memcpy(program, vm_program, sizeof vm_program);
  redmagic_constant_memory(program, sizeof vm_program);
  vm_running = program;
  uint64_t r[4] = {iterations, seed | 1, 0, 0x2545f4914f6cdd1d};
  const struct vm_insn *pc = program;
  for (;;) {
    const struct vm_insn *insn = pc++;
    switch (insn->op) {
    case VM_XORSHIFT:
      r[insn->a] ^= r[insn->a] << 13;
      r[insn->a] ^= r[insn->a] >> 7;
      r[insn->a] ^= r[insn->a] << 17;
      break;
    case VM_ADD:
      r[insn->a] += r[insn->b];
      break;
    case VM_MUL:
      r[insn->a] *= r[insn->b];
      break;
    case VM_ADDI:
      r[insn->a] += insn->imm;
      break;
    case VM_XOR:
      r[insn->a] ^= r[insn->b];
      break;
    case VM_ROTATE:
      r[insn->a] = r[insn->a] << insn->imm | r[insn->a] >> (64 - insn->imm);
      break;
    case VM_SKIP_IF:
      if (r[insn->a] >> insn->imm & 1)
        pc += insn->skip;
      break;
    case VM_HOOK:
      if (hook != NULL)
        hook(context, r[insn->a]);
      break;
    case VM_LOOP:
      if (--r[insn->a] != 0) {
        pc = program + insn->imm;
        redmagic_backwards_branch((void *)pc);
      } else {
        redmagic_fellthrough_branch((void *)(program + insn->imm));
      }
      break;
    case VM_END:
      redmagic_constant_memory_end(program);
      free(program);
      return r[2] ^ r[3];
    }
  }
}

/* The argument at `i` as a number, or `otherwise`. */
static inline uint64_t vm_argument(int argc, char **argv, int i, uint64_t otherwise) {
  return i < argc ? strtoull(argv[i], NULL, 0) : otherwise;
}

#endif
