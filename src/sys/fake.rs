//! The twin of `uv` and `curl` for the tests of the core: a small world in which a test plays any order of events.
//!
//! It is honest about what the real libraries forbid: a call into libcurl while libcurl is on the stack is refused and
//! noted, as is every touch of a poll handle whose descriptor has been closed (R2).
//!
//! On a thread that runs the model (`crate::model`) every call goes there instead.
#![allow(
    unsafe_code,
    reason = "twin of door OUT: calls the driver back through a raw pointer, as libcurl does"
)]

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::rc::Rc;

use libc::c_int;

use super::{Action, Easy, Events, Flow, Progress, Socket};
use crate::driver::Driver;
use crate::error;
use crate::model;

/// A call that the driver has made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Call {
    PollInit(Socket),
    PollStart(Socket, Events),
    PollStop(Socket),
    PollClose(Socket),
    TimerStart(u64),
    Add(Easy),
    MaxConnects(usize),
    Remove(Easy),
    Act(Action),
    Pause(Easy, c_int),
    Release(Easy),
    TryPending(i64),
    Cleanup,
}

/// What libcurl does when it is called: plays its callbacks, finishes transfers, closes descriptors.
type Play = Box<dyn FnOnce(&Driver)>;

struct FakePoll {
    socket: Socket,
    armed: Option<Events>,
}

#[derive(Default)]
pub(crate) struct World {
    pub(crate) calls: Vec<Call>,
    /// What the driver has done that it must not do.
    pub(crate) violations: Vec<String>,
    pub(crate) now_ns: u64,
    pub(crate) loop_ms: u64,
    pub(crate) held: bool,
    pub(crate) idle: bool,
    pub(crate) check: bool,
    /// The host has closed it.
    pub(crate) check_closed: bool,
    pub(crate) timeout: i64,
    pub(crate) pending: i64,
    /// The version of libcurl; 0 has no bug the driver works around.
    pub(crate) libcurl: u32,
    /// Sockets that are ready whatever libcurl does.
    pub(crate) always_ready: HashSet<Socket>,
    /// Of these, those that are ready for nothing but writing.
    pub(crate) only_writable: HashSet<Socket>,
    pub(crate) plays: VecDeque<Play>,
    pub(crate) remove_plays: VecDeque<Play>,
    pub(crate) cleanup_plays: VecDeque<Play>,
    /// The result of the next call of act.
    pub(crate) act_error: Option<c_int>,
    pub(crate) add_error: Option<c_int>,
    pub(crate) pause_error: VecDeque<c_int>,
    pub(crate) poll_init_error: BTreeMap<Socket, c_int>,
    pub(crate) poll_start_error: BTreeMap<Socket, c_int>,
    /// How many connections each transfer has opened.
    pub(crate) connects: BTreeMap<Easy, u64>,
    pub(crate) wakeup: Option<Socket>,
    /// The descriptor of a name lookup, which the transfer announces.
    pub(crate) resolver: Option<Socket>,
    /// Transfers of protocols whose timeouts libcurl keeps to itself.
    pub(crate) untimed: HashSet<Easy>,
    /// The HTTP/2 connections that transfers are on.
    pub(crate) connection: BTreeMap<Easy, u64>,
    /// They are without TLS.
    pub(crate) plain: bool,
    /// Bytes that a transfer has moved, and that a connection has received.
    pub(crate) moved: BTreeMap<Easy, u64>,
    pub(crate) received: BTreeMap<Socket, u64>,
    /// Bytes that come just when it has been asked whether the socket is ready.
    pub(crate) comes: BTreeMap<Socket, u64>,
    pub(crate) flow: BTreeMap<Socket, Flow>,
    pub(crate) flow_asked: usize,
    pub(crate) progress: BTreeMap<Easy, Progress>,
    /// How long each call for everything takes.
    pub(crate) everything_ns: u64,
    pub(crate) timers: BTreeMap<usize, Option<u64>>,
    inside: bool,
    attached: bool,
    cleaned: bool,
    added: HashSet<Easy>,
    messages: VecDeque<(Easy, c_int)>,
    polls: BTreeMap<usize, FakePoll>,
    closed_sockets: HashSet<Socket>,
    /// Descriptors that the host has begun to watch, and those that the loop's poll has registered.
    starting: HashSet<Socket>,
    registered: HashSet<Socket>,
    closing: usize,
    next: usize,
}

thread_local! {
    static WORLD: RefCell<World> = RefCell::default();
    static DRIVER: Cell<*const Driver> = const { Cell::new(std::ptr::null()) };
}

/// Asks or changes the world of this thread, that is of this test.
pub(crate) fn world<R>(ask: impl FnOnce(&mut World) -> R) -> R {
    WORLD.with(|world| ask(&mut world.borrow_mut()))
}

impl World {
    fn id(&mut self) -> usize {
        self.next += 1;
        self.next
    }

    fn violation(&mut self, what: String) {
        self.violations.push(what);
    }

    /// Finishes a transfer, as libcurl does when it runs one to its end.
    pub(crate) fn finish(&mut self, easy: Easy, code: c_int) {
        self.messages.push_back((easy, code));
    }

    /// Closes a descriptor behind everybody's back.
    pub(crate) fn close_socket(&mut self, socket: Socket) {
        self.closed_sockets.insert(socket);
    }

    /// The descriptor's number is given to a new socket.
    pub(crate) fn reopen_socket(&mut self, socket: Socket) {
        self.closed_sockets.remove(&socket);
    }

    /// The host opens a socket of this number and begins to watch it.
    pub(crate) fn host_watches(&mut self, socket: Socket) {
        self.closed_sockets.remove(&socket);
        self.starting.insert(socket);
    }

    /// The events a socket is watched for, and its poll handle.
    pub(crate) fn watched(&self, socket: Socket) -> Option<(usize, Events)> {
        self.polls
            .iter()
            .find(|(_, poll)| poll.socket == socket && poll.armed.is_some())
            .map(|(id, poll)| (*id, poll.armed.unwrap_or(Events::NONE)))
    }

    pub(crate) fn count(&self, call: &Call) -> usize {
        self.calls.iter().filter(|made| *made == call).count()
    }

    /// The driver makes its two timers in this order: libcurl's, and the one that looks after silent transfers.
    pub(crate) fn look_timer(&self) -> usize {
        *self.timers.keys().last().expect("the driver is open")
    }

    pub(crate) fn messages_left(&self) -> usize {
        self.messages.len()
    }

    /// libcurl is on the stack below a call that the host makes by itself.
    pub(crate) fn set_inside(&mut self, inside: bool) {
        self.inside = inside;
    }

    pub(crate) fn is_added(&self, easy: Easy) -> bool {
        self.added.contains(&easy)
    }
}

/// The loop's poll has handed out what it found: the check handle, if it runs.
pub(crate) fn polled(driver: &Driver) {
    if world(|w| w.check) {
        driver.polled();
    }
}

/// libuv stops a poll handle and reports an error on it, and nothing else comes of that poll.
pub(crate) fn poll_error(driver: &Driver, socket: Socket, status: c_int) {
    let Some((id, _)) = world(|w| w.watched(socket)) else {
        return;
    };
    world(|w| {
        if let Some(poll) = w.polls.get_mut(&id) {
            poll.armed = None;
        }
    });
    driver.socket_ready(socket, id, status, Events::NONE);
    polled(driver);
}

/// The socket is ready for what it is watched for, and no other is. `false`: nobody watches it.
pub(crate) fn poll_ready(driver: &Driver, socket: Socket) -> bool {
    let watched = poll_ready_among_others(driver, socket);
    polled(driver);
    watched
}

/// The same, as one of several events that the loop hands out: [`polled`] is to follow the last.
pub(crate) fn poll_ready_among_others(driver: &Driver, socket: Socket) -> bool {
    match world(|w| w.watched(socket)) {
        Some((id, events)) => {
            driver.socket_ready(socket, id, 0, events);
            true
        }
        None => false,
    }
}

/// One turn of the loop without I/O: the idle handle, if it runs, and the poll.
pub(crate) fn turn(driver: &Driver) -> bool {
    let idle = world(|w| w.idle);
    if idle {
        driver.turned();
    }
    polls();
    idle
}

/// The loop polls: what the host has begun to watch is registered.
pub(crate) fn polls() {
    world(|w| {
        let starting = std::mem::take(&mut w.starting);
        w.registered.extend(starting);
    });
}

/// Runs the loop's closing phase.
pub(crate) fn run_closing(driver: &Driver) {
    while world(|w| {
        let any = w.closing > 0;
        if any {
            w.closing -= 1;
        }
        any
    }) {
        driver.handle_closed();
    }
}

fn enter_libcurl<R>(call: impl FnOnce() -> R) -> Result<R, c_int> {
    // The fake has memory, whatever the driver has.
    let _runs = model::alloc::Runs::driver(false);
    let refused = world(|w| {
        if w.inside {
            w.violation("a call into libcurl from inside libcurl".to_owned());
        }
        if w.cleaned {
            w.violation("a call into a multi handle that is gone".to_owned());
        }
        std::mem::replace(&mut w.inside, true)
    });
    if refused {
        return Err(error::RECURSIVE);
    }
    let result = call();
    world(|w| w.inside = false);
    Ok(result)
}

fn play(play: Option<Play>) {
    if let Some(play) = play {
        let driver = DRIVER.get();
        assert!(!driver.is_null(), "libcurl is called before it is attached");
        // SAFETY: the test keeps its driver alive for as long as it calls it.
        play(unsafe { &*driver });
    }
}

pub(crate) fn now_ns() -> u64 {
    if let Some(model) = model::current() {
        return model.now_ns();
    }
    world(|w| w.now_ns)
}

pub(crate) struct Loop;

impl Loop {
    pub(crate) fn new() -> Loop {
        Loop
    }
    pub(crate) fn attach(&self, driver: *const Driver) {
        DRIVER.set(driver);
    }
    pub(crate) fn now_ms(&self) -> u64 {
        if let Some(model) = model::current() {
            return model.now_ms();
        }
        world(|w| w.loop_ms)
    }
    pub(crate) fn open_handles(&self) -> usize {
        if let Some(model) = model::current() {
            return model.open_handles();
        }
        world(|w| w.closing)
    }
    pub(crate) fn has_orphans(&self) -> bool {
        model::current().is_some_and(|model| model.has_orphans())
    }
    pub(crate) fn free_orphans(&self) {
        if let Some(model) = model::current() {
            model.free_orphans();
        }
    }
    pub(crate) fn poll(&self, socket: Socket) -> Result<Poll, c_int> {
        if let Some(model) = model::current() {
            return model.poll_init(socket).map(|id| Poll { id, socket });
        }
        world(|w| {
            w.calls.push(Call::PollInit(socket));
            if let Some(error) = w.poll_init_error.get(&socket) {
                return Err(*error);
            }
            if w.closed_sockets.contains(&socket) {
                w.violation(format!("poll handle on closed descriptor {socket}"));
            }
            let id = w.id();
            let armed = None;
            w.polls.insert(id, FakePoll { socket, armed });
            Ok(Poll { id, socket })
        })
    }
    pub(crate) fn timer(&self) -> Result<Timer, c_int> {
        if let Some(model) = model::current() {
            return model.timer_init().map(|id| Timer { id });
        }
        world(|w| {
            let id = w.id();
            w.timers.insert(id, None);
            Ok(Timer { id })
        })
    }
    pub(crate) fn idle(&self) -> Result<Idle, c_int> {
        let id = model::current().map_or(Ok(0), |model| model.idle_init())?;
        Ok(Idle { id })
    }
    pub(crate) fn check(&self) -> Result<Check, c_int> {
        let id = model::current().map_or(Ok(0), |model| model.check_init())?;
        Ok(Check { id })
    }
    pub(crate) fn hold(&self) -> Result<Hold, c_int> {
        let id = model::current().map_or(Ok(0), |model| model.hold_init())?;
        Ok(Hold { id })
    }
}

pub(crate) struct Poll {
    id: usize,
    socket: Socket,
}

impl Poll {
    pub(crate) fn id(&self) -> usize {
        self.id
    }
    pub(crate) fn start(&self, events: Events) -> Result<(), c_int> {
        if let Some(model) = model::current() {
            return model.poll_start(self.id, events);
        }
        world(|w| {
            w.calls.push(Call::PollStart(self.socket, events));
            if let Some(error) = w.poll_start_error.get(&self.socket) {
                return Err(*error);
            }
            if w.closed_sockets.contains(&self.socket) {
                w.violation(format!("start on closed descriptor {}", self.socket));
            }
            if let Some(poll) = w.polls.get_mut(&self.id) {
                poll.armed = Some(events);
            }
            Ok(())
        })
    }
    pub(crate) fn stop(&self) -> bool {
        if let Some(model) = model::current() {
            return model.poll_stop(self.id);
        }
        world(|w| {
            w.calls.push(Call::PollStop(self.socket));
            if w.closed_sockets.contains(&self.socket) {
                w.violation(format!("stop after descriptor {} was closed", self.socket));
            }
            if let Some(poll) = w.polls.get_mut(&self.id) {
                poll.armed = None;
            }
            true
        })
    }
    pub(crate) fn close(self) {
        if let Some(model) = model::current() {
            return model.close(self.id);
        }
        world(|w| {
            w.calls.push(Call::PollClose(self.socket));
            let armed = w.polls.get(&self.id).is_some_and(|p| p.armed.is_some());
            if w.closed_sockets.contains(&self.socket) && armed {
                w.violation(format!("close after descriptor {} was closed", self.socket));
            }
            if w.registered.contains(&self.socket) {
                w.violation(format!(
                    "close of a handle on {}, which the host watches",
                    self.socket
                ));
            }
            w.polls.remove(&self.id);
            w.closing += 1;
        });
    }
}

pub(crate) struct Timer {
    id: usize,
}

impl Timer {
    pub(crate) fn id(&self) -> usize {
        self.id
    }
    pub(crate) fn start(&self, ms: u64) {
        if let Some(model) = model::current() {
            return model.timer_start(self.id, ms);
        }
        world(|w| {
            w.calls.push(Call::TimerStart(ms));
            w.timers.insert(self.id, Some(ms));
        });
    }
    pub(crate) fn stop(&self) {
        if let Some(model) = model::current() {
            return model.timer_stop(self.id);
        }
        world(|w| w.timers.insert(self.id, None));
    }
    pub(crate) fn close(self) {
        if let Some(model) = model::current() {
            return model.close(self.id);
        }
        world(|w| {
            w.timers.remove(&self.id);
            w.closing += 1;
        });
    }
}

pub(crate) struct Idle {
    id: usize,
}

impl Idle {
    pub(crate) fn start(&self) {
        if let Some(model) = model::current() {
            return model.idle_set(self.id, true);
        }
        world(|w| w.idle = true);
    }
    pub(crate) fn stop(&self) {
        if let Some(model) = model::current() {
            return model.idle_set(self.id, false);
        }
        world(|w| w.idle = false);
    }
    pub(crate) fn close(self) {
        if let Some(model) = model::current() {
            return model.close(self.id);
        }
        world(|w| {
            w.idle = false;
            w.closing += 1;
        });
    }
}

pub(crate) struct Check {
    id: usize,
}

impl Check {
    pub(crate) fn start(&self) -> bool {
        if let Some(model) = model::current() {
            return model.check_start(self.id);
        }
        world(|w| {
            w.check = !w.check_closed;
            w.check
        })
    }
    pub(crate) fn stop(&self) {
        if let Some(model) = model::current() {
            return model.check_stop(self.id);
        }
        world(|w| w.check = false);
    }
    pub(crate) fn close(self) {
        if let Some(model) = model::current() {
            return model.close(self.id);
        }
        world(|w| {
            w.check = false;
            w.closing += 1;
        });
    }
}

pub(crate) struct Hold {
    id: usize,
}

impl Hold {
    pub(crate) fn set(&self, held: bool) {
        if let Some(model) = model::current() {
            return model.hold_set(self.id, held);
        }
        world(|w| w.held = held);
    }
    pub(crate) fn close(self) {
        if let Some(model) = model::current() {
            return model.close(self.id);
        }
        world(|w| {
            w.held = false;
            w.closing += 1;
        });
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) untouched: bool,
}

pub(crate) fn connects(easy: Easy) -> u64 {
    if let Some(model) = model::current() {
        return model.connects(easy);
    }
    world(|w| w.connects.get(&easy).copied().unwrap_or(0))
}
pub(crate) fn is_tcp(socket: Socket) -> bool {
    if let Some(model) = model::current() {
        return model.is_tcp(socket);
    }
    world(|w| w.resolver != Some(socket))
}
pub(crate) fn is_untimed(easy: Easy) -> bool {
    world(|w| w.untimed.contains(&easy))
}
pub(crate) fn connection(easy: Easy) -> u64 {
    world(|w| w.connection.get(&easy).copied().unwrap_or(0))
}
pub(crate) fn is_https(easy: Easy) -> bool {
    world(|w| w.connection.contains_key(&easy) && !w.plain)
}
pub(crate) fn is_http2(easy: Easy) -> bool {
    world(|w| w.connection.contains_key(&easy))
}
pub(crate) fn moved(easy: Easy) -> u64 {
    world(|w| w.moved.get(&easy).copied().unwrap_or(0))
}
pub(crate) fn received(socket: Socket) -> Option<u64> {
    world(|w| w.received.get(&socket).copied())
}
pub(crate) fn flow(socket: Socket) -> Option<Flow> {
    if let Some(model) = model::current() {
        return model.flow(socket);
    }
    world(|w| {
        w.flow_asked += 1;
        w.flow.get(&socket).copied()
    })
}
pub(crate) fn progress(easy: Easy) -> Progress {
    world(|w| w.progress.get(&easy).cloned().unwrap_or_default())
}
pub(crate) fn is_wakeup(socket: Socket) -> bool {
    if let Some(model) = model::current() {
        return model.is_wakeup(socket);
    }
    world(|w| w.wakeup == Some(socket))
}
pub(crate) fn prepare(easy: Easy, _: Settings) {
    if let Some(model) = model::current() {
        model.prepare(easy);
    }
}
pub(crate) fn release(easy: Easy, settings: Settings) {
    if let Some(model) = model::current() {
        return model.release(easy, settings.untouched);
    }
    world(|w| w.calls.push(Call::Release(easy)));
}

pub(crate) fn libcurl() -> u32 {
    if let Some(model) = model::current() {
        return model.libcurl();
    }
    world(|w| w.libcurl)
}

pub(crate) fn stays_ready(socket: Socket, events: Events) -> bool {
    if let Some(model) = model::current() {
        return model.stays_ready(socket, events);
    }
    world(|w| {
        if let Some(more) = w.comes.remove(&socket) {
            *w.received.entry(socket).or_default() += more;
        }
        w.always_ready.contains(&socket)
            && (events.contains(Events::OUT) || !w.only_writable.contains(&socket))
    })
}

pub(crate) fn pause(easy: Easy, mask: c_int) -> Result<(), c_int> {
    if let Some(model) = model::current() {
        return model.pause(easy, mask);
    }
    enter_libcurl(|| {
        world(|w| {
            w.calls.push(Call::Pause(easy, mask));
            w.pause_error.pop_front().map_or(Ok(()), Err)
        })
    })
    // CURLE_RECURSIVE_API_CALL
    .map_err(|_| 93)?
}

pub(crate) struct Multi;

impl Multi {
    pub(crate) fn new() -> Result<Multi, c_int> {
        Ok(Multi)
    }
    pub(crate) fn attach(&self, _: *const Driver) -> Result<(), c_int> {
        if let Some(model) = model::current() {
            return model.attach();
        }
        world(|w| w.attached = true);
        Ok(())
    }
    pub(crate) fn detach(&self) {
        if let Some(model) = model::current() {
            return model.detach();
        }
        world(|w| w.attached = false);
    }
    pub(crate) fn add(&self, easy: Easy, settings: Settings) -> Result<(), c_int> {
        if let Some(model) = model::current() {
            return model.add(easy, settings.untouched);
        }
        enter_libcurl(|| {
            let failed = world(|w| {
                w.calls.push(Call::Add(easy));
                let failed = w.add_error.take();
                if failed.is_none() {
                    w.added.insert(easy);
                }
                failed
            });
            match failed {
                Some(error) => Err(error),
                None => {
                    // libcurl asks to be called as soon as possible.
                    play(Some(Box::new(|driver| driver.timer_wanted(0))));
                    Ok(())
                }
            }
        })?
    }
    pub(crate) fn set_max_connects(&self, limit: usize) -> Result<(), c_int> {
        if let Some(model) = model::current() {
            return model.set_max_connects(limit);
        }
        enter_libcurl(|| world(|w| w.calls.push(Call::MaxConnects(limit))))
    }
    pub(crate) fn remove(&self, easy: Easy) -> Result<(), c_int> {
        if let Some(model) = model::current() {
            return model.remove(easy);
        }
        enter_libcurl(|| {
            let next = world(|w| {
                w.calls.push(Call::Remove(easy));
                if !w.added.remove(&easy) {
                    w.violation(format!("removed what was not added: {easy:?}"));
                }
                w.messages.retain(|(done, _)| *done != easy);
                w.remove_plays.pop_front()
            });
            play(next);
        })
    }
    pub(crate) fn act(&self, action: Action) -> Result<(), c_int> {
        if let Some(model) = model::current() {
            return model.act(action);
        }
        enter_libcurl(|| {
            let next = world(|w| {
                w.calls.push(Call::Act(action));
                if action == Action::Everything {
                    w.now_ns += w.everything_ns;
                }
                w.plays.pop_front()
            });
            play(next);
            world(|w| w.act_error.take()).map_or(Ok(()), Err)
        })?
    }
    pub(crate) fn timeout(&self) -> i64 {
        if let Some(model) = model::current() {
            return model.timeout();
        }
        world(|w| w.timeout)
    }
    pub(crate) fn is_busy(&self) -> bool {
        if let Some(model) = model::current() {
            return model.is_busy();
        }
        world(|w| w.inside)
    }
    pub(crate) fn next_done(&self) -> Option<((Easy, c_int), c_int)> {
        if let Some(model) = model::current() {
            return model.next_done();
        }
        world(|w| {
            if w.cleaned {
                w.violation("read a multi handle that is gone".to_owned());
            }
            let message = w.messages.pop_front()?;
            Some((message, w.messages.len() as c_int))
        })
    }
    pub(crate) fn pending(&self) -> Option<i64> {
        if let Some(model) = model::current() {
            return model.pending();
        }
        Some(world(|w| w.pending))
    }
    pub(crate) fn try_pending(&self, count: i64) {
        if let Some(model) = model::current() {
            return model.try_pending(count);
        }
        let _ = enter_libcurl(|| world(|w| w.calls.push(Call::TryPending(count))));
    }
    pub(crate) fn serves_pending(&self) -> bool {
        if let Some(model) = model::current() {
            return model.serves_pending();
        }
        true
    }
    pub(crate) fn cleanup(&self) {
        if let Some(model) = model::current() {
            return model.cleanup();
        }
        let _ = enter_libcurl(|| {
            let next = world(|w| {
                w.calls.push(Call::Cleanup);
                if !w.added.is_empty() {
                    w.violation("cleanup with transfers still added".to_owned());
                }
                if w.attached {
                    w.violation("cleanup with callbacks set".to_owned());
                }
                w.cleanup_plays.pop_front()
            });
            play(next);
        });
        world(|w| w.cleaned = true);
    }
}

type Done = dyn Fn(&Driver, Easy, c_int);

/// The host's done callback.
#[derive(Clone)]
pub(crate) struct DoneFn(pub(crate) Rc<Done>);

impl DoneFn {
    pub(crate) fn call(&self, driver: &Driver, easy: Easy, status: c_int) {
        world(|w| {
            if w.inside {
                w.violation("done callback while libcurl is on the stack".to_owned());
            }
            if w.added.contains(&easy) {
                w.violation(format!("reported before libcurl let go: {easy:?}"));
            }
        });
        (self.0)(driver, easy, status);
    }
}

type Log = dyn Fn(&Driver, &str);

/// The host's log callback.
#[derive(Clone)]
pub(crate) struct LogFn(pub(crate) Rc<Log>);

impl LogFn {
    pub(crate) fn call(&self, driver: &Driver, line: String) {
        world(|w| {
            if w.inside {
                w.violation("log callback while libcurl is on the stack".to_owned());
            }
        });
        (self.0)(driver, &line);
    }
}

/// The host's close callback.
pub(crate) struct CloseFn(pub(crate) Option<Box<dyn FnOnce()>>);

impl CloseFn {
    pub(crate) fn none() -> CloseFn {
        CloseFn(None)
    }
    pub(crate) fn call(self) {
        if let Some(function) = self.0 {
            function();
        }
    }
}
