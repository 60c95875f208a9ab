// Reads the first byte of a mapped file, handling SIGUSR1 meanwhile: touch-mapped FILE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>

static void ignore(int signal) { (void)signal; }

int main(int count, char **arguments) {
  struct sigaction action = {.sa_handler = ignore};
  sigaction(SIGUSR1, &action, NULL);
  int file = open(count > 1 ? arguments[1] : "", O_RDONLY);
  volatile char *bytes = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, file, 0);
  if (bytes == MAP_FAILED) return 2;
  // As databases do: every page is asked for by its reader, and by nobody ahead.
  madvise((void *)bytes, 4096, MADV_RANDOM);
  printf("%c\n", bytes[0]);
  return 0;
}
