/* The client of the benchmark, for what wrk can't do: one process, epoll, HTTP/1.1 with keep-alive.
 *
 *     load closed PORT REQUEST CONNS SECONDS    each connection asks again when it was answered
 *     load exact  PORT REQUEST CONNS COUNT      the same, so many requests and no more
 *     load open   PORT REQUEST CONNS SECONDS RATE
 *     load idle   PORT REQUEST CONNS SECONDS    one stream each, held until standard input ends
 *
 * REQUEST is a file with the bytes of one request. A run ends when everything that was asked is
 * answered, so nothing is in flight at its end. `open` sends at times drawn before the run
 * (exponential gaps, a fixed seed) whatever the answers do, and counts from the time that was
 * drawn: a gateway that stalls can't hide it. One line of JSON is printed; times are nanoseconds.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define GRACE 10000000000ull /* for what is in flight at the end of a run */
#define LINE 4096

enum part { HEAD, LENGTH, SIZE, DATA, DATA_END, TRAILER, TO_CLOSE };

typedef struct {
    int fd;
    bool busy, broken, first_seen, failed;
    enum part part;
    size_t sent, left, line_len;
    uint64_t since;
    char line[LINE]; /* of the head, of a chunk's size, then of the body: only what read() cut */
} Conn;

typedef struct { uint64_t *at; size_t len, cap; } Times;

static int poller, port, free_len;
static char *request, *first_failure;
static size_t request_len;
static Conn *conns, **idle;
static Times whole, first, events_late;
static uint64_t done, failed, events, bytes, started;

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void note(Times *times, uint64_t value) {
    if (times->len == times->cap) {
        times->cap = times->cap ? times->cap * 2 : 65536;
        if (!(times->at = realloc(times->at, times->cap * sizeof *times->at))) abort();
    }
    times->at[times->len++] = value;
}

static void fail(Conn *c, const char *why, size_t len) {
    if (!first_failure) first_failure = strndup(why, len < 600 ? len : 600);
    c->failed = true;
}

/* A line of the body: an event, when it carries data. */
static void on_line(Conn *c, const char *line, size_t len) {
    if (len < 7 || memcmp(line, "data:", 5) != 0) return;
    const char *at = line + 5, *end = line + len;
    while (at < end && *at == ' ') at++;
    if (at == end || *at != '{') return; /* [DONE] */
    events++;
    const char *mark = memmem(at, (size_t)(end - at), "\"@", 2);
    if (!mark || end - mark < 21) return;
    uint64_t now = now_ns(), sent = strtoull(mark + 2, NULL, 10);
    if (!c->first_seen) note(&first, now - c->since);
    c->first_seen = true;
    if (sent && now > sent) note(&events_late, now - sent);
}

static void on_body(Conn *c, const char *data, size_t len) {
    bytes += len;
    if (c->failed && c->line_len == 0) fail(c, data, len);
    for (const char *end = data + len; data < end;) {
        const char *stop = memchr(data, '\n', (size_t)(end - data));
        size_t size = (size_t)((stop ? stop : end) - data);
        if (stop && !c->line_len) {
            on_line(c, data, size);
        } else {
            size_t fits = size < LINE - c->line_len ? size : LINE - c->line_len;
            memcpy(c->line + c->line_len, data, fits);
            c->line_len += fits;
            if (stop) { on_line(c, c->line, c->line_len); c->line_len = 0; }
        }
        if (!stop) return;
        data = stop + 1;
    }
}

static void free_conn(Conn *c) {
    c->busy = false;
    idle[free_len++] = c;
}

static void finish(Conn *c) {
    if (c->failed) failed++;
    else { done++; note(&whole, now_ns() - c->since); }
    c->line_len = 0;
    c->part = HEAD;
    free_conn(c);
}

static void on_head(Conn *c) {
    char *head = c->line;
    if (strncmp(head, "HTTP/1.", 7) != 0 || strncmp(head + 9, "200", 3) != 0) {
        c->failed = true;
        if (!strcasestr(head, "\r\ncontent-length:")) fail(c, head, strlen(head));
    }
    char *length = strcasestr(head, "\r\ncontent-length:");
    c->left = length ? strtoul(length + 17, NULL, 10) : 0;
    c->part = strcasestr(head, "\r\ntransfer-encoding: chunked") ? SIZE : length ? LENGTH : TO_CLOSE;
    if (strcasestr(head, "\r\nconnection: close")) c->broken = true;
    c->line_len = 0;
}

static void on_bytes(Conn *c, const char *data, size_t len) {
    for (const char *end = data + len; data < end && c->busy;) {
        size_t rest = (size_t)(end - data), part = rest < c->left ? rest : c->left;
        switch (c->part) {
        case HEAD:
            if (c->line_len == LINE - 1) { fail(c, "the head is too long", 20); finish(c); return; }
            c->line[c->line_len++] = *data++;
            c->line[c->line_len] = 0;
            if (c->line_len < 4 || memcmp(c->line + c->line_len - 4, "\r\n\r\n", 4)) break;
            on_head(c);
            if (c->part == LENGTH && !c->left) finish(c);
            break;
        case LENGTH:
        case DATA:
            on_body(c, data, part);
            data += part;
            if (c->left -= part) break;
            if (c->part == LENGTH) finish(c);
            else c->part = DATA_END;
            break;
        case DATA_END:
            if (*data++ == '\n') { c->part = SIZE; c->left = 0; }
            break;
        case SIZE: /* hexadecimal digits are added up one by one: a read may cut them */
            if (*data == '\n') {
                c->part = c->left ? DATA : TRAILER;
            } else if (*data != '\r') {
                int digit = *data <= '9' ? *data - '0' : (*data | 32) - 'a' + 10;
                c->left = c->left * 16 + (size_t)digit;
            }
            data++;
            break;
        case TRAILER:
            if (*data++ == '\n') finish(c);
            break;
        case TO_CLOSE:
            on_body(c, data, rest);
            data = end;
            break;
        }
    }
}

static void dial(Conn *c) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1;
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&a, sizeof a)) {
        perror("load: connect");
        exit(1);
    }
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    struct epoll_event e = {.events = EPOLLIN | EPOLLET | EPOLLOUT, .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &e);
    c->broken = false;
    c->part = HEAD;
    c->line_len = 0;
}

static void on_close(Conn *c) {
    if (c->busy && c->part == TO_CLOSE) finish(c);
    else if (c->busy) { fail(c, "the connection was closed", 25); finish(c); }
    close(c->fd);
    dial(c);
}

static void push(Conn *c) {
    while (c->busy && c->sent < request_len) {
        ssize_t n = send(c->fd, request + c->sent, request_len - c->sent, MSG_NOSIGNAL);
        if (n < 0) return;
        c->sent += (size_t)n;
    }
}

static void ask(uint64_t since) {
    Conn *c = idle[--free_len];
    if (c->broken) { close(c->fd); dial(c); }
    c->busy = true;
    c->first_seen = c->failed = false;
    c->since = since;
    c->sent = 0;
    started++;
    push(c);
}

static void on_input(Conn *c) {
    static char buffer[1 << 18];
    for (;;) {
        ssize_t n = recv(c->fd, buffer, sizeof buffer, 0);
        if (n > 0) { on_bytes(c, buffer, (size_t)n); continue; }
        if (n == 0 || errno != EAGAIN) on_close(c);
        return;
    }
}

static void wait_until(uint64_t when) {
    struct epoll_event ready[512];
    uint64_t now = now_ns(), wait = when > now ? when - now : 0;
    struct timespec t = {(time_t)(wait / 1000000000u), (long)(wait % 1000000000u)};
    int n = epoll_pwait2(poller, ready, 512, &t, NULL);
    for (int i = 0; i < n; i++) {
        Conn *c = ready[i].data.ptr;
        if (ready[i].events & EPOLLOUT) push(c);
        if (ready[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) on_input(c);
    }
}

static int by_size(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void tell(const char *name, Times *times) {
    if (!times->len) { printf(", \"%s\": null", name); return; }
    qsort(times->at, times->len, sizeof *times->at, by_size);
    const double shares[] = {0.5, 0.9, 0.99, 0.999};
    const char *names[] = {"p50", "p90", "p99", "p999"};
    printf(", \"%s\": {\"count\": %zu", name, times->len);
    for (int i = 0; i < 4; i++)
        printf(", \"%s\": %llu", names[i], (unsigned long long)
            times->at[(size_t)ceil(shares[i] * (double)times->len) - 1]);
    printf(", \"max\": %llu}", (unsigned long long)times->at[times->len - 1]);
}

static void tell_all(uint64_t took, int unanswered, size_t waiting) {
    printf("{\"done\": %llu, \"failed\": %llu, \"unanswered\": %d, \"waiting\": %zu, "
           "\"events\": %llu, \"bytes\": %llu, \"took\": %llu",
        (unsigned long long)done, (unsigned long long)failed, unanswered, waiting,
        (unsigned long long)events, (unsigned long long)bytes, (unsigned long long)took);
    tell("latency", &whole);
    tell("first", &first);
    tell("event", &events_late);
    printf(", \"failure\": \"");
    for (const char *p = first_failure ? first_failure : ""; *p; p++)
        if ((unsigned char)*p >= 32 && *p != '"' && *p != '\\') putchar(*p);
    printf("\"}\n");
}

static void run_closed(uint64_t end, uint64_t count, int total) {
    while (now_ns() < end && (!count || started < count)) {
        while (free_len && (!count || started < count)) ask(now_ns());
        wait_until(end);
    }
    for (uint64_t last = now_ns() + GRACE; free_len < total && now_ns() < last;) wait_until(last);
}

/* Returns how many were still waiting for a free connection at the end. */
static size_t run_open(uint64_t begin, uint64_t end, double rate, int total) {
    Times due = {0};
    double at = 0, span = (double)(end - begin);
    srand48(1);
    while ((at += -log(1 - drand48()) / rate * 1e9) < span) note(&due, begin + (uint64_t)at);
    size_t next = 0;
    for (uint64_t last = end + GRACE; next < due.len && now_ns() < last;) {
        while (next < due.len && free_len && due.at[next] <= now_ns()) ask(due.at[next++]);
        /* With none free only an answer can help; else the next one may be due by now. */
        if (next < due.len) wait_until(free_len ? due.at[next] : last);
    }
    for (uint64_t last = now_ns() + GRACE; free_len < total && now_ns() < last;) wait_until(last);
    return due.len - next;
}

static void run_idle(uint64_t end, int total) {
    struct timespec pause = {0, 1000000};
    while (free_len) { ask(now_ns()); wait_until(0); nanosleep(&pause, NULL); }
    while (first.len < (size_t)total && !failed && now_ns() < end)
        wait_until(now_ns() + 50000000u);
    tell_all(0, total - (int)first.len, 0);
    fflush(stdout);
    for (char byte; read(0, &byte, 1) > 0;) {}
}

static void read_request(const char *name) {
    int fd = open(name, O_RDONLY);
    struct stat s;
    if (fd < 0 || fstat(fd, &s) || !(request = malloc((size_t)s.st_size)) ||
        read(fd, request, (size_t)s.st_size) != s.st_size) {
        perror(name);
        exit(1);
    }
    request_len = (size_t)s.st_size;
    close(fd);
}

int main(int argc, char **argv) {
    if (argc < 6) { fprintf(stderr, "usage: load MODE PORT REQUEST CONNS SECONDS [RATE]\n"); return 2; }
    struct rlimit files = {65536, 65536};
    setrlimit(RLIMIT_NOFILE, &files);
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_TIMERSLACK, 1000); /* 1 us: the default of 50 would be counted as latency */
    poller = epoll_create1(0);
    port = atoi(argv[2]);
    read_request(argv[3]);
    int total = atoi(argv[4]);
    bool exact = strcmp(argv[1], "exact") == 0;
    conns = calloc((size_t)total, sizeof *conns);
    idle = calloc((size_t)total, sizeof *idle);
    for (int i = 0; i < total; i++) { dial(&conns[i]); free_conn(&conns[i]); }
    uint64_t begin = now_ns(), end = begin + (uint64_t)((exact ? 60 : atof(argv[5])) * 1e9);
    size_t waiting = 0;
    if (strcmp(argv[1], "idle") == 0) { run_idle(end, total); return 0; }
    if (strcmp(argv[1], "open") == 0) waiting = run_open(begin, end, atof(argv[6]), total);
    else run_closed(end, exact ? strtoull(argv[5], NULL, 10) : 0, total);
    tell_all(now_ns() - begin, total - free_len, waiting);
    return 0;
}
