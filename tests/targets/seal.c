/*
 * seal: tries to make generated code or the table of entries writable, in every way that a process has:
 * each must be refused by the kernel. One line a try: the region, the way, and the
 * errno's name, or "ALLOWED". Then the loop must still give its result.
 */
#define _GNU_SOURCE
#include "vm.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

static int allowed;

static void say(const char *region, const char *way, int refused) {
  int error = errno;
  allowed += !refused;
  printf("%s %s %s\n", region, way, refused ? strerrorname_np(error) : "ALLOWED");
}

static void try_region(const char *region, unsigned long start, unsigned long end) {
  char path[128];
  size_t length = end - start;
  unsigned long before = *(volatile unsigned long *)start;
  say(region, "mprotect(write)", mprotect((void *)start, length, PROT_READ | PROT_WRITE) != 0);
  say(region, "mprotect(write, exec)", mprotect((void *)start, length, PROT_READ | PROT_WRITE | PROT_EXEC) != 0);
  snprintf(path, sizeof path, "/proc/self/map_files/%lx-%lx", start, end);
  int reader = open(path, O_RDONLY | O_CLOEXEC);
  if (reader < 0) {
    say(region, "open(map_files)", 1);
  } else {
    say(region, "write(descriptor)", write(reader, "x", 1) != 1);
    say(region, "mmap(descriptor)", mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, reader, 0) == MAP_FAILED);
    snprintf(path, sizeof path, "/proc/self/fd/%d", reader);
  }
  int writer = open(path, O_RDWR | O_CLOEXEC);
  if (writer < 0) {
    say(region, "open(for writing)", 1);
  } else {
    say(region, "write(re-opened)", write(writer, "x", 1) != 1);
    say(region, "pwrite(re-opened)", pwrite(writer, "x", 1, 4096) != 1);
    say(region, "mmap(re-opened)", mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, writer, 0) == MAP_FAILED);
    say(region, "ftruncate(re-opened)", ftruncate(writer, 0) != 0);
    say(region, "fallocate(punch)",
        fallocate(writer, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096) != 0);
    /* Mapped readable first, made writable after. */
    void *view = mmap(NULL, length, PROT_READ, MAP_SHARED, writer, 0);
    if (view != MAP_FAILED) {
      say(region, "mmap(read), mprotect(write)", mprotect(view, length, PROT_READ | PROT_WRITE) != 0);
      munmap(view, length);
    }
    close(writer);
  }
  int memory = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
  if (memory < 0)
    say(region, "open(/proc/self/mem)", 1);
  else
    say(region, "write(/proc/self/mem)", pwrite(memory, "x", 1, (off_t)start) != 1);
  close(memory);
  if (reader >= 0)
    close(reader);
  if (*(volatile unsigned long *)start != before) {
    printf("%s was CHANGED\n", region);
    allowed++;
  }
}

int main(void) {
  redmagic_start();
  unsigned long long sum = vm_run(300000, 1, NULL, NULL);
  unsigned long regions[8][2];
  char names[8][32];
  int found = 0;
  FILE *maps = fopen("/proc/self/maps", "r");
  char line[512];
  while (fgets(line, sizeof line, maps) != NULL && found < 8) {
    char *name = strstr(line, "memfd:redmagic-");
    if (name == NULL || strstr(name, "control") != NULL)
      continue;
    sscanf(line, "%lx-%lx", &regions[found][0], &regions[found][1]);
    sscanf(name, "memfd:redmagic-%31s", names[found]);
    found++;
  }
  fclose(maps);
  printf("regions %d\n", found);
  for (int i = 0; i < found; i++)
    try_region(names[i], regions[i][0], regions[i][1]);
  sum = sum * 31 + vm_run(300000, 1, NULL, NULL);
  printf("sum %016llx\n", sum);
  return allowed != 0;
}
