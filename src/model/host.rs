//! The host: what it asks for, at which points, what it expects, and what it is told.

use std::rc::Rc;

use libc::c_int;

use super::curl::{Stage, RECV, SEND};
use super::uv::Turn;
use super::{acts, current, easy, nature, points, Flags, Model};
use crate::driver::{Driver, Phase};
use crate::error;
use crate::sys::{CloseFn, DoneFn, Loop, Multi};

/// A start that has been accepted, or is about to be, and is not yet reported.
pub(super) struct Flight {
    pub(super) token: u64,
    accepted: bool,
    canceled: bool,
    /// Its message has been written, and read.
    pub(super) message: Option<c_int>,
    pub(super) popped: bool,
    /// libcurl has let go, or never took it.
    let_go: bool,
    /// What else may be its result.
    pub(super) faults: Vec<c_int>,
    /// The last pause that was accepted, and in which call of libcurl's.
    pub(super) pause: Option<c_int>,
    pause_call: u64,
    pub(super) deadline: Option<u64>,
    pub(super) timed_out_ms: Option<u64>,
    pub(super) slept_before: u64,
}

impl Flight {
    pub(super) fn is_settled(&self) -> bool {
        self.canceled || self.popped || self.let_go
    }
}

/// What was asked for inside libcurl.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Asked {
    Add(usize),
    End(usize),
    Pause(usize),
}

impl Asked {
    fn transfer(self) -> usize {
        match self {
            Asked::Add(at) | Asked::End(at) | Asked::Pause(at) => at,
        }
    }
}

/// How a write callback returns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wrote {
    All,
    Pauses,
    Fails,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Act {
    Start(usize),
    Cancel(usize),
    Pause(usize, c_int),
    Close,
    Ref(bool),
    Nest,
    Open,
    Shut,
    Own(usize),
    Sleep,
    Walk,
    Panic,
}

/// A history.
impl Model {
    pub(super) fn history(&self) {
        let driver = Rc::new(Driver::new(Loop::new(), Multi::new().unwrap_or(Multi), 1));
        *self.driver.borrow_mut() = Some(Rc::clone(&driver));
        let opened = self
            .driver(|open| Some(open.open(Rc::as_ptr(&driver))))
            .unwrap_or(Ok(()));
        drop(driver);
        if self.has(nature::UNTOUCHED) {
            let set = self.driver(|driver| Some(driver.set_untouched(true)));
            self.check(
                opened.is_err() || set == Some(Ok(())),
                "call status",
                || format!("set_untouched: {set:?}"),
            );
        }
        if opened.is_err() {
            return self.not_opened();
        }
        for at in 0..self.s(|s| s.scenario.started) {
            self.host_starts(at);
        }
        let mut blocked = 0;
        for _ in 0..60 {
            self.host(points::TOP, "before the loop runs");
            if self.is_bad() || self.s(|s| s.closed > 0 || s.driver_freed) {
                break;
            }
            let busy = self.s(|s| s.flights.iter().any(Option::is_some));
            if !self.is_alive() && !busy {
                break;
            }
            blocked = match self.turn() {
                Turn::Blocked => blocked + 1,
                Turn::Went => 0,
            };
            if blocked > 1 {
                break;
            }
        }
        self.finish();
    }

    /// `uvcurl_new` has failed: whatever was made by then closes.
    fn not_opened(&self) {
        self.log(|| "uvcurl_new has failed".to_owned());
        self.driver(|driver| driver.close(CloseFn::none()));
        self.s(|s| s.close_called = true);
        for _ in 0..10 {
            if self.is_bad() || self.open_handles() == 0 {
                break;
            }
            self.turn();
        }
        self.check(self.open_handles() == 0, "handles closed", || {
            "handles are left of a driver that was not made".to_owned()
        });
    }

    /// Everything is brought to its end: the host resumes what it has paused, waits, and closes.
    fn finish(&self) {
        self.s(|s| s.budget = 0);
        self.log(|| "the host waits for the end".to_owned());
        for _ in 0..400 {
            if self.is_bad() || self.s(|s| s.close_called || s.driver_freed || s.walked) {
                break;
            }
            let list: Vec<(usize, c_int)> = self.s(|s| {
                (0..s.flights.len())
                    .filter_map(|at| {
                        let flight = s.flights[at].as_ref()?;
                        let mask = s.xfers[at].mask | flight.pause.unwrap_or(0);
                        (!flight.is_settled()).then_some((at, mask))
                    })
                    .collect()
            });
            for (at, mask) in list {
                if mask != 0 {
                    self.host_pauses(at, 0);
                }
            }
            if self.s(|s| s.flights.iter().all(Option::is_none)) {
                break;
            }
            self.turn();
        }
        if self.is_bad() {
            return;
        }
        if !self.s(|s| s.close_called || s.walked) {
            let left = self.in_flight();
            self.check(left.is_empty(), "no hang", || {
                format!("never ended: {left:?}")
            });
            // Nothing is left to do, so the loop goes to rest, once the connections that close are through.
            for _ in 0..12 {
                self.turn();
            }
            self.must_rest();
        }
        if !self.s(|s| s.close_called) {
            self.host_closes();
        }
        for _ in 0..20 {
            if self.is_bad() || self.s(|s| s.closed > 0) {
                break;
            }
            self.turn();
        }
        if self.is_bad() || self.s(|s| s.cut_off) {
            return;
        }
        self.check(self.s(|s| s.closed) == 1, "close callback", || {
            "it has not run".to_owned()
        });
        self.check(self.s(|s| s.driver_freed), "memory", || {
            "the driver is still there".to_owned()
        });
        self.check(self.s(|s| s.cleaned), "close callback", || {
            "the multi handle was not cleaned up".to_owned()
        });
        self.host_shuts();
        self.turn_after_the_end();
    }

    /// Whatever is left on the loop would call now.
    fn turn_after_the_end(&self) {
        let left = self.s(|s| s.handles.len());
        self.check(left == 0, "handles closed", || {
            format!("{left} handles are left, so uv_loop_close() says UV_EBUSY")
        });
    }

    fn in_flight(&self) -> Vec<(usize, Stage)> {
        self.s(|s| {
            (0..s.flights.len())
                .filter(|at| s.flights[*at].is_some())
                .map(|at| (at, s.xfers[at].stage))
                .collect()
        })
    }
}

/// What the host does.
impl Model {
    /// A point where the host may act, in a callback or outside of all.
    pub(super) fn host(&self, point: Flags, name: &str) {
        if self.s(|s| s.scenario.points & point == 0) {
            return;
        }
        // A few things at one point, and then on.
        for _ in 0..3 {
            if self.is_bad() || self.s(|s| s.budget == 0 || s.driver_freed || s.closed > 0) {
                return;
            }
            let list = self.acts();
            if list.is_empty() {
                return;
            }
            let choice = self.choose(1 + list.len());
            if choice == 0 {
                return;
            }
            self.s(|s| s.budget -= 1);
            self.log(|| format!("host, {name}: {:?}", list[choice - 1]));
            self.does(list[choice - 1]);
        }
    }

    /// A callback of libcurl's on a transfer: the write callback, or the progress callback.
    pub(super) fn host_in_callback(&self, at: usize, writes: bool) -> Wrote {
        if writes {
            self.host(points::WRITE, "in a write callback");
        } else {
            self.host(points::PROGRESS, "in a progress callback");
        }
        if !writes || !self.has(nature::WRITES) {
            return Wrote::All;
        }
        // Below a call of the host's own an error is the host's to handle.
        let ways = if self.s(|s| s.own) { 2 } else { 3 };
        let wrote = [Wrote::All, Wrote::Pauses, Wrote::Fails][self.choose(ways)];
        self.log(|| format!("  the write callback of {at}: {wrote:?}"));
        if wrote == Wrote::Pauses {
            self.s(|s| {
                let call = s.call;
                if let Some(flight) = &mut s.flights[at] {
                    // What was asked for in this very call is done afterwards, and holds.
                    if flight.pause_call != call {
                        flight.pause = None;
                    }
                }
            });
        }
        wrote
    }

    fn acts(&self) -> Vec<Act> {
        let may = self.s(|s| s.scenario.acts);
        let wrong = may & acts::WRONG != 0;
        let mut list = Vec::new();
        let transfers = self.s(|s| s.flights.len());
        for at in 0..transfers {
            let (flies, added) = self.s(|s| (s.flights[at].is_some(), s.xfers[at].added));
            if may & acts::START != 0 && (!flies || wrong) {
                list.push(Act::Start(at));
            }
            if may & acts::CANCEL != 0 && (flies || wrong) {
                list.push(Act::Cancel(at));
            }
            if may & acts::PAUSE != 0 && (flies || wrong) {
                list.extend([
                    Act::Pause(at, RECV),
                    Act::Pause(at, 0),
                    Act::Pause(at, SEND),
                ]);
            }
            if may & acts::OWN != 0 && added && self.s(|s| !s.inside && !s.cleaned) {
                list.push(Act::Own(at));
            }
        }
        if may & acts::CLOSE != 0 && (wrong || self.s(|s| !s.close_called)) {
            list.push(Act::Close);
        }
        if may & acts::REF != 0 {
            list.push(Act::Ref(!self.s(|s| s.referenced)));
        }
        if self.may_nest() && self.frames() > 0 {
            list.push(Act::Nest);
        }
        if may & acts::WATCH != 0 {
            list.push(match self.s(|s| s.host_watch) {
                Some(_) => Act::Shut,
                None => Act::Open,
            });
        }
        if may & acts::SLEEP != 0 {
            list.push(Act::Sleep);
        }
        if may & acts::WALK != 0 && self.frames() == 0 && self.s(|s| !s.walked) {
            list.push(Act::Walk);
        }
        if may & acts::PANIC != 0 && self.s(|s| !s.panicked && !s.close_called) {
            list.push(Act::Panic);
        }
        list
    }

    fn does(&self, act: Act) {
        match act {
            Act::Start(at) => self.host_starts(at),
            Act::Cancel(at) => self.host_cancels(at),
            Act::Pause(at, mask) => self.host_pauses(at, mask),
            Act::Close => self.host_closes(),
            Act::Ref(referenced) => {
                self.s(|s| s.referenced = referenced);
                let _ = self.api(|driver| {
                    driver.set_referenced(referenced);
                    Ok(())
                });
            }
            Act::Nest => self.nest(),
            Act::Open => self.host_opens(),
            Act::Shut => self.host_shuts(),
            Act::Own(at) => self.own_pause(at),
            Act::Sleep => self.s(|s| {
                s.now_ms += 120;
                s.slept += 120;
            }),
            Act::Walk => self.host_walks(),
            Act::Panic => {
                self.s(|s| s.panicked = true);
                self.driver(Driver::panicked);
            }
        }
    }

    /// A call of the C interface, inside which no done callback may run.
    fn api(&self, call: impl FnOnce(&Driver) -> Result<(), c_int>) -> Result<(), c_int> {
        self.s(|s| s.in_api += 1);
        let result = self.driver(|driver| Some(call(driver))).unwrap_or(Ok(()));
        self.s(|s| s.in_api -= 1);
        result
    }

    /// Compares what a call has said with what the header says.
    fn said(&self, name: &str, at: usize, said: Result<(), c_int>, expected: Result<(), c_int>) {
        // Memory that was refused is told of as such, whatever else would have been said.
        let no_memory = super::alloc::counts().1 > 0 && said == Err(error::ENOMEM);
        self.check(said == expected || no_memory, "call status", || {
            format!("{name}({at}) says {said:?}, expected is {expected:?}")
        });
    }

    fn host_starts(&self, at: usize) {
        self.log(|| format!("host: start {at}"));
        let expected = if self.s(|s| s.close_called) {
            Err(error::ECANCELED)
        } else if self.s(|s| s.panicked) {
            Err(error::UVCURL_E_INTERNAL)
        } else if self.s(|s| s.flights[at].is_some()) {
            Err(error::EALREADY)
        } else {
            Ok(())
        };
        let token = self.s(|s| {
            s.tokens += 1;
            s.tokens
        });
        let done = DoneFn(Rc::new(move |_, easy, status| {
            if let Some(model) = current() {
                model.done(token, super::number(easy), status);
            }
        }));
        if expected.is_err() {
            let said = self.api(|driver| driver.start(easy(at), done));
            return self.said("start", at, said, expected);
        }
        self.s(|s| {
            let inside = s.inside && !s.own;
            s.xfers[at].alive = true;
            s.xfers[at].mask = 0;
            s.xfers[at].hook = false;
            s.flights[at] = Some(Flight {
                token,
                accepted: false,
                canceled: false,
                message: None,
                popped: false,
                let_go: false,
                faults: Vec::new(),
                pause: None,
                pause_call: 0,
                deadline: None,
                timed_out_ms: None,
                slept_before: 0,
            });
            if inside {
                s.asked.push_back(Asked::Add(at));
            }
        });
        let said = self.api(|driver| driver.start(easy(at), done));
        let faults = self.s(|s| {
            let flight = s.flights[at].as_mut();
            flight.map(|flight| std::mem::take(&mut flight.faults))
        });
        match said {
            Ok(()) => {
                // A fault of this call was not its result, so it may be the transfer's.
                self.s(|s| {
                    s.accepted += 1;
                    if let Some(flight) = &mut s.flights[at] {
                        flight.accepted = true;
                        flight.faults = faults.unwrap_or_default();
                    }
                });
            }
            Err(error) => {
                let told = faults.is_some_and(|faults| faults.contains(&error));
                if !told {
                    self.said("start", at, said, Ok(()));
                }
                self.s(|s| {
                    s.flights[at] = None;
                    s.asked.retain(|asked| *asked != Asked::Add(at));
                });
                self.given_back(at);
            }
        }
    }

    /// What a cancel or a pause says.
    fn settles(&self, at: usize) -> Result<(), c_int> {
        self.s(|s| match &s.flights[at] {
            _ if s.close_called => Err(error::ECANCELED),
            None => Err(error::ENOENT),
            Some(flight) if flight.is_settled() => Err(error::EALREADY),
            Some(_) => Ok(()),
        })
    }

    /// The result may have been settled by a fault without libcurl's knowing yet.
    fn may_be_settled(&self, at: usize) -> bool {
        self.s(|s| {
            s.panicked
                || s.flights[at]
                    .as_ref()
                    .is_some_and(|flight| !flight.faults.is_empty())
        })
    }

    fn host_cancels(&self, at: usize) {
        self.log(|| format!("host: cancel {at}"));
        let expected = self.settles(at);
        let inside = self.s(|s| s.inside && !s.own);
        if expected.is_ok() {
            self.s(|s| {
                if let Some(flight) = &mut s.flights[at] {
                    flight.canceled = true;
                }
                if inside && s.xfers[at].added {
                    s.asked.push_back(Asked::End(at));
                }
                if inside {
                    s.asked.retain(|asked| *asked != Asked::Add(at));
                }
            });
        }
        let said = self.api(|driver| driver.cancel(easy(at)));
        if expected.is_ok() && said.is_err() {
            self.s(|s| {
                if let Some(flight) = &mut s.flights[at] {
                    flight.canceled = false;
                }
                s.asked.clear();
            });
            if said == Err(error::EALREADY) && self.may_be_settled(at) {
                return;
            }
        }
        self.said("cancel", at, said, expected);
    }

    fn host_pauses(&self, at: usize, mask: c_int) {
        self.log(|| format!("host: pause {at} {mask}"));
        let expected = self.settles(at);
        let inside = self.s(|s| s.inside && !s.own);
        let before = self.s(|s| {
            let call = s.call;
            let flight = s.flights[at].as_mut()?;
            let before = (flight.pause, flight.pause_call);
            if expected.is_ok() {
                flight.pause = Some(mask);
                flight.pause_call = call;
                if inside {
                    s.asked.push_back(Asked::Pause(at));
                }
            }
            Some(before)
        });
        let said = self.api(|driver| driver.pause(easy(at), mask));
        if expected.is_ok() && said.is_err() {
            self.s(|s| {
                if let (Some(flight), Some(before)) = (&mut s.flights[at], before) {
                    (flight.pause, flight.pause_call) = before;
                }
                s.asked.clear();
            });
            if said == Err(error::EALREADY) && self.may_be_settled(at) {
                return;
            }
        }
        self.said("pause", at, said, expected);
    }

    fn host_closes(&self) {
        self.log(|| "host: close".to_owned());
        let again = self.s(|s| std::mem::replace(&mut s.close_called, true));
        self.s(|s| s.asked.clear());
        let close = CloseFn(Some(Box::new(move || {
            if let Some(model) = current() {
                model.has_closed(again);
            }
        })));
        self.api(|driver| {
            driver.close(close);
            Ok(())
        })
        .unwrap_or_default();
    }
}

/// What the host is told.
impl Model {
    fn done(&self, token: u64, at: usize, status: c_int) {
        self.log(|| format!("done callback {at}: {status}"));
        self.check(self.s(|s| s.in_api == 0), "not inside a call", || {
            format!("the done callback of {at} runs inside a call of the host's")
        });
        self.check(self.s(|s| !s.inside), "not inside a call", || {
            format!("the done callback of {at} runs inside libcurl")
        });
        self.check(self.s(|s| s.closed == 0), "nothing after close", || {
            format!("{at} is reported after the close callback")
        });
        let Some(flight) = self.s(|s| s.flights.get_mut(at).and_then(Option::take)) else {
            return self.violation("one report", || {
                format!("{at} is reported and is not in flight")
            });
        };
        self.check(
            flight.token == token && flight.accepted,
            "one report",
            || format!("{at} is reported for another start, or one that failed"),
        );
        self.s(|s| {
            s.reported += 1;
            s.asked.retain(|asked| asked.transfer() != at);
        });
        let added = self.s(|s| s.xfers[at].added);
        self.check(!added, "let go", || {
            format!("{at} is reported, and libcurl has it")
        });
        self.right_status(at, &flight, status);
        self.in_time(at, &flight);
        self.given_back(at);
        // The host cleans the handle up there and then.
        self.s(|s| s.xfers[at].alive = false);
        self.host(points::DONE, "in a done callback");
    }

    /// Nothing of ours stays on a handle that is the host's again.
    fn given_back(&self, at: usize) {
        let (added, hook) = self.s(|s| (s.xfers[at].added, s.xfers[at].hook));
        self.check(!added && !hook, "let go", || {
            format!(
                "{at} is given back, and libcurl has it ({added}), or it has our function ({hook})"
            )
        });
    }

    fn right_status(&self, at: usize, flight: &Flight, status: c_int) {
        let closing = self.s(|s| s.close_called);
        let panicked = self.s(|s| s.panicked);
        let memory = super::alloc::counts().1 > 0 && status == error::ENOMEM;
        let right = if flight.canceled {
            status == error::ECANCELED
        } else {
            let own = flight.message == Some(status);
            let fault = flight.faults.contains(&status) || memory;
            let by_close = closing && status == error::ECANCELED && flight.message.is_none();
            let by_panic = panicked && status == error::UVCURL_E_INTERNAL;
            own || fault || by_close || by_panic
        };
        self.check(right, "right status", || {
            format!(
                "{at} is reported with {status}: canceled {}, libcurl's {:?}, faults {:?}, closing {closing}",
                flight.canceled, flight.message, flight.faults
            )
        });
    }

    /// A timeout comes within 10 % and 100 ms, apart from what the host has slept.
    fn in_time(&self, at: usize, flight: &Flight) {
        if let (Some(deadline), Some(ended)) = (flight.deadline, flight.timed_out_ms) {
            let slept = self.s(|s| s.slept) - flight.slept_before;
            let margin = 100 + self.s(|s| s.scenario.timeout_ms) / 10 + slept;
            self.check(ended <= deadline + margin, "no hang", || {
                format!("{at} has timed out {} ms late", ended - deadline)
            });
        }
    }

    fn has_closed(&self, again: bool) {
        self.log(|| "close callback".to_owned());
        self.check(!again, "close callback", || {
            "that of a second close has run".to_owned()
        });
        self.s(|s| s.closed += 1);
        self.check(self.s(|s| s.closed == 1), "close callback", || {
            "it runs twice".to_owned()
        });
        self.check(self.s(|s| s.in_api == 0), "not inside a call", || {
            "the close callback runs inside a call".to_owned()
        });
        let left = self.in_flight();
        self.check(left.is_empty(), "one report", || {
            format!("the driver has closed and not reported {left:?}")
        });
        let handles = self.s(|s| s.handles.len() + s.orphans);
        self.check(handles == 0, "handles closed", || {
            format!("the close callback runs with {handles} handles on the loop")
        });
        self.check(self.phase() == Phase::Closed, "close callback", || {
            "it runs before the driver has closed".to_owned()
        });
    }
}

/// What libcurl's side tells of the host's transfers.
impl Model {
    /// libcurl has been made to let go.
    pub(super) fn let_go(&self, at: usize) {
        self.s(|s| {
            if let Some(flight) = &mut s.flights[at] {
                flight.let_go = true;
            }
        });
    }

    /// A start that was accepted may end so: libcurl has refused it.
    pub(super) fn refused(&self, at: usize, error: c_int) {
        self.s(|s| {
            if let Some(flight) = &mut s.flights[at] {
                flight.faults.push(error);
                flight.let_go = true;
            }
        });
    }

    pub(super) fn ends_with(&self, at: usize, status: c_int) {
        self.s(|s| {
            if let Some(flight) = &mut s.flights[at] {
                flight.faults.push(status);
            }
        });
    }

    /// What was asked for inside libcurl is done in order (promise 3).
    pub(super) fn executes(&self, what: Asked) {
        if self.s(|s| s.broken) {
            // All are being ended, in the order in which they were started.
            self.s(|s| s.asked.clear());
        }
        let place = self.s(|s| s.asked.iter().position(|asked| *asked == what));
        let Some(place) = place else { return };
        if let Asked::End(at) = what {
            let fault = |flight: &Flight| !flight.faults.is_empty();
            if self.s(|s| s.flights[at].as_ref().is_some_and(fault)) {
                // It has failed, and would have been let go now in any case.
                self.s(|s| s.asked.remove(place));
                return;
            }
        }
        for before in 0..place {
            let asked = self.s(|s| s.asked[before]);
            let (at, is_end) = (asked.transfer(), matches!(asked, Asked::End(_)));
            let due = self.s(|s| match &s.flights[at] {
                None => false,
                Some(flight) if is_end => s.xfers[at].added && !flight.let_go,
                Some(flight) => !flight.is_settled() && flight.faults.is_empty(),
            });
            self.check(!due, "in order", || {
                format!("{what:?} is done before {asked:?}, which was asked for first")
            });
        }
        self.s(|s| {
            s.asked.drain(..=place);
        });
    }

    /// Before the loop waits: what the host has asked for has come about.
    pub(super) fn flights_at_rest(&self) {
        for at in 0..self.s(|s| s.flights.len()) {
            let state = self.s(|s| {
                let flight = s.flights[at].as_ref()?;
                let xfer = &s.xfers[at];
                Some((xfer.stage, xfer.mask, flight.pause, flight.is_settled()))
            });
            let Some((stage, mask, pause, settled)) = state else {
                continue;
            };
            self.check(!settled, "no hang", || {
                format!("{at} has ended, and the loop waits before it is reported")
            });
            self.check(stage != Stage::Out, "no hang", || {
                format!("{at} was accepted, and libcurl does not have it")
            });
            let connected = matches!(stage, Stage::Connecting | Stage::Sending | Stage::Receiving);
            let no_memory = super::alloc::counts().1 > 0;
            if let (true, Some(pause), false) = (connected, pause, no_memory) {
                self.check(mask == pause, "pause holds", || {
                    format!("{at} is to be paused by {pause}, and is by {mask}")
                });
            }
        }
    }

    /// The driver makes a libcurl wait that asks for 0 ms without end.
    pub(super) fn is_put_off(&self) -> bool {
        crate::quirks::has(self.libcurl(), crate::quirks::Bug::PauseSpins)
    }
}
