//! Every order up to a depth, random orders beyond it, every fault in turn; and a failing history again.
//!
//! A history is decided by its choices. 0 is always the way that leads on, so a history is "the usual course, except here and
//! here"; how many exceptions it has is its depth. `MODEL_DEPTH`, `MODEL_CASES` and `MODEL_LENGTH` make the search longer
//! (`make model`), `MODEL_HISTORY` plays one history and prints its steps.

use std::cell::Cell;
use std::fmt::Write;
use std::ops::Range;
use std::str::FromStr;

use proptest::prelude::{prop, prop_oneof, Just, Strategy};
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};

use super::{acts, nature, play, points, Flags, Numbers, Outcome, Scenario};

/// Where the ways part, and which was taken.
#[derive(Default)]
pub(super) struct Choices {
    given: Vec<u16>,
    pub(super) taken: Vec<(u16, u16)>,
    /// Those given may be any numbers.
    any: bool,
}

impl Choices {
    fn exactly(given: &[u16]) -> Choices {
        Choices {
            given: given.to_vec(),
            taken: Vec::with_capacity(64),
            any: false,
        }
    }

    pub(super) fn choose(&mut self, count: usize) -> usize {
        if count < 2 {
            return 0;
        }
        let count = count as u16;
        let given = self.given.get(self.taken.len()).copied().unwrap_or(0);
        let choice = if self.any {
            given % count
        } else {
            given.min(count - 1)
        };
        self.taken.push((choice, count));
        usize::from(choice)
    }
}

/// Which of the fallible calls fail, by their number, and which of the driver's allocations.
#[derive(Clone, Default)]
pub(super) struct Faults {
    which: Numbers,
    pub(super) memory: Range<u64>,
    count: u64,
    pub(super) failed: u64,
}

impl Faults {
    fn at(which: impl IntoIterator<Item = u64>) -> Faults {
        Faults {
            which: which.into_iter().collect(),
            ..Faults::default()
        }
    }

    fn memory(memory: Range<u64>) -> Faults {
        Faults {
            memory,
            ..Faults::default()
        }
    }

    pub(super) fn next(&mut self) -> bool {
        let fails = self.which.contains(&self.count);
        self.count += 1;
        self.failed += u64::from(fails);
        fails
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }
}

const BASE: Scenario = Scenario {
    name: "",
    transfers: 2,
    started: 2,
    nature: 0,
    acts: 0,
    points: 0,
    libcurl: 0,
    limit: 0,
    timeout_ms: 0,
    host: 3,
};

/// The small worlds. Each has what belongs together; the last has everything.
const WORLDS: &[Scenario] = &[
    Scenario {
        name: "host",
        nature: nature::WRITES,
        acts: acts::USUAL | acts::WRONG,
        points: points::TOP | points::WRITE | points::DONE | points::PROGRESS,
        ..BASE
    },
    Scenario {
        name: "phases",
        started: 1,
        nature: nature::CLOSES,
        acts: acts::USUAL | acts::NEST | acts::WATCH,
        points: points::ALL,
        ..BASE
    },
    Scenario {
        name: "phases before libuv 1.45",
        started: 1,
        nature: nature::CLOSES | nature::OLD_LOOP,
        acts: acts::USUAL | acts::NEST | acts::WATCH,
        points: points::ALL,
        ..BASE
    },
    Scenario {
        name: "sockets",
        transfers: 3,
        started: 2,
        nature: nature::LOOKUP
            | nature::TWO
            | nature::CLOSES
            | nature::PEER
            | nature::AT_ONCE
            | nature::FAILS,
        acts: acts::START | acts::CANCEL | acts::WATCH,
        points: points::DONE | points::PREPARE,
        ..BASE
    },
    Scenario {
        name: "one connection for all",
        transfers: 3,
        started: 3,
        nature: nature::JOIN | nature::PARTS | nature::CLOSES | nature::FAILS,
        acts: acts::CANCEL | acts::PAUSE | acts::START,
        points: points::TOP | points::WRITE | points::DONE,
        ..BASE
    },
    Scenario {
        name: "before 8.9",
        transfers: 3,
        nature: nature::NO_REMOVE | nature::CLOSES | nature::LOOKUP | nature::TWO | nature::PARTS,
        acts: acts::START | acts::CANCEL | acts::CLOSE | acts::WATCH,
        points: points::WRITE | points::DONE | points::CHECK,
        ..BASE
    },
    Scenario {
        name: "8.10 to 8.11",
        nature: nature::FORGETS | nature::TWO | nature::PARTS | nature::WRITES,
        acts: acts::USUAL | acts::SLEEP,
        points: points::TOP | points::WRITE,
        libcurl: 0x08_0a_00,
        timeout_ms: 500,
        ..BASE
    },
    Scenario {
        name: "since 8.20",
        nature: nature::WAKEUP | nature::SHUTDOWN | nature::CLOSES | nature::PARTS,
        acts: acts::USUAL | acts::OWN,
        points: points::TOP | points::DONE | points::WRITE,
        ..BASE
    },
    Scenario {
        name: "a shared pool",
        transfers: 3,
        nature: nature::FOREIGN | nature::PEER | nature::CLOSES | nature::JOIN,
        acts: acts::START | acts::CANCEL | acts::WATCH,
        points: points::TOP | points::DONE,
        ..BASE
    },
    Scenario {
        name: "untouched",
        transfers: 3,
        nature: nature::UNTOUCHED | nature::PEER | nature::CLOSES | nature::LOOKUP,
        acts: acts::USUAL | acts::WATCH,
        points: points::TOP | points::DONE,
        ..BASE
    },
    Scenario {
        name: "behind a limit",
        transfers: 3,
        started: 3,
        nature: nature::COUNTS_PENDING | nature::PARTS | nature::WRITES,
        acts: acts::CANCEL | acts::PAUSE | acts::SLEEP | acts::START,
        points: points::TOP | points::WRITE | points::DONE,
        limit: 1,
        timeout_ms: 500,
        ..BASE
    },
    Scenario {
        name: "behind a limit, uncounted",
        transfers: 3,
        started: 3,
        nature: nature::PARTS | nature::WRITES,
        acts: acts::CANCEL | acts::PAUSE | acts::SLEEP | acts::START,
        points: points::TOP | points::WRITE | points::DONE,
        limit: 1,
        timeout_ms: 500,
        ..BASE
    },
    Scenario {
        name: "below the host's own call",
        nature: nature::WRITES | nature::PARTS,
        acts: acts::USUAL | acts::OWN,
        points: points::TOP | points::WRITE | points::DONE,
        ..BASE
    },
    Scenario {
        name: "a socket that is stuck",
        nature: nature::STUCK,
        acts: acts::CANCEL | acts::START,
        points: points::DONE,
        ..BASE
    },
    Scenario {
        name: "sockets that spin",
        transfers: 3,
        nature: nature::SPINS | nature::JOIN | nature::PARTS | nature::WRITES | nature::CLOSES,
        acts: acts::USUAL | acts::OWN,
        points: points::TOP | points::WRITE | points::DONE,
        ..BASE
    },
    Scenario {
        name: "handles that the host closes",
        acts: acts::USUAL | acts::WALK,
        points: points::TOP | points::DONE,
        ..BASE
    },
    Scenario {
        name: "a bug of ours",
        acts: acts::USUAL | acts::PANIC,
        points: points::ALL,
        ..BASE
    },
    EVERYTHING,
];

const EVERYTHING: Scenario = Scenario {
    name: "everything",
    transfers: 3,
    started: 2,
    nature: nature::LOOKUP
        | nature::JOIN
        | nature::TWO
        | nature::FAILS
        | nature::SHUTDOWN
        | nature::FOREIGN
        | nature::PEER
        | nature::PARTS
        | nature::AT_ONCE
        | nature::WRITES
        | nature::CLOSES
        | nature::COUNTS_PENDING,
    acts: acts::ALL & !(acts::WALK | acts::PANIC),
    points: points::ALL,
    host: 12,
    ..BASE
};

fn number(variable: &str, otherwise: usize) -> usize {
    std::env::var(variable)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(otherwise)
}

/// What a search has done, for the line that it prints.
#[derive(Default)]
struct Tally {
    histories: Cell<u64>,
    choices: Cell<u64>,
    longest: Cell<u64>,
    reports: Cell<u64>,
    calls: Cell<u64>,
    refused: Cell<u64>,
}

impl Tally {
    fn note(&self, outcome: &Outcome) {
        let add = |cell: &Cell<u64>, more: u64| cell.set(cell.get() + more);
        let length = outcome.taken.len() as u64;
        add(&self.histories, 1);
        add(&self.choices, length);
        add(&self.reports, outcome.reports);
        add(&self.calls, outcome.failed);
        add(&self.refused, outcome.refused);
        self.longest.set(self.longest.get().max(length));
    }

    fn print(&self, what: &str) {
        println!(
            "model: {what}: {} histories, {} choices (the longest {}), {} reports, {} calls failed, {} allocations refused",
            self.histories.get(),
            self.choices.get(),
            self.longest.get(),
            self.reports.get(),
            self.calls.get(),
            self.refused.get()
        );
    }
}

/// A history in a form that can be given to `MODEL_HISTORY`.
fn written(scenario: &Scenario, given: &[u16], faults: &Faults) -> String {
    let list = |numbers: Vec<String>| numbers.join(",");
    let choices = list(given.iter().map(u16::to_string).collect());
    let calls = list(faults.which.iter().map(u64::to_string).collect());
    let memory = &faults.memory;
    format!(
        "{}/{choices}/{calls}/{}-{}",
        scenario.name, memory.start, memory.end
    )
}

fn read(text: &str) -> Option<(Scenario, Vec<u16>, Faults)> {
    fn list<T: FromStr>(text: &str) -> Vec<T> {
        text.split(',').filter_map(|one| one.parse().ok()).collect()
    }
    let mut parts = text.trim().split('/');
    let name = parts.next()?;
    let scenario = WORLDS.iter().find(|scenario| scenario.name == name)?;
    let choices = list(parts.next()?);
    let mut faults = Faults::at(list::<u64>(parts.next().unwrap_or("")));
    let (start, end) = parts.next().unwrap_or("0-0").split_once('-')?;
    faults.memory = start.parse().ok()?..end.parse().ok()?;
    Some((*scenario, choices, faults))
}

/// What went wrong, the steps that led there, and how to see them again.
fn story(scenario: &Scenario, given: &[u16], faults: &Faults) -> String {
    let outcome = play(*scenario, Choices::exactly(given), faults.clone(), true);
    let mut text = String::new();
    for line in &outcome.trace {
        let _ = writeln!(text, "    {line}");
    }
    let wrong = outcome.violation.as_deref().unwrap_or("nothing is wrong");
    format!(
        "{wrong}\n{text}again: MODEL_HISTORY='{}' cargo test --lib model -- --nocapture",
        written(scenario, given, faults)
    )
}

/// Leaves out what the failure does not need: exceptions become the usual course, then the list ends earlier.
fn shrunk(scenario: &Scenario, given: &[u16], faults: &Faults) -> Vec<u16> {
    let fails = |given: &[u16]| {
        let outcome = play(*scenario, Choices::exactly(given), faults.clone(), false);
        outcome.violation.is_some()
    };
    let mut best = given.to_vec();
    let mut at = 0;
    while at < best.len() {
        if best[at] != 0 {
            let mut other = best.clone();
            other[at] = 0;
            if fails(&other) {
                best = other;
            }
        }
        at += 1;
    }
    while best.last() == Some(&0) {
        best.pop();
    }
    best
}

/// The next history in order: the last choice that has another way, with at most `depth` exceptions.
fn next(taken: &[(u16, u16)], length: usize, depth: usize) -> Option<Vec<u16>> {
    let taken = &taken[..taken.len().min(length)];
    let mut exceptions = taken.iter().filter(|(choice, _)| *choice != 0).count();
    for at in (0..taken.len()).rev() {
        let (choice, count) = taken[at];
        exceptions -= usize::from(choice != 0);
        if choice + 1 < count && exceptions < depth {
            let mut given: Vec<u16> = taken[..at].iter().map(|(choice, _)| *choice).collect();
            given.push(choice + 1);
            return Some(given);
        }
    }
    None
}

/// Plays every history with up to `depth` exceptions within the first `length` choices.
fn every(scenario: &Scenario, faults: &Faults, length: usize, depth: usize, tally: &Tally) {
    let mut given = Vec::new();
    loop {
        let outcome = play(*scenario, Choices::exactly(&given), faults.clone(), false);
        tally.note(&outcome);
        if outcome.violation.is_some() {
            let all: Vec<u16> = outcome.taken.iter().map(|(choice, _)| *choice).collect();
            let given = shrunk(scenario, &all, faults);
            fails(&story(scenario, &given, faults));
        }
        match next(&outcome.taken, length, depth) {
            Some(next) => given = next,
            None => return,
        }
    }
}

/// Without a backtrace, which says nothing of a history.
fn fails(story: &str) -> ! {
    println!("{story}");
    std::panic::resume_unwind(Box::new("a history is wrong"));
}

/// How many exceptions the search allows; the two worlds with the most ways get one less, unless it is said.
fn depth(scenario: &Scenario) -> usize {
    let wide = scenario.points == points::ALL && scenario.name != "phases";
    number("MODEL_DEPTH", if wide { 1 } else { 2 })
}

/// Half of the worlds each, for two processors.
fn every_order(worlds: impl Iterator<Item = &'static Scenario>) {
    for scenario in worlds {
        let depth = depth(scenario);
        let tally = Tally::default();
        every(scenario, &Faults::default(), usize::MAX, depth, &tally);
        tally.print(&format!("{}, every order to depth {depth}", scenario.name));
    }
}

#[test]
fn every_order_of_events() {
    every_order(WORLDS.iter().step_by(2));
}

#[test]
fn every_order_of_events_in_the_other_worlds() {
    every_order(WORLDS.iter().skip(1).step_by(2));
}

#[test]
fn every_choice_at_the_beginning() {
    // All combinations, without a bound on the exceptions.
    for scenario in WORLDS {
        let wide = scenario.points == points::ALL;
        let length = number("MODEL_LENGTH", if wide { 2 } else { 3 });
        let tally = Tally::default();
        every(scenario, &Faults::default(), length, usize::MAX, &tally);
        tally.print(&format!(
            "{}, all ways at the first {length} choices",
            scenario.name
        ));
    }
}

#[test]
fn every_call_fails_in_turn() {
    for scenario in WORLDS {
        let depth = depth(scenario).saturating_sub(1);
        let tally = Tally::default();
        for fault in 0.. {
            let faults = Faults::at([fault]);
            let outcome = play(*scenario, Choices::default(), faults.clone(), false);
            every(scenario, &faults, usize::MAX, depth, &tally);
            if outcome.failed == 0 {
                break;
            }
        }
        tally.print(&format!(
            "{}, each call fails, every order to depth {depth}",
            scenario.name
        ));
    }
}

#[test]
fn memory_runs_out_everywhere() {
    for scenario in WORLDS {
        let depth = depth(scenario).saturating_sub(1);
        let tally = Tally::default();
        for refused in [1, 2, 1000] {
            for from in 0.. {
                let faults = Faults::memory(from..from + refused);
                let outcome = play(*scenario, Choices::default(), faults.clone(), false);
                every(scenario, &faults, usize::MAX, depth, &tally);
                if outcome.allocations <= from {
                    break;
                }
            }
        }
        tally.print(&format!(
            "{}, memory runs out, every order to depth {depth}",
            scenario.name
        ));
    }
}

/// The choices of a random history: mostly the usual course.
fn choices() -> impl Strategy<Value = Vec<u16>> {
    prop::collection::vec(prop_oneof![6 => Just(0u16), 4 => 1u16..240], 0..160)
}

type History = (usize, Vec<u16>, Numbers, (u64, u64));

fn histories() -> impl Strategy<Value = History> {
    let calls = prop_oneof![
        2 => Just(Numbers::new()),
        1 => prop::collection::btree_set(0u64..120, 1..6)
    ];
    let memory = prop_oneof![3 => Just((0u64, 0u64)), 1 => (0u64..60, 1u64..4)];
    // The world with everything has half of them.
    let world = prop_oneof![1 => 0..WORLDS.len(), 1 => Just(WORLDS.len() - 1)];
    (world, choices(), calls, memory)
}

fn random(given: &[u16], scenario: &Scenario, faults: &Faults) -> Outcome {
    let choices = Choices {
        given: given.to_vec(),
        taken: Vec::new(),
        any: true,
    };
    play(*scenario, choices, faults.clone(), false)
}

fn of((world, given, which, (from, count)): &History) -> (&'static Scenario, &[u16], Faults) {
    let faults = Faults {
        which: which.clone(),
        memory: *from..from + count,
        ..Faults::default()
    };
    (&WORLDS[*world], given, faults)
}

fn random_histories_with_seed(seed: u64, cases: usize) {
    let tally = Tally::default();
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config {
        cases: cases as u32,
        failure_persistence: None,
        max_shrink_iters: 2_000,
        ..Config::default()
    };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let result = runner.run(&histories(), |history| {
        let (scenario, given, faults) = of(&history);
        let outcome = random(given, scenario, &faults);
        tally.note(&outcome);
        match outcome.violation {
            Some(violation) => Err(proptest::test_runner::TestCaseError::fail(violation)),
            None => Ok(()),
        }
    });
    if let Err(TestError::Fail(_, history)) = result {
        let (scenario, given, faults) = of(&history);
        let taken = random(given, scenario, &faults).taken;
        let all: Vec<u16> = taken.iter().map(|(choice, _)| *choice).collect();
        let given = shrunk(scenario, &all, &faults);
        fails(&story(scenario, &given, &faults));
    }
    result.expect("the search itself works");
    tally.print(&format!("random, seed {seed}"));
}

#[test]
fn random_histories() {
    if let Ok(text) = std::env::var("MODEL_HISTORY") {
        let (scenario, given, faults) = read(&text).expect("a history as a failure prints it");
        let outcome = play(scenario, Choices::exactly(&given), faults.clone(), false);
        println!("{}", story(&scenario, &given, &faults));
        assert_eq!(outcome.violation, None);
        return;
    }
    let cases = number("MODEL_CASES", 4_000);
    let seed = number("MODEL_SEED", 1) as u64;
    random_histories_with_seed(seed, cases);
}

/// A flag that no world has is a part of the model that is never played.
#[test]
fn every_part_of_the_model_is_played() {
    let all = |of: fn(&Scenario) -> Flags| WORLDS.iter().fold(0, |all, world| all | of(world));
    assert_eq!(all(|world| world.nature), (1 << 19) - 1);
    assert_eq!(all(|world| world.acts), acts::ALL);
    assert_eq!(all(|world| world.points), points::ALL);
}
