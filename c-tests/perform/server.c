/* The tests' scripted server (support/server.h) for programs that are not ours: says its ports and
 * runs until it is ended. */
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "server.h"

int main(int argc, char **argv) {
  static const char *const names[] = {"HTTP",   "HTTPS",     NULL,      "REFUSED",
                                      "SILENT", "BLACKHOLE", "CLOSING", "RESETTING"};
  server_options options = {.cert_file = argc > 2 ? argv[1] : NULL,
                            .key_file = argc > 2 ? argv[2] : NULL};
  server_t *server = server_start(&options);
  if (!server)
    return 1;
  for (int kind = 0; kind < SERVER_PORT_KINDS && kind < (int)(sizeof names / sizeof *names); kind++)
    if (names[kind])
      printf("UVCURL_TEST_%s=%d\n", names[kind], server_port(server, (enum server_port_kind)kind));
  printf("UVCURL_TEST_SERVER=ready\n");
  fflush(stdout);
  sigset_t ends;
  sigemptyset(&ends);
  sigaddset(&ends, SIGTERM);
  sigprocmask(SIG_BLOCK, &ends, NULL);
  int signal;
  sigwait(&ends, &signal);
  server_stop(server);
  return 0;
}
