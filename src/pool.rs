//! How many connections libcurl keeps.
//!
//! Its own limit is a multiple of the transfers in flight at the moment. When a crowd of transfers ends, the limit sinks with
//! it: before 8.22 libcurl then closes connections that the next crowd would have used, and in all versions each transfer
//! that ends over the limit searches the whole pool. So the limit is set, and follows the crowd: up at once, down slowly.

use std::cell::Cell;

const LEAST: usize = 8;

#[derive(Default)]
pub(crate) struct Pool {
    /// What libcurl was told last; 0: nothing.
    told: Cell<usize>,
    wanted: Cell<usize>,
    fixed: Cell<Option<usize>>,
    /// The most transfers that libcurl has had since `look` was last called.
    most: Cell<usize>,
}

impl Pool {
    /// The host names the limit, or leaves it to us again.
    pub(crate) fn fix(&self, fixed: Option<usize>) {
        self.fixed.set(fixed);
        if let Some(limit) = fixed {
            self.wanted.set(limit);
        } else {
            self.wanted.set(LEAST);
        }
    }

    /// What libcurl is to be told now, if anything; `running` is how many transfers it has.
    #[inline]
    pub(crate) fn due(&self, running: usize) -> Option<usize> {
        if running > self.most.get() {
            self.most.set(running);
        }
        if running > self.wanted.get() && self.fixed.get().is_none() {
            self.wanted.set(running.next_power_of_two().max(LEAST));
        }
        let wanted = self.wanted.get();
        if self.told.get() == wanted {
            return None;
        }
        self.told.set(wanted);
        Some(wanted)
    }

    pub(crate) fn tell_again(&self) {
        self.told.set(0);
    }

    /// From time to time while there are transfers: a limit that was needed no longer is halved.
    pub(crate) fn look(&self, running: usize) {
        let most = self.most.replace(running);
        let wanted = self.wanted.get();
        if self.fixed.get().is_none() && wanted > LEAST && most <= wanted / 4 {
            self.wanted.set(wanted / 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Pool, LEAST};

    #[test]
    fn the_limit_never_sinks_below_the_least() {
        let pool = Pool::default();
        pool.fix(None);
        assert_eq!(pool.due(1), Some(LEAST));
        for _ in 0..3 {
            pool.look(0);
            assert_eq!(pool.due(0), None);
        }
    }
}
