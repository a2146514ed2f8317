//! Transfers that libcurl holds back behind a connection limit, and whose timeouts it may have lost.
//!
//! In socket mode the first call after such a timeout has expired takes it off libcurl's list and does nothing about it
//! (S10). The driver prevents that where it can; where it cannot, because a call lasted beyond the deadline or because
//! libcurl was too busy to tell of one, every transfer that is held back has to be tried. This says when, and how many at
//! a time, so that it takes no more than a small share of the loop.

use std::cell::Cell;

/// Tries in one turn of the loop.
const PER_TURN: i64 = 64;
/// The least time from trying all to trying all again.
pub(crate) const AGAIN_MS: u64 = 100;
/// That time as a multiple of what trying all has taken.
const SHARE: u64 = 30;

#[derive(Default)]
pub(crate) struct Pending {
    /// Some timeout may have been lost since the last round began.
    suspect: Cell<bool>,
    /// How many are still to be tried in this round, and when it began.
    left: Cell<i64>,
    since_ns: Cell<u64>,
    /// When the next round may begin.
    again_ns: Cell<u64>,
}

impl Pending {
    pub(crate) fn is_suspect(&self) -> bool {
        self.suspect.get()
    }

    pub(crate) fn suspect(&self) {
        self.suspect.set(true);
    }

    /// Begins a round if one is called for and it is time; `count` tells how many transfers are held back.
    pub(crate) fn begin(&self, now_ns: u64, count: impl FnOnce() -> i64) {
        if self.suspect.get() && self.left.get() == 0 && self.again_ns.get() <= now_ns {
            self.suspect.set(false);
            self.since_ns.set(now_ns);
            self.left.set(count());
        }
    }

    /// How many to try in this turn of the loop; 0 if no round is under way.
    pub(crate) fn take_turn(&self) -> i64 {
        let turn = self.left.get().min(PER_TURN);
        self.left.set(self.left.get() - turn);
        turn
    }

    /// After a turn's tries. `true`: the round goes on in the next turn.
    pub(crate) fn goes_on(&self, now_ns: u64) -> bool {
        if self.left.get() > 0 {
            return true;
        }
        let took = now_ns.saturating_sub(self.since_ns.get());
        let rest = (took * SHARE).max(AGAIN_MS * 1_000_000);
        self.again_ns.set(now_ns.saturating_add(rest));
        false
    }
}

#[cfg(test)]
mod tests {
    use super::{Pending, AGAIN_MS, PER_TURN, SHARE};

    const MS: u64 = 1_000_000;

    /// When the next round begins, after one that began at `from_ns` and took so long.
    fn next_after(from_ns: u64, took_ns: u64) -> u64 {
        let pending = Pending::default();
        pending.suspect();
        pending.begin(from_ns, || 1);
        assert_eq!(pending.take_turn(), 1);
        assert!(!pending.goes_on(from_ns + took_ns));
        pending.suspect();
        let begins = |at: u64| {
            pending.begin(at, || 1);
            pending.take_turn() > 0
        };
        (0..)
            .map(|step| from_ns + took_ns + step * MS)
            .find(|at| begins(*at))
            .unwrap()
    }

    #[test]
    fn a_round_takes_its_share_and_no_more() {
        assert_eq!(next_after(5 * MS, 0), (5 + AGAIN_MS) * MS);
        assert_eq!(next_after(5 * MS, MS), (5 + 1 + AGAIN_MS) * MS);
        assert_eq!(next_after(5 * MS, 10 * MS), (5 + 10 + 10 * SHARE) * MS);
    }

    #[test]
    fn a_long_round_takes_several_turns() {
        let pending = Pending::default();
        pending.suspect();
        pending.begin(0, || PER_TURN + 1);
        assert_eq!(pending.take_turn(), PER_TURN);
        assert!(pending.goes_on(0));
        assert_eq!(pending.take_turn(), 1);
        assert!(!pending.goes_on(0));
        assert_eq!(pending.take_turn(), 0);
    }
}
