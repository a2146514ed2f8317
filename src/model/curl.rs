//! The multi handle: easy handles and their sockets, one deadline, messages, and what it refuses while it is on the stack.

use libc::c_int;

use super::host::{Asked, Wrote};
use super::{both, easy, nature, number, Model, ADMIN};
use crate::driver::Driver;
use crate::error;
use crate::socket::LOOK_BROKEN_MS;
use crate::sys::{Action, Easy, Events, Flow, Socket};

/// CURLE_RECURSIVE_API_CALL.
const RECURSIVE: c_int = 93;
const TIMED_OUT: c_int = 28;
const NO_CONNECTION: c_int = curl_sys::CURLE_BAD_FUNCTION_ARGUMENT as c_int;
/// CURLPAUSE_RECV and CURLPAUSE_SEND.
pub(super) const RECV: c_int = 1;
pub(super) const SEND: c_int = 4;
/// When the second address of a host is tried beside the first, and how long a connection that closes is waited for.
const SECOND_MS: u64 = 200;
const SHUTDOWN_MS: u64 = 2_000;
/// So many events for nothing make the driver leave a socket alone, and so many of the last must have been for nothing.
const SPIN: u32 = 127;
const LAST_OF_SPIN: u32 = 63;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Stage {
    /// Not in the multi handle.
    #[default]
    Out,
    Init,
    /// Behind the connection limit.
    Pending,
    Resolving,
    Connecting,
    Sending,
    Receiving,
    /// Its message is written.
    Done,
}

/// An easy handle.
#[derive(Default)]
pub(super) struct Xfer {
    pub(super) stage: Stage,
    pub(super) added: bool,
    /// The host has it; it cleans up in the done callback, and a start makes a new one in the same place.
    pub(super) alive: bool,
    /// Our close-socket function is set on it.
    pub(super) hook: bool,
    pub(super) mask: c_int,
    socks: Vec<Socket>,
    connects: u64,
    expires: Vec<u64>,
    deadline: Option<u64>,
    dirty: bool,
    tries: u32,
    /// By the wake-up descriptor: whether the lookup has ended.
    looked_up: Option<bool>,
    /// It waits to write, or its sending is done in parts.
    blocked: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Connection,
    Lookup,
    Wakeup,
}

/// A descriptor of libcurl's.
#[derive(Clone, Debug)]
pub(super) struct Sock {
    pub(super) kind: Kind,
    /// It has our close-socket function.
    hooked: bool,
    connected: bool,
    readable: bool,
    writable: bool,
    pub(super) error: bool,
    gone: bool,
    shutting: bool,
    /// What the socket callback has been told.
    pub(super) announced: Events,
    /// Whose call announced it last.
    pub(super) speaker: Option<(usize, u64)>,
    /// A call of libuv's for it has failed.
    pub(super) spoilt: bool,
    /// How often it has been read and written.
    moved: (i64, i64),
    spin: Spin,
}

/// How a connection stays ready for nothing.
#[derive(Clone, Copy, Debug)]
struct Spin {
    /// Events since it was announced, or read or written, last.
    events: u32,
    moved: (i64, i64),
    at_ms: u64,
    /// What it has been ready for, for nothing.
    busy: Events,
    /// A transfer has been resumed, or paused in another way: it must be watched for everything.
    anew: bool,
}

impl Sock {
    pub(super) fn ready(&self) -> Events {
        let mut ready = Events::NONE;
        if self.readable || self.gone {
            ready = ready.union(Events::IN);
        }
        if self.writable {
            ready = ready.union(Events::OUT);
        }
        ready
    }
}

impl Spin {
    fn new(moved: (i64, i64)) -> Spin {
        Spin {
            events: 0,
            moved,
            at_ms: 0,
            busy: Events::NONE,
            anew: false,
        }
    }
}

/// Something that comes from outside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Event {
    Connects(Socket),
    LooksUp(usize),
    Answers(Socket),
    Refuses(Socket),
    Leaves(Socket),
    /// A connection of a shared pool is closed by another user of it, and the host gets its number.
    Taken(Socket),
}

/// The door that the driver has.
impl Model {
    pub(crate) fn libcurl(&self) -> u32 {
        self.s(|s| s.scenario.libcurl)
    }

    fn enter<R>(&self, name: &str, call: impl FnOnce() -> R) -> Result<R, c_int> {
        let refused = self.s(|s| std::mem::replace(&mut s.inside, true));
        if refused {
            if self.s(|s| s.own) {
                self.log(|| format!("  {name} is refused"));
                // Whatever is tried later comes in another order.
                self.s(|s| s.asked.clear());
            } else {
                self.violation("forbidden call", || format!("{name} inside libcurl"));
            }
            return Err(error::RECURSIVE);
        }
        if self.s(|s| s.cleaned) {
            self.violation("forbidden call", || format!("{name} after the cleanup"));
        }
        self.s(|s| s.call += 1);
        let result = call();
        self.s(|s| s.inside = false);
        Ok(result)
    }

    /// The number of an easy handle that the host has.
    fn known(&self, name: &str, easy: Easy) -> Option<usize> {
        let at = number(easy);
        let alive = self.s(|s| s.xfers.get(at).is_some_and(|xfer| xfer.alive));
        self.check(alive, "forbidden call", || {
            format!("{name} of a handle that the host has cleaned up: {at}")
        });
        alive.then_some(at)
    }

    pub(crate) fn prepare(&self, easy: Easy) {
        self.known("prepare", easy);
    }

    pub(crate) fn release(&self, easy: Easy, untouched: bool) {
        if let Some(at) = self.known("release", easy) {
            self.check(self.s(|s| !s.xfers[at].added), "forbidden call", || {
                format!("release of {at} while libcurl has it")
            });
            if !untouched {
                self.s(|s| s.xfers[at].hook = false);
            }
        }
    }

    pub(crate) fn connects(&self, easy: Easy) -> u64 {
        self.known("getinfo", easy)
            .map_or(0, |at| self.s(|s| s.xfers[at].connects))
    }

    pub(crate) fn is_tcp(&self, socket: Socket) -> bool {
        self.s(|s| {
            s.socks
                .get(&socket)
                .is_some_and(|sock| sock.kind == Kind::Connection)
        })
    }

    pub(crate) fn is_wakeup(&self, socket: Socket) -> bool {
        self.s(|s| s.wakeup == Some(socket))
    }

    pub(crate) fn stays_ready(&self, socket: Socket, events: Events) -> bool {
        self.s(|s| {
            s.socks
                .get(&socket)
                .is_some_and(|sock| both(sock.ready(), events) != Events::NONE)
        })
    }

    pub(crate) fn flow(&self, socket: Socket) -> Option<Flow> {
        self.s(|s| {
            let sock = s.socks.get(&socket)?;
            (sock.kind == Kind::Connection).then_some(Flow {
                read: sock.moved.0,
                written: sock.moved.1,
                counted: true,
            })
        })
    }

    pub(crate) fn attach(&self) -> Result<(), c_int> {
        if self.fault("curl_multi_setopt") {
            return Err(error::UVCURL_E_MULTI);
        }
        self.s(|s| s.attached = true);
        if self.has(nature::WAKEUP) {
            let socket = self.open(Kind::Wakeup, false);
            self.s(|s| s.wakeup = Some(socket));
        }
        Ok(())
    }

    pub(crate) fn detach(&self) {
        self.check(self.s(|s| !s.inside), "forbidden call", || {
            "curl_multi_setopt inside libcurl".to_owned()
        });
        self.s(|s| s.attached = false);
    }

    pub(crate) fn set_max_connects(&self, limit: usize) -> Result<(), c_int> {
        self.enter("curl_multi_setopt", || {
            self.log(|| format!("  max connects {limit}"));
            if self.fault("curl_multi_setopt") {
                return Err(error::ENOMEM);
            }
            Ok(())
        })?
    }

    pub(crate) fn add(&self, easy: Easy, untouched: bool) -> Result<(), c_int> {
        self.enter("curl_multi_add_handle", || {
            let Some(at) = self.known("add", easy) else {
                return Err(error::EINVAL);
            };
            self.not_broken("add");
            self.log(|| format!("  add {at}"));
            if self.s(|s| s.xfers[at].added) {
                self.violation("forbidden call", || format!("{at} is added twice"));
                return Err(error::EBUSY);
            }
            self.executes(Asked::Add(at));
            if self.fault("curl_multi_add_handle") {
                let error = [error::ENOMEM, error::EBUSY, error::UVCURL_E_MULTI][self.choose(3)];
                self.refused(at, error);
                return Err(error);
            }
            self.s(|s| {
                let timeout = s.scenario.timeout_ms;
                let deadline = (timeout > 0).then(|| s.now_ms + timeout);
                s.xfers[at] = Xfer {
                    stage: Stage::Init,
                    added: true,
                    alive: true,
                    hook: !untouched,
                    mask: s.xfers[at].mask,
                    dirty: true,
                    deadline,
                    expires: deadline.into_iter().collect(),
                    ..Xfer::default()
                };
                if let Some(flight) = &mut s.flights[at] {
                    flight.deadline = deadline;
                    flight.slept_before = s.slept;
                }
            });
            self.update_timer();
            Ok(())
        })?
    }

    pub(crate) fn remove(&self, easy: Easy) -> Result<(), c_int> {
        self.enter("curl_multi_remove_handle", || {
            let Some(at) = self.known("remove", easy) else {
                return;
            };
            self.log(|| format!("  remove {at}"));
            if self.s(|s| !s.xfers[at].added) {
                self.violation("forbidden call", || {
                    format!("{at} is removed and was not added")
                });
                return;
            }
            self.executes(Asked::End(at));
            self.let_go(at);
            let stage = self.s(|s| s.xfers[at].stage);
            if !matches!(stage, Stage::Init | Stage::Pending | Stage::Done) {
                self.host_in_callback(at, false);
            }
            self.s(|s| {
                s.messages.retain(|(done, _)| *done != at);
                s.pending.retain(|pending| *pending != at);
            });
            self.detach_from_sockets(at, stage == Stage::Done);
            self.s(|s| {
                let xfer = &mut s.xfers[at];
                xfer.added = false;
                xfer.stage = Stage::Out;
                xfer.dirty = false;
                xfer.expires.clear();
                xfer.looked_up = None;
                if s.xfers.iter().all(|xfer| !xfer.added) {
                    s.broken = false;
                }
            });
            self.schedule_pending();
            self.update_sockets(at);
            self.update_timer();
        })
    }

    pub(crate) fn pause(&self, easy: Easy, mask: c_int) -> Result<(), c_int> {
        self.enter("curl_easy_pause", || {
            let Some(at) = self.known("pause", easy) else {
                return Err(NO_CONNECTION);
            };
            self.log(|| format!("  pause {at} {mask}"));
            self.check(self.s(|s| s.xfers[at].added), "forbidden call", || {
                format!("{at} is paused and is not in the multi handle")
            });
            self.executes(Asked::Pause(at));
            if self.fault("curl_easy_pause") {
                let code = [23, 27][self.choose(2)];
                self.ends_with(at, code);
                return Err(code);
            }
            let result = self.pause_inside(at, mask);
            if result.is_ok() {
                let all: Vec<Socket> = self.s(|s| s.socks.keys().copied().collect());
                for socket in all {
                    let armed = self.armed(socket).unwrap_or(Events::NONE);
                    self.s(|s| {
                        if let Some(sock) = s.socks.get_mut(&socket) {
                            if sock.announced != armed {
                                sock.spin = Spin::new(sock.moved);
                            }
                            sock.spin.anew = true;
                        }
                    });
                }
            }
            result
        })
        .map_err(|_| RECURSIVE)?
    }

    fn pause_inside(&self, at: usize, mask: c_int) -> Result<(), c_int> {
        let stage = self.s(|s| s.xfers[at].stage);
        if matches!(
            stage,
            Stage::Out | Stage::Init | Stage::Pending | Stage::Resolving | Stage::Done
        ) {
            return Err(NO_CONNECTION);
        }
        let before = self.s(|s| std::mem::replace(&mut s.xfers[at].mask, mask));
        let mut result = Ok(());
        if before & RECV != 0 && mask & RECV == 0 {
            let kept = stage == Stage::Receiving
                && self.s(|s| {
                    let first = s.xfers[at].socks.first();
                    first.is_some_and(|socket| s.socks[socket].readable)
                });
            if kept {
                // What was kept goes to the write callback before this returns (R14).
                match self.host_in_callback(at, true) {
                    Wrote::All => {}
                    Wrote::Pauses => self.s(|s| s.xfers[at].mask |= RECV),
                    Wrote::Fails => {
                        self.ends_with(at, 23);
                        result = Err(23);
                    }
                }
            }
        }
        self.s(|s| s.xfers[at].dirty = true);
        self.update_sockets(at);
        self.update_timer();
        result
    }

    /// The host calls curl_easy_pause(CURLPAUSE_CONT) itself.
    pub(super) fn own_pause(&self, at: usize) {
        self.log(|| format!("host: curl_easy_pause({at}, 0) of its own"));
        self.s(|s| {
            s.inside = true;
            s.own = true;
            s.call += 1;
        });
        self.s(|s| {
            if let Some(flight) = &mut s.flights[at] {
                flight.pause = None;
            }
        });
        let before = self.s(|s| s.xfers[at].mask);
        self.s(|s| s.xfers[at].mask |= RECV);
        if self.pause_inside(at, 0) == Err(NO_CONNECTION) {
            self.s(|s| s.xfers[at].mask = before);
        }
        self.s(|s| {
            s.inside = false;
            s.own = false;
        });
        self.log(|| "host: that has returned".to_owned());
    }

    pub(crate) fn act(&self, action: Action) -> Result<(), c_int> {
        self.enter("curl_multi_socket_action", || {
            self.log(|| format!("  act {action:?}"));
            self.not_broken("socket_action");
            let fails = self.fault("curl_multi_socket_action");
            if fails && self.choose(2) == 0 {
                return Err(self.breaks());
            }
            if action == Action::Timeout && !self.has(nature::FORGETS) {
                self.s(|s| s.told = None);
            }
            let mut list = match action {
                Action::Ready(socket, _) | Action::Failed(socket) | Action::Look(socket) => {
                    self.users(socket)
                }
                Action::Timeout => Vec::new(),
                Action::Everything => (0..self.s(|s| s.xfers.len())).collect(),
            };
            let admin = match action {
                Action::Ready(socket, _) | Action::Failed(socket) | Action::Look(socket) => {
                    self.s(|s| {
                        s.wakeup == Some(socket)
                            || s.socks.get(&socket).is_some_and(|sock| sock.shutting)
                    })
                }
                Action::Everything => true,
                Action::Timeout => false,
            };
            let served = action == Action::Everything && self.has(nature::COUNTS_PENDING);
            for at in self.expired(served) {
                if !list.contains(&at) {
                    list.push(at);
                }
            }
            if admin || self.s(|s| s.admin_expires.is_some_and(|due| due <= s.now_ms)) {
                self.run_admin();
            }
            for at in list {
                if served || self.s(|s| s.xfers[at].stage != Stage::Pending) {
                    self.run(at, served);
                    self.update_sockets(at);
                }
            }
            self.schedule_pending();
            self.update_sockets(ADMIN);
            self.update_timer();
            if fails {
                return Err(self.breaks());
            }
            Ok(())
        })?
    }

    fn breaks(&self) -> c_int {
        let error = error::UVCURL_E_MULTI;
        self.s(|s| s.broken = s.xfers.iter().any(|xfer| xfer.added));
        for at in 0..self.s(|s| s.flights.len()) {
            // What has ended by itself keeps its own result.
            if self.s(|s| s.flights[at].as_ref().is_some_and(|f| f.message.is_none())) {
                self.ends_with(at, error);
            }
        }
        error
    }

    fn not_broken(&self, name: &str) {
        self.check(self.s(|s| !s.broken), "forbidden call", || {
            format!("{name} of a multi handle that has failed and is not empty")
        });
    }

    pub(crate) fn timeout(&self) -> i64 {
        self.s(|s| !s.inside)
            .then(|| self.deadline())
            .flatten()
            .map_or(-1, |due| due.saturating_sub(self.s(|s| s.now_ms)) as i64)
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.s(|s| s.inside)
    }

    pub(crate) fn next_done(&self) -> Option<((Easy, c_int), c_int)> {
        self.check(self.s(|s| !s.cleaned), "forbidden call", || {
            "messages are read after the cleanup".to_owned()
        });
        if self.s(|s| s.inside) {
            // Up to 8.21 it says that there are none.
            self.check(self.s(|s| s.own), "forbidden call", || {
                "messages are read inside libcurl".to_owned()
            });
            return None;
        }
        let (at, code) = self.s(|s| s.messages.pop_front())?;
        self.s(|s| {
            if let Some(flight) = &mut s.flights[at] {
                flight.popped = true;
            }
        });
        let left = self.s(|s| s.messages.len());
        Some(((easy(at), code), left as c_int))
    }

    pub(crate) fn pending(&self) -> Option<i64> {
        self.has(nature::COUNTS_PENDING)
            .then(|| self.s(|s| s.pending.len() as i64))
    }

    pub(crate) fn serves_pending(&self) -> bool {
        self.has(nature::COUNTS_PENDING)
    }

    pub(crate) fn try_pending(&self, count: i64) {
        let _ = self.enter("add and remove", || {
            self.not_broken("add");
            self.log(|| format!("  try {count} of those held back"));
            for _ in 0..count {
                if let Some(at) = self.s(|s| s.pending.pop_front()) {
                    self.s(|s| {
                        s.xfers[at].stage = Stage::Init;
                        s.xfers[at].dirty = true;
                    });
                }
            }
            self.update_timer();
        });
    }

    pub(crate) fn cleanup(&self) {
        let _ = self.enter("curl_multi_cleanup", || {
            self.log(|| "  cleanup".to_owned());
            self.check(
                self.s(|s| s.xfers.iter().all(|xfer| !xfer.added)),
                "forbidden call",
                || "cleanup with easy handles still added".to_owned(),
            );
            self.check(self.s(|s| !s.attached), "forbidden call", || {
                "cleanup with the callbacks set".to_owned()
            });
            let all: Vec<Socket> = self.s(|s| s.socks.keys().copied().collect());
            for socket in all {
                self.close_now(socket);
            }
            self.s(|s| s.wakeup = None);
        });
        self.s(|s| s.cleaned = true);
    }
}

/// What libcurl does.
impl Model {
    fn open(&self, kind: Kind, hooked: bool) -> Socket {
        let socket = self.free_number();
        self.log(|| format!("  {socket} = socket() for {kind:?}"));
        self.s(|s| {
            s.socks.insert(
                socket,
                Sock {
                    kind,
                    hooked,
                    connected: false,
                    readable: false,
                    writable: false,
                    error: false,
                    gone: false,
                    shutting: false,
                    announced: Events::NONE,
                    speaker: None,
                    spoilt: false,
                    moved: (0, 0),
                    spin: Spin::new((0, 0)),
                },
            )
        });
        socket
    }

    fn users(&self, socket: Socket) -> Vec<usize> {
        self.s(|s| {
            let uses = |at: &usize| s.xfers[*at].added && s.xfers[*at].socks.contains(&socket);
            (0..s.xfers.len()).filter(uses).collect()
        })
    }

    /// Those whose time has come. Of those held back it is forgotten, unless they are served (S10).
    fn expired(&self, served: bool) -> Vec<usize> {
        self.s(|s| {
            let now = s.now_ms;
            let mut list = Vec::new();
            for (at, xfer) in s.xfers.iter_mut().enumerate() {
                let before = xfer.expires.len();
                xfer.expires.retain(|due| *due > now);
                let due = before != xfer.expires.len();
                let dirty = std::mem::take(&mut xfer.dirty);
                if xfer.added && (dirty || due) && (xfer.stage != Stage::Pending || served) {
                    list.push(at);
                }
            }
            list
        })
    }

    pub(super) fn deadline(&self) -> Option<u64> {
        self.s(|s| {
            if s.xfers.iter().any(|xfer| xfer.added && xfer.dirty) {
                return Some(s.now_ms);
            }
            let mut all: Vec<u64> = s.admin_expires.into_iter().collect();
            all.extend(s.xfers.iter().flat_map(|xfer| xfer.expires.iter().copied()));
            all.into_iter().min()
        })
    }

    /// Tells of the deadline if it is another than the one told last, by its absolute time.
    fn update_timer(&self) {
        if self.s(|s| !s.attached) {
            return;
        }
        let next = self.deadline();
        let dirty = self.s(|s| s.xfers.iter().any(|xfer| xfer.added && xfer.dirty));
        let next = next.map(|due| {
            // What is to run at once has a time of its own each time, in microseconds.
            let stamp = self.s(|s| {
                s.stamp += u64::from(dirty);
                s.stamp
            });
            (due, if dirty { stamp } else { 0 })
        });
        if self.s(|s| std::mem::replace(&mut s.told, next)) == next {
            return;
        }
        let ms = next.map_or(-1, |(due, _)| {
            due.saturating_sub(self.s(|s| s.now_ms)) as i64
        });
        self.log(|| format!("  timer callback {ms}"));
        self.driver(|driver| driver.timer_wanted(ms));
    }

    fn wants(&self, socket: Socket) -> Events {
        self.s(|s| {
            let mut events = Events::NONE;
            for xfer in s.xfers.iter().filter(|xfer| xfer.added) {
                if xfer.socks.contains(&socket) {
                    events = events.union(match xfer.stage {
                        Stage::Resolving => Events::IN,
                        Stage::Connecting => Events::OUT,
                        Stage::Sending if xfer.mask & SEND == 0 => Events::OUT,
                        Stage::Receiving if s.scenario.nature & nature::SPINS != 0 => {
                            Events::IN.union(Events::OUT)
                        }
                        Stage::Receiving if xfer.mask & RECV == 0 => Events::IN,
                        _ => Events::NONE,
                    });
                }
            }
            let sock = &s.socks[&socket];
            let lookups = s
                .xfers
                .iter()
                .any(|xfer| xfer.added && xfer.stage != Stage::Done);
            if sock.shutting || (sock.kind == Kind::Wakeup && lookups) {
                events = events.union(Events::IN);
            }
            events
        })
    }

    /// Tells of what has changed, new wishes first.
    fn update_sockets(&self, at: usize) {
        if self.s(|s| !s.attached) {
            return;
        }
        let all: Vec<Socket> = self.s(|s| s.socks.keys().copied().collect());
        for removes in [false, true] {
            for socket in &all {
                let before = self.s(|s| s.socks.get(socket).map(|sock| sock.announced));
                let Some(before) = before else { continue };
                let wanted = self.wants(*socket);
                if wanted == before || (wanted == Events::NONE) != removes {
                    continue;
                }
                let ours = !self.s(|s| {
                    let sock = &s.socks[socket];
                    sock.kind == Kind::Wakeup || sock.shutting
                });
                let at = if ours { at } else { ADMIN };
                self.announce(at, *socket, wanted);
            }
        }
    }

    fn announce(&self, at: usize, socket: Socket, events: Events) {
        self.log(|| format!("  socket callback {socket} {} for {at}", events.0));
        self.s(|s| {
            let token = s.flights.get(at).and_then(Option::as_ref).map(|f| f.token);
            if let Some(sock) = s.socks.get_mut(&socket) {
                sock.announced = events;
                sock.speaker = token.map(|token| (at, token));
                sock.spoilt = false;
                sock.spin = Spin::new(sock.moved);
            }
        });
        self.driver(|driver: &Driver| driver.socket_wanted(easy(at), socket, events));
        // Memory for the record may have been refused.
        if super::alloc::counts().1 > 0 && events != Events::NONE && !self.is_watched(socket) {
            self.may_end_with(socket, error::ENOMEM);
        }
    }

    /// An error of libuv's for `socket` may be the result of the transfer that spoke of it last.
    pub(super) fn may_end_with(&self, socket: Socket, error: c_int) {
        let speaker = self.s(|s| {
            let sock = s.socks.get_mut(&socket)?;
            sock.spoilt = true;
            sock.speaker
        });
        if let Some((at, token)) = speaker {
            self.s(|s| {
                if let Some(flight) = s.flights[at].as_mut().filter(|f| f.token == token) {
                    flight.faults.push(error);
                }
            });
        }
    }

    /// Whether the transfer that spoke of it last is still in flight, unsettled.
    pub(super) fn speaker_lives(&self, socket: Socket) -> bool {
        self.s(|s| {
            s.socks
                .get(&socket)
                .and_then(|sock| sock.speaker)
                .is_some_and(|(at, token)| {
                    s.xfers[at].added
                        && s.flights[at]
                            .as_ref()
                            .is_some_and(|f| f.token == token && !f.is_settled())
                })
        })
    }

    fn close_now(&self, socket: Socket) {
        if self.s(|s| s.socks[&socket].hooked) {
            self.log(|| format!("  close-socket function {socket}"));
            self.driver(|driver| driver.socket_closing(socket));
        }
        self.kernel_close(socket);
    }

    /// Closes a connection, as far as it must be done at once.
    fn close_socket(&self, at: usize, socket: Socket) {
        let sock = self.s(|s| s.socks[&socket].clone());
        let forgets = self.has(nature::NO_REMOVE) && sock.hooked && self.choose(2) == 1;
        if sock.announced != Events::NONE && self.s(|s| s.attached) && !forgets {
            self.announce(at, socket, Events::NONE);
        }
        let graceful = self.has(nature::SHUTDOWN)
            && sock.connected
            && !sock.error
            && self.s(|s| s.attached)
            && self.choose(2) == 1;
        if graceful {
            self.s(|s| {
                let due = s.now_ms + SHUTDOWN_MS;
                if let Some(sock) = s.socks.get_mut(&socket) {
                    sock.shutting = true;
                    sock.readable = false;
                }
                s.admin_expires = Some(s.admin_expires.map_or(due, |other| other.min(due)));
            });
            self.update_sockets(ADMIN);
        } else {
            self.close_now(socket);
        }
    }

    /// Takes a transfer off its sockets; a connection goes to the pool if `keep`.
    fn detach_from_sockets(&self, at: usize, keep: bool) {
        let list = self.s(|s| std::mem::take(&mut s.xfers[at].socks));
        for socket in list {
            if !self.users(socket).is_empty() {
                continue;
            }
            let sock = self.s(|s| s.socks[&socket].clone());
            let keep = keep && sock.kind == Kind::Connection && sock.connected && !sock.error;
            if !keep {
                self.close_socket(at, socket);
            }
        }
    }

    fn complete(&self, at: usize, code: c_int, keep: bool) {
        self.log(|| format!("  {at} has ended with {code}"));
        self.detach_from_sockets(at, keep);
        self.s(|s| {
            let xfer = &mut s.xfers[at];
            xfer.stage = Stage::Done;
            xfer.expires.clear();
            xfer.dirty = false;
            xfer.looked_up = None;
            s.pending.retain(|pending| *pending != at);
            s.messages.push_back((at, code));
            if let Some(flight) = &mut s.flights[at] {
                flight.message = Some(code);
                if code == TIMED_OUT {
                    flight.timed_out_ms = Some(s.now_ms);
                }
            }
        });
    }

    fn schedule_pending(&self) {
        // One at a time: it takes the place when it runs.
        if self.is_full() {
            return;
        }
        self.s(|s| {
            if let Some(at) = s.pending.pop_front() {
                s.xfers[at].stage = Stage::Init;
                s.xfers[at].dirty = true;
            }
        });
    }

    fn idle_connections(&self) -> Vec<Socket> {
        let all: Vec<(Socket, bool)> = self.s(|s| {
            s.socks
                .iter()
                .map(|(socket, sock)| {
                    let whole = sock.connected && !sock.shutting && !sock.error;
                    (*socket, sock.kind == Kind::Connection && whole)
                })
                .collect()
        });
        all.into_iter()
            .filter(|(socket, whole)| *whole && self.users(*socket).is_empty())
            .map(|(socket, _)| socket)
            .collect()
    }

    /// The connection limit is reached, and none idles.
    fn is_full(&self) -> bool {
        let limit = self.s(|s| s.scenario.limit);
        if limit == 0 || !self.idle_connections().is_empty() {
            return false;
        }
        self.s(|s| {
            let busy = s
                .xfers
                .iter()
                .filter(|xfer| xfer.added && !xfer.socks.is_empty())
                .count();
            busy >= limit
        })
    }

    fn run_admin(&self) {
        self.s(|s| {
            if let Some(sock) = s.wakeup.and_then(|socket| s.socks.get_mut(&socket)) {
                sock.readable = false;
            }
            for xfer in s.xfers.iter_mut().filter(|x| x.looked_up == Some(true)) {
                xfer.dirty = true;
            }
            s.admin_expires = s.admin_expires.filter(|due| *due > s.now_ms);
        });
        let late = self.s(|s| s.admin_expires.is_none());
        let shutting: Vec<Socket> = self.s(|s| {
            let over = |sock: &Sock| sock.readable || sock.gone || sock.error;
            let ends = |(_, sock): &(&Socket, &Sock)| sock.shutting && (over(sock) || late);
            s.socks.iter().filter(ends).map(|(n, _)| *n).collect()
        });
        for socket in shutting {
            self.announce(ADMIN, socket, Events::NONE);
            self.close_now(socket);
        }
        if self.s(|s| s.socks.values().all(|sock| !sock.shutting)) {
            self.s(|s| s.admin_expires = None);
        }
    }

    /// Lets a transfer go as far as it gets.
    fn run(&self, at: usize, served: bool) {
        for _ in 0..8 {
            if self.is_bad() {
                return;
            }
            let (stage, late) = self.s(|s| {
                let xfer = &s.xfers[at];
                let late = xfer.deadline.is_some_and(|due| due <= s.now_ms);
                (xfer.stage, late)
            });
            if matches!(stage, Stage::Out | Stage::Done) {
                return;
            }
            if late && (stage != Stage::Pending || served) {
                self.complete(at, TIMED_OUT, false);
                return;
            }
            let goes_on = match stage {
                Stage::Out | Stage::Done | Stage::Pending => false,
                Stage::Init => self.run_init(at),
                Stage::Resolving => self.run_resolving(at),
                Stage::Connecting => self.run_connecting(at),
                Stage::Sending => self.run_sending(at),
                Stage::Receiving => self.run_receiving(at),
            };
            if !goes_on {
                return;
            }
        }
    }

    fn set_stage(&self, at: usize, stage: Stage) {
        self.s(|s| s.xfers[at].stage = stage);
    }

    fn run_init(&self, at: usize) -> bool {
        if self.is_full() {
            self.log(|| format!("  {at} is held back"));
            self.s(|s| {
                s.xfers[at].stage = Stage::Pending;
                s.pending.push_back(at);
            });
            return false;
        }
        let mut idle = self.idle_connections();
        // What its peer has ended is found out now, and closed.
        for socket in idle.clone() {
            if self.s(|s| s.socks[&socket].gone) {
                idle.retain(|other| *other != socket);
                self.close_socket(at, socket);
            }
        }
        #[derive(Clone, Copy)]
        enum Way {
            Reuse(Socket),
            New,
            Lookup,
            Join(Socket),
            Foreign,
            Fails,
        }
        let mut ways: Vec<Way> = idle.into_iter().map(Way::Reuse).collect();
        ways.push(Way::New);
        if self.has(nature::LOOKUP | nature::WAKEUP) {
            ways.push(Way::Lookup);
        }
        if self.has(nature::JOIN) {
            let busy: Vec<Socket> = self.s(|s| {
                let joins = |(_, sock): &(&Socket, &Sock)| {
                    sock.kind == Kind::Connection
                        && sock.connected
                        && !sock.shutting
                        && !sock.error
                        && !sock.gone
                };
                s.socks.iter().filter(joins).map(|(n, _)| *n).collect()
            });
            ways.extend(
                busy.into_iter()
                    .filter(|socket| !self.users(*socket).is_empty())
                    .map(Way::Join),
            );
        }
        if self.has(nature::FOREIGN) {
            ways.push(Way::Foreign);
        }
        if self.has(nature::FAILS) {
            ways.push(Way::Fails);
        }
        match ways[self.choose(ways.len())] {
            Way::Reuse(socket) | Way::Join(socket) => {
                self.log(|| format!("  {at} gets connection {socket}"));
                self.s(|s| s.xfers[at].socks = vec![socket]);
                self.set_stage(at, Stage::Sending);
            }
            Way::Foreign => {
                let socket = self.open(Kind::Connection, false);
                self.s(|s| {
                    if let Some(sock) = s.socks.get_mut(&socket) {
                        sock.connected = true;
                        sock.writable = true;
                    }
                    s.xfers[at].socks = vec![socket];
                });
                self.set_stage(at, Stage::Sending);
            }
            Way::New => self.connect(at),
            Way::Lookup => {
                if self.has(nature::WAKEUP) {
                    self.s(|s| s.xfers[at].looked_up = Some(false));
                } else {
                    let socket = self.open(Kind::Lookup, false);
                    self.s(|s| s.xfers[at].socks = vec![socket]);
                }
                self.set_stage(at, Stage::Resolving);
            }
            Way::Fails => {
                self.complete(at, 1, false);
                return false;
            }
        }
        true
    }

    fn connect(&self, at: usize) {
        let hook = self.s(|s| s.xfers[at].hook);
        let socket = self.open(Kind::Connection, hook);
        let at_once = self.has(nature::AT_ONCE) && self.choose(2) == 1;
        self.s(|s| {
            if let Some(sock) = s.socks.get_mut(&socket) {
                sock.writable = at_once;
            }
            let xfer = &mut s.xfers[at];
            xfer.socks.push(socket);
            xfer.tries += 1;
            xfer.stage = Stage::Connecting;
            if s.scenario.nature & nature::TWO != 0 {
                let due = s.now_ms + SECOND_MS;
                s.xfers[at].expires.push(due);
            }
        });
    }

    fn run_resolving(&self, at: usize) -> bool {
        if let Some(done) = self.s(|s| s.xfers[at].looked_up) {
            if !done {
                return false;
            }
            self.s(|s| s.xfers[at].looked_up = None);
        } else {
            let socket = self.s(|s| s.xfers[at].socks[0]);
            if !self.s(|s| s.socks[&socket].readable) {
                return false;
            }
            self.s(|s| s.xfers[at].socks.clear());
            self.close_socket(at, socket);
        }
        if self.has(nature::FAILS) && self.choose(2) == 1 {
            self.complete(at, 6, false);
            return false;
        }
        self.connect(at);
        true
    }

    fn run_connecting(&self, at: usize) -> bool {
        let list = self.s(|s| s.xfers[at].socks.clone());
        for socket in &list {
            let sock = self.s(|s| s.socks[socket].clone());
            if sock.error {
                if self.has(nature::STUCK) {
                    return false;
                }
                self.s(|s| s.xfers[at].socks.retain(|other| other != socket));
                self.close_socket(at, *socket);
            } else if sock.writable {
                self.s(|s| {
                    s.xfers[at].connects += 1;
                    s.xfers[at].socks = vec![*socket];
                    if let Some(sock) = s.socks.get_mut(socket) {
                        sock.connected = true;
                    }
                });
                for other in list.iter().filter(|other| *other != socket) {
                    if self.s(|s| s.socks.contains_key(other)) {
                        self.close_socket(at, *other);
                    }
                }
                self.set_stage(at, Stage::Sending);
                return true;
            }
        }
        let (left, tries) = self.s(|s| (s.xfers[at].socks.len(), s.xfers[at].tries));
        let second = self.has(nature::TWO) && tries < 2;
        if left == 0 {
            if second && self.choose(2) == 0 {
                self.connect(at);
                return false;
            }
            self.complete(at, 7, false);
        } else if second && left == 1 && self.choose(2) == 1 {
            self.connect(at);
        }
        false
    }

    fn run_sending(&self, at: usize) -> bool {
        let (mask, blocked) = self.s(|s| (s.xfers[at].mask, s.xfers[at].blocked));
        if mask & SEND != 0 {
            return false;
        }
        let socket = self.s(|s| s.xfers[at].socks[0]);
        if self.s(|s| s.socks[&socket].error) {
            if !self.has(nature::STUCK) {
                self.complete(at, 55, false);
            }
            return false;
        }
        if self.has(nature::PARTS) && !blocked && self.choose(2) == 1 {
            self.s(|s| s.xfers[at].blocked = true);
            return false;
        }
        self.set_stage(at, Stage::Receiving);
        self.s(|s| s.socks.get_mut(&socket).map(|sock| sock.moved.1 += 1));
        if self.has(nature::AT_ONCE) && self.choose(2) == 1 {
            self.s(|s| {
                if let Some(sock) = s.socks.get_mut(&socket) {
                    sock.readable = true;
                }
            });
        }
        true
    }

    fn run_receiving(&self, at: usize) -> bool {
        let socket = self.s(|s| s.xfers[at].socks[0]);
        let (mask, sock) = self.s(|s| (s.xfers[at].mask, s.socks[&socket].clone()));
        if mask & RECV != 0 || (sock.error && self.has(nature::STUCK)) {
            return false;
        }
        if sock.error {
            self.complete(at, 56, false);
            return false;
        }
        if !sock.readable {
            if sock.gone {
                self.complete(at, 52, false);
            }
            return false;
        }
        match self.host_in_callback(at, true) {
            Wrote::All => {}
            Wrote::Pauses => {
                self.s(|s| s.xfers[at].mask |= RECV);
                return false;
            }
            Wrote::Fails => {
                self.complete(at, 23, false);
                return false;
            }
        }
        #[derive(Clone, Copy)]
        enum Then {
            Kept,
            Closed,
            More,
            Buffered,
            Short,
        }
        let mut ways = vec![Then::Kept];
        if self.has(nature::CLOSES) {
            ways.push(Then::Closed);
        }
        if self.has(nature::PARTS) {
            ways.extend([Then::More, Then::Buffered]);
        }
        if self.has(nature::FAILS) {
            ways.push(Then::Short);
        }
        let then = ways[self.choose(ways.len())];
        self.s(|s| {
            if let Some(sock) = s.socks.get_mut(&socket) {
                sock.readable = matches!(then, Then::Buffered);
                sock.moved.0 += 1;
            }
            if matches!(then, Then::Buffered) {
                s.xfers[at].dirty = true;
            }
        });
        match then {
            Then::Kept => self.complete(at, 0, true),
            Then::Closed => self.complete(at, 0, false),
            Then::Short => self.complete(at, 18, false),
            Then::More | Then::Buffered => {}
        }
        false
    }
}

/// Sockets that are ready for nothing.
impl Model {
    /// What of this libcurl will do nothing about.
    pub(super) fn for_nothing(&self, socket: Socket) -> Events {
        if !self.has(nature::SPINS) {
            return Events::NONE;
        }
        let users = self.users(socket);
        self.s(|s| {
            let connected =
                |sock: &&Sock| sock.kind == Kind::Connection && !sock.error && !sock.gone;
            if users.is_empty() || s.socks.get(&socket).filter(connected).is_none() {
                return Events::NONE;
            }
            let stages = |stage: Stage, mask: c_int| {
                users
                    .iter()
                    .any(|at| s.xfers[*at].stage == stage && s.xfers[*at].mask & mask == 0)
            };
            let mut events = Events::IN.union(Events::OUT);
            if stages(Stage::Receiving, RECV) {
                events = events.without(Events::IN);
            }
            if stages(Stage::Connecting, 0) || stages(Stage::Sending, SEND) {
                events = events.without(Events::OUT);
            }
            events
        })
    }

    /// It has been ready for `events`. That may not go on for ever.
    pub(super) fn note_spin(&self, socket: Socket, events: Events) {
        let nothing = both(self.for_nothing(socket), events) == events;
        let count = self.s(|s| {
            let now = s.now_ms;
            let sock = s.socks.get_mut(&socket)?;
            let spin = &mut sock.spin;
            spin.anew = false;
            if spin.moved != sock.moved {
                *spin = Spin::new(sock.moved);
                return None;
            }
            if !nothing {
                return None;
            }
            if now >= spin.at_ms + LOOK_BROKEN_MS / 2 {
                spin.events = spin.events.min(SPIN);
            }
            spin.at_ms = now;
            spin.busy = spin.busy.union(events);
            spin.events += 1;
            Some(spin.events)
        });
        self.check(
            count.is_none_or(|count| count <= SPIN + 8),
            "no spin",
            || {
                format!(
                    "{socket} has been ready for {} for nothing {count:?} times",
                    events.0
                )
            },
        );
    }

    /// It need not be watched for that for a while, because it spins.
    pub(super) fn may_be_left(&self, socket: Socket, events: Events) -> bool {
        self.s(|s| {
            let now = s.now_ms;
            s.socks.get(&socket).is_some_and(|Sock { spin, .. }| {
                spin.events >= LAST_OF_SPIN
                    && !spin.anew
                    && spin.busy.contains(events)
                    && now < spin.at_ms + LOOK_BROKEN_MS + 5
            })
        })
    }
}

/// What may come from outside.
impl Model {
    /// What leads on, and what does not.
    pub(super) fn candidates(&self) -> (Vec<Event>, Vec<Event>) {
        let (mut likely, mut adverse) = (Vec::new(), Vec::new());
        let all: Vec<(Socket, Sock)> =
            self.s(|s| s.socks.iter().map(|(n, sock)| (*n, sock.clone())).collect());
        for (socket, sock) in all {
            let users = self.users(socket);
            if sock.error {
                continue;
            }
            match sock.kind {
                Kind::Lookup => {
                    if !sock.readable {
                        likely.push(Event::Answers(socket));
                    }
                }
                Kind::Wakeup => {
                    let lookups: Vec<usize> = self.s(|s| {
                        let looks = |at: &usize| s.xfers[*at].looked_up == Some(false);
                        (0..s.xfers.len()).filter(looks).collect()
                    });
                    likely.extend(lookups.into_iter().map(Event::LooksUp));
                }
                Kind::Connection if users.is_empty() => {
                    if sock.shutting && !sock.readable {
                        likely.push(Event::Answers(socket));
                    }
                    if self.has(nature::PEER) && !sock.gone && !sock.shutting {
                        adverse.push(Event::Leaves(socket));
                    }
                    if !sock.hooked && !sock.shutting && self.has(nature::FOREIGN) {
                        adverse.push(Event::Taken(socket));
                    }
                }
                Kind::Connection => {
                    if !sock.writable {
                        likely.push(Event::Connects(socket));
                    }
                    let receives = users.iter().any(|at| {
                        self.s(|s| {
                            s.xfers[*at].stage == Stage::Receiving && s.xfers[*at].mask & RECV == 0
                        })
                    });
                    if receives && !sock.readable {
                        likely.push(Event::Answers(socket));
                    }
                    if self.has(nature::FAILS | nature::STUCK) {
                        adverse.push(Event::Refuses(socket));
                    }
                    if self.has(nature::PEER) && sock.connected && !sock.gone {
                        adverse.push(Event::Leaves(socket));
                    }
                }
            }
        }
        (likely, adverse)
    }

    pub(super) fn happens(&self, event: Event) {
        self.log(|| format!("outside: {event:?}"));
        match event {
            Event::LooksUp(at) => self.s(|s| {
                s.xfers[at].looked_up = Some(true);
                if let Some(sock) = s.wakeup.and_then(|socket| s.socks.get_mut(&socket)) {
                    sock.readable = true;
                }
            }),
            Event::Taken(socket) => {
                self.kernel_close(socket);
                if self.s(|s| s.host_watch.is_none()) {
                    self.host_opens();
                }
            }
            Event::Connects(socket)
            | Event::Answers(socket)
            | Event::Refuses(socket)
            | Event::Leaves(socket) => self.s(|s| {
                if let Some(sock) = s.socks.get_mut(&socket) {
                    match event {
                        Event::Connects(_) => sock.writable = true,
                        Event::Answers(_) => sock.readable = true,
                        Event::Refuses(_) => sock.error = true,
                        _ => sock.gone = true,
                    }
                }
            }),
        }
    }
}
