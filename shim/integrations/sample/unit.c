/*
 * Programs: read from text, assembled into units of bytecode, freed.
 *
 *   func NAME REGISTERS      a line "label:" names a place; ";" begins a comment
 *       OPERATION OPERANDS   operands with commas; registers are r0, r1, ...
 *   end
 */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <redmagic.h>

#include "vm.h"

static const struct {
    const char *name, *operands;
} opcodes[] = {
#define OP(name, operands) {#name, operands},
    OPCODES(OP)
#undef OP
};

static _Noreturn void bad(int line, const char *what, const char *about) {
    fprintf(stderr, "sample: line %d: %s '%s'\n", line, what, about);
    exit(2);
}

#define MAX_LABELS 64
#define MAX_INSNS 512
#define MAX_CONSTANTS 64

struct label {
    char name[32];
    int at;
};

/* Copies the line at *text without its comment and blanks at both ends; false at the end. */
static bool next_line(const char **text, char *line, size_t size) {
    const char *from = *text;
    if (*from == '\0') {
        return false;
    }
    size_t length = strcspn(from, "\n");
    *text = from + length + (from[length] == '\n');
    length = strcspn(from, ";\n") < length ? strcspn(from, ";\n") : length;
    while (length > 0 && isspace((unsigned char)*from)) {
        from++, length--;
    }
    while (length > 0 && isspace((unsigned char)from[length - 1])) {
        length--;
    }
    if (length >= size) {
        length = size - 1;
    }
    memcpy(line, from, length);
    line[length] = '\0';
    return true;
}

static int find_function(const struct program *program, const char *name) {
    for (int i = 0; i < program->functions; i++) {
        if (strcmp(program->function[i].name, name) == 0) {
            return i;
        }
    }
    return -1;
}

void unit_load(struct program *program, struct function *function, int64_t param) {
    struct insn insn[MAX_INSNS];
    struct value constant[MAX_CONSTANTS];
    struct label labels[MAX_LABELS], uses[MAX_LABELS];
    int insns = 0, constants = 0, label_count = 0, use_count = 0, number = function->line;
    const char *text = function->text;
    char line[256];
    for (; next_line(&text, line, sizeof line) && strcmp(line, "end") != 0; number++) {
        size_t length = strlen(line);
        if (length == 0) {
            continue;
        }
        if (line[length - 1] == ':') {
            if (label_count == MAX_LABELS || length > 31) {
                bad(number, "too many or too long labels", line);
            }
            line[length - 1] = '\0';
            strcpy(labels[label_count].name, line);
            labels[label_count++].at = insns;
            continue;
        }
        char *save, *word = strtok_r(line, " \t", &save);
        int op = 0;
        while (op < OPCODE_COUNT && strcmp(opcodes[op].name, word) != 0) {
            op++;
        }
        if (op == OPCODE_COUNT || insns == MAX_INSNS) {
            bad(number, "unknown operation (or too many):", word);
        }
        struct insn *to = &insn[insns++];
        *to = (struct insn){.op = (uint8_t)op};
        uint8_t *field[] = {&to->a, &to->b, &to->c};
        int fields = 0;
        for (const char *kind = opcodes[op].operands; *kind; kind++) {
            char *operand = strtok_r(NULL, ", \t", &save), *rest = NULL;
            if (operand == NULL) {
                bad(number, "operands are missing of", opcodes[op].name);
            }
            errno = 0;
            switch (*kind) {
            case 'r': {
                long r = operand[0] == 'r' ? strtol(operand + 1, &rest, 10) : -1;
                if (r < 0 || r >= function->registers || *rest) {
                    bad(number, "no register:", operand);
                }
                *field[fields++] = (uint8_t)r;
                break;
            }
            case 'n':
            case 'i': {
                long long i = strtoll(operand, &rest, 0);
                bool small = *kind == 'n' || (*kind == 'i' && kind[1] == 'i'); /* the next is another number */
                if (errno || *rest || i != (int32_t)i || (small && (i < 0 || i > 7))) {
                    bad(number, "no number that fits:", operand);
                }
                if (small) {
                    *field[*kind == 'n' ? 2 : fields++] = (uint8_t)i;
                } else {
                    to->imm = (int32_t)i;
                }
                break;
            }
            case 'k': {
                struct value value = {.tag = TAG_INT};
                value.as.i = strtoll(operand, &rest, 0);
                if (*rest) {
                    value.tag = TAG_DOUBLE;
                    value.as.d = strtod(operand, &rest);
                }
                if (errno || *rest || constants == MAX_CONSTANTS) {
                    bad(number, "no constant:", operand);
                }
                to->imm = constants;
                constant[constants++] = value;
                break;
            }
            case 'f':
                to->imm = find_function(program, operand);
                if (to->imm < 0) {
                    bad(number, "no function:", operand);
                }
                break;
            default: /* l */
                if (use_count == MAX_LABELS || strlen(operand) > 31) {
                    bad(number, "too many jumps", operand);
                }
                strcpy(uses[use_count].name, operand);
                uses[use_count++].at = insns - 1;
            }
        }
        if (strtok_r(NULL, ", \t", &save) != NULL) {
            bad(number, "too many operands of", opcodes[op].name);
        }
    }
    for (int use = 0; use < use_count; use++) {
        int label = 0;
        while (label < label_count && strcmp(labels[label].name, uses[use].name) != 0) {
            label++;
        }
        if (label == label_count || labels[label].at == insns) {
            bad(function->line, "no such label in the function, or nothing behind it:", uses[use].name);
        }
        insn[uses[use].at].imm = labels[label].at - uses[use].at;
    }
    if (insns == 0 || (insn[insns - 1].op != OP_ret && insn[insns - 1].op != OP_jmp)) {
        bad(number, "a function must end with ret or jmp:", function->name);
    }
    size_t bytes = sizeof(struct unit) + (size_t)insns * sizeof insn[0] + (size_t)constants * sizeof constant[0];
    struct unit *unit = malloc(bytes);
    if (unit == NULL) {
        fprintf(stderr, "sample: out of memory\n");
        exit(2);
    }
    *unit = (struct unit){.param = param, .insns = insns, .constants = constants};
    memcpy(unit->insn, insn, (size_t)insns * sizeof insn[0]);
    unit->constant = (struct value *)(unit->insn + insns);
    memcpy(unit->constant, constant, (size_t)constants * sizeof constant[0]);
    function->unit = unit;
    /*
     * From here to unit_free nobody changes these bytes. That is what makes dispatch
     * vanish from a trace: what is loaded through pc is known when it is compiled.
     * Declare it after the last write, and keep what does change (counters, inline
     * caches, `function` itself) out of the block.
     */
    redmagic_constant_memory(unit, bytes);
}

void unit_free(struct function *function) {
    /*
     * Before the first byte changes: malloc may hand the same address to the next unit,
     * with other bytecode at the same ids. When this returns, no trace that was
     * made from the old bytes is entered again, in any thread.
     */
    redmagic_constant_memory_end(function->unit);
    free(function->unit);
    function->unit = NULL;
}

struct program *program_load(const char *path) {
    FILE *file = fopen(path, "rb");
    struct program *program = calloc(1, sizeof *program);
    if (file == NULL || program == NULL || (program->text = calloc(1, 65536)) == NULL) {
        fprintf(stderr, "sample: cannot read %s: %s\n", path, strerror(errno));
        exit(2);
    }
    size_t length = fread(program->text, 1, 65535, file);
    if (ferror(file) || length == 65535) {
        fprintf(stderr, "sample: cannot read %s, or it is longer than 65534 bytes\n", path);
        exit(2);
    }
    fclose(file);
    const char *text = program->text;
    char line[256];
    struct function *open = NULL;
    for (int number = 1; next_line(&text, line, sizeof line); number++) {
        if (open != NULL) {
            if (strcmp(line, "end") == 0) {
                open = NULL;
            }
        } else if (line[0] != '\0') {
            open = &program->function[program->functions];
            if (program->functions++ == 32 || sscanf(line, "func %31s %d", open->name, &open->registers) != 2 ||
                open->registers < 1 || open->registers > 64) {
                bad(number, "expected 'func NAME REGISTERS' (of at most 32):", line);
            }
            open->text = text;
            open->line = number + 1;
        }
    }
    if (open != NULL || find_function(program, "main") < 0) {
        fprintf(stderr, "sample: %s: a function without 'end', or no function 'main'\n", path);
        exit(2);
    }
    for (int i = 0; i < program->functions; i++) {
        unit_load(program, &program->function[i], 0);
    }
    return program;
}

void program_free(struct program *program) {
    for (int i = 0; i < program->functions; i++) {
        unit_free(&program->function[i]);
    }
    free(program->text);
    free(program);
}
