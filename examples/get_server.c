#include "get_server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif
#include <uv.h>

struct client {
  uv_tcp_t tcp;
  uv_write_t write;
  char head[128];
  char request[4096];
  size_t used;
  int answering;
};

static char body[GET_SERVER_MAX_SIZE];

static void read_request(struct client *client);

static void on_client_closed(uv_handle_t *handle) {
  free(handle->data);
}

static void drop(struct client *client) {
  if (!uv_is_closing((uv_handle_t *)&client->tcp))
    uv_close((uv_handle_t *)&client->tcp, on_client_closed);
}

static void on_written(uv_write_t *write, int status) {
  struct client *client = write->data;

  client->answering = 0;
  if (status)
    drop(client);
  else
    read_request(client);
}

static void answer(struct client *client) {
  long size = -1;
  int matched = 0;
  uv_buf_t parts[2];

  sscanf(client->request, "GET /%7ld/%*[^ ] HTTP/1.1\r%n", &size, &matched);
  if (matched && size >= 0 && size <= GET_SERVER_MAX_SIZE) {
    snprintf(client->head, sizeof client->head,
             "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"
             "Content-Length: %ld\r\n\r\n",
             size);
  } else {
    size = 0;
    strcpy(client->head, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
  }
  parts[0] = uv_buf_init(client->head, (unsigned)strlen(client->head));
  parts[1] = uv_buf_init(body, (unsigned)size);
  client->write.data = client;
  client->answering = 1;
  if (uv_write(&client->write, (uv_stream_t *)&client->tcp, parts, size ? 2 : 1, on_written))
    drop(client);
}

/* Answers the first whole request that has come in; the next one waits until that is written. */
static void read_request(struct client *client) {
  char *end;

  client->request[client->used] = '\0';
  end = strstr(client->request, "\r\n\r\n");
  if (!end || client->answering)
    return;
  end += 4;
  answer(client);
  client->used -= (size_t)(end - client->request);
  memmove(client->request, end, client->used);
}

static void on_room(uv_handle_t *handle, size_t suggested, uv_buf_t *buf) {
  struct client *client = handle->data;

  (void)suggested;
  /* No room left means a request far longer than any of ours: libuv reports UV_ENOBUFS. */
  *buf = uv_buf_init(client->request + client->used,
                     (unsigned)(sizeof client->request - 1 - client->used));
}

static void on_read(uv_stream_t *stream, ssize_t got, const uv_buf_t *buf) {
  struct client *client = stream->data;

  (void)buf;
  if (got < 0) {
    drop(client);
  } else {
    client->used += (size_t)got;
    read_request(client);
  }
}

static void on_connection(uv_stream_t *listener, int status) {
  struct client *client;

  if (status)
    return;
  client = calloc(1, sizeof *client);
  if (!client || uv_tcp_init(listener->loop, &client->tcp)) {
    free(client);
    return;
  }
  client->tcp.data = client;
  uv_tcp_nodelay(&client->tcp, 1);
  if (uv_accept(listener, (uv_stream_t *)&client->tcp) ||
      uv_read_start((uv_stream_t *)&client->tcp, on_room, on_read))
    drop(client);
}

static void close_any(uv_handle_t *handle, void *listener_and_lifeline) {
  uv_handle_t **plain = listener_and_lifeline;

  if (uv_is_closing(handle))
    return;
  uv_close(handle, handle == plain[0] || handle == plain[1] ? NULL : on_client_closed);
}

static void on_lifeline_room(uv_handle_t *handle, size_t suggested, uv_buf_t *buf) {
  static char unused[16];

  (void)handle;
  (void)suggested;
  *buf = uv_buf_init(unused, sizeof unused);
}

static void on_lifeline(uv_stream_t *stream, ssize_t got, const uv_buf_t *buf) {
  (void)buf;
  if (got < 0)
    uv_stop(stream->loop);
}

static int serve(int listening, int lifeline) {
  uv_loop_t loop;
  uv_tcp_t listener;
  uv_pipe_t parent;
  uv_handle_t *plain[] = {(uv_handle_t *)&listener, (uv_handle_t *)&parent};
  size_t i;

  for (i = 0; i < sizeof body; i++)
    body[i] = (char)('a' + i % 26);
  if (uv_loop_init(&loop) || uv_tcp_init(&loop, &listener) || uv_pipe_init(&loop, &parent, 0) ||
      uv_tcp_open(&listener, listening) || uv_pipe_open(&parent, lifeline) ||
      uv_listen((uv_stream_t *)&listener, 4096, on_connection) ||
      uv_read_start((uv_stream_t *)&parent, on_lifeline_room, on_lifeline))
    return 1;
  uv_run(&loop, UV_RUN_DEFAULT);
  uv_walk(&loop, close_any, plain);
  uv_run(&loop, UV_RUN_DEFAULT);
  return uv_loop_close(&loop) != 0;
}

/* Bound to the loopback address only, so that nothing outside this machine can reach it; listening
   already, so that the first connection need not wait for the child to be up. */
static int listen_on_loopback(int *port) {
  struct sockaddr_in address = {0};
  socklen_t size = sizeof address;
  int fd = socket(AF_INET, SOCK_STREAM, 0);

  if (fd < 0)
    return -1;
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (bind(fd, (struct sockaddr *)&address, size) || listen(fd, 4096) ||
      getsockname(fd, (struct sockaddr *)&address, &size)) {
    int error = errno;
    close(fd);
    errno = error;
    return -1;
  }
  *port = ntohs(address.sin_port);
  return fd;
}

int get_server_start(struct get_server *server) {
  int listening, lifeline[2], error;

  listening = listen_on_loopback(&server->port);
  if (listening < 0)
    return uv_translate_sys_error(errno);
  if (pipe(lifeline)) {
    error = errno;
    close(listening);
    return uv_translate_sys_error(error);
  }
  server->pid = fork();
  error = errno;
  if (server->pid == 0) {
    close(lifeline[1]);
#ifdef __linux__
    prctl(PR_SET_PDEATHSIG, SIGKILL);
#endif
    /* Ctrl-C goes to the whole foreground group; when to stop is the parent's to say. */
    signal(SIGINT, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    _exit(serve(listening, lifeline[0]));
  }
  close(listening);
  close(lifeline[0]);
  if (server->pid < 0) {
    close(lifeline[1]);
    return uv_translate_sys_error(error);
  }
  server->lifeline = lifeline[1];
  return 0;
}

int get_server_stop(struct get_server *server) {
  int status;

  close(server->lifeline);
  while (waitpid(server->pid, &status, 0) < 0)
    if (errno != EINTR)
      return -1;
  return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -1;
}
