//! The core over the fake libraries: orders of events that real ones produce rarely or not at all.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::driver::{Driver, Phase};
use crate::error;
use crate::model::alloc::{without_memory, Runs};
use crate::sys::fake::{
    poll_error, poll_ready, poll_ready_among_others, polled, polls, run_closing, turn, world, Call,
    World,
};
use crate::sys::{Action, CloseFn, DoneFn, Easy, Events, Loop, Multi, Socket};

type Reports = Rc<RefCell<Vec<(Easy, i32)>>>;

pub(crate) struct Test {
    pub(crate) driver: Box<Driver>,
    reports: Reports,
    closed: Rc<Cell<u32>>,
}

pub(crate) fn easy(number: usize) -> Easy {
    Easy((number * 64) as *mut curl_sys::CURL)
}

impl Test {
    pub(crate) fn new() -> Test {
        Test::on(0)
    }

    /// With the bugs of this libcurl.
    pub(crate) fn on(libcurl: u32) -> Test {
        world(|w| *w = World::default());
        world(|w| {
            w.timeout = -1;
            w.libcurl = libcurl;
        });
        let driver = Box::new(Driver::new(Loop::new(), Multi::new().unwrap(), 1));
        driver.open(&*driver).unwrap();
        assert!(turn(&driver), "to learn which thread runs the loop");
        assert!(!turn(&driver));
        Test {
            driver,
            reports: Rc::default(),
            closed: Rc::default(),
        }
    }

    fn done(&self) -> DoneFn {
        let reports = Rc::clone(&self.reports);
        DoneFn(Rc::new(move |_, easy, status| {
            reports.borrow_mut().push((easy, status));
        }))
    }

    pub(crate) fn start(&self, number: usize) -> Easy {
        let easy = easy(number);
        self.driver.start(easy, self.done()).unwrap();
        easy
    }

    fn close(&self) {
        let closed = Rc::clone(&self.closed);
        self.driver.close(CloseFn(Some(Box::new(move || {
            closed.set(closed.get() + 1);
        }))));
    }

    pub(crate) fn reports(&self) -> Vec<(Easy, i32)> {
        self.reports.borrow().clone()
    }

    /// What libcurl does at its next call.
    pub(crate) fn play(&self, play: impl FnOnce(&Driver) + 'static) {
        world(|w| w.plays.push_back(Box::new(play)));
    }

    /// Lets so much time pass, and the timer that looks after silent transfers fire.
    pub(crate) fn pass(&self, ms: u64) {
        world(|w| {
            w.loop_ms += ms;
            w.now_ns += ms * 1_000_000;
        });
        self.driver.timer_due(world(|w| w.look_timer()));
    }

    /// A transfer that has its socket announced for reading.
    pub(crate) fn running(&self, number: usize, socket: Socket) -> Easy {
        let easy = self.start(number);
        self.play(move |driver| driver.socket_wanted(easy, socket, Events::IN));
        turn(&self.driver);
        easy
    }
}

impl Drop for Test {
    /// Whatever the test did, the driver closes, everything is reported first, and nothing forbidden was done.
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        self.close();
        run_closing(&self.driver);
        assert_eq!(self.driver.phase(), Phase::Closed);
        assert_eq!(self.driver.active(), 0);
        assert_eq!(world(|w| w.violations.clone()), Vec::<String>::new());
    }
}

#[test]
fn a_transfer_is_reported_once_and_only_by_the_loop() {
    let t = Test::new();
    let easy = t.start(1);
    t.play(move |_| world(|w| w.finish(easy, 0)));
    assert_eq!(t.reports(), []);
    assert!(turn(&t.driver));
    assert_eq!(t.reports(), [(easy, 0)]);
    assert_eq!(world(|w| w.count(&Call::Remove(easy))), 1);
    assert_eq!(world(|w| w.count(&Call::Release(easy))), 1);
    assert!(!turn(&t.driver), "nothing is left to do");
}

#[test]
fn the_last_transfer_may_end_by_timer() {
    // S2: no socket event, and nothing is running any more when the message comes.
    let t = Test::new();
    let easy = t.start(1);
    t.play(|driver| driver.timer_wanted(100));
    turn(&t.driver);
    let timer = world(|w| *w.timers.iter().find(|(_, ms)| **ms == Some(101)).unwrap().0);
    t.play(move |_| world(|w| w.finish(easy, 28)));
    world(|w| w.now_ns = 101_000_000);
    t.driver.timer_due(timer);
    assert_eq!(t.reports(), [(easy, 28)]);
}

#[test]
fn the_loop_is_held_by_transfers_alone() {
    let t = Test::new();
    assert!(!world(|w| w.held));
    let easy = t.start(1);
    assert!(world(|w| w.held), "before the first turn");
    assert!(t.driver.is_referenced());
    t.driver.set_referenced(false);
    assert!(!world(|w| w.held));
    assert!(!t.driver.is_referenced());
    t.driver.set_referenced(true);
    assert!(world(|w| w.held));
    t.play(move |_| world(|w| w.finish(easy, 0)));
    turn(&t.driver);
    assert!(!world(|w| w.held));
}

#[test]
fn cancel_is_reported_in_the_next_turn() {
    let t = Test::new();
    let easy = t.running(1, 5);
    assert_eq!(t.driver.cancel(easy), Ok(()));
    assert!(!world(|w| w.is_added(easy)), "libcurl has let go at once");
    assert_eq!(t.reports(), []);
    assert!(world(|w| w.held), "until it is reported");
    assert_eq!(t.driver.cancel(easy), Err(error::EALREADY));
    assert_eq!(t.driver.start(easy, t.done()), Err(error::EALREADY));
    assert_eq!(t.driver.pause(easy, 1), Err(error::EALREADY));
    assert!(turn(&t.driver));
    assert_eq!(t.reports(), [(easy, error::ECANCELED)]);
    assert_eq!(t.driver.cancel(easy), Err(error::ENOENT));
}

#[test]
fn what_callbacks_ask_for_is_done_in_order_when_libcurl_is_out() {
    // S30: start, cancel, pause and close from inside one of libcurl's callbacks.
    let t = Test::new();
    let one = t.running(1, 5);
    let two = t.running(2, 6);
    let three = easy(3);
    let done = t.done();
    t.play(move |driver| {
        assert_eq!(driver.start(three, done.clone()), Ok(()));
        assert_eq!(driver.start(three, done), Err(error::EALREADY));
        assert_eq!(driver.pause(three, 1), Ok(()));
        assert_eq!(driver.cancel(two), Ok(()));
        assert_eq!(driver.cancel(two), Err(error::EALREADY));
        assert_eq!(driver.cancel(one), Ok(()));
        world(|w| w.calls.clear());
    });
    assert!(poll_ready(&t.driver, 5));
    let wanted = [
        Call::Add(three),
        Call::Pause(three, 1),
        Call::Remove(two),
        Call::Remove(one),
    ];
    let made: Vec<Call> = world(|w| w.calls.clone())
        .into_iter()
        .filter(|call| wanted.contains(call))
        .collect();
    assert_eq!(made, wanted);
    let canceled = error::ECANCELED;
    assert_eq!(t.reports(), [(two, canceled), (one, canceled)]);
}

#[test]
fn a_queued_start_can_be_cancelled() {
    let t = Test::new();
    t.running(1, 5);
    let two = easy(2);
    let done = t.done();
    t.play(move |driver| {
        driver.start(two, done).unwrap();
        driver.cancel(two).unwrap();
    });
    poll_ready(&t.driver, 5);
    assert_eq!(world(|w| w.count(&Call::Add(two))), 0);
    assert_eq!(t.reports(), [(two, error::ECANCELED)]);
}

#[test]
fn a_cancel_inside_a_callback_wins_over_the_end_of_the_transfer() {
    let t = Test::new();
    let one = t.running(1, 5);
    t.play(move |driver| {
        driver.cancel(one).unwrap();
        world(|w| w.finish(one, 0));
    });
    poll_ready(&t.driver, 5);
    assert_eq!(t.reports(), [(one, error::ECANCELED)]);
}

#[test]
fn a_start_that_libcurl_refuses_later_is_a_result() {
    let t = Test::new();
    t.running(1, 5);
    let two = easy(2);
    let done = t.done();
    t.play(move |driver| {
        driver.start(two, done).unwrap();
        world(|w| w.add_error = Some(error::EBUSY));
    });
    poll_ready(&t.driver, 5);
    assert_eq!(t.reports(), [(two, error::EBUSY)]);
}

#[test]
fn a_start_that_libcurl_refuses_at_once_calls_nothing() {
    let t = Test::new();
    world(|w| w.add_error = Some(error::EBUSY));
    assert_eq!(t.driver.start(easy(1), t.done()), Err(error::EBUSY));
    assert_eq!(t.driver.active(), 0);
    assert!(!world(|w| w.held));
}

#[test]
fn remove_is_applied_before_the_callback_returns() {
    // R1, S17: one call closes the socket and opens another with the same number.
    let t = Test::new();
    let one = t.running(1, 5);
    let old = world(|w| w.watched(5)).unwrap().0;
    t.play(move |driver| {
        driver.socket_wanted(one, 5, Events::NONE);
        world(|w| {
            assert_eq!(w.watched(5), None);
            w.close_socket(5);
            w.reopen_socket(5);
        });
        driver.socket_wanted(one, 5, Events::OUT);
    });
    poll_ready(&t.driver, 5);
    // libuv drops events of the old socket that are still to come when the handle is stopped, so it can be used again.
    assert_eq!(world(|w| w.watched(5)), Some((old, Events::OUT)));
    assert_eq!(world(|w| w.count(&Call::PollInit(5))), 1);
    turn(&t.driver);
    assert_eq!(world(|w| w.watched(5)), Some((old, Events::OUT)));
    // An event of a handle that is not the socket's goes nowhere.
    world(|w| w.calls.clear());
    t.driver.socket_ready(5, old + 1000, 0, Events::IN);
    t.driver
        .socket_ready(5, old + 1000, error::EINVAL, Events::NONE);
    assert_eq!(world(|w| w.calls.len()), 0);
}

#[test]
fn a_socket_that_libcurl_closes_unannounced_is_let_go_first() {
    // S16, libcurl before 8.9: the close-socket function is all there is.
    let t = Test::new();
    let one = t.running(1, 5);
    t.play(move |driver| {
        driver.socket_closing(5);
        world(|w| {
            w.close_socket(5);
            w.finish(one, 56);
        });
    });
    poll_ready(&t.driver, 5);
    assert_eq!(t.reports(), [(one, 56)]);
}

/// A transfer that has opened a connection on `socket`, so that it has the close-socket function, and wants to read.
pub(crate) fn connected(t: &Test, number: usize, socket: Socket) -> Easy {
    let easy = t.start(number);
    t.play(move |driver| driver.socket_wanted(easy, socket, Events::OUT));
    turn(&t.driver);
    world(|w| w.connects.insert(easy, 1));
    t.play(move |driver| driver.socket_wanted(easy, socket, Events::IN));
    poll_ready(&t.driver, socket);
    easy
}

/// It ends well, and its connection goes to the pool.
pub(crate) fn finish(t: &Test, easy: Easy, socket: Socket) {
    t.play(move |driver| {
        driver.socket_wanted(easy, socket, Events::NONE);
        world(|w| w.finish(easy, 0));
    });
    poll_ready(&t.driver, socket);
}

#[test]
fn a_connection_that_idles_stays_watched() {
    let t = Test::new();
    let one = connected(&t, 1, 5);
    finish(&t, one, 5);
    assert_eq!(t.reports(), [(one, 0)]);
    world(|w| w.calls.clear());
    turn(&t.driver);
    assert!(world(|w| w.watched(5)).is_some());
    // The next transfer on it wants the same: nothing needs be done, however often.
    for number in 2..10 {
        world(|w| w.connects.clear());
        let easy = t.running(number, 5);
        finish(&t, easy, 5);
    }
    let touched = world(|w| {
        let polls = |call: &&Call| {
            matches!(
                call,
                Call::PollInit(_) | Call::PollStart(..) | Call::PollStop(_) | Call::PollClose(_)
            )
        };
        w.calls.iter().filter(polls).count()
    });
    assert_eq!(touched, 0);
    assert_eq!(t.reports().len(), 9);
    // The peer ends it: that is nobody's business, and must not come again and again.
    world(|w| w.calls.clear());
    assert!(poll_ready(&t.driver, 5));
    assert_eq!(world(|w| w.calls.clone()), [Call::PollStop(5)]);
    // Another mask, and the same handle.
    let easy = t.start(20);
    t.play(move |driver| driver.socket_wanted(easy, 5, Events::OUT));
    turn(&t.driver);
    assert_eq!(world(|w| w.count(&Call::PollInit(5))), 0);
    assert_eq!(world(|w| w.watched(5)).unwrap().1, Events::OUT);
    // It is closed while it idles.
    finish(&t, easy, 5);
    t.driver.socket_closing(5);
    world(|w| w.close_socket(5));
    assert_eq!(world(|w| w.watched(5)), None);
}

#[test]
fn a_connection_that_may_be_somebody_elses_is_let_go_at_once() {
    // R2: it came out of a pool, so it need not have the close-socket function; or the host has asked for no options.
    let t = Test::new();
    let one = t.running(1, 5);
    finish(&t, one, 5);
    world(|w| {
        assert_eq!(w.watched(5), None);
        w.close_socket(5);
    });
    turn(&t.driver);
    t.driver.set_untouched(true).unwrap();
    let two = connected(&t, 2, 6);
    finish(&t, two, 6);
    assert_eq!(world(|w| w.watched(6)), None);
    // Redirected from somebody's connection to one of its own.
    t.driver.set_untouched(false).unwrap();
    let three = t.running(3, 7);
    assert_eq!(t.driver.set_untouched(true), Err(error::EBUSY));
    world(|w| w.connects.insert(three, 1));
    t.play(move |driver| {
        driver.socket_wanted(three, 7, Events::NONE);
        driver.socket_wanted(three, 8, Events::IN);
    });
    poll_ready(&t.driver, 7);
    assert_eq!(world(|w| w.watched(7)), None);
    finish(&t, three, 8);
    assert!(world(|w| w.watched(8)).is_some());
    assert_eq!(t.reports().len(), 3);
}

#[test]
fn a_connection_that_is_answered_at_once_keeps_its_handle() {
    // Connected, sent, answered and back in the pool within one call: it is never announced for reading.
    let t = Test::new();
    for (number, connects) in [(1, 1), (2, 0)] {
        let one = t.start(number);
        t.play(move |driver| driver.socket_wanted(one, 5, Events::OUT));
        turn(&t.driver);
        t.play(move |driver| {
            driver.socket_wanted(one, 5, Events::NONE);
            world(|w| {
                assert_eq!(w.watched(5), None);
                w.connects.insert(one, connects);
                w.finish(one, 0);
                w.calls.clear();
            });
        });
        poll_ready(&t.driver, 5);
        turn(&t.driver);
        assert_eq!(
            world(|w| w.count(&Call::PollClose(5))),
            1 - connects as usize
        );
        t.driver.socket_closing(5);
        turn(&t.driver);
    }
    assert_eq!(t.reports().len(), 2);
}

#[test]
fn the_descriptor_of_a_lookup_is_no_connection() {
    // libcurl before 8.20: the first connection was never announced, and for a redirect a name is looked up. The descriptor
    // by which that reports is closed without a word.
    let t = Test::new();
    world(|w| w.resolver = Some(8));
    let one = t.start(1);
    world(|w| w.connects.insert(one, 1));
    t.play(move |driver| driver.socket_wanted(one, 8, Events::IN));
    turn(&t.driver);
    t.play(move |driver| {
        driver.socket_wanted(one, 8, Events::NONE);
        world(|w| w.close_socket(8));
        driver.socket_wanted(one, 9, Events::IN);
    });
    poll_ready(&t.driver, 8);
    assert_eq!(world(|w| w.watched(8)), None);
    finish(&t, one, 9);
    assert!(world(|w| w.watched(9)).is_some());
}

#[test]
fn the_limit_of_connections_follows_the_crowd() {
    let t = Test::new();
    let told = || {
        world(|w| {
            let told: Vec<usize> = w
                .calls
                .iter()
                .filter_map(|call| match call {
                    Call::MaxConnects(limit) => Some(*limit),
                    _ => None,
                })
                .collect();
            w.calls.clear();
            told
        })
    };
    let all: Vec<Easy> = (1..=40).map(|number| t.start(number)).collect();
    assert_eq!(told(), [8, 16, 32, 64]);
    let list = all.clone();
    t.play(move |_| {
        list[1..]
            .iter()
            .for_each(|easy| world(|w| w.finish(*easy, 0)))
    });
    turn(&t.driver);
    assert_eq!(told(), [0; 0], "not down at once");
    t.pass(5_000);
    assert_eq!(told(), [0; 0], "there were forty since the last time");
    t.pass(1_000);
    assert_eq!(told(), [0; 0], "slowly");
    t.pass(4_000);
    t.pass(5_000);
    assert_eq!(told(), [32, 16]);
    // The host's word counts, inside libcurl too, and until it says otherwise.
    t.play(|driver| driver.set_max_connects(Some(5)).unwrap());
    t.pass(1_000);
    for number in 2..=12 {
        t.start(number);
    }
    assert_eq!(told(), [5]);
    t.driver.set_max_connects(None).unwrap();
    assert_eq!(told(), [16]);
}

#[test]
fn only_one_socket_is_matched_with_a_connection() {
    // Two addresses are tried at once; which of them is the connection is known when the other is closed.
    let t = Test::new();
    let one = t.start(1);
    t.play(move |driver| {
        driver.socket_wanted(one, 5, Events::OUT);
        driver.socket_wanted(one, 6, Events::OUT);
    });
    turn(&t.driver);
    world(|w| w.connects.insert(one, 1));
    t.play(move |driver| {
        driver.socket_wanted(one, 5, Events::NONE);
        driver.socket_closing(5);
        world(|w| w.close_socket(5));
        driver.socket_wanted(one, 6, Events::IN);
    });
    poll_ready(&t.driver, 6);
    finish(&t, one, 6);
    assert!(world(|w| w.watched(6)).is_some());
    // An FTP transfer, say, has a second socket that is none of its connections.
    let two = connected(&t, 2, 7);
    t.play(move |driver| driver.socket_wanted(two, 8, Events::IN));
    poll_ready(&t.driver, 7);
    t.play(move |driver| driver.socket_wanted(two, 8, Events::NONE));
    poll_ready(&t.driver, 8);
    assert_eq!(world(|w| w.watched(8)), None);
}

#[test]
fn a_connection_that_is_known_is_not_matched_again() {
    // The transfer opens one and uses another that had idled.
    let t = Test::new();
    let one = connected(&t, 1, 5);
    finish(&t, one, 5);
    let two = t.start(2);
    world(|w| w.connects.insert(two, 1));
    t.play(move |driver| {
        driver.socket_wanted(two, 7, Events::IN);
        driver.socket_wanted(two, 5, Events::IN);
    });
    turn(&t.driver);
    finish(&t, two, 7);
    assert!(world(|w| w.watched(7)).is_some());
}

#[test]
fn a_handle_serves_the_next_socket_of_its_number() {
    // A new connection for each transfer: close, report, start, connect, all before the loop polls again.
    let t = Test::new();
    let mut one = connected(&t, 1, 5);
    for number in 2..10 {
        t.play(move |driver| {
            driver.socket_wanted(one, 5, Events::NONE);
            driver.socket_closing(5);
            world(|w| {
                w.close_socket(5);
                w.finish(one, 0);
            });
        });
        poll_ready(&t.driver, 5);
        world(|w| w.reopen_socket(5));
        one = connected(&t, number, 5);
    }
    assert_eq!(world(|w| w.count(&Call::PollInit(5))), 1);
    assert_eq!(world(|w| w.count(&Call::PollClose(5))), 0);
}

#[test]
fn a_handle_left_over_goes_before_the_host_can_have_its_number() {
    // S18: libuv takes the number off the epoll set when a handle is closed, whoever watches it by then.
    let t = Test::new();
    let one = connected(&t, 1, 5);
    t.play(move |driver| {
        driver.socket_closing(5);
        world(|w| {
            w.close_socket(5);
            w.finish(one, 0);
            w.host_watches(5);
        });
    });
    poll_ready(&t.driver, 5);
    assert_eq!(world(|w| w.count(&Call::PollClose(5))), 0);
    assert!(turn(&t.driver));
    assert_eq!(world(|w| w.count(&Call::PollClose(5))), 1);
    assert!(!turn(&t.driver));
    // Where the loop may poll first, no handle is left over: the host cancels in a prepare callback of its own.
    let two = connected(&t, 2, 6);
    world(|w| {
        w.remove_plays.push_back(Box::new(|driver| {
            driver.socket_closing(6);
            world(|w| {
                w.close_socket(6);
                w.host_watches(6);
            });
        }));
    });
    t.driver.cancel(two).unwrap();
    assert_eq!(world(|w| w.count(&Call::PollClose(6))), 1);
    turn(&t.driver);
    assert_eq!(t.reports().len(), 2);
}

#[test]
fn a_loop_run_inside_a_callback_polls_with_no_handle_left_over() {
    // The same, where the loop that polls next is one that the host runs inside a callback.
    let t = Test::new();
    let one = connected(&t, 1, 5);
    t.play(move |driver| {
        driver.socket_closing(5);
        world(|w| {
            w.close_socket(5);
            w.finish(one, 0);
        });
        driver.timer_wanted(0);
    });
    poll_ready(&t.driver, 5);
    // In a write callback, while the idle handle's callback has not come to closing it.
    t.play(|driver| {
        world(|w| w.host_watches(5));
        assert!(turn(driver));
        assert_eq!(world(|w| w.count(&Call::PollClose(5))), 1);
    });
    turn(&t.driver);

    // A socket that libcurl no longer wants, and of which it has not turned out what it was.
    let two = t.start(2);
    t.play(move |driver| driver.socket_wanted(two, 7, Events::OUT));
    turn(&t.driver);
    t.play(move |driver| {
        driver.socket_wanted(two, 7, Events::NONE);
        world(|w| {
            w.close_socket(7);
            w.host_watches(7);
        });
        assert!(turn(driver));
    });
    poll_ready(&t.driver, 7);
    assert_eq!(world(|w| w.count(&Call::PollClose(7))), 1);

    // In a done callback, after the idle handles of that loop.
    let three = connected(&t, 3, 8);
    let done = DoneFn(Rc::new(move |driver, _, _| {
        world(|w| {
            w.remove_plays.push_back(Box::new(|driver| {
                driver.socket_closing(8);
                world(|w| {
                    w.close_socket(8);
                    w.host_watches(8);
                });
            }));
        });
        driver.cancel(three).unwrap();
        polls();
    }));
    t.driver.start(easy(4), done).unwrap();
    t.play(|_| world(|w| w.finish(easy(4), 0)));
    turn(&t.driver);
    turn(&t.driver);
}

#[test]
fn sockets_that_there_is_no_memory_to_note_are_noted_later() {
    // All of them, not only the last: each may have a transfer that waits for it.
    let t = Test::new();
    let (one, two) = (t.start(1), t.start(2));
    t.play(move |driver| {
        without_memory(|| {
            driver.socket_wanted(one, 5, Events::OUT);
            driver.socket_wanted(two, 6, Events::OUT);
            driver.socket_wanted(two, 7, Events::OUT);
            driver.socket_wanted(two, 7, Events::NONE);
            driver.socket_wanted(easy_of_libcurl(), 8, Events::IN);
            driver.socket_closing(8);
        });
    });
    turn(&t.driver);
    assert_eq!(t.reports(), []);
    for (socket, watched) in [(5, true), (6, true), (7, false), (8, false)] {
        assert_eq!(world(|w| w.watched(socket)).is_some(), watched, "{socket}");
    }
    // So many that they cannot even be remembered.
    let three = t.start(3);
    t.play(move |driver| {
        without_memory(|| {
            (100..120).for_each(|socket| driver.socket_wanted(three, socket, Events::IN));
        });
    });
    turn(&t.driver);
    let ends = [one, two, three].map(|easy| (easy, error::ENOMEM));
    assert_eq!(t.reports(), ends);
}

#[test]
fn sockets_that_there_is_no_memory_to_note_for_long_end_or_are_looked_at() {
    let t = Test::new();
    t.running(1, 5);
    let two = t.start(2);
    turn(&t.driver);
    // What the test itself keeps.
    world(|w| w.calls.reserve(1_000));
    t.reports.borrow_mut().reserve(10);
    t.play(move |driver| {
        let _runs = Runs::driver(true);
        driver.socket_wanted(easy_of_libcurl(), 200, Events::IN);
        driver.socket_wanted(two, 201, Events::OUT);
    });
    without_memory(|| poll_ready(&t.driver, 5));
    assert_eq!(t.reports(), [(two, error::ENOMEM)]);
    t.pass(50);
    assert_eq!(world(|w| w.count(&Call::Act(Action::Look(200)))), 1);
    assert!(world(|w| w.watched(200)).is_some());
}

#[test]
fn what_fails_below_a_call_of_the_hosts_own_is_seen_to_in_the_next_turn() {
    // The host's curl_easy_pause() makes libcurl announce a socket, and libuv does not take it.
    let t = Test::new();
    let one = t.running(1, 5);
    assert!(!turn(&t.driver), "inside libcurl it is seen to at once");
    world(|w| {
        w.poll_init_error.insert(6, error::ENOMEM);
        w.set_inside(true);
    });
    t.driver.socket_wanted(one, 6, Events::IN);
    world(|w| w.set_inside(false));
    assert!(turn(&t.driver));
    assert_eq!(t.reports(), [(one, error::ENOMEM)]);
}

#[test]
fn without_memory_for_a_list_a_failure_ends_only_what_was_there() {
    let t = Test::new();
    let one = t.start(1);
    let started = t.driver.transfers.borrow().started();
    let two = t.start(2);
    let next = |started| t.driver.transfers.borrow().any_unended(started);
    assert_eq!(next(started), Some(one));
    assert_eq!(next(0), None);
    t.driver.cancel(one).unwrap();
    assert_eq!(next(started), None);
    assert_eq!(next(started + 1), Some(two));
}

#[test]
fn the_wakeup_descriptor_stays_watched() {
    let t = Test::new();
    world(|w| w.wakeup = Some(9));
    let announce = |t: &Test, number| {
        let easy = t.start(number);
        t.play(|driver| driver.socket_wanted(easy_of_libcurl(), 9, Events::IN));
        turn(&t.driver);
        t.play(move |driver| {
            driver.socket_wanted(easy_of_libcurl(), 9, Events::NONE);
            world(|w| w.finish(easy, 0));
        });
        poll_ready(&t.driver, 9);
    };
    announce(&t, 1);
    world(|w| w.calls.clear());
    announce(&t, 2);
    assert_eq!(world(|w| w.count(&Call::PollInit(9))), 0);
    assert_eq!(world(|w| w.count(&Call::PollStart(9, Events::IN))), 0);
    // A thread that has been abandoned wakes it.
    assert!(poll_ready(&t.driver, 9));
    assert!(!poll_ready(&t.driver, 9));
    announce(&t, 3);
    assert_eq!(t.reports().len(), 3);
}

fn easy_of_libcurl() -> Easy {
    easy(99)
}

#[test]
fn an_idle_socket_is_given_up_to_another_driver() {
    let t = Test::new();
    let one = connected(&t, 1, 5);
    t.driver.release_idle(5);
    assert!(world(|w| w.watched(5)).is_some(), "it does not idle");
    finish(&t, one, 5);
    t.driver.release_idle(5);
    assert_eq!(world(|w| w.watched(5)), None);
    // And comes back.
    let two = t.running(2, 5);
    assert!(world(|w| w.watched(5)).is_some());
    finish(&t, two, 5);
}

#[test]
fn masks_are_followed_and_not_repeated() {
    // S12, R3.
    let t = Test::new();
    let one = t.running(1, 5);
    let both = Events::IN.union(Events::OUT);
    for (events, starts) in [(Events::IN, 0), (both, 1), (both, 0), (Events::OUT, 1)] {
        world(|w| w.calls.clear());
        t.play(move |driver| driver.socket_wanted(one, 5, events));
        poll_ready(&t.driver, 5);
        assert_eq!(world(|w| w.count(&Call::PollStart(5, events))), starts);
        assert_eq!(world(|w| w.watched(5)).unwrap().1, events);
    }
}

#[test]
fn odd_socket_reports_are_harmless() {
    // S20, R4.
    let t = Test::new();
    t.play(|driver| {
        driver.socket_wanted(easy(9), 7, Events::NONE);
        driver.socket_wanted(easy(9), -1, Events::IN);
        driver.socket_wanted(easy(9), -1, Events::NONE);
        driver.socket_wanted(easy(9), 0, Events::IN);
        driver.socket_wanted(easy(9), 0, Events::NONE);
        driver.socket_wanted(easy(9), 0, Events::NONE);
    });
    t.start(1);
    turn(&t.driver);
    assert_eq!(world(|w| w.watched(0)), None);
}

#[test]
fn an_error_is_told_and_the_socket_watched_again() {
    // S13, R9: libuv has stopped the handle; libcurl still wants the socket.
    let t = Test::new();
    t.running(1, 5);
    world(|w| w.calls.clear());
    poll_error(&t.driver, 5, error::EINVAL);
    assert_eq!(world(|w| w.count(&Call::Act(Action::Failed(5)))), 1);
    assert_eq!(world(|w| w.watched(5)).unwrap().1, Events::IN);
    assert_eq!(t.reports(), []);
}

#[test]
fn a_socket_with_nothing_but_errors_ends_its_own_transfer() {
    let t = Test::new();
    let one = t.running(1, 5);
    let two = t.running(2, 6);
    for _ in 0..64 {
        poll_error(&t.driver, 5, -9);
    }
    assert_eq!(t.reports(), []);
    assert_eq!(world(|w| w.count(&Call::PollInit(5))), 1);
    poll_error(&t.driver, 5, -9);
    assert_eq!(t.reports(), [(one, -9)]);
    assert!(world(|w| w.is_added(two)));
}

#[test]
fn errors_of_one_use_of_a_connection_are_not_the_next_ones() {
    let t = Test::new();
    let one = connected(&t, 1, 5);
    for _ in 0..40 {
        poll_error(&t.driver, 5, -9);
    }
    t.play(move |driver| {
        driver.socket_wanted(one, 5, Events::NONE);
        world(|w| w.finish(one, 0));
    });
    t.driver.timer_wanted(0);
    turn(&t.driver);
    t.running(2, 5);
    for _ in 0..40 {
        poll_error(&t.driver, 5, -9);
    }
    assert_eq!(t.reports(), [(one, 0)]);
}

#[test]
fn a_socket_that_cannot_be_watched_ends_its_own_transfer() {
    // S21, R5, promise 7.
    let t = Test::new();
    t.running(1, 5);
    world(|w| w.poll_init_error.insert(6, error::ENOMEM));
    let two = t.running(2, 6);
    world(|w| w.poll_start_error.insert(7, error::EINVAL));
    let three = t.running(3, 7);
    assert_eq!(t.reports(), [(two, error::ENOMEM), (three, error::EINVAL)]);
    assert!(poll_ready(&t.driver, 5));
}

#[test]
fn a_socket_of_libcurls_own_that_cannot_be_watched_is_looked_at() {
    let t = Test::new();
    world(|w| w.poll_init_error.insert(6, error::ENOMEM));
    t.start(1);
    t.play(|driver| driver.socket_wanted(easy(99), 6, Events::IN));
    turn(&t.driver);
    assert_eq!(t.reports(), []);
    let look = world(|w| *w.timers.iter().find(|(_, ms)| **ms == Some(50)).unwrap().0);
    world(|w| {
        w.calls.clear();
        w.loop_ms += 51;
    });
    t.driver.timer_due(look);
    assert_eq!(world(|w| w.count(&Call::Act(Action::Look(6)))), 1);
    // The way is free again: the next turn watches it.
    world(|w| w.poll_init_error.clear());
    t.driver.timer_due(look);
    assert!(world(|w| w.watched(6)).is_some());
}

/// How many of 1000 events an always ready socket gives, on a libcurl of this number that announces it for `user`.
fn events_of_a_ready_socket(libcurl: u32, user: usize) -> usize {
    let t = Test::on(libcurl);
    t.start(1);
    t.play(move |driver| driver.socket_wanted(easy(user), 6, Events::IN));
    turn(&t.driver);
    world(|w| w.always_ready.insert(6));
    let events = (0..1000).take_while(|_| poll_ready(&t.driver, 6)).count();
    assert_eq!(t.reports(), []);
    if events < 1000 {
        // From then on it is looked at.
        let look = world(|w| *w.timers.iter().find(|(_, ms)| **ms == Some(50)).unwrap().0);
        world(|w| {
            w.calls.clear();
            w.loop_ms += 51;
        });
        t.driver.timer_due(look);
        assert_eq!(world(|w| w.count(&Call::Act(Action::Look(6)))), 1);
        assert_eq!(t.driver.counters.spins.get(), 1);
        assert!(world(|w| w.watched(6)).is_none());
        // Until libcurl speaks of it again.
        t.driver.socket_wanted(easy(user), 6, Events::OUT);
        assert_eq!(world(|w| w.watched(6)).unwrap().1, Events::OUT);
    }
    events
}

#[test]
fn a_socket_of_libcurls_own_that_stays_ready_is_no_longer_watched() {
    // S23 (8.20.0), S24 (8.9.0), R20. Any other version may have the bug too; no socket of a transfer.
    for (libcurl, user, events) in [
        (0x081400, 99, 64),
        (0x080900, 99, 64),
        (0x081600, 99, 64),
        (0x081400, 1, 1000),
    ] {
        assert_eq!(
            events_of_a_ready_socket(libcurl, user),
            events,
            "{libcurl:x}, {user}"
        );
    }
}

#[test]
fn a_busy_socket_of_libcurls_own_stays_watched() {
    let t = Test::on(0x081400);
    t.start(1);
    t.play(|driver| driver.socket_wanted(easy(99), 6, Events::IN));
    turn(&t.driver);
    // It is empty again after each event.
    for _ in 0..1000 {
        assert!(poll_ready(&t.driver, 6));
    }
    // Or libcurl speaks of it just when it would be enough.
    world(|w| w.always_ready.insert(6));
    for events in 0..1000 {
        if events % 64 == 0 {
            t.play(|driver| driver.socket_wanted(easy(99), 6, Events::IN));
        }
        assert!(poll_ready(&t.driver, 6));
    }
}

/// How many of 100 turns in which libcurl asks for 0 ms are called at once.
fn hurries(t: &Test) -> usize {
    for _ in 0..200 {
        t.play(|driver| driver.timer_wanted(0));
    }
    let turns = (0..100).take_while(|_| turn(&t.driver)).count();
    world(|w| w.plays.clear());
    turns
}

#[test]
fn a_libcurl_that_hurries_for_a_paused_transfer_is_put_off() {
    // S26, curl#21671.
    let t = Test::on(0x080a00);
    let one = t.start(1);
    assert_eq!(hurries(&t), 100, "nothing is paused");
    t.driver.pause(one, 1).unwrap();
    world(|w| w.calls.clear());
    assert_eq!(hurries(&t), 17);
    assert_eq!(world(|w| w.count(&Call::TimerStart(11))), 1);
    // The time has come: one call, and the next wait.
    let timer = world(|w| *w.timers.iter().find(|(_, ms)| **ms == Some(11)).unwrap().0);
    world(|w| {
        w.calls.clear();
        w.now_ns = 11_000_000;
        w.loop_ms = 11;
    });
    t.play(|driver| driver.timer_wanted(0));
    t.driver.timer_due(timer);
    assert_eq!(world(|w| w.count(&Call::Act(Action::Timeout))), 1);
    assert_eq!(world(|w| w.count(&Call::TimerStart(11))), 1);
    assert!(!turn(&t.driver));
    // A resumed one is served at once.
    t.driver.pause(one, 0).unwrap();
    t.driver.timer_wanted(0);
    assert_eq!(hurries(&t), 100);
    drop(t);

    let t = Test::on(0x081500);
    let one = t.start(1);
    t.driver.pause(one, 1).unwrap();
    assert_eq!(hurries(&t), 100, "this version has not that bug");
}

#[test]
fn a_libcurl_that_hurries_for_a_transfer_that_a_callback_has_paused_is_put_off() {
    // S26: nobody knows of the pause, so that nothing must move for a long while.
    let t = Test::on(0x080a00);
    let one = t.start(1);
    let hurry = |moves: u64| {
        t.play(move |driver| {
            world(|w| *w.moved.entry(one).or_default() += moves);
            driver.timer_wanted(0);
        });
        turn(&t.driver)
    };
    for _ in 0..255 {
        assert!(hurry(0));
    }
    for _ in 0..1_000 {
        assert!(hurry(1));
    }
    // One call more, for what had moved before it.
    assert_eq!((0..1_000).take_while(|_| hurry(0)).count(), 1);
    assert_eq!(world(|w| w.count(&Call::TimerStart(11))), 1);
}

#[test]
fn connections_that_close_are_seen_to_on_the_libcurl_that_forgets_them() {
    // curl#22282.
    for (libcurl, action) in [(0x081500, Action::Everything), (0x081600, Action::Timeout)] {
        let t = Test::on(libcurl);
        t.running(1, 5);
        t.pass(400);
        world(|w| w.calls.clear());
        for _ in 0..10 {
            t.pass(1_000);
            poll_ready(&t.driver, 5);
        }
        // Every five seconds; each second it is the deadline's turn.
        let everything = world(|w| w.count(&Call::Act(Action::Everything)));
        let wanted = if action == Action::Everything { 2 } else { 0 };
        assert_eq!(everything, wanted, "{libcurl:x}");
        assert_eq!(
            world(|w| w.count(&Call::Act(Action::Timeout))),
            10 - everything
        );
    }
}

#[test]
fn a_timer_never_fires_early() {
    // R7, S7: the loop's time is 300 ms old.
    let t = Test::new();
    world(|w| {
        w.now_ns = 1_300_700_000;
        w.loop_ms = 1_000;
    });
    t.start(1);
    t.play(|driver| driver.timer_wanted(50));
    turn(&t.driver);
    assert_eq!(world(|w| w.count(&Call::TimerStart(50 + 300 + 1))), 1);
}

#[test]
fn a_timer_that_is_early_enough_goes_on() {
    let t = Test::new();
    t.start(1);
    let at = |ms: u64| {
        world(|w| {
            w.calls.clear();
            w.now_ns = ms * 1_000_000;
            w.loop_ms = ms;
        });
    };
    let starts = || {
        world(|w| {
            let of = |call: &Call| match call {
                Call::TimerStart(ms) => Some(*ms),
                _ => None,
            };
            w.calls.iter().filter_map(of).collect::<Vec<_>>()
        })
    };
    at(0);
    t.play(|driver| driver.timer_wanted(100));
    turn(&t.driver);
    let timer = world(|w| *w.timers.iter().find(|(_, ms)| **ms == Some(101)).unwrap().0);
    // Later deadlines, as with each new transfer; then an earlier one.
    at(10);
    t.driver.timer_wanted(100);
    t.driver.timer_wanted(0);
    t.driver.timer_wanted(120);
    assert_eq!(starts(), []);
    t.driver.timer_wanted(50);
    assert_eq!(starts(), [51]);
    t.driver.timer_wanted(80);
    assert_eq!(starts(), [51]);
    // It fires at 61 for a deadline at 90: libcurl is not called before that.
    at(61);
    t.driver.timer_due(timer);
    assert!(!turn(&t.driver));
    assert_eq!(world(|w| w.calls.clone()), [Call::TimerStart(30)]);
    at(91);
    t.driver.timer_due(timer);
    assert_eq!(world(|w| w.count(&Call::Act(Action::Timeout))), 1);
}

#[test]
fn deadlines_are_stopped_replaced_and_may_be_huge() {
    // S4.
    let t = Test::new();
    t.start(1);
    t.play(|driver| driver.timer_wanted(i64::MAX));
    turn(&t.driver);
    let set = |w: &mut World| {
        w.timers
            .values()
            .filter(|ms| ms.is_some_and(|ms| ms != 1_000))
            .count()
    };
    assert_eq!(world(set), 1);
    t.start(2);
    t.play(|driver| driver.timer_wanted(-1));
    assert!(turn(&t.driver));
    assert!(!turn(&t.driver), "none is not now");
    assert_eq!(world(set), 0);
}

#[test]
fn a_forgotten_deadline_is_asked_for() {
    // R8, S9: libcurl 8.10 has a deadline and does not say so.
    let t = Test::new();
    t.start(1);
    world(|w| w.timeout = 77);
    turn(&t.driver);
    assert_eq!(world(|w| w.count(&Call::TimerStart(78))), 1);
}

#[test]
fn a_deadline_that_was_told_is_not_asked_for() {
    let t = Test::new();
    t.start(1);
    world(|w| w.timeout = 77);
    t.play(|driver| driver.timer_wanted(100));
    turn(&t.driver);
    assert_eq!(world(|w| w.count(&Call::TimerStart(101))), 1);
    assert_eq!(world(|w| w.count(&Call::TimerStart(78))), 0);
}

#[test]
fn zero_milliseconds_wait_for_no_timer_and_run_once_a_turn() {
    // S5, and libuv before 1.48: each continuation is a turn of the loop of its own.
    let t = Test::new();
    t.start(1);
    for _ in 0..10 {
        t.play(|driver| driver.timer_wanted(0));
    }
    for _ in 0..10 {
        assert!(turn(&t.driver));
    }
    assert_eq!(world(|w| w.count(&Call::Act(Action::Timeout))), 10);
    assert_eq!(world(|w| w.count(&Call::TimerStart(0))), 0);
}

#[test]
fn timeouts_behind_a_connection_limit_are_served() {
    // S10.
    let t = Test::new();
    t.running(1, 5);
    t.start(2);
    world(|w| w.pending = 1);
    t.play(|driver| driver.timer_wanted(500));
    turn(&t.driver);
    world(|w| {
        w.calls.clear();
        w.now_ns = 400_000_000;
    });
    poll_ready(&t.driver, 5);
    assert_eq!(
        world(|w| w.count(&Call::Act(Action::Ready(5, Events::IN)))),
        1
    );
    // In between libcurl asks for 0 ms, which must not make the deadline forgotten.
    t.play(|driver| driver.timer_wanted(0));
    poll_ready(&t.driver, 5);
    world(|w| w.now_ns = 498_000_000);
    poll_ready(&t.driver, 5);
    assert_eq!(world(|w| w.count(&Call::Act(Action::Everything))), 1);
    // And once it has passed, the next one is not known before libcurl tells.
    world(|w| w.now_ns = 501_000_000);
    poll_ready(&t.driver, 5);
    t.play(|driver| driver.timer_wanted(500));
    poll_ready(&t.driver, 5);
    poll_ready(&t.driver, 5);
    assert_eq!(world(|w| w.count(&Call::Act(Action::Everything))), 3);
}

#[test]
fn calls_before_the_deadline_and_for_everything_lose_no_timeout() {
    let t = Test::new();
    t.running(1, 5);
    t.play(|driver| driver.timer_wanted(500));
    poll_ready(&t.driver, 5);
    world(|w| w.pending = 1);
    for (ms, everything) in [(100, 0), (496, 1), (501, 2)] {
        world(|w| w.now_ns = ms * 1_000_000);
        poll_ready(&t.driver, 5);
        let count = world(|w| w.count(&Call::Act(Action::Everything)));
        assert_eq!(count, everything, "{ms}");
        assert!(!t.driver.pending.is_suspect(), "{ms}");
    }
}

#[test]
fn timeouts_lost_in_a_long_call_are_made_up_for() {
    // S10: a callback of the host's blocks until after the deadline of transfers that are held back.
    let t = Test::new();
    t.running(1, 5);
    t.start(2);
    world(|w| w.pending = 100);
    t.play(|driver| driver.timer_wanted(1_500));
    turn(&t.driver);
    t.play(|_| world(|w| w.now_ns = 1_600_000_000));
    poll_ready(&t.driver, 5);
    let again = || {
        world(|w| {
            w.timers
                .iter()
                .find(|(_, ms)| **ms == Some(100))
                .map(|(id, _)| *id)
        })
    };
    t.driver.timer_due(again().expect("a round is due"));
    assert_eq!(world(|w| w.count(&Call::TryPending(64))), 1);
    assert!(turn(&t.driver));
    assert_eq!(world(|w| w.count(&Call::TryPending(36))), 1);
    assert!(!turn(&t.driver), "nothing is left to try");
    assert_eq!(again(), None, "nor is anything suspected");
}

#[test]
fn messages_are_all_read_before_any_handle_is_removed() {
    // R10: removing searches what is left of the list, so N messages would cost N * N.
    let t = Test::new();
    let all: Vec<Easy> = (1..=50).map(|number| t.start(number)).collect();
    let list = all.clone();
    t.play(move |_| {
        for easy in list {
            world(|w| w.finish(easy, 0));
        }
    });
    world(|w| {
        w.remove_plays.push_back(Box::new(|_| {
            world(|w| assert_eq!(w.messages_left(), 0));
        }));
    });
    turn(&t.driver);
    assert_eq!(t.reports().len(), 50);
}

#[test]
fn a_done_callback_may_do_anything() {
    // S31, S35: start the same handle again, cancel others that have ended too, close.
    let t = Test::new();
    let (one, two) = (t.start(1), t.start(2));
    t.driver.cancel(two).unwrap();
    turn(&t.driver);
    let three = easy(3);
    let reports = Rc::clone(&t.reports);
    let again = t.done();
    let closed = Rc::clone(&t.closed);
    let done = DoneFn(Rc::new(move |driver, easy, status| {
        reports.borrow_mut().push((easy, status));
        assert_eq!(driver.cancel(one), Err(error::EALREADY));
        assert_eq!(driver.start(three, again.clone()), Ok(()));
        let closed = Rc::clone(&closed);
        driver.close(CloseFn(Some(Box::new(move || {
            closed.set(closed.get() + 1)
        }))));
        assert_eq!(driver.start(easy, again.clone()), Err(error::ECANCELED));
    }));
    t.driver.start(three, done).unwrap();
    t.play(move |_| {
        world(|w| {
            w.finish(three, 0);
            w.finish(one, 0);
        });
    });
    turn(&t.driver);
    let canceled = error::ECANCELED;
    assert_eq!(t.reports(), [(two, canceled), (three, 0)]);
    run_closing(&t.driver);
    // One had ended before the driver was closed, so its own result is reported.
    assert_eq!(t.reports()[2..], [(one, 0), (three, canceled)]);
    assert_eq!(t.closed.get(), 1);
}

#[test]
fn close_inside_libcurl_waits_for_libcurl() {
    let t = Test::new();
    let one = t.running(1, 5);
    let two = t.start(2);
    let closed = Rc::clone(&t.closed);
    t.play(move |driver| {
        let count = Rc::clone(&closed);
        driver.close(CloseFn(Some(Box::new(move || count.set(count.get() + 1)))));
        assert_eq!(driver.cancel(one), Err(error::ECANCELED));
        assert_eq!(world(|w| w.count(&Call::Cleanup)), 0);
    });
    poll_ready(&t.driver, 5);
    assert_eq!(world(|w| w.count(&Call::Cleanup)), 1);
    assert_eq!(t.reports(), []);
    t.close();
    run_closing(&t.driver);
    let canceled = error::ECANCELED;
    assert_eq!(t.reports(), [(one, canceled), (two, canceled)]);
    assert_eq!(t.closed.get(), 1);
}

#[test]
fn poll_handles_go_before_libcurl_closes_their_sockets() {
    // R16: under UVCURL_EASY_UNTOUCHED nothing tells of the descriptors that cleanup closes.
    let t = Test::new();
    t.running(1, 5);
    world(|w| {
        w.cleanup_plays
            .push_back(Box::new(|_| world(|w| w.close_socket(5))));
    });
    t.close();
    run_closing(&t.driver);
    assert_eq!(t.closed.get(), 1);
}

#[test]
fn a_cancel_that_libcurl_refused_is_reported_by_close() {
    let t = Test::new();
    let one = t.running(1, 5);
    world(|w| w.set_inside(true));
    t.driver.cancel(one).unwrap();
    world(|w| {
        w.violations.clear();
        w.set_inside(false);
    });
    t.close();
    run_closing(&t.driver);
    assert_eq!(t.reports(), [(one, error::ECANCELED)]);
    assert_eq!(world(|w| w.count(&Call::Release(one))), 1);
}

#[test]
fn what_has_ended_keeps_its_own_result() {
    // In one call one transfer ends, and then the host closes the driver, or libcurl fails as a whole.
    let t = Test::new();
    let one = t.running(1, 5);
    let two = t.running(2, 6);
    t.play(move |_| {
        world(|w| {
            w.finish(one, 0);
            w.act_error = Some(error::UVCURL_E_MULTI);
        });
    });
    poll_ready(&t.driver, 5);
    assert_eq!(t.reports(), [(one, 0), (two, error::UVCURL_E_MULTI)]);
    let three = t.running(3, 7);
    let four = t.start(4);
    t.play(move |driver| {
        world(|w| w.finish(three, 0));
        driver.close(CloseFn::none());
    });
    poll_ready(&t.driver, 7);
    run_closing(&t.driver);
    assert_eq!(t.reports()[2..], [(three, 0), (four, error::ECANCELED)]);
}

#[test]
fn a_socket_that_fails_ends_no_later_start_of_the_same_handle() {
    let t = Test::new();
    let one = t.running(1, 5);
    t.play(move |_| world(|w| w.finish(one, 0)));
    poll_ready(&t.driver, 5);
    // Another transfer still uses the socket; the handle is on to something else.
    assert_eq!(t.start(1), one);
    for _ in 0..100 {
        poll_error(&t.driver, 5, -9);
    }
    assert_eq!(t.reports(), [(one, 0)]);
}

#[test]
fn what_is_asked_for_while_a_kept_pause_is_tried_is_done() {
    let t = Test::new();
    let one = t.start(1);
    let two = t.running(2, 6);
    let no_connection = curl_sys::CURLE_BAD_FUNCTION_ARGUMENT as i32;
    world(|w| {
        w.pause_error.push_back(no_connection);
        w.pause_error.push_back(23);
        // The pause fails, the handle is removed, and its progress callback cancels another.
        w.remove_plays.push_back(Box::new(move |driver| {
            driver.cancel(two).unwrap();
        }));
    });
    t.driver.pause(one, 1).unwrap();
    poll_ready(&t.driver, 6);
    assert_eq!(t.reports(), [(one, 23), (two, error::ECANCELED)]);
}

#[test]
fn a_pause_of_a_queued_start_is_kept() {
    let t = Test::new();
    world(|w| w.set_inside(true));
    let one = t.start(1);
    t.driver.pause(one, 1).unwrap();
    world(|w| {
        w.violations.clear();
        w.set_inside(false);
        w.calls.clear();
    });
    turn(&t.driver);
    turn(&t.driver);
    assert_eq!(world(|w| w.count(&Call::Pause(one, 1))), 1);

    // A running one that libcurl cannot be asked about now, either way.
    world(|w| w.set_inside(true));
    t.driver.pause(one, 0).unwrap();
    world(|w| {
        w.violations.clear();
        w.set_inside(false);
    });
    assert!(turn(&t.driver));
    assert_eq!(world(|w| w.count(&Call::Pause(one, 0))), 1);
    assert_eq!(t.reports(), []);
}

#[test]
fn a_settled_status_stays() {
    // Cancelled inside libcurl, and then libcurl fails as a whole before the cancel is carried out.
    let t = Test::new();
    let one = t.running(1, 5);
    let two = t.running(2, 6);
    t.play(move |driver| {
        driver.cancel(one).unwrap();
        world(|w| w.act_error = Some(error::UVCURL_E_MULTI));
    });
    poll_ready(&t.driver, 5);
    let mut reports = t.reports();
    reports.sort_by_key(|(easy, _)| easy.0 as usize);
    assert_eq!(
        reports,
        [(one, error::ECANCELED), (two, error::UVCURL_E_MULTI)]
    );
}

#[test]
fn sockets_reported_during_cleanup_are_ignored() {
    // S40: old versions announce sockets while the multi handle goes; the callbacks are gone by then.
    let t = Test::new();
    t.running(1, 5);
    world(|w| {
        w.cleanup_plays.push_back(Box::new(|driver| {
            driver.socket_closing(5);
            world(|w| w.close_socket(5));
        }));
    });
    t.close();
    run_closing(&t.driver);
    assert_eq!(t.closed.get(), 1);
}

#[test]
fn a_pause_before_there_is_a_connection_is_kept() {
    let t = Test::new();
    let one = t.start(1);
    let no_connection = curl_sys::CURLE_BAD_FUNCTION_ARGUMENT as i32;
    world(|w| w.pause_error.extend([no_connection, no_connection]));
    assert_eq!(t.driver.pause(one, 1), Ok(()));
    turn(&t.driver);
    assert_eq!(world(|w| w.count(&Call::Pause(one, 1))), 2, "in vain");
    t.driver.turned();
    t.driver.turned();
    assert_eq!(
        world(|w| w.count(&Call::Pause(one, 1))),
        3,
        "it has taken effect"
    );
}

#[test]
fn a_write_that_fails_while_resuming_is_the_result() {
    // R14: curl_easy_pause runs the write callback and returns its failure.
    let t = Test::new();
    let one = t.running(1, 5);
    world(|w| w.pause_error.push_back(23));
    assert_eq!(t.driver.pause(one, 0), Ok(()));
    turn(&t.driver);
    assert_eq!(t.reports(), [(one, 23)]);
}

#[test]
fn a_broken_multi_handle_fails_its_transfers_and_goes_on() {
    // R23.
    let t = Test::new();
    let one = t.running(1, 5);
    let two = t.start(2);
    world(|w| w.act_error = Some(error::UVCURL_E_MULTI));
    turn(&t.driver);
    let broken = error::UVCURL_E_MULTI;
    assert_eq!(t.reports(), [(one, broken), (two, broken)]);
    let three = t.start(3);
    t.play(move |_| world(|w| w.finish(three, 0)));
    turn(&t.driver);
    assert_eq!(t.reports()[2..], [(three, 0)]);
}

#[test]
fn a_driver_that_has_panicked_fails_its_transfers_and_takes_no_more() {
    let t = Test::new();
    let one = t.running(1, 5);
    t.driver.panicked();
    let internal = error::UVCURL_E_INTERNAL;
    assert_eq!(t.driver.start(easy(2), t.done()), Err(internal));
    assert!(turn(&t.driver));
    assert_eq!(t.reports(), [(one, internal)]);
}

#[test]
fn a_loop_run_inside_libcurl_loses_nothing() {
    // S44: a write callback that runs the loop. Timers that fire and errors that come then are served afterwards.
    let t = Test::new();
    let one = t.running(1, 5);
    t.running(2, 6);
    t.play(|driver| driver.timer_wanted(10));
    poll_ready(&t.driver, 5);
    let timer = world(|w| *w.timers.iter().find(|(_, ms)| **ms == Some(11)).unwrap().0);
    world(|w| w.now_ns = 11_000_000);
    t.play(move |driver| {
        driver.timer_due(timer);
        poll_error(driver, 6, -9);
        assert!(poll_ready(driver, 5));
        driver.turned();
    });
    world(|w| w.calls.clear());
    poll_ready(&t.driver, 5);
    assert!(world(|w| w.watched(6)).is_some(), "watched again");
    t.play(move |_| world(|w| w.finish(one, 28)));
    assert!(turn(&t.driver));
    assert_eq!(t.reports(), [(one, 28)]);
}

#[test]
fn a_call_of_the_hosts_own_into_libcurl_is_waited_for() {
    // A write callback below the host's own curl_easy_pause() cancels: libcurl refuses, so the report waits.
    let t = Test::new();
    let one = t.running(1, 5);
    world(|w| w.set_inside(true));
    t.driver.cancel(one).unwrap();
    world(|w| {
        w.violations.clear();
        w.set_inside(false);
    });
    assert_eq!(t.reports(), []);
    assert!(turn(&t.driver));
    assert_eq!(t.reports(), [(one, error::ECANCELED)]);

    // The same for a start.
    world(|w| w.set_inside(true));
    let two = t.start(2);
    world(|w| {
        w.violations.clear();
        w.set_inside(false);
    });
    assert!(!world(|w| w.is_added(two)));
    assert!(turn(&t.driver));
    assert!(world(|w| w.is_added(two)));

    // And for one that has ended: libcurl has said so, and does not let go of it yet.
    let (three, four) = (t.running(3, 6), t.running(4, 7));
    t.play(move |_| world(|w| w.finish(three, 0)));
    poll_ready_among_others(&t.driver, 6);
    world(|w| w.set_inside(true));
    t.driver.cancel(four).unwrap();
    world(|w| {
        w.violations.clear();
        w.set_inside(false);
    });
    assert!(world(|w| w.is_added(three)));
    polled(&t.driver);
    turn(&t.driver);
    assert_eq!(
        t.reports()[1..],
        [(three, 0), (four, error::ECANCELED)],
        "once each"
    );
    assert!(!world(|w| w.is_added(three)));

    // And for the end of the driver.
    t.driver.set_referenced(false);
    world(|w| w.set_inside(true));
    t.close();
    assert_eq!(world(|w| w.count(&Call::Cleanup)), 0);
    world(|w| w.set_inside(false));
    assert!(world(|w| w.held));
    assert!(turn(&t.driver));
    assert_eq!(world(|w| w.count(&Call::Cleanup)), 1);
    run_closing(&t.driver);
    assert_eq!(t.closed.get(), 1);
}

#[test]
fn a_cancel_below_a_call_of_the_hosts_own_needs_no_memory() {
    let t = Test::new();
    let one = t.running(1, 5);
    world(|w| w.set_inside(true));
    let cancelled = without_memory(|| t.driver.cancel(one));
    world(|w| {
        w.violations.clear();
        w.set_inside(false);
    });
    assert_eq!(cancelled, Ok(()));
    assert!(turn(&t.driver));
    assert_eq!(t.reports(), [(one, error::ECANCELED)]);
}

#[test]
fn reports_that_make_new_ones_leave_the_loop_its_turn() {
    // S32: each done callback starts and cancels another; one turn reports one.
    let t = Test::new();
    let count = Rc::new(Cell::new(0));
    let own = Rc::new(RefCell::new(None::<DoneFn>));
    let (counted, next) = (Rc::clone(&count), Rc::clone(&own));
    let done = DoneFn(Rc::new(move |driver, easy, _| {
        counted.set(counted.get() + 1);
        if counted.get() < 1_000 {
            let done = next.borrow().clone().unwrap();
            driver.start(easy, done).unwrap();
            driver.cancel(easy).unwrap();
        }
    }));
    *own.borrow_mut() = Some(done.clone());
    t.driver.start(easy(1), done).unwrap();
    t.driver.cancel(easy(1)).unwrap();
    for turns in 1..=1_000 {
        assert!(turn(&t.driver));
        assert_eq!(count.get(), turns);
    }
    assert!(!turn(&t.driver));
    own.borrow_mut().take();
}

#[test]
fn statuses_have_names_and_texts() {
    let (name, text) = error::own(error::UVCURL_E_WRONG_THREAD).unwrap();
    assert_eq!(name, c"UVCURL_E_WRONG_THREAD");
    assert!(!text.is_empty());
    assert!(error::own(-1).is_none());
    assert_eq!(error::curl_name(28), Some(c"CURLE_OPERATION_TIMEDOUT"));
    assert_eq!(error::curl_name(40), None);
    assert_eq!(error::curl_name(-28), None);
}

#[test]
fn messages_of_one_poll_are_read_together() {
    let t = Test::new();
    let easies = [t.running(1, 5), t.running(2, 6), t.running(3, 7)];
    for (socket, easy) in (5..).zip(easies) {
        t.play(move |_| world(|w| w.finish(easy, 0)));
        poll_ready_among_others(&t.driver, socket);
    }
    assert_eq!(t.reports(), []);
    assert_eq!(world(|w| w.messages_left()), 3);
    polled(&t.driver);
    assert_eq!(t.reports(), easies.map(|easy| (easy, 0)));
    assert!(!world(|w| w.check), "nothing more to come");
}

#[test]
fn a_long_poll_is_not_waited_for() {
    let t = Test::new();
    let sockets = 10..210;
    for socket in sockets.clone() {
        t.running(socket as usize, socket);
    }
    let mut told = 0;
    let mut most = 0;
    for (count, socket) in (1..).zip(sockets) {
        let easy = easy(socket as usize);
        t.play(move |_| world(|w| w.finish(easy, 0)));
        poll_ready_among_others(&t.driver, socket);
        let reports = t.reports().len();
        if reports > told {
            told = reports;
            assert_eq!(told, count, "all that have ended by now");
        }
        most = most.max(count - told);
    }
    assert!((1..200).contains(&most), "{most}");
    polled(&t.driver);
    assert_eq!(t.reports().len(), 200);
}

#[test]
fn what_is_asked_for_inside_libcurl_does_not_wait_for_the_check() {
    let t = Test::new();
    let (_, second) = (t.running(1, 5), t.running(2, 6));
    t.play(move |driver| driver.cancel(second).unwrap());
    poll_ready_among_others(&t.driver, 5);
    assert_eq!(world(|w| w.count(&Call::Remove(second))), 1);
}

#[test]
fn a_cancel_finds_out_what_nobody_has_read() {
    let t = Test::new();
    let (first, second) = (t.running(1, 5), t.running(2, 6));
    t.play(move |_| world(|w| w.finish(first, 0)));
    poll_ready_among_others(&t.driver, 5);
    assert_eq!(t.driver.cancel(first), Err(error::EALREADY));
    assert_eq!(t.driver.pause(first, 0), Err(error::EALREADY));
    assert_eq!(t.driver.cancel(second), Ok(()));
    polled(&t.driver);
    assert_eq!(t.reports(), [(first, 0), (second, error::ECANCELED)]);
}

#[test]
fn the_check_waits_while_libcurl_is_on_the_stack() {
    let t = Test::new();
    let (first, _) = (t.running(1, 5), t.running(2, 6));
    t.play(move |_| world(|w| w.finish(first, 0)));
    poll_ready_among_others(&t.driver, 5);
    // The host runs the loop inside a callback of libcurl's.
    t.play(polled);
    poll_ready_among_others(&t.driver, 6);
    assert_eq!(t.reports(), []);
    polled(&t.driver);
    assert_eq!(t.reports(), [(first, 0)]);
}

#[test]
fn without_a_check_handle_messages_are_read_at_once() {
    // A host that walked the loop has closed it (S43).
    let t = Test::new();
    let easy = t.running(1, 5);
    world(|w| w.check_closed = true);
    t.play(move |_| world(|w| w.finish(easy, 0)));
    poll_ready_among_others(&t.driver, 5);
    assert_eq!(t.reports(), [(easy, 0)]);
}

#[test]
fn a_limit_of_connections_that_libcurl_refuses_is_told_later() {
    // It is on the stack below a call of the host's own.
    let t = Test::new();
    world(|w| w.set_inside(true));
    t.driver.set_max_connects(Some(5)).unwrap();
    world(|w| {
        w.violations.clear();
        w.set_inside(false);
        w.calls.clear();
    });
    t.start(1);
    assert_eq!(world(|w| w.count(&Call::MaxConnects(5))), 1);
}

#[test]
fn a_driver_is_handed_over_until_it_is_settled() {
    let t = Test::new();
    assert_eq!(t.driver.me(), &*t.driver as *const Driver);
    assert!(t.driver.is_marked());
    assert!(t.driver.is_on(1) && !t.driver.is_on(2));
    assert!(!t.driver.settle_on(1, false));
    assert!(!t.driver.is_settled());
    assert!(t.driver.settle_on(2, false));
    assert!(t.driver.is_on(2) && !t.driver.is_settled());
    assert!(t.driver.settle_on(3, true));
    assert!(t.driver.is_on(3) && t.driver.is_settled());
    assert!(!t.driver.settle_on(3, false));
    assert!(t.driver.is_settled());
}

#[test]
fn in_a_loop_that_a_callback_runs_no_handle_is_left_over() {
    // The outer loop may poll next, without its idle handles.
    for (frames, closes) in [(1, 0), (2, 1)] {
        let t = Test::new();
        let one = connected(&t, 1, 5);
        t.driver.frames().set(frames);
        t.play(move |driver| {
            driver.socket_closing(5);
            assert_eq!(world(|w| w.count(&Call::PollClose(5))), closes);
            world(|w| {
                w.close_socket(5);
                w.finish(one, 0);
            });
        });
        poll_ready(&t.driver, 5);
        t.driver.frames().set(0);
        turn(&t.driver);
        assert_eq!(world(|w| w.count(&Call::PollClose(5))), 1);
    }
}

#[test]
fn a_start_that_can_neither_be_made_nor_noted_fails() {
    // libcurl is on the stack below a call of the host's own, and there is no memory to do it later.
    let t = Test::new();
    let one = t.running(1, 5);
    finish(&t, one, 5);
    world(|w| w.set_inside(true));
    let done = t.done();
    let started = without_memory(|| t.driver.start(easy(2), done));
    world(|w| {
        w.violations.clear();
        w.set_inside(false);
    });
    assert_eq!(started, Err(error::ENOMEM));
    assert_eq!(t.driver.active(), 0);
}

#[test]
fn what_a_cancel_brings_about_is_done_with_it() {
    // Progress callbacks that run while libcurl lets go of a transfer: a request that is carried out asks for another,
    let t = Test::new();
    let (_, two, three) = (t.running(1, 5), t.running(2, 6), t.running(3, 7));
    let cancel = |w: &mut World, easy| {
        w.remove_plays
            .push_back(Box::new(move |driver| driver.cancel(easy).unwrap()));
    };
    world(|w| cancel(w, three));
    t.play(move |driver| driver.cancel(two).unwrap());
    poll_ready(&t.driver, 5);
    let canceled = error::ECANCELED;
    assert_eq!(t.reports(), [(two, canceled), (three, canceled)]);

    // so does the end of one, where a socket has been announced,
    let (four, five) = (t.running(4, 8), t.running(5, 9));
    t.play(|driver| driver.timer_wanted(100));
    poll_ready(&t.driver, 5);
    world(|w| {
        w.now_ns += 101_000_000;
        cancel(w, five);
    });
    t.play(move |driver| {
        driver.socket_wanted(five, 10, Events::IN);
        world(|w| w.finish(four, 0));
    });
    let timer = world(|w| *w.timers.iter().find(|(_, ms)| **ms == Some(101)).unwrap().0);
    t.driver.timer_due(timer);
    assert_eq!(t.reports()[2..], [(four, 0), (five, canceled)]);

    // and the end of one whose socket cannot be watched ends another.
    let (six, seven) = (t.start(6), t.running(7, 12));
    world(|w| {
        w.poll_init_error.insert(11, error::ENOMEM);
        w.remove_plays
            .push_back(Box::new(move |_| world(|w| w.finish(seven, 0))));
    });
    t.play(move |driver| driver.socket_wanted(six, 11, Events::IN));
    poll_ready(&t.driver, 5);
    assert_eq!(t.reports()[4..], [(six, error::ENOMEM), (seven, 0)]);
}
