/* Preloaded into a process, it makes the system answer as other systems do. Which answers: environment variables.
 *   SHIM_RENAME=<errno>  a rename is done and reported as failed, as by an NFS client that lost the first answer
 *   SHIM_REFUSE=1        with SHIM_RENAME: a rename is not done either
 *   SHIM_FLOCK=<errno>   the file system has no locks
 *   SHIM_CLOCK=1         every look at the wall clock finds it an hour earlier
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/file.h>
#include <time.h>

static int answer(const char *name) {
    const char *value = getenv(name);
    return value ? atoi(value) : 0;
}

int rename(const char *from, const char *to) {
    static int (*real)(const char *, const char *);
    if (!real) real = dlsym(RTLD_NEXT, "rename");
    int wrong = answer("SHIM_RENAME");
    if (!wrong) return real(from, to);
    if (!answer("SHIM_REFUSE") && real(from, to)) return -1;
    errno = wrong;
    return -1;
}

int flock(int fd, int operation) {
    static int (*real)(int, int);
    if (!real) real = dlsym(RTLD_NEXT, "flock");
    int wrong = answer("SHIM_FLOCK");
    if (!wrong) return real(fd, operation);
    errno = wrong;
    return -1;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    static long looks;
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, now);
    if (!result && clock == CLOCK_REALTIME && answer("SHIM_CLOCK")) now->tv_sec -= 3600 * ++looks;
    return result;
}
