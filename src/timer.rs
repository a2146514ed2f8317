//! libcurl's one deadline, on one uv timer and one idle handle.
//!
//! libcurl has a single deadline that each call of its timer callback replaces (R7). A wait goes to the timer. "As soon
//! as possible" (0 ms) goes to the idle handle: it runs once per turn of the loop and always with a poll for I/O in
//! between, on every libuv, where a timer of 0 ms started from its own callback would run again in the same pass before
//! libuv 1.48 and keep all I/O waiting (libuv#4250).

use std::cell::Cell;

use crate::sys::{now_ns, Idle, Loop, Timer};

/// libcurl 7.84 to 8.3 have a timer of 200 ms after each connect (R7).
const LEAST_TELLING_MS: i64 = 300;

pub(crate) struct Deadline {
    timer: Timer,
    idle: Idle,
    /// When the timer fires, if it is running, on the clock of `now_ns`: not after the deadline, but perhaps before.
    armed_ns: Cell<Option<u64>>,
    /// When the last wait that libcurl told of ends, on the clock of `now_ns`. Kept, also when it has passed, until
    /// libcurl tells of another or of none: while it asks for 0 ms, what it waits for besides is not known.
    due_ns: Cell<Option<u64>>,
    /// What libcurl told last was 0 ms.
    unknown: Cell<bool>,
    /// The last wait that libcurl told of was a second at most. Shorter ones than [`LEAST_TELLING_MS`] do not count.
    short: Cell<bool>,
    /// libcurl asked for 0 ms, or its wait has ended while it could not be called.
    now: Cell<bool>,
    /// Somebody else wants the idle handle to run once.
    kick: Cell<bool>,
    /// The idle handle is to run before the loop polls, whatever else it has to do.
    turn: Cell<bool>,
    /// libcurl has set or cleared the deadline since this was last reset.
    told: Cell<bool>,
}

impl Deadline {
    pub(crate) fn new(timer: Timer, idle: Idle) -> Deadline {
        Deadline {
            timer,
            idle,
            armed_ns: Cell::new(None),
            due_ns: Cell::new(None),
            unknown: Cell::new(false),
            short: Cell::new(false),
            now: Cell::new(false),
            kick: Cell::new(false),
            turn: Cell::new(false),
            told: Cell::new(false),
        }
    }

    /// What libcurl's timer callback said: -1 for none, 0 for soon, else milliseconds.
    #[inline(always)]
    pub(crate) fn set(&self, uv: &Loop, ms: i64) {
        self.told.set(true);
        self.unknown.set(ms == 0);
        match ms {
            // Most often libcurl is about to wait as long as before: the timer goes on.
            0 => self.now.set(true),
            1.. => {
                if ms >= LEAST_TELLING_MS {
                    self.short.set(ms <= 1_000);
                }
                let now = now_ns();
                let due = now.saturating_add((ms as u64).saturating_mul(1_000_000));
                self.now.set(false);
                self.due_ns.set(Some(due));
                self.wait(uv, now, due);
            }
            _ => {
                self.now.set(false);
                self.due_ns.set(None);
                self.short.set(false);
                self.stop();
            }
        }
        self.rest();
    }

    /// Sees to it that the timer fires by then. One that does so earlier is left alone: with each transfer libcurl names
    /// another deadline, mostly a later one, and what it costs is one turn of the loop in as much time as transfers may take.
    fn wait(&self, uv: &Loop, now_ns: u64, due_ns: u64) {
        if self.armed_ns.get().is_some_and(|armed| armed <= due_ns) {
            return;
        }
        let ms = (due_ns - now_ns).div_ceil(1_000_000);
        // The timer counts from the loop's cached time, a floor in milliseconds that may be long past: add what
        // has passed since, and the millisecond that the floor may hide, so that it never fires early (R7, S8).
        // This leaves the host's clock alone, which uv_update_time() would move.
        let stale = (now_ns / 1_000_000).saturating_sub(uv.now_ms());
        self.timer.start(ms.saturating_add(stale).saturating_add(1));
        self.armed_ns.set(Some(due_ns));
    }

    fn stop(&self) {
        if self.armed_ns.take().is_some() {
            self.timer.stop();
        }
    }

    /// Makes libcurl wait although it asked for 0 ms.
    pub(crate) fn put_off(&self, uv: &Loop, ms: u64) {
        if self.now.take() {
            let now = now_ns();
            let due = now.saturating_add(ms.saturating_mul(1_000_000));
            self.due_ns.set(Some(due));
            self.wait(uv, now, due);
            self.rest();
        }
    }

    /// The uv timer fired, perhaps for a deadline that has been put off since.
    pub(crate) fn fired(&self, uv: &Loop) {
        self.armed_ns.set(None);
        if let Some(due) = self.due_ns.get() {
            let now = now_ns();
            if now >= due {
                self.now.set(true);
            } else {
                self.wait(uv, now, due);
            }
        }
    }

    /// The idle handle ran: it runs once per request. What is to be done before the loop polls is not done yet, and the host
    /// may run the loop in between.
    pub(crate) fn ran(&self) {
        self.kick.set(false);
        if !self.turn.get() {
            self.idle.stop();
        }
    }

    /// Whether libcurl is to be called for its deadline; asking answers it.
    pub(crate) fn take_now(&self) -> bool {
        self.now.take()
    }

    /// Lets the driver be called in the next turn of the loop.
    pub(crate) fn kick(&self) {
        self.kick.set(true);
        self.idle.start();
    }

    /// Whether the idle handle is to run before the loop polls next, for the sake of that alone.
    pub(crate) fn set_turn(&self, turn: bool) {
        if self.turn.replace(turn) != turn {
            self.rest();
        }
    }

    /// Makes the idle handle run if and only if it has something to do.
    pub(crate) fn rest(&self) {
        if self.now.get() || self.kick.get() || self.turn.get() {
            self.idle.start();
        } else {
            self.idle.stop();
        }
    }

    pub(crate) fn reset_told(&self) {
        self.told.set(false);
    }

    pub(crate) fn was_told(&self) -> bool {
        self.told.get()
    }

    pub(crate) fn due_ns(&self) -> Option<u64> {
        self.due_ns.get()
    }

    /// Whether some transfer of libcurl's has a timer of a second at most, as far as libcurl has told.
    pub(crate) fn is_short(&self) -> bool {
        self.short.get()
    }

    /// libcurl is going to be called at once.
    pub(crate) fn is_now(&self) -> bool {
        self.now.get()
    }

    /// libcurl is going to be called, sooner or later.
    pub(crate) fn is_set(&self) -> bool {
        self.armed_ns.get().is_some() || self.now.get()
    }

    /// libcurl asks for 0 ms, and so says nothing of what it waits for besides.
    pub(crate) fn is_unknown(&self) -> bool {
        self.unknown.get()
    }

    pub(crate) fn is_timer(&self, id: usize) -> bool {
        self.timer.id() == id
    }

    pub(crate) fn close(self) {
        self.timer.close();
        self.idle.close();
    }
}
