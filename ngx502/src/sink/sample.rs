//! Verdicts for the sinks' tests.

use crate::attribute::verdict::{Cause, Outcome, Symptom, Verdict};
use crate::event::Nanos;
use crate::latency::{Phases, Quantiles};
use crate::session::Session;
use crate::summary::{Summary, UpstreamLatency};
use crate::synthetic::{self, cases, play, stories};

/// When [`oom_killed`] failed: 2026-11-21T02:16:52.012Z.
pub(super) const AT: Nanos = Nanos(1_012_012_000_000);

/// What a client may send to a terminal and to a spreadsheet.
const ATTACK: &[u8] = b"/\x1b]0;x\x07\xff\xe2\x80\xae?q";
/// What a process may call itself.
pub(super) const FORGERY: &str = "\u{9b}31m\u{202e}\u{1b}[2J\nforged line";

/// A trace that lacks one hook.
pub(super) fn session() -> Session {
    Session {
        providers: vec![("listen".into(), "raw_tp".into()), ("closer".into(), "none".into())],
        workers: vec![410, 411],
        ..synthetic::session("web-1")
    }
}

/// A 502 by an OOM kill, with a retry.
pub(super) fn oom_killed() -> Verdict {
    let verdict = play::verdict(stories::oom_killed);
    assert_eq!(verdict.at, AT);
    verdict
}

/// A 502 that a proxy only passed on.
pub(super) fn forwarded() -> Verdict {
    play::verdict(cases::named("through a proxy whose server died as it served"))
}

/// A verdict in which every optional fact is absent.
pub(super) fn unknown() -> Verdict {
    play::verdict(stories::unknown)
}

/// A verdict whose every text is an attack.
pub(super) fn hostile() -> Verdict {
    hostile_names(ATTACK)
}

/// The same with these names of the client's and of the upstream.
pub(super) fn hostile_names(names: &[u8]) -> Verdict {
    play::verdict(|scene| stories::hostile(scene, names, FORGERY))
}

pub(super) fn summary() -> Summary {
    Summary {
        verdicts: 12_345,
        rescued: 12,
        by_cause: vec![(Cause::OomKilled, 12_000), (Cause::NotListening, 345)],
        by_symptom: vec![(Symptom::ConnectRefused, 12_345)],
        not_upstream: vec![(503, 7)],
        lost_events: 0,
        latency: Phases {
            connect: Some(Quantiles {
                count: 52_000,
                p50_us: 85,
                p90_us: 120,
                p99_us: 1_250,
                p999_us: 9_800,
                max_us: 9_800,
            }),
            first_byte: None,
            total: Some(Quantiles {
                count: 52_000,
                p50_us: 12_000,
                p90_us: 85_000,
                p99_us: 1_250_000,
                p999_us: 60_000_000,
                max_us: 60_000_000,
            }),
        },
        upstreams: upstreams(),
    }
}

/// One upstream with answered and failed requests.
pub(super) fn upstreams() -> Vec<UpstreamLatency> {
    let quantiles = Some(Quantiles {
        count: 52_000,
        p50_us: 12_287,
        p90_us: 86_015,
        p99_us: 1_245_183,
        p999_us: 60_817_407,
        max_us: 60_817_407,
    });
    let series = |ok, total| UpstreamLatency {
        upstream: "unix:/run/php/\u{1b}[31mphp.sock".into(),
        ok,
        latency: Phases { connect: None, first_byte: None, total },
    };
    vec![series(true, quantiles), series(false, quantiles.map(|all| Quantiles { count: 7, ..all }))]
}

pub(super) fn verdict(verdict: Verdict) -> Outcome {
    Outcome::Verdict(Box::new(verdict))
}
