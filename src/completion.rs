//! Reading libcurl's messages, and telling the host.
//!
//! The two are kept apart: all messages are read before any handle is removed, because each removal searches what is
//! left of the list (R10), and the host is told when libcurl is off the stack, because its callback may do anything,
//! closing the driver included (R11, S31).

use libc::c_int;

use crate::driver::{Driver, Phase, Request};
use crate::sys::Easy;

impl Driver {
    /// Reads every message there is and lets libcurl let go of those transfers.
    pub(crate) fn drain(&self) {
        let Some((first, mut left)) = self.multi.next_done() else {
            return;
        };
        if left == 0 {
            self.finish(first);
            return;
        }
        let mut messages = std::mem::take(&mut *self.messages.borrow_mut());
        let mut next = Some(first);
        while let Some(message) = next {
            if messages.try_reserve(1).is_err() {
                // The message is read and cannot be kept: act on it now, at the price of the search.
                self.finish(message);
            } else {
                messages.push(message);
            }
            next = None;
            if left > 0 {
                if let Some((message, after)) = self.multi.next_done() {
                    (next, left) = (Some(message), after);
                }
            }
        }
        for message in messages.drain(..) {
            self.finish(message);
        }
        *self.messages.borrow_mut() = messages;
    }

    fn finish(&self, (easy, status): (Easy, c_int)) {
        // A handle the host has added to the multi handle by itself is not ours to remove, and one that has been cancelled
        // is being removed. Nothing is reported while libcurl is on the stack, so the report may be due already.
        let ended = self.transfers.borrow_mut().ended_with(easy, status);
        if ended && !self.take_out(easy) {
            self.transfers.borrow_mut().not_ended(easy);
            self.later(Request::End(easy));
        }
    }

    /// Tells the host of the transfers that have ended by now. What ends while it is told waits for the next turn of the
    /// loop, so that callbacks which start transfers that end at once do not keep the loop from its other work (S32).
    pub(crate) fn deliver(&self) {
        let due = self.transfers.borrow().reports_due();
        if due > 0 {
            // A done callback may run the loop, which may poll before the idle handle runs.
            self.no_turn();
        }
        for _ in 0..due {
            if self.phase() != Phase::Open || !self.report() {
                break;
            }
        }
    }

    /// Tells the host of one transfer. `false`: there was none to tell of.
    pub(crate) fn report(&self) -> bool {
        let next = self.transfers.borrow_mut().take_report();
        match next {
            Some((easy, done, status)) => {
                self.counters.done(status);
                done.call(self, easy, status);
                true
            }
            None => false,
        }
    }
}
