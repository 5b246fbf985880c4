//! Made-up sessions, outcomes and latency for tests: reproducible from a seed.

use bstr::BString;

use crate::attribute::verdict::*;
use crate::event::{Latency, LatencySeries, Nanos, Pid};
use crate::session::Session;

/// 2026-11-21T02:00:00Z as CLOCK_REALTIME minus CLOCK_BOOTTIME.
const WALL: i64 = 1_795_226_400_000_000_000;
pub(super) const SECOND: u64 = 1_000_000_000;

/// Text that would do harm wherever it is not escaped.
pub(super) const HOSTILE: &str = "<script>document.title='owned'</script><img src=http://192.0.2.1/x onerror=\"document.title='owned'\">'\"&\x1b]0;owned\x07\x1b[2J\u{202e}";

/// A small fast generator (xorshift64*), enough to vary tests.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % end
    }
}

pub(super) fn session(host: &str) -> Session {
    Session {
        version: "0.1.0".to_owned(),
        host: host.to_owned(),
        kernel: "6.1.0-31-cloud-amd64".to_owned(),
        nginx: vec!["nginx/1.22.1 (/usr/sbin/nginx)".to_owned()],
        wall_offset: WALL,
        ..Session::default()
    }
}

/// A 502 since php-fpm[812] was killed for lack of memory.
pub(super) fn oom(at: Nanos) -> Verdict {
    let fact = |before: u64, event, text: &str| Evidence {
        at: Nanos(at.0.saturating_sub(before)),
        event,
        text: text.to_owned().into(),
    };
    Verdict {
        at,
        status: 502,
        host: "web1".into(),
        request: Some(RequestFacts {
            method: Some("GET".into()),
            uri: Some("/cart".into()),
            host: Some("shop.example".into()),
            client: Some("192.0.2.7".into()),
        }),
        worker: WorkerFacts { pid: Pid(410), exe: Some("/usr/sbin/nginx".into()), container: None, container_name: None },
        upstream: Some(upstream("unix:/run/php/php8.2-fpm.sock", 812, "php-fpm8.2", Some("php8.2-fpm.service"))),
        symptom: Symptom::Reset,
        cause: Cause::OomKilled,
        certainty: Certainty::Proven,
        summary: "php-fpm8.2[812] was killed for lack of memory (limit 512 MiB of its cgroup) while it worked on the request"
            .into(),
        evidence: vec![
            fact(90_000_000, "connect", "nginx[410] connected to unix:/run/php/php8.2-fpm.sock"),
            fact(2_000_000, "oom", "the kernel chose php-fpm8.2[812], RSS 498 MiB, cgroup limit 512 MiB"),
            fact(1_000_000, "exit", "php-fpm8.2[812] died of SIGKILL"),
            fact(0, "nginx", "recv() failed (104: Connection reset by peer)"),
        ],
        attempts: Vec::new(),
        errno: Some(104),
        latency: Times { connect_us: Some(40), first_byte_us: None, total_us: Some(90_000) },
        fix: vec!["systemctl set-property php8.2-fpm.service MemoryMax=1G".into()],
    }
}

fn upstream(address: &str, pid: u32, comm: &str, unit: Option<&str>) -> UpstreamFacts {
    UpstreamFacts {
        address: address.into(),
        unix: address.starts_with("unix:"),
        process: Some(
            ProcessFacts {
                pid: Pid(pid),
                comm: comm.into(),
                unit: unit.map(Into::into),
                unit_of_user: None,
                container: None,
                container_names: None,
                pool: None,
            }
            .into(),
        ),
    }
}

/// A verdict of an incident that lasts `span` seconds from `start`, mostly OOM kills that swell and fade.
pub(super) fn verdict(random: &mut Random, start: u64, span: u64) -> Verdict {
    // The sum of three is a hill.
    let moment: u64 = (0..3).map(|_| random.below(span * 1_000)).sum::<u64>() / 3;
    let mut verdict = oom(Nanos(start * SECOND + moment * 1_000_000));
    verdict.latency.total_us = Some(1_000 + random.below(200_000));
    match random.below(100) {
        0..78 => return verdict,
        78..88 => {
            verdict.status = 504;
            (verdict.symptom, verdict.cause) = (Symptom::ReadTimedOut, Cause::UpstreamSlow);
            verdict.upstream = Some(upstream(
                "127.0.0.1:8000",
                900 + random.below(4) as u32,
                "gunicorn",
                Some("shop.service"),
            ));
            verdict.latency.total_us = Some(60_000_000 + random.below(20_000));
            verdict.summary = "gunicorn accepted the request and did not answer within 60 s".into();
        }
        88..94 => {
            (verdict.symptom, verdict.cause) = (Symptom::SocketBacklogFull, Cause::QueueFull);
            verdict.certainty = Certainty::Inferred;
            verdict.summary = "the accept queue of php-fpm8.2[812] was full: 512 of 511".into();
        }
        94..99 => {
            (verdict.symptom, verdict.cause) = (Symptom::ConnectRefused, Cause::NotListening);
            verdict.upstream =
                Some(UpstreamFacts { address: "[2001:db8::5]:9000".into(), unix: false, process: None });
            verdict.latency = Times { total_us: Some(150), ..Times::default() };
            verdict.summary = "nobody has listened on [2001:db8::5]:9000 since tracing began".into();
        }
        _ => {
            (verdict.cause, verdict.certainty) = (Cause::Unknown, Certainty::Unknown);
            verdict.summary = "the connection was reset; no hook saw by whom".into();
        }
    }
    verdict.evidence.retain(|fact| fact.event == "nginx");
    verdict.evidence[0].text = format!("nginx reported {}", verdict.symptom).into();
    verdict.fix.clear();
    verdict
}

/// Latency of ten seconds of health, or of trouble.
pub(super) fn latency(random: &mut Random, since: Nanos, slow: bool) -> Latency {
    let mut series = Vec::new();
    for upstream in ["unix:/run/php/php8.2-fpm.sock", "127.0.0.1:8000"] {
        let base = if upstream.starts_with("unix") { 4_000 } else { 18_000 } * if slow { 6 } else { 1 };
        let total = (0..40_u64).map(|step| {
            (base * (16 + step * step) / 32, 1 + 900 / (1 + (step * step / 3)) + random.below(3))
        });
        let total: Vec<_> = total.collect();
        let first_byte = total.iter().map(|(micros, count)| (micros * 9 / 10, *count)).collect();
        series.push(LatencySeries {
            upstream: BString::from(upstream),
            ok: true,
            connect: vec![(30, 900), (60, 90), (250, 4)],
            first_byte,
            total,
        });
    }
    Latency { since, series }
}

/// An incident of `failures` over eight minutes on web1, with ten minutes of latency around it.
pub(super) fn incident(failures: u64) -> super::Report {
    let session = session("web1");
    let mut random = Random::new(502);
    let mut collector = super::Collector::new();
    for step in 0..60 {
        let since = Nanos(step * 10 * SECOND);
        let latency = latency(&mut random, since, (12..48).contains(&step));
        collector.latency(&session, Nanos(since.0 + 10 * SECOND), &latency);
    }
    for number in 0..failures {
        let verdict = Box::new(verdict(&mut random, 72, 480));
        let outcome = if number % 50 == 49 { Outcome::Rescued(verdict) } else { Outcome::Verdict(verdict) };
        collector.outcome(&session, &outcome);
    }
    collector.outcome(&session, &Outcome::NotUpstream { status: 502 });
    collector.finish()
}

/// A report in which every text is [`HOSTILE`].
pub(super) fn hostile() -> super::Report {
    hostile_as(HOSTILE)
}

/// A report in which every text is `hostile`.
pub(super) fn hostile_as(hostile: &str) -> super::Report {
    let session = Session {
        host: hostile.to_owned(),
        kernel: hostile.to_owned(),
        version: hostile.to_owned(),
        nginx: vec![hostile.to_owned()],
        with_query: true,
        ..session("")
    };
    let mut collector = super::Collector::new();
    let mut verdict = oom(Nanos(SECOND));
    verdict.host = hostile.into();
    let text =
        || Some(BString::from([hostile.as_bytes(), b"\xff\x00", "x".repeat(8_192).as_bytes()].concat()));
    verdict.request = Some(RequestFacts { method: text(), uri: text(), host: text(), client: text() });
    verdict.upstream = Some(upstream(hostile, 1, hostile, Some(hostile)));
    verdict.summary = hostile.to_owned().into();
    verdict.evidence.iter_mut().for_each(|fact| fact.text = hostile.to_owned().into());
    verdict.fix = vec![hostile.to_owned().into()];
    collector.outcome(&session, &Outcome::Verdict(Box::new(verdict)));
    collector.outcome(&session, &Outcome::Lost { events: 7, reason: hostile.to_owned() });
    collector.latency(&session, Nanos(SECOND), &latency(&mut Random::new(1), Nanos(0), false));
    collector.damage(hostile.to_owned());
    collector.finish()
}
