//! One record per libcurl socket: the events libcurl wants, and the poll handle that watches for them.
//!
//! The table is indexed by descriptor: descriptors are small numbers, and `curl_multi_assign`, libcurl's own way to keep
//! such a record, loses it at REMOVE and fails during cleanup (S19, S28).
//!
//! Starting and stopping a poll handle costs system calls, so it is done as rarely as safety allows. A handle stays armed
//! while its connection idles in libcurl's pool, if the close-socket function is certain to tell before the descriptor is
//! closed; and one that has been stopped serves the next socket of its number, if that comes in the same turn.

use libc::c_int;

use crate::error;
use crate::sys::{self, stays_ready, Easy, Events, Flow, Loop, Poll, Socket};
use crate::transfer::Transfers;

/// How often silent sockets are looked at in any case.
pub(crate) const SLOW_MS: u64 = 5_000;
/// How often a socket that cannot be watched is looked at: then looking is all there is.
pub(crate) const LOOK_BROKEN_MS: u64 = 50;

/// Errors in a row, without one good event between them, after which a socket counts as beyond watching.
const MAX_ERRORS: u32 = 64;

/// Events in a row without a word of libcurl's after which it is asked whether the socket is still ready.
const MAX_EVENTS: u32 = 64;
/// How many of the next, in a row, have to change nothing before a transfer's socket is told of, and left alone for a while.
const MAX_FRUITLESS: u32 = 64;
/// Has been told of, and is not judged again before libcurl has spoken of it.
const TOLD: u32 = MAX_FRUITLESS + 1;

/// The first look at a socket whose timeouts nobody calls for comes after this silence.
pub(crate) const LEAST_GAP_MS: u64 = 40;

/// How long to wait with the next look after so much silence.
fn gap(silence_ms: u64) -> u64 {
    LEAST_GAP_MS + silence_ms / 20
}

/// How long a poll handle may stay on a socket that libcurl does not want for now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Keep {
    /// Not at all: the descriptor may be closed without a word as soon as libcurl does not want it (R2).
    No,
    /// Until the close-socket function is called: the connection was opened by a transfer of ours and has it.
    Hooked,
    /// As long as the multi handle lives: libcurl's own wake-up descriptor.
    Internal,
}

/// Whether a stopped poll handle may be started for another socket of the same number. On Windows an operation on the old
/// socket may still be under way, and would be taken for the new one's.
const REUSE: bool = cfg!(unix);

struct Record {
    /// What libcurl asked for last; `NONE` while nobody wants the socket, as when its connection idles in the pool.
    wanted: Events,
    /// What the poll handle is started for; `NONE` after libuv stopped it with an error.
    armed: Events,
    poll: Option<Poll>,
    keep: Keep,
    /// The descriptor may be closed; all that is left is a stopped poll handle, for the next socket of this number.
    vacant: bool,
    /// It is in `Sockets::fresh`.
    fresh: bool,
    /// Announced for nothing but writing so far, as a socket is that connects.
    connecting: bool,
    /// Why there is no watching this socket, or 0.
    error: c_int,
    /// Whose callback spoke of the socket last: a transfer, one of perhaps many users, or libcurl's own handle.
    easy: Easy,
    /// How many transfers had been started by then: a later one of the same handle has nothing to do with the socket.
    started: u64,
    /// It was a transfer that spoke of it first.
    ours: bool,
    errors: u32,
    /// Events since libcurl spoke of the socket last.
    events: u32,
    /// Those of them, in a row, after which nothing had been done about what made the socket ready.
    fruitless: u32,
    /// How far it had been read and written after the last of those.
    flow: Option<Flow>,
    /// That has been told of, in this use of the connection.
    told: bool,
    /// Its transfer speaks a protocol whose timeouts are libcurl's to check and nobody's to call for (R20).
    untimed: bool,
    /// libcurl's number for its connection, where that is of use.
    connection: Option<u64>,
    /// When it was looked at last it was ready, and the loop has not said so since: how often the loop had been about to
    /// poll by then.
    ready_turn: Option<u64>,
    /// The loop's time at the last sign of life, and when it was looked at for want of one.
    seen_ms: u64,
    looked_ms: u64,
}

/// A socket that has shown no life for a while.
pub(crate) struct Silent {
    pub(crate) socket: Socket,
    pub(crate) wanted: Events,
    pub(crate) easy: Easy,
    pub(crate) started: u64,
    pub(crate) ms: u64,
    /// It is watched, so that what comes would be reported.
    pub(crate) watched: bool,
}

/// Which sockets are to be looked at at short intervals.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Close {
    None,
    /// Those whose transfers have timeouts that nobody calls for.
    Untimed,
    /// Every transfer's.
    All,
}

/// What [`Sockets::hears`] makes of a socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Hearing {
    /// It is not ready.
    Quiet,
    /// It is, and the loop has not polled since: it may be about to say so.
    Doubtful,
    /// It has been since before the loop polled, which has not said so.
    Deaf,
}

/// Why [`Sockets::told`] has something to say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Spin {
    /// It belongs to no transfer of ours: it is looked at from now on instead of watched.
    Unwatched,
    /// It is this transfer's.
    Transfer(Easy),
    /// It is a connection's, and the transfer that spoke of it last has ended.
    Connection,
}

/// What there is of sockets, for the host's eyes.
#[derive(Default)]
pub(crate) struct Tally {
    /// Wanted by libcurl, and with a poll handle at work.
    pub(crate) watched: u64,
    /// Wanted by libcurl, and not to be watched, or left alone because they spin.
    pub(crate) unwatched: u64,
    /// Of connections that idle in the pool.
    pub(crate) idle: u64,
}

/// What there was no memory to make a record of: the transfer with its order, the socket and what it is wanted for.
type Owed = ((Easy, u64), Socket, Events);

const OWED: usize = 8;

#[derive(Default)]
pub(crate) struct Sockets {
    table: Vec<Option<Record>>,
    /// From where on the table is to be searched for sockets that are not watched as they should be.
    search: Option<usize>,
    /// Some are not watched as they should be: the last search has left them, for they belong to no transfer, or they were
    /// ready time after time.
    unwatched: bool,
    /// Where looking at silent sockets goes on.
    look_from: usize,
    /// When, as a wait, the next look at an untimed socket is due at the latest; 0: there is none.
    untimed_ms: u64,
    /// Sockets that could not even be noted for want of memory.
    owed: [Option<Owed>; OWED],
    any_owed: bool,
    /// There were more of them.
    overflowed: bool,
    /// Sockets of transfers, announced since this was last emptied, of which nobody knows when they will be closed.
    fresh: Vec<Socket>,
    /// Some of them are no longer wanted, and their stopped poll handles wait for what turns out.
    undecided: bool,
    /// Sockets that have become vacant since the last turn.
    vacated: Vec<Socket>,
}

impl Sockets {
    fn get(&mut self, socket: Socket) -> Option<&mut Record> {
        self.table
            .get_mut(index(socket)?)?
            .as_mut()
            .filter(|record| !record.vacant)
    }

    /// libcurl wants `events` on `socket`. Failures are kept for [`Sockets::next_unwatched`]: libcurl's callback must not
    /// see them, because -1 there kills the whole multi handle (R5).
    #[inline(always)]
    pub(crate) fn want(
        &mut self,
        uv: &Loop,
        transfers: &Transfers,
        easy: Easy,
        socket: Socket,
        events: Events,
        may_leave: bool,
    ) {
        let announcer = (easy, transfers.started());
        self.want_for(uv, transfers, announcer, socket, events, may_leave);
    }

    fn want_for(
        &mut self,
        uv: &Loop,
        transfers: &Transfers,
        (easy, started): (Easy, u64),
        socket: Socket,
        events: Events,
        may_leave: bool,
    ) {
        self.forget_owed(socket);
        if events == Events::NONE {
            // CURL_POLL_NONE, too: forgetting the socket is the same to libcurl (S12).
            self.unwant(socket, may_leave);
            return;
        }
        let Some(at) = index(socket) else { return };
        if at >= self.table.len() {
            let more = (at + 1 - self.table.len()).max(16);
            if self.table.try_reserve(more).is_err() {
                self.any_owed = true;
                match self.owed.iter_mut().find(|owed| owed.is_none()) {
                    Some(free) => *free = Some(((easy, started), socket, events)),
                    None => self.overflowed = true,
                }
                self.search = Some(0);
                return;
            }
            self.table.resize_with(at + 1, || None);
        }
        let slot = &mut self.table[at];
        // A handle that was left behind by the last socket of this number does as well as a new one, and costs less.
        let poll = match slot {
            Some(record) if record.vacant || record.is_undecided() => Some(record.poll.take()),
            Some(_) => None,
            None => Some(None),
        };
        if let Some(poll) = poll {
            let ours = transfers.is_among(easy, started);
            *slot = Some(Record {
                wanted: events,
                armed: Events::NONE,
                poll,
                keep: if !ours && sys::is_wakeup(socket) {
                    Keep::Internal
                } else {
                    Keep::No
                },
                vacant: false,
                fresh: false,
                connecting: true,
                error: 0,
                easy,
                started: 0,
                ours,
                errors: 0,
                events: 0,
                fruitless: 0,
                flow: None,
                told: false,
                untimed: false,
                connection: None,
                ready_turn: None,
                seen_ms: 0,
                looked_ms: 0,
            });
        }
        let Some(record) = slot.as_mut() else { return };
        if record.wanted == Events::NONE {
            // Another use of a connection that was idle.
            record.told = false;
            record.errors = 0;
            record.error = 0;
        }
        record.events = 0;
        record.fruitless = 0;
        record.connecting &= events == Events::OUT;
        record.wanted = events;
        record.easy = easy;
        record.started = started;
        record.seen_ms = uv.now_ms();
        if record.untimed {
            self.untimed_ms = LEAST_GAP_MS;
        }
        record.note(socket, &mut self.fresh);
        if let Err(error) = record.watch(uv, socket) {
            record.fail(error);
            self.search = Some(0);
        }
    }

    fn forget_owed(&mut self, socket: Socket) {
        if !self.any_owed {
            return;
        }
        for owed in &mut self.owed {
            if owed.is_some_and(|(_, own, _)| own == socket) {
                *owed = None;
            }
        }
        self.any_owed = self.owed.iter().any(Option::is_some);
    }

    /// libcurl does not want `socket` for now. Its connection may go on idling in the pool, or the descriptor may be closed
    /// and be another socket's as soon as this returns (R1); only if the close-socket function is certain to tell of the
    /// latter does the poll handle stay as it is, for the next transfer will most likely want the same.
    fn unwant(&mut self, socket: Socket, may_leave: bool) {
        let Some(record) = index(socket)
            .and_then(|at| self.table.get_mut(at))
            .and_then(Option::as_mut)
            .filter(|record| !record.vacant)
        else {
            // Sockets never announced are removed too, by some versions (R4, S20).
            return;
        };
        if record.error == 0 && record.keep != Keep::No {
            record.wanted = Events::NONE;
        } else if record.error == 0 && record.connecting && record.note(socket, &mut self.fresh) {
            // It may have connected and been answered within this one call. Stopped, as any other; whether it may keep
            // its handle turns out when libcurl has returned.
            record.wanted = Events::NONE;
            record.disarm();
            self.undecided = true;
        } else {
            self.forget(socket, may_leave);
        }
    }

    /// The descriptor is about to be closed, or may be without a word: the poll handle stops now and not later (R2). It is
    /// left over for the rest of this turn, in case libcurl opens a socket of the same number, if [`Sockets::end_turn`] is
    /// certain to come before the loop polls next: `may_leave`.
    pub(crate) fn forget(&mut self, socket: Socket, may_leave: bool) {
        self.forget_owed(socket);
        let Some(at) = index(socket) else { return };
        let Some(slot) = self.table.get_mut(at) else {
            return;
        };
        let Some(record) = slot.as_mut().filter(|record| !record.vacant) else {
            return;
        };
        let stopped = REUSE
            && may_leave
            && record
                .poll
                .as_ref()
                .is_some_and(|poll| self.vacated.try_reserve(1).is_ok() && poll.stop());
        if stopped {
            record.vacant = true;
            self.vacated.push(socket);
        } else if let Some(poll) = slot.take().and_then(|record| record.poll) {
            poll.close();
        }
    }

    /// Whether there are stopped poll handles whose descriptors may be gone.
    pub(crate) fn any_left(&self) -> bool {
        self.undecided || !self.vacated.is_empty()
    }

    /// Closes the poll handles whose numbers no new socket of libcurl's has taken. To close one takes its number off the
    /// loop's epoll set, whoever has it by then; the host may have it, but what the host starts to watch is registered when
    /// the loop next polls. So this is for the idle handle's callback, which comes before that.
    pub(crate) fn end_turn(&mut self) {
        if std::mem::take(&mut self.undecided) {
            // The host runs the loop inside a callback of libcurl's: what would turn out comes too late.
            for at in 0..self.fresh.len() {
                let socket = self.fresh[at];
                if self.get(socket).is_some_and(|record| record.is_undecided()) {
                    self.forget(socket, false);
                }
            }
        }
        for socket in self.vacated.drain(..) {
            let slot = index(socket).and_then(|at| self.table.get_mut(at));
            if let Some(slot) = slot {
                if slot.as_ref().is_some_and(|record| record.vacant) {
                    if let Some(poll) = slot.take().and_then(|record| record.poll) {
                        poll.close();
                    }
                }
            }
        }
    }

    /// Another driver on the same loop has been given `socket` by a shared pool: no two handles can watch it.
    pub(crate) fn release_idle(&mut self, socket: Socket) {
        if let Some(record) = self.get(socket) {
            if record.wanted == Events::NONE {
                record.armed = Events::NONE;
                if let Some(poll) = record.poll.take() {
                    poll.close();
                }
            }
        }
    }

    /// There is nothing that the driver is to find out about any socket.
    pub(crate) fn is_settled(&self) -> bool {
        self.fresh.is_empty() && self.search.is_none() && !self.overflowed
    }

    pub(crate) fn any_fresh(&self) -> bool {
        !self.fresh.is_empty()
    }

    /// The next of the sockets announced lately that may turn out to be opened by the transfer that announced it.
    pub(crate) fn take_fresh(&mut self) -> Option<(Socket, Easy, u64)> {
        while let Some(socket) = self.fresh.pop() {
            if let Some(record) = self.get(socket) {
                if std::mem::take(&mut record.fresh) {
                    return Some((socket, record.easy, record.started));
                }
            }
        }
        self.undecided = false;
        None
    }

    /// Whether the connection of `socket` is known to have our close-socket function.
    /// `untimed`: its transfer has timeouts that libcurl does not ask to be called for.
    pub(crate) fn decide(
        &mut self,
        socket: Socket,
        hooked: bool,
        untimed: bool,
        connection: Option<u64>,
        may_leave: bool,
    ) {
        if untimed {
            self.untimed_ms = LEAST_GAP_MS;
        }
        if let Some(record) = self.get(socket) {
            record.untimed = untimed;
            record.connection = connection;
            if hooked {
                record.keep = Keep::Hooked;
            } else if record.is_undecided() {
                self.forget(socket, may_leave);
            }
        }
    }

    /// Whether `poll` is still the handle of `socket`, and libcurl wants to know; if so the socket has shown life.
    pub(crate) fn ready(&mut self, uv: &Loop, socket: Socket, poll: usize) -> bool {
        let now = uv.now_ms();
        match self.get(socket) {
            Some(record) if record.is_polled_by(poll) => {
                if record.wanted == Events::NONE {
                    // Nobody wants what has come on an idle connection, most likely its end: libcurl looks when it next has
                    // a use for it.
                    record.disarm();
                    return false;
                }
                record.errors = 0;
                record.seen_ms = now;
                record.events += 1;
                record.ready_turn = None;
                if record.untimed {
                    self.untimed_ms = LEAST_GAP_MS;
                }
                true
            }
            _ => false,
        }
    }

    /// libuv stopped `poll` and reported an error. On Linux this is how a reset connection looks: the descriptor is
    /// open, and libcurl may want it watched again (R9, libuv#3796). `false`: the handle is no longer the socket's.
    pub(crate) fn failed(&mut self, socket: Socket, poll: usize, error: c_int) -> bool {
        let Some(record) = self.get(socket) else {
            return false;
        };
        if !record.is_polled_by(poll) {
            return false;
        }
        record.armed = Events::NONE;
        if record.wanted == Events::NONE {
            return false;
        }
        record.errors += 1;
        if record.errors > MAX_ERRORS {
            record.fail(error);
            self.search = Some(0);
        }
        true
    }

    /// Whether `socket` has been ready so often without a word of libcurl's that [`Sockets::told`] is to see to it.
    pub(crate) fn is_insistent(&mut self, socket: Socket) -> bool {
        self.get(socket)
            .is_some_and(|record| record.events >= MAX_EVENTS && record.fruitless < TOLD)
    }

    /// libcurl has been told time after time that `poll` is ready, and has not spoken of the socket. If it stays ready
    /// although nothing is done about it, somebody is to be told. If it belongs to no transfer of ours, it is no longer
    /// watched but looked at (R20, S23, S24). If it does, it is left alone until the next look, for what it is ready for
    /// (S26): libcurl wants an HTTP/2 upload's socket to be writable while the peer's window is full (curl#10618), or a
    /// paused transfer's to be readable (curl#21671). `before`: how far it was read and written when libcurl was called.
    pub(crate) fn told(
        &mut self,
        socket: Socket,
        poll: usize,
        before: Option<Flow>,
        is_ours: impl Fn(Easy, u64) -> bool,
    ) -> Option<Spin> {
        let record = self.get(socket)?;
        if !record.is_polled_by(poll) || record.events < MAX_EVENTS || record.fruitless >= TOLD {
            return None;
        }
        let busy = record.ready_for(socket);
        let known = is_ours(record.easy, record.started);
        let counted = before.is_some_and(|flow| flow.counted);
        // Streams of HTTP/2 go on with a connection when the one that opened it has ended, without a word of libcurl's.
        let in_use = known || record.ours && counted;
        if !in_use {
            record.events = 0;
            if busy == Events::NONE {
                return None;
            }
            record.errors = MAX_ERRORS + 1;
            record.fail(error::EBUSY);
            self.search = Some(0);
            return Some(Spin::Unwatched);
        }
        // A transfer's socket is ready again and again as long as there are data, and libcurl need not say a word: what
        // tells is that nothing is read and nothing written, neither in this call nor in those for the timer since the last
        // one: with much in its own buffers libcurl may read for the timer every time, and not for the socket.
        let after = sys::flow(socket);
        let last = std::mem::replace(&mut record.flow, after);
        let moved = after != before || record.fruitless > 0 && before != last;
        if busy == Events::NONE || before.is_none() || moved {
            record.events = 0;
            record.fruitless = 0;
            if record.is_left() {
                // The peer has read, say: now the other direction may go on at once.
                self.search = Some(0);
            }
            return None;
        }
        record.fruitless = (record.fruitless + 1).min(MAX_FRUITLESS);
        if record.fruitless < MAX_FRUITLESS {
            return None;
        }
        let spin = match known {
            true => Spin::Transfer(record.easy),
            false => Spin::Connection,
        };
        let first = !std::mem::replace(&mut record.told, true);
        if counted {
            record.leave(busy);
            self.unwatched = true;
        } else {
            record.fruitless = TOLD;
        }
        first.then_some(spin)
    }

    /// Whether [`Sockets::told`] has left the socket alone.
    pub(crate) fn is_left(&mut self, socket: Socket) -> bool {
        self.get(socket).is_some_and(|record| record.is_left())
    }

    /// A transfer has been resumed, or paused in another way: what was left alone because of that is watched, and judged, as
    /// any other.
    pub(crate) fn pause_changed(&mut self) {
        if !self.unwatched {
            return;
        }
        for record in self.table.iter_mut().flatten() {
            if record.is_left() {
                record.events = 0;
                record.fruitless = 0;
            }
        }
        self.search = Some(0);
    }

    /// [`Sockets::next_unwatched`] is to search again.
    pub(crate) fn search(&mut self) {
        self.search = Some(0);
    }

    /// After libcurl has been told of an error: watch what it still wants.
    pub(crate) fn rewatch(&mut self, uv: &Loop, socket: Socket) {
        let Some(record) = self.get(socket) else {
            return;
        };
        if record.error == 0 {
            if let Err(error) = record.watch(uv, socket) {
                record.fail(error);
                self.search = Some(0);
            }
        }
    }

    /// The next socket that cannot be watched, with the reason and the transfer that spoke of it last. One that only needs
    /// its watching renewed is renewed on the way.
    pub(crate) fn next_unwatched(
        &mut self,
        uv: &Loop,
        transfers: &Transfers,
        may_leave: bool,
    ) -> Option<(c_int, Easy, u64)> {
        let from = self.search?;
        if from == 0 {
            self.unwatched = false;
        }
        for slot in from..OWED {
            let Some(((easy, started), socket, events)) = self.owed[slot].take() else {
                continue;
            };
            let announcer = (easy, started);
            self.want_for(uv, transfers, announcer, socket, events, may_leave);
            if self.owes(socket) {
                self.search = Some(slot + 1);
                self.unwatched = true;
                return Some((error::ENOMEM, easy, started));
            }
        }
        for at in from.saturating_sub(OWED)..self.table.len() {
            let Some(record) = self.table[at].as_mut() else {
                continue;
            };
            if record.vacant || record.wanted == Events::NONE || record.armed == record.wanted {
                continue;
            }
            if record.errors <= MAX_ERRORS {
                // What stood in the way may be gone: another watcher of the descriptor, a moment without memory.
                match record.watch(uv, at as Socket) {
                    Ok(()) => continue,
                    Err(error) => record.fail(error),
                }
            }
            self.search = Some(OWED + at + 1);
            self.unwatched = true;
            return Some((record.error, record.easy, record.started));
        }
        self.search = None;
        None
    }

    fn owes(&self, socket: Socket) -> bool {
        self.owed.iter().flatten().any(|(_, own, _)| *own == socket)
    }

    /// The sockets in use that there is no memory to note.
    pub(crate) fn owed(&self) -> [Option<Socket>; OWED] {
        self.owed.map(|owed| owed.map(|(_, socket, _)| socket))
    }

    /// Whether sockets have been announced of which nothing at all is known.
    pub(crate) fn take_overflow(&mut self) -> bool {
        std::mem::take(&mut self.overflowed)
    }

    /// Whether some socket in use is not watched for all that it is wanted for.
    pub(crate) fn any_unwatched(&self) -> bool {
        self.unwatched
    }

    /// A socket that is to be looked at, for it has shown no life for `wait_ms`. `None`: that was all of them.
    ///
    /// Where libcurl keeps timeouts to itself the looks come closer: the longer the silence, the further apart,
    /// so that a timeout of any length is served within a tenth of itself and a tenth of a second.
    pub(crate) fn next_silent(
        &mut self,
        now_ms: u64,
        wait_ms: u64,
        close: Close,
    ) -> Option<Silent> {
        if self.look_from == 0 {
            self.untimed_ms = 0;
        }
        for at in self.look_from..self.table.len() {
            let Some(record) = self.table[at].as_mut() else {
                continue;
            };
            if record.vacant || record.wanted == Events::NONE {
                continue;
            }
            let silence = now_ms.saturating_sub(record.seen_ms);
            // Half of it: then it is about `wait_ms` from the last sign of life to the first look, too.
            let (mut wait, mut first) = (wait_ms, wait_ms / 2);
            let close = close == Close::All || close == Close::Untimed && record.untimed;
            if record.error != 0 {
                wait = LOOK_BROKEN_MS;
                first = wait;
            } else if record.ready_turn.is_some() {
                wait = LEAST_GAP_MS;
                first = wait;
            } else if !record.ours {
                // No transfer's, so that there is nobody to call back.
                wait = wait_ms.max(SLOW_MS);
                first = wait;
            } else if close {
                wait = gap(silence).min(wait_ms);
                first = LEAST_GAP_MS;
            }
            let due = record
                .seen_ms
                .saturating_add(first)
                .max(record.looked_ms.saturating_add(wait));
            let found = due <= now_ms;
            if close {
                let next = gap(silence + wait).min(wait_ms);
                let left = if found { next } else { due - now_ms };
                if self.untimed_ms == 0 || left < self.untimed_ms {
                    self.untimed_ms = left;
                }
            }
            if found {
                record.looked_ms = now_ms;
                self.look_from = at + 1;
                return Some(Silent {
                    socket: at as Socket,
                    wanted: record.wanted,
                    easy: record.easy,
                    started: record.started,
                    ms: silence,
                    watched: record.armed == record.wanted,
                });
            }
        }
        self.look_from = 0;
        None
    }

    /// At a look the socket turned out to be `ready` or not for what it is watched for, and the loop has been about to poll
    /// `turns` times by now. A loop that polls while a socket is ready says so, unless somebody has taken its number off
    /// the loop's set; the socket is then watched anew.
    pub(crate) fn hears(&mut self, uv: &Loop, socket: Socket, ready: bool, turns: u64) -> Hearing {
        let Some(record) = self.get(socket) else {
            return Hearing::Quiet;
        };
        if !ready || record.armed != record.wanted {
            record.ready_turn = None;
            return Hearing::Quiet;
        }
        if *record.ready_turn.get_or_insert(turns) == turns {
            return Hearing::Doubtful;
        }
        record.ready_turn = None;
        record.disarm();
        if let Err(error) = record.watch(uv, socket) {
            record.fail(error);
            self.search = Some(0);
        }
        Hearing::Deaf
    }

    /// A socket, from that number on, that is wanted for one of these connections and has shown no life since.
    pub(crate) fn next_of(
        &self,
        connections: &[u64],
        since_ms: u64,
        from: Socket,
    ) -> Option<Socket> {
        let from = index(from)?;
        let at = (from..self.table.len()).find(|at| {
            self.table[*at].as_ref().is_some_and(|record| {
                !record.vacant
                    && record.wanted != Events::NONE
                    && record.seen_ms <= since_ms
                    && record
                        .connection
                        .is_some_and(|own| connections.contains(&own))
            })
        })?;
        Some(at as Socket)
    }

    /// How soon sockets whose timeouts nobody calls for are to be looked at; 0: there are none.
    pub(crate) fn untimed_ms(&self) -> u64 {
        self.untimed_ms
    }

    /// Every transfer has been run, so that no socket need be looked at.
    pub(crate) fn looked(&mut self, now_ms: u64) {
        for record in self.table.iter_mut().flatten() {
            record.looked_ms = now_ms;
        }
    }

    /// Each socket that libcurl wants, with who spoke of it last, and `started` as in a record.
    pub(crate) fn wanted(&self) -> impl Iterator<Item = (Easy, u64)> + '_ {
        self.table
            .iter()
            .flatten()
            .filter(|record| !record.vacant && record.wanted != Events::NONE)
            .map(|record| (record.easy, record.started))
    }

    /// Every socket that libcurl wants: who spoke of it last and `started` as in a record, the descriptor, the events, whether it is watched, and
    /// for how many milliseconds it has been silent.
    pub(crate) fn list(
        &self,
        now_ms: u64,
    ) -> impl Iterator<Item = (Easy, u64, Socket, Events, bool, u64)> + '_ {
        let used = self.table.iter().enumerate().filter_map(|(at, slot)| {
            let record = slot.as_ref()?;
            (!record.vacant && record.wanted != Events::NONE).then_some((at, record))
        });
        used.map(move |(at, record)| {
            (
                record.easy,
                record.started,
                at as Socket,
                record.wanted,
                record.armed == record.wanted,
                now_ms.saturating_sub(record.seen_ms),
            )
        })
    }

    pub(crate) fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for record in self.table.iter().flatten().filter(|record| !record.vacant) {
            if record.wanted == Events::NONE {
                tally.idle += 1;
            } else if record.armed == record.wanted {
                tally.watched += 1;
            } else {
                tally.unwatched += 1;
            }
        }
        tally
    }

    pub(crate) fn forget_all(&mut self) {
        self.vacated.clear();
        for slot in &mut self.table {
            if let Some(poll) = slot.take().and_then(|record| record.poll) {
                poll.close();
            }
        }
    }
}

impl Record {
    /// Has it looked at when libcurl has returned, see `Sockets::take_fresh`. `false`: it need not, or there is no memory.
    fn note(&mut self, socket: Socket, fresh: &mut Vec<Socket>) -> bool {
        if self.keep != Keep::No || !self.ours {
            return false;
        }
        if !self.fresh && fresh.try_reserve(1).is_ok() {
            self.fresh = true;
            fresh.push(socket);
        }
        self.fresh
    }

    /// Removed, and not yet known whether the poll handle may stay.
    fn is_undecided(&self) -> bool {
        self.keep == Keep::No && self.wanted == Events::NONE
    }

    fn is_polled_by(&self, poll: usize) -> bool {
        self.poll.as_ref().is_some_and(|own| own.id() == poll)
    }

    fn fail(&mut self, error: c_int) {
        self.error = error;
        self.armed = Events::NONE;
        if let Some(poll) = self.poll.take() {
            poll.close();
        }
    }

    fn disarm(&mut self) {
        self.armed = Events::NONE;
        if let Some(poll) = &self.poll {
            poll.stop();
        }
    }

    fn is_left(&self) -> bool {
        self.error == 0 && self.wanted != Events::NONE && self.armed != self.wanted
    }

    /// What of the events wanted the socket is ready for now.
    fn ready_for(&self, socket: Socket) -> Events {
        [Events::IN, Events::OUT]
            .into_iter()
            .filter(|events| self.wanted.contains(*events) && stays_ready(socket, *events))
            .fold(Events::NONE, Events::union)
    }

    /// Watches for nothing but the rest, until [`Sockets::next_unwatched`] finds it.
    fn leave(&mut self, busy: Events) {
        let rest = self.wanted.without(busy);
        let poll = self.poll.as_ref().filter(|_| rest != Events::NONE);
        if poll.is_some_and(|poll| poll.start(rest).is_ok()) {
            self.armed = rest;
        } else {
            self.disarm();
        }
    }

    /// Brings the poll handle in line with what is wanted. Starting one again for the same events costs libuv two
    /// system calls, so that is left out (R3).
    #[inline(always)]
    fn watch(&mut self, uv: &Loop, socket: Socket) -> Result<(), c_int> {
        if self.armed == self.wanted {
            return Ok(());
        }
        if self.poll.is_none() {
            self.poll = Some(uv.poll(socket)?);
        }
        if let Some(poll) = &self.poll {
            poll.start(self.wanted)?;
        }
        self.armed = self.wanted;
        self.error = 0;
        Ok(())
    }
}

#[cfg(unix)]
fn index(socket: Socket) -> Option<usize> {
    usize::try_from(socket).ok()
}

// Winsock's descriptors are small multiples of 4, so the table stays dense there too.
#[cfg(windows)]
fn index(socket: Socket) -> Option<usize> {
    (socket != curl_sys::CURL_SOCKET_BAD).then_some(socket as usize)
}
