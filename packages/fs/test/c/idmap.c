// Mounts a directory somewhere else with its owners shifted: idmap SOURCE TARGET BASE
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/mount.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static char stack[65536];
static int child(void *arg) {
  (void)arg;
  pause();
  return 0;
}
static void put(int pid, const char *file, const char *text) {
  char path[100];
  sprintf(path, "/proc/%d/%s", pid, file);
  int fd = open(path, O_WRONLY);
  if (fd < 0 || write(fd, text, strlen(text)) < 0) perror(path), exit(1);
  close(fd);
}
int main(int argc, char **argv) {
  if (argc != 4) return 2;
  int pid = clone(child, stack + sizeof stack, CLONE_NEWUSER | SIGCHLD, 0);
  if (pid < 0) return perror("clone"), 1;
  char map[100], path[100];
  sprintf(map, "0 %s 65536\n", argv[3]);
  put(pid, "uid_map", map);
  put(pid, "gid_map", map);
  sprintf(path, "/proc/%d/ns/user", pid);
  int userns = open(path, O_RDONLY | O_CLOEXEC);
  int tree = syscall(428, AT_FDCWD, argv[1], 1 /* OPEN_TREE_CLONE */);
  if (tree < 0) return perror("open_tree"), 1;
  struct mount_attr attr = {.attr_set = 0x00100000 /* MOUNT_ATTR_IDMAP */, .userns_fd = userns};
  if (syscall(442, tree, "", 0x1000 /* AT_EMPTY_PATH */, &attr, sizeof attr)) return perror("mount_setattr"), 1;
  if (syscall(429, tree, "", AT_FDCWD, argv[2], 4 /* MOVE_MOUNT_F_EMPTY_PATH */)) return perror("move_mount"), 1;
  kill(pid, SIGKILL);
  waitpid(pid, 0, 0);
  return 0;
}
