// What is measured: system calls in a tight loop, without the cost of a runtime. Prints seconds.
//   client lookup LIST          lstat of each path
//   client absent LIST          lstat of each path with ".no" appended
//   client read LIST            open, read to the end, close
//   client stat LIST TIMES      lstat again and again
//   client sequential FILE      1 MiB reads
//   client random FILE BLOCK THREADS COUNT KEEP    each block once, in random order; KEEP 0 drops the cache of the file first
//   client xattr LIST           lgetxattr of a name that is not there
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}
static char **paths;
static long path_count;
static void read_list(const char *file) {
  FILE *f = fopen(file, "r");
  char *line = 0;
  size_t room = 0;
  long n;
  paths = malloc(sizeof(char *) * 2000000);
  while ((n = getline(&line, &room, f)) > 0) {
    line[n - 1] = 0;
    paths[path_count++] = strdup(line);
  }
  fclose(f);
}
static void fail(const char *what) {
  perror(what);
  exit(1);
}
static const char *file;
static long block, per_thread;
static uint32_t *order;
static void *reader(void *arg) {
  long thread = (long)arg;
  int fd = open(file, O_RDONLY);
  posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
  char *buffer = aligned_alloc(4096, block);
  for (long i = 0; i < per_thread; i++)
    if (pread(fd, buffer, block, (off_t)order[thread * per_thread + i] * block) != block) fail("pread");
  close(fd);
  return 0;
}
int main(int argc, char **argv) {
  static char buffer[1 << 20];
  struct stat st;
  if (argc < 3) return 2;
  const char *kind = argv[1];
  double begun;
  if (!strcmp(kind, "sequential")) {
    int fd = open(argv[2], O_RDONLY);
    begun = now();
    long n, total = 0;
    while ((n = read(fd, buffer, sizeof buffer)) > 0) total += n;
    if (n < 0 || fstat(fd, &st) || total != st.st_size) fail("sequential");
  } else if (!strcmp(kind, "random")) {
    file = argv[2];
    block = atol(argv[3]);
    long threads = atol(argv[4]), wanted = atol(argv[5]);
    int fd = open(file, O_RDONLY);
    if (fd < 0 || fstat(fd, &st)) fail(file);
    if (!atoi(argv[6])) posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    long blocks = st.st_size / block;
    order = malloc(blocks * sizeof *order);
    for (long i = 0; i < blocks; i++) order[i] = i;
    uint64_t seed = 88172645463325252ull;
    for (long i = blocks - 1; i > 0; i--) {
      seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
      long j = seed % (i + 1);
      uint32_t swap = order[i];
      order[i] = order[j], order[j] = swap;
    }
    if (wanted > blocks) wanted = blocks;
    per_thread = wanted / threads;
    pthread_t ids[64];
    begun = now();
    for (long i = 0; i < threads; i++) pthread_create(&ids[i], 0, reader, (void *)i);
    for (long i = 0; i < threads; i++) pthread_join(ids[i], 0);
  } else {
    read_list(argv[2]);
    long times = argc > 3 ? atol(argv[3]) : 1;
    begun = now();
    for (long t = 0; t < times; t++)
      for (long i = 0; i < path_count; i++) {
        if (!strcmp(kind, "read")) {
          int fd = open(paths[i], O_RDONLY);
          if (fd < 0) fail(paths[i]);
          long n;
          while ((n = read(fd, buffer, sizeof buffer)) > 0) {}
          if (n < 0) fail(paths[i]);
          close(fd);
        } else if (!strcmp(kind, "absent")) {
          sprintf(buffer, "%s.no", paths[i]);
          if (lstat(buffer, &st) == 0) fail(buffer);
        } else if (!strcmp(kind, "xattr")) {
          if (lgetxattr(paths[i], "user.absent", buffer, 100) >= 0) fail(paths[i]);
        } else if (lstat(paths[i], &st)) fail(paths[i]);
      }
  }
  printf("%.6f\n", now() - begun);
  return 0;
}
