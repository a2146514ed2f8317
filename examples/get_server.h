/* A small HTTP server for get.c to fetch from when it is given no URL; it has no part in uvcurl. */
#ifndef GET_SERVER_H
#define GET_SERVER_H

#include <sys/types.h>

#define GET_SERVER_MAX_SIZE (1024L * 1024L)

struct get_server {
  pid_t pid;
  int port;
  int lifeline; /* closing it, by will or by dying, is what ends the server */
};

/* Serves http://127.0.0.1:PORT/SIZE/ANYTHING, SIZE bytes each, from a child process, so that its
   work is not on the caller's loop. Call it before the first loop exists: a libuv loop must not be
   used on both sides of a fork. Returns 0 or a negative libuv error. */
int get_server_start(struct get_server *server);

/* Ends the child and waits for it. Returns 0 if it had served without trouble. */
int get_server_stop(struct get_server *server);

#endif
