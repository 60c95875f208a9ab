// The peer of the dev-fuse driver: the same protocol, the same flags, the same loop (non-blocking read, a short spin,
// then epoll), the same packed index and the same data files, in C.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define FOREVER 0x7fffffff
#define SPINS 100
#define OPENDIR_FLAG (1 << 24)
#define HIGH 2ull // (layer number 1) + 1

static uint32_t inodes, names, chunks, state_dir;
static double *size, *mtime_s, *chunk_offset;
static uint32_t *mtime_ns, *mode, *uid, *gid, *links, *place, *first, *count, *parent, *name_start, *name_inode, *chunk_length;
static uint8_t *name_bytes, *link_bytes, *bitmap;
static int data_fd, big_fd = -1;
static uint32_t big_inode;
static int fuse_fd;
static _Alignas(4096) uint8_t in[16384], out[16 + (1 << 20) + 4096];

static void load(const char *path) {
  int fd = open(path, O_RDONLY);
  struct stat st;
  fstat(fd, &st);
  uint8_t *base = mmap(0, st.st_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
  uint32_t *w = (uint32_t *)base;
  inodes = w[2], names = w[3], chunks = w[4], state_dir = w[9];
  uint8_t *at = base + 256;
#define TAKE(var, n, type) var = (type *)at, at += (uint64_t)(n) * sizeof(type)
  double *skip;
  uint32_t *skip32;
  TAKE(size, inodes, double); TAKE(mtime_s, inodes, double); TAKE(chunk_offset, chunks, double); TAKE(skip, chunks, double);
  TAKE(mtime_ns, inodes, uint32_t); TAKE(mode, inodes, uint32_t); TAKE(uid, inodes, uint32_t); TAKE(gid, inodes, uint32_t);
  TAKE(links, inodes, uint32_t); TAKE(place, inodes, uint32_t); TAKE(first, inodes, uint32_t); TAKE(count, inodes, uint32_t);
  TAKE(skip32, inodes, uint32_t); TAKE(parent, inodes, uint32_t); TAKE(name_start, names + 1, uint32_t); TAKE(name_inode, names, uint32_t);
  TAKE(chunk_length, chunks, uint32_t); TAKE(skip32, chunks, uint32_t); TAKE(skip32, chunks, uint32_t); TAKE(skip32, chunks, uint32_t);
  at += (uint64_t)chunks * 33;
  name_bytes = at;
  link_bytes = at + w[5];
  (void)skip; (void)skip32;
  bitmap = malloc((chunks + 7) / 8);
  memset(bitmap, 255, (chunks + 7) / 8);
}

static void fill_attr(struct fuse_attr *a, uint32_t i) {
  a->ino = (HIGH << 32) | (i + 1);
  a->size = (uint64_t)size[i];
  a->blocks = (a->size + 511) / 512;
  a->atime = a->mtime = a->ctime = (uint64_t)(int64_t)mtime_s[i];
  a->atimensec = a->mtimensec = a->ctimensec = mtime_ns[i];
  a->mode = mode[i];
  a->nlink = links[i];
  a->uid = uid[i];
  a->gid = gid[i];
  a->rdev = (S_ISCHR(mode[i]) || S_ISBLK(mode[i])) ? place[i] : 0;
  a->blksize = 4096;
  a->flags = 0;
}

static void fill_entry(struct fuse_entry_out *e, uint32_t i) {
  memset(e, 0, sizeof *e);
  e->nodeid = (HIGH << 32) | (i + 1);
  e->entry_valid = e->attr_valid = FOREVER;
  fill_attr(&e->attr, i);
}

static long lookup(uint32_t dir, const uint8_t *name, uint32_t len) {
  if (!S_ISDIR(mode[dir])) return -1;
  long low = first[dir], high = low + count[dir] - 1;
  while (low <= high) {
    long mid = (low + high) >> 1;
    uint32_t start = name_start[mid], length = name_start[mid + 1] - start;
    int order = memcmp(name_bytes + start, name, length < len ? length : len);
    if (order == 0) order = (int)length - (int)len;
    if (order == 0) return name_inode[mid];
    if (order < 0) low = mid + 1;
    else high = mid - 1;
  }
  return -1;
}

static int is_local(uint32_t i, uint64_t offset, uint64_t length) {
  long low = first[i], high = low + count[i] - 1, last = high;
  while (low < high) {
    long mid = (low + high + 1) >> 1;
    if (chunk_offset[mid] <= offset) low = mid;
    else high = mid - 1;
  }
  for (; low <= last && chunk_offset[low] < offset + length; low++)
    if (!(bitmap[low >> 3] >> (low & 7) & 1)) return 0;
  return 1;
}

static struct fuse_out_header *oh = (void *)out;
static void send_reply(uint32_t payload) {
  oh->len = 16 + payload;
  oh->error = 0;
  if (write(fuse_fd, out, oh->len) < 0 && errno == ENODEV) exit(0);
}
static void send_error(int error) {
  oh->len = 16;
  oh->error = -error;
  if (write(fuse_fd, out, 16) < 0 && errno == ENODEV) exit(0);
}

static int add_name(uint32_t *used, uint32_t limit, int plus, long inode, uint64_t ino, uint64_t next, uint32_t m, const void *name, uint32_t len) {
  uint32_t dirent = (24 + len + 7) & ~7u, all = dirent + (plus ? 128 : 0);
  if (*used + all > limit) return 0;
  uint8_t *p = out + 16 + *used;
  if (plus) {
    if (inode < 0) memset(p, 0, 128);
    else fill_entry((void *)p, inode);
    p += 128;
  }
  struct fuse_dirent *d = (void *)p;
  d->ino = ino, d->off = next, d->namelen = len, d->type = m >> 12;
  memset(p + dirent - 8, 0, 8);
  memcpy(d->name, name, len);
  *used += all;
  return 1;
}

static void list(uint32_t dir, struct fuse_read_in *r, int plus) {
  uint32_t used = 0, limit = r->size < (1 << 20) ? r->size : 1 << 20;
  uint64_t p = r->offset;
  if (p < 1 && !add_name(&used, limit, plus, -1, (HIGH << 32) | (dir + 1), 1, S_IFDIR, ".", 1)) goto end;
  if (p < 2 && !add_name(&used, limit, plus, -1, dir ? ((HIGH << 32) | (parent[dir] + 1)) : 1, 2, S_IFDIR, "..", 2)) goto end;
  for (uint64_t c = p < 2 ? 0 : p - 2; c < count[dir]; c++) {
    uint32_t at = first[dir] + c, i = name_inode[at];
    if (!add_name(&used, limit, plus, i, (HIGH << 32) | (i + 1), c + 3, mode[i], name_bytes + name_start[at], name_start[at + 1] - name_start[at])) break;
  }
end:
  send_reply(used);
}

static void root(struct fuse_in_header *h, void *arg) {
  if (h->opcode == FUSE_LOOKUP) {
    if (strcmp(arg, "1")) return send_error(ENOENT);
    fill_entry((void *)(out + 16), 0);
    return send_reply(128);
  }
  if (h->opcode == FUSE_GETATTR) {
    struct fuse_attr_out *a = (void *)(out + 16);
    memset(a, 0, sizeof *a);
    a->attr_valid = FOREVER, a->attr.ino = 1, a->attr.mode = S_IFDIR | 0755, a->attr.nlink = 2;
    return send_reply(sizeof *a);
  }
  if (h->opcode == FUSE_READDIR || h->opcode == FUSE_READDIRPLUS) {
    uint32_t used = 0;
    if (((struct fuse_read_in *)arg)->offset == 0) add_name(&used, 4096, h->opcode == FUSE_READDIRPLUS, 0, (HIGH << 32) | 1, 1, S_IFDIR, "1", 1);
    return send_reply(used);
  }
  send_error(ENOSYS);
}

static void serve(void) {
  struct fuse_in_header *h = (void *)in;
  void *arg = in + 40;
  oh->unique = h->unique;
  switch (h->opcode) {
    case FUSE_FORGET: case FUSE_BATCH_FORGET: case FUSE_INTERRUPT: return;
    case FUSE_OPENDIR: case FUSE_OPEN: return send_error(ENOSYS);
    case FUSE_STATFS: memset(out + 16, 0, 80); return send_reply(80);
    case FUSE_INIT: {
      struct fuse_init_in *a = arg;
      struct fuse_init_out *o = (void *)(out + 16);
      memset(o, 0, 64);
      o->major = 7, o->minor = a->minor < 38 ? a->minor : 38;
      o->max_readahead = a->max_readahead;
      uint32_t wanted = FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_DO_READDIRPLUS | FUSE_NO_OPEN_SUPPORT | FUSE_PARALLEL_DIROPS |
        FUSE_ABORT_ERROR | FUSE_MAX_PAGES | FUSE_CACHE_SYMLINKS | OPENDIR_FLAG | FUSE_EXPLICIT_INVAL_DATA;
      o->flags = a->flags & wanted;
      o->max_background = 1024, o->congestion_threshold = 768, o->max_write = 4096, o->time_gran = 1, o->max_pages = 256;
      return send_reply(64);
    }
  }
  if (h->nodeid >> 32 != HIGH) return root(h, arg);
  uint32_t i = (uint32_t)h->nodeid - 1;
  switch (h->opcode) {
    case FUSE_LOOKUP: {
      long found = lookup(i, arg, strlen(arg));
      if (found < 0) {
        memset(out + 16, 0, 128);
        ((struct fuse_entry_out *)(out + 16))->entry_valid = FOREVER;
      } else fill_entry((void *)(out + 16), found);
      return send_reply(128);
    }
    case FUSE_GETATTR: {
      struct fuse_attr_out *a = (void *)(out + 16);
      memset(a, 0, 16);
      a->attr_valid = FOREVER;
      fill_attr(&a->attr, i);
      return send_reply(sizeof *a);
    }
    case FUSE_READ: {
      struct fuse_read_in *r = arg;
      uint64_t whole = size[i];
      if (r->offset >= whole) return send_reply(0);
      uint64_t n = whole - r->offset < r->size ? whole - r->offset : r->size;
      if (!is_local(i, r->offset, n)) return send_error(EIO);
      long got = i == big_inode ? pread(big_fd, out + 16, n, r->offset) : pread(data_fd, out + 16, n, place[i] * 4096ull + r->offset);
      if (got != (long)n || !is_local(i, r->offset, n)) return send_error(EIO);
      return send_reply(n);
    }
    case FUSE_READDIR: return list(i, arg, 0);
    case FUSE_READDIRPLUS: return list(i, arg, 1);
    case FUSE_READLINK: memcpy(out + 16, link_bytes + first[i], count[i]); return send_reply(count[i]);
    default: return send_error(ENOSYS);
  }
}

int main(int argc, char **argv) {
  if (argc != 6) return 2; // INDEX DATA BIG_INODE BIG_FILE MOUNTPOINT
  load(argv[1]);
  data_fd = open(argv[2], O_RDONLY);
  big_inode = atoi(argv[3]);
  big_fd = open(argv[4], O_RDONLY);
  fuse_fd = open("/dev/fuse", O_RDWR | O_NONBLOCK);
  char options[200];
  sprintf(options, "fd=%d,rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other", fuse_fd);
  if (mount("peer", argv[5], "fuse.peer", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOATIME, options)) return perror("mount"), 1;
  int epoll = epoll_create1(0);
  struct epoll_event event = {.events = EPOLLIN};
  epoll_ctl(epoll, EPOLL_CTL_ADD, fuse_fd, &event);
  struct stat st;
  puts("mounted");
  fflush(stdout);
  (void)st;
  for (;;) {
    long n = -1;
    for (int spin = 0; spin <= SPINS && n <= 0; spin++) n = read(fuse_fd, in, sizeof in);
    if (n > 0) serve();
    else if (errno == ENODEV) return 0;
    else if (errno == EAGAIN) epoll_wait(epoll, &event, 1, -1);
  }
}
