/*
 * redmagic.h - annotations that turn an interpreter into a tracing JIT.
 *
 * Link the interpreter with libredmagic and mark its loops. With no daemon
 * watching, an annotation costs one load and one untaken branch. With one
 * (`redmagic run -- CMD`, `redmagicd attach PID`), hot loops are recorded,
 * compiled and run from code that the daemon wrote.
 *
 * C11 and C++17. Every function may be called from any thread. None of them
 * allocates with malloc, sets errno or throws. With -DREDMAGIC_DISABLED the
 * whole header becomes no-ops and nothing has to be linked.
 *
 * Words: an *anchor* is a call of one of the functions marked [anchor]; a trace
 * can start only at the return of an anchor, and is known by the pair (id,
 * return address). An *id* is any pointer-sized value that means "this place of
 * the interpreted program", usually the address of the bytecode jumped to.
 */
#ifndef REDMAGIC_H
#define REDMAGIC_H

#define REDMAGIC_VERSION_MAJOR 0
#define REDMAGIC_VERSION_MINOR 1

#ifdef __cplusplus
#include <cstddef>
extern "C" {
#else
#include <stddef.h>
#endif

#ifndef REDMAGIC_DISABLED

/* ------------------------------------------------------------------ start */

/*
 * Call once, early in main. If the environment names a daemon (REDMAGIC_SOCKET,
 * set by `redmagic run`), connects to it; otherwise prepares the process for a
 * later attach. Waits at most 10 ms for a daemon that does not answer. A second
 * call does nothing.
 */
void redmagic_start(void);

/* ------------------------------------------------------------------ loops */

/*
 * [anchor] The interpreted program is about to continue at `id` after a jump
 * backwards. Counts; enters the trace of (id, call site) when there is one; asks
 * the daemon to record one when the count passes its threshold.
 */
void redmagic_backwards_branch(void *id);

/*
 * The conditional backwards branch to `id` was not taken: the loop is over. A
 * no-op unless `id` is the loop being recorded, whose recording then ends.
 */
void redmagic_fellthrough_branch(void *id);

/*
 * [anchor] A function of the interpreted program is entered: a root for
 * recursion. `id` is usually the address of its first bytecode.
 */
void redmagic_function_entry(void *id);

/*
 * Bracket one activation of the interpreted program when interpreted calls
 * recurse on the native stack (an eval function that calls itself). `frame` points
 * to storage that lives as long as the activation. A loop is closed only in the
 * frame in which its recording began.
 */
void redmagic_begin_branchable_frame(unsigned long *frame);
void redmagic_end_branchable_frame(unsigned long *frame);

/* --------------------------------------------------------- forced tracing */

/*
 * [anchor] Begin a trace here at once, however cold. It ends at
 * redmagic_force_end_trace(id), or where it meets another trace. When there is
 * one already, runs it.
 */
void redmagic_force_begin_trace(void *id);

/* End the trace that redmagic_force_begin_trace(id) began; otherwise a no-op. */
void redmagic_force_end_trace(void *id);

/*
 * [anchor] Continue in the trace of `id`, if one exists: from here up to its
 * beginning is recorded at the first such call, and linked to it. A no-op if
 * there is no trace of `id`.
 */
void redmagic_force_jump_to_trace(void *id);

/* --------------------------------------------------- what is not to be traced */

/* This point is never part of a trace: a recording that reaches it is aborted. */
void redmagic_ensure_not_traced(void);

/*
 * Between the two, nothing is recorded, counted or entered; a trace that comes to
 * the first continues after the second. They nest. Both must be called by the
 * same activation of the same C function for the trace to be continued.
 */
void redmagic_temp_disable(void);
void redmagic_temp_enable(void);

/* Calls of `function` are kept as calls, never traced into. */
void redmagic_do_not_trace_function(void *function);

/* No trace starts at `id`; one that exists is dropped. */
void redmagic_disable_branch(void *id);

/* Non-zero in code that is being recorded or runs from a trace, else 0. */
int redmagic_is_traced(void);

/* --------------------------------------------------------------- merging */

/*
 * Between the two, paths part and come together again (a reference count that
 * may reach zero). When a guard in the block fails, the original code runs up to
 * the end of the block and the trace is then continued. Both must be called by
 * the same activation of the same C function.
 */
void redmagic_begin_merge_block(void);
void redmagic_end_merge_block(void);

/* ----------------------------------------- what makes a trace worth optimising */

/*
 * Returns `value`. A trace is compiled for the value it was recorded with: it
 * guards that the value is the same and then treats it as a constant.
 */
unsigned long redmagic_promote(unsigned long value);

/*
 * The bytes [ptr, ptr + len) will not change until redmagic_constant_memory_end(ptr):
 * loads from them may be folded. Call the end before the bytes are freed or
 * changed; traces that depend on them are then never entered again. Declaring a
 * ptr again replaces its length.
 */
void redmagic_constant_memory(const void *ptr, size_t len);
void redmagic_constant_memory_end(const void *ptr);

/* `function` is pure: equal arguments give equal results, with no effects. */
void redmagic_elidable_function(void *function);

/* ------------------------------------------------------------ the fast path */

/*
 * Null when no daemon is attached. Do not write it. The macros below test it
 * where an annotation stands, so that an unattached interpreter makes no call;
 * they evaluate their argument exactly once or not at all, so an argument must
 * have no side effects. Take a function's address as usual to get the function.
 */
extern void *redmagic_channel;

/*
 * Whether a daemon is attached, for what an interpreter does besides. The compiler
 * is told that it is not: what follows is kept out of the interpreter's way.
 */
#if defined(__GNUC__)
#define redmagic_attached() __builtin_expect(redmagic_channel != NULL, 0)
#else
#define redmagic_attached() (redmagic_channel != NULL)
#endif

#ifndef REDMAGIC_NO_FAST_PATH
#define REDMAGIC_IF_ATTACHED_(call) (redmagic_attached() ? (call) : (void)0)
#define redmagic_backwards_branch(id) REDMAGIC_IF_ATTACHED_((redmagic_backwards_branch)(id))
#define redmagic_fellthrough_branch(id) REDMAGIC_IF_ATTACHED_((redmagic_fellthrough_branch)(id))
#define redmagic_function_entry(id) REDMAGIC_IF_ATTACHED_((redmagic_function_entry)(id))
#define redmagic_begin_merge_block() REDMAGIC_IF_ATTACHED_((redmagic_begin_merge_block)())
#define redmagic_end_merge_block() REDMAGIC_IF_ATTACHED_((redmagic_end_merge_block)())
#define redmagic_ensure_not_traced() REDMAGIC_IF_ATTACHED_((redmagic_ensure_not_traced)())
#define redmagic_force_end_trace(id) REDMAGIC_IF_ATTACHED_((redmagic_force_end_trace)(id))
#endif /* REDMAGIC_NO_FAST_PATH */

#else /* REDMAGIC_DISABLED */

/* Arguments are named, so that what is only there for an annotation is not "unused". */

#define redmagic_start() ((void)0)
#define redmagic_backwards_branch(id) ((void)(id))
#define redmagic_fellthrough_branch(id) ((void)(id))
#define redmagic_function_entry(id) ((void)(id))
#define redmagic_begin_branchable_frame(frame) ((void)(frame))
#define redmagic_end_branchable_frame(frame) ((void)(frame))
#define redmagic_force_begin_trace(id) ((void)(id))
#define redmagic_force_end_trace(id) ((void)(id))
#define redmagic_force_jump_to_trace(id) ((void)(id))
#define redmagic_ensure_not_traced() ((void)0)
#define redmagic_temp_disable() ((void)0)
#define redmagic_temp_enable() ((void)0)
#define redmagic_do_not_trace_function(function) ((void)(function))
#define redmagic_disable_branch(id) ((void)(id))
#define redmagic_is_traced() 0
#define redmagic_begin_merge_block() ((void)0)
#define redmagic_end_merge_block() ((void)0)
#define redmagic_promote(value) ((unsigned long)(value))
#define redmagic_constant_memory(ptr, len) ((void)(ptr), (void)(len))
#define redmagic_constant_memory_end(ptr) ((void)(ptr))
#define redmagic_elidable_function(function) ((void)(function))
#define redmagic_attached() 0

#endif /* REDMAGIC_DISABLED */

#ifdef __cplusplus
} /* extern "C" */

/* Scope guards: the name of the class is the name in the original Redmagic. */

/* Nothing in this scope is traced. */
class redmagic_disable {
public:
  redmagic_disable() noexcept { redmagic_temp_disable(); }
  ~redmagic_disable() noexcept { redmagic_temp_enable(); }
  redmagic_disable(const redmagic_disable &) = delete;
  redmagic_disable &operator=(const redmagic_disable &) = delete;
};

/* This scope is a merge block. */
class redmagic_merge {
public:
  redmagic_merge() noexcept { redmagic_begin_merge_block(); }
  ~redmagic_merge() noexcept { redmagic_end_merge_block(); }
  redmagic_merge(const redmagic_merge &) = delete;
  redmagic_merge &operator=(const redmagic_merge &) = delete;
};
#endif /* __cplusplus */

#endif /* REDMAGIC_H */
