//! The loop: its phases, its handles, an epoll set that goes by numbers, and the descriptors of the process.

use libc::c_int;
use libuv_sys2 as c;

use super::curl::Kind;
use super::{acts, both, nature, points, Model};
use crate::driver::Phase;
use crate::error;
use crate::socket::LOOK_BROKEN_MS;
use crate::sys::{Events, Socket};
use crate::watch::TICK_MS;

/// In the epoll set: a watcher of the host's.
pub(super) const HOST: usize = 0;
/// How often a socket that spins is ready within one turn here.
const SHORT_TURNS: u32 = 40;
/// Descriptors below are the process's own.
const FIRST: Socket = 5;

const EEXIST: c_int = c::uv_errno_t_UV_EEXIST;
const EBADF: c_int = c::uv_errno_t_UV_EBADF;
const ENOMEM: c_int = error::ENOMEM;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum What {
    Poll { socket: Socket, events: Events },
    Timer { due: u64 },
    Idle,
    Check,
    Hold,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Handle {
    pub(super) what: What,
    /// Started; for the hold: referenced.
    pub(super) active: bool,
    /// Started since the loop last polled.
    queued: bool,
    /// The host has closed it behind our back.
    taken: bool,
}

/// What a turn of the loop came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Turn {
    Went,
    /// The poll would never return.
    Blocked,
}

/// The door that the driver has.
impl Model {
    pub(crate) fn now_ns(&self) -> u64 {
        self.s(|s| s.now_ms * 1_000_000 + 400_000)
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.s(|s| s.loop_ms)
    }

    pub(crate) fn open_handles(&self) -> usize {
        self.s(|s| s.handles.values().filter(|handle| !handle.taken).count())
    }

    pub(crate) fn has_orphans(&self) -> bool {
        self.s(|s| s.orphans > 0)
    }

    pub(crate) fn free_orphans(&self) {
        self.s(|s| s.orphans = 0);
    }

    fn new_handle(&self, what: What) -> usize {
        self.s(|s| {
            let id = s.next_handle;
            s.next_handle += 1;
            s.handles.insert(
                id,
                Handle {
                    what,
                    active: false,
                    queued: false,
                    taken: false,
                },
            );
            id
        })
    }

    /// Each of these takes memory, and an async handle a descriptor.
    fn made(&self, what: What) -> Result<usize, c_int> {
        if self.fault("a handle") {
            // Where the host has closed all the others, this one was the last way to its close callback.
            self.s(|s| s.cut_off |= s.walked && s.close_called);
            return Err(ENOMEM);
        }
        Ok(self.new_handle(what))
    }

    pub(crate) fn timer_init(&self) -> Result<usize, c_int> {
        self.made(What::Timer { due: 0 })
    }

    pub(crate) fn idle_init(&self) -> Result<usize, c_int> {
        self.made(What::Idle)
    }

    pub(crate) fn check_init(&self) -> Result<usize, c_int> {
        self.made(What::Check)
    }

    pub(crate) fn hold_init(&self) -> Result<usize, c_int> {
        self.made(What::Hold)
    }

    pub(crate) fn poll_init(&self, socket: Socket) -> Result<usize, c_int> {
        self.log(|| format!("  uv_poll_init({socket})"));
        if self.fault("uv_poll_init") {
            return Err(self.unwatchable(socket));
        }
        self.check(self.is_open(socket), "descriptor", || {
            format!("a poll handle is made on {socket}, which is closed")
        });
        if self.watcher(socket).is_some() {
            self.violation("descriptor", || format!("two handles on {socket}"));
            return Err(EEXIST);
        }
        Ok(self.new_handle(What::Poll {
            socket,
            events: Events::NONE,
        }))
    }

    /// Notes that `socket` may end its transfer with the error that is returned.
    fn unwatchable(&self, socket: Socket) -> c_int {
        let error = [ENOMEM, EEXIST, c::uv_errno_t_UV_EMFILE][self.choose(3)];
        self.may_end_with(socket, error);
        error
    }

    /// The handle that is started on this number.
    fn watcher(&self, socket: Socket) -> Option<usize> {
        self.s(|s| {
            if s.host_watch.is_some_and(|(own, _)| own == socket) {
                return Some(HOST);
            }
            s.handles
                .iter()
                .find(|(_, handle)| {
                    handle.active
                        && matches!(handle.what, What::Poll { socket: own, .. } if own == socket)
                })
                .map(|(id, _)| *id)
        })
    }

    /// What the driver watches it for.
    pub(super) fn armed(&self, socket: Socket) -> Option<Events> {
        self.s(|s| {
            s.handles.values().find_map(|handle| match handle.what {
                What::Poll {
                    socket: own,
                    events,
                } if own == socket && handle.active => Some(events),
                _ => None,
            })
        })
    }

    pub(super) fn is_watched(&self, socket: Socket) -> bool {
        self.watcher(socket).is_some_and(|id| id != HOST)
    }

    fn handle(&self, id: usize) -> Option<Handle> {
        let handle = self.s(|s| {
            let closing = s.closing.contains(&id);
            s.handles.get(&id).copied().filter(|_| !closing)
        });
        self.check(handle.is_some(), "memory", || {
            format!("handle {id} is used after it was closed")
        });
        handle
    }

    /// libuv takes the number off the epoll set, whoever has it, and drops what is still to come for it.
    fn invalidate(&self, id: usize, socket: Socket) {
        let owner = self.s(|s| {
            s.batch.retain(|(number, _)| *number != socket);
            s.epoll.get(&socket).copied()
        });
        match owner {
            Some(HOST) => self.violation("descriptor", || {
                format!("number {socket} is taken off the epoll set, and the host watches it")
            }),
            Some(owner) => {
                self.check(owner == id, "descriptor", || {
                    format!("handle {id} takes {socket} from handle {owner}")
                });
                self.s(|s| s.epoll.remove(&socket));
            }
            None => {}
        }
    }

    pub(crate) fn poll_start(&self, id: usize, events: Events) -> Result<(), c_int> {
        let Some(handle) = self.handle(id) else {
            return Err(error::EINVAL);
        };
        let What::Poll { socket, .. } = handle.what else {
            return Err(error::EINVAL);
        };
        if handle.taken {
            self.may_end_with(socket, error::EINVAL);
            return Err(error::EINVAL);
        }
        self.log(|| format!("  uv_poll_start({socket}, {})", events.0));
        if self.fault("uv_poll_start") {
            return Err(self.unwatchable(socket));
        }
        self.check(self.is_open(socket), "descriptor", || {
            format!("a poll handle is started on {socket}, which is closed")
        });
        self.check(events != Events::NONE, "descriptor", || {
            format!("{socket} is watched for nothing")
        });
        if let Some(other) = self.watcher(socket).filter(|other| *other != id) {
            self.violation("descriptor", || {
                format!("two handles on {socket}: {other} and {id}")
            });
            return Err(EEXIST);
        }
        self.invalidate(id, socket);
        self.s(|s| {
            if let Some(handle) = s.handles.get_mut(&id) {
                handle.what = What::Poll { socket, events };
                handle.active = true;
                handle.queued = true;
            }
        });
        Ok(())
    }

    pub(crate) fn poll_stop(&self, id: usize) -> bool {
        let Some(handle) = self.handle(id) else {
            return false;
        };
        if handle.taken {
            return false;
        }
        if let What::Poll { socket, .. } = handle.what {
            self.log(|| format!("  uv_poll_stop({socket})"));
            self.invalidate(id, socket);
        }
        self.s(|s| {
            if let Some(handle) = s.handles.get_mut(&id) {
                handle.active = false;
                handle.queued = false;
            }
        });
        true
    }

    pub(crate) fn timer_start(&self, id: usize, ms: u64) {
        if self.handle(id).is_some_and(|handle| !handle.taken) {
            self.log(|| format!("  uv_timer_start({id}, {ms})"));
            self.s(|s| {
                let due = s.loop_ms.saturating_add(ms);
                if let Some(handle) = s.handles.get_mut(&id) {
                    handle.what = What::Timer { due };
                    handle.active = true;
                }
            });
        }
    }

    pub(crate) fn timer_stop(&self, id: usize) {
        self.set_active(id, false);
    }

    pub(crate) fn idle_set(&self, id: usize, active: bool) {
        self.set_active(id, active);
    }

    pub(crate) fn check_start(&self, id: usize) -> bool {
        self.set_active(id, true);
        self.s(|s| s.handles.get(&id).is_some_and(|handle| handle.active))
    }

    pub(crate) fn check_stop(&self, id: usize) {
        self.set_active(id, false);
    }

    pub(crate) fn hold_set(&self, id: usize, held: bool) {
        self.set_active(id, held);
    }

    fn set_active(&self, id: usize, active: bool) {
        if self.handle(id).is_some() {
            self.s(|s| {
                if let Some(handle) = s.handles.get_mut(&id) {
                    handle.active = active && !handle.taken;
                }
            });
        }
    }

    pub(crate) fn close(&self, id: usize) {
        let Some(handle) = self.handle(id) else {
            return;
        };
        if handle.taken {
            self.s(|s| {
                s.handles.remove(&id);
                s.orphans += 1;
            });
            return;
        }
        self.log(|| format!("  uv_close({:?})", handle.what));
        if let What::Poll { socket, .. } = handle.what {
            self.invalidate(id, socket);
        }
        self.s(|s| {
            if let Some(handle) = s.handles.get_mut(&id) {
                handle.active = false;
                handle.queued = false;
            }
            s.closing.push_back(id);
        });
    }
}

/// The kernel.
impl Model {
    pub(super) fn is_open(&self, socket: Socket) -> bool {
        self.s(|s| {
            s.socks.contains_key(&socket) || s.host_watch.is_some_and(|(own, _)| own == socket)
        })
    }

    /// The lowest number that is free, as POSIX has it.
    pub(super) fn free_number(&self) -> Socket {
        let mut number = FIRST;
        while self.is_open(number) {
            number += 1;
        }
        number
    }

    /// A descriptor is closed. The kernel takes it off the epoll set; libuv does not know.
    pub(super) fn kernel_close(&self, socket: Socket) {
        self.log(|| format!("  close({socket})"));
        if let Some(id) = self.watcher(socket).filter(|id| *id != HOST) {
            self.violation("descriptor", || {
                format!("{socket} is closed while handle {id} watches it")
            });
        }
        self.s(|s| {
            s.socks.remove(&socket);
            s.epoll.remove(&socket);
        });
    }

    pub(super) fn host_opens(&self) {
        let socket = self.free_number();
        self.log(|| format!("host: opens {socket} and watches it"));
        if let Some(id) = self.watcher(socket) {
            self.violation("descriptor", || {
                format!("handle {id} is still on {socket}, which the host has got")
            });
        }
        self.s(|s| s.host_watch = Some((socket, false)));
    }

    pub(super) fn host_shuts(&self) {
        if let Some((socket, registered)) = self.s(|s| s.host_watch.take()) {
            self.log(|| format!("host: stops watching {socket} and closes it"));
            self.check(
                !registered || self.s(|s| s.epoll.get(&socket) == Some(&HOST)),
                "descriptor",
                || format!("the host's watcher of {socket} was lost"),
            );
            self.s(|s| {
                s.batch.retain(|(number, _)| *number != socket);
                s.epoll.remove(&socket);
            });
        }
    }

    /// `uv_walk` and `uv_close` on everything (S43).
    pub(super) fn host_walks(&self) {
        self.log(|| "host: closes every handle on the loop".to_owned());
        self.s(|s| {
            s.walked = true;
            let closing = s.closing.clone();
            let State {
                handles,
                epoll,
                batch,
                ..
            } = s;
            for (id, handle) in handles.iter_mut() {
                if closing.contains(id) {
                    continue;
                }
                if let What::Poll { socket, .. } = handle.what {
                    if epoll.get(&socket) == Some(id) {
                        epoll.remove(&socket);
                    }
                    batch.retain(|(number, _)| *number != socket);
                }
                handle.active = false;
                handle.queued = false;
                handle.taken = true;
            }
        });
    }
}

use super::State;

/// The loop's turns.
impl Model {
    fn any(&self, is: impl Fn(&Handle) -> bool) -> bool {
        self.s(|s| s.handles.values().any(|handle| handle.active && is(handle)))
    }

    pub(super) fn is_held(&self) -> bool {
        self.any(|handle| handle.what == What::Hold)
    }

    fn idles(&self) -> bool {
        self.any(|handle| handle.what == What::Idle)
    }

    fn idle_id(&self) -> Option<usize> {
        self.s(|s| {
            s.handles
                .iter()
                .find(|(_, handle)| handle.active && handle.what == What::Idle)
                .map(|(id, _)| *id)
        })
    }

    /// The timers that run, by the time they are due.
    fn timers(&self) -> Vec<(u64, usize)> {
        self.s(|s| {
            let mut list: Vec<(u64, usize)> = s
                .handles
                .iter()
                .filter(|(_, handle)| handle.active)
                .filter_map(|(id, handle)| match handle.what {
                    What::Timer { due } => Some((due, *id)),
                    _ => None,
                })
                .collect();
            list.sort_unstable();
            list
        })
    }

    /// Whether `uv_run` has a reason to go on. The host's own watcher is not one here.
    pub(super) fn is_alive(&self) -> bool {
        self.is_held() || self.s(|s| !s.closing.is_empty() || s.orphans > 0)
    }

    pub(super) fn turn(&self) -> Turn {
        self.s(|s| s.loop_ms = s.now_ms);
        let old = self.has(nature::OLD_LOOP);
        if old {
            self.run_timers();
        }
        let work = self.s(|s| s.work);
        if self.idle_id().is_some() {
            self.log(|| "loop: idle".to_owned());
            self.driver(crate::driver::Driver::turned);
            self.at_loop();
        }
        self.host(points::PREPARE, "in a prepare callback");
        let turn = self.poll();
        if self.any(|handle| handle.what == What::Check) {
            self.log(|| "loop: check".to_owned());
            self.driver(crate::driver::Driver::polled);
            self.at_loop();
        }
        self.host(points::CHECK, "in a check callback");
        self.run_closing();
        self.s(|s| s.loop_ms = s.now_ms);
        if !old {
            self.run_timers();
        }
        let worked = self.s(|s| s.work) > work + 2;
        self.s(|s| s.spins = if worked { 0 } else { s.spins + 1 });
        turn
    }

    fn run_timers(&self) {
        let due: Vec<usize> = {
            let now = self.s(|s| s.loop_ms);
            let timers = self.timers();
            let due = timers.iter().filter(|(due, _)| *due <= now);
            due.map(|(_, id)| *id).collect()
        };
        for id in due {
            let fires = self.s(|s| {
                let now = s.loop_ms;
                s.handles.get_mut(&id).is_some_and(|handle| {
                    let due =
                        handle.active && matches!(handle.what, What::Timer { due } if due <= now);
                    handle.active &= !due;
                    due
                })
            });
            if fires {
                self.log(|| format!("loop: timer {id}"));
                self.driver(|driver| driver.timer_due(id));
                self.at_loop();
            }
        }
        self.host(points::TIMER, "in a timer callback");
    }

    fn run_closing(&self) {
        let walked = self.s(|s| s.orphans > 0);
        let list = self.s(|s| std::mem::take(&mut s.closing));
        for id in list {
            self.s(|s| s.handles.remove(&id));
            self.log(|| format!("loop: handle {id} is closed"));
            self.driver(crate::driver::Driver::handle_closed);
        }
        if walked {
            // What the host has closed is through as well.
            self.s(|s| s.work += 1);
        }
    }

    /// How a socket would report: nothing, events, or an error.
    fn readiness(&self, socket: Socket, id: usize) -> Option<Result<Events, c_int>> {
        self.s(|s| {
            let What::Poll { events, .. } = s.handles.get(&id).filter(|h| h.active)?.what else {
                return None;
            };
            let sock = s.socks.get(&socket)?;
            if sock.error {
                return Some(Err(EBADF));
            }
            let ready = both(sock.ready(), events);
            (ready != Events::NONE).then_some(Ok(ready))
        })
    }

    fn ready_list(&self) -> Vec<(Socket, usize)> {
        let registered: Vec<(Socket, usize)> =
            self.s(|s| s.epoll.iter().map(|(a, b)| (*a, *b)).collect());
        registered
            .into_iter()
            .filter(|(socket, id)| *id != HOST && self.readiness(*socket, *id).is_some())
            .collect()
    }

    fn poll(&self) -> Turn {
        self.before_poll();
        self.s(|s| {
            let State {
                handles,
                epoll,
                host_watch,
                ..
            } = s;
            for (id, handle) in handles.iter_mut() {
                if let What::Poll { socket, .. } = handle.what {
                    if std::mem::take(&mut handle.queued) {
                        epoll.insert(socket, *id);
                    }
                }
            }
            if let Some((socket, registered)) = host_watch {
                *registered = true;
                epoll.insert(*socket, HOST);
            }
        });
        let mut ready = self.ready_list();
        let timers = self.timers();
        let nested = self.s(|s| s.nested > 0);
        let waits = ready.is_empty()
            && !nested
            && !self.idles()
            && self.s(|s| s.closing.is_empty() && s.orphans == 0);
        let (likely, adverse) = self.candidates();
        let many = usize::from(likely.len() > 1);
        if waits {
            // Something comes, or the time does.
            let timer = usize::from(!timers.is_empty());
            let steps = likely.len() + many + timer;
            let choice = self.choose((steps + adverse.len()).max(1));
            if choice < likely.len() {
                self.happens(likely[choice]);
            } else if choice < likely.len() + many {
                likely.iter().for_each(|event| self.happens(*event));
            } else if choice < steps {
                let due = timers[0].0;
                self.log(|| format!("loop: waits until {due}"));
                self.s(|s| s.now_ms = s.now_ms.max(due));
                if due > 0 && likely.is_empty() && !self.is_soon(due) {
                    self.s(|s| s.loop_ms = s.now_ms);
                    return Turn::Blocked;
                }
            } else if let Some(event) = adverse.get(choice - steps) {
                self.happens(*event);
            } else {
                return Turn::Blocked;
            }
            self.s(|s| s.now_ms += 1);
        } else if !nested && ready.is_empty() {
            // It does not wait, and something may have come all the same.
            let all: Vec<_> = likely.into_iter().chain(adverse).collect();
            let choice = self.choose(1 + all.len());
            if choice > 0 {
                self.happens(all[choice - 1]);
            }
        }
        self.s(|s| s.loop_ms = s.now_ms);
        if ready.is_empty() {
            ready = self.ready_list();
        }
        if ready.len() > 1 {
            let first = self.choose(ready.len());
            ready.rotate_left(first);
        }
        let outer = self.s(|s| std::mem::replace(&mut s.batch, ready.into()));
        while let Some((socket, id)) = self.s(|s| s.batch.pop_front()) {
            if self.is_bad() {
                break;
            }
            if self.s(|s| s.epoll.get(&socket) != Some(&id)) {
                continue;
            }
            match self.readiness(socket, id) {
                Some(Ok(events)) => {
                    self.log(|| format!("loop: {socket} is ready for {}", events.0));
                    self.driver(|driver| driver.socket_ready(socket, id, 0, events));
                    self.note_spin(socket, events);
                    self.short_turns(socket, id, events);
                }
                Some(Err(error)) => {
                    self.log(|| format!("loop: error on {socket}"));
                    // libuv stops the handle first.
                    self.s(|s| {
                        s.epoll.remove(&socket);
                        if let Some(handle) = s.handles.get_mut(&id) {
                            handle.active = false;
                            handle.queued = false;
                        }
                    });
                    self.may_end_with(socket, error);
                    self.driver(|driver| driver.socket_ready(socket, id, error, Events::NONE));
                }
                None => continue,
            }
            self.at_loop();
        }
        self.s(|s| s.batch = outer);
        Turn::Went
    }

    /// A socket that is ready for nothing is so in many turns in a row; the host acts between some of them only, or there
    /// would be no end of histories.
    fn short_turns(&self, socket: Socket, id: usize, events: Events) {
        for _ in 0..SHORT_TURNS {
            let again = both(self.for_nothing(socket), events) == events
                && self.readiness(socket, id) == Some(Ok(events))
                && self.s(|s| s.epoll.get(&socket) == Some(&id));
            if !again || self.is_bad() || self.s(|s| s.nested > 0) {
                return;
            }
            self.at_loop();
            if self.any(|handle| handle.what == What::Check) {
                self.driver(crate::driver::Driver::polled);
                self.at_loop();
            }
            if self.readiness(socket, id) == Some(Ok(events)) {
                self.driver(|driver| driver.socket_ready(socket, id, 0, events));
                self.note_spin(socket, events);
            }
        }
    }

    /// Whether a timer that is due then is libcurl's, and not the one that only looks after silent transfers.
    fn is_soon(&self, due: u64) -> bool {
        self.deadline().is_some_and(|deadline| deadline <= due)
            || !self.has(nature::SPINS) && due.saturating_sub(self.s(|s| s.loop_ms)) < TICK_MS / 2
    }

    /// After each call of the loop's into the driver.
    fn at_loop(&self) {
        if self.frames() > 0 || self.s(|s| s.driver_freed || s.walked) {
            return;
        }
        let (held, closing) = (self.is_held(), self.s(|s| s.close_called));
        if !closing {
            let must = self.s(|s| s.referenced && s.flights.iter().any(Option::is_some));
            self.check(held == must, "held", || {
                format!("the loop is held: {held}, and must be: {must}")
            });
        } else if self.s(|s| s.closed == 0) {
            self.check(self.is_alive(), "held", || {
                "the loop may end before the close callback".to_owned()
            });
        }
        let active = self.s(|s| s.flights.iter().flatten().count());
        let says = self.driver(|driver| driver.active());
        self.check(active == says, "one report", || {
            format!("{active} transfers are in flight, the driver says {says}")
        });
    }

    /// The state in which a loop may wait: everything that is to come has somebody who waits for it.
    fn before_poll(&self) {
        if self.frames() > 0 || self.s(|s| s.driver_freed || s.walked || s.inside) {
            return;
        }
        self.at_loop();
        // No poll handle is left on a descriptor that is gone.
        let left: Vec<Socket> = self.s(|s| {
            s.handles
                .iter()
                .filter(|(id, _)| !s.closing.contains(id))
                .filter_map(|(_, handle)| match handle.what {
                    What::Poll { socket, .. } if !s.socks.contains_key(&socket) => Some(socket),
                    _ => None,
                })
                .collect()
        });
        self.check(left.is_empty(), "descriptor", || {
            format!("the loop polls with handles on closed descriptors {left:?}")
        });
        if self.s(|s| s.close_called) {
            return;
        }
        let idles = self.idles();
        let looks = self
            .timers()
            .iter()
            .any(|(due, _)| *due <= self.s(|s| s.loop_ms) + LOOK_BROKEN_MS);
        let announced: Vec<(Socket, Events, bool, Kind)> = self.s(|s| {
            s.socks
                .iter()
                .map(|(socket, sock)| (*socket, sock.announced, sock.spoilt, sock.kind))
                .collect()
        });
        let running = self.s(|s| s.xfers.iter().any(|xfer| xfer.added));
        for (socket, wanted, spoilt, kind) in announced {
            let armed = self.armed(socket);
            match armed {
                Some(events) if wanted != Events::NONE => {
                    let left = self.may_be_left(socket, wanted.without(events)) && looks;
                    self.check(events == wanted || left, "no hang", || {
                        format!(
                            "{socket} is watched for {}, wanted is {}",
                            events.0, wanted.0
                        )
                    });
                }
                Some(_) => self.check(kind != Kind::Lookup, "descriptor", || {
                    format!("{socket} is watched, and may be closed without a word")
                }),
                None if wanted != Events::NONE && running => {
                    let live = self.speaker_lives(socket);
                    // To watch for the rest only may fail, too.
                    let missing = if spoilt { Events::NONE } else { wanted };
                    let left = self.may_be_left(socket, missing) && looks;
                    let seen = left || spoilt && (idles || (!live && looks));
                    self.check(seen, "no hang", || {
                        format!(
                            "nobody watches {socket}, wanted for {} (its transfer lives: {live}, looked at: {looks})",
                            wanted.0
                        )
                    });
                }
                None => {}
            }
        }
        if idles {
            return;
        }
        self.check(self.s(|s| s.messages.is_empty()), "no hang", || {
            "a message of libcurl's is not read".to_owned()
        });
        if let Some(deadline) = self.deadline() {
            let soonest = self.timers().first().map(|(due, _)| *due);
            let margin = self.s(|s| s.now_ms - s.loop_ms) + 2;
            let late = soonest.is_none_or(|due| due > deadline.max(self.s(|s| s.now_ms)) + margin);
            self.check(!late || self.is_put_off(), "no hang", || {
                format!("libcurl's deadline is {deadline}, the next timer {soonest:?}")
            });
        }
        self.flights_at_rest();
        let spins = self.s(|s| s.spins);
        self.check(spins < 200, "no spin", || {
            format!("{spins} turns of the loop came to nothing")
        });
    }

    /// After the last report: nothing that would wake the loop is left.
    pub(super) fn must_rest(&self) {
        if self.s(|s| s.driver_freed || s.walked) {
            return;
        }
        self.check(!self.idles(), "no spin", || {
            "the idle handle runs with nothing to do".to_owned()
        });
        self.check(!self.is_held(), "held", || {
            "the loop is held with nothing in flight".to_owned()
        });
        let timers = self.timers();
        let deadline = self.deadline();
        self.check(timers.is_empty() || deadline.is_some(), "no spin", || {
            format!("timers run with nothing in flight: {timers:?}")
        });
    }

    pub(super) fn phase(&self) -> Phase {
        self.driver
            .borrow()
            .as_ref()
            .map_or(Phase::Closed, |driver| driver.phase())
    }

    /// Runs the loop inside a callback.
    pub(super) fn nest(&self) {
        self.log(|| "host: runs the loop".to_owned());
        self.s(|s| s.nested += 1);
        self.turn();
        self.s(|s| s.nested -= 1);
        self.log(|| "host: the loop has run".to_owned());
    }

    pub(super) fn may_nest(&self) -> bool {
        self.s(|s| s.nested == 0 && s.scenario.acts & acts::NEST != 0 && !s.own)
    }
}
