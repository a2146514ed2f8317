//! Reading libcurl's messages, and telling the host.
//!
//! The two are kept apart: all messages are read before any handle is removed, because each removal searches what is
//! left of the list (R10), and the host is told when libcurl is off the stack, because its callback may do anything,
//! closing the driver included (R11, S31).

use libc::c_int;

use crate::driver::{Driver, Phase};
use crate::sys::Easy;

impl Driver {
    /// Reads every message there is and lets libcurl let go of those transfers.
    pub(crate) fn drain(&self) {
        let Some(first) = self.multi.next_done() else {
            return;
        };
        let mut messages = std::mem::take(&mut *self.messages.borrow_mut());
        let mut next = Some(first);
        while let Some(message) = next {
            if messages.try_reserve(1).is_err() {
                // The message is read and cannot be kept: act on it now, at the price of the search.
                self.finish(message);
            } else {
                messages.push(message);
            }
            next = self.multi.next_done();
        }
        for message in messages.drain(..) {
            self.finish(message);
        }
        *self.messages.borrow_mut() = messages;
    }

    fn finish(&self, (easy, status): (Easy, c_int)) {
        // A handle the host has added to the multi handle by itself is not ours to remove.
        let settled = self.transfers.borrow_mut().ending(easy, status);
        if let Some(added) = settled {
            self.part(easy, added);
        }
    }

    /// Tells the host of the transfers that have ended by now. What ends while it is told waits for the next turn of the
    /// loop, so that callbacks which start transfers that end at once do not keep the loop from its other work (S32).
    pub(crate) fn deliver(&self) {
        let due = self.transfers.borrow().reports_due();
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
                done.call(self, easy, status);
                true
            }
            None => false,
        }
    }
}
