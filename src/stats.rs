//! What the driver has done and what it has in hand, in numbers for a monitoring page and in lines for a person.

use std::cell::Cell;
use std::fmt::{self, Write as _};

use crate::driver::Driver;
use crate::error;
use crate::sys::{self, now_ns, Events, Progress};
use crate::text::Text;
use crate::transfer::{Item, State};

/// How often things have happened since the driver was made.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) succeeded: Cell<u64>,
    pub(crate) failed: Cell<u64>,
    pub(crate) cancelled: Cell<u64>,
    /// Calls of the driver by the loop, and those of them after which libcurl had not been called nor anybody told.
    pub(crate) turns: Cell<u64>,
    pub(crate) idle_turns: Cell<u64>,
    pub(crate) actions: Cell<u64>,
    pub(crate) kicks: Cell<u64>,
    pub(crate) looks: Cell<u64>,
    pub(crate) ticks: Cell<u64>,
    pub(crate) stalls: Cell<u64>,
    pub(crate) spins: Cell<u64>,
    /// Log lines that nobody has heard.
    pub(crate) unsaid: Cell<u64>,
}

impl Counters {
    pub(crate) fn add(&self, counter: &Cell<u64>) {
        counter.set(counter.get() + 1);
    }

    pub(crate) fn done(&self, status: i32) {
        self.add(match status {
            error::OK => &self.succeeded,
            error::ECANCELED => &self.cancelled,
            _ => &self.failed,
        });
    }

    /// How much has been done so far, of the kinds that make a turn of the loop worth while.
    pub(crate) fn work(&self) -> u64 {
        self.actions.get() + self.succeeded.get() + self.failed.get() + self.cancelled.get()
    }
}

/// All of it, as `uvcurl_stats` gives it away.
#[derive(Default)]
pub(crate) struct Snapshot {
    pub(crate) started: u64,
    pub(crate) in_flight: u64,
    pub(crate) running: u64,
    pub(crate) paused: u64,
    pub(crate) held_back: u64,
    pub(crate) sockets_watched: u64,
    pub(crate) sockets_unwatched: u64,
    pub(crate) sockets_idle: u64,
}

/// Scheme, host and port of a URL, and nothing that could be a secret.
pub(crate) struct Origin<'a>(pub(crate) &'a str);

impl fmt::Display for Origin<'_> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, host) = origin(self.0);
        if let Some(scheme) = scheme {
            write!(to, "{scheme}://")?;
        }
        to.write_str(host)
    }
}

fn origin(url: &str) -> (Option<&str>, &str) {
    let (scheme, rest) = match url.split_once(":/") {
        Some((scheme, rest)) if !scheme.is_empty() && scheme.chars().all(is_scheme) => {
            (Some(scheme), rest.trim_start_matches('/'))
        }
        _ => (None, url),
    };
    let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or("");
    let host = authority.rsplit('@').next().unwrap_or("");
    // Where it is none, it may be half of a password.
    (scheme, if is_host(host) { host } else { "?" })
}

fn is_scheme(c: char) -> bool {
    c.is_ascii_alphanumeric() || "+-.".contains(c)
}

fn is_host(text: &str) -> bool {
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, port),
        _ => (text, ""),
    };
    let inner = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'));
    let name_is = match inner {
        Some(inner) => inner
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || ":.%-_".contains(c)),
        None => name
            .chars()
            .all(|c| c.is_alphanumeric() || ".-_%".contains(c)),
    };
    name_is && port.chars().all(|c| c.is_ascii_digit())
}

/// "0.3 s", "12 s", "5 min", "3 h".
pub(crate) struct Seconds(pub(crate) u64);

impl fmt::Display for Seconds {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0;
        match ms {
            0..=9_999 => write!(to, "{}.{} s", ms / 1000, ms % 1000 / 100),
            10_000..=599_999 => write!(to, "{} s", ms / 1000),
            600_000..=35_999_999 => write!(to, "{} min", ms / 60_000),
            _ => write!(to, "{} h", ms / 3_600_000),
        }
    }
}

fn masks(events: Events) -> &'static str {
    match (events.contains(Events::IN), events.contains(Events::OUT)) {
        (true, true) => "read+write",
        (true, false) => "read",
        (false, true) => "write",
        (false, false) => "nothing",
    }
}

/// On one that is used again there was nothing to look up.
fn has_connection(progress: &Progress) -> bool {
    progress.looked_up || progress.connected || progress.asked || progress.answered
}

/// What a transfer in libcurl's hands is at, as far as libcurl tells.
fn phase(progress: &Progress) -> &'static str {
    let scheme = progress.url.split("://").next().unwrap_or("");
    let tls = ["https", "wss", "ftps", "imaps", "pop3s", "smtps"];
    let secure = tls.iter().any(|name| scheme.eq_ignore_ascii_case(name));
    if progress.answered {
        "receiving"
    } else if progress.asked {
        "sending, or waiting for an answer"
    } else if progress.connected && secure && !progress.secured {
        "TLS handshake"
    } else if progress.connected {
        "connected"
    } else if progress.looked_up {
        "connecting"
    } else {
        "looking the name up, or behind a connection limit"
    }
}

impl Driver {
    pub(crate) fn snapshot(&self) -> Snapshot {
        let tally = self.sockets.borrow().tally();
        let transfers = self.transfers.borrow();
        Snapshot {
            started: transfers.started(),
            in_flight: transfers.active() as u64,
            running: transfers.running() as u64,
            paused: transfers.paused() as u64,
            // libcurl refuses no such question inside its callbacks, and the number is then as good as outside.
            held_back: if self.inside_libcurl() {
                0
            } else {
                u64::try_from(self.multi.pending().unwrap_or(0)).unwrap_or(0)
            },
            sockets_watched: tally.watched,
            sockets_unwatched: tally.unwatched,
            sockets_idle: tally.idle,
        }
    }

    /// The lines of `uvcurl_dump`. `None`: no memory.
    pub(crate) fn describe(&self) -> Option<Vec<String>> {
        let now_ms = self.uv().now_ms();
        let entries = self.transfers.borrow().list()?;
        let counts = self.snapshot();
        let mut lines = Vec::new();
        lines.try_reserve(entries.len() + 3).ok()?;
        lines.push(Text::line(|to| self.write_totals(to, &counts))?);
        lines.push(Text::line(|to| self.write_handles(to, &counts))?);
        for entry in &entries {
            lines.push(Text::line(|to| self.write_transfer(to, entry, now_ms))?);
        }
        let own = self.sockets_of(0, now_ms)?;
        if !own.is_empty() {
            lines.push(Text::line(|to| {
                write!(to, "  of no transfer:{}", own.as_str())
            })?);
        }
        Some(lines)
    }

    fn write_totals(&self, to: &mut Text, counts: &Snapshot) -> fmt::Result {
        write!(
            to,
            "uvcurl {}: {} in flight ({} with libcurl, {} paused by call), {} started, {} succeeded, {} failed, {} cancelled",
            env!("CARGO_PKG_VERSION"),
            counts.in_flight,
            counts.running,
            counts.paused,
            counts.started,
            self.counters.succeeded.get(),
            self.counters.failed.get(),
            self.counters.cancelled.get(),
        )
    }

    fn write_handles(&self, to: &mut Text, counts: &Snapshot) -> fmt::Result {
        write!(to, "  libcurl's timer: ")?;
        let now = now_ns();
        match self.handles(|h| {
            (
                h.deadline.is_set(),
                h.deadline.due_ns(),
                h.deadline.is_unknown(),
            )
        }) {
            Some((true, Some(due), false)) if due > now => {
                write!(to, "due in {}", Seconds((due - now) / 1_000_000))
            }
            Some((true, ..)) => to.write_str("due now"),
            _ => to.write_str("none"),
        }?;
        write!(
            to,
            "; sockets: {} watched, {} not watchable, {} idle; {} turns ({} idle), {} stalls, {} spins",
            counts.sockets_watched,
            counts.sockets_unwatched,
            counts.sockets_idle,
            self.counters.turns.get(),
            self.counters.idle_turns.get(),
            self.counters.stalls.get(),
            self.counters.spins.get(),
        )
    }

    fn write_transfer(&self, to: &mut Text, entry: &Item, now_ms: u64) -> fmt::Result {
        let progress = sys::progress(entry.easy);
        write!(to, "  #{} ", entry.order)?;
        if progress.url.is_empty() {
            to.write_str("URL not looked at yet")?;
        } else {
            write!(to, "{}", Origin(&progress.url))?;
        }
        let age = Seconds(now_ms.saturating_sub(entry.since_ms));
        write!(to, ", {age}: ")?;
        match entry.state {
            State::Queued => to.write_str("queued until libcurl has returned"),
            State::Ending { status, .. } => {
                write!(to, "ending with {status}, libcurl is to let go")
            }
            State::Ended(status) => write!(to, "ended with {status}, to be reported"),
            State::Running => {
                let sockets = self.sockets_of(entry.order, now_ms).ok_or(fmt::Error)?;
                write!(
                    to,
                    "{}{}, {} bytes in, {} out; waits for{}",
                    phase(&progress),
                    if entry.paused { ", paused by call" } else { "" },
                    progress.downloaded,
                    progress.uploaded,
                    if sockets.is_empty() {
                        self.reason(entry, &progress)
                    } else {
                        sockets.as_str()
                    },
                )
            }
        }
    }

    /// What a transfer without a socket waits for.
    fn reason(&self, entry: &Item, progress: &Progress) -> &'static str {
        let timer = self.handles(|h| h.deadline.is_set()) == Some(true);
        match (entry.paused, has_connection(progress), timer) {
            (true, ..) => " the host, to resume it",
            (_, false, _) => " the name, or its turn",
            (.., true) => " libcurl's timer, another stream's socket, or the host, if a callback has paused it",
            (.., false) => " another stream's socket, or the host, if a callback has paused it",
        }
    }

    /// `None`: no memory.
    fn sockets_of(&self, order: u64, now_ms: u64) -> Option<Text> {
        let mut text = Text::default();
        let transfers = self.transfers.borrow();
        for (easy, started, socket, events, watched, silent) in self.sockets.borrow().list(now_ms) {
            if transfers.order(easy, started) == order {
                let comma = if text.is_empty() { "" } else { "," };
                write!(
                    text,
                    "{comma} socket {socket} ({}{}, silent for {})",
                    masks(events),
                    if watched { "" } else { ", not watched" },
                    Seconds(silent),
                )
                .ok()?;
            }
        }
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::{phase, Counters, Origin, Seconds};
    use crate::sys::Progress;

    #[test]
    fn only_tls_has_a_handshake() {
        for (url, connected, secured, wanted) in [
            ("http://a/", true, false, "connected"),
            ("https://a/", false, false, "connecting"),
            ("HTTPS://a/", true, false, "TLS handshake"),
            ("https://a/", true, true, "connected"),
        ] {
            let progress = Progress {
                url: url.to_owned(),
                looked_up: true,
                connected,
                secured,
                ..Progress::default()
            };
            assert_eq!(phase(&progress), wanted, "{url}");
        }
    }

    #[test]
    fn whatever_ends_or_runs_a_transfer_is_work() {
        let counters = Counters::default();
        let kinds = [
            &counters.actions,
            &counters.succeeded,
            &counters.failed,
            &counters.cancelled,
        ];
        for (at, kind) in kinds.into_iter().enumerate() {
            counters.add(kind);
            assert_eq!(counters.work(), at as u64 + 1);
        }
    }

    #[test]
    fn a_url_gives_no_secret_away() {
        for (url, wanted) in [
            (
                "http://127.0.0.1:8080/path?key=1#x",
                "http://127.0.0.1:8080",
            ),
            (
                "https://user:pa%40ss@example.org/a@b",
                "https://example.org",
            ),
            ("https://user:pa@ss@example.org:1/", "https://example.org:1"),
            ("https://user:pa/ss@example.org", "https://?"),
            ("https://user:pa?ss@example.org", "https://?"),
            ("HTTP:/user:secret@host/x", "HTTP://host"),
            ("user:secret@example.org/x", "example.org"),
            ("example.org?token=1", "example.org"),
            ("ftp://[::1%25eth0]:21/x", "ftp://[::1%25eth0]:21"),
            ("file:///etc/passwd", "file://etc"),
            ("ftp://[::1]/x", "ftp://[::1]"),
            ("http://ho\nst/", "http://?"),
            ("my secret:/x@example.org/", "?"),
            (":/example.org/x", ":"),
            ("", ""),
        ] {
            assert_eq!(Origin(url).to_string(), wanted, "{url}");
        }
    }

    #[test]
    fn durations_are_short() {
        for (ms, wanted) in [
            (0, "0.0 s"),
            (1_250, "1.2 s"),
            (12_900, "12 s"),
            (600_000, "10 min"),
            (36_000_000, "10 h"),
        ] {
            assert_eq!(Seconds(ms).to_string(), wanted);
        }
    }
}
