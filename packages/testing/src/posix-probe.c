// Describes a tree as text, by every way there is to read one, so that two trees can be compared.
//   posix-probe attributes DIR           type, mode, owner, times, size, device, target of every entry
//   posix-probe links DIR                number of names, and the first name of the same inode
//   posix-probe xattrs DIR               extended attributes
//   posix-probe content DIR METHOD       a hash of every file: read, pread, mmap, direct, sendfile
//   posix-probe listing DIR              offsets of every directory: rewind, seek to each, small buffers
//   posix-probe errors DIR               what is refused, and how
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

static void die(const char *what, const char *name) {
  printf("FAILED %s %s: %s\n", what, name, strerror(errno));
  exit(1);
}
static void print_bytes(const char *bytes, long length) {
  for (long i = 0; i < length; i++) {
    unsigned char c = bytes[i];
    if (c > 32 && c < 127 && c != '\\') putchar(c);
    else printf("\\%03o", c);
  }
}
static uint64_t hash(uint64_t h, const void *bytes, size_t length) {
  const unsigned char *b = bytes;
  for (size_t i = 0; i < length; i++) h = (h ^ b[i]) * 1099511628211ull;
  return h;
}

static const char *kind, *method;
static struct { uint64_t inode; char *path; } *seen;
static long seen_count;

static int by_name(const void *a, const void *b) { return strcmp(*(char **)a, *(char **)b); }

// Names of the directory at `fd`, sorted. `fd` is consumed.
static char **names_of(int fd, long *count) {
  DIR *dir = fdopendir(fd);
  if (!dir) die("opendir", "");
  char **names = 0;
  long room = 0;
  *count = 0;
  errno = 0;
  for (struct dirent *e; (e = readdir(dir)); errno = 0) {
    if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
    if (*count == room) names = realloc(names, sizeof *names * (room = room * 2 + 64));
    names[(*count)++] = strdup(e->d_name);
  }
  if (errno) die("readdir", "");
  closedir(dir);
  if (names) qsort(names, *count, sizeof *names, by_name);
  return names;
}

static void xattrs(int parent, const char *name, const char *path) {
  char link[64];
  int fd = openat(parent, name, O_PATH | O_NOFOLLOW);
  struct stat st;
  if (fd < 0 || fstat(fd, &st)) die("open", path);
  // Symlinks cannot be reached through /proc; they have no user attributes either.
  static char list[65536], value[65536];
  sprintf(link, "/proc/self/fd/%d", fd);
  long length = S_ISLNK(st.st_mode) ? 0 : listxattr(link, list, sizeof list);
  if (length < 0) {
    if (errno != EOPNOTSUPP) die("listxattr", path);
    length = 0;
  }
  char *names[256];
  long count = 0;
  for (char *at = list; at < list + length; at += strlen(at) + 1) names[count++] = at;
  qsort(names, count, sizeof *names, by_name);
  for (long i = 0; i < count; i++) {
    long whole = getxattr(link, names[i], 0, 0), n = getxattr(link, names[i], value, sizeof value);
    if (n < 0 || whole != n) die("getxattr", path);
    if (n > 1 && strcmp(method, "any-room") && (getxattr(link, names[i], value + 30000, 1) >= 0 || errno != ERANGE)) die("getxattr with little room", path);
    print_bytes(path, strlen(path));
    printf(" %s=", names[i]);
    print_bytes(value, n);
    putchar('\n');
  }
  if (!S_ISLNK(st.st_mode) && (getxattr(link, "user.absent", value, 10) >= 0 || (errno != ENODATA && errno != EOPNOTSUPP))) die("absent xattr", path);
  close(fd);
}

static uint64_t content(int parent, const char *name, const char *path, off_t size) {
  uint64_t h = 14695981039346656037ull;
  static char buffer[1 << 17] __attribute__((aligned(4096)));
  int fd = openat(parent, name, O_RDONLY | (!strcmp(method, "direct") ? O_DIRECT : 0));
  if (fd < 0) die("open", path);
  long n;
  off_t total = 0;
  if (!strcmp(method, "mmap")) {
    if (size > 0) {
      char *map = mmap(0, size, PROT_READ, MAP_PRIVATE, fd, 0);
      if (map == MAP_FAILED) die("mmap", path);
      h = hash(h, map, size);
      munmap(map, size);
    }
    total = size;
  } else if (!strcmp(method, "sendfile")) {
    int out = memfd_create("probe", 0);
    off_t offset = 0;
    while ((n = sendfile(out, fd, &offset, 1 << 20)) > 0) total += n;
    if (n < 0) die("sendfile", path);
    for (off_t at = 0; (n = pread(out, buffer, sizeof buffer, at)) > 0; at += n) h = hash(h, buffer, n);
    close(out);
  } else if (!strcmp(method, "pread")) {
    // From the end to the beginning, in odd pieces; then hashed in order.
    char *all = malloc(size + 1);
    for (off_t end = size; end > 0;) {
      off_t from = end > 77777 ? end - 77777 : 0;
      if (pread(fd, all + from, end - from, from) != end - from) die("pread", path);
      end = from;
    }
    h = hash(h, all, size);
    free(all);
    total = size;
    if (pread(fd, buffer, 10, size) != 0 || pread(fd, buffer, 10, size + 100000) != 0) die("pread past the end", path);
  } else {
    while ((n = read(fd, buffer, sizeof buffer)) > 0) h = hash(h, buffer, n), total += n;
    if (n < 0) die("read", path);
  }
  if (total != size) die("size", path);
  close(fd);
  return h;
}

static void listing(int parent, const char *name, const char *path) {
  int fd = openat(parent, name, O_RDONLY | O_DIRECTORY);
  DIR *dir = fdopendir(dup(fd));
  long count = 0, room = 0;
  struct { long at; char name[256]; } *entries = 0;
  for (struct dirent *e;;) {
    if (count == room) entries = realloc(entries, sizeof *entries * (room = room * 2 + 64));
    entries[count].at = telldir(dir);
    if (!(e = readdir(dir))) break;
    strcpy(entries[count++].name, e->d_name);
  }
  long all = count, step = count > 2000 ? count / 1000 : 1;
  for (long i = count - 1; i >= 0; i -= step) {
    seekdir(dir, entries[i].at);
    struct dirent *e = readdir(dir);
    if (!e || strcmp(e->d_name, entries[i].name)) errno = 0, die("seekdir", path);
  }
  seekdir(dir, entries[all].at);
  if (readdir(dir)) errno = 0, die("seekdir to the end", path);
  rewinddir(dir);
  for (long i = 0; i < count; i++) {
    struct dirent *e = readdir(dir);
    if (!e || strcmp(e->d_name, entries[i].name)) errno = 0, die("rewinddir", path);
  }
  closedir(dir);
  // The system call itself, with room for an entry or two; d_type must be what stat says.
  static char buffer[400] __attribute__((aligned(8)));
  long n, small = 0;
  lseek(fd, 0, SEEK_SET);
  while (small < 3000 && (n = syscall(SYS_getdents64, fd, buffer, sizeof buffer)) > 0)
    for (long at = 0; at < n;) {
      struct dirent64 *e = (void *)(buffer + at);
      struct stat st;
      if (fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW)) die("stat", e->d_name);
      if (strcmp(e->d_name, "..") && e->d_type != DT_UNKNOWN && DTTOIF(e->d_type) != (st.st_mode & S_IFMT)) errno = 0, die("d_type", e->d_name);
      if (strcmp(method, "without-inodes") && strcmp(e->d_name, "..") && strcmp(e->d_name, ".") && e->d_ino != st.st_ino) errno = 0, die("d_ino", e->d_name);
      at += e->d_reclen;
      small++;
    }
  if (small < 3000 && small != count) errno = 0, die("getdents with little room", path);
  close(fd);
  print_bytes(path, strlen(path));
  long dots = 0;
  for (long i = 0; i < count; i++) dots += !strcmp(entries[i].name, ".") || !strcmp(entries[i].name, "..");
  if (dots != 2 && strcmp(method, "without-inodes")) errno = 0, die("dot entries", path);
  printf(" %ld\n", count - dots);
  free(entries);
}

static void entry(int parent, const char *name, const char *path) {
  struct stat st;
  if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW)) die("stat", path);
  int is_dir = S_ISDIR(st.st_mode);
  if (!strcmp(kind, "attributes")) {
    char target[4097] = "";
    long n = S_ISLNK(st.st_mode) ? readlinkat(parent, name, target, 4096) : 0;
    if (n < 0) die("readlink", path);
    print_bytes(path, strlen(path));
    printf(" %o %u:%u %lld.%09ld ", st.st_mode, st.st_uid, st.st_gid, (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
    if (is_dir) printf("-");
    else printf("%lld", (long long)st.st_size);
    printf(" %u:%u ", S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode) ? major(st.st_rdev) : 0, S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode) ? minor(st.st_rdev) : 0);
    print_bytes(target, n);
    putchar('\n');
  } else if (!strcmp(kind, "links") && !is_dir) {
    long i = 0;
    while (i < seen_count && seen[i].inode != st.st_ino) i++;
    if (i == seen_count) {
      seen = realloc(seen, sizeof *seen * (seen_count + 1));
      seen[seen_count].inode = st.st_ino;
      seen[seen_count++].path = strdup(path);
    }
    print_bytes(path, strlen(path));
    printf(" %u ", (unsigned)st.st_nlink);
    print_bytes(seen[i].path, strlen(seen[i].path));
    putchar('\n');
  } else if (!strcmp(kind, "xattrs")) {
    xattrs(parent, name, path);
  } else if (!strcmp(kind, "content") && S_ISREG(st.st_mode)) {
    uint64_t h = content(parent, name, path, st.st_size);
    print_bytes(path, strlen(path));
    printf(" %016llx\n", (unsigned long long)h);
  } else if (!strcmp(kind, "listing") && is_dir) {
    listing(parent, name, path);
  }
  if (!is_dir) return;
  // Without a path name longer than the kernel takes: from directory to directory.
  int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (fd < 0) die("open", path);
  long count;
  char **names = names_of(dup(fd), &count);
  for (long i = 0; i < count; i++) {
    char *child = malloc(strlen(path) + strlen(names[i]) + 2);
    sprintf(child, "%s/%s", path, names[i]);
    entry(fd, names[i], child);
    free(child);
    free(names[i]);
  }
  free(names);
  close(fd);
}

static void report(const char *what, long result) { printf("%s: %s\n", what, result < 0 ? strerrorname_np(errno) : "done"); }

static void errors(const char *root) {
  if (chdir(root)) die("chdir", root);
  struct stat st;
  char buffer[16];
  report("stat of an absent name", stat("absent", &st));
  report("stat below a file", stat("plain/below", &st));
  report("stat of a name of 256 bytes", (memset(buffer, 'x', 1), stat((char[]){[0 ... 255] = 'x', 0}, &st)));
  report("opendir of a file", open("plain", O_RDONLY | O_DIRECTORY));
  report("read of a directory", read(open("dir", O_RDONLY), buffer, 1));
  report("readlink of a file", readlink("plain", buffer, sizeof buffer));
  report("open of a symlink with O_NOFOLLOW", open("link", O_RDONLY | O_NOFOLLOW));
  report("open of a loop", open("loop", O_RDONLY));
  report("lseek SEEK_END", lseek(open("plain", O_RDONLY), 0, SEEK_END));
  report("access for reading", access("plain", R_OK));
}

int main(int argc, char **argv) {
  if (argc < 3) return 2;
  kind = argv[1];
  method = argc > 3 ? argv[3] : "read";
  if (!strcmp(kind, "errors")) errors(argv[2]);
  else {
    int root = open(argv[2], O_RDONLY | O_DIRECTORY);
    if (root < 0) die("open", argv[2]);
    entry(root, ".", ".");
  }
  return 0;
}
