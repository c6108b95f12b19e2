/*
 * The C++ side of annotating: native functions that throw through the interpreter, and
 * the scope guards. An interpreter loop (`run`) calls natives that throw; the exception
 * passes through the loop's frame (destroying what lives there) and is caught by the
 * caller, by the loop itself, or two interpreter frames up.
 *
 *   sample-cxx [turns]      three numbers; the last is the number of living Counted objects
 */
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <vector>

#include <redmagic.h>

namespace {

/* Shows that destructors ran: a leak or a double destruction changes `alive`. */
struct Counted {
    static long alive;
    Counted() { alive++; }
    Counted(const Counted &) { alive++; }
    ~Counted() { alive--; }
};
long Counted::alive;

enum class Op : unsigned char { Add, Loop, Native, Call, Log, Halve, End };

struct Insn {
    Op op;
    long operand;
};

struct Error : std::runtime_error {
    explicit Error(long code) : std::runtime_error("native"), code(code) {}
    long code;
};

/* A native callee: throws on every 7th value, with a code that says which. */
[[gnu::noinline]] long native(long value) {
    Counted local;
    if (value % 7 == 3) {
        throw Error(value);
    }
    return value & 15;
}

[[gnu::noinline]] void log(std::vector<long> &to, long value) {
    if (to.size() < 1000) {
        to.push_back(value);
    }
}

/*
 * begin_branchable_frame and its end bracket an activation; a guard makes the end
 * happen when an exception passes too.
 */
class Frame {
public:
    Frame() noexcept { redmagic_begin_branchable_frame(&frame_); }
    ~Frame() noexcept { redmagic_end_branchable_frame(&frame_); }
    Frame(const Frame &) = delete;
    Frame &operator=(const Frame &) = delete;

private:
    unsigned long frame_ = 0;
};

/* Runs `code` for `count` down to 0; an Error of native() leaves it through its frames. */
[[gnu::noinline]] long run(const std::vector<Insn> &code, long &count, long &sum, std::vector<long> &logged) {
    Frame frame;
    Counted local;
    const Insn *pc = code.data();
    redmagic_function_entry(const_cast<Insn *>(pc));
    for (;;) {
        switch (pc->op) {
        case Op::Add:
            sum += pc->operand;
            pc++;
            break;
        case Op::Native:
            count--;
            sum += native(count);
            pc++;
            break;
        case Op::Call: {
            /* An interpreted call: the exception may pass through both activations. */
            long inner = 3;
            const std::vector<Insn> callee = {{Op::Add, 1}, {Op::Loop, -1}, {Op::End, 0}};
            sum += run(callee, inner, sum, logged);
            pc++;
            break;
        }
        case Op::Log: {
            /* This scope is not traced. The guard ends it however the scope is left; only
             * when it is left by its end does a trace continue behind it. */
            redmagic_disable untraced;
            log(logged, sum);
            pc++;
            break;
        }
        case Op::Halve: {
            /* Paths part and meet again in this scope. */
            redmagic_merge merge;
            if (sum & 1) {
                sum = (sum - 1) / 2;
            } else {
                sum += 3;
            }
            pc++;
            break;
        }
        case Op::Loop:
            if (pc == code.data() + 1) {
                count--;
            }
            if (count > 0) {
                pc += pc->operand;
                redmagic_backwards_branch(const_cast<Insn *>(pc));
            } else {
                redmagic_fellthrough_branch(const_cast<Insn *>(pc + pc->operand));
                pc++;
            }
            break;
        case Op::End:
            return sum & 1023;
        }
    }
}

} // namespace

int main(int argc, char **argv) {
    redmagic_start();
    const long turns = argc > 1 ? std::atol(argv[1]) : 20000;
    const std::vector<Insn> code = {{Op::Add, 2},   {Op::Native, 0}, {Op::Halve, 0}, {Op::Log, 0},
                                    {Op::Call, 0},  {Op::Loop, -5},  {Op::End, 0}};
    redmagic_constant_memory(code.data(), code.size() * sizeof(Insn));
    long count = turns, sum = 0, caught = 0, codes = 0;
    std::vector<long> logged;
    /* The loop around the loop: restarts the program where the exception left it. */
    while (count > 0) {
        try {
            run(code, count, sum, logged);
        } catch (const Error &error) {
            caught++;
            codes = (codes * 31 + error.code) % 1000003;
        }
    }
    long checksum = 0;
    for (long value : logged) {
        checksum = (checksum * 31 + value) % 1000003;
    }
    std::printf("sum %ld, logged %ld\ncaught %ld, codes %ld\nalive %ld\n", sum, checksum, caught, codes, Counted::alive);
    redmagic_constant_memory_end(code.data());
    return 0;
}
