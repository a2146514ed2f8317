//! Transfers that show no life, and what they are told apart by: those that libcurl has forgotten, and those whose timeouts
//! and progress callbacks libcurl does not call for in socket mode.
//!
//! While something is in flight a timer looks about once a second. Sockets that have been silent are looked at one by one;
//! a transfer that has no socket, because it is paused or its name is being looked up, can only be reached by a call for all
//! of them, which is made for its sake alone and only as long as that is quick. While all transfers are alive nothing but the
//! table of sockets is read.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt::{self, Write as _};

use libc::c_int;

use crate::driver::{Driver, Phase};
use crate::error;
use crate::pending;
use crate::quirks::{Blame, Symptom};
use crate::socket::{Close, Hearing, Silent, Spin, LEAST_GAP_MS, LOOK_BROKEN_MS, SLOW_MS};
use crate::stats::{Origin, Seconds};
use crate::sys::{self, now_ns, Action, Easy, Events, LogFn, Socket};
use crate::text::Text;

/// How often silent transfers are looked at, unless the host says otherwise.
pub(crate) const TICK_MS: u64 = 1_000;
/// How often transfers that libcurl holds back behind a connection limit are tried again, for the sake of the one timeout for
/// which it has no timer: a tenth of the 300 s within which a connect has to be made is 30 s.
const HELD_BACK_MS: u64 = 15_000;
/// Sockets looked at in one turn of the loop.
const LOOKS_PER_TURN: usize = 64;
/// The time between two such turns, and between two calls for everything, as a multiple of what the last one took.
const SHARE: u64 = 30;
/// A call for everything that would take longer than this is not made.
const MAX_CALL_NS: u64 = 5_000_000;
/// What one transfer takes of such a call, before that has been measured.
const FIRST_GUESS_NS: u64 = 2_000;
/// Transfers without socket or timer that are examined at a time.
const SUSPECTS: usize = 16;
/// Connections of HTTP/2 that are looked at for the sake of what another stream's end may have left in TLS.
const STREAMS: usize = 8;
/// How long that is waited with: most often data come meanwhile, and libcurl then sees to all streams of the connection.
const STREAMS_MS: u64 = 40;
/// Log lines that wait for the end of the turn.
const MAX_LINES: usize = 64;

pub(crate) struct Watch {
    tick_ms: Cell<u64>,
    last_tick_ms: Cell<u64>,
    last_slow_ms: Cell<u64>,
    last_held_ms: Cell<u64>,
    /// How long the rest of the silent sockets waits, of which there were more than one turn looks at; 0: there are none.
    more_ms: Cell<u64>,
    /// When the next call for everything may be made, what one transfer takes of it, and the least that it has ever taken.
    again_ns: Cell<u64>,
    each_ns: Cell<u64>,
    least_ns: Cell<u64>,
    /// Connections on which a stream of HTTP/2 has ended, up to so many, and when the last did.
    streams: Cell<([u64; STREAMS], usize)>,
    stream_ms: Cell<u64>,
    log: RefCell<Option<LogFn>>,
    lines: RefCell<VecDeque<String>>,
    any_lines: Cell<bool>,
}

impl Default for Watch {
    fn default() -> Watch {
        Watch {
            tick_ms: Cell::new(TICK_MS),
            last_tick_ms: Cell::new(0),
            last_slow_ms: Cell::new(0),
            last_held_ms: Cell::new(0),
            more_ms: Cell::new(0),
            again_ns: Cell::new(0),
            each_ns: Cell::new(FIRST_GUESS_NS),
            least_ns: Cell::new(FIRST_GUESS_NS),
            streams: Cell::default(),
            stream_ms: Cell::new(0),
            log: RefCell::default(),
            lines: RefCell::default(),
            any_lines: Cell::new(false),
        }
    }
}

impl Watch {
    /// How long a socket has to be silent, and a transfer to be there, before they are looked at.
    fn interval(&self) -> u64 {
        match self.tick_ms.get() {
            0 => SLOW_MS,
            tick => tick,
        }
    }

    /// Whether a call for everything over `count` transfers may be made now.
    fn affords(&self, count: usize, now_ns: u64) -> bool {
        let each = self.each_ns.get();
        if each.saturating_mul(count as u64) > MAX_CALL_NS {
            // A single slow call, by a callback of the host's say, is forgotten in time.
            self.each_ns.set((each - each / 8).max(self.least_ns.get()));
            return false;
        }
        now_ns >= self.again_ns.get()
    }

    fn took(&self, count: usize, from_ns: u64, now_ns: u64) {
        let took = now_ns.saturating_sub(from_ns);
        let each = took / count.max(1) as u64;
        self.each_ns.set(each);
        self.least_ns.set(self.least_ns.get().min(each));
        self.again_ns
            .set(now_ns.saturating_add(took.saturating_mul(SHARE)));
    }
}

/// `true` once per `ms`, and notes it.
fn is_due(last: &Cell<u64>, ms: u64, now_ms: u64) -> bool {
    // A tenth early: a timer that was started for something else may stand between two of ours.
    let due = now_ms.saturating_sub(last.get()) >= ms - ms / 10;
    if due {
        last.set(now_ms);
    }
    due
}

/// A socket before it is looked at.
struct Before {
    received: Option<u64>,
    moved: u64,
}

impl Driver {
    /// Milliseconds between two ticks; 0: none.
    pub(crate) fn set_tick(&self, ms: u64) -> Result<(), c_int> {
        self.must_be_open()?;
        self.watch.tick_ms.set(ms);
        if !self.inside_libcurl() {
            self.rest();
        }
        Ok(())
    }

    pub(crate) fn set_log(&self, log: Option<LogFn>) -> Result<(), c_int> {
        self.must_be_open()?;
        if log.is_none() {
            self.watch.lines.borrow_mut().clear();
            self.watch.any_lines.set(false);
        }
        *self.watch.log.borrow_mut() = log;
        Ok(())
    }

    /// How long the timer that looks after silent transfers may wait while something is in flight.
    pub(crate) fn look_wait(&self) -> u64 {
        let mut wait = self.watch.interval();
        let more = self.watch.more_ms.get();
        if more != 0 {
            wait = wait.min(more);
        }
        let sockets = self.sockets.borrow();
        if sockets.any_unwatched() {
            wait = wait.min(LOOK_BROKEN_MS);
        }
        let untimed = match (self.closeness(), sockets.untimed_ms()) {
            (Close::None, _) => 0,
            (Close::All, 0) => LEAST_GAP_MS,
            (_, ms) => ms,
        };
        if untimed != 0 {
            wait = wait.min(untimed);
        }
        if self.pending.is_suspect() {
            wait = wait.min(pending::AGAIN_MS);
        }
        if self.watch.streams.get().1 > 0 {
            wait = wait.min(STREAMS_MS);
        }
        wait
    }

    /// A transfer of this connection ends. libcurl may have left in TLS what it has read for the others, and nothing then
    /// tells of it (lib/http2.c, h2_progress_ingress()).
    pub(crate) fn stream_ends(&self, connection: u64) {
        let (mut list, count) = self.watch.streams.get();
        if !list[..count].contains(&connection) {
            // Of any more the look once a second takes care.
            let Some(free) = list.get_mut(count) else {
                return;
            };
            *free = connection;
            self.watch.streams.set((list, count + 1));
        }
        self.watch.stream_ms.set(self.uv().now_ms());
    }

    fn look_at_streams(&self) {
        let (list, count) = self.watch.streams.take();
        if count == 0 {
            return;
        }
        let since = self.watch.stream_ms.get();
        let next = |from| self.sockets.borrow().next_of(&list[..count], since, from);
        let mut from = 0;
        while let Some(socket) = next(from) {
            from = socket + 1;
            self.counters.add(&self.counters.looks);
            self.act(Action::Look(socket));
        }
    }

    /// The timer that looks after silent transfers has fired.
    pub(crate) fn look(&self) {
        let now = self.uv().now_ms();
        let slow = is_due(&self.watch.last_slow_ms, SLOW_MS, now);
        if slow {
            self.pool.look(self.transfers.borrow().running());
        }
        if self.sockets.borrow().any_unwatched() {
            self.sockets.borrow_mut().search();
        }
        let owed = self.sockets.borrow().owed();
        for socket in owed.into_iter().flatten() {
            self.act(Action::Look(socket));
        }
        if is_due(&self.watch.last_held_ms, HELD_BACK_MS, now)
            && self.multi.pending().is_some_and(|count| count > 0)
        {
            self.pending.suspect();
        }
        let tick = is_due(&self.watch.last_tick_ms, self.watch.interval(), now);
        if tick {
            self.tick(now);
        }
        self.look_at_streams();
        self.look_at_silent(now);
        if slow && self.bugs.shutdown_stalls {
            self.act(Action::Everything);
        } else if tick {
            // Lest a deadline be lost that libcurl has, and has not told of.
            self.act(Action::Timeout);
        }
    }

    fn look_at_silent(&self, now_ms: u64) {
        let (wait, close) = (self.watch.interval(), self.closeness());
        let from = now_ns();
        let mut doubtful = false;
        for _ in 0..LOOKS_PER_TURN {
            let next = self.sockets.borrow_mut().next_silent(now_ms, wait, close);
            let Some(silent) = next else {
                self.watch
                    .more_ms
                    .set(if doubtful { LEAST_GAP_MS } else { 0 });
                return;
            };
            // In this order: what comes between the two is ready then, or has been counted.
            let before = self.before_look(&silent);
            match self.hears(&silent) {
                Hearing::Quiet => self.look_at(&silent, before),
                Hearing::Doubtful => doubtful = true,
                Hearing::Deaf => self.look_at(&silent, None),
            }
        }
        let took_ms = now_ns().saturating_sub(from) / 1_000_000;
        self.watch.more_ms.set(((took_ms + 1) * SHARE).min(wait));
    }

    /// Whether the loop can be relied upon to say that the socket is ready. While that is in doubt the socket is left alone,
    /// so that the loop has the chance.
    fn hears(&self, silent: &Silent) -> Hearing {
        if !silent.watched || cfg!(not(unix)) {
            return Hearing::Quiet;
        }
        let ready = sys::stays_ready(silent.socket, silent.wanted);
        let hearing =
            self.sockets
                .borrow_mut()
                .hears(self.uv(), silent.socket, ready, self.polls.get());
        match hearing {
            Hearing::Quiet => {}
            Hearing::Doubtful => {
                self.handles(|h| h.deadline.kick());
            }
            Hearing::Deaf => {
                self.counters.add(&self.counters.stalls);
                self.say(|to| {
                    write!(
                        to,
                        "uvcurl: socket {} is ready and the loop does not say so: something in this program has taken the \
                         number off the loop's epoll set; watched it anew",
                        silent.socket
                    )
                });
            }
        }
        hearing
    }

    fn look_at(&self, silent: &Silent, before: Option<Before>) {
        self.counters.add(&self.counters.looks);
        let Silent {
            socket,
            easy,
            started,
            ..
        } = *silent;
        self.act(Action::Look(socket));
        let Some(before) = before else { return };
        // It must not have received anything meanwhile: what comes just then is no stall.
        let order = self.transfers.borrow().order(easy, started);
        if order != 0 && sys::moved(easy) > before.moved && sys::received(socket) == before.received
        {
            self.stalled(Symptom::Unread, easy, order, |to| {
                write!(
                    to,
                    "had data waiting inside libcurl while its socket {socket} was silent for {}; looked at it",
                    Seconds(silent.ms)
                )
            });
        }
    }

    /// Which sockets need to be looked at closely. Each time libcurl runs a transfer that has CURLOPT_LOW_SPEED_TIME, it puts the
    /// next check of the speed off by a second, so that looking once a second would make it late by as much. By that timer
    /// alone is it known, so any that ends within a second is taken for one.
    fn closeness(&self) -> Close {
        if self.watch.tick_ms.get() == 0 {
            Close::None
        } else if self.handles(|h| h.deadline.is_short()) == Some(true) {
            Close::All
        } else {
            Close::Untimed
        }
    }

    /// `None`: there is nothing to compare with afterwards.
    fn before_look(&self, silent: &Silent) -> Option<Before> {
        // What libcurl has asked to be called for is done in the same call.
        if !silent.watched || self.handles(|h| h.deadline.is_now()) == Some(true) {
            return None;
        }
        if !self
            .transfers
            .borrow()
            .is_among(silent.easy, silent.started)
        {
            return None;
        }
        let received = sys::received(silent.socket);
        received.map(|_| Before {
            received,
            moved: sys::moved(silent.easy),
        })
    }

    /// About once a second: sees to transfers that have been there for as long and have no socket.
    fn tick(&self, now_ms: u64) {
        if self.transfers.borrow().old() > 0 {
            self.run_without_socket(now_ms);
        }
        self.transfers.borrow_mut().tick();
    }

    fn run_without_socket(&self, now_ms: u64) {
        let without = {
            let (sockets, mut transfers) = (self.sockets.borrow(), self.transfers.borrow_mut());
            transfers.begin_round();
            let with = sockets
                .wanted()
                .filter(|(easy, started)| transfers.count_socket(*easy, *started))
                .count();
            transfers.old() - with
        };
        // Those that libcurl holds back behind a connection limit are reached by no call, nor have they any progress.
        let held_back = usize::try_from(self.multi.pending().unwrap_or(0)).unwrap_or(0);
        if without <= held_back {
            return;
        }
        let set = self.handles(|h| h.deadline.is_set()) == Some(true);
        let suspects = if set { Vec::new() } else { self.suspects() };
        if self.bugs.pause_is_ignored && self.transfers.borrow().paused() > 0 {
            return;
        }
        let (from, count) = (now_ns(), self.transfers.borrow().running());
        let affords = self.watch.tick_ms.get() != 0 && self.watch.affords(count, from);
        if !affords && suspects.is_empty() {
            return;
        }
        self.counters.add(&self.counters.ticks);
        self.act(Action::Everything);
        self.watch.took(count, from, now_ns());
        self.sockets.borrow_mut().looked(now_ms);
        for (easy, order) in suspects {
            self.stalled(Symptom::Forgotten, easy, order, |to| {
                to.write_str(
                    "had neither socket nor timer while it was connecting; looked at all transfers",
                )
            });
        }
    }

    /// Those of the transfers without a socket, while libcurl has no timer either, of which it is certain that they wait for
    /// neither a name nor the host: they are connecting, so that no callback can have paused them.
    fn suspects(&self) -> Vec<(Easy, u64)> {
        let mut list = self.transfers.borrow().without_socket(SUSPECTS);
        list.retain(|(easy, _)| {
            let progress = sys::progress(*easy);
            progress.looked_up && !progress.connected
        });
        list
    }

    /// Counts a stall and tells of it, once per transfer.
    fn stalled(
        &self,
        symptom: Symptom,
        easy: Easy,
        order: u64,
        what: impl FnOnce(&mut Text) -> fmt::Result,
    ) {
        if !self.transfers.borrow_mut().tell_stall(easy, order) {
            return;
        }
        self.counters.add(&self.counters.stalls);
        self.say(|to| {
            let url = sys::progress(easy).url;
            write!(to, "uvcurl: transfer {order} ({}) ", Origin(&url))?;
            what(to)?;
            write!(to, "; {}", Blame(sys::libcurl(), symptom))
        });
    }

    /// libcurl is to be told of a socket that has been ready very often lately. `true`: it spins, and is left alone for now.
    pub(crate) fn tell_insistent(&self, socket: Socket, poll: usize, events: Events) -> bool {
        let before = sys::flow(socket);
        self.act(Action::Ready(socket, events));
        let spin = {
            let transfers = self.transfers.borrow();
            self.sockets
                .borrow_mut()
                .told(socket, poll, before, |easy, started| {
                    transfers.is_among(easy, started)
                })
        };
        let spins = self.sockets.borrow_mut().is_left(socket);
        let Some(spin) = spin else { return spins };
        self.counters.add(&self.counters.spins);
        if spin != Spin::Unwatched {
            self.act(Action::Look(socket));
        }
        self.say(|to| {
            write!(
                to,
                "uvcurl: socket {socket} is ready time after time, with nothing done about it, "
            )?;
            match spin {
                Spin::Unwatched => to.write_str(
                    "and belongs to no transfer; it is looked at 20 times a second instead",
                ),
                Spin::Transfer(easy) => write!(to, "for {}", Origin(&sys::progress(easy).url)),
                Spin::Connection => to.write_str("on a connection whose transfer has ended"),
            }?;
            if spins {
                to.write_str("; for that it is watched 20 times a second until something moves")?;
            }
            write!(to, "; {}", Blame(sys::libcurl(), Symptom::Spin))
        });
        spins
    }

    /// Keeps a line for the host's log, if there is one and there is memory for it.
    fn say(&self, write: impl FnOnce(&mut Text) -> fmt::Result) {
        if self.watch.log.borrow().is_none() {
            return;
        }
        let mut lines = self.watch.lines.borrow_mut();
        let line = (lines.len() < MAX_LINES && lines.try_reserve(1).is_ok())
            .then(|| Text::line(write))
            .flatten();
        let Some(line) = line else {
            self.counters.add(&self.counters.unsaid);
            return;
        };
        lines.push_back(line);
        self.watch.any_lines.set(true);
    }

    /// Hands the lines to the host, which may do anything meanwhile.
    pub(crate) fn tell_log(&self) {
        if !self.watch.any_lines.replace(false) {
            return;
        }
        let due = self.watch.lines.borrow().len();
        for _ in 0..due {
            let line = self.watch.lines.borrow_mut().pop_front();
            let log = self.watch.log.borrow().clone();
            let (Some(line), Some(log), Phase::Open) = (line, log, self.phase()) else {
                return;
            };
            log.call(self, line);
        }
        self.watch
            .any_lines
            .set(!self.watch.lines.borrow().is_empty());
    }

    /// What [`Driver::dump`] hands over; see `stats`.
    pub(crate) fn dump(&self, log: &LogFn) -> Result<(), c_int> {
        let lines = self.describe().ok_or(error::ENOMEM)?;
        for line in lines {
            log.call(self, line);
        }
        Ok(())
    }
}
