/* A clock of its own for the processes of one node: the wall clock, moved by the seconds (a double) that stand in the
   file named by ANNEAL_CHAOS_CLOCK. Everything that reads the wall clock sees it, psutil's boot time too, as after
   `date --set`; the monotonic clocks are left alone, as the kernel leaves them. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile double *moved;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("ANNEAL_CHAOS_CLOCK");
    int file = path ? syscall(SYS_openat, AT_FDCWD, path, O_RDONLY) : -1;
    if (file < 0) return;
    void *page = mmap(NULL, sizeof(double), PROT_READ, MAP_SHARED, file, 0);
    if (page != MAP_FAILED) moved = page;
    close(file);
}

static long long nanoseconds(void) { return moved ? (long long)(*moved * 1e9) : 0; }

int clock_gettime(clockid_t clock, struct timespec *at) {
    int code = syscall(SYS_clock_gettime, clock, at);
    long long by = nanoseconds();
    if (code == 0 && by && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        long long all = at->tv_sec * 1000000000LL + at->tv_nsec + by;
        at->tv_sec = all / 1000000000LL;
        at->tv_nsec = all % 1000000000LL;
    }
    return code;
}

int gettimeofday(struct timeval *at, void *zone) {
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *out) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}

/* The kernel moves the boot time in /proc/stat when the clock is set. */
static int stat_moved(void) {
    static char text[1 << 20];
    int real = syscall(SYS_openat, AT_FDCWD, "/proc/stat", O_RDONLY);
    if (real < 0) return real;
    int made = syscall(SYS_memfd_create, "stat", 1u);
    ssize_t size = 0, got;
    while ((got = read(real, text + size, sizeof text - 1 - size)) > 0) size += got;
    close(real);
    text[size] = 0;
    char *line = strstr(text, "\nbtime ");
    if (line) {
        char *end = strchr(line + 1, '\n');
        char head[64];
        long long at = atoll(line + 7) + nanoseconds() / 1000000000LL;
        int length = snprintf(head, sizeof head, "\nbtime %lld", at);
        if (write(made, text, line - text) < 0 || write(made, head, length) < 0) return -1;
        if (end && write(made, end, size - (end - text)) < 0) return -1;
    } else if (write(made, text, size) < 0) {
        return -1;
    }
    lseek(made, 0, SEEK_SET);
    return made;
}

#define OPEN(name)                                                        \
    int name(const char *path, int flags, ...) {                          \
        mode_t mode = 0;                                                  \
        if (flags & (O_CREAT | O_TMPFILE)) {                              \
            va_list rest;                                                 \
            va_start(rest, flags);                                        \
            mode = va_arg(rest, mode_t);                                  \
            va_end(rest);                                                 \
        }                                                                 \
        if (nanoseconds() && strcmp(path, "/proc/stat") == 0) return stat_moved(); \
        static int (*next)(const char *, int, ...);                       \
        if (!next) next = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, #name); \
        return next(path, flags, mode);                                   \
    }

OPEN(open)
OPEN(open64)
