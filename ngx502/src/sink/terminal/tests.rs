use super::*;
use crate::escape::is_deceptive;
use crate::event::{Nanos, Pid};
use crate::latency::{Phases, Quantiles};
use crate::sink::sample;
use crate::synthetic::{play, stories};
use crate::wrap::columns;

fn shown(options: TerminalOptions, outcomes: &[Outcome]) -> String {
    let mut out = Vec::new();
    let mut sink = TerminalSink::new(&mut out, options);
    for outcome in outcomes {
        sink.outcome(&sample::session(), outcome).expect("memory");
    }
    sink.flush().expect("memory");
    String::from_utf8(out).expect("escaped text is UTF-8")
}

fn detail(detail: Detail) -> TerminalOptions {
    TerminalOptions { detail, ..TerminalOptions::default() }
}

#[test]
fn a_verdict_with_a_retry() {
    insta::assert_snapshot!(shown(detail(Detail::Normal), &[sample::verdict(sample::oom_killed())]), @"
    ── 2026-11-21 UTC ──

    502  02:16:52.012Z  GET /index.php  host shop.example  from 203.0.113.9
         php-fpm8.2[812] (pool www, php8.2-fpm.service), the last listener on 127.0.0.1:9000, was
         OOM-killed 12 s before this 502 in cgroup system.slice/php8.2-fpm.service (limit 512 MiB)
         127.0.0.1:9000 (php-fpm8.2, pid 812, pool www, php8.2-fpm.service) → connect-refused
         (ECONNREFUSED) after 90 µs
         → oom-killed, proven
         attempt 1  127.0.0.1:9001 → connect-refused (ECONNREFUSED) after 90 µs → not-listening
         attempt 2  127.0.0.1:9000 → connect-refused (ECONNREFUSED) after 90 µs → oom-killed
             -12 s  oom         the OOM killer chose php-fpm8.2[812] with 498 MiB resident in cgroup
                                system.slice/php8.2-fpm.service (limit 512 MiB)
             -12 s  listen      last listening socket on 127.0.0.1:9000 closed
          -1.09 ms  connect     nginx started connecting to 127.0.0.1:9000
             -1 ms  nginx       connect() failed (ECONNREFUSED) while connecting to upstream
                                (127.0.0.1:9000)
         fix  systemctl set-property php8.2-fpm.service MemoryMax=…  # or use less memory
              journalctl -u php8.2-fpm.service -n 50
              systemctl restart php8.2-fpm.service
    ");
}

#[test]
fn a_verdict_of_which_little_is_known() {
    insta::assert_snapshot!(shown(detail(Detail::Normal), &[sample::verdict(sample::unknown())]), @"
    ── 2026-11-21 UTC ──

    502  02:16:40.002Z  (the request could not be read)
         nginx got no connection to an upstream whose name could not be read: its message is hidden by
         error_log's level, and neither a socket nor a look-up shows whether the connect failed or the
         TLS handshake, and with which error
         upstream unknown → connect-failed → unknown, not proven
               0 s  nginx       nginx's message is hidden by error_log's level; its states say
                                connect-failed
         fix  error_log /var/log/nginx/error.log error;
    ");
}

#[test]
fn a_narrow_terminal_wraps_and_never_cuts_the_summary() {
    let options = TerminalOptions { width: 60, ..TerminalOptions::default() };
    let text = shown(options, &[sample::verdict(sample::oom_killed())]);
    // A command is pasted, and stays whole.
    let is_command = |line: &str| line.contains("systemctl");
    assert!(text.lines().all(|line| columns(line) <= 60 || is_command(line)), "{text}");
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains(&sample::oom_killed().summary().to_string()), "{text}");
    insta::assert_snapshot!(text, @"
    ── 2026-11-21 UTC ──

    502  02:16:52.012Z  GET /index.php
         host shop.example from 203.0.113.9
         php-fpm8.2[812] (pool www, php8.2-fpm.service), the
         last listener on 127.0.0.1:9000, was OOM-killed 12 s
         before this 502 in cgroup
         system.slice/php8.2-fpm.service (limit 512 MiB)
         127.0.0.1:9000 (php-fpm8.2, pid 812, pool www,
         php8.2-fpm.service) → connect-refused (ECONNREFUSED)
         after 90 µs
         → oom-killed, proven
         attempt 1  127.0.0.1:9001 → connect-refused
                    (ECONNREFUSED) after 90 µs → not-listening
         attempt 2  127.0.0.1:9000 → connect-refused
                    (ECONNREFUSED) after 90 µs → oom-killed
             -12 s  oom         the OOM killer chose
                                php-fpm8.2[812] with 498 MiB
                                resident in cgroup
                                system.slice/php8.2-fpm.service
                                (limit 512 MiB)
             -12 s  listen      last listening socket on
                                127.0.0.1:9000 closed
          -1.09 ms  connect     nginx started connecting to
                                127.0.0.1:9000
             -1 ms  nginx       connect() failed (ECONNREFUSED)
                                while connecting to upstream
                                (127.0.0.1:9000)
         fix  systemctl set-property php8.2-fpm.service MemoryMax=…
              # or use less memory
              journalctl -u php8.2-fpm.service -n 50
              systemctl restart php8.2-fpm.service
    ");
}

#[test]
fn a_uri_is_cut_only_where_its_line_is_too_narrow() {
    let mut verdict = sample::oom_killed();
    let uri = format!("/{}", "x".repeat(50));
    verdict.request.as_mut().expect("a request").uri = Some(uri.as_str().into());
    let outcome = sample::verdict(verdict);
    let head = |width| {
        let options = TerminalOptions { width, ..TerminalOptions::default() };
        let text = shown(options, std::slice::from_ref(&outcome));
        text.lines().skip(2).take(2).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(head(120)[0], format!("502  02:16:52.012Z  GET {uri}  host shop.example  from 203.0.113.9"));
    let at_80 =
        [format!("502  02:16:52.012Z  GET {uri}"), "     host shop.example from 203.0.113.9".to_owned()];
    assert_eq!(head(80), at_80);
    assert_eq!(head(60)[0], format!("502  02:16:52.012Z  GET /{}…", "x".repeat(34)));
}

#[test]
fn verbose_shows_the_whole_uri_and_the_worker() {
    let mut verdict = sample::oom_killed();
    let uri = format!("/{}", "x".repeat(300));
    verdict.request.as_mut().expect("a request").uri = Some(uri.as_str().into());
    let outcome = sample::verdict(verdict);
    assert!(
        !shown(detail(Detail::Normal), std::slice::from_ref(&outcome)).replace("\n     ", "").contains(&uri)
    );
    let verbose = shown(detail(Detail::Verbose), &[outcome]);
    assert!(verbose.replace("\n     ", "").contains(&uri), "{verbose}");
    assert!(verbose.contains("nginx worker 410, /usr/sbin/nginx"));
}

#[test]
fn routine_facts_are_left_out_first() {
    let facts = |fin| {
        let verdict = play::verdict(|scene| stories::killed_at_work(scene, fin));
        (verdict.evidence.len(), shown(detail(Detail::Normal), &[sample::verdict(verdict)]))
    };
    let (count, text) = facts(false);
    assert!(count == 7 && text.contains("established ") && !text.contains("more facts"), "{text}");
    let (count, text) = facts(true);
    assert!(count == 8 && !text.contains("established ") && text.contains("signal "), "{text}");
    assert!(text.contains("… 3 more facts (-v shows them)"), "{text}");
}

#[test]
fn many_facts_are_cut_in_the_middle_unless_verbose() {
    let verdict = play::verdict(|scene| stories::queue_full(scene, 22));
    let text = shown(detail(Detail::Normal), &[sample::verdict(verdict.clone())]);
    assert!(
        text.contains("… 17 more facts (-v shows them)")
            && text.contains("found 512 waiting")
            && text.contains("connect() to"),
        "{text}"
    );
    assert!(!text.contains("found 520 waiting"));
    assert!(shown(detail(Detail::Verbose), &[sample::verdict(verdict)]).contains("found 520 waiting"));
}

#[test]
fn quiet_is_one_line_a_verdict() {
    let text = shown(detail(Detail::Quiet), &vec![sample::verdict(sample::oom_killed()); 5]);
    assert_eq!(text.lines().count(), 5);
    insta::assert_snapshot!(text.lines().next().expect("five lines"), @"2026-11-21T02:16:52.012Z 502 127.0.0.1:9000 connect-refused oom-killed (proven) GET /index.php: php-fpm8.2[812] (pool www, php8.2-fpm.service), the last listener on 127.0.0.1:9000, was OOM-killed 12 s before this 502 in cgroup system.slice/php8.2-fpm.service (limit 512 MiB)");
}

#[test]
fn rescued_is_told_apart() {
    let mut verdict = sample::oom_killed();
    verdict.status = 200;
    let text = shown(TerminalOptions::default(), &[Outcome::Rescued(Box::new(verdict))]);
    assert!(text.contains("200 rescued  02:16:52.012Z  GET /index.php"), "{text}");
}

#[test]
fn colour_only_where_told() {
    let outcomes = [sample::verdict(sample::oom_killed())];
    let plain = shown(TerminalOptions::default(), &outcomes);
    assert!(!plain.contains('\x1b'));
    let coloured = shown(TerminalOptions { color: true, ..TerminalOptions::default() }, &outcomes);
    assert!(
        coloured.contains("\x1b[1;31m502\x1b[0m") && coloured.contains("\x1b[1moom-killed, proven\x1b[0m"),
        "{coloured}"
    );
}

#[test]
fn hostile_text_is_visible_and_harmless() {
    for options in [detail(Detail::Quiet), detail(Detail::Normal), detail(Detail::Verbose)] {
        let text = shown(options, &[sample::verdict(sample::hostile())]);
        assert!(text.chars().all(|character| character == '\n' || !is_deceptive(character)), "{text}");
        assert!(text.contains(r"\x1b]0;x\x07\xff\u{202e}") && text.contains(r"\u{9b}31m\u{202e}"), "{text}");
        assert!(!text.lines().any(|line| line.starts_with("forged")), "{text}");
    }
}

#[test]
fn long_hostile_names_do_not_fill_the_screen() {
    let verdict = sample::hostile_names(&b"\x1b[31m\xff".repeat(8192 / 6));
    assert!(shown(detail(Detail::Normal), &[sample::verdict(verdict)]).len() < 5_000);
}

#[test]
fn a_storm_is_folded_and_a_lone_502_is_shown_at_once() {
    let mut out = Vec::new();
    let mut sink = TerminalSink::new(&mut out, TerminalOptions::default());
    let session = sample::session();
    let killed = sample::oom_killed();
    for number in 0..12_348 {
        let verdict = play::moved(&killed, Nanos(sample::AT.0 + number * 80_000));
        sink.outcome(&session, &sample::verdict(verdict)).expect("memory");
    }
    let other =
        play::moved(&play::verdict(|scene| stories::slow(scene, 0)), Nanos(sample::AT.0 + 990_000_000));
    sink.outcome(&session, &sample::verdict(other)).expect("memory");
    sink.tick(Moment::of(&session, Nanos(sample::AT.0 + 1_100_000_000))).expect("memory");
    sink.tick(Moment::of(&session, Nanos(sample::AT.0 + 1_200_000_000))).expect("memory");
    sink.flush().expect("memory");
    let text = String::from_utf8(out).expect("UTF-8");
    assert_eq!(text.matches("502  ").count(), 3);
    assert_eq!(text.matches("504  ").count(), 1);
    let line = text.lines().find(|line| line.starts_with('…')).expect("a folded line");
    insta::assert_snapshot!(line, @"…    12,345 more in the last second: 502 connect-refused oom-killed 127.0.0.1:9000 (pid 812)");
    assert_eq!(text.matches("more in the last").count(), 1);
}

#[test]
fn different_culprits_are_not_folded_together() {
    let verdicts: Vec<_> = (0..6)
        .map(|pid| {
            let mut verdict = sample::oom_killed();
            let upstream = verdict.upstream.as_mut().expect("an upstream");
            let process = upstream.process.as_mut().expect("a process");
            std::rc::Rc::make_mut(process).pid = Pid(pid);
            sample::verdict(verdict)
        })
        .collect();
    assert_eq!(shown(TerminalOptions::default(), &verdicts).matches("502  ").count(), 6);
}

#[test]
fn losses_are_told_at_once_and_then_once_a_second() {
    let mut out = Vec::new();
    let mut sink = TerminalSink::new(&mut out, TerminalOptions::default());
    let lost = Outcome::Lost { events: 1_500, reason: "ring buffer full".into() };
    for _ in 0..3 {
        sink.outcome(&sample::session(), &lost).expect("memory");
    }
    sink.tick(Moment::from_micros(1_000_000)).expect("memory");
    sink.flush().expect("memory");
    let text = String::from_utf8(out).expect("UTF-8");
    let lines: Vec<_> = text.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(
        lines,
        [
            "lost 1,500 events (ring buffer full): counts and causes may be incomplete",
            "lost 3,000 events (ring buffer full): counts and causes may be incomplete",
        ]
    );
}

#[test]
fn first_and_last_lines() {
    let mut out = Vec::new();
    let mut sink = TerminalSink::new(&mut out, TerminalOptions::default());
    sink.ready(&sample::session()).expect("memory");
    sink.summary(&sample::session(), &sample::summary()).expect("memory");
    insta::assert_snapshot!(String::from_utf8(out).expect("UTF-8"), @r"
    ready: tracing 2 nginx workers (410, 411) on web-1 (kernel 6.1.0-31-amd64)
    this kernel has no hook for closer; see `ngx502 doctor` for what is lost

    12,345 failed requests, 12 rescued
      cause                   requests    share
      oom-killed                12,000     97 %
      not-listening                345    2.8 %
      symptom                 requests    share
      connect-refused           12,345    100 %
      latency                 requests        p50        p90        p99        max
      unix:/run/php/\x1b[31mphp.sock
        total                   52,000    12.2 ms      86 ms     1.24 s     60.8 s
      unix:/run/php/\x1b[31mphp.sock, failed
        total                        7    12.2 ms      86 ms     1.24 s     60.8 s
      7 answered 503 by nginx itself, without an upstream
      no event was lost
    ");
}

#[test]
fn an_empty_trace_has_a_summary_without_tables() {
    let mut out = Vec::new();
    let mut sink = TerminalSink::new(&mut out, TerminalOptions::default());
    sink.summary(&sample::session(), &Summary { lost_events: 1, ..Summary::default() }).expect("memory");
    insta::assert_snapshot!(String::from_utf8(out).expect("UTF-8"), @r"
    0 failed requests, 0 rescued
      1 event lost: the counts above are too low
    ");
}

#[test]
fn latencies_are_one_table_of_the_busiest_upstreams() {
    let upstream = |number: u64, ok: bool| UpstreamLatency {
        upstream: format!("127.0.0.1:{number}").into(),
        ok,
        latency: Phases {
            total: Some(Quantiles { count: number, p50_us: 1, p90_us: 2, p99_us: 3, p999_us: 4, max_us: 4 }),
            ..Phases::default()
        },
    };
    let upstreams = (1..=14).map(|number| upstream(number, number != 13)).collect();
    let mut out = Vec::new();
    let mut sink = TerminalSink::new(&mut out, TerminalOptions::default());
    let facts = Summary { upstreams, ..Summary::default() };
    sink.summary(&sample::session(), &facts).expect("memory");
    let text = String::from_utf8(out).expect("UTF-8");
    insta::assert_snapshot!(text.lines().take(6).collect::<Vec<_>>().join("\n"), @r"
    0 failed requests, 0 rescued
      latency                 requests        p50        p90        p99        max
      127.0.0.1:14
        total                       14       1 µs       2 µs       3 µs       4 µs
      127.0.0.1:13, failed
        total                       13       1 µs       2 µs       3 µs       4 µs
    ");
    assert!(text.lines().all(|line| columns(line) <= 80), "{text}");
    assert!(text.contains("127.0.0.1:10\n") && !text.contains("127.0.0.1:9\n"), "{text}");
    assert!(text.contains("  … 9 more with fewer requests\n"), "{text}");
}
