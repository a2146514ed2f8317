//! libcurl, as far as the driver uses it.
#![allow(
    unsafe_code,
    reason = "door OUT: calls into libcurl; each call names who keeps its conditions"
)]

use std::ffi::CStr;
use std::ptr;

use curl_sys as c;
use libc::{c_char, c_int, c_long, c_void};
use once_cell::sync::{Lazy, OnceCell};

use super::{Action, Easy, Events, Flow, Progress, Socket};
use crate::callbacks;
use crate::driver::Driver;
use crate::error;
use crate::quirks::{self, since, Bug};
use crate::text::Text;

type SocketFunction =
    unsafe extern "C" fn(*mut c::CURL, Socket, c_int, *mut c_void, *mut c_void) -> c_int;
type TimerFunction = unsafe extern "C" fn(*mut c::CURLM, c_long, *mut c_void) -> c_int;
type CloseSocketFunction = unsafe extern "C" fn(*mut c_void, Socket) -> c_int;

// Newer than what curl-sys declares. Used only where the running libcurl is new enough.
const CURLMOPT_QUICK_EXIT: c::CURLMoption = 21;
const CURLOPT_QUICK_EXIT: c::CURLoption = 322;
const CURLMINFO_XFERS_PENDING: c_int = 3;

type GetOfft = unsafe extern "C" fn(*mut c::CURLM, c_int, *mut i64) -> c::CURLMcode;

/// `curl_version_info(CURLVERSION_NOW)`: a static struct of the libcurl that is linked, so its address tells two copies
/// of libcurl apart.
pub(crate) static VERSION_INFO: Lazy<VersionInfo> = Lazy::new(|| {
    // SAFETY: libcurl fills a static struct and returns it; it may be called before curl_global_init.
    let info = unsafe { c::curl_version_info(c::CURLVERSION_NOW) };
    // SAFETY: never NULL for a version libcurl knows.
    let number = unsafe { (*info).version_num };
    VersionInfo {
        address: info as usize,
        number,
    }
});

pub(crate) struct VersionInfo {
    pub(crate) address: usize,
    /// 0x081600 for 8.22.0.
    pub(crate) number: u32,
}

/// The version of the libcurl that is running.
pub(crate) fn libcurl() -> u32 {
    VERSION_INFO.number
}

/// Whether `socket`, which libcurl has just been told is ready for `events`, still is.
#[cfg(unix)]
pub(crate) fn stays_ready(socket: Socket, events: Events) -> bool {
    let mut wanted = 0;
    if events.contains(Events::IN) {
        wanted |= libc::POLLIN;
    }
    if events.contains(Events::OUT) {
        wanted |= libc::POLLOUT;
    }
    let mut poll = libc::pollfd {
        fd: socket,
        events: wanted,
        revents: 0,
    };
    // SAFETY: one pollfd; a descriptor of any kind will do.
    unsafe { libc::poll(&mut poll, 1, 0) > 0 && poll.revents & wanted != 0 }
}

#[cfg(not(unix))]
pub(crate) fn stays_ready(_: Socket, _: Events) -> bool {
    true
}

/// `curl_global_init` once per process; a failure is not kept, so that a later driver may succeed.
pub(crate) fn global_init() -> Result<(), c_int> {
    static DONE: OnceCell<()> = OnceCell::new();
    DONE.get_or_try_init(|| {
        // SAFETY: thread safe in every supported libcurl (7.84+), and OnceCell keeps it to one thread anyway.
        match unsafe { c::curl_global_init(c::CURL_GLOBAL_ALL) } {
            c::CURLE_OK => Ok(()),
            code => Err(code as c_int),
        }
    })
    .copied()
}

/// libcurl's text for a `CURLcode`.
pub(crate) fn curl_text(code: c_int) -> &'static CStr {
    // SAFETY: any number will do; libcurl answers with a static text.
    unsafe { CStr::from_ptr(c::curl_easy_strerror(code as c::CURLcode)) }
}

/// What of the easy handle uvcurl may set, decided by `UVCURL_EASY_UNTOUCHED`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) untouched: bool,
}

/// Before a transfer is added. NOSIGNAL comes first because libcurl copies it from the handle that is added to its
/// internal one (R18), and it does no harm should the handle turn out to belong elsewhere.
pub(crate) fn prepare(easy: Easy, settings: Settings) {
    if settings.untouched {
        return;
    }
    // SAFETY: the host promises a live easy handle; NOSIGNAL takes a long. Cannot fail.
    unsafe { c::curl_easy_setopt(easy.0, c::CURLOPT_NOSIGNAL, 1 as c_long) };
    if quirks::has(VERSION_INFO.number, Bug::LookupIsJoined) {
        // SAFETY: as above; the option exists since 7.87 and takes a long.
        unsafe { c::curl_easy_setopt(easy.0, CURLOPT_QUICK_EXIT, 1 as c_long) };
    }
}

/// After libcurl has let go of the handle: nothing of uvcurl stays set on it but NOSIGNAL.
pub(crate) fn release(easy: Easy, settings: Settings) {
    if !settings.untouched {
        // SAFETY: the handle is out of the multi handle and still the host's live one; NULL is the option's default.
        unsafe {
            c::curl_easy_setopt(
                easy.0,
                c::CURLOPT_CLOSESOCKETFUNCTION,
                ptr::null::<c_void>(),
            )
        };
    }
}

/// How many connections the transfer has opened.
pub(crate) fn connects(easy: Easy) -> u64 {
    let mut count: c_long = 0;
    // SAFETY: the handle is in flight here, so the host keeps it alive; storage for a long.
    unsafe { c::curl_easy_getinfo(easy.0, c::CURLINFO_NUM_CONNECTS, &mut count) };
    u64::try_from(count).unwrap_or(0)
}

// 64-bit answers of curl_easy_getinfo, since libcurl 7.61; not in curl-sys.
const OFF_T: c::CURLINFO = 0x60_0000;
const SIZE_UPLOAD_T: c::CURLINFO = OFF_T + 7;
const SIZE_DOWNLOAD_T: c::CURLINFO = OFF_T + 8;
const NAMELOOKUP_TIME_T: c::CURLINFO = OFF_T + 51;
const CONNECT_TIME_T: c::CURLINFO = OFF_T + 52;
const PRETRANSFER_TIME_T: c::CURLINFO = OFF_T + 53;
const STARTTRANSFER_TIME_T: c::CURLINFO = OFF_T + 54;
const APPCONNECT_TIME_T: c::CURLINFO = OFF_T + 56;
// Since libcurl 8.2.
const CONN_ID: c::CURLINFO = OFF_T + 64;
const HTTP_VERSION: c::CURLINFO = 0x20_0000 + 46;
const HTTP_VERSION_2_0: c_long = 3;

/// One of the numbers above; 0 if libcurl does not say.
fn number(easy: Easy, info: c::CURLINFO) -> u64 {
    let mut value: i64 = 0;
    // SAFETY: the handle is in flight here, so the host keeps it alive; storage for a curl_off_t. Allowed at any time, inside
    // libcurl's callbacks too.
    unsafe { c::curl_easy_getinfo(easy.0, info, &mut value) };
    u64::try_from(value).unwrap_or(0)
}

/// Whether the URL that libcurl is at says so.
pub(crate) fn is_https(easy: Easy) -> bool {
    with_url(easy, |url| {
        url.get(..5)
            .is_some_and(|start| start.eq_ignore_ascii_case(b"https"))
    })
}

/// libcurl's number for the connection that the transfer has, or had last.
pub(crate) fn connection(easy: Easy) -> u64 {
    number(easy, CONN_ID)
}

/// Whether the answer has come over HTTP/2.
pub(crate) fn is_http2(easy: Easy) -> bool {
    let mut version: c_long = 0;
    // SAFETY: as in `number`; storage for a long.
    unsafe { c::curl_easy_getinfo(easy.0, HTTP_VERSION, &mut version) };
    version == HTTP_VERSION_2_0
}

/// The URL that libcurl is at, as the host or a server wrote it.
fn with_url<R>(easy: Easy, look: impl FnOnce(&[u8]) -> R) -> R {
    let mut url: *const c_char = ptr::null();
    // SAFETY: as in `number`; storage for a pointer.
    unsafe { c::curl_easy_getinfo(easy.0, c::CURLINFO_EFFECTIVE_URL, &mut url) };
    if url.is_null() {
        return look(b"");
    }
    // SAFETY: libcurl's text, valid until the next call for this handle.
    look(unsafe { CStr::from_ptr(url) }.to_bytes())
}

/// Whether libcurl keeps timeouts of the transfer's protocol to itself in socket mode: those for a server's answer in FTP,
/// IMAP, POP3 and SMTP (curl#23025), and all of TFTP's. By the URL, because the protocol is told after the connect only. A
/// host's name that begins so is one by which libcurl guesses the protocol where the URL has none.
pub(crate) fn is_untimed(easy: Easy) -> bool {
    const SCHEMES: [&[u8]; 5] = [b"ftp", b"imap", b"pop3", b"smtp", b"tftp"];
    with_url(easy, |url| {
        SCHEMES.iter().any(|scheme| {
            url.get(..scheme.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
        })
    })
}

/// How many bytes the transfer has moved, headers included.
pub(crate) fn moved(easy: Easy) -> u64 {
    let mut headers: c_long = 0;
    // SAFETY: as in `number`; storage for a long.
    unsafe { c::curl_easy_getinfo(easy.0, c::CURLINFO_HEADER_SIZE, &mut headers) };
    number(easy, SIZE_DOWNLOAD_T)
        + number(easy, SIZE_UPLOAD_T)
        + u64::try_from(headers).unwrap_or(0)
}

pub(crate) fn progress(easy: Easy) -> Progress {
    Progress {
        url: with_url(easy, |url| Text::line(|to| to.push_lossy(url))).unwrap_or_default(),
        looked_up: number(easy, NAMELOOKUP_TIME_T) > 0,
        connected: number(easy, CONNECT_TIME_T) > 0,
        secured: number(easy, APPCONNECT_TIME_T) > 0,
        asked: number(easy, PRETRANSFER_TIME_T) > 0,
        answered: number(easy, STARTTRANSFER_TIME_T) > 0,
        downloaded: number(easy, SIZE_DOWNLOAD_T),
        uploaded: number(easy, SIZE_UPLOAD_T),
    }
}

/// How many bytes a TCP connection has received, and how many it has sent that the peer has acknowledged; `None` where
/// that cannot be asked.
fn counts(socket: Socket) -> Option<(u64, u64)> {
    #[cfg(target_os = "linux")]
    {
        // `struct tcp_info`, which only grows: the fields are there since Linux 4.1.
        const ACKED: usize = 120 / 8;
        const RECEIVED: usize = 128 / 8;
        let mut info = [0u64; RECEIVED + 1];
        let mut size = std::mem::size_of_val(&info) as libc::socklen_t;
        // SAFETY: storage and its size; any descriptor will do.
        let code = unsafe {
            libc::getsockopt(
                socket,
                libc::IPPROTO_TCP,
                libc::TCP_INFO,
                info.as_mut_ptr().cast(),
                &mut size,
            )
        };
        let all = code == 0 && size as usize == std::mem::size_of_val(&info);
        all.then_some((info[RECEIVED], info[ACKED]))
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = socket;
        None
    }
}

/// How many bytes a TCP connection has received; `None` where that cannot be asked.
pub(crate) fn received(socket: Socket) -> Option<u64> {
    counts(socket).map(|(received, _)| received)
}

/// How far a socket has been read and written; `None` where that cannot be asked.
pub(crate) fn flow(socket: Socket) -> Option<Flow> {
    #[cfg(target_os = "linux")]
    {
        let (mut unread, mut unsent): (c_int, c_int) = (0, 0);
        // SAFETY: storage for an int each; any descriptor will do.
        let asked = unsafe {
            libc::ioctl(socket, libc::FIONREAD, &mut unread) == 0
                && libc::ioctl(socket, libc::TIOCOUTQ, &mut unsent) == 0
        };
        let counts = counts(socket);
        let (received, acknowledged) = counts.unwrap_or_default();
        asked.then_some(Flow {
            read: received as i64 - i64::from(unread),
            written: acknowledged as i64 + i64::from(unsent),
            counted: counts.is_some(),
        })
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = socket;
        None::<Flow>
    }
}

/// Whether `socket` is a TCP connection's, and not a resolver's, say, which the transfer also announces and which has no
/// close-socket function. Where that cannot be asked in one call the answer is no.
pub(crate) fn is_tcp(socket: Socket) -> bool {
    #[cfg(target_os = "linux")]
    {
        let mut protocol: c_int = 0;
        let mut size = std::mem::size_of::<c_int>() as libc::socklen_t;
        let (level, option) = (libc::SOL_SOCKET, libc::SO_PROTOCOL);
        // SAFETY: storage for an int and its size; any descriptor will do.
        let code = unsafe {
            libc::getsockopt(socket, level, option, (&raw mut protocol).cast(), &mut size)
        };
        code == 0 && protocol == libc::IPPROTO_TCP
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = socket;
        false
    }
}

/// Whether a descriptor that belongs to no transfer is the one with which libcurl's threads wake the multi handle: then it
/// lives as long as that, since 8.20. Everything else that libcurl announces so is a connection that is being closed.
pub(crate) fn is_wakeup(socket: Socket) -> bool {
    #[cfg(unix)]
    if VERSION_INFO.number >= since::WAKEUP_ANNOUNCED {
        let mut kind: c_int = 0;
        let mut size = std::mem::size_of::<c_int>() as libc::socklen_t;
        let (level, option) = (libc::SOL_SOCKET, libc::SO_TYPE);
        // An eventfd is not a socket. A socket pair, which libcurl uses elsewhere, could be a connection as well.
        // SAFETY: storage for an int and its size; any descriptor will do.
        let code =
            unsafe { libc::getsockopt(socket, level, option, (&raw mut kind).cast(), &mut size) };
        return code != 0;
    }
    let _ = socket;
    false
}

/// `curl_easy_pause`. An entry point like the multi functions: write callbacks run inside it (R14).
pub(crate) fn pause(easy: Easy, mask: c_int) -> Result<(), c_int> {
    // SAFETY: the handle is in flight here, so the host keeps it alive.
    match unsafe { c::curl_easy_pause(easy.0, mask) } {
        c::CURLE_OK => Ok(()),
        code => Err(code as c_int),
    }
}

/// The multi handle of one driver.
pub(crate) struct Multi {
    raw: *mut c::CURLM,
    get_offt: Option<GetOfft>,
}

impl Multi {
    pub(crate) fn new() -> Result<Multi, c_int> {
        // SAFETY: no condition beyond curl_global_init, which the caller has seen succeed.
        let raw = unsafe { c::curl_multi_init() };
        if raw.is_null() {
            return Err(error::ENOMEM);
        }
        Ok(Multi {
            raw,
            get_offt: find_get_offt(),
        })
    }

    /// Sets the callbacks that lead to `driver`, which must outlive the multi handle.
    pub(crate) fn attach(&self, driver: *const Driver) -> Result<(), c_int> {
        let socket: SocketFunction = callbacks::socket_wanted;
        let timer: TimerFunction = callbacks::timer_wanted;
        let driver = driver as *mut c_void;
        // SAFETY: a live multi handle; each option takes a pointer of the kind given.
        let codes = unsafe {
            [
                c::curl_multi_setopt(self.raw, c::CURLMOPT_SOCKETFUNCTION, socket),
                c::curl_multi_setopt(self.raw, c::CURLMOPT_SOCKETDATA, driver),
                c::curl_multi_setopt(self.raw, c::CURLMOPT_TIMERFUNCTION, timer),
                c::curl_multi_setopt(self.raw, c::CURLMOPT_TIMERDATA, driver),
            ]
        };
        for code in codes {
            check(code)?;
        }
        if VERSION_INFO.number >= since::MULTI_QUICK_EXIT {
            // curl_multi_cleanup would otherwise wait for the resolver's threads, that is for a dead name server.
            // SAFETY: the option exists since 8.20 and takes a long; not having it costs only that wait.
            unsafe { c::curl_multi_setopt(self.raw, CURLMOPT_QUICK_EXIT, 1 as c_long) };
        }
        Ok(())
    }

    /// From now on libcurl reports neither sockets nor timers (R16: before the poll handles go).
    pub(crate) fn detach(&self) {
        let none = ptr::null::<c_void>();
        // SAFETY: a live multi handle; libcurl tests both functions for NULL at each use. Cannot fail.
        unsafe {
            c::curl_multi_setopt(self.raw, c::CURLMOPT_SOCKETFUNCTION, none);
            c::curl_multi_setopt(self.raw, c::CURLMOPT_TIMERFUNCTION, none);
        }
    }

    pub(crate) fn add(&self, easy: Easy, settings: Settings) -> Result<(), c_int> {
        // SAFETY: a live multi handle, and the host promises a live easy handle.
        let added = check(unsafe { c::curl_multi_add_handle(self.raw, easy.0) });
        if !matches!(added, Ok(()) | Err(error::EBUSY | error::RECURSIVE)) {
            // 8.20.0 may fail for want of memory when it has added the handle, which would then run all the same.
            // SAFETY: as above; one that is in no multi handle is none of libcurl's business.
            unsafe { c::curl_multi_remove_handle(self.raw, easy.0) };
        }
        added?;
        if !settings.untouched {
            let close: CloseSocketFunction = callbacks::socket_closing;
            // Only now: had the handle belonged to another multi handle, its connections would have got our function.
            // SAFETY: as in `prepare`; the option takes a function of this type. Cannot fail.
            unsafe { c::curl_easy_setopt(easy.0, c::CURLOPT_CLOSESOCKETFUNCTION, close) };
        }
        Ok(())
    }

    pub(crate) fn set_max_connects(&self, limit: usize) -> Result<(), c_int> {
        let limit = c_long::try_from(limit).unwrap_or(c_long::MAX);
        // SAFETY: a live multi handle, and a long.
        check(unsafe { c::curl_multi_setopt(self.raw, c::CURLMOPT_MAXCONNECTS, limit) })
    }

    pub(crate) fn remove(&self, easy: Easy) -> Result<(), c_int> {
        // SAFETY: both handles are live.
        check(unsafe { c::curl_multi_remove_handle(self.raw, easy.0) })
    }

    pub(crate) fn act(&self, action: Action) -> Result<(), c_int> {
        let (socket, mask) = match action {
            Action::Timeout => (c::CURL_SOCKET_TIMEOUT, 0),
            Action::Ready(socket, events) => (socket, select_bits(events)),
            // Never ERR alone: before 8.10 libcurl would then not read what had arrived before the error (R9).
            Action::Failed(socket) => (
                socket,
                select_bits(Events::IN.union(Events::OUT)) | c::CURL_CSELECT_ERR,
            ),
            Action::Look(socket) => (socket, 0),
            Action::Everything => {
                let mut running = 0;
                // SAFETY: a live multi handle and storage for the count. Deprecated, but the one call that serves the
                // timeouts of transfers behind a connection limit *and* tells the sockets afterwards.
                return check(unsafe { c::curl_multi_socket_all(self.raw, &mut running) });
            }
        };
        // Always with storage: NULL crashed libcurl before 8.9.1 (S15).
        let mut running = 0;
        // SAFETY: a live multi handle; libcurl ignores descriptors it does not know.
        check(unsafe { c::curl_multi_socket_action(self.raw, socket, mask, &mut running) })
    }

    /// Milliseconds to libcurl's deadline, or -1.
    pub(crate) fn timeout(&self) -> i64 {
        let mut ms: c_long = -1;
        // SAFETY: a live multi handle and storage for the answer.
        unsafe { c::curl_multi_timeout(self.raw, &mut ms) };
        ms as i64
    }

    /// Whether libcurl is on the stack below a call that the host has made by itself.
    pub(crate) fn is_busy(&self) -> bool {
        let mut ms: c_long = -1;
        // SAFETY: as in `timeout`.
        let code = unsafe { c::curl_multi_timeout(self.raw, &mut ms) };
        check(code) == Err(error::RECURSIVE)
    }

    /// The next finished transfer and its result, and how many messages are left. The message dies with the next call, so it
    /// is copied here.
    pub(crate) fn next_done(&self) -> Option<((Easy, c_int), c_int)> {
        loop {
            let mut left = 0;
            // SAFETY: a live multi handle and storage for the count.
            let message = unsafe { c::curl_multi_info_read(self.raw, &mut left) };
            if message.is_null() {
                return None;
            }
            // SAFETY: libcurl's message is valid until the next call into the multi handle.
            let message = unsafe { &*message };
            if message.msg == c::CURLMSG_DONE {
                // For CURLMSG_DONE the union `data` holds a CURLcode, at its start on every platform.
                // SAFETY: the union is pointer sized and a CURLcode is not larger.
                let code = unsafe { *ptr::addr_of!(message.data).cast::<c::CURLcode>() };
                return Some(((Easy(message.easy_handle), code as c_int), left));
            }
        }
    }

    /// How many transfers libcurl holds back behind a connection limit; `None` if this libcurl does not say.
    pub(crate) fn pending(&self) -> Option<i64> {
        let get = self.get_offt?;
        let mut count = 0;
        // SAFETY: a live multi handle, a value of CURLMinfo_offt, storage for a curl_off_t.
        match unsafe { get(self.raw, CURLMINFO_XFERS_PENDING, &mut count) } {
            c::CURLM_OK => Some(count),
            _ => None,
        }
    }

    /// Makes libcurl look again at `count` of the transfers it holds back, their timeouts included: each handle that leaves
    /// the multi handle makes it try one of them. Without memory nothing happens.
    pub(crate) fn try_pending(&self, count: i64) {
        // SAFETY: no conditions; curl_global_init has been run.
        let easy = unsafe { c::curl_easy_init() };
        if easy.is_null() {
            return;
        }
        let settings = Settings { untouched: false };
        prepare(Easy(easy), settings);
        for _ in 0..count {
            // SAFETY: both handles are live; this one is added to nothing else, and never runs.
            unsafe {
                if c::curl_multi_add_handle(self.raw, easy) != c::CURLM_OK {
                    break;
                }
                c::curl_multi_remove_handle(self.raw, easy);
            }
        }
        // SAFETY: ours, and out of the multi handle.
        unsafe { c::curl_easy_cleanup(easy) };
    }

    /// libcurl's code for timeouts of pending transfers is reached by [`Action::Everything`] since 8.8.
    pub(crate) fn serves_pending(&self) -> bool {
        VERSION_INFO.number >= since::PENDING_SERVED
    }

    /// May call the host's close-socket and debug functions, but neither of the multi handle's callbacks.
    pub(crate) fn cleanup(&self) {
        // SAFETY: every easy handle has been removed, and the driver makes no call after this one.
        unsafe { c::curl_multi_cleanup(self.raw) };
    }

    pub(crate) fn raw(&self) -> *mut c::CURLM {
        self.raw
    }
}

fn check(code: c::CURLMcode) -> Result<(), c_int> {
    // CURLM_CALL_MULTI_PERFORM (-1) is no error; old functions may still return it.
    if code <= c::CURLM_OK {
        Ok(())
    } else {
        Err(error::from_multi(code))
    }
}

fn select_bits(events: Events) -> c_int {
    let mut bits = 0;
    if events.contains(Events::IN) {
        bits |= c::CURL_CSELECT_IN;
    }
    if events.contains(Events::OUT) {
        bits |= c::CURL_CSELECT_OUT;
    }
    bits
}

/// `curl_multi_get_offt` is newer (8.16) than the oldest libcurl that may be linked, so it is looked up at run time where
/// libcurl is shared, and named directly where it is an embedded one that has it.
#[cfg(all(feature = "bundled-curl", has_multi_get_offt))]
fn find_get_offt() -> Option<GetOfft> {
    extern "C" {
        fn curl_multi_get_offt(multi: *mut c::CURLM, info: c_int, value: *mut i64) -> c::CURLMcode;
    }
    Some(curl_multi_get_offt)
}

#[cfg(all(not(feature = "bundled-curl"), unix))]
fn find_get_offt() -> Option<GetOfft> {
    if VERSION_INFO.number < since::GET_OFFT {
        return None;
    }
    // SAFETY: dlsym takes any handle and a C string.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"curl_multi_get_offt".as_ptr()) };
    if found.is_null() {
        return None;
    }
    // SAFETY: libcurl documents this signature for the function of this name.
    Some(unsafe { std::mem::transmute::<*mut c_void, GetOfft>(found) })
}

#[cfg(any(
    all(feature = "bundled-curl", not(has_multi_get_offt)),
    all(not(feature = "bundled-curl"), not(unix))
))]
fn find_get_offt() -> Option<GetOfft> {
    None
}
