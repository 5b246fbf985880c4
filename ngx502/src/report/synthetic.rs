//! Made-up incidents for tests, reproducible from a seed: each verdict is attribution's own, at a time and of a length of
//! this module's choice.

use bstr::BString;

use crate::attribute::verdict::{Outcome, Verdict};
use crate::event::{Latency, LatencySeries, Nanos};
use crate::session::Session;
pub(super) use crate::synthetic::SECOND;
use crate::synthetic::scene::Scene;
use crate::synthetic::{self, play, stories};

/// Text that would do harm wherever it is not escaped.
const HOSTILE: &str = "<script>document.title='owned'</script><img src=http://192.0.2.1/x onerror=\"document.title='owned'\">'\"&\x1b]0;owned\x07\x1b[2J\u{202e}";

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

/// A trace since boot.
pub(super) fn session(host: &str) -> Session {
    Session { ready_at: Nanos(0), ..synthetic::session(host) }
}

/// A 502 since php-fpm8.2[812] was killed for lack of memory.
pub(super) fn oom(at: Nanos) -> Verdict {
    play::moved(&of_host("web1", stories::oom_killed_at_work), at)
}

fn of_host(host: &str, story: impl FnOnce(&mut Scene)) -> Verdict {
    play::of(play::outcome(&session(host), 0, story))
}

/// What fails in an incident, each once.
pub(super) struct Kinds {
    oom: Verdict,
    slow: [Verdict; 4],
    full: Verdict,
    refused: Verdict,
    unknown: Verdict,
}

impl Kinds {
    pub(super) fn new() -> Self {
        Self {
            oom: of_host("web1", stories::oom_killed_at_work),
            slow: [0, 1, 2, 3].map(|worker| of_host("web1", |scene| stories::slow(scene, worker))),
            full: of_host("web1", |scene| stories::queue_full(scene, 1)),
            refused: of_host("web1", stories::not_listening),
            unknown: of_host("web1", stories::unobserved),
        }
    }

    /// A verdict of an incident that lasts `span` seconds from `start`, mostly OOM kills that swell and fade.
    pub(super) fn any(&self, random: &mut Random, start: u64, span: u64) -> Verdict {
        // The sum of three is a hill.
        let moment: u64 = (0..3).map(|_| random.below(span * 1_000)).sum::<u64>() / 3;
        let at = Nanos(start * SECOND + moment * 1_000_000);
        let waited = 1_000 + random.below(200_000);
        let (kind, waited) = match random.below(100) {
            0..78 => (&self.oom, waited),
            78..88 => (&self.slow[random.below(4) as usize], 60_000_000 + random.below(20_000)),
            88..94 => (&self.full, waited),
            94..99 => (&self.refused, 150),
            _ => (&self.unknown, waited),
        };
        play::lasting(play::moved(kind, at), waited)
    }
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
    let (mut random, kinds) = (Random::new(502), Kinds::new());
    let mut collector = super::Collector::default();
    for step in 0..60 {
        let since = Nanos(step * 10 * SECOND);
        let latency = latency(&mut random, since, (12..48).contains(&step));
        collector.latency(&session, Nanos(since.0 + 10 * SECOND), &latency);
    }
    for number in 0..failures {
        let verdict = Box::new(kinds.any(&mut random, 72, 480));
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
    let mut collector = super::Collector::default();
    let name = [hostile.as_bytes(), b"\xff\x00", "x".repeat(8_192).as_bytes()].concat();
    let outcome = play::outcome(&session, 0, |scene| stories::hostile(scene, &name, hostile));
    collector.outcome(&session, &Outcome::Verdict(Box::new(play::moved(&play::of(outcome), Nanos(SECOND)))));
    collector.outcome(&session, &Outcome::Lost { events: 7, reason: hostile.to_owned() });
    collector.latency(&session, Nanos(SECOND), &latency(&mut Random::new(1), Nanos(0), false));
    collector.damage(hostile.to_owned());
    collector.finish()
}
