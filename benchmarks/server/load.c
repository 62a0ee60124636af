/* Load for an echo server, by one thread, so that the server is the limit and not this.

   load PORT CONNECTIONS SIZE AT_ONCE SHORT

   Opens the connections, lets each echo once, says "ready", and waits for a line that says for how many seconds. Then
   so many requests are under way at once, each on the connection that has waited longest. SHORT is 1: each request
   opens a connection of its own, and closes it. At the end: requests, errors, seconds, and microseconds of the median
   and of the 99th percentile, on a line. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define FINE 1000000 /* of the histogram: a bucket for each microsecond, up to a second */

typedef struct {
    int fd;
    size_t sent, received; /* of the request under way */
    double began;
} Connection;

static int port, size, is_short, poller;
static long requests, errors, histogram[FINE];
static char *message, *scratch;
static Connection *connections;
static int *waiting, first_waiting, count_waiting, capacity; /* a ring of connections */

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static void watch(int index, int events, int how) {
    struct epoll_event event = {.events = events, .data.u32 = index};
    if (epoll_ctl(poller, how, connections[index].fd, &event) < 0) perror("epoll_ctl"), exit(1);
}

static void dial(int index) {
    static unsigned turn; /* many addresses of our own: each has but 28,000 ports */
    int yes = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (fd < 0) perror("socket"), exit(1);
    struct sockaddr_in own = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000002 + turn++ % 200)};
    struct sockaddr_in theirs = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &yes, sizeof yes);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    if (bind(fd, (void *)&own, sizeof own) < 0) perror("bind"), exit(1);
    if (connect(fd, (void *)&theirs, sizeof theirs) < 0 && errno != EINPROGRESS) perror("connect"), exit(1);
    connections[index].fd = fd;
    watch(index, EPOLLIN | EPOLLOUT, EPOLL_CTL_ADD);
}

static void begin(int index) {
    Connection *one = &connections[index];
    one->sent = one->received = 0;
    one->began = now();
    if (is_short) dial(index);
    else {
        ssize_t done = send(one->fd, message, size, 0);
        one->sent = done < 0 ? 0 : done;
        if (one->sent < (size_t)size) watch(index, EPOLLIN | EPOLLOUT, EPOLL_CTL_MOD);
    }
}

static void put_waiting(int index) { waiting[(first_waiting + count_waiting++) % capacity] = index; }

static void begin_next(void) {
    int index = waiting[first_waiting];
    first_waiting = (first_waiting + 1) % capacity;
    count_waiting--;
    begin(index);
}

/* It has ended; well, or not. */
static void end(int index, int well) {
    Connection *one = &connections[index];
    long micros = (now() - one->began) * 1e6;
    histogram[micros < FINE ? micros : FINE - 1]++;
    requests++;
    errors += !well;
    if (is_short) close(one->fd);
    else if (!well) fprintf(stderr, "a connection was closed\n"), exit(1);
}

/* Go on with what is under way there. 1: it has ended. */
static int go_on(int index, int events) {
    Connection *one = &connections[index];
    if (events & EPOLLOUT && one->sent < (size_t)size) {
        ssize_t done = send(one->fd, message + one->sent, size - one->sent, MSG_NOSIGNAL);
        if (done < 0 && errno != EAGAIN) return end(index, 0), 1;
        if (done > 0) one->sent += done;
        if (one->sent == (size_t)size) watch(index, EPOLLIN, EPOLL_CTL_MOD);
    }
    if (events & ~EPOLLOUT) {
        ssize_t done = recv(one->fd, scratch, size, 0);
        if (done < 0 && errno == EAGAIN) return 0;
        if (done <= 0) return end(index, 0), 1;
        one->received += done;
        if (one->received == (size_t)size) return end(index, !memcmp(scratch, message, 1)), 1;
    }
    return 0;
}

/* Until all have ended that are under way, or, while time is left, for ever. */
static void turn(double until, int under_way) {
    struct epoll_event events[512];
    while (under_way) {
        int found = epoll_wait(poller, events, 512, 5000);
        if (found <= 0) fprintf(stderr, "no answer for 5 s\n"), exit(1);
        int goes_on = now() < until;
        for (int i = 0; i < found; i++) {
            if (!go_on(events[i].data.u32, events[i].events)) continue;
            put_waiting(events[i].data.u32);
            if (goes_on) begin_next();
            else under_way--;
        }
    }
}

static long percentile(double share) {
    long wanted = requests * share;
    for (int micros = 0; micros < FINE; micros++)
        if ((wanted -= histogram[micros]) < 0) return micros;
    return FINE;
}

int main(int argc, char **argv) {
    if (argc != 6) return fprintf(stderr, "usage: load PORT CONNECTIONS SIZE AT_ONCE SHORT\n"), 2;
    port = atoi(argv[1]), capacity = atoi(argv[2]), size = atoi(argv[3]);
    int at_once = atoi(argv[4]), is_to_be_short = atoi(argv[5]);
    signal(SIGPIPE, SIG_IGN);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    poller = epoll_create1(0);
    connections = calloc(capacity, sizeof *connections);
    waiting = calloc(capacity, sizeof *waiting);
    message = malloc(size), scratch = malloc(size);
    memset(message, 'x', size);

    is_short = is_to_be_short;
    for (int i = 0; i < capacity; i++) put_waiting(i);
    if (!is_short)
        for (int done = 0; done < capacity; done += 100) { /* not more at once than a backlog holds */
            int some = capacity - done < 100 ? capacity - done : 100;
            for (int i = 0; i < some; i++) {
                int index = waiting[first_waiting];
                first_waiting = (first_waiting + 1) % capacity, count_waiting--;
                connections[index].began = now();
                dial(index);
            }
            turn(0, some);
        }
    printf("ready\n"), fflush(stdout);

    double seconds;
    if (scanf("%lf", &seconds) != 1) return 1;
    requests = 0, memset(histogram, 0, sizeof histogram);
    double began = now();
    for (int i = 0; i < at_once; i++) begin_next();
    turn(began + seconds, at_once);
    printf("%ld %ld %f %ld %ld\n", requests, errors, now() - began, percentile(0.5), percentile(0.99));
    return 0;
}
