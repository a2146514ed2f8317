// fetch [--ca FILE] URL ...
//
// fetch.c as a C++ programmer would write it.
#include <uvcurl.h>

#include "transfer.h"

#include <iostream>
#include <memory>
#include <string>
#include <vector>

namespace {

class driver {
public:
  explicit driver(uv_loop_t *loop) {
    status_ = uvcurl_new(loop, &uc_);
  }
  driver(const driver &) = delete;
  driver &operator=(const driver &) = delete;
  ~driver() {
    if (!uc_)
      return;
    uv_loop_t *loop = uvcurl_loop(uc_);
    uvcurl_close(uc_, nullptr, nullptr);
    uv_run(loop, UV_RUN_DEFAULT);
  }
  int status() const {
    return status_;
  }
  operator uvcurl_t *() const {
    return uc_;
  }

private:
  uvcurl_t *uc_ = nullptr;
  int status_;
};

struct outcome {
  size_t reported = 0;
  int wrong = 0;
};

struct fetched {
  transfer t{};
  outcome *out;
  explicit fetched(outcome *o) : out(o) {}
  fetched(const fetched &) = delete;
  fetched &operator=(const fetched &) = delete;
  ~fetched() {
    curl_easy_cleanup(t.easy);
  }
};

bool fetch(uv_loop_t *loop, const char *ca, const std::vector<std::string> &urls) {
  outcome out;
  std::vector<std::unique_ptr<fetched>> all;
  driver uc(loop);
  if (uc.status()) {
    std::cerr << "uvcurl_new: " << uvcurl_strerror(uc.status()) << '\n';
    return false;
  }
  for (const auto &url : urls) {
    all.push_back(std::make_unique<fetched>(&out));
    fetched *f = all.back().get();
    if (transfer_init(&f->t, url.c_str(), ca))
      return false;
    int status = uvcurl_start(
        uc, f->t.easy,
        [](uvcurl_t *, CURL *, int result, void *user_data) {
          auto *done = static_cast<fetched *>(user_data);
          done->out->reported++;
          done->out->wrong += transfer_check(&done->t, result, uvcurl_strerror(result));
        },
        f);
    if (status)
      return false;
  }
  uv_run(loop, UV_RUN_DEFAULT);
  return out.reported == urls.size() && !out.wrong;
}

} // namespace

int main(int argc, char **argv) {
  std::vector<std::string> arguments(argv + 1, argv + argc);
  const char *ca = nullptr;
  uv_loop_t loop;
  if (arguments.size() > 1 && arguments[0] == "--ca") {
    ca = argv[2];
    arguments.erase(arguments.begin(), arguments.begin() + 2);
  }
  if (arguments.empty() || uv_loop_init(&loop))
    return 2;
  std::cout << "uvcurl " << uvcurl_version_string() << ", libuv " << uv_version_string() << ", "
            << curl_version() << '\n';
  bool ok = fetch(&loop, ca, arguments);
  return uv_loop_close(&loop) || !ok;
}
