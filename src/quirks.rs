//! What is known against the libcurls that may be running, in one table.
//!
//! The version that counts is that of the libcurl which runs, from `curl_version_info`, not that of the headers. The
//! driver asks here wherever what it does depends on the version, and `uvcurl_libcurl_warning` tells the host the rest.

use std::fmt;

/// A bug that the driver works around only where it exists.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Bug {
    /// The end of a transfer waits for the thread that looks its name up, unless CURLOPT_QUICK_EXIT is set.
    LookupIsJoined,
    /// libcurl wants to be called at once, for ever, on account of a paused transfer.
    PauseSpins,
    /// A descriptor of libcurl's own stays ready.
    DescriptorSpins,
    /// Connections that are being closed wait for a deadline that libcurl does not set.
    ShutdownStalls,
    /// A transfer paused by call is given data when libcurl looks at it.
    PauseIsIgnored,
    /// What TLS has read for a stream of HTTP/2 may be left there when another ends.
    StreamsLeft,
}

/// What the driver may see of a bug.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Symptom {
    /// A transfer has neither a socket nor a timer.
    Forgotten,
    /// A transfer has data inside libcurl, and nothing that would make libcurl deliver them.
    Unread,
    /// A socket is ready again and again.
    Spin,
}

/// Which of the bugs below, by their report, look like what.
const LOOKS_LIKE: &[(Symptom, &str)] = &[
    (Symptom::Forgotten, "curl#15627"),
    (Symptom::Forgotten, "curl#18815"),
    (Symptom::Unread, "curl#17636"),
    (Symptom::Unread, "lib/http2.c, h2_progress_ingress()"),
    (Symptom::Spin, "curl#10618"),
    (Symptom::Spin, "curl#14280"),
    (Symptom::Spin, "curl#21671"),
    (Symptom::Spin, "curl#21547"),
];

pub(crate) struct Quirk {
    /// The first version that has it.
    from: u32,
    /// The first that no longer does.
    until: u32,
    bug: Option<Bug>,
    /// Where it is told of: a number of libcurl's tracker, or another name.
    report: &'static str,
    what: &'static str,
    /// What uvcurl does about it, or what the host can do.
    remedy: &'static str,
}

/// Versions since which libcurl has something that the driver uses where it is there.
pub(crate) mod since {
    /// `curl_multi_socket_all` serves the timeouts of transfers behind a connection limit.
    pub(crate) const PENDING_SERVED: u32 = 0x08_08_00;
    /// `curl_multi_get_offt`.
    #[cfg_attr(
        feature = "bundled-curl",
        allow(dead_code, reason = "build.rs looks at the libcurl inside")
    )]
    pub(crate) const GET_OFFT: u32 = 0x08_10_00;
    /// The descriptor by which lookups report lives as long as the multi handle.
    pub(crate) const WAKEUP_ANNOUNCED: u32 = 0x08_14_00;
    /// CURLMOPT_QUICK_EXIT, and lookups that no transfer's end waits for.
    pub(crate) const MULTI_QUICK_EXIT: u32 = 0x08_14_00;
}

const fn quirk(
    from: u32,
    until: u32,
    bug: Option<Bug>,
    report: &'static str,
    what: &'static str,
    remedy: &'static str,
) -> Quirk {
    Quirk {
        from,
        until,
        bug,
        report,
        what,
        remedy,
    }
}

/// The newest libcurl that has been looked at, 8.22.0, has it.
const UNFIXED: u32 = u32::MAX;

/// In the order in which they were fixed.
#[rustfmt::skip]
static KNOWN: &[Quirk] = &[
    quirk(0, 0x07_57_00, None, "curl#8515",
        "the end of a transfer whose name is still being looked up waits for the lookup, and the loop with it",
        "this libcurl has no option against it"),
    quirk(0, 0x07_58_00, None, "lib/http2.c",
        "nothing is read from an HTTP/2 connection while one of its streams is paused",
        "uvcurl cannot prevent it"),
    quirk(0x07_58_00, 0x08_00_00, None, "curl#10618",
        "the socket stays ready while an HTTP/2 upload waits for the peer to read",
        "uvcurl then looks at it 20 times a second, and goes on as soon as the peer has read"),
    quirk(0x08_03_00, 0x08_04_00, None, "curl#11982",
        "a paused transfer of unknown length may be closed",
        "uvcurl cannot prevent it"),
    quirk(0, 0x08_08_00, None, "curl#13227",
        "a transfer that waits behind a connection limit is not held to its timeouts before its turn comes",
        "uvcurl cannot know these timeouts"),
    quirk(0, 0x08_09_00, None, "curl#14976",
        "a socket may be closed before its removal is announced",
        "uvcurl stops watching it in the close-socket function, unless UVCURL_EASY_UNTOUCHED is set"),
    quirk(0x08_09_00, 0x08_09_01, Some(Bug::DescriptorSpins), "curl#14280",
        "sockets of closing connections may stay announced and ready",
        "uvcurl then looks at such a socket 20 times a second instead of watching it"),
    quirk(0x08_09_01, 0x08_0a_00, None, "curl commit 3eec5afbd0",
        "SIGPIPE may be raised while connections are closed",
        "the program should ignore SIGPIPE"),
    quirk(0x08_0a_00, 0x08_0a_01, None, "curl#14870",
        "an HTTP/2 upload may never be ended",
        "uvcurl cannot prevent it; use another version or HTTP/1.1 for uploads"),
    quirk(0x08_0a_00, 0x08_0b_00, None, "curl#15201",
        "curl_multi_assign() fails during cleanup",
        "uvcurl does not use it"),
    quirk(0x08_08_00, 0x08_0b_00, None, "curl#15100",
        "a transfer whose name is being looked up, or that waits behind a connection limit, is not held to its connect timeout",
        "uvcurl cannot know this timeout; set CURLOPT_TIMEOUT too"),
    quirk(0x08_0a_00, 0x08_0b_00, None, "curl#15185",
        "with CURLMOPT_MAX_HOST_CONNECTIONS 1 freed memory is used when an idle connection makes room for another",
        "uvcurl cannot prevent it; allow 2 or more"),
    quirk(0x08_0a_00, 0x08_0b_01, None, "curl#15627",
        "a deadline may not be announced again",
        "uvcurl asks for it after each deadline"),
    quirk(0x08_0b_01, 0x08_0c_00, None, "CVE-2025-0665, curl#15725",
        "the descriptor of a name lookup is closed twice, which may close another one of the program's",
        "uvcurl cannot prevent it; use another version"),
    quirk(0x08_0c_00, 0x08_0c_01, None, "curl#16236",
        "an easy handle that was used on a multi handle which is gone uses its freed TLS sessions on the next one",
        "uvcurl cannot prevent it; use a new easy handle for each driver"),
    quirk(0x08_0e_00, 0x08_0e_01, None, "curl#17473",
        "more than about 400 transfers at a time are refused for want of memory",
        "uvcurl_start() then gives UV_ENOMEM"),
    quirk(0x08_09_00, 0x08_0f_00, Some(Bug::PauseIsIgnored), "lib/transfer.c, Curl_sendrecv()",
        "a transfer paused by call may still be given data when libcurl looks at it",
        "uvcurl does not look at transfers without a socket while one is paused by uvcurl_pause(); better return \
         CURL_WRITEFUNC_PAUSE from the write callback"),
    quirk(0, 0x08_0f_00, None, "curl#17636",
        "a transfer may wait for data that TLS has already read",
        "uvcurl makes libcurl look at silent transfers once a second (UVCURL_TICK_MS)"),
    quirk(0x08_0d_00, 0x08_10_00, None, "curl#17949",
        "the removal of sockets is announced that never were",
        "uvcurl ignores it"),
    quirk(0x08_10_00, 0x08_11_00, None, "curl#18815",
        "connecting to a second address may be forgotten",
        "uvcurl makes libcurl look at silent transfers once a second (UVCURL_TICK_MS)"),
    quirk(0x07_57_00, since::MULTI_QUICK_EXIT, Some(Bug::LookupIsJoined), "curl#8515",
        "the end of a transfer whose name is still being looked up waits for the lookup",
        "uvcurl sets CURLOPT_QUICK_EXIT, unless UVCURL_EASY_UNTOUCHED is set"),
    quirk(0x08_09_00, 0x08_15_00, Some(Bug::PauseSpins), "curl#21671",
        "libcurl asks to be called without a break while a transfer is paused, or its socket stays ready",
        "uvcurl calls it at most 100 times a second then, and watches the socket 20 times a second"),
    quirk(0x08_0d_00, 0x08_15_00, None, "CVE-2026-9080",
        "curl_easy_pause() inside the socket callback uses freed memory",
        "uvcurl_pause() never calls it there"),
    quirk(0x08_14_00, 0x08_15_00, Some(Bug::DescriptorSpins), "curl#21547",
        "the descriptor by which name lookups report may stay ready",
        "uvcurl then looks at it 20 times a second instead of watching it"),
    quirk(0x08_14_00, 0x08_16_00, None, "lib/thrdqueue.c",
        "a name lookup for which no thread could be made waits until there is another lookup",
        "uvcurl cannot prevent it; the timeouts of the transfer end it"),
    quirk(0x08_15_00, 0x08_16_00, Some(Bug::ShutdownStalls), "curl#22282",
        "connections that close over TLS may never be closed, and keep their descriptor and memory",
        "uvcurl makes libcurl see to them every 5 seconds while transfers are in flight"),
    // Since OpenSSL reads ahead (curl#17548). Without the others' data in it the socket is not readable any more.
    quirk(0x08_0f_00, UNFIXED, Some(Bug::StreamsLeft), "lib/http2.c, h2_progress_ingress()",
        "a transfer over HTTP/2 may wait for data that TLS has already read, if another one of its connection has ended \
         without an event of the socket",
        "uvcurl makes libcurl look at the others 40 ms later"),
];

fn known(libcurl: u32) -> impl Iterator<Item = &'static Quirk> {
    KNOWN
        .iter()
        .filter(move |quirk| (quirk.from..quirk.until).contains(&libcurl))
}

/// Which of the bugs that it works around the driver has to do with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bugs {
    pub(crate) pause_spins: bool,
    pub(crate) shutdown_stalls: bool,
    pub(crate) pause_is_ignored: bool,
    pub(crate) streams_left: bool,
}

impl Bugs {
    pub(crate) fn of(libcurl: u32) -> Bugs {
        Bugs {
            pause_spins: has(libcurl, Bug::PauseSpins),
            shutdown_stalls: has(libcurl, Bug::ShutdownStalls),
            pause_is_ignored: has(libcurl, Bug::PauseIsIgnored),
            streams_left: has(libcurl, Bug::StreamsLeft),
        }
    }
}

/// Whether the libcurl of this number, 0x081600 for 8.22.0, has the bug.
pub(crate) fn has(libcurl: u32, bug: Bug) -> bool {
    known(libcurl).any(|quirk| quirk.bug == Some(bug))
}

/// What is to be said of a symptom, once it is seen: which bug that is.
pub(crate) struct Blame(pub(crate) u32, pub(crate) Symptom);

impl fmt::Display for Blame {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Blame(libcurl, symptom) = *self;
        let (major, minor, patch) = (libcurl >> 16, libcurl >> 8 & 0xff, libcurl & 0xff);
        match known(libcurl).find(|quirk| LOOKS_LIKE.contains(&(symptom, quirk.report))) {
            Some(quirk) => write!(
                to,
                "libcurl {major}.{minor}.{patch} has that bug: {} ({})",
                quirk.what, quirk.report
            ),
            None => write!(
                to,
                "no such bug of libcurl {major}.{minor}.{patch} is known, please report it"
            ),
        }
    }
}

/// All that is known against a libcurl, in sentences. `None`: nothing.
pub(crate) fn warning(libcurl: u32) -> Option<String> {
    let sentences: Vec<String> = known(libcurl)
        .map(|quirk| format!("{} ({}); {}.", quirk.what, quirk.report, quirk.remedy))
        .collect();
    if sentences.is_empty() {
        return None;
    }
    let (major, minor, patch) = (libcurl >> 16, libcurl >> 8 & 0xff, libcurl & 0xff);
    Some(format!(
        "libcurl {major}.{minor}.{patch}: {}",
        sentences.join(" Also: ")
    ))
}

#[cfg(test)]
mod tests {
    use super::{has, known, warning, Bug, KNOWN};

    /// The reports known against a version, in the table's order.
    fn reports(libcurl: u32) -> Vec<&'static str> {
        known(libcurl).map(|quirk| quirk.report).collect()
    }

    /// Each range by its first and last release, and the releases before and after it. Written out, so that a slip in the
    /// hexadecimal numbers shows.
    #[test]
    fn each_bug_is_known_in_its_versions_only() {
        type Versions = &'static [(u32, u32, u32)];
        #[rustfmt::skip]
        let expected: &[(&str, Versions, Versions)] = &[
            ("lib/http2.c", &[(7, 84, 0), (7, 87, 0)], &[(7, 88, 0)]),
            ("curl#10618", &[(7, 88, 0), (7, 88, 1)], &[(7, 87, 0), (8, 0, 0)]),
            ("curl#11982", &[(8, 3, 0)], &[(8, 2, 1), (8, 4, 0)]),
            ("curl#13227", &[(7, 84, 0), (8, 7, 1)], &[(8, 8, 0)]),
            ("curl#14976", &[(7, 84, 0), (8, 8, 0)], &[(8, 9, 0)]),
            ("curl#14280", &[(8, 9, 0)], &[(8, 8, 0), (8, 9, 1)]),
            ("curl commit 3eec5afbd0", &[(8, 9, 1)], &[(8, 9, 0), (8, 10, 0)]),
            ("curl#14870", &[(8, 10, 0)], &[(8, 9, 1), (8, 10, 1)]),
            ("curl#15201", &[(8, 10, 0), (8, 10, 1)], &[(8, 9, 1), (8, 11, 0)]),
            ("curl#15100", &[(8, 8, 0), (8, 10, 1)], &[(8, 7, 1), (8, 11, 0)]),
            ("curl#15185", &[(8, 10, 0), (8, 10, 1)], &[(8, 9, 1), (8, 11, 0)]),
            ("curl#15627", &[(8, 10, 0), (8, 10, 1), (8, 11, 0)], &[(8, 9, 1), (8, 11, 1)]),
            ("CVE-2025-0665, curl#15725", &[(8, 11, 1)], &[(8, 11, 0), (8, 12, 0)]),
            ("curl#16236", &[(8, 12, 0)], &[(8, 11, 1), (8, 12, 1)]),
            ("curl#17473", &[(8, 14, 0)], &[(8, 13, 0), (8, 14, 1)]),
            ("lib/transfer.c, Curl_sendrecv()", &[(8, 9, 0), (8, 14, 1)], &[(8, 8, 0), (8, 15, 0)]),
            ("curl#17636", &[(7, 84, 0), (8, 14, 1)], &[(8, 15, 0)]),
            ("curl#17949", &[(8, 13, 0), (8, 15, 0)], &[(8, 12, 1), (8, 16, 0)]),
            ("curl#18815", &[(8, 16, 0)], &[(8, 15, 0), (8, 17, 0)]),
            ("curl#8515", &[(7, 84, 0), (7, 86, 0), (7, 87, 0), (8, 19, 0)], &[(8, 20, 0)]),
            ("curl#21671", &[(8, 9, 0), (8, 20, 0)], &[(8, 8, 0), (8, 21, 0)]),
            ("CVE-2026-9080", &[(8, 13, 0), (8, 20, 0)], &[(8, 12, 1), (8, 21, 0)]),
            ("curl#21547", &[(8, 20, 0)], &[(8, 19, 0), (8, 21, 0)]),
            ("lib/thrdqueue.c", &[(8, 20, 0), (8, 21, 0)], &[(8, 19, 0), (8, 22, 0)]),
            ("curl#22282", &[(8, 21, 0)], &[(8, 20, 0), (8, 22, 0)]),
            ("lib/http2.c, h2_progress_ingress()", &[(8, 15, 0), (8, 22, 0)], &[(7, 88, 0), (8, 14, 1)]),
        ];
        for (report, with, without) in expected {
            for (versions, wanted) in [(with, true), (without, false)] {
                for (major, minor, patch) in *versions {
                    let number = major << 16 | minor << 8 | patch;
                    let found = reports(number).contains(report);
                    assert_eq!(found, wanted, "{report} in {major}.{minor}.{patch}");
                }
            }
        }
        for quirk in KNOWN {
            assert!(
                expected.iter().any(|(report, ..)| *report == quirk.report),
                "{} is not tested",
                quirk.report
            );
        }
    }

    #[test]
    fn lookups_are_not_joined_from_7_87_to_8_19_only_with_the_option() {
        for (number, wanted) in [
            (0x07_56_00, false),
            (0x07_57_00, true),
            (0x08_13_00, true),
            (0x08_14_00, false),
        ] {
            assert_eq!(has(number, Bug::LookupIsJoined), wanted, "{number:x}");
        }
    }

    #[test]
    fn a_warning_names_version_bug_and_remedy() {
        let text = warning(0x08_15_00).expect("8.21.0 has a bug");
        assert_eq!(
            text,
            "libcurl 8.21.0: a name lookup for which no thread could be made waits until there is another lookup \
             (lib/thrdqueue.c); uvcurl cannot prevent it; the timeouts of the transfer end it. Also: connections that close over \
             TLS may never be closed, and keep their descriptor and memory (curl#22282); uvcurl makes libcurl see to them \
             every 5 seconds while transfers are in flight. Also: a transfer over HTTP/2 may wait for data that TLS has already read, if another one of its connection has ended without an event \
             of the socket (lib/http2.c, h2_progress_ingress()); uvcurl makes libcurl look at the others 40 ms later."
        );
        let text = warning(0x08_0a_00).expect("8.10.0 has several");
        for part in ["libcurl 8.10.0: ", "curl#15627", "curl#14870", " Also: "] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
