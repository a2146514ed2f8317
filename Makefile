# The project's commands. `make help` lists them.

SHELL = /bin/sh
CC ?= cc
CXX ?= c++
PREFIX ?= /usr/local
DESTDIR ?=
JOBS ?= 2

EMBEDDED = build/embedded
EMBEDDED_ASAN = build/embedded-asan
EMBEDDED_TSAN = build/embedded-tsan
RESULTS = build/results

RUST_SOURCES = $(wildcard src/*.rs src/*/*.rs) build.rs Cargo.toml Cargo.lock .cargo/config.toml include/uvcurl.h
# The probe shows that AddressSanitizer is at work, so it has a place in that suite alone.
C_TESTS = $(filter-out asan_probe,$(basename $(notdir $(wildcard c-tests/*.c))))
CXX_TESTS = $(basename $(notdir $(wildcard c-tests/*.cpp)))
SH_TESTS = $(wildcard c-tests/*.sh)
SUPPORT = $(wildcard c-tests/support/*.c)
EXAMPLES = hello get

WARNINGS = -Wall -Wextra -Werror
# gnu11: uv.h uses POSIX types that plain -std=c11 hides.
TEST_CFLAGS = -std=gnu11 -D_GNU_SOURCE -g -O1 $(WARNINGS) -Ic-tests/support
TEST_CXXFLAGS = -std=c++17 -D_GNU_SOURCE -g -O1 $(WARNINGS) -pedantic -Ic-tests/support
# Recursive on purpose: the .pc file is there only after the build.
pc = $(shell PKG_CONFIG_PATH=$(1)/lib/pkgconfig pkg-config --static $(2) uvcurl)

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1	\2/p' Makefile | expand -t 18

setup: ## install what is missing
	@sh tools/setup.sh

setup-demo:
	@sh tools/setup.sh demo

setup-cmake:
	@mkdir -p build
	@sh tools/setup.sh cmake-$(MODE)

# ---- the embedded library, and programs on it ----

$(EMBEDDED)/lib/libuvcurl.a: $(RUST_SOURCES) tools/embedded.pl
	@echo "building libuvcurl.a with libuv and libcurl inside"
	@mkdir -p build && perl tools/embedded.pl $(EMBEDDED)

build/examples/%: examples/%.c examples/get_server.c examples/get_server.h $(EMBEDDED)/lib/libuvcurl.a
	@mkdir -p $(@D)
	@echo "compiling $<"
	@$(CC) -std=gnu11 -O2 -g $(WARNINGS) -pedantic $(filter-out examples/get_server.c,$(filter %.c,$^)) \
	  $(if $(filter %/get,$@),examples/get_server.c) \
	  $(call pc,$(EMBEDDED),--cflags --libs) -o $@

examples: setup-demo ## build the example programs into build/examples
	@$(MAKE) --no-print-directory $(addprefix build/examples/,$(EXAMPLES))

demo: examples ## fetch 2,000 files from a server of its own, on one loop; URLS='...' fetches those
	@build/examples/get $(URLS)

# ---- installation: a thin wrapper around CMake ----

MODE ?= embedded
INSTALL_BUILD = build/install-$(MODE)
INSTALL_OPTIONS_embedded = -DUVCURL_EMBEDDED=ON
INSTALL_OPTIONS_host =

install: setup-cmake ## install under PREFIX (and DESTDIR): MODE=embedded, the default, or MODE=host
	@cmake -S . -B $(INSTALL_BUILD) -DCMAKE_BUILD_TYPE=Release "-DCMAKE_INSTALL_PREFIX=$(PREFIX)" \
	  -DUVCURL_CARGO_TARGET_DIR=$(CURDIR)/target $(INSTALL_OPTIONS_$(MODE)) $(CMAKE_OPTIONS) >$(INSTALL_BUILD).log || \
	  { cat $(INSTALL_BUILD).log; exit 1; }
	@cmake --build $(INSTALL_BUILD) >$(INSTALL_BUILD).log 2>&1 || { cat $(INSTALL_BUILD).log; exit 1; }
	@cmake --install $(INSTALL_BUILD) >$(INSTALL_BUILD).log || { cat $(INSTALL_BUILD).log; exit 1; }
	@echo "installed uvcurl ($(MODE)) under $(DESTDIR)$(PREFIX)"

# Two builds, for a package manager's directories differ from those of an archive.
# One directory for all builds on the machine's libraries: cargo then compiles the crates once.
HOST_OPTIONS = -DUVCURL_CARGO_TARGET_DIR=$(CURDIR)/build/host-target
PACKAGE_OPTIONS = -DCMAKE_BUILD_TYPE=Release $(HOST_OPTIONS)
packages: ## .deb and .tar.gz, into build/packages
	@rm -rf build/packages && mkdir -p build/packages
	@sh tools/setup.sh cmake-packages
	@echo "building packages"
	@{ cmake -S . -B build/package-deb $(PACKAGE_OPTIONS) -DCMAKE_INSTALL_PREFIX=/usr && \
	  cmake --build build/package-deb && \
	  cpack --config build/package-deb/CPackConfig.cmake -G DEB -B build/packages && \
	  cmake -S . -B build/package-tgz $(PACKAGE_OPTIONS) -DCMAKE_INSTALL_LIBDIR=lib && \
	  cmake --build build/package-tgz && \
	  cpack --config build/package-tgz/CPackConfig.cmake -G TGZ -B build/packages && \
	  cmake -S . -B build/package-embedded $(PACKAGE_OPTIONS) -DCMAKE_INSTALL_LIBDIR=lib -DUVCURL_EMBEDDED=ON \
	    -DUVCURL_CARGO_TARGET_DIR=$(CURDIR)/target && \
	  cmake --build build/package-embedded && \
	  cpack --config build/package-embedded/CPackConfig.cmake -G TGZ -B build/packages; \
	} >build/packages.log 2>&1 || { cat build/packages.log; exit 1; }
	@rm -rf build/packages/_CPack_Packages && ls build/packages

uninstall: ## remove what install has installed
	@cmake --build $(INSTALL_BUILD) --target uninstall >/dev/null

# ---- addons of Node ----

NODE_BUILD = build/node
NODE_PREFIX = build/node-prefix
NODE_ADDON = build/node-addon
NODE_ADDON_FLAGS =
NODE_CMAKE_OPTIONS =

$(NODE_PREFIX)/lib/uvcurl-node/libuvcurl_node.a: $(RUST_SOURCES) tools/embedded.pl CMakeLists.txt $(wildcard cmake/*.cmake* cmake/node/*)
	@echo "building libuvcurl_node.a on the libuv of Node, with libcurl inside"
	@mkdir -p build
	@{ cmake -S . -B $(NODE_BUILD) -DUVCURL_NODE=ON -DCMAKE_BUILD_TYPE=Release -DCMAKE_INSTALL_LIBDIR=lib \
	  "-DCMAKE_INSTALL_PREFIX=$(CURDIR)/$(NODE_PREFIX)" -DUVCURL_CARGO_TARGET_DIR=$(CURDIR)/build/node-target $(NODE_CMAKE_OPTIONS) && \
	  cmake --build $(NODE_BUILD); } >build/node.log 2>&1 || { cat build/node.log; exit 1; }
	@rm -rf $(NODE_PREFIX) && cmake --install $(NODE_BUILD) >build/node.log || { cat build/node.log; exit 1; }
	@touch $@

$(NODE_PREFIX)/include/uvcurl_node.h: include/uvcurl_node.h $(NODE_PREFIX)/lib/uvcurl-node/libuvcurl_node.a
	@cp $< $@

comma = ,
define addon # libraries, more flags
@mkdir -p $(@D)
@echo "compiling $(@F)"
@$(CC) -shared -fPIC -std=gnu11 -O2 -g $(WARNINGS) $(2) -I$(NODE_PREFIX)/include -isystem $(NODE_PREFIX)/include/uvcurl-node \
  -isystem $$(node -p "path.resolve(process.execPath, '../../include/node')") $< $(1) -lm -ldl -o $@
endef

$(NODE_ADDON)/fetch.node: c-tests/node/fetch.c $(NODE_PREFIX)/include/uvcurl_node.h
	$(call addon,$(NODE_PREFIX)/lib/uvcurl-node/libuvcurl_node.a -Wl$(comma)--exclude-libs$(comma)ALL,$(NODE_ADDON_FLAGS))

# Wrong on purpose: with a second libuv inside, and with the libraries inside left visible.
$(NODE_ADDON)/second-libuv.node: c-tests/node/fetch.c $(NODE_PREFIX)/include/uvcurl_node.h $(EMBEDDED)/lib/libuvcurl.a
	$(call addon,$(EMBEDDED)/lib/libuvcurl.a -Wl$(comma)--exclude-libs$(comma)ALL -lssl -lcrypto,)

$(NODE_ADDON)/visible.node: c-tests/node/fetch.c $(NODE_PREFIX)/include/uvcurl_node.h
	$(call addon,$(NODE_BUILD)/node/lib/uvcurl-node/libuvcurl_node.a,)

# A Node with libuv and OpenSSL of its own comes first in PATH.
WITH_NODE = PATH="$$(sh tools/node.sh):$$PATH"; export PATH;

node: ## uvcurl for addons of Node, installed under build/node-prefix
	@sh tools/setup.sh cmake-node
	@$(WITH_NODE) $(MAKE) -s --no-print-directory $(NODE_PREFIX)/include/uvcurl_node.h

# ---- tests ----

TESTS = test-rust test-c test-untouched test-host matrix-corners test-asan test-valgrind test-consumers test-perform test-node

test: setup ## every test; the last line counts them
	@MAKE="$(MAKE)" sh tools/test.sh $(TESTS)

test-rust: ## the core over its fake libraries, the header, the exported symbols
	@mkdir -p $(RESULTS)
	@sh tools/cargo-test.sh $(RESULTS)/test-rust.count

# Defaults stand where they are used: SEED and CASES are read by several targets.
model: ## the model at length (about half an hour): DEPTH=3 LENGTH=5 CASES=3000000 SEED=1; figures in docs/reliability.md
	MODEL_DEPTH=$(or $(DEPTH),3) MODEL_LENGTH=$(or $(LENGTH),5) MODEL_CASES=$(or $(CASES),3000000) MODEL_SEED=$(or $(SEED),1) \
	  cargo test --locked --profile model --lib model -- --nocapture

mutants: ## mutate the core and see what no test notices (needs cargo install cargo-mutants; an hour): FILES='src/timer.rs'
	MODEL_DEPTH=1 MODEL_LENGTH=2 MODEL_CASES=1500 cargo mutants $(addprefix -f ,$(or $(FILES), \
	  $(patsubst %,src/%.rs,driver socket timer transfer completion pending pool watch stats))) --timeout 25 -o build/mutants -- --lib

# Extra link flags of one test stand in its first lines: /* link: -Wl,--wrap=uv_poll_start */
link = $(shell sed -n 's@^/\* link: \(.*\) \*/$$@\1@p' $(1))

define suite # directory of the library, build directory, extra flags
$(2)/%.o: c-tests/support/%.c $$(wildcard c-tests/support/*.h) $(1)/lib/libuvcurl.a
	@mkdir -p $$(@D)
	@$$(CC) $$(TEST_CFLAGS) $(3) $$(call pc,$(1),--cflags) -c $$< -o $$@

$(2)/%: c-tests/%.c $$(SUPPORT:c-tests/support/%.c=$(2)/%.o) $(1)/lib/libuvcurl.a
	@mkdir -p $$(@D)
	@echo "compiling $$<"
	@$$(CC) $$(TEST_CFLAGS) $(3) $$(call pc,$(1),--cflags) $$(filter %.c %.o,$$^) $$(call link,$$<) \
	  $$(call pc,$(1),--libs) -lssl -lcrypto -o $$@

$(2)/%: c-tests/%.cpp $$(SUPPORT:c-tests/support/%.c=$(2)/%.o) $(1)/lib/libuvcurl.a
	@mkdir -p $$(@D)
	@echo "compiling $$<"
	@$$(CXX) $$(TEST_CXXFLAGS) $(3) $$(call pc,$(1),--cflags) $$(filter %.cpp %.o,$$^) $$(call link,$$<) \
	  $$(call pc,$(1),--libs) -lssl -lcrypto -o $$@
endef

.SECONDARY:
$(eval $(call suite,$(EMBEDDED),build/c-tests,))
$(eval $(call suite,$(EMBEDDED_ASAN),build/c-tests-asan,-fsanitize=address -fno-omit-frame-pointer))
$(eval $(call suite,$(EMBEDDED_TSAN),build/c-tests-tsan,-fsanitize=thread))

# One cell of the matrix, for tools/matrix.pl.
ifdef CELL
$(eval $(call suite,build/matrix/$(CELL)/embedded,build/matrix/$(CELL)/c-tests,))

build/matrix/$(CELL)/embedded/lib/libuvcurl.a: $(RUST_SOURCES) tools/embedded.pl tools/matrix.pl tools/matrix.lock
	@perl tools/matrix.pl library $(CELL)

matrix-programs: $(addprefix build/matrix/$(CELL)/c-tests/,$(C_TESTS) $(CXX_TESTS))
endif

test-c: $(EMBEDDED)/lib/libuvcurl.a ## the C interface, from C, C++ and sh, against real servers
	@$(MAKE) --no-print-directory $(addprefix build/examples/,$(EXAMPLES)) \
	  $(addprefix build/c-tests/,$(C_TESTS) $(CXX_TESTS))
	@sh tools/with-servers.sh perl tools/c-suite.pl --jobs $(JOBS) --result $(RESULTS)/test-c.count \
	  $(addprefix build/c-tests/,$(C_TESTS) $(CXX_TESTS)) $(SH_TESTS)

test-untouched: $(EMBEDDED)/lib/libuvcurl.a ## the C suite under UVCURL_EASY_UNTOUCHED
	@$(MAKE) --no-print-directory $(addprefix build/c-tests/,$(C_TESTS) $(CXX_TESTS))
	@UVCURL_TEST_UNTOUCHED=1 sh tools/with-servers.sh perl tools/c-suite.pl --jobs $(JOBS) \
	  --result $(RESULTS)/test-untouched.count $(addprefix build/c-tests/,$(C_TESTS) $(CXX_TESTS))

# Separate target directory, for the flags differ. zlib from source, so that it is instrumented too.
$(EMBEDDED_ASAN)/lib/libuvcurl.a: $(RUST_SOURCES) tools/embedded.pl
	@echo "building libuvcurl.a under AddressSanitizer"
	@mkdir -p build && CFLAGS="$(CFLAGS) -fsanitize=address -fno-omit-frame-pointer -g -O1" LIBZ_SYS_STATIC=1 \
	  perl tools/embedded.pl $(EMBEDDED_ASAN) --target-dir build/target-asan

test-asan: $(EMBEDDED_ASAN)/lib/libuvcurl.a ## the C suite with libuv, libcurl and nghttp2 under AddressSanitizer
	@$(MAKE) --no-print-directory $(addprefix build/c-tests-asan/,asan_probe $(C_TESTS) $(CXX_TESTS))
	@UVCURL_TEST_SLOWDOWN=3 ASAN_OPTIONS=detect_stack_use_after_return=1 \
	  sh tools/with-servers.sh perl tools/c-suite.pl --jobs $(JOBS) --limit 200 \
	  --result $(RESULTS)/test-asan.count $(addprefix build/c-tests-asan/,asan_probe $(C_TESTS) $(CXX_TESTS))

# Rust as well as C, but for Rust's standard library. rustc has it for nightlies only, hence the variable.
$(EMBEDDED_TSAN)/lib/libuvcurl.a: $(RUST_SOURCES) tools/embedded.pl
	@echo "building libuvcurl.a under ThreadSanitizer"
	@mkdir -p build && CFLAGS="$(CFLAGS) -fsanitize=thread -g -O1" LIBZ_SYS_STATIC=1 RUSTC_BOOTSTRAP=1 \
	  RUSTFLAGS="-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer" perl tools/embedded.pl $(EMBEDDED_TSAN) \
	  --target "$$(rustc -vV | sed -n 's/^host: //p')" --target-dir build/target-tsan

TSAN_TESTS = api:wrong_thread api:wrong_threads_at_once api:made_here_run_elsewhere api:closing_outside_the_loop \
  insight:other_threads_are_refused scale:four_loops_in_four_threads
test-tsan: $(EMBEDDED_TSAN)/lib/libuvcurl.a ## what has several threads, under ThreadSanitizer (minutes)
	@$(MAKE) --no-print-directory $(addprefix build/c-tests-tsan/,api insight scale)
	@mkdir -p build/results-tsan
	@UVCURL_TEST_SLOWDOWN=5 perl tools/c-suite.pl --jobs $(JOBS) --limit 200 --result build/results-tsan/test-tsan.count \
	  $(addprefix build/c-tests-tsan/,$(TSAN_TESTS))

# "Possibly lost" is left out: it is what valgrind says of memory that is known by an inner pointer only, as each uv handle
# of ours, each hash table of Rust's and each running thread's stack is, where a case ends with them in use on purpose.
VALGRIND = valgrind -q --leak-check=full --errors-for-leak-kinds=definite --show-leak-kinds=definite \
  --child-silent-after-fork=yes --error-exitcode=9

# Left to AddressSanitizer: a thousand processes (faults), a million steps (histories), and what is about time (timeouts).
VALGRIND_TESTS = $(filter-out faults histories timeouts,$(C_TESTS)) $(CXX_TESTS)
test-valgrind: $(EMBEDDED)/lib/libuvcurl.a ## the C suite under valgrind
	@$(MAKE) --no-print-directory $(addprefix build/c-tests/,$(VALGRIND_TESTS))
	@UVCURL_TEST_SLOWDOWN=10 sh tools/with-servers.sh perl tools/c-suite.pl --jobs $(JOBS) \
	  --limit 300 --wrap '$(VALGRIND)' --result $(RESULTS)/test-valgrind.count \
	  $(addprefix build/c-tests/,$(VALGRIND_TESTS))

# Steps are shared by the four kinds of history. ASAN=1: under AddressSanitizer; HOST=1: on the system's libraries.
STEPS ?= 1000000
HISTORIES = build/$(if $(filter 1,$(HOST)),dev/c-tests,c-tests$(if $(ASAN),-asan))/histories
histories: $(if $(filter 1,$(HOST)),,$(EMBEDDED$(if $(ASAN),_ASAN))/lib/libuvcurl.a) ## random histories by the million: STEPS, SEED, ASAN=1, HOST=1
	@$(if $(filter 1,$(HOST)),cmake -S . -B build/dev $(HOST_OPTIONS) -DCMAKE_BUILD_TYPE=RelWithDebInfo -DUVCURL_BUILD_TESTS=ON \
	  -DUVCURL_BUILD_EXAMPLES=ON >build/histories.log && cmake --build build/dev --target uvcurl_test_histories >>build/histories.log, \
	  $(MAKE) --no-print-directory $(HISTORIES))
	@for kind in mixed secure limited broken; do \
	  UVCURL_TEST_SLOWDOWN=$(if $(ASAN),3,1) UVCURL_HISTORY_SEED=$(or $(SEED),1000000) UVCURL_HISTORY_STEPS=$$(($(STEPS) / 4)) \
	  ASAN_OPTIONS=detect_stack_use_after_return=1 \
	  sh tools/with-servers.sh $(HISTORIES) $$kind || exit 1; \
	done

# ---- on the machine's libuv and libcurl ----

test-host: ## the C suite on the libuv and libcurl of the system
	@echo "building the C suite on the libuv and libcurl of the system"
	@mkdir -p build && { cmake -S . -B build/dev $(HOST_OPTIONS) -DCMAKE_BUILD_TYPE=RelWithDebInfo \
	  -DUVCURL_BUILD_TESTS=ON -DUVCURL_BUILD_EXAMPLES=ON && cmake --build build/dev -j$(JOBS); } \
	  >build/test-host.log 2>&1 || { cat build/test-host.log; exit 1; }
	@sh tools/with-servers.sh perl tools/c-suite.pl --jobs $(JOBS) --result $(RESULTS)/test-host.count \
	  $(addprefix build/dev/c-tests/,$(C_TESTS) $(CXX_TESTS))

# ---- programs of others ----

HOST_BUILD = build/consumers/host
HOST_PREFIX = build/consumers/prefix
# cargo's own shared library, with a libuv and a libcurl inside: what the copy guard is there for.
EMBEDDED_SO = build/consumers/embedded/libuvcurl.so.0

$(HOST_PREFIX)/lib/pkgconfig/uvcurl.pc: $(RUST_SOURCES) CMakeLists.txt $(wildcard cmake/*)
	@echo "building libuvcurl on the libuv and libcurl of the system"
	@mkdir -p $(HOST_BUILD) && rm -rf $(HOST_PREFIX)
	@{ cmake -S . -B $(HOST_BUILD) $(HOST_OPTIONS) -DCMAKE_INSTALL_LIBDIR=lib && cmake --build $(HOST_BUILD) && \
	  cmake --install $(HOST_BUILD) --prefix $(HOST_PREFIX); } >$(HOST_BUILD).log 2>&1 || { cat $(HOST_BUILD).log; exit 1; }

# After the archive: the two builds share what cargo has compiled.
$(EMBEDDED_SO): $(EMBEDDED)/lib/libuvcurl.a
	@mkdir -p $(@D)
	@cargo rustc --quiet --locked --release --lib --crate-type cdylib --target-dir target
	@cp target/release/libuvcurl.so $@

test-consumers: $(HOST_PREFIX)/lib/pkgconfig/uvcurl.pc $(EMBEDDED_SO) packages ## programs outside the tree: CMake, pkg-config, dlopen, Lua, packages; the copy guard
	@sh tools/with-servers.sh perl tools/c-suite.pl --jobs $(JOBS) --limit 600 \
	  --result $(RESULTS)/test-consumers.count $(wildcard c-tests/consumer/*.sh)

# A library to preload, on each of the distribution's two libcurls. The linker leads uvcurl's own calls past the functions that
# the library replaces.
PERFORM = build/perform
# Debian's git has the libcurl with GnuTLS.
GIT_LIBCURL = $(if $(shell ldd "$$(git --exec-path)/git-remote-http" | grep libcurl-gnutls),-l:libcurl-gnutls.so.4,-lcurl)
PERFORM_TESTS = $(addprefix c-tests/perform/,curl.sh git.sh programs.sh)
define preload # libcurl
@mkdir -p $(@D)
@echo "compiling $(@F)"
@$(CC) $(TEST_CFLAGS) -fPIC -shared -fvisibility=hidden -I$(HOST_PREFIX)/include $(filter %.c,$^) $(call link,$(filter %.c,$^)) \
  -Wl,-z,defs -Wl,--exclude-libs,ALL $(HOST_PREFIX)/lib/libuvcurl.a -luv $(1) -lgcc_s -lpthread -ldl -lm -o $@
endef

$(PERFORM)/libuvcurl-perform.so: c-tests/perform/perform.c c-tests/perform/multi.c c-tests/perform/perform.h $(HOST_PREFIX)/lib/pkgconfig/uvcurl.pc
	$(call preload,-lcurl)

$(PERFORM)/libuvcurl-perform-git.so: c-tests/perform/perform.c c-tests/perform/multi.c c-tests/perform/perform.h $(HOST_PREFIX)/lib/pkgconfig/uvcurl.pc
	$(call preload,$(GIT_LIBCURL))

$(PERFORM)/server: c-tests/perform/server.c $(SUPPORT) $(wildcard c-tests/support/*.h)
	@mkdir -p $(@D)
	@$(CC) $(TEST_CFLAGS) c-tests/perform/server.c c-tests/support/server.c -lssl -lcrypto -o $@

$(PERFORM)/program: c-tests/perform/program.c
	@mkdir -p $(@D)
	@$(CC) $(TEST_CFLAGS) $< -lcurl -lpthread -o $@

PERFORM_PARTS = $(addprefix $(PERFORM)/,libuvcurl-perform.so libuvcurl-perform-git.so server program)
WITH_PERFORM_SERVERS = sh tools/with-servers.sh sh c-tests/perform/servers.sh $(PERFORM)/server
test-perform: $(PERFORM_PARTS) ## the distribution's curl and git with uvcurl in place of libcurl's own loop: same bytes, same exit codes
	@$(WITH_PERFORM_SERVERS) perl tools/c-suite.pl --jobs $(JOBS) --limit 120 --result $(RESULTS)/test-perform.count $(PERFORM_TESTS)

test-perform-valgrind: $(PERFORM_PARTS) ## the same commands of curl under valgrind (minutes)
	@mkdir -p build/results-valgrind
	@UVCURL_TEST_PERFORM_WRAP='$(VALGRIND)' $(WITH_PERFORM_SERVERS) perl tools/c-suite.pl --jobs $(JOBS) --limit 600 \
	  --result build/results-valgrind/test-perform.count c-tests/perform/curl.sh c-tests/perform/programs.sh

test-clean-root: packages ## the .deb files in a Debian of its own, by debootstrap (root, a mirror, minutes)
	@command -v debootstrap >/dev/null || { echo "please install debootstrap"; exit 1; }
	@sh tools/with-servers.sh perl tools/c-suite.pl --limit 1800 --result $(RESULTS)/test-clean-root.count \
	  c-tests/consumer/slow/clean_root.sh

cross-check: ## build for 64-bit ARM, and run that under emulation (Debian, Ubuntu)
	@sh tools/cross-check.sh

# ---- other versions of libuv and libcurl ----

MATRIX = perl tools/matrix.pl run --jobs $(JOBS)
.PHONY: matrix matrix-corners matrix-programs

matrix: ## the C suite over every libcurl and every libuv of docs/compatibility.md; FULL=1: all pairs; CELLS='curl-8.9.0+uv-1.48.0'
	@MAKE="$(MAKE)" $(MATRIX) $(if $(TABLE),--table) $(or $(CELLS),$(if $(FULL),all,axes))

matrix-corners: ## the C suite over the two pairs that differ most from the default
	@mkdir -p $(RESULTS)
	@MAKE="$(MAKE)" $(MATRIX) --result $(RESULTS)/matrix-corners.count corners

# ---- measuring ----

# One program per driver, each twice: on the libuv and libcurl inside libuvcurl.a, and on those of the system.
BENCH_DRIVERS = uvcurl multi_uv epoll libevent libev multi_poll threads
BENCH_CFLAGS = -std=gnu11 -D_GNU_SOURCE -O2 -g $(WARNINGS) -pedantic
bench_libs = $(if $(filter %libevent,$(1)),-levent_core) $(if $(filter %libev,$(1)),-lev) -lpthread

setup-bench: ## install what only the measurements need
	@sh tools/setup.sh bench

build/bench/server: benches/server.c
	@mkdir -p $(@D)
	@echo "compiling $<"
	@$(CC) $(BENCH_CFLAGS) $< -lnghttp2 -lssl -lcrypto -o $@

build/bench/embedded/%: benches/%.c benches/frame.c benches/bench.h $(EMBEDDED)/lib/libuvcurl.a
	@mkdir -p $(@D)
	@echo "compiling $< (embedded)"
	@$(CC) $(BENCH_CFLAGS) $(filter %.c,$^) $(call pc,$(EMBEDDED),--cflags --libs) $(call bench_libs,$@) -o $@

build/bench/host/%: benches/%.c benches/frame.c benches/bench.h $(HOST_PREFIX)/lib/pkgconfig/uvcurl.pc
	@mkdir -p $(@D)
	@echo "compiling $< (host)"
	@$(CC) $(BENCH_CFLAGS) $(filter %.c,$^) \
	  $$(PKG_CONFIG_PATH=$(HOST_PREFIX)/lib/pkgconfig pkg-config --cflags --libs uvcurl libuv libcurl) \
	  -Wl,-rpath,$(CURDIR)/$(HOST_PREFIX)/lib $(call bench_libs,$@) -o $@

bench-programs: build/bench/server $(foreach w,embedded host,$(addprefix build/bench/$(w)/,$(BENCH_DRIVERS)))
	@sh c-tests/support/certs.sh build/certs

bench: setup-bench ## measure uvcurl beside its peers (about 40 minutes); writes docs/performance.md and its plots
	@$(MAKE) --no-print-directory bench-programs
	@perl benches/run.pl $(BENCH)

bench-quick: setup-bench ## the ratios that matter, in under two minutes once the programs are built
	@$(MAKE) --no-print-directory bench-programs
	@perl benches/run.pl --quick

# ---- tests of addons ----

NODE_TESTS = $(wildcard c-tests/node/test/*.test.js)
test-node: node $(EMBEDDED)/lib/libuvcurl.a ## an addon on Node's own loop, against Node's servers and nginx
	@$(WITH_NODE) $(MAKE) -s --no-print-directory $(NODE_ADDON)/fetch.node $(NODE_ADDON)/second-libuv.node $(NODE_ADDON)/visible.node
	@$(WITH_NODE) UVCURL_TEST_ADDON=$(CURDIR)/$(NODE_ADDON)/fetch.node UVCURL_TEST_PREFIX=$(CURDIR)/$(NODE_PREFIX) \
	  UVCURL_TEST_FLAGS='--expose-gc --max-semi-space-size=1' \
	  sh tools/with-servers.sh sh tools/node-suite.sh $(RESULTS)/test-node.count $(NODE_TESTS)

# Node itself frees nothing at its end, so leaks are not looked for.
test-node-asan: node ## the C of the addon and of uvcurl_node.h under AddressSanitizer
	@$(WITH_NODE) $(MAKE) -s --no-print-directory NODE_ADDON=build/node-addon-asan \
	  NODE_ADDON_FLAGS='-fsanitize=address -fno-omit-frame-pointer' build/node-addon-asan/fetch.node
	@$(WITH_NODE) UVCURL_TEST_ADDON=$(CURDIR)/build/node-addon-asan/fetch.node ASAN_OPTIONS=detect_leaks=0 \
	  sh tools/with-servers.sh env LD_PRELOAD="$$($(CC) -print-file-name=libasan.so)" sh tools/node-suite.sh \
	  build/results-asan/test-node-asan.count $(addprefix c-tests/node/test/,request.test.js abort.test.js life.test.js nginx.test.js)

# Node and all in it, in processes and workers that end in every way. What is Node's own is in node.supp. Takes about 4 minutes.
test-node-valgrind: node ## the addon and the libcurl inside under valgrind
	@$(WITH_NODE) $(MAKE) -s --no-print-directory $(NODE_ADDON)/fetch.node
	@$(WITH_NODE) UVCURL_TEST_ADDON=$(CURDIR)/$(NODE_ADDON)/fetch.node UVCURL_TEST_TIMEOUT=900000 \
	  UVCURL_TEST_VALGRIND="-q --error-limit=no --error-exitcode=99 --leak-check=full --show-leak-kinds=definite \
	  --errors-for-leak-kinds=definite --num-callers=20 --suppressions=$(CURDIR)/c-tests/node/node.supp" \
	  sh tools/with-servers.sh sh tools/node-suite.sh build/results-valgrind/test-node-valgrind.count c-tests/node/test/life.test.js

# Not a part of `test`, for each compiles libcurl, and one of them all of rustls.
NODE_TLS ?= openssl-static rustls
test-node-tls: ## the same with an OpenSSL or a rustls inside the addon
	@$(WITH_NODE) for tls in $(NODE_TLS); do \
	  echo "with $$tls" && \
	  $(MAKE) -s --no-print-directory NODE_BUILD=build/node-$$tls NODE_PREFIX=build/node-prefix-$$tls \
	    NODE_ADDON=build/node-addon-$$tls NODE_CMAKE_OPTIONS=-DUVCURL_TLS=$$tls build/node-addon-$$tls/fetch.node && \
	  UVCURL_TEST_TLS=$$tls UVCURL_TEST_ADDON=$(CURDIR)/build/node-addon-$$tls/fetch.node \
	  sh tools/with-servers.sh sh tools/node-suite.sh build/results-tls/test-node-$$tls.count \
	    $(addprefix c-tests/node/test/,bindings.test.js request.test.js abort.test.js life.test.js nginx.test.js) || exit 1; \
	done

# Not a part of `test`: it fetches other versions of Node, 40 MB each. REPEAT=20 does it 20 times on each of
# them, CASES=memory only one test file.
NODE_VERSIONS ?= 20 22 24 26
REPEAT ?= 1
test-node-versions: node $(EMBEDDED)/lib/libuvcurl.a ## the same addon, not compiled again, on other versions of Node
	@$(WITH_NODE) $(MAKE) -s --no-print-directory $(NODE_ADDON)/fetch.node $(NODE_ADDON)/second-libuv.node $(NODE_ADDON)/visible.node
	@$(WITH_NODE) UVCURL_TEST_ADDON=$(CURDIR)/$(NODE_ADDON)/fetch.node UVCURL_TEST_FLAGS='--expose-gc --max-semi-space-size=1' \
	  REPEAT="$(REPEAT)" CASES="$(CASES)" LAUNCH="$(LAUNCH)" sh tools/with-servers.sh sh tools/node-versions.sh build/results-versions $(NODE_VERSIONS)

# Not a part of `test`, for each compiles libcurl again. All tests, those that build something too.
NODE_HEADERS ?= 22 24 26
test-node-headers: node $(EMBEDDED)/lib/libuvcurl.a ## library and addon compiled with the headers of other versions of Node, on those
	@for version in $(NODE_HEADERS); do \
	  PATH="$$(sh tools/node.sh $$version):$$PATH" && export PATH && echo "with the headers of Node $$version" && \
	  addon=build/node-addon-$$version prefix=build/node-prefix-$$version && \
	  $(MAKE) -s --no-print-directory NODE_BUILD=build/node-$$version NODE_PREFIX=$$prefix NODE_ADDON=$$addon \
	    $$prefix/include/uvcurl_node.h $$addon/fetch.node $$addon/second-libuv.node $$addon/visible.node && \
	  UVCURL_TEST_ADDON=$(CURDIR)/$$addon/fetch.node UVCURL_TEST_PREFIX=$(CURDIR)/$$prefix \
	  UVCURL_TEST_FLAGS='--expose-gc --max-semi-space-size=1' \
	  sh tools/with-servers.sh sh tools/node-suite.sh build/results-headers/test-node-$$version.count $(NODE_TESTS) || exit 1; \
	done

bench-node: node ## this addon beside undici, fetch, http.request and node-libcurl, on one server
	@$(WITH_NODE) $(MAKE) -s --no-print-directory $(NODE_ADDON)/fetch.node
	@mkdir -p build/bench-node && [ -d build/bench-node/node_modules/undici ] || \
	  npm install --silent --prefix build/bench-node undici@7
	@$(WITH_NODE) peer=build/bench-node/node-libcurl && \
	  { sh benches/node/node-libcurl.sh $$peer $(CURDIR)/$(NODE_PREFIX) || { echo "node-libcurl does not build here" && peer=; } } && \
	  UVCURL_TEST_ADDON=$(CURDIR)/$(NODE_ADDON)/fetch.node \
	  UVCURL_BENCH_UNDICI=$(CURDIR)/build/bench-node/node_modules/undici \
	  UVCURL_BENCH_NODE_LIBCURL=$${peer:+$(CURDIR)/$$peer/node_modules/node-libcurl} \
	  sh tools/with-servers.sh node benches/node/bench.js

# ---- upkeep ----

header: ## write include/uvcurl.h from the sources
	@UVCURL_BLESS=1 cargo test --locked --test header header_is_up_to_date

bindings: ## write cmake/bindings, for the targets there is a C compiler for
	@UVCURL_BLESS=1 cargo test --locked --test bindings -- --nocapture

lint: ## formatting, clippy
	@cargo fmt --check
	@cargo clippy --locked --all-targets -- -D warnings
	@if command -v clang-format-14 >/dev/null 2>&1; then \
	  clang-format-14 --dry-run -Werror c-tests/*.c c-tests/*.cpp c-tests/*/*.c c-tests/*/*.cpp c-tests/*/*.h include/uvcurl_node.h examples/*.c examples/*.h \
	    benches/*.c benches/*.h; \
	else echo "clang-format-14 is not installed: C sources not checked"; fi

docs: ## the Rust side, for those who work on it
	@cargo doc --locked --no-deps --document-private-items

clean: ## remove everything built
	@rm -rf build target

.PHONY: help setup setup-demo setup-cmake setup-bench bench bench-quick bench-programs examples demo node install packages uninstall test $(TESTS) test-clean-root test-perform-valgrind test-node-asan test-node-tls test-node-versions bench-node cross-check header bindings lint docs clean histories test-node-headers test-node-valgrind test-tsan model mutants
