//! What attribution says of scenes: every verdict of the tests is made here, by the product's own code.

use ngx502::attribute::finding::evidence::Evidence;
use ngx502::attribute::finding::{Facts, Listener};
use ngx502::attribute::verdict::{Outcome, Verdict};
use ngx502::attribute::{Attributor, Options};
use ngx502::event::Nanos;
use ngx502::query;
use ngx502::session::Session;

use super::scene::{self, Scene};

/// The last outcome of the scene of this number, played alone in a trace of `session`.
pub(crate) fn outcome(session: &Session, number: u32, play: impl FnOnce(&mut Scene)) -> Outcome {
    let mut scene = Scene::new(number);
    play(&mut scene);
    let (mut engine, mut out) = (Attributor::new(session, Options::of(session)), Vec::new());
    for mut record in scene.take_records() {
        query::cut(session, &mut record);
        engine.feed(record, &mut out);
    }
    engine.finish(&mut out);
    out.pop().expect("a scene ends in an outcome")
}

/// The verdict that a scene ends in on web-1, whatever the client got.
pub(crate) fn verdict(play: impl FnOnce(&mut Scene)) -> Verdict {
    of(outcome(&scene::session(), 0, play))
}

/// The verdict that an outcome holds.
pub(crate) fn of(outcome: Outcome) -> Verdict {
    match outcome {
        Outcome::Verdict(verdict) | Outcome::Rescued(verdict) => *verdict,
        other => panic!("expected a verdict, got {other:?}"),
    }
}

/// The same failure at another time.
pub(crate) fn moved(verdict: &Verdict, at: Nanos) -> Verdict {
    let moment = |then: Nanos| Nanos((at.0 + then.0).saturating_sub(verdict.at.0));
    let evidence = verdict.evidence.iter().map(|fact| Evidence { at: moment(fact.at), ..fact.clone() });
    let mut moved = Verdict { at, evidence: evidence.collect(), ..verdict.clone() };
    match &mut moved.finding.facts {
        Facts::Death(death) => death.at = moment(death.at),
        Facts::Listener(Listener::Stopped { at: Some(at), .. }) => *at = moment(*at),
        _ => {}
    }
    moved
}

/// The same failure after another time of waiting (microseconds).
pub(crate) fn lasting(mut verdict: Verdict, total_us: u64) -> Verdict {
    let last = verdict.attempts.last_mut().map(|attempt| &mut attempt.times);
    last.into_iter().chain([&mut verdict.latency]).for_each(|times| times.total_us = Some(total_us));
    verdict
}

/// The sentence that a verdict says.
pub(crate) fn summary(verdict: &Verdict) -> String {
    verdict.summary().to_string()
}

/// Its evidence, each fact with its kind.
pub(crate) fn facts(verdict: &Verdict) -> Vec<(String, String)> {
    verdict.evidence.iter().map(|fact| (fact.event().to_string(), fact.text(verdict).to_string())).collect()
}

/// What it says to do.
pub(crate) fn fixes(verdict: &Verdict) -> Vec<String> {
    verdict.fix().iter().map(ToString::to_string).collect()
}
