/* Counts what the main thread asks of the allocator and of the kernel. Preloaded by test_gates.py,
   with PYTHONMALLOC=malloc, so that every object of Python's is a malloc of its own. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

static pthread_t main_thread;
static unsigned long allocations, system_calls;

__attribute__((constructor)) static void remember(void) { main_thread = pthread_self(); }

unsigned long counted_allocations(void) { return allocations; }
unsigned long counted_system_calls(void) { return system_calls; }

#define COUNT(what) do { if (pthread_equal(pthread_self(), main_thread)) what++; } while (0)

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);

void *malloc(size_t size) { COUNT(allocations); return __libc_malloc(size); }
void *calloc(size_t n, size_t size) { COUNT(allocations); return __libc_calloc(n, size); }
void *realloc(void *at, size_t size) { COUNT(allocations); return __libc_realloc(at, size); }

#define PASS_ON(result, name, parameters, arguments)                                   \
    result name parameters {                                                           \
        static result (*next) parameters;                                              \
        if (!next) next = (result (*) parameters)dlsym(RTLD_NEXT, #name);              \
        COUNT(system_calls);                                                           \
        return next arguments;                                                         \
    }

PASS_ON(ssize_t, read, (int fd, void *to, size_t n), (fd, to, n))
PASS_ON(ssize_t, write, (int fd, const void *from, size_t n), (fd, from, n))
PASS_ON(ssize_t, readv, (int fd, const struct iovec *v, int n), (fd, v, n))
PASS_ON(ssize_t, writev, (int fd, const struct iovec *v, int n), (fd, v, n))
PASS_ON(ssize_t, recv, (int fd, void *to, size_t n, int how), (fd, to, n, how))
PASS_ON(ssize_t, send, (int fd, const void *from, size_t n, int how), (fd, from, n, how))
PASS_ON(ssize_t, recvmsg, (int fd, struct msghdr *m, int how), (fd, m, how))
PASS_ON(ssize_t, sendmsg, (int fd, const struct msghdr *m, int how), (fd, m, how))
PASS_ON(int, epoll_ctl, (int fd, int what, int of, struct epoll_event *e), (fd, what, of, e))
PASS_ON(int, epoll_wait, (int fd, struct epoll_event *e, int n, int ms), (fd, e, n, ms))
PASS_ON(int, epoll_pwait,
        (int fd, struct epoll_event *e, int n, int ms, const sigset_t *s), (fd, e, n, ms, s))
PASS_ON(int, shutdown, (int fd, int how), (fd, how))
PASS_ON(int, close, (int fd), (fd))
PASS_ON(int, setsockopt, (int fd, int level, int name, const void *value, socklen_t n),
        (fd, level, name, value, n))
PASS_ON(int, getsockopt, (int fd, int level, int name, void *value, socklen_t *n),
        (fd, level, name, value, n))
PASS_ON(ssize_t, getrandom, (void *to, size_t n, unsigned how), (to, n, how))
PASS_ON(long, syscall, (long number, long a, long b, long c, long d, long e, long f),
        (number, a, b, c, d, e, f))
