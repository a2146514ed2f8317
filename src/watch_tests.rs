//! Silence over the fake libraries: ticks, looks, stalls and what is said of them.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::error;
use crate::model::alloc::without_memory;
use crate::sys::fake::{poll_ready, poll_ready_among_others, polled, turn, world, Call};
use crate::sys::{Action, Easy, Events, Flow, LogFn, Progress, Socket};
use crate::tests::{connected, easy, finish, Test};

fn everything() -> usize {
    world(|w| w.count(&Call::Act(Action::Everything)))
}

fn looks(socket: Socket) -> usize {
    world(|w| w.count(&Call::Act(Action::Look(socket))))
}

/// A transfer that wants nothing any more, as a paused one does.
fn without_socket(t: &Test, number: usize, socket: Socket) -> Easy {
    let easy = t.running(number, socket);
    t.play(move |driver| driver.socket_wanted(easy, socket, Events::NONE));
    poll_ready(&t.driver, socket);
    easy
}

type Lines = Rc<RefCell<Vec<String>>>;

fn log(t: &Test) -> Lines {
    let lines = Lines::default();
    let heard = Rc::clone(&lines);
    let log = LogFn(Rc::new(move |_, line| {
        heard.borrow_mut().push(line.to_owned())
    }));
    t.driver.set_log(Some(log)).unwrap();
    lines
}

#[test]
fn a_silent_socket_is_looked_at_once_a_second_and_a_lively_one_never() {
    let t = Test::new();
    t.running(1, 5);
    t.running(2, 6);
    t.pass(1_000);
    world(|w| w.calls.clear());
    for _ in 0..50 {
        world(|w| w.loop_ms += 100);
        poll_ready(&t.driver, 6);
        if world(|w| w.loop_ms % 1_000) == 0 {
            t.pass(0);
        }
    }
    assert_eq!((looks(5), looks(6)), (5, 0));
    assert_eq!(everything(), 0, "both have a socket");
}

#[test]
fn a_transfer_without_socket_is_run_once_a_second() {
    // S37: what it may have is a progress callback.
    let t = Test::new();
    without_socket(&t, 1, 5);
    t.pass(1_000);
    assert_eq!(everything(), 0, "it may have been started just now");
    for _ in 0..10 {
        t.pass(1_000);
    }
    assert_eq!(everything(), 10);
    assert_eq!(t.driver.counters.ticks.get(), 10);
}

#[test]
fn nothing_is_run_while_transfers_are_quick() {
    let t = Test::new();
    for number in 1..=20 {
        let easy = without_socket(&t, number, 5);
        t.pass(1_000);
        t.play(move |_| world(|w| w.finish(easy, 0)));
        t.driver.timer_wanted(0);
        turn(&t.driver);
    }
    assert_eq!(everything(), 0);
}

#[test]
fn transfers_behind_a_limit_are_not_run_in_vain() {
    let t = Test::new();
    t.running(1, 5);
    t.start(2);
    t.start(3);
    turn(&t.driver);
    world(|w| w.pending = 2);
    for _ in 0..5 {
        t.pass(1_000);
    }
    assert_eq!(everything(), 0);
    world(|w| w.pending = 1);
    t.pass(1_000);
    assert_eq!(everything(), 1);
}

#[test]
fn transfers_behind_a_limit_are_tried_again_now_and_then() {
    // libcurl has no timer for the 300 s within which they have to be connected.
    let t = Test::new();
    t.running(1, 5);
    t.start(2);
    t.play(|driver| driver.timer_wanted(-1));
    turn(&t.driver);
    for (pending, tries) in [(0, 0), (1, 4)] {
        world(|w| w.pending = pending);
        for _ in 0..60 {
            t.pass(1_000);
            turn(&t.driver);
        }
        assert_eq!(world(|w| w.count(&Call::TryPending(1))), tries);
    }
}

#[test]
fn two_sockets_of_one_transfer_count_once() {
    let t = Test::new();
    let one = t.running(1, 5);
    t.play(move |driver| driver.socket_wanted(one, 6, Events::IN));
    poll_ready(&t.driver, 5);
    without_socket(&t, 2, 7);
    t.pass(1_000);
    t.pass(1_000);
    assert_eq!(everything(), 1);
}

#[test]
fn a_call_for_everything_takes_no_more_than_its_share() {
    let t = Test::new();
    without_socket(&t, 1, 5);
    t.pass(1_000);
    // 4 ms: 120 ms later the next one may come. 100 ms: not within 3 seconds, and not while that is what to expect.
    world(|w| w.everything_ns = 4_000_000);
    for _ in 0..5 {
        t.pass(1_000);
    }
    assert_eq!(everything(), 5);
    world(|w| w.everything_ns = 100_000_000);
    t.pass(1_000);
    assert_eq!(everything(), 6);
    for _ in 0..20 {
        t.pass(1_000);
    }
    assert_eq!(everything(), 6);
    // One slow call is forgiven after a while.
    world(|w| w.everything_ns = 1_000);
    for _ in 0..10 {
        t.pass(1_000);
    }
    assert!(everything() > 6);
}

#[test]
fn so_many_transfers_that_a_call_would_block_are_not_run() {
    let t = Test::new();
    without_socket(&t, 1, 5);
    for number in 2..3_000 {
        t.start(number);
    }
    for _ in 0..100 {
        t.pass(1_000);
    }
    assert_eq!(everything(), 0);
}

#[test]
fn nothing_is_run_where_libcurl_would_serve_the_paused() {
    // 8.9 to 8.14, lib/transfer.c.
    for (libcurl, mask, wanted) in [(0x080900, 1, 0), (0x080900, 0, 3), (0x080f00, 1, 3)] {
        let t = Test::on(libcurl);
        let one = without_socket(&t, 1, 5);
        t.driver.pause(one, mask).unwrap();
        t.pass(1_000);
        for _ in 0..3 {
            t.pass(1_000);
        }
        assert_eq!(everything(), wanted, "{libcurl:x}, {mask}");
    }
}

#[test]
fn the_host_sets_the_interval() {
    let t = Test::new();
    without_socket(&t, 1, 5);
    t.running(2, 6);
    t.driver.set_tick(200).unwrap();
    assert_eq!(
        world(|w| w.calls.last().cloned()),
        Some(Call::TimerStart(200))
    );
    for _ in 0..6 {
        t.pass(200);
    }
    assert_eq!(everything(), 5);
    t.driver.set_tick(0).unwrap();
    world(|w| w.calls.clear());
    t.pass(200);
    assert_eq!(
        world(|w| w.calls.last().cloned()),
        Some(Call::TimerStart(5_000))
    );
    assert_eq!(everything(), 0);
    t.pass(5_000);
    t.pass(5_000);
    assert_eq!(looks(6), 2, "and no more than that");
    assert_eq!(everything(), 0);
}

#[test]
fn looks_at_protocols_with_timeouts_of_their_own_come_close() {
    // S11, curl#23025: each gap is within a tenth of the silence and a tenth of a second.
    let t = Test::new();
    let one = easy(1);
    world(|w| w.untimed.insert(one));
    t.running(1, 5);
    let mut last = 0;
    let start = world(|w| w.loop_ms);
    let (mut found, mut fired) = (0, 0);
    while last < 30_000 {
        let wait = world(|w| w.timers[&w.look_timer()]).unwrap();
        t.pass(wait);
        fired += 1;
        if looks(5) > found {
            found = looks(5);
            let silence = world(|w| w.loop_ms) - start;
            assert!(silence - last <= 100 + last / 10, "{last} to {silence}");
            last = silence;
        }
    }
    assert!(found < 100, "{found} looks in half a minute");
    assert!(fired < 200, "the timer fired {fired} times");
    // A sign of life brings them close again.
    poll_ready(&t.driver, 5);
    assert_eq!(world(|w| w.timers[&w.look_timer()]), Some(40));
    // Unless the host wants none.
    t.driver.set_tick(0).unwrap();
    t.pass(50);
    assert_eq!(world(|w| w.timers[&w.look_timer()]), Some(5_000));
}

#[test]
fn the_soonest_look_of_several_sockets_is_waited_for() {
    let t = Test::new();
    world(|w| w.untimed.extend([easy(1), easy(2)]));
    t.running(1, 5);
    t.running(2, 6);
    let wait = || world(|w| w.timers[&w.look_timer()]).unwrap();
    for _ in 0..20 {
        t.pass(1_000);
    }
    // One has just been looked at, after long silence; the other shows life.
    let before = looks(5);
    for _ in 0..100 {
        if looks(5) == before {
            t.pass(wait());
        }
    }
    assert_eq!(looks(5), before + 1);
    poll_ready(&t.driver, 6);
    t.pass(50);
    assert!((40..60).contains(&wait()), "{}", wait());
}

#[test]
fn idle_connections_are_not_looked_at() {
    let t = Test::new();
    let one = connected(&t, 1, 5);
    finish(&t, one, 5);
    t.running(2, 6);
    for _ in 0..10 {
        t.pass(1_000);
    }
    assert_eq!((looks(5), looks(6)), (0, 10));
}

#[test]
fn while_libcurl_has_a_short_timer_looks_come_close() {
    // It may be the one of CURLOPT_LOW_SPEED_TIME, which each look puts off.
    let t = Test::new();
    world(|w| w.loop_ms = 10_000);
    let one = t.running(1, 5);
    t.play(|driver| driver.timer_wanted(1_000));
    poll_ready(&t.driver, 5);
    assert_eq!(world(|w| w.timers[&w.look_timer()]), Some(40));
    let mut waits = Vec::new();
    for _ in 0..4 {
        let wait = world(|w| w.timers[&w.look_timer()]).unwrap();
        t.pass(wait);
        waits.push(wait);
    }
    assert_eq!(waits[0], 40);
    assert!(
        waits.iter().all(|wait| (40..50).contains(wait)),
        "{waits:?}"
    );
    assert_eq!(looks(5), 4);
    // A timer that is far off is none of that kind, nor is none.
    for ms in [30_000, -1] {
        t.driver.timer_wanted(500);
        t.play(move |driver| driver.timer_wanted(ms));
        t.pass(60);
        t.pass(60);
        assert_eq!(world(|w| w.timers[&w.look_timer()]), Some(1_000), "{ms}");
    }
    // And the host may want none.
    t.driver.timer_wanted(500);
    t.driver.set_tick(0).unwrap();
    t.pass(60);
    t.pass(60);
    assert_eq!(world(|w| w.timers[&w.look_timer()]), Some(5_000));
    t.driver.cancel(one).unwrap();
}

#[test]
fn sockets_of_no_transfer_are_looked_at_now_and_then() {
    let t = Test::new();
    t.running(1, 5);
    t.play(|driver| driver.socket_wanted(easy(99), 6, Events::IN));
    poll_ready(&t.driver, 5);
    for _ in 0..20 {
        t.pass(1_000);
    }
    assert_eq!((looks(5), looks(6)), (20, 4));
}

#[test]
fn a_connecting_transfer_that_libcurl_has_forgotten_is_run_and_told_of() {
    let t = Test::on(0x081000);
    let lines = log(&t);
    let one = without_socket(&t, 1, 5);
    let at = |looked_up, connected| Progress {
        url: "https://me:secret@example.org/x".to_owned(),
        looked_up,
        connected,
        ..Progress::default()
    };
    // Waiting for its name, and what may be paused, is no stall; nor is one that has a timer.
    for progress in [at(false, false), at(true, true)] {
        world(|w| w.progress.insert(one, progress));
        t.pass(1_000);
        t.pass(1_000);
    }
    world(|w| w.progress.insert(one, at(true, false)));
    t.driver.timer_wanted(60_000);
    t.pass(1_000);
    assert_eq!(t.driver.counters.stalls.get(), 0);
    t.driver.timer_wanted(-1);
    // However long that takes.
    world(|w| w.everything_ns = 50_000_000);
    t.pass(1_000);
    t.pass(1_000);
    t.pass(1_000);
    assert_eq!(t.driver.counters.stalls.get(), 1, "once");
    assert_eq!(
        *lines.borrow(),
        [
            "uvcurl: transfer 1 (https://example.org) had neither socket nor timer while it was connecting; looked at all \
             transfers; libcurl 8.16.0 has that bug: connecting to a second address may be forgotten (curl#18815)"
        ]
    );
}

#[test]
fn data_that_wait_inside_libcurl_are_told_of() {
    // curl#17636.
    let t = Test::on(0x080e01);
    let lines = log(&t);
    let one = t.running(1, 5);
    world(|w| w.received.insert(5, 700));
    t.pass(1_000);
    t.pass(1_000);
    assert_eq!(t.driver.counters.stalls.get(), 0);
    // What comes in just then is none.
    t.play(move |_| {
        world(|w| {
            w.moved.insert(one, 10);
            w.received.insert(5, 710);
        });
    });
    t.pass(1_000);
    assert_eq!(t.driver.counters.stalls.get(), 0);
    t.play(move |_| {
        world(|w| w.moved.insert(one, 20));
    });
    t.pass(1_000);
    assert_eq!(t.driver.counters.stalls.get(), 1);
    let heard = lines.borrow().join("");
    assert!(heard.contains("curl#17636"), "{heard}");
    assert!(heard.contains("socket 5"), "{heard}");
}

/// How often socket 5 is looked at, and how many stalls are counted, if its transfer moves data at the look and the socket
/// receives none after it was asked.
fn moves_at_the_look(before: impl FnOnce(&Test)) -> (usize, u64) {
    let t = Test::on(0x080e01);
    let one = t.running(1, 5);
    world(|w| w.received.insert(5, 700));
    before(&t);
    t.play(move |_| {
        world(|w| w.moved.insert(one, 10));
    });
    t.pass(1_000);
    (looks(5), t.driver.counters.stalls.get())
}

#[test]
fn data_that_come_while_it_is_asked_whether_the_socket_is_ready_do_not_wait_inside_libcurl() {
    let comes = |_: &Test| {
        world(|w| w.comes.insert(5, 10));
    };
    assert_eq!(moves_at_the_look(comes), (1, 0));
    assert_eq!(moves_at_the_look(|_| {}), (1, 1));
}

#[test]
fn data_for_which_libcurl_has_asked_to_be_called_are_no_stall() {
    // The host has resumed it in a timer callback just before, say.
    assert_eq!(moves_at_the_look(|t| t.driver.timer_wanted(0)), (1, 0));
}

#[test]
fn a_socket_that_the_loop_has_lost_is_watched_anew() {
    let t = Test::new();
    let lines = log(&t);
    t.running(1, 5);
    world(|w| w.always_ready.insert(5));
    t.pass(1_000);
    assert_eq!(looks(5), 0, "the loop may be about to say so");
    world(|w| w.calls.clear());
    assert!(turn(&t.driver), "it is asked to poll soon");
    poll_ready(&t.driver, 5);
    t.pass(1_000);
    turn(&t.driver);
    assert_eq!(t.driver.counters.stalls.get(), 0, "it was just on its way");
    assert_eq!(t.driver.look_wait(), 40);
    t.pass(40);
    assert_eq!(t.driver.counters.stalls.get(), 1);
    assert_eq!(looks(5), 1);
    assert_eq!(
        world(|w| w
            .calls
            .iter()
            .filter(|call| **call == Call::PollStart(5, Events::IN))
            .count()),
        1
    );
    assert!(lines.borrow()[0].contains("socket 5 is ready and the loop does not say so"));
}

#[test]
fn a_socket_is_not_lost_before_the_loop_has_polled() {
    // uv_run() in UV_RUN_DEFAULT begins with the timers, and so may the one before have ended.
    let t = Test::new();
    t.running(1, 5);
    world(|w| w.always_ready.insert(5));
    t.pass(1_000);
    t.pass(1_000);
    assert_eq!((looks(5), t.driver.counters.stalls.get()), (0, 0));
    turn(&t.driver);
    // What was ready then has been read, and this has come since.
    world(|w| w.always_ready.clear());
    t.pass(1_000);
    assert_eq!(looks(5), 1);
    world(|w| w.always_ready.insert(5));
    t.pass(1_000);
    assert_eq!(t.driver.counters.stalls.get(), 0);
    turn(&t.driver);
    t.pass(40);
    assert_eq!((looks(5), t.driver.counters.stalls.get()), (2, 1));
}

/// Nothing is read and nothing is written.
const STUCK: Flow = Flow {
    read: 7,
    written: 7,
    counted: true,
};

/// So many events without anything being done about them make a spin.
const IT_TAKES: usize = 127;

/// A transfer's socket that is ready for ever, as far as libcurl is told so.
fn spinning(t: &Test, events: Events, flow: Flow) -> Easy {
    let one = t.running(1, 5);
    t.play(move |driver| driver.socket_wanted(one, 5, events));
    poll_ready(&t.driver, 5);
    world(|w| {
        w.always_ready.insert(5);
        w.flow.insert(5, flow);
    });
    one
}

/// How many of so many events in a row the socket gives.
fn events_of(t: &Test, socket: Socket, events: usize) -> usize {
    (0..events)
        .take_while(|_| poll_ready(&t.driver, socket))
        .count()
}

#[test]
fn a_transfers_socket_that_spins_is_told_of_once_and_watched_now_and_then() {
    // S26: nothing is taken out of it, time after time.
    let t = Test::on(0x081600);
    let lines = log(&t);
    let one = spinning(&t, Events::IN, STUCK);
    assert_eq!(events_of(&t, 5, 1_000), IT_TAKES);
    assert_eq!(t.driver.counters.spins.get(), 1);
    assert_eq!(looks(5), 1);
    assert_eq!(t.reports(), []);
    for _ in 0..20 {
        assert_eq!(t.driver.look_wait(), 50);
        t.pass(50);
        assert_eq!(events_of(&t, 5, 10), 1);
    }
    assert_eq!(t.driver.counters.spins.get(), 1);
    assert_eq!(t.driver.counters.stalls.get(), 0);
    assert_eq!(lines.borrow().len(), 1);
    assert!(lines.borrow()[0]
        .contains("; for that it is watched 20 times a second until something moves; "));
    assert!(lines.borrow()[0].contains("no such bug of libcurl 8.22.0 is known"));
    // What is being read again is watched as before.
    t.pass(50);
    t.play(|_| world(|w| w.flow.get_mut(&5).unwrap().read += 1));
    assert_eq!(events_of(&t, 5, 1_000), 1 + IT_TAKES);
    // So is one that libcurl speaks of.
    t.driver.socket_wanted(one, 5, Events::IN);
    assert_eq!(events_of(&t, 5, 1_000), IT_TAKES);
}

#[test]
fn data_that_are_moved_are_no_spin() {
    for moved in [
        |flow: &mut Flow| flow.read += 1,
        |flow: &mut Flow| flow.written += 1,
    ] {
        let t = Test::on(0x081600);
        spinning(&t, Events::IN.union(Events::OUT), STUCK);
        for _ in 0..300 {
            t.play(move |_| world(|w| moved(w.flow.get_mut(&5).unwrap())));
            assert!(poll_ready(&t.driver, 5));
        }
        // Nor is one that is not ready any more.
        world(|w| w.always_ready.clear());
        assert_eq!(events_of(&t, 5, 300), 300);
        assert_eq!(t.driver.counters.spins.get(), 0);
    }
}

#[test]
fn data_that_are_moved_for_the_timer_are_no_spin() {
    // libcurl 8.22 with a fast download over HTTP/2: it reads 64 KB for the timer and gives out half of it, and for the
    // socket, in the same turn, the other half.
    let t = Test::on(0x081600);
    spinning(&t, Events::IN, STUCK);
    for _ in 0..20 * 65 {
        world(|w| w.flow.get_mut(&5).unwrap().read += 1);
        assert!(poll_ready(&t.driver, 5));
    }
    assert_eq!(t.driver.counters.spins.get(), 0);
    assert_eq!(events_of(&t, 5, 1_000), IT_TAKES);
}

#[test]
fn nothing_is_asked_of_a_socket_before_it_has_been_ready_often() {
    let t = Test::on(0x081600);
    let one = spinning(&t, Events::IN, STUCK);
    for _ in 0..10 {
        assert_eq!(events_of(&t, 5, 63), 63);
        t.driver.socket_wanted(one, 5, Events::IN);
    }
    assert_eq!(world(|w| w.flow_asked), 0);
}

#[test]
fn a_socket_that_spins_in_one_direction_stays_watched_for_the_other() {
    // curl#10618: an upload over HTTP/2 waits for the peer to read, which its answer will tell.
    let t = Test::on(0x075801);
    let both = Events::IN.union(Events::OUT);
    spinning(&t, both, STUCK);
    world(|w| w.only_writable.insert(5));
    assert_eq!(events_of(&t, 5, IT_TAKES), IT_TAKES);
    assert_eq!(world(|w| w.watched(5)).unwrap().1, Events::IN);
    assert_eq!(t.driver.snapshot().sockets_unwatched, 1);
    // It has read: what is to be written may go on at once.
    t.play(|_| world(|w| w.flow.get_mut(&5).unwrap().read += 1));
    assert_eq!(events_of(&t, 5, 1), 1);
    assert_eq!(world(|w| w.watched(5)).unwrap().1, both);
    // The next time it is not told of again.
    assert_eq!(events_of(&t, 5, IT_TAKES), IT_TAKES);
    assert_eq!(world(|w| w.watched(5)).unwrap().1, Events::IN);
    assert_eq!(t.driver.counters.spins.get(), 1);
    // A look at it finds nothing that the loop has failed to tell of.
    t.pass(1_000);
    t.pass(1_000);
    assert_eq!(t.driver.counters.stalls.get(), 0);
    assert_eq!(t.driver.snapshot().sockets_watched, 1);
    assert_eq!(world(|w| w.watched(5)).unwrap().1, both);
}

#[test]
fn a_socket_without_counts_that_spins_is_told_of_and_stays_watched() {
    // What is written to it may be gone at once, so that it is not certain that it spins.
    let t = Test::on(0x081600);
    let flow = Flow {
        counted: false,
        ..STUCK
    };
    let lines = log(&t);
    spinning(&t, Events::IN, flow);
    assert_eq!(events_of(&t, 5, 300), 300);
    assert_eq!(t.driver.counters.spins.get(), 1);
    assert_eq!(lines.borrow().len(), 1);
    assert!(!lines.borrow()[0].contains("20 times"));
}

#[test]
fn where_nothing_is_counted_a_socket_whose_transfer_has_ended_is_nobodys() {
    for flow in [
        None,
        Some(Flow {
            counted: false,
            ..STUCK
        }),
    ] {
        let t = Test::on(0x080900);
        let [_, one] = streams(&t, 7, 5, [2, 1]);
        ends(&t, one);
        world(|w| {
            w.always_ready.insert(5);
            w.flow.extend(flow.map(|flow| (5, flow)));
        });
        assert_eq!(events_of(&t, 5, 1_000), 64);
        t.pass(50);
        assert!(world(|w| w.watched(5)).is_none());
    }
}

#[test]
fn a_spinning_socket_is_no_sign_of_life() {
    // Both at once, as libcurl 8.10.0 does for a stream that a callback has paused.
    let t = Test::on(0x080a00);
    spinning(&t, Events::IN, STUCK);
    let hurries = || {
        t.driver.timer_wanted(0);
        let hurry = || {
            t.play(|driver| driver.timer_wanted(0));
            turn(&t.driver)
        };
        let calls = (0..1_000).take_while(|_| hurry()).count();
        world(|w| w.plays.clear());
        calls
    };
    assert_eq!(events_of(&t, 5, 1_000), IT_TAKES);
    assert_eq!(hurries(), 258);
    t.pass(50);
    assert_eq!(events_of(&t, 5, 10), 1);
    assert_eq!(hurries(), 1);
    // One whose data are read is.
    t.pass(50);
    t.play(|_| world(|w| w.flow.get_mut(&5).unwrap().read += 1));
    assert_eq!(events_of(&t, 5, 1), 1);
    assert!(hurries() > 200);
}

#[test]
fn a_spinning_socket_is_watched_anew_when_a_transfer_is_resumed() {
    let t = Test::on(0x081600);
    let one = spinning(&t, Events::IN, STUCK);
    assert_eq!(events_of(&t, 5, 1_000), IT_TAKES);
    assert!(world(|w| w.watched(5)).is_none());
    t.driver.pause(one, 0).unwrap();
    assert!(world(|w| w.watched(5)).is_some());
    // It may take libcurl a while to give out what it has kept, before it reads on.
    assert_eq!(events_of(&t, 5, 1_000), IT_TAKES);
}

#[test]
fn the_socket_of_a_connection_whose_transfer_has_ended_stays_watched() {
    let t = Test::on(0x081600);
    let lines = log(&t);
    let [_, one] = streams(&t, 7, 5, [2, 1]);
    ends(&t, one);
    world(|w| {
        w.always_ready.insert(5);
        w.flow.insert(5, STUCK);
    });
    assert_eq!(events_of(&t, 5, 1_000), IT_TAKES);
    assert!(lines.borrow()[0].contains("on a connection whose transfer has ended"));
    t.pass(50);
    assert!(world(|w| w.watched(5)).is_some());
    t.play(|_| world(|w| w.flow.get_mut(&5).unwrap().read += 1));
    assert_eq!(events_of(&t, 5, 64), 64);
}

#[test]
fn the_log_may_close_the_driver() {
    let t = Test::on(0x081000);
    let heard = Rc::new(RefCell::new(0));
    let count = Rc::clone(&heard);
    t.driver
        .set_log(Some(LogFn(Rc::new(move |driver, _| {
            *count.borrow_mut() += 1;
            driver.close(crate::sys::CloseFn::none());
        }))))
        .unwrap();
    for number in 1..=2 {
        let easy = without_socket(&t, number, number as Socket + 4);
        world(|w| {
            w.progress.insert(
                easy,
                Progress {
                    looked_up: true,
                    ..Progress::default()
                },
            )
        });
    }
    t.pass(1_000);
    t.pass(1_000);
    assert_eq!(*heard.borrow(), 1, "nobody is told of the second");
    assert_eq!(t.driver.set_log(None), Err(error::ECANCELED));
}

#[test]
fn counts_add_up() {
    let t = Test::new();
    let turns = || {
        let counters = &t.driver.counters;
        (counters.turns.get(), counters.idle_turns.get())
    };
    assert_eq!(turns(), (1, 1));
    let (one, two) = (t.running(1, 5), t.running(2, 6));
    assert_eq!(turns(), (3, 1));
    let three = t.start(3);
    t.play(move |_| world(|w| w.finish(one, 0)));
    poll_ready(&t.driver, 5);
    t.play(move |_| world(|w| w.finish(two, 28)));
    poll_ready(&t.driver, 6);
    t.driver.cancel(three).unwrap();
    let now = t.driver.snapshot();
    assert_eq!((now.started, now.in_flight, now.running), (3, 1, 0));
    turn(&t.driver);
    let counters = &t.driver.counters;
    assert_eq!(
        [
            counters.succeeded.get(),
            counters.failed.get(),
            counters.cancelled.get()
        ],
        [1, 1, 1]
    );
    assert_eq!(t.driver.snapshot().in_flight, 0);
    assert_eq!(
        counters.actions.get() as usize,
        world(|w| w
            .calls
            .iter()
            .filter(|call| matches!(call, Call::Act(_)))
            .count())
    );
}

#[test]
fn a_description_names_every_transfer_and_what_it_waits_for() {
    let t = Test::new();
    let one = t.running(1, 5);
    world(|w| {
        w.progress.insert(
            one,
            Progress {
                url: "http://u:p@127.0.0.1:80/secret".to_owned(),
                looked_up: true,
                connected: true,
                asked: true,
                answered: true,
                downloaded: 7,
                ..Progress::default()
            },
        )
    });
    let two = without_socket(&t, 2, 6);
    t.driver.pause(two, 1).unwrap();
    let three = t.start(3);
    t.driver.cancel(three).unwrap();
    t.driver.timer_wanted(2_500);
    world(|w| w.loop_ms += 61_000);
    let lines = t.driver.describe().unwrap();
    assert_eq!(lines.len(), 5, "{lines:#?}");
    assert!(
        lines[0].contains("3 in flight (2 with libcurl, 1 paused by call)"),
        "{}",
        lines[0]
    );
    assert!(
        lines[1].contains("due in 2.5 s; sockets: 1 watched"),
        "{}",
        lines[1]
    );
    assert_eq!(
        lines[2],
        "  #1 http://127.0.0.1:80, 61 s: receiving, 7 bytes in, 0 out; waits for socket 5 (read, silent for 61 s)"
    );
    assert!(
        lines[3].ends_with("waits for the host, to resume it"),
        "{}",
        lines[3]
    );
    assert!(lines[4].ends_with("to be reported"), "{}", lines[4]);
    let dumped = Lines::default();
    let heard = Rc::clone(&dumped);
    let log = LogFn(Rc::new(move |_, line| {
        heard.borrow_mut().push(line.to_owned())
    }));
    t.driver.dump(&log).unwrap();
    assert_eq!(*dumped.borrow(), lines);
    // Inside libcurl too: the fake notes any call that libcurl forbids.
    t.play(|driver| assert!(driver.describe().is_some()));
    poll_ready(&t.driver, 5);
}

#[test]
fn without_transfers_nothing_is_looked_at() {
    let t = Test::new();
    let look_timer = || world(|w| w.timers[&w.look_timer()]);
    assert_eq!(look_timer(), None);
    let one = t.running(1, 5);
    assert_eq!(look_timer(), Some(1_000));
    t.play(move |_| world(|w| w.finish(one, 0)));
    poll_ready(&t.driver, 5);
    assert_eq!(look_timer(), None);
    t.start(2);
    t.driver.cancel(easy(2)).unwrap();
    turn(&t.driver);
    assert_eq!(look_timer(), None);
    // Whether or not the driver holds the loop.
    t.driver.set_referenced(false);
    t.start(3);
    assert_eq!(look_timer(), Some(1_000));
}

#[test]
fn reports_do_not_put_looks_off() {
    let t = Test::new();
    t.running(1, 5);
    world(|w| w.calls.clear());
    let two = t.start(2);
    t.driver.cancel(two).unwrap();
    turn(&t.driver);
    assert_eq!(world(|w| w.count(&Call::TimerStart(1_000))), 0);
}

#[test]
fn calls_for_everything_are_thirty_times_as_far_apart_as_one_takes() {
    let t = Test::new();
    without_socket(&t, 1, 5);
    t.driver.set_tick(50).unwrap();
    world(|w| w.everything_ns = 4_000_000);
    t.pass(50);
    for _ in 0..12 {
        t.pass(50);
    }
    // 4 ms and 120 ms of rest: every third tick, as a clock that moves on by 50 ms has it.
    assert_eq!(everything(), 4);
}

#[test]
fn a_call_for_everything_spares_the_looks() {
    let t = Test::new();
    without_socket(&t, 1, 5);
    t.running(2, 6);
    t.pass(1_000);
    let before = looks(6);
    for _ in 0..5 {
        t.pass(1_000);
    }
    assert_eq!((everything(), looks(6)), (5, before));
}

#[test]
fn very_short_timers_bring_no_look_close() {
    // libcurl 7.84 to 8.3 have one of 200 ms after each connect.
    let t = Test::new();
    t.running(1, 5);
    t.play(|driver| driver.timer_wanted(200));
    poll_ready(&t.driver, 5);
    assert_eq!(world(|w| w.timers[&w.look_timer()]), Some(1_000));
}

#[test]
fn what_the_host_has_paused_is_no_stall() {
    let t = Test::new();
    let one = without_socket(&t, 1, 5);
    let connecting = Progress {
        looked_up: true,
        ..Progress::default()
    };
    world(|w| w.progress.insert(one, connecting));
    t.driver.pause(one, 1).unwrap();
    t.driver.timer_wanted(-1);
    for _ in 0..3 {
        t.pass(1_000);
    }
    assert_eq!(t.driver.counters.stalls.get(), 0);
}

#[test]
fn a_hundred_silent_sockets_are_looked_at_in_two_turns() {
    let t = Test::new();
    for number in 1..=100 {
        t.running(number, number as Socket + 10);
    }
    let all = || (11..=110).map(looks).sum::<usize>();
    t.pass(1_000);
    assert_eq!(all(), 64);
    assert_eq!(
        world(|w| w.timers[&w.look_timer()]),
        Some(30),
        "the rest of them soon"
    );
    t.pass(30);
    assert_eq!(all(), 100);
    assert_eq!(world(|w| w.timers[&w.look_timer()]), Some(1_000));
}

/// So many sockets of which the loop has lost each that as many lines come in one turn.
fn lose(t: &Test, from: usize, count: usize) {
    for number in from..from + count {
        let socket = number as Socket + 10;
        t.running(number, socket);
        world(|w| w.always_ready.insert(socket));
    }
}

#[test]
fn lines_for_a_log_that_is_gone_are_not_told_to_the_next() {
    let t = Test::new();
    let first = log(&t);
    lose(&t, 1, 1);
    t.pass(1_000);
    turn(&t.driver);
    let second = Lines::default();
    let heard = Rc::clone(&second);
    // The line is made when the look is, and told at the end of the turn.
    t.play(move |driver| {
        let heard = Rc::clone(&heard);
        driver.set_log(None).unwrap();
        let log = LogFn(Rc::new(move |_, line| {
            heard.borrow_mut().push(line.to_owned())
        }));
        driver.set_log(Some(log)).unwrap();
    });
    t.pass(1_000);
    assert_eq!(t.driver.counters.stalls.get(), 1);
    assert_eq!((first.borrow().len(), second.borrow().len()), (0, 0));
}

#[test]
fn paused_transfers_are_counted_until_they_end() {
    let t = Test::new();
    let (one, two) = (t.running(1, 5), t.running(2, 6));
    t.driver.pause(one, 1).unwrap();
    t.driver.pause(two, 1).unwrap();
    assert_eq!(t.driver.snapshot().paused, 2);
    t.play(move |_| world(|w| w.finish(one, 28)));
    poll_ready(&t.driver, 5);
    assert_eq!(t.driver.snapshot().paused, 1);
    t.driver.cancel(two).unwrap();
    assert_eq!(t.driver.snapshot().paused, 0);
}

#[test]
fn those_held_back_are_not_asked_for_inside_libcurl() {
    let t = Test::new();
    t.running(1, 5);
    world(|w| w.pending = 2);
    assert_eq!(t.driver.snapshot().held_back, 2);
    t.play(|driver| assert_eq!(driver.snapshot().held_back, 0));
    poll_ready(&t.driver, 5);
    world(|w| w.pending = 0);
}

#[test]
fn a_description_tells_when_libcurl_is_called() {
    let t = Test::new();
    let timer = || {
        let line = t.driver.describe().unwrap().swap_remove(1);
        line.split(';').next().unwrap_or_default().to_owned()
    };
    assert_eq!(timer(), "  libcurl's timer: none");
    t.start(1);
    assert_eq!(timer(), "  libcurl's timer: due now");
    t.play(|driver| driver.timer_wanted(700));
    turn(&t.driver);
    assert_eq!(timer(), "  libcurl's timer: due in 0.7 s");
    t.driver.timer_wanted(0);
    assert_eq!(timer(), "  libcurl's timer: due now");
    t.driver.timer_wanted(700);
    world(|w| w.now_ns += 700_000_000);
    assert_eq!(timer(), "  libcurl's timer: due now");
}

#[test]
fn a_description_tells_what_a_transfer_without_socket_waits_for() {
    let t = Test::new();
    let one = without_socket(&t, 1, 5);
    let tell = |change: fn(&mut Progress)| {
        let mut progress = Progress::default();
        change(&mut progress);
        world(|w| w.progress.insert(one, progress));
        let line = t.driver.describe().unwrap().swap_remove(2);
        line.split("waits for")
            .nth(1)
            .unwrap_or_default()
            .to_owned()
    };
    t.driver.timer_wanted(-1);
    assert_eq!(tell(|_| {}), " the name, or its turn");
    let stream = " another stream's socket, or the host, if a callback has paused it";
    for on_a_connection in [
        tell(|p| p.looked_up = true),
        tell(|p| p.connected = true),
        tell(|p| p.asked = true),
        tell(|p| p.answered = true),
    ] {
        assert_eq!(on_a_connection, stream);
    }
    t.driver.timer_wanted(700);
    assert_eq!(
        tell(|p| p.asked = true),
        format!(" libcurl's timer,{stream}")
    );
}

#[test]
fn sockets_are_counted_as_watched_unwatched_or_idle() {
    let t = Test::new();
    let one = connected(&t, 1, 5);
    t.running(2, 6);
    world(|w| w.poll_init_error.insert(7, error::ENOMEM));
    t.play(|driver| driver.socket_wanted(easy(99), 7, Events::IN));
    poll_ready(&t.driver, 6);
    let count = || {
        let now = t.driver.snapshot();
        (now.sockets_watched, now.sockets_unwatched, now.sockets_idle)
    };
    assert_eq!(count(), (2, 1, 0));
    finish(&t, one, 5);
    assert_eq!(count(), (1, 1, 1));
    let lines = t.driver.describe().unwrap();
    assert!(
        lines[1].contains("1 watched, 1 not watchable, 1 idle"),
        "{}",
        lines[1]
    );
    assert_eq!(
        lines[3],
        "  of no transfer: socket 7 (read, not watched, silent for 0.0 s)"
    );
}

#[test]
fn each_transfer_has_its_share_of_a_call_for_everything() {
    // Up to 5 ms in all it may take, and so it is made each second.
    for (count, took_ns) in [(1, 5_000_000), (3, 3_000_000)] {
        let t = Test::new();
        for number in 1..=count {
            without_socket(&t, number, 5);
        }
        world(|w| w.everything_ns = took_ns);
        for _ in 0..6 {
            t.pass(1_000);
        }
        assert_eq!(everything(), 5, "{count}");
    }
}

#[test]
fn a_tick_may_come_a_tenth_early() {
    let t = Test::new();
    without_socket(&t, 1, 5);
    t.pass(1_000);
    t.pass(900);
    assert_eq!(everything(), 1);
    t.pass(899);
    assert_eq!(everything(), 1);
}

#[test]
fn after_looks_that_took_long_the_rest_waits_longer() {
    let t = Test::new();
    for number in 1..=100 {
        t.running(number, number as Socket + 10);
    }
    t.play(|_| world(|w| w.now_ns += 2_500_000));
    t.pass(1_000);
    assert_eq!(world(|w| w.timers[&w.look_timer()]), Some(90));
}

#[test]
fn what_a_look_finds_on_a_ready_socket_is_no_stall() {
    // The loop would have told of it.
    let ready = |_: &Test| {
        world(|w| w.always_ready.insert(5));
    };
    assert_eq!(moves_at_the_look(ready), (0, 0));
}

#[test]
fn lines_beyond_sixty_four_are_counted_and_not_kept() {
    let t = Test::new();
    let heard = Rc::new(Cell::new(0));
    let count = Rc::clone(&heard);
    let log = LogFn(Rc::new(move |driver, _| {
        count.set(count.get() + 1);
        if count.get() == 1 {
            // The host runs the loop in its log callback, while 63 lines wait and 64 more come.
            driver.timer_due(world(|w| w.look_timer()));
        }
    }));
    t.driver.set_log(Some(log)).unwrap();
    lose(&t, 1, 128);
    t.pass(1_000);
    t.pass(30);
    t.pass(30);
    turn(&t.driver);
    assert_eq!(heard.get(), 0);
    t.pass(1_000);
    let counters = &t.driver.counters;
    assert_eq!(counters.stalls.get(), 128);
    assert_eq!((heard.get(), counters.unsaid.get()), (65, 63));
}

#[test]
fn a_line_that_comes_up_in_the_log_callback_is_told_next() {
    let t = Test::on(0x081600);
    let lines = Lines::default();
    let heard = Rc::clone(&lines);
    let log = LogFn(Rc::new(move |driver, line| {
        heard.borrow_mut().push(line.to_owned());
        // The host runs the loop, which has come as far as the sockets.
        poll_ready_among_others(driver, 6);
    }));
    t.driver.set_log(Some(log)).unwrap();
    for (number, socket) in [(1, 5), (2, 6)] {
        t.running(number, socket);
        world(|w| {
            w.always_ready.insert(socket);
            w.flow.insert(socket, STUCK);
        });
        // One event less than it takes.
        for _ in 0..126 {
            poll_ready(&t.driver, socket);
        }
    }
    assert_eq!(lines.borrow().len(), 0);
    poll_ready(&t.driver, 5);
    assert_eq!(lines.borrow().len(), 1);
    polled(&t.driver);
    assert_eq!(lines.borrow().len(), 2);
}

#[test]
fn without_memory_there_is_no_line() {
    let t = Test::on(0x081600);
    let lines = Lines::default();
    let heard = Rc::clone(&lines);
    let log = LogFn(Rc::new(move |_, line| {
        heard.borrow_mut().push(line.to_owned())
    }));
    t.driver.set_log(Some(log)).unwrap();
    t.running(1, 5);
    world(|w| w.progress.entry(easy(1)).or_default().url = "http://a/".to_owned());
    assert!(without_memory(|| t.driver.describe()).is_none());
    assert!(t.driver.describe().is_some());
    world(|w| {
        w.always_ready.insert(5);
        w.flow.insert(5, STUCK);
    });
    for _ in 0..126 {
        poll_ready(&t.driver, 5);
    }
    without_memory(|| poll_ready(&t.driver, 5));
    let counters = &t.driver.counters;
    assert_eq!((counters.spins.get(), counters.unsaid.get()), (1, 1));
    assert!(lines.borrow().is_empty());
}

/// Streams of one connection each on its own number, whose socket the first has announced.
fn streams(t: &Test, connection: u64, socket: Socket, numbers: [usize; 2]) -> [Easy; 2] {
    numbers.map(|number| {
        let easy = t.start(number);
        world(|w| w.connection.insert(easy, connection));
        t.play(move |driver| driver.socket_wanted(easy, socket, Events::IN));
        turn(&t.driver);
        easy
    })
}

fn ends(t: &Test, easy: Easy) {
    t.play(move |_| world(|w| w.finish(easy, 0)));
    t.driver.timer_wanted(0);
    turn(&t.driver);
}

#[test]
fn when_a_stream_ends_the_others_of_its_connection_are_looked_at_once() {
    let t = Test::on(0x081600);
    let [one, _] = streams(&t, 7, 5, [1, 2]);
    streams(&t, 8, 6, [3, 4]);
    t.pass(100);
    ends(&t, one);
    assert_eq!(t.driver.look_wait(), 40);
    t.pass(40);
    assert_eq!((looks(5), looks(6)), (1, 0));
    assert_eq!(t.driver.look_wait(), 1_000);
    t.pass(40);
    assert_eq!((looks(5), looks(6)), (1, 0));
    assert_eq!(t.driver.counters.stalls.get(), 0);
}

#[test]
fn so_they_are_when_one_is_cancelled() {
    let t = Test::on(0x081600);
    let [_, two] = streams(&t, 7, 5, [1, 2]);
    t.driver.cancel(two).unwrap();
    t.pass(40);
    assert_eq!(looks(5), 1);
}

#[test]
fn streams_that_have_shown_life_since_are_not_looked_at() {
    let t = Test::on(0x081600);
    let [one, _] = streams(&t, 7, 5, [1, 2]);
    ends(&t, one);
    world(|w| w.loop_ms += 1);
    poll_ready(&t.driver, 5);
    t.pass(39);
    assert_eq!(looks(5), 0);
}

#[test]
fn no_stream_is_looked_at_where_there_is_no_need() {
    {
        // Nobody is left.
        let t = Test::on(0x081600);
        world(|w| w.connection.insert(easy(1), 7));
        let one = t.running(1, 5);
        ends(&t, one);
        t.running(2, 6);
        assert_eq!(t.driver.look_wait(), 1_000);
    }
    // A libcurl that has not the bug, transfers that are no streams, and streams without TLS.
    for (libcurl, http2, plain) in [
        (0x080e01, true, false),
        (0x081600, false, false),
        (0x081600, true, true),
    ] {
        let t = Test::on(libcurl);
        world(|w| w.plain = plain);
        let [one, _] = streams(&t, 7, 5, [1, 2]);
        if !http2 {
            world(|w| w.connection.clear());
        }
        ends(&t, one);
        assert_eq!(t.driver.look_wait(), 1_000);
        t.pass(40);
        assert_eq!(looks(5), 0);
    }
}

#[test]
fn streams_of_eight_connections_are_looked_at_together() {
    let t = Test::on(0x081600);
    let firsts: Vec<Easy> = (0..10)
        .map(|at| streams(&t, at as u64, 20 + at as Socket, [2 * at + 1, 2 * at + 2])[0])
        .collect();
    for easy in firsts {
        ends(&t, easy);
    }
    t.pass(40);
    let looked: Vec<usize> = (20..30).map(looks).collect();
    assert_eq!(looked, [1, 1, 1, 1, 1, 1, 1, 1, 0, 0]);
}
