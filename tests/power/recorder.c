/* Records what a process writes below some folders, what it syncs and what it sends, in the order in which it happens.

   Loaded with LD_PRELOAD. RECORD_BELOW names the folders, with colons; RECORD_TO the file. One record: kind, two numbers,
   length of the text, the text (tests/power/disk.py reads them). Everything happens under one lock, so that the order of
   the records is that of the calls. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define MOST_FILES 65536
#define LONGEST_PATH 4096

static pthread_mutex_t lock = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static char tracked[MOST_FILES]; /* by descriptor */
static int out = -1;
static const char *below;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

__attribute__((constructor)) static void begin(void) {
    below = getenv("RECORD_BELOW");
    if (below && getenv("RECORD_TO"))
        out = REAL(open)(getenv("RECORD_TO"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static int is_below(const char *path) {
    if (out < 0 || !path) return 0;
    for (const char *at = below; *at;) {
        size_t length = strcspn(at, ":");
        if (!strncmp(path, at, length) && (path[length] == '/' || !path[length])) return 1;
        at += length + (at[length] == ':');
    }
    return 0;
}

static int is_tracked(int fd) { return fd >= 0 && fd < MOST_FILES && tracked[fd]; }

static void record(char kind, uint64_t a, uint64_t b, const void *text, uint32_t length) {
    char head[21];
    head[0] = kind;
    memcpy(head + 1, &a, 8);
    memcpy(head + 9, &b, 8);
    memcpy(head + 17, &length, 4);
    if (REAL(write)(out, head, sizeof head) != sizeof head || REAL(write)(out, text, length) != (ssize_t)length) abort();
}

/* Of a file among those of all file systems. */
static uint64_t number(const struct stat *found) { return found->st_ino ^ (uint64_t)found->st_dev << 40; }

static uint64_t number_of(int fd) {
    struct stat found;
    return fstat(fd, &found) ? 0 : number(&found);
}

static void record_pair(char kind, const char *from, const char *to) {
    char pair[2 * LONGEST_PATH];
    size_t first = strlen(from) + 1, second = strlen(to);
    if (first + second > sizeof pair) abort();
    memcpy(pair, from, first);
    memcpy(pair + first, to, second);
    record(kind, 0, 0, pair, first + second);
}

static int opened(const char *path, int flags, int existed, int fd) {
    if (fd < 0 || fd >= MOST_FILES) return fd;
    tracked[fd] = is_below(path);
    if (tracked[fd] && (flags & O_CREAT) && !existed) record('C', number_of(fd), 0, path, strlen(path));
    if (tracked[fd] && (flags & O_TRUNC) && existed) record('T', number_of(fd), 0, "", 0);
    return fd;
}

#define OPEN(name)                                                            \
    int name(const char *path, int flags, ...) {                              \
        va_list more;                                                         \
        va_start(more, flags);                                                \
        mode_t mode = (flags & O_CREAT) ? va_arg(more, mode_t) : 0;           \
        va_end(more);                                                         \
        pthread_mutex_lock(&lock);                                            \
        int existed = is_below(path) && !access(path, F_OK);                  \
        int fd = opened(path, flags, existed, REAL(name)(path, flags, mode)); \
        pthread_mutex_unlock(&lock);                                          \
        return fd;                                                            \
    }
OPEN(open)
OPEN(open64)

/* The path of a name in a folder that is open. */
static const char *within(int folder, const char *name, char *path) {
    char link[32];
    if (name[0] == '/') return name;
    snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
    ssize_t length = readlink(link, path, LONGEST_PATH);
    if (length < 0 || length + strlen(name) + 2 > LONGEST_PATH) return "";
    path[length] = '/';
    strcpy(path + length + 1, name);
    return path;
}

#define OPENAT(name)                                                                    \
    int name(int folder, const char *within_it, int flags, ...) {                       \
        va_list more;                                                                   \
        va_start(more, flags);                                                          \
        mode_t mode = (flags & O_CREAT) ? va_arg(more, mode_t) : 0;                     \
        va_end(more);                                                                   \
        char buffer[LONGEST_PATH];                                                      \
        const char *path = within(folder, within_it, buffer);                           \
        pthread_mutex_lock(&lock);                                                      \
        int existed = is_below(path) && !access(path, F_OK);                            \
        int fd = opened(path, flags, existed, REAL(name)(folder, within_it, flags, mode)); \
        pthread_mutex_unlock(&lock);                                                    \
        return fd;                                                                      \
    }
OPENAT(openat)
OPENAT(openat64)

/* Python closes by other means too (close_range); a number that is open again was seen by open. */
int close(int fd) {
    pthread_mutex_lock(&lock);
    if (is_tracked(fd)) tracked[fd] = 0;
    int result = REAL(close)(fd);
    pthread_mutex_unlock(&lock);
    return result;
}

#define PWRITE(name, offset_type)                                                               \
    ssize_t name(int fd, const void *data, size_t length, offset_type offset) {                 \
        pthread_mutex_lock(&lock);                                                              \
        ssize_t written = REAL(name)(fd, data, length, offset);                                 \
        if (is_tracked(fd) && written > 0) record('W', number_of(fd), offset, data, written);   \
        pthread_mutex_unlock(&lock);                                                            \
        return written;                                                                         \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

ssize_t write(int fd, const void *data, size_t length) {
    if (!is_tracked(fd)) return REAL(write)(fd, data, length);
    pthread_mutex_lock(&lock);
    uint64_t offset = lseek(fd, 0, SEEK_CUR);
    ssize_t written = REAL(write)(fd, data, length);
    if (written > 0) record('W', number_of(fd), offset, data, written);
    pthread_mutex_unlock(&lock);
    return written;
}

#define TRUNCATE(name, size_type)                                                     \
    int name(int fd, size_type size) {                                                \
        pthread_mutex_lock(&lock);                                                    \
        int result = REAL(name)(fd, size);                                            \
        if (is_tracked(fd) && !result) record('T', number_of(fd), size, "", 0);       \
        pthread_mutex_unlock(&lock);                                                  \
        return result;                                                                \
    }
TRUNCATE(ftruncate, off_t)
TRUNCATE(ftruncate64, off64_t)

#define SYNC(name)                                                             \
    int name(int fd) {                                                         \
        pthread_mutex_lock(&lock);                                             \
        int result = REAL(name)(fd);                                           \
        if (is_tracked(fd) && !result) record('S', number_of(fd), 0, "", 0);   \
        pthread_mutex_unlock(&lock);                                           \
        return result;                                                         \
    }
SYNC(fsync)
SYNC(fdatasync)

int rename(const char *from, const char *to) {
    pthread_mutex_lock(&lock);
    int result = REAL(rename)(from, to);
    if (!result && (is_below(from) || is_below(to))) record_pair('R', from, to);
    pthread_mutex_unlock(&lock);
    return result;
}

int renameat(int old_folder, const char *from, int new_folder, const char *to) {
    char old_path[LONGEST_PATH], new_path[LONGEST_PATH];
    from = within(old_folder, from, old_path);
    to = within(new_folder, to, new_path);
    return rename(from, to);
}

int unlink(const char *path) {
    pthread_mutex_lock(&lock);
    int result = REAL(unlink)(path);
    if (!result && is_below(path)) record('U', 0, 0, path, strlen(path));
    pthread_mutex_unlock(&lock);
    return result;
}

int mkdir(const char *path, mode_t mode) {
    pthread_mutex_lock(&lock);
    int result = REAL(mkdir)(path, mode);
    struct stat found;
    if (!result && is_below(path) && !stat(path, &found)) record('M', number(&found), 0, path, strlen(path));
    pthread_mutex_unlock(&lock);
    return result;
}

/* Before it is sent: from then on somebody may know of it. */
ssize_t send(int fd, const void *data, size_t length, int flags) {
    pthread_mutex_lock(&lock);
    if (out >= 0) record('A', 0, 0, data, length);
    pthread_mutex_unlock(&lock);
    return REAL(send)(fd, data, length, flags);
}
