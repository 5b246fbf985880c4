//! The report as a whole, from made-up incidents.

mod browser;

use std::time::Instant;

use super::chart::{self, ChartError, Kind};
use super::model::Report;
use super::synthetic::{self, Kinds, Random, SECOND};
use super::{Collector, html, text};
use crate::attribute::verdict::{Cause, Outcome, Verdict};
use crate::event::Nanos;
use crate::synthetic::play;
use crate::wrap::columns;

#[test]
fn the_text_tells_the_incident() {
    let text = text::render(&synthetic::incident(5_000), 80);
    assert!(text.lines().all(|line| columns(line) <= 80), "{text}");
    insta::assert_snapshot!("text", text);
}

#[test]
fn nothing_observed_and_nothing_failed_are_said() {
    let empty = Collector::default().finish();
    assert_eq!(text::render(&empty, 100).lines().count(), 1);
    assert!(empty.summary.contains("nothing was observed"), "{}", empty.summary);
    let mut calm = Collector::default();
    let session = synthetic::session("web1");
    calm.latency(&session, Nanos(10 * SECOND), &synthetic::latency(&mut Random::new(1), Nanos(0), false));
    let calm = calm.finish();
    assert!(
        calm.summary.contains("nginx on web1 answered no request with an upstream error"),
        "{}",
        calm.summary
    );
    assert!(html::render(&calm).contains("<h2>Latency</h2>"));
}

#[test]
fn every_count_adds_up() {
    let report = synthetic::incident(5_000);
    let failed = report.totals.failed;
    assert_eq!((failed, report.totals.rescued, report.totals.not_upstream), (4_900, 100, 1));
    assert_eq!(report.causes.iter().map(|row| row.count).sum::<u64>(), failed);
    assert_eq!(report.symptoms.iter().map(|row| row.count).sum::<u64>(), failed);
    assert_eq!(report.upstreams.iter().map(|row| row.failed).sum::<u64>(), failed);
    assert_eq!(report.timeline.buckets.iter().map(|bucket| bucket.failed).sum::<u64>(), failed);
    assert_eq!(report.timeline.episodes.iter().map(|episode| episode.failed).sum::<u64>(), failed);
    assert_eq!(report.hosts[0].failed, failed);
    assert_eq!(report.causes[0].cause, Cause::OomKilled);
    assert!(report.first.is_sorted_by_key(|case| case.time) && report.first.len() == 3);
    assert!(
        report.worst[0].total_us >= report.worst[2].total_us && report.worst[2].total_us > Some(60_000_000)
    );
}

#[test]
fn a_time_below_nginxs_clock_is_told_and_not_ranked() {
    let mut collector = Collector::default();
    for total_us in [0, 90_000] {
        let verdict = play::lasting(synthetic::oom(Nanos(SECOND)), total_us);
        collector.outcome(&synthetic::session("web1"), &Outcome::Verdict(Box::new(verdict)));
    }
    let report = collector.finish();
    let failed = report.latency.all.failed.total.unwrap();
    assert_eq!((report.latency.unmeasured, failed.count, failed.p50_us), (1, 1, 90_000));
    let told =
        "Not in these figures: 1 failed attempt, which nginx's clock found shorter than its millisecond.";
    let text = text::render(&report, 100);
    assert!(text.contains(told) && text.contains("waited less than 1 ms"), "{text}");
    assert!(html::render(&report).contains("1 failed attempt, which nginx's clock found"));
}

#[test]
fn the_text_names_the_host_where_there_are_several() {
    let mut collector = Collector::default();
    for host in ["web1", "web2"] {
        let verdict = Verdict { host: host.into(), ..synthetic::oom(Nanos(SECOND)) };
        collector.outcome(&synthetic::session(host), &Outcome::Verdict(Box::new(verdict)));
    }
    let text = text::render(&collector.finish(), 100);
    for row in ["php8.2-fpm.sock on web2  ", "(php8.2-fpm.service) on web2  ", "waited 90 ms on web2"] {
        assert!(text.contains(row), "no `{row}` in {text}");
    }
    assert!(!text::render(&small(), 100).contains(" on web1  "));
}

#[test]
fn json_is_read_back_as_it_was() {
    for report in [synthetic::incident(500), synthetic::hostile(), Collector::default().finish()] {
        let json = report.to_json();
        assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
        assert!(!json.chars().any(|c| c.is_control() && c != '\n'));
    }
    insta::assert_snapshot!("json", small().to_json());
}

/// One failure, for a snapshot that a person can read.
fn small() -> Report {
    let mut collector = Collector::default();
    collector.outcome(
        &synthetic::session("web1"),
        &Outcome::Verdict(Box::new(synthetic::oom(Nanos(72 * SECOND)))),
    );
    let mut report = collector.finish();
    report.version = "(version)".to_owned();
    report
}

#[test]
fn the_page_has_its_parts() {
    let page = html::render(&small());
    // Style and pictures are looked at, not compared.
    let (_, main) = page.split_once("<main>").unwrap();
    let main = main.replace("><", ">\n<");
    let parts: Vec<_> = main
        .split("<figure>")
        .map(|part| part.split_once("</figure>").map_or(part, |(_, rest)| rest))
        .collect();
    insta::assert_snapshot!("page", parts.join("(figure)"));
}

#[test]
fn hostile_text_is_inert_and_bounded_everywhere() {
    let report = synthetic::hostile();
    let page = html::render(&report);
    assert!(
        !page.contains("<script")
            && !page.contains("<img")
            && !page.contains('\x1b')
            && !page.contains('\u{202e}')
    );
    assert!(page.contains("&lt;script&gt;"));
    let told = text::render(&report, 80);
    assert!(!told.chars().any(|c| (c.is_control() && c != '\n') || c == '\u{202e}'));
    assert!(told.len() < 100_000 && page.len() < 500_000);
    for kind in Kind::SINGLE {
        let picture = chart::svg(&report, kind, chart::NARROW, None).unwrap();
        assert!(
            !picture.contains("<script") && !picture.contains("<img") && !picture.contains('\x1b'),
            "{picture}"
        );
    }
}

#[test]
fn every_chart_draws_as_svg_and_png() {
    let report = synthetic::incident(2_000);
    for kind in Kind::SINGLE.into_iter().chain([Kind::All]) {
        let picture = chart::svg(&report, kind, chart::WIDE, None).unwrap();
        assert!(
            picture.contains("<title>")
                && picture.contains("role=\"img\"")
                && picture.trim_end().ends_with("</svg>")
        );
        let file = chart::png(&report, kind, chart::WIDE).unwrap();
        let reader = png::Decoder::new(file.as_slice()).read_info().unwrap();
        assert_eq!(reader.info().width, 2 * chart::WIDE.width);
    }
    let size = chart::Size { width: 10, height: 10 };
    assert!(matches!(chart::svg(&report, Kind::All, size, None), Err(ChartError::Size(10, 10))));
}

#[test]
fn a_chart_without_its_data_says_so() {
    let failures_only = small();
    assert!(chart::svg(&failures_only, Kind::Causes, chart::WIDE, None).is_ok());
    let empty = Collector::default().finish();
    for kind in Kind::SINGLE {
        let error = chart::svg(&empty, kind, chart::WIDE, None).unwrap_err();
        assert!(matches!(error, ChartError::NoData { .. }));
        assert!(error.to_string().contains(kind.as_str()), "{error}");
    }
}

/// Peak resident memory of this process in KiB.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// `cargo test --release -p ngx502 --lib million -- --ignored --nocapture`
#[test]
#[ignore = "on demand: a measurement, meaningful in a release build and alone in its process"]
fn a_million_verdicts_cost_little_time_and_memory() {
    let session = synthetic::session("web1");
    let (mut random, kinds) = (Random::new(7), Kinds::new());
    let outcomes: Vec<_> =
        (0..1_000).map(|_| Outcome::Verdict(Box::new(kinds.any(&mut random, 0, 30_000)))).collect();
    let before = peak_kib();
    let begun = Instant::now();
    let mut collector = Collector::default();
    for round in 0..1_000_u64 {
        for outcome in &outcomes {
            collector.outcome(&session, outcome);
        }
        // New upstreams and processes all the time must not add up either.
        let mut verdict = synthetic::oom(Nanos(round * 60 * SECOND));
        if let Some(upstream) = &mut verdict.upstream {
            upstream.address = format!("10.0.{}.{}:80", round / 256, round % 256).into();
        }
        collector.outcome(&session, &Outcome::Verdict(Box::new(verdict)));
        collector.latency(
            &session,
            Nanos(round * 60 * SECOND),
            &synthetic::latency(&mut random, Nanos(round), false),
        );
    }
    let report = collector.finish();
    let collected = begun.elapsed();
    let page = html::render(&report);
    let (elapsed, grown) = (begun.elapsed(), (peak_kib() - before) / 1_024);
    println!(
        "1,001,000 verdicts: {collected:?} to collect, {elapsed:?} with a page of {} KiB, {grown} MiB",
        page.len() / 1_024
    );
    assert_eq!(report.totals.failed, 1_001_000);
    assert!(elapsed.as_secs() < 3 && grown < 150);
}
