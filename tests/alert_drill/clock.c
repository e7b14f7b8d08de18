/* A wall clock that is wrong, for a process that has this preloaded: the file that DRILL_CLOCK names holds, as an
   int64, by how many seconds; it may be changed at any time. The monotonic clock stays right, as it does on a machine
   whose clock is set wrong. Waits until a moment of the wall clock end when the true clock says so. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

static volatile const int64_t *off;
static int (*true_clock)(clockid_t, struct timespec *);
static int (*true_wait)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);

__attribute__((constructor)) static void begin(void) {
    const char *name = getenv("DRILL_CLOCK");
    int file = name ? open(name, O_RDONLY | O_CLOEXEC) : -1;
    void *found = file < 0 ? MAP_FAILED : mmap(NULL, sizeof *off, PROT_READ, MAP_SHARED, file, 0);
    if (file >= 0) close(file);
    off = found == MAP_FAILED ? NULL : found;
    true_clock = dlsym(RTLD_NEXT, "clock_gettime");
    true_wait = dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2"); /* an older one has another structure */
    if (!true_wait) true_wait = dlsym(RTLD_NEXT, "pthread_cond_timedwait");
}

static int64_t wrong_by(void) { return off ? *off : 0; }

int clock_gettime(clockid_t which, struct timespec *now) {
    if (!true_clock) begin(); /* another library's constructor was first */
    int failed = true_clock(which, now);
    if (!failed && (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE)) now->tv_sec += wrong_by();
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec found;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &found);
    now->tv_sec = found.tv_sec;
    now->tv_usec = found.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *told) {
    struct timespec found;
    clock_gettime(CLOCK_REALTIME, &found);
    if (told) *told = found.tv_sec;
    return found.tv_sec;
}

/* A moment of the monotonic clock is days after a start, one of the wall clock decades after 1970. */
int pthread_cond_timedwait(pthread_cond_t *restrict on, pthread_mutex_t *restrict held,
                           const struct timespec *restrict until) {
    struct timespec moment = *until;
    if (!true_wait) begin();
    if (moment.tv_sec > 1000000000) moment.tv_sec -= wrong_by();
    return true_wait(on, held, &moment);
}

/* librdkafka waits by C11's threads, whose own call of pthread_cond_timedwait is not ours */
int cnd_timedwait(cnd_t *restrict on, mtx_t *restrict held, const struct timespec *restrict until) {
    int (*wait)(cnd_t *, mtx_t *, const struct timespec *) = dlsym(RTLD_NEXT, "cnd_timedwait");
    struct timespec moment = *until;
    moment.tv_sec -= wrong_by();
    return wait(on, held, &moment);
}

int sem_timedwait(sem_t *restrict on, const struct timespec *restrict until) {
    int (*wait)(sem_t *, const struct timespec *) = dlsym(RTLD_NEXT, "sem_timedwait");
    struct timespec moment = *until;
    moment.tv_sec -= wrong_by();
    return wait(on, &moment);
}
