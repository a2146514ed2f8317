//! Door OUT: every call that uvcurl makes into libuv and libcurl.
//!
//! The rest of the crate sees thin owning types without `unsafe` in their use. Under `cfg(test)` the same names come
//! from [`fake`], which records the calls and plays any order of events.

#[cfg(not(test))]
mod curl;
#[cfg(test)]
pub(crate) mod fake;
#[cfg(not(test))]
mod uv;

#[cfg(not(test))]
pub(crate) use self::curl::{
    connection, connects, curl_text, flow, global_init, is_http2, is_https, is_tcp, is_untimed,
    is_wakeup, libcurl, moved, pause, prepare, progress, received, release, stays_ready, Multi,
    Settings, VERSION_INFO,
};
#[cfg(test)]
pub(crate) use self::fake::{
    connection, connects, flow, is_http2, is_https, is_tcp, is_untimed, is_wakeup, libcurl, moved,
    now_ns, pause, prepare, progress, received, release, stays_ready, Check, CloseFn, DoneFn, Hold,
    Idle, LogFn, Loop, Multi, Poll, Settings, Timer,
};
#[cfg(not(test))]
pub(crate) use self::uv::{
    closed, foreign_loop, libuv, now_ns, owner, uv_texts, Check, CloseFn, DoneFn, Hold, Idle,
    LogFn, Loop, Poll, Timer,
};

use curl_sys as curl_c;

/// A descriptor as libcurl names it.
pub(crate) type Socket = curl_c::curl_socket_t;

/// The host's easy handle. uvcurl compares these pointers and lends them to libcurl; it never looks inside.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Easy(pub(crate) *mut curl_c::CURL);

/// Readiness of a socket, in libuv's bits (`UV_READABLE`, `UV_WRITABLE`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Events(pub(crate) u8);

impl Events {
    pub(crate) const NONE: Events = Events(0);
    pub(crate) const IN: Events = Events(libuv_sys2::uv_poll_event_UV_READABLE as u8);
    pub(crate) const OUT: Events = Events(libuv_sys2::uv_poll_event_UV_WRITABLE as u8);

    pub(crate) fn union(self, other: Events) -> Events {
        Events(self.0 | other.0)
    }
    pub(crate) fn without(self, other: Events) -> Events {
        Events(self.0 & !other.0)
    }
    pub(crate) fn contains(self, other: Events) -> bool {
        self.0 & other.0 == other.0
    }
}

/// What a call of `curl_multi_socket_action` is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Action {
    /// libcurl's deadline has come.
    Timeout,
    /// The socket is ready.
    Ready(Socket, Events),
    /// libuv reported an error on the socket, or cannot watch it.
    Failed(Socket),
    /// Nothing is known; libcurl is to look at the transfers of this socket.
    Look(Socket),
    /// Look at every transfer, also at those libcurl holds back behind a connection limit.
    Everything,
}

/// What has been read from a socket and written to it so far, from where one does not know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Flow {
    pub(crate) read: i64,
    pub(crate) written: i64,
    /// A TCP connection's, whose bytes the kernel counts. All that is known of others is what waits in their queues: bytes
    /// that were written and are gone again at once do not show.
    pub(crate) counted: bool,
}

/// How far libcurl has come with a transfer, as far as `curl_easy_getinfo` tells.
#[derive(Clone, Default, Debug)]
pub(crate) struct Progress {
    pub(crate) url: String,
    pub(crate) looked_up: bool,
    pub(crate) connected: bool,
    pub(crate) secured: bool,
    pub(crate) asked: bool,
    pub(crate) answered: bool,
    pub(crate) downloaded: u64,
    pub(crate) uploaded: u64,
}
