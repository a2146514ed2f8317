//! The state machine: what the host asks for, what libcurl asks for, and what the loop reports, in one place.
//!
//! The order of things in every entry from the loop is: one call into libcurl; then, with libcurl off the stack, what its
//! callbacks have asked for, in order; then all of libcurl's messages; then the host's done callbacks; then whether the
//! loop is kept alive. An entry from the host is the same without the done callbacks, which follow in the next turn.
//!
//! No borrow of a `RefCell` is held across a call into libcurl or into the host: both may come back to any function here.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use libc::c_int;

use crate::error;
use crate::pending::Pending;
use crate::pool::Pool;
use crate::quirks::Bugs;
use crate::socket::Sockets;
use crate::stats::Counters;
use crate::sys::{
    self, now_ns, Action, Check, CloseFn, DoneFn, Easy, Events, Hold, Loop, Multi, Settings,
    Socket, Timer,
};
use crate::timer::Deadline;
use crate::transfer::{State, Transfers};
use crate::watch::Watch;

/// How close to libcurl's deadline every call serves the timeouts of transfers behind a connection limit as well.
const PENDING_MARGIN_NS: u64 = 5_000_000;
/// Events of one poll of the loop after which messages are read at the latest. Together is cheaper than one by one, but what
/// a transfer was about should still be in the processor's cache when the host is told of it.
const EVENTS_TOGETHER: u32 = 128;
/// Calls for 0 ms in a row, with no sign from any socket between them, that a libcurl with that bug gets while a transfer
/// is paused; and what it has to wait for each further one.
const HURRIES: u32 = 16;
/// The same if none is known to be paused: a callback may have paused one. Then nothing must have moved, either, which is
/// asked of so many transfers.
const HURRIES_UNKNOWN: u32 = 256;
const ASKED: usize = 128;
const HURRY_MS: u64 = 10;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    Open,
    /// `uvcurl_close` has been called; the close callback is due when the last handle is closed.
    Closing,
    /// The close callback has run: the driver goes when the last frame of it has left the stack.
    Closed,
}

/// What the host asked for inside one of libcurl's callbacks, and libcurl forbids there (R12).
pub(crate) enum Request {
    Add(Easy),
    End(Easy),
    Pause(Easy, c_int),
}

pub(crate) struct Handles {
    pub(crate) deadline: Deadline,
    look: Timer,
    check: Check,
    hold: Hold,
}

/// Not in curl-sys; libcurl 7.59.0.
const CURLE_RECURSIVE_API_CALL: c_int = 93;

/// Stands in every driver, so that a pointer to something else is found out where that is possible.
const MARK: u64 = 0x7576_6375_726c_2121;

pub(crate) struct Driver {
    mark: Cell<u64>,
    /// Where the driver lives, as the pointer that it was made with: what the host, libuv and libcurl are given, and what
    /// it is freed by.
    me: Cell<*const Driver>,
    /// The thread that has the driver, and whether that is settled because it has run the loop: a host may set a loop
    /// and a driver up on one thread and hand them to another. Read from any thread, written by the one that has it.
    thread: AtomicUsize,
    settled: AtomicBool,
    /// Functions of this driver on the stack: its memory is in use.
    frames: Cell<u32>,
    /// Functions of libcurl on the stack: it may be asked for nothing.
    depth: Cell<u32>,
    phase: Cell<Phase>,
    close: Cell<Option<CloseFn>>,
    /// `uvcurl_close` was called while libcurl was on the stack.
    close_due: Cell<bool>,
    uv: Loop,
    pub(crate) multi: Multi,
    /// `None` before the driver has opened and once it has shut. Borrowed for calls into libuv only, which never call back.
    handles: RefCell<Option<Handles>>,
    pub(crate) sockets: RefCell<Sockets>,
    pub(crate) transfers: RefCell<Transfers>,
    requests: RefCell<VecDeque<Request>>,
    /// There was no memory for a request to end some transfer.
    ends_lost: Cell<bool>,
    /// Kept for its memory only; see `drain`.
    pub(crate) messages: RefCell<Vec<(Easy, c_int)>>,
    referenced: Cell<bool>,
    held: Cell<bool>,
    /// The loop has called from its poll or timer phase, or from the idle handle itself, so that the idle handle is certain to
    /// run before the loop polls next. Elsewhere, in a prepare callback of the host's for one, what the host starts to
    /// watch may be registered before that.
    turn_will_end: Cell<bool>,
    /// The idle handle is to run before the loop polls.
    turn_watched: Cell<bool>,
    /// The wait the look timer was started for; 0: it is stopped.
    looking: Cell<u64>,
    pub(crate) watch: Watch,
    pub(crate) counters: Counters,
    pub(crate) pending: Pending,
    /// Since that was last looked into, libcurl may have lost a timeout of a transfer that it holds back.
    may_have_lost: Cell<bool>,
    pub(crate) bugs: Bugs,
    /// Events whose messages wait for the check handle, which is started with the first.
    events: Cell<u32>,
    /// Calls for 0 ms since a socket was ready or the host asked for something.
    hurries: Cell<u32>,
    /// What all transfers had moved at the last of many such calls.
    moved: Cell<Option<u64>>,
    settings: Cell<Settings>,
    pub(crate) pool: Pool,
    /// A bug of ours was contained: transfers fail, and no more are taken.
    failed: Cell<bool>,
    /// The close callback that is due comes after those of handles that the host has closed.
    last_round: Cell<bool>,
    /// A connection with TLS has been opened, on a libcurl that may leave streams of HTTP/2 in it. Asking each transfer costs
    /// some 160 instructions.
    any_https: Cell<bool>,
    /// How often the idle handle has run, after each of which the loop polls.
    pub(crate) polls: Cell<u64>,
}

impl Driver {
    pub(crate) fn new(uv: Loop, multi: Multi, thread: usize) -> Driver {
        Driver {
            mark: Cell::new(MARK),
            me: Cell::new(std::ptr::null()),
            thread: AtomicUsize::new(thread),
            settled: AtomicBool::new(false),
            frames: Cell::new(0),
            depth: Cell::new(0),
            phase: Cell::new(Phase::Open),
            close: Cell::new(None),
            close_due: Cell::new(false),
            uv,
            multi,
            handles: RefCell::new(None),
            sockets: RefCell::default(),
            transfers: RefCell::default(),
            requests: RefCell::default(),
            ends_lost: Cell::new(false),
            messages: RefCell::default(),
            referenced: Cell::new(true),
            held: Cell::new(false),
            turn_will_end: Cell::new(false),
            turn_watched: Cell::new(false),
            looking: Cell::new(0),
            watch: Watch::default(),
            counters: Counters::default(),
            pending: Pending::default(),
            may_have_lost: Cell::new(false),
            bugs: Bugs::of(sys::libcurl()),
            events: Cell::new(0),
            hurries: Cell::new(0),
            moved: Cell::new(None),
            settings: Cell::new(Settings { untouched: false }),
            pool: Pool::default(),
            failed: Cell::new(false),
            last_round: Cell::new(false),
            any_https: Cell::new(false),
            polls: Cell::new(0),
        }
    }

    /// Second half of `new`, once the driver has its place in memory: handles and callbacks point there. On failure the
    /// driver is closing, and goes like any other when its handles have closed.
    pub(crate) fn open(&self, me: *const Driver) -> Result<(), c_int> {
        self.me.set(me);
        self.uv.attach(me);
        let opened = self.open_handles().and_then(|()| self.multi.attach(me));
        if opened.is_err() {
            self.close(CloseFn::none());
        }
        // The loop's first turn tells which thread runs it.
        self.handles(|h| h.deadline.kick());
        opened
    }

    fn open_handles(&self) -> Result<(), c_int> {
        let hold = self.uv.hold()?;
        let made = (|| {
            let timer = self.uv.timer()?;
            let idle = match self.uv.idle() {
                Ok(idle) => idle,
                Err(error) => {
                    timer.close();
                    return Err(error);
                }
            };
            let deadline = Deadline::new(timer, idle);
            let look = match self.uv.timer() {
                Ok(look) => look,
                Err(error) => {
                    deadline.close();
                    return Err(error);
                }
            };
            match self.uv.check() {
                Ok(check) => Ok((deadline, look, check)),
                Err(error) => {
                    deadline.close();
                    look.close();
                    Err(error)
                }
            }
        })();
        match made {
            Ok((deadline, look, check)) => {
                *self.handles.borrow_mut() = Some(Handles {
                    deadline,
                    look,
                    check,
                    hold,
                });
                Ok(())
            }
            Err(error) => {
                hold.close();
                Err(error)
            }
        }
    }

    /// Asks `what` of the handles; `None` when there are none (any more).
    pub(crate) fn handles<R>(&self, what: impl FnOnce(&Handles) -> R) -> Option<R> {
        self.handles.borrow().as_ref().map(what)
    }

    pub(crate) fn me(&self) -> *const Driver {
        self.me.get()
    }

    pub(crate) fn uv(&self) -> &Loop {
        &self.uv
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase.get()
    }

    pub(crate) fn is_on(&self, thread: usize) -> bool {
        self.thread.load(Ordering::Relaxed) == thread
    }

    /// Whether a call from another thread is a mistake: before the loop has run, it is how the driver is handed over.
    pub(crate) fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Relaxed)
    }

    /// `true`: it was on another thread before.
    pub(crate) fn settle_on(&self, thread: usize, settled: bool) -> bool {
        if settled && !self.is_settled() {
            self.settled.store(true, Ordering::Relaxed);
        }
        if self.is_on(thread) {
            return false;
        }
        self.thread.store(thread, Ordering::Relaxed);
        true
    }

    pub(crate) fn is_marked(&self) -> bool {
        self.mark.get() == MARK
    }

    pub(crate) fn frames(&self) -> &Cell<u32> {
        &self.frames
    }

    /// The one way into libcurl: while this runs, libcurl may call back, and must not be called (R6, R12).
    fn enter<R>(&self, call: impl FnOnce(&Multi) -> R) -> R {
        self.depth.set(self.depth.get() + 1);
        let result = call(&self.multi);
        self.depth.set(self.depth.get() - 1);
        result
    }

    pub(crate) fn inside_libcurl(&self) -> bool {
        self.depth.get() > 0
    }

    // ---- what the host asks for ----

    pub(crate) fn start(&self, easy: Easy, done: DoneFn) -> Result<(), c_int> {
        self.must_be_open()?;
        if self.failed.get() {
            return Err(error::UVCURL_E_INTERNAL);
        }
        if self.inside_libcurl() {
            self.reserve_request()?;
            self.transfers
                .borrow_mut()
                .insert(easy, done, State::Queued, self.uv.now_ms())?;
            self.request(Request::Add(easy));
            self.rest();
            return Ok(());
        }
        self.transfers
            .borrow_mut()
            .insert(easy, done, State::Running, self.uv.now_ms())?;
        let added = match self.add(easy) {
            Ok(()) => Ok(()),
            Err(error::RECURSIVE) if self.reserve_request().is_ok() => {
                self.transfers.borrow_mut().not_added(easy);
                self.later(Request::Add(easy));
                Ok(())
            }
            Err(error) => {
                self.transfers.borrow_mut().discard(easy);
                Err(match error {
                    error::RECURSIVE => error::ENOMEM,
                    error => error,
                })
            }
        };
        self.after_start();
        added
    }

    pub(crate) fn cancel(&self, easy: Easy) -> Result<(), c_int> {
        self.must_be_open()?;
        self.read_waiting();
        self.must_be_unsettled(easy)?;
        if self.inside_libcurl() {
            self.reserve_request()?;
            self.transfers.borrow_mut().ending(easy, error::ECANCELED);
            self.request(Request::End(easy));
        } else {
            self.end(easy, error::ECANCELED);
            self.after_host();
        }
        Ok(())
    }

    pub(crate) fn pause(&self, easy: Easy, mask: c_int) -> Result<(), c_int> {
        self.must_be_open()?;
        self.read_waiting();
        self.must_be_unsettled(easy)?;
        if self.inside_libcurl() {
            self.reserve_request()?;
            self.request(Request::Pause(easy, mask));
        } else {
            let set = self.set_pause(easy, mask);
            self.after_host();
            return set;
        }
        Ok(())
    }

    pub(crate) fn set_referenced(&self, referenced: bool) {
        self.referenced.set(referenced);
        self.rest();
    }

    pub(crate) fn is_referenced(&self) -> bool {
        self.referenced.get()
    }

    pub(crate) fn set_untouched(&self, untouched: bool) -> Result<(), c_int> {
        self.must_be_open()?;
        if self.active() > 0 {
            return Err(error::EBUSY);
        }
        self.settings.set(Settings { untouched });
        Ok(())
    }

    /// How many connections libcurl may keep; `None`: as many as follow from what is in flight.
    pub(crate) fn set_max_connects(&self, fixed: Option<usize>) -> Result<(), c_int> {
        self.must_be_open()?;
        self.pool.fix(fixed);
        if !self.inside_libcurl() {
            self.after_host();
        }
        Ok(())
    }

    pub(crate) fn active(&self) -> usize {
        self.transfers.borrow().active()
    }

    /// Cancels everything and closes. Does nothing on a driver that is closing.
    pub(crate) fn close(&self, close: CloseFn) {
        if self.phase.get() != Phase::Open {
            return;
        }
        self.phase.set(Phase::Closing);
        self.close.set(Some(close));
        if self.inside_libcurl() {
            self.close_due.set(true);
        } else {
            self.shut();
        }
    }

    pub(crate) fn must_be_open(&self) -> Result<(), c_int> {
        match self.phase.get() {
            Phase::Open => Ok(()),
            Phase::Closing | Phase::Closed => Err(error::ECANCELED),
        }
    }

    /// The transfer is in flight and how it ends is still open.
    fn must_be_unsettled(&self, easy: Easy) -> Result<(), c_int> {
        match self.transfers.borrow().state(easy) {
            None => Err(error::ENOENT),
            Some(State::Queued | State::Running) => Ok(()),
            Some(State::Ending { .. } | State::Ended(_)) => Err(error::EALREADY),
        }
    }

    fn reserve_request(&self) -> Result<(), c_int> {
        self.requests
            .borrow_mut()
            .try_reserve(1)
            .map_err(|_| error::ENOMEM)
    }

    fn request(&self, request: Request) {
        self.requests.borrow_mut().push_back(request);
    }

    /// A function of this driver has panicked.
    pub(crate) fn panicked(&self) {
        self.failed.set(true);
        self.handles(|h| h.deadline.kick());
    }

    // ---- what the loop reports ----

    /// A poll handle reports. `status` below 0: libuv has stopped the handle.
    pub(crate) fn socket_ready(&self, socket: Socket, poll: usize, status: c_int, events: Events) {
        self.in_turn(|| self.socket_event(socket, poll, status, events));
    }

    fn socket_event(&self, socket: Socket, poll: usize, status: c_int, events: Events) {
        let mut spins = false;
        if status < 0 {
            if !self.sockets.borrow_mut().failed(socket, poll, status) {
                return;
            }
            if self.inside_libcurl() {
                // The host runs the loop inside a callback of libcurl's: watch again, the error will be reported again.
                self.sockets.borrow_mut().search();
                return;
            }
            self.act(Action::Failed(socket));
            self.sockets.borrow_mut().rewatch(&self.uv, socket);
        } else {
            // Readiness that cannot be passed on now stays: poll handles are level-triggered.
            if self.inside_libcurl() || !self.sockets.borrow_mut().ready(&self.uv, socket, poll) {
                return;
            }
            if !self.sockets.borrow_mut().is_insistent(socket) {
                self.act(Action::Ready(socket, events));
            } else if self.tell_insistent(socket, poll, events) {
                spins = true;
            }
        }
        // One that spins is no sign of life.
        if !spins {
            self.hurries.set(0);
        }
        self.claim_sockets();
        if !self.is_caught_up() || !self.wait_for_check() {
            self.after_loop();
        }
    }

    /// Leaves messages and reports to the check handle, which runs once the loop has handed out all events of its poll: there
    /// are fewer calls into libcurl then, and new transfers begin together. `false`: it is time for them now.
    fn wait_for_check(&self) -> bool {
        let events = self.events.get() + 1;
        let wait = events < EVENTS_TOGETHER
            && (events > 1 || self.handles(|h| h.check.start()) == Some(true));
        if wait {
            self.events.set(events);
        }
        wait
    }

    /// The check handle ran.
    pub(crate) fn polled(&self) {
        // The host runs the loop inside a callback of libcurl's: the handle goes on, and runs for the outer loop as well.
        if !self.inside_libcurl() {
            self.in_turn(|| self.after_loop());
        }
    }

    /// How a transfer ends is settled by a message that nobody has read, if it is there: before the host settles it.
    fn read_waiting(&self) {
        if self.events.get() > 0 && !self.inside_libcurl() {
            self.drain();
        }
    }

    /// A timer has fired: libcurl's, or the one that looks after silent transfers.
    pub(crate) fn timer_due(&self, timer: usize) {
        let deadline = self.handles(|h| {
            let deadline = h.deadline.is_timer(timer);
            if deadline {
                h.deadline.fired(&self.uv);
            }
            deadline
        });
        self.in_turn(|| self.timer_event(deadline));
    }

    fn timer_event(&self, deadline: Option<bool>) {
        match deadline {
            Some(true) => self.kicked(false),
            Some(false) => {
                self.looking.set(0);
                if !self.inside_libcurl() {
                    self.look();
                    self.pending.begin(now_ns(), || {
                        let all = self.transfers.borrow().running();
                        self.multi.pending().unwrap_or(all as i64)
                    });
                    self.try_pending();
                    self.after_loop();
                } else {
                    self.rest();
                }
            }
            None => {}
        }
    }

    /// The idle handle ran.
    pub(crate) fn turned(&self) {
        self.polls.set(self.polls.get() + 1);
        self.in_turn(|| self.kicked(true));
        // In any case: also when the host runs the loop inside a callback of libcurl's, this comes before the poll.
        self.end_turn();
    }

    fn end_turn(&self) {
        self.sockets.borrow_mut().end_turn();
        self.watch_the_turn();
    }

    /// Does `what` the loop has called for.
    fn in_turn(&self, what: impl FnOnce()) {
        // Not when the host runs the loop inside a callback of ours: the outer loop may be about to poll.
        self.turn_will_end.set(self.frames.get() <= 1);
        let before = self.counters.work();
        what();
        self.counters.add(&self.counters.turns);
        if self.counters.work() == before {
            self.counters.add(&self.counters.idle_turns);
        }
        self.no_turn();
    }

    /// From here on it is not certain that the idle handle runs before the loop polls.
    pub(crate) fn no_turn(&self) {
        self.turn_will_end.set(false);
    }

    /// The idle handle ran, or a timer that does the same.
    fn kicked(&self, end_turn: bool) {
        if self.inside_libcurl() {
            // The host runs the loop inside a callback of libcurl's: again in the next turn, until libcurl is out.
            self.handles(|h| h.deadline.rest());
            return;
        }
        let now = self.handles(|h| {
            h.deadline.ran();
            h.deadline.take_now()
        });
        self.counters.add(&self.counters.kicks);
        if self.failed.get() {
            self.fail_all(error::UVCURL_E_INTERNAL);
        }
        if now == Some(true) {
            self.act(Action::Timeout);
            self.slow_down();
        }
        self.try_pending();
        if end_turn {
            self.claim_sockets();
            // What was left over before: the host may run the loop in its callbacks.
            self.end_turn();
        }
        self.after_loop();
    }

    /// One of the driver's uv handles is closed and freed.
    pub(crate) fn handle_closed(&self) {
        if self.phase.get() == Phase::Closing && self.uv.open_handles() == 0 {
            if self.uv.has_orphans() && !self.last_round.replace(true) {
                self.close_one_more();
                return;
            }
            self.uv.free_orphans();
            while self.report() {}
            self.phase.set(Phase::Closed);
            if let Some(close) = self.close.take() {
                close.call();
            }
        }
    }

    // ---- what libcurl asks for ----

    /// libcurl's socket callback, in poll events; `NONE` for a socket it no longer wants.
    pub(crate) fn socket_wanted(&self, easy: Easy, socket: Socket, events: Events) {
        // Multi-handle calls that libcurl makes us by itself, from curl_easy_cleanup of a host that broke the contract
        // for one, come without `enter`; the record is kept in line all the same.
        let transfers = self.transfers.borrow();
        self.sockets.borrow_mut().want(
            &self.uv,
            &transfers,
            easy,
            socket,
            events,
            self.turn_will_end.get(),
        );
        if !self.inside_libcurl() && !self.sockets.borrow().is_settled() {
            // Below a call of the host's own nobody would see to what is left when libcurl has returned.
            self.handles(|h| h.deadline.kick());
        }
        self.watch_the_turn();
    }

    /// Finds out which of the sockets announced lately belong to connections that a transfer of ours has opened, for these
    /// have our close-socket function. A connection that came out of a pool may be somebody else's and have none.
    fn claim_sockets(&self) {
        if !self.sockets.borrow().any_fresh() {
            return;
        }
        loop {
            let next = self.sockets.borrow_mut().take_fresh();
            let Some((socket, easy, started)) = next else {
                break;
            };
            let ours = self.transfers.borrow().is_among(easy, started);
            let connects = if ours && !self.settings.get().untouched {
                sys::connects(easy)
            } else {
                0
            };
            let hooked =
                self.transfers.borrow().has_connected(easy, connects) && sys::is_tcp(socket);
            if hooked {
                self.transfers.borrow_mut().claim_connect(easy, connects);
            }
            let untimed = ours && sys::is_untimed(easy);
            let connection = (ours && self.bugs.streams_left).then(|| sys::connection(easy));
            if connection.is_some() && !self.any_https.get() && sys::is_https(easy) {
                self.any_https.set(true);
            }
            self.sockets.borrow_mut().decide(
                socket,
                hooked,
                untimed,
                connection,
                self.turn_will_end.get(),
            );
        }
        self.watch_the_turn();
    }

    /// libcurl's timer callback.
    pub(crate) fn timer_wanted(&self, ms: i64) {
        self.handles(|h| h.deadline.set(&self.uv, ms));
    }

    /// The close-socket function: the descriptor is about to be closed. Before 8.9 libcurl may have forgotten to say so by
    /// its socket callback, and a watched descriptor that is closed aborts the process (S16).
    pub(crate) fn socket_closing(&self, socket: Socket) {
        self.sockets
            .borrow_mut()
            .forget(socket, self.turn_will_end.get());
        self.watch_the_turn();
    }

    /// Another driver of this thread cannot watch `socket`, because a handle on the same loop does.
    pub(crate) fn release_idle(&self, socket: Socket) {
        if let Ok(mut sockets) = self.sockets.try_borrow_mut() {
            sockets.release_idle(socket);
        }
    }

    /// Has the idle handle run before the loop polls if poll handles have been left over, see [`Sockets::end_turn`].
    #[inline]
    fn watch_the_turn(&self) {
        let left = self.sockets.borrow().any_left();
        if self.turn_watched.get() != left {
            self.turn_watched.set(left);
            self.handles(|h| h.deadline.set_turn(left));
        }
    }

    // ---- the work ----

    #[inline(always)]
    fn add(&self, easy: Easy) -> Result<(), c_int> {
        let settings = self.settings.get();
        sys::prepare(easy, settings);
        self.enter(|multi| multi.add(easy, settings))
    }

    /// Ends a transfer with a status of the driver's or the host's, not with libcurl's.
    fn end(&self, easy: Easy, status: c_int) {
        // If it was settled before, that status stays, and libcurl is still to let go.
        self.transfers.borrow_mut().ending(easy, status);
        self.let_go(easy);
    }

    /// Takes a transfer whose status is settled out of libcurl, which makes its report due (promise 2).
    fn let_go(&self, easy: Easy) {
        let state = self.transfers.borrow().state(easy);
        let Some(State::Ending { added, .. }) = state else {
            return;
        };
        if added && !self.take_out(easy) {
            self.later(Request::End(easy));
        } else {
            self.transfers.borrow_mut().ended(easy);
        }
    }

    /// Takes a transfer out of the multi handle. `false`: libcurl is on the stack below a call of the host's own.
    pub(crate) fn take_out(&self, easy: Easy) -> bool {
        let settings = self.settings.get();
        if self.any_https.get() && self.transfers.borrow().running() > 0 && sys::is_http2(easy) {
            self.stream_ends(sys::connection(easy));
        }
        if self.enter(|multi| multi.remove(easy)) == Err(error::RECURSIVE) {
            return false;
        }
        // Any other failure means that libcurl does not have it, which is what was wanted.
        sys::release(easy, settings);
        true
    }

    fn set_pause(&self, easy: Easy, mask: c_int) -> Result<(), c_int> {
        // Whatever was kept is overtaken by this one.
        self.transfers.borrow_mut().keep_pause(easy, None)?;
        if self.transfers.borrow().state(easy) == Some(State::Queued) {
            return self.transfers.borrow_mut().keep_pause(easy, Some(mask));
        }
        match self.enter(|_| sys::pause(easy, mask)) {
            Ok(()) => {
                self.transfers.borrow_mut().set_paused(easy, mask != 0);
                self.sockets.borrow_mut().pause_changed();
                Ok(())
            }
            // Below a call of the host's own into libcurl: later, whichever way it goes.
            Err(CURLE_RECURSIVE_API_CALL) => {
                self.handles(|h| h.deadline.kick());
                self.transfers.borrow_mut().keep_pause(easy, Some(mask))
            }
            // There is no connection yet to pause: try again when libcurl has come further.
            Err(code) if code == curl_sys::CURLE_BAD_FUNCTION_ARGUMENT as c_int => {
                // CURLPAUSE_CONT, 0, is how it starts.
                let keep = (mask != 0).then_some(mask);
                self.transfers.borrow_mut().keep_pause(easy, keep)
            }
            // A write callback that ran inside, and failed. libcurl tells only us, so it is for us to end it (R14).
            Err(code) => {
                self.end(easy, code);
                Ok(())
            }
        }
    }

    /// libcurl turned out to be on the stack below a call of the host's own, curl_easy_pause() say: try in the next turn.
    pub(crate) fn later(&self, request: Request) {
        if self.reserve_request().is_ok() {
            self.request(request);
        } else if matches!(request, Request::End(_)) {
            // Which ones is known all the same, by a search.
            self.ends_lost.set(true);
        }
        self.handles(|h| h.deadline.kick());
    }

    /// Does what [`Driver::later`] had no memory to note.
    fn make_up_for_ends(&self) {
        if !self.ends_lost.take() {
            return;
        }
        for _ in 0..self.active() {
            let next = self.transfers.borrow().any_ending();
            let Some(easy) = next.filter(|_| !self.ends_lost.get()) else {
                break;
            };
            self.let_go(easy);
        }
    }

    /// Lets libcurl work, and sees to what it may forget.
    pub(crate) fn act(&self, action: Action) {
        let (due, unknown) = self
            .handles(|h| {
                h.deadline.reset_told();
                (h.deadline.due_ns(), h.deadline.is_unknown())
            })
            .unwrap_or_default();
        let action = if due.is_some_and(|due| self.pending_timeout_near(due)) {
            Action::Everything
        } else {
            action
        };
        let timeout = matches!(action, Action::Timeout | Action::Everything);
        self.counters.add(&self.counters.actions);
        match self.enter(|multi| multi.act(action)) {
            Ok(()) if action == Action::Everything => {}
            Ok(()) => self.note_lost_timeouts(due, unknown),
            Err(error::RECURSIVE) => {
                // Below a call of the host's own: sockets stay ready, but the deadline must not be forgotten.
                if timeout {
                    self.handles(|h| h.deadline.set(&self.uv, 0));
                }
                return;
            }
            // The multi handle is of no use before it is empty (R23).
            Err(error) => self.fail_all(error),
        }
        // A deadline that libcurl takes to be running still is not announced again; 8.10.0 to 8.11.0 do not even after
        // it has been served, and a transfer then waits for ever (R8, S9). Asking is cheap.
        if timeout && self.handles(|h| h.deadline.was_told()) == Some(false) {
            let ms = self.multi.timeout();
            if ms >= 0 {
                // Never 0: were libcurl to stay due, that would be a loop without a pause.
                self.handles(|h| h.deadline.set(&self.uv, ms.max(1)));
            }
        }
    }

    /// Transfers that libcurl holds back behind a connection limit lose their timeouts in socket mode: whatever call comes
    /// first after such a timeout has expired takes it off libcurl's list and does nothing about it (S10). Only a call
    /// for everything serves them, so close to the deadline every call is made one.
    fn pending_timeout_near(&self, due_ns: u64) -> bool {
        now_ns().saturating_add(PENDING_MARGIN_NS) >= due_ns
            && self.multi.serves_pending()
            && self.multi.pending().is_some_and(|count| count > 0)
    }

    /// After a call into libcurl that [`Driver::pending_timeout_near`] has not made one for everything.
    fn note_lost_timeouts(&self, due: Option<u64>, unknown: bool) {
        if unknown || due.is_some_and(|due| now_ns() >= due) {
            self.may_have_lost.set(true);
        }
    }

    /// A libcurl that asks for 0 ms over and over, on account of a paused transfer, gets it at long intervals (S26).
    fn slow_down(&self) {
        let asks = self.handles(|h| h.deadline.is_unknown()) == Some(true);
        let hurries = if asks { self.hurries.get() + 1 } else { 0 };
        self.hurries.set(hurries.min(HURRIES_UNKNOWN));
        if self.bugs.pause_spins && hurries > HURRIES {
            let paused = self.transfers.borrow().paused() > 0;
            if paused || hurries > HURRIES_UNKNOWN && self.moves_nothing() {
                self.handles(|h| h.deadline.put_off(&self.uv, HURRY_MS));
            }
        }
    }

    /// Whether nothing has moved since this was asked last.
    fn moves_nothing(&self) -> bool {
        let moved = self.transfers.borrow().moved(ASKED);
        moved.is_some() && self.moved.replace(moved) == moved
    }

    fn try_pending(&self) {
        let count = self.pending.take_turn();
        if count > 0 {
            // libcurl asks by itself to be called for those.
            self.enter(|multi| multi.try_pending(count));
            if self.pending.goes_on(now_ns()) {
                self.handles(|h| h.deadline.kick());
            }
        }
    }

    fn fail_all(&self, error: c_int) {
        // Those that have ended by themselves keep their own result.
        self.drain();
        self.each_unended(|easy| self.end(easy, error));
    }

    /// Calls `end` for every transfer that has not ended, oldest first.
    fn each_unended(&self, end: impl Fn(Easy)) {
        let list = self.transfers.borrow().unended();
        if let Some(list) = list {
            list.into_iter().for_each(end);
        } else {
            // No memory even for the list: one after the other, in any order. Not what is started meanwhile.
            let started = self.transfers.borrow().started();
            for _ in 0..self.active() {
                let next = self.transfers.borrow().any_unended(started);
                let Some(easy) = next else { break };
                end(easy);
            }
        }
    }

    /// After the loop has called: everything, the host's callbacks included.
    fn after_loop(&self) {
        if self.events.replace(0) > 0 {
            self.handles(|h| h.check.stop());
        }
        // libcurl has worked, so there may be a connection now for a pause that waits for one.
        let pauses = self.transfers.borrow().pausing();
        self.catch_up(pauses);
        if self.phase.get() == Phase::Open {
            self.deliver();
            self.tell_log();
        }
        self.rest();
    }

    /// After the host has started a transfer. Most often there is nothing to do: libcurl only notes a new transfer, so that
    /// there are no messages, and what the loop has been asked for on account of another does for this one, too.
    fn after_start(&self) {
        self.hurries.set(0);
        self.tell_pool();
        if self.is_caught_up() {
            if self.held.get() != self.referenced.get() || self.looking.get() == 0 {
                self.rest();
            }
        } else {
            self.after_host();
        }
    }

    /// After the host has called: the same, but its callbacks wait for the loop (promise 1).
    fn after_host(&self) {
        self.hurries.set(0);
        self.catch_up(0);
        self.rest();
    }

    /// Does what has become possible now that libcurl is off the stack, until nothing is left of it.
    fn catch_up(&self, mut pauses: usize) {
        self.tell_pool();
        if self.may_have_lost.take()
            && !self.pending.is_suspect()
            && self.multi.pending().is_none_or(|count| count > 0)
        {
            self.pending.suspect();
        }
        if pauses == 0 && self.is_caught_up() && self.phase.get() == Phase::Open {
            // Most often there are messages and nothing else.
            self.drain();
            if self.is_caught_up() {
                return;
            }
        }
        loop {
            let mut again = false;
            self.claim_sockets();
            // Only those there are now: one may be put back because libcurl turns out to be busy after all.
            let due = self.requests.borrow().len();
            for _ in 0..due {
                let next = self.requests.borrow_mut().pop_front();
                let Some(request) = next else { break };
                again |= self.execute(request);
            }
            self.make_up_for_ends();
            if self.close_due.take() {
                self.shut();
            }
            if self.phase.get() != Phase::Open {
                return;
            }
            // What has been put back waits for the next turn; what comes in from here on does not.
            let put_back = (self.requests.borrow().len(), self.close_due.get());
            self.drain();
            again |= self.end_unwatchable();
            again |= (self.requests.borrow().len(), self.close_due.get()) != put_back;
            if !again && pauses > 0 {
                // One at a time: code of the host's may run inside, and ask for more.
                pauses -= 1;
                again = true;
                self.retry_pause();
            }
            if !again {
                break;
            }
        }
    }

    /// Tells libcurl how many connections it may keep, if that has changed.
    #[inline]
    fn tell_pool(&self) {
        if let Some(limit) = self.pool.due(self.transfers.borrow().running()) {
            if self.enter(|multi| multi.set_max_connects(limit)) == Err(error::RECURSIVE) {
                // Below a call of the host's own: the next time will do.
                self.pool.tell_again();
            }
        }
    }

    /// Nothing has been asked for inside libcurl, by it or by the host.
    fn is_caught_up(&self) -> bool {
        self.requests.borrow().is_empty()
            && !self.close_due.get()
            && !self.ends_lost.get()
            && self.sockets.borrow().is_settled()
    }

    /// `false`: put back for the next turn.
    fn execute(&self, request: Request) -> bool {
        match request {
            Request::Add(easy) => {
                // Cancelled since?
                if self.transfers.borrow().state(easy) == Some(State::Queued) {
                    match self.add(easy) {
                        Ok(()) => self.transfers.borrow_mut().added(easy),
                        Err(error::RECURSIVE) => {
                            self.later(Request::Add(easy));
                            return false;
                        }
                        // The start was accepted, so this is the transfer's result.
                        Err(error) => self.end(easy, error),
                    }
                }
            }
            Request::End(easy) => {
                self.let_go(easy);
                // Still not let go: `let_go` has put it back.
                return !matches!(
                    self.transfers.borrow().state(easy),
                    Some(State::Ending { .. })
                );
            }
            Request::Pause(easy, mask) => {
                if self.must_be_unsettled(easy).is_ok() {
                    // Only memory can fail it here, and then the pause is lost but not the transfer.
                    let _ = self.set_pause(easy, mask);
                }
            }
        }
        true
    }

    /// Ends the transfers of sockets that libuv cannot watch, each with libuv's error and no other (promise 7). Sockets
    /// of libcurl's own are served by looking instead.
    fn end_unwatchable(&self) -> bool {
        let mut any = self.sockets.borrow_mut().take_overflow();
        if any {
            // Nobody knows whose sockets they are.
            self.each_unended(|easy| self.end(easy, error::ENOMEM));
        }
        loop {
            let next = self.sockets.borrow_mut().next_unwatched(
                &self.uv,
                &self.transfers.borrow(),
                self.turn_will_end.get(),
            );
            let Some((error, easy, started)) = next else {
                return any;
            };
            // The same start of the same handle, not a later one that has nothing to do with this socket.
            if self.transfers.borrow().is_among(easy, started) {
                self.end(easy, error);
                any = true;
            }
        }
    }

    fn retry_pause(&self) {
        let next = self.transfers.borrow_mut().take_pause();
        if let Some((easy, Some(mask))) = next {
            // As in `execute`.
            let _ = self.set_pause(easy, mask);
        }
    }

    /// Settles what the loop is asked for while nothing happens: to live, to call soon, to look now and then.
    pub(crate) fn rest(&self) {
        if self.phase.get() != Phase::Open {
            return;
        }
        let (active, reports, running) = {
            let transfers = self.transfers.borrow();
            (
                transfers.active(),
                transfers.reports_due(),
                transfers.running(),
            )
        };
        let hold = self.referenced.get() && active > 0;
        let look = match running {
            0 => 0,
            _ => self.look_wait(),
        };
        let looking = self.looking.get();
        if self.held.get() == hold && reports == 0 && looking == look {
            return;
        }
        self.handles(|h| {
            if self.held.replace(hold) != hold {
                h.hold.set(hold);
            }
            if reports > 0 {
                h.deadline.kick();
            }
            if look == 0 && looking != 0 {
                self.looking.set(0);
                h.look.stop();
            } else if look != 0 && (looking == 0 || look < looking) {
                self.looking.set(look);
                h.look.start(look);
            }
        });
    }

    /// Cancels everything and closes every handle. libcurl is off the stack.
    fn shut(&self) {
        if self.multi.is_busy() {
            // Below a call of the host's own: in the next turn, for which the loop has to stay.
            self.close_due.set(true);
            self.handles(|h| {
                h.hold.set(true);
                h.deadline.kick();
            });
            return;
        }
        // First of all what has ended by itself: that keeps its own result.
        self.drain();
        self.each_unended(|easy| self.end(easy, error::ECANCELED));
        // Whatever was still asked for was for transfers that have ended by now.
        self.requests.borrow_mut().clear();
        self.multi.detach();
        self.sockets.borrow_mut().forget_all();
        self.enter(Multi::cleanup);
        self.close_handles();
        if self.uv.open_handles() == 0 && self.uv.has_orphans() {
            // A host that walked the loop has closed them all behind our back (S43).
            self.close_one_more();
        }
    }

    /// Brings about a close callback, in a later round of them than any handle that is closing now.
    fn close_one_more(&self) {
        if let Ok(timer) = self.uv.timer() {
            timer.close();
        }
    }

    fn close_handles(&self) {
        if let Some(handles) = self.handles.take() {
            handles.deadline.close();
            handles.look.close();
            handles.check.close();
            handles.hold.close();
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.mark.set(0);
    }
}
