/* A wall clock that can be stepped: seconds in the file that WALL_CLOCK_STEP names are added to it.
   The monotonic clock stays as it is, as it does when NTP or an operator sets the time. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static long step(void) {
    const char *name = getenv("WALL_CLOCK_STEP");
    FILE *file = name ? fopen(name, "r") : NULL;
    long seconds = 0;
    if (file) {
        if (fscanf(file, "%ld", &seconds) != 1) seconds = 0;
        fclose(file);
    }
    return seconds;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*next)(clockid_t, struct timespec *);
    if (!next) next = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int done = next(clock, now);
    if (clock == CLOCK_REALTIME) now->tv_sec += step();
    return done;
}
