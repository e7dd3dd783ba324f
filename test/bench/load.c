/*
 * Load generator of the benchmark: HTTP/1.1 keep-alive over one epoll loop, a different body in every request.
 *
 *   load PORT PATH MODEL CONNECTIONS REQUESTS RATE [HEADER...]
 *
 * RATE 0 is a closed loop (each connection sends its next request when its answer is complete). Any other RATE is an
 * open loop of that many requests per second; latency is then counted from the time a request was due, so a stall of
 * the server is charged to every request it delays. Each answer must have status 200 and contain the marker of its own
 * request. Prints one line of JSON.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define BUFFER 65536

struct connection {
  int fd;
  int busy;
  long serial;
  uint64_t due;
  size_t out_at, out_length, in_length;
  char out[BUFFER], in[BUFFER];
};

static const char *path, *model;
static char headers[8192];
static struct sockaddr_in address;
static long total, sent, completed, failed;
static uint64_t *latencies;
static char first_failure[600];
static char padding[1400];

static uint64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static void fail(const char *why, const char *detail, size_t length) {
  failed++;
  if (first_failure[0] != 0) return;
  size_t at = (size_t)snprintf(first_failure, 200, "%s: ", why);
  for (size_t i = 0; i < length && i < 300 && at < sizeof first_failure - 1; i++) {
    unsigned char c = (unsigned char)detail[i];
    first_failure[at++] = c < 32 || c > 126 || c == '"' || c == '\\' ? ' ' : (char)c;
  }
  first_failure[at] = 0;
}

static void dial(struct connection *c) {
  c->fd = socket(AF_INET, SOCK_STREAM, 0);
  int on = 1;
  setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (connect(c->fd, (struct sockaddr *)&address, sizeof address) != 0) {
    perror("connect");
    exit(2);
  }
  fcntl(c->fd, F_SETFL, O_NONBLOCK);
  c->busy = 0;
}

static void flush(struct connection *c) {
  while (c->out_at < c->out_length) {
    ssize_t n = write(c->fd, c->out + c->out_at, c->out_length - c->out_at);
    if (n < 0) return;
    c->out_at += (size_t)n;
  }
}

static void begin(struct connection *c, uint64_t due) {
  char body[4096];
  c->serial = sent++;
  c->due = due;
  c->busy = 1;
  int length = snprintf(body, sizeof body,
                        "{\"model\":\"%s\",\"messages\":[{\"role\":\"system\",\"content\":\"%s\"},"
                        "{\"role\":\"user\",\"content\":\"marker-%08ld\"}],\"max_tokens\":64,"
                        "\"temperature\":0.2,\"user\":\"end-%08ld\"}",
                        model, padding, c->serial, c->serial);
  c->out_length = (size_t)snprintf(c->out, BUFFER,
                                   "POST %s HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
                                   "%scontent-length: %d\r\n\r\n%s",
                                   path, headers, length, body);
  c->out_at = 0;
  c->in_length = 0;
  flush(c);
}

/* 1: the answer is complete, 0: more to come, -1: it cannot be understood */
static int complete(struct connection *c) {
  c->in[c->in_length] = 0;
  char *end = memmem(c->in, c->in_length, "\r\n\r\n", 4);
  if (end == NULL) return 0;
  size_t head = (size_t)(end - c->in) + 4;
  char saved = *end;
  *end = 0;
  char *length = strcasestr(c->in, "\r\ncontent-length:");
  char *chunked = strcasestr(c->in, "\r\ntransfer-encoding: chunked");
  *end = saved;
  if (length != NULL) return c->in_length >= head + strtoul(length + 17, NULL, 10);
  if (chunked != NULL) return c->in_length >= head + 5 && memcmp(c->in + c->in_length - 5, "0\r\n\r\n", 5) == 0;
  return -1;
}

static void finish(struct connection *c) {
  char marker[32];
  snprintf(marker, sizeof marker, "marker-%08ld", c->serial);
  if (strncmp(c->in, "HTTP/1.1 200", 12) != 0) fail("status", c->in, c->in_length);
  else if (strstr(c->in, marker) == NULL) fail("the answer is to another request", c->in, c->in_length);
  latencies[completed++] = now() - c->due;
  c->busy = 0;
}

static void receive(struct connection *c) {
  for (;;) {
    ssize_t n = read(c->fd, c->in + c->in_length, BUFFER - 1 - c->in_length);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) {
      if (c->busy) {
        fail("the connection closed", c->in, c->in_length);
        latencies[completed++] = now() - c->due;
      }
      close(c->fd);
      dial(c);
      return;
    }
    c->in_length += (size_t)n;
    int state = c->busy ? complete(c) : -1;
    if (state < 0) {
      fail("no answer that can be understood", c->in, c->in_length);
      exit(2);
    }
    if (state > 0) {
      finish(c);
      return;
    }
  }
}

static int compare(const void *a, const void *b) {
  uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return x < y ? -1 : x > y;
}

int main(int argc, char **argv) {
  if (argc < 7) {
    fprintf(stderr, "load PORT PATH MODEL CONNECTIONS REQUESTS RATE [HEADER...]\n");
    return 2;
  }
  address.sin_family = AF_INET;
  address.sin_port = htons((uint16_t)atoi(argv[1]));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  path = argv[2];
  model = argv[3];
  int connections = atoi(argv[4]);
  total = atol(argv[5]);
  double rate = atof(argv[6]);
  for (int i = 7; i < argc; i++) {
    strncat(headers, argv[i], sizeof headers - strlen(headers) - 3);
    strcat(headers, "\r\n");
  }
  for (size_t i = 0; i < sizeof padding - 1; i++) padding[i] = "benchmark words "[i % 16];
  latencies = calloc((size_t)total + 1, sizeof *latencies);

  int poll = epoll_create1(0), timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
  struct connection *all = calloc((size_t)connections, sizeof *all);
  for (int i = 0; i < connections; i++) {
    dial(&all[i]);
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = (uint32_t)i};
    epoll_ctl(poll, EPOLL_CTL_ADD, all[i].fd, &event);
  }
  struct epoll_event tick = {.events = EPOLLIN, .data.u32 = UINT32_MAX};
  if (rate > 0) epoll_ctl(poll, EPOLL_CTL_ADD, timer, &tick);

  uint64_t start = now();
  int next = 0;
  while (completed < total) {
    /* Start what may start: everything idle in a closed loop, everything due in an open one. */
    for (int tried = 0; tried < connections && sent < total; tried++, next = (next + 1) % connections) {
      if (all[next].busy) continue;
      uint64_t due = rate > 0 ? start + (uint64_t)((double)sent * 1e9 / rate) : now();
      if (due > now()) break;
      begin(&all[next], due);
    }
    if (rate > 0 && sent < total) {
      uint64_t due = start + (uint64_t)((double)sent * 1e9 / rate), at = now();
      uint64_t delay = due > at ? due - at : 50000;
      struct itimerspec when = {.it_value = {(time_t)(delay / 1000000000ull), (long)(delay % 1000000000ull)}};
      timerfd_settime(timer, 0, &when, NULL);
    }
    struct epoll_event events[256];
    int count = epoll_wait(poll, events, 256, 30000);
    if (count == 0) {
      fail("nothing came for 30 seconds", "", 0);
      break;
    }
    for (int i = 0; i < count; i++) {
      if (events[i].data.u32 == UINT32_MAX) {
        uint64_t expirations;
        if (read(timer, &expirations, sizeof expirations) < 0) continue;
        continue;
      }
      struct connection *c = &all[events[i].data.u32];
      int before = c->fd;
      if (c->out_at < c->out_length) flush(c);
      receive(c);
      if (c->fd != before || !c->busy) {
        struct epoll_event again = {.events = EPOLLIN, .data.u32 = events[i].data.u32};
        if (epoll_ctl(poll, EPOLL_CTL_MOD, c->fd, &again) != 0) epoll_ctl(poll, EPOLL_CTL_ADD, c->fd, &again);
      }
    }
  }
  double seconds = (double)(now() - start) / 1e9;
  qsort(latencies, (size_t)completed, sizeof *latencies, compare);
  uint64_t p50 = completed ? latencies[completed / 2] : 0, p99 = completed ? latencies[completed * 99 / 100] : 0;
  printf("{\"completed\":%ld,\"failed\":%ld,\"seconds\":%.6f,\"p50us\":%.1f,\"p99us\":%.1f,\"failure\":\"%s\"}\n", completed,
         failed, seconds, (double)p50 / 1e3, (double)p99 / 1e3, first_failure);
  return 0;
}
