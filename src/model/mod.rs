//! A small libcurl and a small loop under the real driver, and a host that may do anything at any point where a host may.
//!
//! The fake of `sys` plays what a test tells it; this is a state machine that behaves, as far as the driver can tell, as the
//! two libraries do: easy handles that resolve, connect, send, receive, pause and end; descriptors whose numbers are given
//! out again; one deadline, told only when it changes; calls that are refused while libcurl is on the stack; a loop with
//! its phases, an epoll set that goes by numbers, and handles that close later. Whatever could go one way or another is a
//! *choice*. A history is the list of its choices, so that every order can be played (`explore`), and a failing one again.
//!
//! | file | what |
//! |---|---|
//! | `uv` | the loop, its handles and the descriptors |
//! | `curl` | the multi handle and its easy handles |
//! | `host` | the host: what it does, what it expects, what it is told |
//! | `explore` | every order up to a depth, random ones beyond it, faults, replay |
//! | `alloc` | memory that runs out |
//!
//! What must never happen is a violation, named by its invariant; docs/reliability.md has the list.

pub(crate) mod alloc;
mod curl;
mod explore;
mod host;
mod uv;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Deref;
use std::rc::Rc;

use libc::c_int;

use crate::driver::Driver;
use crate::sys::{Easy, Events, Socket};

use alloc::Runs;
use curl::{Sock, Xfer};
use explore::{Choices, Faults};
use host::Flight;
use uv::Handle;

/// Flags of a scenario; `Scenario::nature` says what the world may do, `acts` what the host does, `points` where.
type Flags = u32;

mod nature {
    use super::Flags;
    /// Names are looked up, by a descriptor of the lookup's own.
    pub(in crate::model) const LOOKUP: Flags = 1;
    /// The multi handle has a wake-up descriptor, by which lookups report (libcurl 8.20 and later).
    pub(in crate::model) const WAKEUP: Flags = 1 << 1;
    /// A connection that is in use takes further transfers (HTTP/2).
    pub(in crate::model) const JOIN: Flags = 1 << 2;
    /// A host has two addresses, which are tried one after the other, or at once.
    pub(in crate::model) const TWO: Flags = 1 << 3;
    /// Transfers that fail: no such scheme, refused, reset, cut short.
    pub(in crate::model) const FAILS: Flags = 1 << 4;
    /// A connection that closes is announced once more, by no transfer.
    pub(in crate::model) const SHUTDOWN: Flags = 1 << 5;
    /// Connections that close are not always announced as removed (before 8.9).
    pub(in crate::model) const NO_REMOVE: Flags = 1 << 6;
    /// A deadline that has been served is not told again (8.10.0 to 8.11.0).
    pub(in crate::model) const FORGETS: Flags = 1 << 7;
    /// Connections of a shared pool: without our close-socket function, and closed by somebody else at any time.
    pub(in crate::model) const FOREIGN: Flags = 1 << 8;
    /// An idle connection is ended by its peer.
    pub(in crate::model) const PEER: Flags = 1 << 9;
    /// Things take several goes: sending, receiving, and what is buffered asks for 0 ms.
    pub(in crate::model) const PARTS: Flags = 1 << 10;
    /// Connected, or answered, within one call.
    pub(in crate::model) const AT_ONCE: Flags = 1 << 11;
    /// The write callback pauses, or fails.
    pub(in crate::model) const WRITES: Flags = 1 << 12;
    /// A socket that reports errors for ever and that libcurl goes on wanting.
    pub(in crate::model) const STUCK: Flags = 1 << 13;
    /// Connections are closed instead of kept, too.
    pub(in crate::model) const CLOSES: Flags = 1 << 14;
    /// UVCURL_EASY_UNTOUCHED.
    pub(in crate::model) const UNTOUCHED: Flags = 1 << 15;
    /// `curl_multi_get_offt` is there, and `curl_multi_socket_all` serves those held back.
    pub(in crate::model) const COUNTS_PENDING: Flags = 1 << 16;
    /// The phases of libuv before 1.45: timers come first.
    pub(in crate::model) const OLD_LOOP: Flags = 1 << 17;
    /// libcurl wants a socket to be writable, or a paused transfer's to be readable, and does nothing about it.
    pub(in crate::model) const SPINS: Flags = 1 << 18;
}

mod acts {
    use super::Flags;
    pub(in crate::model) const START: Flags = 1;
    pub(in crate::model) const CANCEL: Flags = 1 << 1;
    pub(in crate::model) const PAUSE: Flags = 1 << 2;
    pub(in crate::model) const CLOSE: Flags = 1 << 3;
    pub(in crate::model) const REF: Flags = 1 << 4;
    /// Runs the loop inside a callback.
    pub(in crate::model) const NEST: Flags = 1 << 5;
    /// Opens a descriptor of its own and watches it.
    pub(in crate::model) const WATCH: Flags = 1 << 6;
    /// Calls curl_easy_pause() itself.
    pub(in crate::model) const OWN: Flags = 1 << 7;
    /// Takes its time.
    pub(in crate::model) const SLEEP: Flags = 1 << 8;
    /// Asks for what must be refused.
    pub(in crate::model) const WRONG: Flags = 1 << 9;
    /// Closes every handle on the loop (S43).
    pub(in crate::model) const WALK: Flags = 1 << 10;
    /// A bug of ours is contained.
    pub(in crate::model) const PANIC: Flags = 1 << 11;
    pub(in crate::model) const ALL: Flags = (1 << 12) - 1;
    pub(in crate::model) const USUAL: Flags = START | CANCEL | PAUSE | CLOSE | REF;
}

mod points {
    use super::Flags;
    /// Outside of every callback, before the loop runs on.
    pub(in crate::model) const TOP: Flags = 1;
    /// A prepare callback of the host's: after the idle handles, before the poll.
    pub(in crate::model) const PREPARE: Flags = 1 << 1;
    /// A check callback of the host's.
    pub(in crate::model) const CHECK: Flags = 1 << 2;
    pub(in crate::model) const TIMER: Flags = 1 << 3;
    pub(in crate::model) const WRITE: Flags = 1 << 4;
    /// The progress callback, inside curl_multi_remove_handle too.
    pub(in crate::model) const PROGRESS: Flags = 1 << 5;
    pub(in crate::model) const DONE: Flags = 1 << 6;
    pub(in crate::model) const ALL: Flags = (1 << 7) - 1;
}

/// A small world.
#[derive(Clone, Copy, Debug)]
struct Scenario {
    name: &'static str,
    transfers: usize,
    /// How many of them are started at the outset.
    started: usize,
    nature: Flags,
    acts: Flags,
    points: Flags,
    /// Which libcurl the driver takes this for; 0 has no bug it works around.
    libcurl: u32,
    /// The most connections; 0: any number.
    limit: usize,
    /// Each transfer's timeout; 0: none.
    timeout_ms: u64,
    /// The most that the host does.
    host: usize,
}

/// The easy handle that libcurl has for itself.
const ADMIN: usize = 98;

struct State {
    scenario: Scenario,
    choices: Choices,
    faults: Faults,
    trace: Option<Vec<String>>,
    bad: Option<String>,
    now_ms: u64,

    // the loop
    loop_ms: u64,
    handles: BTreeMap<usize, Handle>,
    next_handle: usize,
    closing: VecDeque<usize>,
    /// Who is registered for a number: a handle of the driver's, or `uv::HOST`.
    epoll: BTreeMap<Socket, usize>,
    batch: VecDeque<(Socket, usize)>,
    host_watch: Option<(Socket, bool)>,
    nested: u32,
    orphans: usize,
    walked: bool,
    /// There was no memory for the handle whose close callback was to be the driver's, after `walked`.
    cut_off: bool,
    /// Polls in a row that did not wait and led to nothing.
    spins: u32,
    /// What has been done, to tell a turn that led to something.
    work: u64,

    // libcurl
    xfers: Vec<Xfer>,
    socks: BTreeMap<Socket, Sock>,
    inside: bool,
    /// libcurl is on the stack below a call of the host's own.
    own: bool,
    attached: bool,
    cleaned: bool,
    /// act has failed: only removals are allowed until it is empty.
    broken: bool,
    messages: VecDeque<(usize, c_int)>,
    /// The deadline told last.
    told: Option<(u64, u64)>,
    stamp: u64,
    wakeup: Option<Socket>,
    admin_expires: Option<u64>,
    pending: VecDeque<usize>,

    // the host
    flights: Vec<Option<Flight>>,
    tokens: u64,
    in_api: u32,
    close_called: bool,
    closed: u32,
    panicked: bool,
    referenced: bool,
    budget: usize,
    slept: u64,
    reported: u64,
    accepted: u64,
    /// What was asked for inside libcurl and is still to be done, in order.
    asked: VecDeque<host::Asked>,
    driver_freed: bool,
    call: u64,
}

/// What a history came to.
struct Outcome {
    /// Each choice, and out of how many.
    taken: Vec<(u16, u16)>,
    violation: Option<String>,
    trace: Vec<String>,
    /// Fallible calls, and how many of them failed.
    calls: u64,
    failed: u64,
    allocations: u64,
    refused: u64,
    reports: u64,
}

pub(crate) struct Model {
    state: RefCell<State>,
    driver: RefCell<Option<Rc<Driver>>>,
}

thread_local! {
    static MODEL: RefCell<Option<Rc<Model>>> = const { RefCell::new(None) };
}

/// The model of this thread, while the driver calls it.
pub(crate) struct Called {
    model: Rc<Model>,
    _model_runs: Runs,
}

impl Deref for Called {
    type Target = Model;

    fn deref(&self) -> &Model {
        &self.model
    }
}

/// The model that this thread runs, if it runs one.
pub(crate) fn current() -> Option<Called> {
    let model = MODEL.with(|model| model.borrow().clone())?;
    Some(Called {
        model,
        _model_runs: Runs::driver(false),
    })
}

fn easy(number: usize) -> Easy {
    Easy(((number + 1) * 64) as *mut curl_sys::CURL)
}

fn number(easy: Easy) -> usize {
    easy.0 as usize / 64 - 1
}

fn both(one: Events, two: Events) -> Events {
    Events(one.0 & two.0)
}

impl Model {
    fn s<R>(&self, ask: impl FnOnce(&mut State) -> R) -> R {
        ask(&mut self.state.borrow_mut())
    }

    /// One of `count` ways to go on; 0 is the one that leads to the end.
    fn choose(&self, count: usize) -> usize {
        self.s(|s| {
            if s.bad.is_some() {
                0
            } else {
                s.choices.choose(count)
            }
        })
    }

    fn log(&self, line: impl FnOnce() -> String) {
        self.s(|s| {
            s.work += 1;
            assert!(s.work < 1_000_000, "it does not end");
            if let Some(trace) = &mut s.trace {
                trace.push(line());
            }
        });
    }

    /// Notes what must never be; the first one counts.
    fn violation(&self, invariant: &str, what: impl FnOnce() -> String) {
        self.s(|s| {
            s.work += 1;
            // A driver that has gone wrong may go on for ever.
            assert!(s.bad.is_none() || s.work < 100_000, "it does not end");
            if s.bad.is_none() {
                let text = format!("{invariant}: {}", what());
                if let Some(trace) = &mut s.trace {
                    trace.push(format!("VIOLATION {text}"));
                }
                s.bad = Some(text);
            }
        });
    }

    fn check(&self, holds: bool, invariant: &str, what: impl FnOnce() -> String) {
        if !holds {
            self.violation(invariant, what);
        }
    }

    fn is_bad(&self) -> bool {
        self.s(|s| s.bad.is_some())
    }

    fn has(&self, nature: Flags) -> bool {
        self.s(|s| s.scenario.nature & nature != 0)
    }

    /// Whether the next fallible call fails.
    fn fault(&self, what: &'static str) -> bool {
        let fails = self.s(|s| s.faults.next());
        if fails {
            self.log(|| format!("  fault: {what} fails"));
        }
        fails
    }

    /// Calls the driver, as libcurl, libuv and the C interface do: with a frame that keeps its memory.
    fn driver<R: Default>(&self, what: impl FnOnce(&Driver) -> R) -> R {
        let driver = self.driver.borrow().clone();
        let Some(driver) = driver.filter(|_| !self.s(|s| s.driver_freed)) else {
            self.violation("memory", || "a call for a driver that is gone".to_owned());
            return R::default();
        };
        driver.frames().set(driver.frames().get() + 1);
        let result = {
            let _driver_runs = Runs::driver(true);
            what(&driver)
        };
        let frames = driver.frames().get() - 1;
        driver.frames().set(frames);
        if frames == 0 && driver.phase() == crate::driver::Phase::Closed {
            self.s(|s| s.driver_freed = true);
        }
        result
    }

    fn frames(&self) -> u32 {
        self.driver
            .borrow()
            .as_ref()
            .map_or(0, |driver| driver.frames().get())
    }
}

/// Plays one history.
fn play(scenario: Scenario, choices: Choices, faults: Faults, traced: bool) -> Outcome {
    let refused = faults.memory.clone();
    let state = State {
        scenario,
        choices,
        faults,
        trace: traced.then(Vec::new),
        bad: None,
        now_ms: 10_000,
        loop_ms: 10_000,
        handles: BTreeMap::new(),
        next_handle: 1,
        closing: VecDeque::new(),
        epoll: BTreeMap::new(),
        batch: VecDeque::new(),
        host_watch: None,
        nested: 0,
        orphans: 0,
        walked: false,
        cut_off: false,
        spins: 0,
        work: 0,
        xfers: (0..scenario.transfers).map(|_| Xfer::default()).collect(),
        socks: BTreeMap::new(),
        inside: false,
        own: false,
        attached: false,
        cleaned: false,
        broken: false,
        messages: VecDeque::new(),
        told: None,
        stamp: 0,
        wakeup: None,
        admin_expires: None,
        pending: VecDeque::new(),
        flights: (0..scenario.transfers).map(|_| None).collect(),
        tokens: 0,
        in_api: 0,
        close_called: false,
        closed: 0,
        panicked: false,
        referenced: true,
        budget: scenario.host,
        slept: 0,
        reported: 0,
        accepted: 0,
        asked: VecDeque::new(),
        driver_freed: false,
        call: 0,
    };
    let model = Rc::new(Model {
        state: RefCell::new(state),
        driver: RefCell::new(None),
    });
    MODEL.with(|current| *current.borrow_mut() = Some(Rc::clone(&model)));
    alloc::refuse(refused);
    let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| model.history()));
    if let Err(panic) = ran {
        let text = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_default();
        // The panic may have come while the state was borrowed.
        if model.state.try_borrow_mut().is_ok() {
            model.violation("panic", || text);
        }
    }
    let (allocations, refused) = alloc::counts();
    alloc::refuse(u64::MAX..u64::MAX);
    // The driver's handles are the model's, so it goes first.
    drop(model.driver.borrow_mut().take());
    MODEL.with(|current| *current.borrow_mut() = None);
    let mut state = model.state.borrow_mut();
    Outcome {
        taken: std::mem::take(&mut state.choices.taken),
        violation: state.bad.take(),
        trace: state.trace.take().unwrap_or_default(),
        calls: state.faults.count(),
        failed: state.faults.failed,
        allocations,
        refused,
        reports: state.reported,
    }
}

/// Which numbers of a set, beside that of the next.
type Numbers = BTreeSet<u64>;
