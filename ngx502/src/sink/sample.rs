//! Verdicts for the sinks' tests.

use bstr::BString;

use crate::attribute::verdict::{
    AttemptFacts, Cause, Certainty, Evidence, Outcome, ProcessFacts, RequestFacts, Symptom, Times,
    UpstreamFacts, Verdict, WorkerFacts,
};
use crate::event::{Nanos, Pid};
use crate::session::Session;
use crate::sink::{LatencyFacts, Quantiles, SummaryFacts, UpstreamLatency};

/// 2026-11-21T03:14:15.926535Z on the clock of [`session`].
pub(super) const AT: Nanos = Nanos(600_926_535_000);

pub(super) fn session() -> Session {
    Session {
        version: "0.1.0".into(),
        host: "web-1".into(),
        kernel: "6.1.0-37-amd64".into(),
        providers: vec![("listen".into(), "raw_tp".into()), ("closer".into(), "none".into())],
        nginx: vec!["nginx/1.22.1 /usr/sbin/nginx".into()],
        workers: vec![811, 812],
        wall_offset: 1_795_230_255_000_000_000,
        ready_at: Nanos(500_000_000_000),
        ..Session::default()
    }
}

/// A 502 by an OOM kill, with a retry.
pub(super) fn oom_killed() -> Verdict {
    Verdict {
        at: AT,
        status: 502,
        host: "web-1".into(),
        request: Some(RequestFacts {
            method: Some("GET".into()),
            uri: Some("/index.php".into()),
            host: Some("shop.example".into()),
            client: Some("203.0.113.9".into()),
        }),
        worker: WorkerFacts {
            pid: Pid(811),
            exe: Some("/usr/sbin/nginx".into()),
            container: None,
            container_name: None,
        },
        upstream: Some(UpstreamFacts {
            address: "127.0.0.1:9000".into(),
            unix: false,
            process: Some(
                ProcessFacts {
                    pid: Pid(4711),
                    comm: "php-fpm8.2".into(),
                    unit: Some("php8.2-fpm.service".into()),
                    unit_of_user: None,
                    container: None,
                    container_names: None,
                    pool: None,
                }
                .into(),
            ),
        }),
        symptom: Symptom::ConnectRefused,
        cause: Cause::OomKilled,
        certainty: Certainty::Proven,
        summary:
            "php-fpm8.2 (pid 4711, php8.2-fpm.service) was killed for memory 12.3 s before this request, and \
                  nobody has listened on 127.0.0.1:9000 since."
                .into(),
        evidence: vec![
            evidence(12_345_000, "oom", "the kernel chose php-fpm8.2 (pid 4711): RSS 498 MiB, limit 512 MiB"),
            evidence(12_300_000, "exit", "php-fpm8.2 (pid 4711) died of SIGKILL"),
            evidence(85, "connect", "127.0.0.1:9000 answered the SYN with RST"),
        ],
        attempts: vec![
            attempt("127.0.0.1:9001", Cause::NotListening),
            attempt("127.0.0.1:9000", Cause::OomKilled),
        ],
        errno: Some(111),
        latency: Times { connect_us: None, first_byte_us: None, total_us: Some(85) },
        fix: vec![
            "systemctl restart php8.2-fpm.service".into(),
            "raise MemoryMax= of php8.2-fpm.service".into(),
        ],
    }
}

/// A verdict in which every optional fact is absent.
pub(super) fn unknown() -> Verdict {
    Verdict {
        at: AT,
        status: 504,
        host: "web-1".into(),
        request: None,
        worker: WorkerFacts { pid: Pid(812), exe: None, container: None, container_name: None },
        upstream: None,
        symptom: Symptom::ReadTimedOut,
        cause: Cause::Unknown,
        certainty: Certainty::Unknown,
        summary: "nginx gave up waiting; no hook saw the upstream's side.".into(),
        evidence: vec![],
        attempts: vec![],
        errno: None,
        latency: Times::default(),
        fix: vec![],
    }
}

/// A verdict whose every text is an attack.
pub(super) fn hostile() -> Verdict {
    let attack: BString = b"/\x1b]0;x\x07\xff\xe2\x80\xae?q".to_vec().into();
    let mut verdict = oom_killed();
    verdict.request = Some(RequestFacts {
        method: Some(attack.clone()),
        uri: Some(attack.clone()),
        host: Some(attack.clone()),
        client: Some(attack.clone()),
    });
    let text = "\u{9b}31m\u{202e}\u{1b}[2J\nforged line";
    verdict.summary = text.into();
    verdict.evidence = vec![evidence(85, "connect", text)];
    verdict.fix = vec![text.into()];
    verdict.upstream = Some(UpstreamFacts {
        address: attack.clone(),
        unix: true,
        process: Some(
            ProcessFacts {
                pid: Pid(1),
                comm: attack,
                unit: Some(text.into()),
                unit_of_user: None,
                container: Some(text.into()),
                container_names: None,
                pool: None,
            }
            .into(),
        ),
    });
    verdict
}

pub(super) fn summary() -> SummaryFacts {
    SummaryFacts {
        verdicts: 12_345,
        rescued: 12,
        by_cause: vec![(Cause::OomKilled, 12_000), (Cause::NotListening, 345)],
        by_symptom: vec![(Symptom::ConnectRefused, 12_345)],
        not_upstream: vec![(503, 7)],
        lost_events: 0,
        latency: LatencyFacts {
            connect: Some(Quantiles { count: 52_000, p50: 85, p90: 120, p99: 1_250, max: 9_800 }),
            first_byte: None,
            total: Some(Quantiles {
                count: 52_000,
                p50: 12_000,
                p90: 85_000,
                p99: 1_250_000,
                max: 60_000_000,
            }),
        },
        upstreams: upstreams(),
    }
}

/// One upstream with answered and failed requests.
pub(super) fn upstreams() -> Vec<UpstreamLatency> {
    let quantiles =
        Some(Quantiles { count: 52_000, p50: 12_287, p90: 86_015, p99: 1_245_183, max: 60_817_407 });
    let series = |ok, total| UpstreamLatency {
        upstream: "unix:/run/php/\u{1b}[31mphp.sock".into(),
        ok,
        latency: LatencyFacts { connect: None, first_byte: None, total },
    };
    vec![series(true, quantiles), series(false, quantiles.map(|all| Quantiles { count: 7, ..all }))]
}

pub(super) fn verdict(verdict: Verdict) -> Outcome {
    Outcome::Verdict(Box::new(verdict))
}

fn evidence(micros_before: u64, event: &'static str, text: &'static str) -> Evidence {
    Evidence { at: Nanos(AT.0 - micros_before * 1_000), event, text: text.into() }
}

fn attempt(upstream: &str, cause: Cause) -> AttemptFacts {
    AttemptFacts {
        upstream: Some(upstream.into()),
        symptom: Some(Symptom::ConnectRefused),
        cause: Some(cause),
        errno: Some(111),
        times: Times { connect_us: None, first_byte_us: None, total_us: Some(85) },
    }
}
