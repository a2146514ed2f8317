-- luajit fetch.lua LIBRARY CA URL ...
--
-- A scripting host: luv owns the loop, LuaJIT's FFI loads uvcurl. A timer of luv's runs beside the transfers.
local ffi = require 'ffi'
local uv = require 'luv'

ffi.cdef [[
typedef struct uv_loop_s uv_loop_t;
uv_loop_t *uv_handle_get_loop(const void *handle);
uv_loop_t *luv_loop(void *lua_state);

typedef void CURL;
typedef struct { int age; const char *version; } curl_version_info_data; /* its head is all that is read here */
curl_version_info_data *curl_version_info(int age);
CURL *curl_easy_init(void);
int curl_easy_setopt(CURL *easy, int option, ...);
int curl_easy_getinfo(CURL *easy, int info, ...);
void curl_easy_cleanup(CURL *easy);

typedef struct uvcurl_t uvcurl_t;
typedef void (*uvcurl_done_cb)(uvcurl_t *uc, CURL *easy, int status, void *user_data);
typedef void (*uvcurl_close_cb)(void *user_data);
int uvcurl_new_checked(uv_loop_t *loop, uvcurl_t **out, const curl_version_info_data *curl_info);
int uvcurl_start(uvcurl_t *uc, CURL *easy, uvcurl_done_cb cb, void *user_data);
void uvcurl_close(uvcurl_t *uc, uvcurl_close_cb cb, void *user_data);
size_t uvcurl_active(const uvcurl_t *uc);
const char *uvcurl_strerror(int status);
const char *uvcurl_version_string(void);
]]
local CURLVERSION_NOW = 10 -- an age this libcurl may not know yet; it answers with its own
local CURLOPT_URL, CURLOPT_CAINFO, CURLOPT_WRITEFUNCTION, CURLOPT_HTTP_VERSION = 10002, 10065, 20011, 84
local CURLINFO_RESPONSE_CODE, CURLINFO_HTTP_VERSION = 0x200002, 0x20002E
local CURL_HTTP_VERSION_2_0, CURL_HTTP_VERSION_2TLS = 3, 4

local lib, curl, libuv = ffi.load(arg[1]), ffi.load('libcurl.so.4'), ffi.load('libuv.so.1')

-- luv has a loop of its own, not uv_default_loop(), and hands it to Lua nowhere. A handle of luv's is a userdata that holds
-- the uv_handle_t pointer, and libuv tells that handle's loop.
local timer = uv.new_timer()
local loop = libuv.uv_handle_get_loop(ffi.cast('void **', timer)[0])

-- C code gets it by luv_loop(), which wants a lua_State; a coroutine's address is one. Both must say the same.
local state = ffi.cast('void *', tonumber(tostring(coroutine.create(print)):match '0x%x+'))
local luv = ffi.load(package.searchpath and package.searchpath('luv', package.cpath) or 'luv')
assert(loop == luv.luv_loop(state), 'two ways to the loop, two loops')

local out = ffi.new 'uvcurl_t *[1]'
local status = lib.uvcurl_new_checked(loop, out, curl.curl_version_info(CURLVERSION_NOW))
assert(status == 0, ffi.string(lib.uvcurl_strerror(status)))
local uc = out[0]

-- FFI callbacks must not raise: an error would cross libuv's and libcurl's frames.
local wrong = 0
local function check(ok, ...)
  if not ok then
    wrong = wrong + 1
    print(...)
  end
end

local transfers, reported = {}, 0
local on_write = ffi.cast('size_t (*)(char *, size_t, size_t, void *)', function(_, size, count, user_data)
  local t = transfers[tonumber(ffi.cast('intptr_t', user_data))]
  t.got = t.got + tonumber(size * count)
  return size * count
end)
local on_done = ffi.cast('uvcurl_done_cb', function(_, easy, result, user_data)
  local t = transfers[tonumber(ffi.cast('intptr_t', user_data))]
  local value = ffi.new 'long[1]'
  reported, t.done = reported + 1, t.done + 1
  curl.curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, value)
  check(result == 0 and value[0] == 200, t.url, ffi.string(lib.uvcurl_strerror(result)), tonumber(value[0]))
  curl.curl_easy_getinfo(easy, CURLINFO_HTTP_VERSION, value)
  check((value[0] == CURL_HTTP_VERSION_2_0) == t.h2, t.url, 'HTTP version', tonumber(value[0]))
  check(t.got == t.wanted and t.done == 1, t.url, t.got, 'bytes', t.done, 'reports')
  curl.curl_easy_cleanup(easy)
end)

local function set(easy, option, ctype, value)
  assert(curl.curl_easy_setopt(easy, option, ffi.cast(ctype, value)) == 0)
end

for i = 3, #arg do
  local h2, url = arg[i]:match '^(h2:)(.*)'
  url = url or arg[i]
  local size, unit = url:match '/(%d+)([km])$'
  local t = { url = url, h2 = h2 ~= nil, wanted = size * (unit == 'm' and 1048576 or 1024), got = 0, done = 0 }
  transfers[i] = t
  local easy = curl.curl_easy_init()
  set(easy, CURLOPT_URL, 'const char *', url)
  set(easy, CURLOPT_CAINFO, 'const char *', arg[2])
  set(easy, CURLOPT_WRITEFUNCTION, 'void *', on_write)
  set(easy, 10001, 'void *', i) -- CURLOPT_WRITEDATA
  set(easy, CURLOPT_HTTP_VERSION, 'long', t.h2 and CURL_HTTP_VERSION_2TLS or 0)
  assert(lib.uvcurl_start(uc, easy, on_done, ffi.cast('void *', i)) == 0)
end

-- The timer runs until the last transfer is reported: the loop belongs to both.
local ticks = 0
timer:start(1, 1, function()
  ticks = ticks + 1
  if reported == #arg - 2 then
    timer:stop()
  end
end)
uv.run()
check(reported == #arg - 2 and lib.uvcurl_active(uc) == 0, reported, 'reports')
check(ticks > 0, 'the timer has not run')

local closed = 0
local on_closed = ffi.cast('uvcurl_close_cb', function()
  closed = closed + 1
end)
lib.uvcurl_close(uc, on_closed, nil)
timer:close()
uv.run()
check(closed == 1, closed, 'close callbacks')
check(uv.loop_close() == 0, 'handles are left on the loop')
print(('uvcurl %s, libuv %s, libcurl %s: %d transfers, %d ticks'):format(ffi.string(lib.uvcurl_version_string()),
  uv.version_string(), ffi.string(curl.curl_version_info(CURLVERSION_NOW).version), reported, ticks))
os.exit(wrong == 0 and reported > 0 and 0 or 1)
