//! One easy handle from start to report.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

use libc::c_int;

use crate::error;
use crate::sys::{self, DoneFn, Easy};

/// How far a transfer has come. Each step is taken once, in this order; steps may be left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// Accepted, not yet given to libcurl.
    Queued,
    /// In the multi handle.
    Running,
    /// Its status is settled; libcurl may still hold it. The flag tells whether it does.
    Ending { status: c_int, added: bool },
    /// libcurl has let go; the report is due.
    Ended(c_int),
}

struct Transfer {
    state: State,
    done: DoneFn,
    /// A pause the host asked for before there was a connection to pause.
    pause: Option<c_int>,
    /// libcurl has been told to pause it.
    paused: bool,
    order: u64,
    /// How many of the connections that it has opened have been matched with a socket.
    claimed: u64,
    /// The loop's time when it was started.
    since_ms: u64,
    /// The last round of [`Transfers::count_socket`] in which it had a socket.
    round: u64,
    /// It has been told of as stalled.
    stalled: bool,
}

/// One transfer, for the host's eyes.
pub(crate) struct Item {
    pub(crate) order: u64,
    pub(crate) easy: Easy,
    pub(crate) state: State,
    pub(crate) since_ms: u64,
    pub(crate) paused: bool,
}

/// Addresses of easy handles are the allocator's, so nobody can choose them to collide, and a transfer is looked up some ten
/// times: std's hasher would be more than half of what uvcurl adds to a transfer.
#[derive(Default)]
struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_usize(usize::from(*byte));
        }
    }

    fn write_usize(&mut self, address: usize) {
        // The multiplication spreads an address over the upper bits; the table takes lower ones, too.
        self.0 = (self.0 ^ address as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0.rotate_left(26)
    }
}

/// The transfers started and not yet reported.
#[derive(Default)]
pub(crate) struct Transfers {
    map: HashMap<Easy, Transfer, BuildHasherDefault<AddressHasher>>,
    /// Those that have ended, in the order in which they did.
    ended: VecDeque<Easy>,
    /// Those with a pause that waits for a connection.
    pausing: VecDeque<Easy>,
    running: usize,
    paused: usize,
    started: u64,
    /// What `started` was at the last tick, and how many of those since are running.
    mark: u64,
    young: usize,
    round: u64,
}

impl Transfers {
    /// Started and not yet reported.
    pub(crate) fn active(&self) -> usize {
        self.map.len()
    }

    /// In libcurl's hands.
    pub(crate) fn running(&self) -> usize {
        self.running
    }

    /// Those of them that libcurl has been told to pause.
    pub(crate) fn paused(&self) -> usize {
        self.paused
    }

    /// libcurl has got one.
    fn more(&mut self, order: u64) {
        self.running += 1;
        self.young += usize::from(order > self.mark);
    }

    /// One that libcurl had has ended.
    fn fewer(&mut self, order: u64) {
        self.running -= 1;
        self.young -= usize::from(order > self.mark);
    }

    pub(crate) fn set_paused(&mut self, easy: Easy, paused: bool) {
        let Some(transfer) = self.map.get_mut(&easy) else {
            return;
        };
        if transfer.state == State::Running {
            let before = std::mem::replace(&mut transfer.paused, paused);
            self.paused = self.paused + usize::from(paused) - usize::from(before);
        }
    }

    /// Notes a new transfer that is queued, or that libcurl is about to be given. All memory it may need later is taken here,
    /// so that nothing after can fail for want of it.
    pub(crate) fn insert(
        &mut self,
        easy: Easy,
        done: DoneFn,
        state: State,
        now_ms: u64,
    ) -> Result<(), c_int> {
        let no_memory = |_| error::ENOMEM;
        let count = self.map.len() + 1;
        self.map.try_reserve(1).map_err(no_memory)?;
        if self.ended.capacity() < count {
            let missing = count - self.ended.len();
            self.ended.try_reserve(missing).map_err(no_memory)?;
        }
        let Entry::Vacant(entry) = self.map.entry(easy) else {
            return Err(error::EALREADY);
        };
        self.started += 1;
        entry.insert(Transfer {
            state,
            done,
            pause: None,
            paused: false,
            order: self.started,
            claimed: 0,
            since_ms: now_ms,
            round: 0,
            stalled: false,
        });
        if state == State::Running {
            self.more(self.started);
        }
        Ok(())
    }

    /// libcurl could not be given a transfer after all: it waits, unless it has been cancelled meanwhile.
    pub(crate) fn not_added(&mut self, easy: Easy) {
        if let Some(transfer) = self.map.get_mut(&easy) {
            match transfer.state {
                State::Running => {
                    transfer.state = State::Queued;
                    let order = transfer.order;
                    self.fewer(order);
                }
                State::Ending { status, .. } => {
                    transfer.state = State::Ending {
                        status,
                        added: false,
                    };
                }
                State::Queued | State::Ended(_) => {}
            }
        }
    }

    /// Takes back a transfer that could not be started.
    pub(crate) fn discard(&mut self, easy: Easy) {
        if let Some(transfer) = self.map.remove(&easy) {
            if transfer.state == State::Running {
                self.fewer(transfer.order);
            }
        }
    }

    pub(crate) fn state(&self, easy: Easy) -> Option<State> {
        self.map.get(&easy).map(|transfer| transfer.state)
    }

    /// How many have been started so far.
    pub(crate) fn started(&self) -> u64 {
        self.started
    }

    /// Whether the transfer that runs on this handle is among the first `started`.
    pub(crate) fn is_among(&self, easy: Easy, started: u64) -> bool {
        self.map
            .get(&easy)
            .is_some_and(|transfer| transfer.order <= started)
    }

    /// Whether the transfer, which has opened `connects` connections by now, has opened one that is not matched with a socket.
    pub(crate) fn has_connected(&self, easy: Easy, connects: u64) -> bool {
        self.map
            .get(&easy)
            .is_some_and(|transfer| transfer.claimed < connects)
    }

    /// A socket has been matched with the last of its connections.
    pub(crate) fn claim_connect(&mut self, easy: Easy, connects: u64) {
        if let Some(transfer) = self.map.get_mut(&easy) {
            transfer.claimed = connects;
        }
    }

    pub(crate) fn added(&mut self, easy: Easy) {
        if let Some(transfer) = self.map.get_mut(&easy) {
            if transfer.state == State::Queued {
                transfer.state = State::Running;
                let order = transfer.order;
                self.more(order);
            }
        }
    }

    /// Settles the status of a transfer that is queued or running. If it had been settled, that status stays.
    pub(crate) fn ending(&mut self, easy: Easy, status: c_int) {
        let Some(transfer) = self.map.get_mut(&easy) else {
            return;
        };
        let added = match transfer.state {
            State::Queued => false,
            State::Running => true,
            State::Ending { .. } | State::Ended(_) => return,
        };
        transfer.state = State::Ending { status, added };
        self.paused -= usize::from(std::mem::take(&mut transfer.paused));
        if added {
            let order = transfer.order;
            self.fewer(order);
        }
    }

    /// libcurl has let go of a transfer whose status is settled: its report is due.
    pub(crate) fn ended(&mut self, easy: Easy) {
        if let Some(transfer) = self.map.get_mut(&easy) {
            if let State::Ending { status, .. } = transfer.state {
                transfer.state = State::Ended(status);
                self.ended.push_back(easy);
            }
        }
    }

    /// libcurl has said how a transfer has ended. `false`: that had been settled, or it is unknown.
    pub(crate) fn ended_with(&mut self, easy: Easy, status: c_int) -> bool {
        let Some(transfer) = self.map.get_mut(&easy) else {
            return false;
        };
        if transfer.state != State::Running {
            return false;
        }
        transfer.state = State::Ended(status);
        self.paused -= usize::from(std::mem::take(&mut transfer.paused));
        let order = transfer.order;
        self.fewer(order);
        self.ended.push_back(easy);
        true
    }

    /// Takes that back: libcurl still has the transfer.
    pub(crate) fn not_ended(&mut self, easy: Easy) {
        if let Some(transfer) = self.map.get_mut(&easy) {
            if let State::Ended(status) = transfer.state {
                transfer.state = State::Ending {
                    status,
                    added: true,
                };
                self.ended.retain(|ended| *ended != easy);
            }
        }
    }

    pub(crate) fn reports_due(&self) -> usize {
        self.ended.len()
    }

    /// The next report: after this the easy handle is unknown here and may be started again.
    pub(crate) fn take_report(&mut self) -> Option<(Easy, DoneFn, c_int)> {
        let easy = self.ended.pop_front()?;
        let transfer = self.map.remove(&easy)?;
        match transfer.state {
            State::Ended(status) => Some((easy, transfer.done, status)),
            _ => None,
        }
    }

    /// Which transfer that is, if it is among the first `started`; 0 if not.
    pub(crate) fn order(&self, easy: Easy, started: u64) -> u64 {
        self.map
            .get(&easy)
            .filter(|transfer| transfer.order <= started)
            .map_or(0, |transfer| transfer.order)
    }

    /// How many of those that libcurl has were there at the last tick.
    pub(crate) fn old(&self) -> usize {
        self.running - self.young
    }

    /// All that are there now are old from now on.
    pub(crate) fn tick(&mut self) {
        self.mark = self.started;
        self.young = 0;
    }

    /// Begins to count which of the old ones have a socket.
    pub(crate) fn begin_round(&mut self) {
        self.round += 1;
    }

    /// A socket has been found to be this transfer's. `true`: it is an old one, and this is the first in this round.
    pub(crate) fn count_socket(&mut self, easy: Easy, started: u64) -> bool {
        let (mark, round) = (self.mark, self.round);
        match self.map.get_mut(&easy) {
            Some(transfer) if transfer.order <= started && transfer.state == State::Running => {
                transfer.order <= mark && std::mem::replace(&mut transfer.round, round) != round
            }
            _ => false,
        }
    }

    /// The old ones in libcurl's hands for which no socket was found in this round, that are not paused by call and have not
    /// been told of; `limit` of them at most.
    pub(crate) fn without_socket(&self, limit: usize) -> Vec<(Easy, u64)> {
        let mut found = Vec::new();
        if found.try_reserve(limit).is_err() {
            return found;
        }
        let without = self.map.iter().filter(|(_, transfer)| {
            transfer.state == State::Running
                && transfer.order <= self.mark
                && transfer.round != self.round
                && !transfer.paused
                && !transfer.stalled
        });
        found.extend(
            without
                .take(limit)
                .map(|(easy, transfer)| (*easy, transfer.order)),
        );
        found
    }

    /// `false`: it has been told of before, or is gone.
    pub(crate) fn tell_stall(&mut self, easy: Easy, order: u64) -> bool {
        match self.map.get_mut(&easy) {
            Some(transfer) if transfer.order == order => {
                !std::mem::replace(&mut transfer.stalled, true)
            }
            _ => false,
        }
    }

    /// Every transfer, oldest first. `None`: no memory for the list.
    pub(crate) fn list(&self) -> Option<Vec<Item>> {
        let mut list = Vec::new();
        list.try_reserve(self.map.len()).ok()?;
        list.extend(self.map.iter().map(|(easy, transfer)| Item {
            order: transfer.order,
            easy: *easy,
            state: transfer.state,
            since_ms: transfer.since_ms,
            paused: transfer.paused,
        }));
        list.sort_unstable_by_key(|entry| entry.order);
        Some(list)
    }

    /// The transfers that have not ended, oldest first. `None`: no memory for the list.
    pub(crate) fn unended(&self) -> Option<Vec<Easy>> {
        let mut list = Vec::new();
        list.try_reserve(self.map.len()).ok()?;
        list.extend(
            self.map
                .iter()
                .filter(|(_, transfer)| !matches!(transfer.state, State::Ended(_)))
                .map(|(easy, transfer)| (transfer.order, *easy)),
        );
        list.sort_unstable_by_key(|(order, _)| *order);
        let mut easies = Vec::new();
        easies.try_reserve(list.len()).ok()?;
        easies.extend(list.into_iter().map(|(_, easy)| easy));
        Some(easies)
    }

    /// How many bytes all have moved; `None` if there are more than `limit`.
    pub(crate) fn moved(&self, limit: usize) -> Option<u64> {
        (self.map.len() <= limit).then(|| self.map.keys().map(|easy| sys::moved(*easy)).sum())
    }

    /// Some transfer that has not ended, of the first `started`.
    pub(crate) fn any_unended(&self, started: u64) -> Option<Easy> {
        self.map
            .iter()
            .filter(|(_, transfer)| transfer.order <= started)
            .find(|(_, transfer)| !matches!(transfer.state, State::Ended(_)))
            .map(|(easy, _)| *easy)
    }

    /// Some transfer whose status is settled and that has not been let go.
    pub(crate) fn any_ending(&self) -> Option<Easy> {
        self.map
            .iter()
            .find(|(_, transfer)| matches!(transfer.state, State::Ending { .. }))
            .map(|(easy, _)| *easy)
    }

    /// Keeps a pause for later, or drops the one kept. Fails for want of memory.
    pub(crate) fn keep_pause(&mut self, easy: Easy, mask: Option<c_int>) -> Result<(), c_int> {
        let Some(transfer) = self.map.get_mut(&easy) else {
            return Ok(());
        };
        if mask.is_some() && transfer.pause.is_none() {
            self.pausing.try_reserve(1).map_err(|_| error::ENOMEM)?;
            self.pausing.push_back(easy);
        }
        transfer.pause = mask;
        Ok(())
    }

    /// How many pauses wait.
    pub(crate) fn pausing(&self) -> usize {
        self.pausing.len()
    }

    /// The next transfer whose pause waits, taken off the list, with the mask if the time has come to try it again.
    pub(crate) fn take_pause(&mut self) -> Option<(Easy, Option<c_int>)> {
        let easy = self.pausing.pop_front()?;
        let Some(transfer) = self.map.get_mut(&easy) else {
            return Some((easy, None));
        };
        match transfer.state {
            State::Running => Some((easy, transfer.pause.take())),
            // Not with libcurl yet: it keeps its place.
            State::Queued => {
                self.pausing.push_back(easy);
                Some((easy, None))
            }
            State::Ending { .. } | State::Ended(_) => Some((easy, None)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{State, Transfers};
    use crate::sys::DoneFn;
    use crate::tests::easy;
    use std::rc::Rc;

    fn running(transfers: &mut Transfers, number: usize) {
        let done = DoneFn(Rc::new(|_, _, _| {}));
        let inserted = transfers.insert(easy(number), done, State::Running, 0);
        assert_eq!(inserted, Ok(()));
    }

    #[test]
    fn a_socket_is_counted_for_the_transfer_that_had_it() {
        let mut transfers = Transfers::default();
        running(&mut transfers, 1);
        running(&mut transfers, 2);
        transfers.tick();
        transfers.begin_round();
        assert!(
            !transfers.count_socket(easy(1), 0),
            "an earlier start of the same handle had it"
        );
        assert!(transfers.count_socket(easy(1), 1));
        assert!(!transfers.count_socket(easy(1), 1), "its second");
        assert!(transfers.ended_with(easy(2), 0));
        assert!(!transfers.count_socket(easy(2), 2), "it has ended");
    }

    #[test]
    fn a_stall_is_told_once_and_of_the_same_start() {
        let mut transfers = Transfers::default();
        running(&mut transfers, 1);
        assert!(!transfers.tell_stall(easy(1), 7));
        assert!(transfers.tell_stall(easy(1), 1));
        assert!(!transfers.tell_stall(easy(1), 1));
    }

    #[test]
    fn what_is_taken_back_leaves_the_reports_of_others() {
        let mut transfers = Transfers::default();
        for number in [1, 2, 3] {
            running(&mut transfers, number);
            assert!(transfers.ended_with(easy(number), number as i32));
        }
        transfers.not_ended(easy(2));
        let reports: Vec<_> = std::iter::from_fn(|| transfers.take_report())
            .map(|(easy, _, status)| (easy, status))
            .collect();
        assert_eq!(reports, [(easy(1), 1), (easy(3), 3)]);
        transfers.ended(easy(2));
        assert_eq!(transfers.take_report().map(|report| report.2), Some(2));
    }
}
