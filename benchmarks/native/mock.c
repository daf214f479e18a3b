/* The upstream of the benchmark: one process, epoll, HTTP/1.1 with keep-alive.
 *
 *     mock PORT
 *
 * POST (any path) answers a chat completion, whole or as a stream. What a stream is like is said in
 * the prompt, since every gateway passes that on:
 *
 *     [[burst 64]]     64 content events in one write
 *     [[paced 64 5]]   64 content events, one every 5 ms, each with the time it was sent
 *     [[idle]]         one content event, then nothing until the client closes
 *
 * GET /bench/stats tells what was seen since GET /bench/reset; every other GET is 200.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
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
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MODELS 16
#define EVENT 1024 /* bytes that one event needs at most, its chunk's frame included */

typedef struct {
    int fd;
    char *in, *out;
    size_t in_len, in_cap, need, body_at; /* need: bytes of the request, once its head was read */
    size_t out_len, out_cap, out_sent;
    bool chunked, streaming, writing, dead;
    int left, number, slot; /* slot: place in `paced`, -1: none */
    bool usage;
    uint64_t gap, due;
    char model[64];
} Conn;

typedef struct { char name[64]; uint64_t count; } Seen;

static int poller;
static Conn **paced;
static int paced_len, paced_cap;
static struct { uint64_t requests, streams, usage_asked, bytes; Seen models[MODELS]; } stats;

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void room(char **buffer, size_t *cap, size_t wanted) {
    if (wanted <= *cap) return;
    while (*cap < wanted) *cap = *cap ? *cap * 2 : 16384;
    if (!(*buffer = realloc(*buffer, *cap))) abort();
}

static void put(Conn *c, const char *data, size_t len) {
    room(&c->out, &c->out_cap, c->out_len + len);
    memcpy(c->out + c->out_len, data, len);
    c->out_len += len;
}

static void watch(Conn *c, bool writing) {
    if (c->writing == writing) return;
    c->writing = writing;
    struct epoll_event e = {.events = EPOLLIN | (writing ? EPOLLOUT : 0), .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &e);
}

static void flush_out(Conn *c) {
    while (c->out_sent < c->out_len) {
        ssize_t n = send(c->fd, c->out + c->out_sent, c->out_len - c->out_sent, MSG_NOSIGNAL);
        if (n < 0) {
            if (errno != EAGAIN) c->dead = true;
            else watch(c, true);
            return;
        }
        c->out_sent += (size_t)n;
    }
    c->out_len = c->out_sent = 0;
    watch(c, false);
}

/* The value of a field, wherever it stands; NULL: there is none. */
static const char *field(const char *body, size_t len, const char *name) {
    char quoted[64];
    int size = snprintf(quoted, sizeof quoted, "\"%s\"", name);
    const char *at = body, *end = body + len;
    while ((at = memmem(at, (size_t)(end - at), quoted, (size_t)size))) {
        at += size;
        while (at < end && *at == ' ') at++;
        if (at < end && *at == ':') {
            at++;
            while (at < end && *at == ' ') at++;
            return at < end ? at : NULL;
        }
    }
    return NULL;
}

static bool is_true(const char *value, const char *end) {
    return value && end - value >= 4 && memcmp(value, "true", 4) == 0;
}

static void name_model(Conn *c, const char *body, size_t len) {
    const char *value = field(body, len, "model"), *end = body + len;
    size_t size = 0;
    if (value && *value == '"')
        for (value++; value + size < end && value[size] != '"' && size < sizeof c->model - 1;) size++;
    memcpy(c->model, size ? value : "none", size ? size : 4);
    c->model[size ? size : 4] = 0;
    for (int i = 0; i < MODELS; i++) {
        if (!stats.models[i].name[0]) strcpy(stats.models[i].name, c->model);
        if (strcmp(stats.models[i].name, c->model) == 0) { stats.models[i].count++; return; }
    }
}

static const char ID[] = "chatcmpl-CkQ3vW8nTzJ5yRb2Lx0HqMfUaPd7E";

static void put_event(Conn *c, const char *choices, bool last_usage) {
    /* As OpenAI's: with usage asked, it is null on all events but the last; obfuscation pads. */
    static const char pad[] = "Zk3Qv9TtB1xWcR8y";
    char event[EVENT], frame[16];
    int n = snprintf(event, sizeof event,
        "data: {\"id\":\"%s\",\"object\":\"chat.completion.chunk\",\"created\":1763745600,"
        "\"model\":\"%s\",\"service_tier\":\"default\",\"system_fingerprint\":\"fp_44709d6fcb\","
        "\"choices\":[%s]%s,\"obfuscation\":\"%.*s\"}\n\n",
        ID, c->model, choices,
        last_usage ? ",\"usage\":{\"prompt_tokens\":18,\"completion_tokens\":12,\"total_tokens\":30,"
                     "\"prompt_tokens_details\":{\"cached_tokens\":0,\"audio_tokens\":0},"
                     "\"completion_tokens_details\":{\"reasoning_tokens\":0}}"
        : c->usage ? ",\"usage\":null" : "",
        1 + c->number * 7 % 16, pad);
    put(c, frame, (size_t)snprintf(frame, sizeof frame, "%x\r\n", n));
    put(c, event, (size_t)n);
    put(c, "\r\n", 2);
    c->number++;
}

static void put_content(Conn *c, uint64_t sent) {
    char choice[256];
    snprintf(choice, sizeof choice,
        "{\"index\":0,\"delta\":{\"content\":\"@%019llu \"},\"logprobs\":null,\"finish_reason\":null}",
        (unsigned long long)sent);
    put_event(c, choice, false);
}

static void put_end(Conn *c) {
    put_event(c, "{\"index\":0,\"delta\":{},\"logprobs\":null,\"finish_reason\":\"stop\"}", false);
    if (c->usage) put_event(c, "", true);
    put(c, "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n", 24);
}

static void begin_stream(Conn *c, const char *body, size_t len) {
    static const char head[] =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
        "x-request-id: req_5f0d1c7a9e\r\nopenai-processing-ms: 2\r\n"
        "transfer-encoding: chunked\r\n\r\n";
    const char *mode = memmem(body, len, "[[", 2);
    int events = 16, gap = 0;
    bool idle = false;
    if (mode) {
        char text[64] = {0};
        size_t size = (size_t)(body + len - mode);
        memcpy(text, mode, size < sizeof text - 1 ? size : sizeof text - 1);
        idle = strncmp(text, "[[idle", 6) == 0;
        if (sscanf(text, "[[paced %d %d", &events, &gap) < 2) sscanf(text, "[[burst %d", &events);
    }
    stats.streams++;
    c->number = 0;
    put(c, head, sizeof head - 1);
    put_event(c, "{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\",\"refusal\":null},"
                 "\"logprobs\":null,\"finish_reason\":null}", false);
    if (!gap && !idle) { /* the text of a burst is the same for all: made once */
        static char key[96], wanted[96], *text;
        static size_t made, cap;
        size_t from = c->out_len;
        snprintf(wanted, sizeof wanted, "%s %d %d", c->model, events, c->usage);
        if (strcmp(key, wanted) == 0) { put(c, text, made); return; }
        for (int i = 0; i < events; i++) put_content(c, 0);
        put_end(c);
        made = c->out_len - from;
        room(&text, &cap, made);
        memcpy(text, c->out + from, made);
        strcpy(key, wanted);
        return;
    }
    uint64_t now = now_ns();
    put_content(c, now);
    c->streaming = true;
    if (idle) return;
    c->left = events - 1;
    c->gap = (uint64_t)gap * 1000000u;
    c->due = now + c->gap;
    if (paced_len == paced_cap) {
        paced_cap = paced_cap ? paced_cap * 2 : 256;
        if (!(paced = realloc(paced, (size_t)paced_cap * sizeof *paced))) abort();
    }
    c->slot = paced_len;
    paced[paced_len++] = c;
}

static void put_whole(Conn *c, const char *json, int len) {
    char head[256];
    put(c, head, (size_t)snprintf(head, sizeof head,
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-request-id: req_5f0d1c7a9e\r\n"
        "openai-processing-ms: 2\r\ncontent-length: %d\r\n\r\n", len));
    put(c, json, (size_t)len);
}

static void answer_chat(Conn *c, const char *body, size_t len) {
    const char *end = body + len;
    stats.requests++;
    stats.bytes += len;
    name_model(c, body, len);
    c->usage = is_true(field(body, len, "include_usage"), end);
    stats.usage_asked += c->usage;
    if (is_true(field(body, len, "stream"), end)) { begin_stream(c, body, len); return; }
    char json[1024];
    put_whole(c, json, snprintf(json, sizeof json,
        "{\"id\":\"%s\",\"object\":\"chat.completion\",\"created\":1763745600,\"model\":\"%s\","
        "\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"The quick brown "
        "fox jumps over the lazy dog, twice.\",\"refusal\":null,\"annotations\":[]},\"logprobs\":null,"
        "\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":18,\"completion_tokens\":12,"
        "\"total_tokens\":30,\"prompt_tokens_details\":{\"cached_tokens\":0,\"audio_tokens\":0},"
        "\"completion_tokens_details\":{\"reasoning_tokens\":0,\"audio_tokens\":0}},"
        "\"service_tier\":\"default\",\"system_fingerprint\":\"fp_44709d6fcb\"}", ID, c->model));
}

static void answer_get(Conn *c, const char *path) {
    char json[2048];
    int n;
    if (strncmp(path, "/bench/reset", 12) == 0) memset(&stats, 0, sizeof stats);
    if (strncmp(path, "/bench/", 7) == 0) {
        n = snprintf(json, sizeof json, "{\"requests\":%llu,\"streams\":%llu,\"usage_asked\":%llu,"
            "\"bytes\":%llu,\"models\":{", (unsigned long long)stats.requests,
            (unsigned long long)stats.streams, (unsigned long long)stats.usage_asked,
            (unsigned long long)stats.bytes);
        for (int i = 0; i < MODELS && stats.models[i].name[0]; i++)
            n += snprintf(json + n, sizeof json - (size_t)n, "%s\"%s\":%llu", i ? "," : "",
                stats.models[i].name, (unsigned long long)stats.models[i].count);
        n += snprintf(json + n, sizeof json - (size_t)n, "}}");
    } else if (strncmp(path, "/v1/models", 10) == 0) {
        n = snprintf(json, sizeof json, "{\"object\":\"list\",\"data\":[{\"id\":\"gpt-mock\","
            "\"object\":\"model\",\"created\":1763745600,\"owned_by\":\"mock\"}]}");
    } else {
        n = snprintf(json, sizeof json, "{\"status\":\"ok\",\"model_path\":\"gpt-mock\","
            "\"served_model_name\":\"gpt-mock\",\"is_generation\":true}");
    }
    put_whole(c, json, n);
}

/* Bytes that a chunked body takes, its end included; 0: it isn't all there. */
static size_t chunked_size(const char *body, size_t len) {
    size_t at = 0;
    for (;;) {
        const char *line = memmem(body + at, len - at, "\r\n", 2);
        if (!line) return 0;
        size_t size = strtoul(body + at, NULL, 16);
        at = (size_t)(line - body) + 2 + size + 2;
        if (at > len) return 0;
        if (size == 0) return at;
    }
}

static bool read_head(Conn *c) {
    char *end = memmem(c->in, c->in_len, "\r\n\r\n", 4);
    if (!end) return false;
    *end = 0;
    c->body_at = (size_t)(end - c->in) + 4;
    char *length = strcasestr(c->in, "\r\ncontent-length:");
    c->chunked = strcasestr(c->in, "\r\ntransfer-encoding: chunked") != NULL;
    c->need = c->body_at + (length ? strtoul(length + 17, NULL, 10) : 0);
    if (strcasestr(c->in, "\r\nexpect: 100-continue"))
        put(c, "HTTP/1.1 100 Continue\r\n\r\n", 25);
    return true;
}

/* One request, when it is all there. False: there is none. */
static bool take(Conn *c) {
    if (c->streaming || c->in_len == 0) return false;
    if (!c->need && !read_head(c)) return false;
    if (c->chunked) {
        size_t size = chunked_size(c->in + c->body_at, c->in_len - c->body_at);
        if (!size) return false;
        c->need = c->body_at + size;
    }
    if (c->in_len < c->need) return false;
    if (strncmp(c->in, "POST ", 5) == 0)
        answer_chat(c, c->in + c->body_at, c->need - c->body_at);
    else
        answer_get(c, strchr(c->in, ' ') ? strchr(c->in, ' ') + 1 : "");
    c->in_len -= c->need;
    memmove(c->in, c->in + c->need, c->in_len);
    c->need = 0;
    return true;
}

static void leave_paced(Conn *c) {
    if (c->slot < 0) return;
    paced[c->slot] = paced[--paced_len];
    paced[c->slot]->slot = c->slot;
    c->slot = -1;
}

static void serve(Conn *c) {
    while (take(c)) {}
    if (c->out_len) flush_out(c);
}

static void on_input(Conn *c) {
    for (;;) {
        room(&c->in, &c->in_cap, (c->need > c->in_len ? c->need : c->in_len) + 16384);
        size_t space = c->in_cap - c->in_len - 1;
        ssize_t n = recv(c->fd, c->in + c->in_len, space, 0);
        if (n == 0 || (n < 0 && errno != EAGAIN)) { c->dead = true; return; }
        if (n < 0) break;
        c->in_len += (size_t)n;
        c->in[c->in_len] = 0;
        if ((size_t)n < space) break;
    }
    serve(c);
}

static void close_conn(Conn *c) {
    leave_paced(c);
    close(c->fd);
    free(c->in);
    free(c->out);
    free(c);
}

/* Sends what is due; returns when the next event is, 0: never. */
static uint64_t pace(void) {
    uint64_t next = 0;
    for (int i = 0; i < paced_len;) {
        Conn *c = paced[i];
        uint64_t now = now_ns();
        if (c->due <= now) {
            put_content(c, now);
            c->due += c->gap;
            if (--c->left <= 0) {
                put_end(c);
                c->streaming = false;
                leave_paced(c);
                serve(c);
                continue; /* another stands in this place now; a dead one is told by epoll */
            }
            flush_out(c);
        }
        if (!next || c->due < next) next = c->due;
        i++;
    }
    return next;
}

static int listen_on(int port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (bind(fd, (struct sockaddr *)&a, sizeof a) || listen(fd, 4096)) {
        perror("mock: listen");
        exit(1);
    }
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(poller, EPOLL_CTL_ADD, fd, &e);
    return fd;
}

static void accept_all(int listener) {
    int fd, on = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        Conn *c = calloc(1, sizeof *c);
        if (!c) abort();
        c->fd = fd;
        c->slot = -1;
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
        epoll_ctl(poller, EPOLL_CTL_ADD, fd, &e);
    }
}

int main(int argc, char **argv) {
    if (argc != 2) { fprintf(stderr, "usage: mock PORT\n"); return 2; }
    signal(SIGPIPE, SIG_IGN);
    poller = epoll_create1(0);
    int listener = listen_on(atoi(argv[1]));
    struct epoll_event ready[512];
    for (;;) {
        uint64_t next = pace(), now = now_ns(), wait = next > now ? next - now : 0;
        struct timespec until = {(time_t)(wait / 1000000000u), (long)(wait % 1000000000u)};
        int n = epoll_pwait2(poller, ready, 512, next ? &until : NULL, NULL);
        for (int i = 0; i < n; i++) {
            Conn *c = ready[i].data.ptr;
            if (!c) { accept_all(listener); continue; }
            if (ready[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) on_input(c);
            if (!c->dead && (ready[i].events & EPOLLOUT)) { flush_out(c); serve(c); }
            if (c->dead) close_conn(c);
        }
    }
}
