/*
 * hostile MODE SEED CHILDREN MUTATIONS: children, one after the other, each with a session of its
 * own, run the loop while a second thread of theirs overwrites their control region. The parent is the
 * innocent neighbour: a session of the same daemon that goes on working meanwhile.
 *
 * MODE: `words` overwrites single words anywhere, the park areas most; `parks` posts requests
 * that nobody made: garbage kinds, functions, exits and stack pointers, threads of other
 * processes; `head` overwrites magic, version or state (one of them, by the seed); `all`
 * fills the whole region with random bytes.
 *
 * Prints: children, sessions (children that had one), mutations made while the channel was
 * open, wrong results, crashed children, and whether the parent still has its session.
 */
#include "vm.h"
#include <linux/futex.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* The layout of proto/src/control.rs, as far as an enemy needs it. */
enum {
  MAGIC = 0,
  VERSION = 8,
  STATE = 12,
  DOORBELL = 16,
  HOTNESS = 88,
  EXITS = HOTNESS + 4 * (1 << 14),
  PARKS = (EXITS + 4 * (1 << 18) + 63) / 64 * 64,
  PARK_STATE = 2752,
  PARK_SIZE = 2944,
  AREAS = 64,
  CONTROL = PARKS + AREAS * PARK_SIZE,
  POSTED = 2,
};

static uint64_t random_state;
static uint64_t budget;
static const char *mode;
static volatile int scribbled;

struct tally {
  uint64_t sessions, mutations;
};
static struct tally *tally;

static uint64_t rnd(void) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return random_state * 0x2545f4914f6cdd1d;
}

static volatile char *control(void) {
  return *(volatile char *volatile *)&redmagic_channel;
}

static void put32(volatile char *base, size_t at, uint32_t value) {
  __atomic_store_n((volatile uint32_t *)(base + at), value, __ATOMIC_SEQ_CST);
}

static void put64(volatile char *base, size_t at, uint64_t value) {
  __atomic_store_n((volatile uint64_t *)(base + at), value, __ATOMIC_SEQ_CST);
}

static void ring(volatile char *base) {
  __atomic_add_fetch((volatile uint32_t *)(base + DOORBELL), 1, __ATOMIC_SEQ_CST);
  syscall(SYS_futex, base + DOORBELL, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static uint64_t bad_value(void) {
  switch (rnd() % 6) {
  case 0:
    return rnd();
  case 1:
    return rnd() % 8;
  case 2:
    return ~0ull >> rnd() % 64;
  case 3:
    return 1ull << rnd() % 64;
  case 4:
    return (uint64_t)(rnd() & 1 ? getpid() : getppid());
  default:
    return (uint64_t)control() + rnd() % CONTROL;
  }
}

static void word(volatile char *base) {
  size_t at;
  switch (rnd() % 16) {
  case 0:
    at = EXITS + 4 * (rnd() % 2000);
    break;
  case 1:
    at = HOTNESS + 4 * (rnd() % (1 << 14));
    break;
  case 2:
    at = rnd() % (CONTROL - 8);
    break;
  case 3:
    /* The head but for what ends the session at once; that is `head`'s. */
    at = DOORBELL + rnd() % (HOTNESS - DOORBELL);
    break;
  default:
    /* The first areas are those in use. */
    at = PARKS + rnd() % 3 * PARK_SIZE + PARK_STATE + rnd() % (PARK_SIZE - PARK_STATE);
    break;
  }
  if (rnd() & 1)
    put32(base, at & ~3ull, (uint32_t)bad_value());
  else
    put64(base, at & ~7ull, bad_value());
  if (rnd() % 4 == 0)
    ring(base);
}

static void park(volatile char *base) {
  size_t area = PARKS + rnd() % AREAS * PARK_SIZE + PARK_STATE;
  put32(base, area + 4, rnd() % 4 ? 1 + (uint32_t)(rnd() % 2) : (uint32_t)bad_value());
  uint32_t threads[] = {1, (uint32_t)getppid(), (uint32_t)getpid(), (uint32_t)syscall(SYS_gettid), (uint32_t)rnd(), 0};
  put32(base, area + 8, threads[rnd() % 6]);
  put32(base, area + 12, rnd() % 16 ? 1 : (uint32_t)bad_value());
  put64(base, area + 16, rnd() % 4 ? rnd() % 32 : bad_value());
  put64(base, area + 24, bad_value());
  put64(base, area + 32, bad_value());
  put32(base, area, POSTED);
  ring(base);
}

static void *scribble(void *unused) {
  (void)unused;
  for (uint64_t i = 0; i < budget; i++) {
    volatile char *base = control();
    if (base == NULL)
      break;
    if (strcmp(mode, "words") == 0) {
      word(base);
    } else if (strcmp(mode, "parks") == 0) {
      park(base);
    } else if (strcmp(mode, "head") == 0) {
      static const size_t fields[] = {MAGIC, VERSION, STATE};
      put32(base, fields[rnd() % 3], 4711);
      i = budget;
    } else {
      for (size_t at = 0; at + 8 <= CONTROL; at += 8)
        put64(base, at, rnd());
      ring(base);
    }
    __atomic_add_fetch(&tally->mutations, 1, __ATOMIC_RELAXED);
    if (rnd() % 4 == 0)
      usleep((useconds_t)(rnd() % 200));
  }
  scribbled = 1;
  return NULL;
}

static int child(uint64_t expected) {
  alarm(60);
  if (control() != NULL)
    __atomic_add_fetch(&tally->sessions, 1, __ATOMIC_RELAXED);
  pthread_t thread;
  if (pthread_create(&thread, NULL, scribble, NULL) != 0)
    return 2;
  int wrong = 0;
  while (!scribbled)
    wrong += vm_run(100000, 9, NULL, NULL) != expected;
  pthread_join(thread, NULL);
  /* The daemon looks at the head every 50 ms. */
  for (int i = strcmp(mode, "head") == 0 ? 60 : 1; i > 0; i--)
    wrong += vm_run(100000, 9, NULL, NULL) != expected;
  return wrong != 0;
}

int main(int argc, char **argv) {
  if (argc < 5)
    return 2;
  /* Before redmagic_start, so certainly plain. */
  uint64_t expected = vm_run(100000, 9, NULL, NULL);
  redmagic_start();
  mode = argv[1];
  uint64_t seed = vm_argument(argc, argv, 2, 1), children = vm_argument(argc, argv, 3, 1);
  budget = vm_argument(argc, argv, 4, 1);
  tally = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  uint64_t wrong = 0, crashed = 0, neighbour = 0;
  for (uint64_t i = 0; i < children; i++) {
    random_state = (seed * 1000003 + i) * 0x9e3779b97f4a7c15 | 1;
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0)
      _exit(child(expected));
    int status = 0;
    do
      neighbour += vm_run(100000, 9, NULL, NULL) != expected;
    while (waitpid(pid, &status, WNOHANG) == 0);
    if (WIFSIGNALED(status)) {
      crashed++;
      fprintf(stderr, "child %d of seed %d died of signal %d\n", (int)i, (int)seed, WTERMSIG(status));
    } else {
      wrong += WEXITSTATUS(status) != 0;
    }
  }
  /* On a busy machine the daemon may be late once; then it asks its session back, at the latest after 50 ms. */
  for (int i = 0; control() == NULL && i < 100; i++)
    usleep(20000);
  printf("children %llu sessions %llu mutations %llu wrong %llu crashed %llu neighbour wrong %llu attached %d\n",
         (unsigned long long)children, (unsigned long long)tally->sessions, (unsigned long long)tally->mutations,
         (unsigned long long)wrong, (unsigned long long)crashed, (unsigned long long)neighbour, control() != NULL);
  return 0;
}
