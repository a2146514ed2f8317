// The header from C++.
#include "fixture.h"

#include <csignal>
#include <cstdio>
#include <memory>
#include <stdexcept>
#include <string>

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static_assert(UVCURL_VERSION_NUMBER > 0, "usable in a constant expression");

TEST(transfer_with_lambdas) {
  struct result {
    int done = 0, status = -1;
    std::string body;
    bool closed = false;
  } r;
  fixture f;
  char url[200];
  fixture_open(&f);
  // The macro, as every C++ program uses it; the fixture is C.
  uvcurl_t *uc = nullptr;
  CHECK_INT(uvcurl_new(&f.loop, &uc), 0);
  std::unique_ptr<CURL, decltype(&curl_easy_cleanup)> easy(curl_easy_init(), &curl_easy_cleanup);
  server_url(f.server, url, sizeof url, SERVER_HTTP, "/bytes/300");
  curl_easy_setopt(easy.get(), CURLOPT_URL, url);
  curl_easy_setopt(easy.get(), CURLOPT_PROXY, "");
  curl_easy_setopt(easy.get(), CURLOPT_WRITEDATA, &r);
  curl_write_callback write = [](char *data, size_t size, size_t n, void *arg) -> size_t {
    static_cast<result *>(arg)->body.append(data, size * n);
    return size * n;
  };
  curl_easy_setopt(easy.get(), CURLOPT_WRITEFUNCTION, write);
  CHECK_INT(uvcurl_start(
                uc, easy.get(),
                [](uvcurl_t *driver, CURL *, int status, void *arg) {
                  auto *to = static_cast<result *>(arg);
                  to->done++;
                  to->status = status;
                  uvcurl_close(
                      driver, [](void *closed) { *static_cast<bool *>(closed) = true; },
                      &to->closed);
                },
                &r),
            0);
  fixture_run(&f);
  CHECK_INT(r.done, 1);
  CHECK_INT(r.status, 0);
  CHECK_INT(r.body.size(), 300);
  CHECK(server_match(r.body.data(), 0, r.body.size()));
  CHECK(r.closed);
  fixture_close(&f);
}

TEST(new_without_the_macro) {
  uv_loop_t loop;
  uvcurl_t *uc = nullptr;
  CHECK_INT(uv_loop_init(&loop), 0);
  CHECK_INT((uvcurl_new)(&loop, &uc), 0);
  CHECK(uvcurl_loop(uc) == &loop);
  CHECK_STR(uvcurl_err_name(UV_ECANCELED), "UV_ECANCELED");
  uvcurl_close(uc, nullptr, nullptr);
  CHECK_INT(uv_run(&loop, UV_RUN_DEFAULT), 0);
  CHECK_INT(uv_loop_close(&loop), 0);
}

// Runs `body` in a child, whose last words are dropped, and returns its wait status.
static int status_of(void (*body)()) {
  std::fflush(nullptr);
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    rlimit no_core = {0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    signal(SIGABRT, SIG_DFL);
    if (std::freopen("/dev/null", "w", stderr) == nullptr)
      _exit(3);
    body();
    _exit(4);
  }
  int status = 0;
  CHECK_INT(waitpid(child, &status, 0), child);
  return status;
}

template <typename Callback> static void run_refused(Callback *done) {
  uv_loop_t loop;
  uvcurl_t *uc = nullptr;
  CHECK_INT(uv_loop_init(&loop), 0);
  CHECK_INT(uvcurl_new(&loop, &uc), 0);
  CURL *easy = curl_easy_init();
  curl_easy_setopt(easy, CURLOPT_URL, "nope://x/");
  CHECK_INT(uvcurl_start(uc, easy, done, nullptr), 0);
  // Whatever a handler around the loop would do, it does not get to.
  try {
    uv_run(&loop, UV_RUN_DEFAULT);
  } catch (...) {
    _exit(5);
  }
}

static void throws(uvcurl_t *, CURL *, int, void *) {
  throw std::runtime_error("out of a done callback");
}

static void ends(uvcurl_t *, CURL *, int, void *) {
  _exit(6);
}

// S36: an exception must not unwind through the library; it ends the process.
TEST(exception_ends_the_process) {
  int status = status_of([] { run_refused(throws); });
  CHECK_MSG(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "the child ended with status %#x",
            static_cast<unsigned>(status));
  // The same child without the exception gets as far as the callback.
  status = status_of([] { run_refused(ends); });
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 6);
}

static void throws_on_close(void *) {
  throw 1;
}

TEST(exception_of_a_close_callback) {
  int status = status_of([] {
    uv_loop_t loop;
    uvcurl_t *uc = nullptr;
    CHECK_INT(uv_loop_init(&loop), 0);
    CHECK_INT(uvcurl_new(&loop, &uc), 0);
    uvcurl_close(uc, throws_on_close, nullptr);
    try {
      uv_run(&loop, UV_RUN_DEFAULT);
    } catch (...) {
      _exit(5);
    }
  });
  CHECK_MSG(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "the child ended with status %#x",
            static_cast<unsigned>(status));
}

// One that is caught inside is nobody's business.
TEST(exception_caught_inside) {
  fixture f;
  fixture_open_bare(&f);
  transfer *t = transfer_new_url(&f, "nope://x/");
  static int caught;
  t->on_done = [](transfer *) {
    try {
      throw std::runtime_error("inside");
    } catch (const std::exception &) {
      caught++;
    }
  };
  CHECK_INT(transfer_start(&f, t), 0);
  fixture_run(&f);
  CHECK_INT(caught, 1);
  CHECK_INT(t->status, CURLE_UNSUPPORTED_PROTOCOL);
  transfer_free(t);
  fixture_close(&f);
}

TEST_MAIN(T(transfer_with_lambdas), T(new_without_the_macro), T(exception_ends_the_process),
          T(exception_of_a_close_callback), T(exception_caught_inside))
