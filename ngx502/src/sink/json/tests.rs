//! Lines are compared as text, and read back with a strict copy of the schema.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::*;
use crate::attribute::verdict::Symptom;
use crate::escape::is_deceptive;
use crate::sink::sample;

/// Schema 1 as a reader sees it: no field may be missing, renamed or unknown.
mod reader {
    use super::*;

    #[expect(dead_code, reason = "some fields are only read to be required")]
    #[derive(Deserialize, Debug)]
    #[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
    pub(super) enum Any {
        Ready {
            schema: u32,
            version: String,
            kernel: String,
            workers: Vec<u32>,
            providers: BTreeMap<String, Option<String>>,
            host: String,
            time: String,
        },
        Verdict(Box<Fields>),
        Rescued(Box<Fields>),
        Lost {
            events: u64,
            reason: String,
        },
        Notice {
            time: String,
            host: String,
            topic: String,
            text: String,
        },
        Summary {
            verdicts: u64,
            rescued: u64,
            by_cause: BTreeMap<String, u64>,
            by_symptom: BTreeMap<String, u64>,
            not_upstream: BTreeMap<String, u64>,
            lost_events: u64,
            latency: BTreeMap<String, Option<BTreeMap<String, u64>>>,
            upstreams: Vec<Series>,
        },
        Latency {
            time: String,
            host: String,
            upstreams: Vec<Series>,
        },
    }

    #[derive(Deserialize, Debug)]
    #[serde(deny_unknown_fields)]
    pub(super) struct Series {
        pub(super) address: String,
        pub(super) ok: bool,
        pub(super) connect_us: Option<BTreeMap<String, u64>>,
        pub(super) first_byte_us: Option<BTreeMap<String, u64>>,
        pub(super) total_us: Option<BTreeMap<String, u64>>,
    }

    #[derive(Deserialize, Debug)]
    #[serde(deny_unknown_fields)]
    pub(super) struct Fields {
        pub(super) time: String,
        pub(super) status: u16,
        pub(super) host: String,
        pub(super) request: Option<Request>,
        pub(super) worker: Worker,
        pub(super) upstream: Option<Upstream>,
        pub(super) symptom: String,
        pub(super) cause: String,
        pub(super) certainty: String,
        pub(super) summary: String,
        pub(super) hops: Vec<Hop>,
        pub(super) evidence: Vec<Evidence>,
        pub(super) attempts: Vec<Attempt>,
        pub(super) errno: Option<String>,
        pub(super) latency: BTreeMap<String, Option<u64>>,
        pub(super) fix: Vec<String>,
        pub(super) details: Value,
    }

    #[derive(Deserialize, Debug)]
    #[serde(deny_unknown_fields)]
    pub(super) struct Request {
        pub(super) method: Option<String>,
        pub(super) uri: Option<String>,
        pub(super) host: Option<String>,
        pub(super) client: Option<String>,
    }

    #[derive(Deserialize, Debug)]
    #[serde(deny_unknown_fields)]
    pub(super) struct Worker {
        pub(super) pid: u32,
        pub(super) exe: Option<String>,
        pub(super) container: Option<String>,
        pub(super) container_name: Option<String>,
    }

    #[derive(Deserialize, Debug)]
    #[serde(deny_unknown_fields)]
    pub(super) struct Upstream {
        pub(super) address: String,
        pub(super) kind: String,
        pub(super) process: Option<Process>,
    }

    #[derive(Deserialize, Debug)]
    #[serde(deny_unknown_fields)]
    pub(super) struct Process {
        pub(super) pid: u32,
        pub(super) comm: String,
        pub(super) unit: Option<String>,
        pub(super) container: Option<String>,
        pub(super) container_name: Option<String>,
        pub(super) pool: Option<String>,
    }

    #[derive(Deserialize, Debug)]
    #[serde(deny_unknown_fields)]
    pub(super) struct Hop {
        pub(super) process: Option<Process>,
        pub(super) relation: String,
        pub(super) address: String,
        pub(super) namespace: Option<u32>,
        pub(super) container: Option<String>,
        pub(super) summary: String,
        pub(super) cause: String,
        pub(super) certainty: String,
    }

    #[derive(Deserialize, Debug)]
    #[serde(deny_unknown_fields)]
    pub(super) struct Evidence {
        pub(super) time: String,
        pub(super) event: String,
        pub(super) text: String,
    }

    #[derive(Deserialize, Debug)]
    #[serde(deny_unknown_fields)]
    pub(super) struct Attempt {
        pub(super) upstream: Option<String>,
        pub(super) symptom: Option<String>,
        pub(super) cause: Option<String>,
        pub(super) errno: Option<String>,
        pub(super) connect_us: Option<u64>,
        pub(super) first_byte_us: Option<u64>,
        pub(super) total_us: Option<u64>,
    }
}

fn line(session: &Session, outcome: &Outcome) -> String {
    let mut sink = JsonSink::new(Vec::new());
    sink.outcome(session, outcome).expect("memory takes every byte");
    sink.flush().expect("memory takes every byte");
    String::from_utf8(sink.out).expect("JSON is UTF-8")
}

fn fields(text: &str) -> reader::Fields {
    match serde_json::from_str(text).expect("a line of schema 1") {
        reader::Any::Verdict(fields) | reader::Any::Rescued(fields) => *fields,
        other => panic!("not a verdict: {other:?}"),
    }
}

#[test]
fn a_verdict_is_one_line_in_the_contracts_order() {
    insta::assert_snapshot!(line(&sample::session(), &sample::verdict(sample::oom_killed())), @r#"{"type":"verdict","time":"2026-11-21T02:16:52.012000Z","status":502,"host":"web-1","request":{"method":"GET","uri":"/index.php","host":"shop.example","client":"203.0.113.9"},"worker":{"pid":410,"exe":"/usr/sbin/nginx","container":null,"container_name":null},"upstream":{"address":"127.0.0.1:9000","kind":"tcp","process":{"pid":812,"comm":"php-fpm8.2","unit":"php8.2-fpm.service","container":null,"container_name":null,"pool":"www"}},"symptom":"connect-refused","cause":"oom-killed","certainty":"proven","summary":"php-fpm8.2[812] (pool www, php8.2-fpm.service), the last listener on 127.0.0.1:9000, was OOM-killed 12 s before this 502 in cgroup system.slice/php8.2-fpm.service (limit 512 MiB)","hops":[],"evidence":[{"time":"2026-11-21T02:16:40.005000Z","event":"oom","text":"the OOM killer chose php-fpm8.2[812] with 498 MiB resident in cgroup system.slice/php8.2-fpm.service (limit 512 MiB)"},{"time":"2026-11-21T02:16:40.006000Z","event":"listen","text":"last listening socket on 127.0.0.1:9000 closed"},{"time":"2026-11-21T02:16:52.010910Z","event":"connect","text":"nginx started connecting to 127.0.0.1:9000"},{"time":"2026-11-21T02:16:52.011000Z","event":"nginx","text":"connect() failed (ECONNREFUSED) while connecting to upstream (127.0.0.1:9000)"}],"attempts":[{"upstream":"127.0.0.1:9001","symptom":"connect-refused","cause":"not-listening","errno":"ECONNREFUSED","connect_us":null,"first_byte_us":null,"total_us":90},{"upstream":"127.0.0.1:9000","symptom":"connect-refused","cause":"oom-killed","errno":"ECONNREFUSED","connect_us":null,"first_byte_us":null,"total_us":90}],"errno":"ECONNREFUSED","latency":{"connect_us":null,"first_byte_us":null,"total_us":90},"fix":["systemctl set-property php8.2-fpm.service MemoryMax=…  # or use less memory","journalctl -u php8.2-fpm.service -n 50","systemctl restart php8.2-fpm.service"],"details":{"victim":{"pid":812,"comm":"php-fpm8.2","unit":"php8.2-fpm.service","container":null,"container_name":null,"pool":"www"},"role":"last-listener","ended_with":null,"system_wide":false,"cgroup":"system.slice/php8.2-fpm.service","limit_bytes":536870912,"rss_bytes":522190848,"trigger":null,"near":[],"before_us":12006000}}"#);
}

#[test]
fn absent_facts_are_null() {
    insta::assert_snapshot!(line(&sample::session(), &sample::verdict(sample::unknown())), @r#"{"type":"verdict","time":"2026-11-21T02:16:40.002000Z","status":502,"host":"web-1","request":null,"worker":{"pid":499,"exe":null,"container":null,"container_name":null},"upstream":null,"symptom":null,"cause":"unknown","certainty":"unknown","summary":"nginx got no connection to an upstream whose name could not be read: its message is hidden by error_log's level, and neither a socket nor a look-up shows whether the connect failed or the TLS handshake, and with which error","hops":[],"evidence":[{"time":"2026-11-21T02:16:40.002000Z","event":"nginx","text":"nginx's message is hidden by error_log's level; its states say connect-failed"}],"attempts":[{"upstream":null,"symptom":null,"cause":"unknown","errno":null,"connect_us":null,"first_byte_us":null,"total_us":null}],"errno":null,"latency":{"connect_us":null,"first_byte_us":null,"total_us":null},"fix":["error_log /var/log/nginx/error.log error;"],"details":{}}"#);
}

#[test]
fn a_symptom_that_the_contract_has_no_word_for_is_null() {
    for symptom in [Symptom::ConnectFailed, Symptom::ResponseFailed] {
        let mut verdict = sample::unknown();
        verdict.symptom = symptom;
        let line = line(&sample::session(), &sample::verdict(verdict));
        assert!(line.contains(r#""symptom":null,"cause":"unknown","certainty":"unknown""#), "{line}");
    }
}

#[test]
fn the_last_station_on_the_way_decides() {
    let read = fields(&line(&sample::session(), &Outcome::Verdict(Box::new(sample::forwarded()))));
    let [proxy, server] = read.hops.as_slice() else { panic!("not two stations: {:?}", read.hops) };
    assert_eq!((proxy.relation.as_str(), server.relation.as_str()), ("listens", "forwards-to"));
    assert_eq!((proxy.address.as_str(), server.address.as_str()), ("127.0.0.1:9000", "172.17.0.2:8080"));
    assert_eq!((proxy.cause.as_str(), proxy.certainty.as_str()), ("closed-by-upstream", "proven"));
    assert_eq!(
        (&server.summary, &server.cause, &server.certainty),
        (&read.summary, &read.cause, &read.certainty)
    );
    assert_eq!((proxy.container.as_deref(), server.container.as_deref().map(str::len)), (None, Some(64)));
    assert_eq!((proxy.namespace, proxy.summary.contains("docker-proxy[700]")), (None, true));
    let pids = [proxy, server].map(|hop| hop.process.as_ref().map(|process| process.pid));
    assert_eq!(pids, [Some(700), Some(900)]);
}

#[test]
fn a_strict_reader_finds_every_fact() {
    let read = fields(&line(&sample::session(), &Outcome::Rescued(Box::new(sample::oom_killed()))));
    assert_eq!(
        (read.time.as_str(), read.status, read.host.as_str()),
        ("2026-11-21T02:16:52.012000Z", 502, "web-1")
    );
    assert_eq!((read.symptom.as_str(), read.cause.as_str()), ("connect-refused", "oom-killed"));
    assert_eq!((read.certainty.as_str(), read.errno.as_deref()), ("proven", Some("ECONNREFUSED")));
    let request = read.request.expect("a request");
    assert_eq!((request.method.as_deref(), request.uri.as_deref()), (Some("GET"), Some("/index.php")));
    assert_eq!(
        (request.host.as_deref(), request.client.as_deref()),
        (Some("shop.example"), Some("203.0.113.9"))
    );
    assert_eq!(
        (read.worker.pid, read.worker.exe.as_deref(), read.worker.container.or(read.worker.container_name)),
        (410, Some("/usr/sbin/nginx"), None)
    );
    let upstream = read.upstream.expect("an upstream");
    assert_eq!((upstream.address.as_str(), upstream.kind.as_str()), ("127.0.0.1:9000", "tcp"));
    let process = upstream.process.expect("a process");
    assert_eq!(
        (process.pid, process.comm.as_str(), process.container.or(process.container_name)),
        (812, "php-fpm8.2", None)
    );
    assert_eq!((process.unit.as_deref(), process.pool.as_deref()), (Some("php8.2-fpm.service"), Some("www")));
    assert_eq!(read.evidence[0].time, "2026-11-21T02:16:40.005000Z");
    assert_eq!((read.evidence[2].event.as_str(), read.evidence[2].text.len()), ("connect", 42));
    let attempt = &read.attempts[0];
    assert_eq!(
        (attempt.upstream.as_deref(), attempt.errno.as_deref()),
        (Some("127.0.0.1:9001"), Some("ECONNREFUSED"))
    );
    assert_eq!(
        (attempt.symptom.as_deref(), attempt.cause.as_deref()),
        (Some("connect-refused"), Some("not-listening"))
    );
    assert_eq!((attempt.connect_us, attempt.first_byte_us, attempt.total_us), (None, None, Some(90)));
    assert_eq!(read.latency["total_us"], Some(90));
    assert_eq!((read.fix.len(), read.summary.contains("12 s")), (3, true));
    let Value::Object(details) = read.details else { panic!("details are no object") };
    assert_eq!(details["victim"]["comm"], "php-fpm8.2");
    assert_eq!((&details["limit_bytes"], &details["role"]), (&(512 << 20).into(), &"last-listener".into()));
    assert_eq!(details["before_us"], 12_006_000);
}

#[test]
fn hostile_text_stays_one_harmless_line() {
    let text = line(&sample::session(), &sample::verdict(sample::hostile()));
    assert_eq!(text.matches('\n').count(), 1);
    assert!(text.trim_end().chars().all(|character| !is_deceptive(character)), "{text}");
    let read = fields(&text);
    assert!(read.summary.contains(sample::FORGERY), "{}", read.summary);
    // What follows its question mark is a query, as far as the door that cuts them can tell.
    let method = read.request.expect("a request").method.expect("a method");
    assert!(method.starts_with("/\u{1b}]0;x\u{7}\u{fffd}\u{202e}"), "{method:?}");
}

#[test]
fn an_unknown_errno_keeps_its_number() {
    let mut verdict = sample::oom_killed();
    verdict.errno = Some(4242);
    assert_eq!(
        fields(&line(&sample::session(), &sample::verdict(verdict))).errno.as_deref(),
        Some("errno 4242")
    );
}

#[test]
fn the_lines_around_the_verdicts() {
    let session = sample::session();
    let mut out = Vec::new();
    let mut sink = JsonSink::new(&mut out);
    sink.ready(&session).expect("memory");
    sink.outcome(&session, &Outcome::NotUpstream { status: 503 }).expect("memory");
    sink.outcome(&session, &Outcome::Lost { events: 3, reason: "ring buffer full".into() }).expect("memory");
    let notice =
        Outcome::Notice { at: session.ready_at, topic: "log-unread".into(), text: "it says too much".into() };
    sink.outcome(&session, &notice).expect("memory");
    sink.tick(Moment::default()).expect("memory");
    sink.summary(&session, &sample::summary()).expect("memory");
    sink.latency(&session, Moment::of(&session, session.ready_at), &sample::upstreams()).expect("memory");
    sink.flush().expect("memory");
    let text = String::from_utf8(out).expect("JSON is UTF-8");
    for line in text.lines() {
        match serde_json::from_str::<reader::Any>(line).expect(line) {
            reader::Any::Summary { upstreams, .. } | reader::Any::Latency { upstreams, .. } => {
                let reader::Series { address, ok, connect_us, first_byte_us, total_us } = &upstreams[1];
                assert_eq!((address.as_str(), *ok), ("unix:/run/php/\u{1b}[31mphp.sock", false));
                assert_eq!((connect_us, first_byte_us), (&None, &None));
                assert_eq!(total_us.as_ref().expect("measured")["count"], 7);
            }
            _ => {}
        }
    }
    insta::assert_snapshot!(text, @r#"
    {"type":"ready","schema":1,"version":"0.1.0","kernel":"6.1.0-31-amd64","workers":[410,411],"providers":{"listen":"raw_tp","closer":null},"host":"web-1","time":"2026-11-21T02:16:35.000000Z"}
    {"type":"lost","events":3,"reason":"ring buffer full"}
    {"type":"notice","time":"2026-11-21T02:16:35.000000Z","host":"web-1","topic":"log-unread","text":"it says too much"}
    {"type":"summary","verdicts":12345,"rescued":12,"by_cause":{"oom-killed":12000,"not-listening":345},"by_symptom":{"connect-refused":12345},"not_upstream":{"503":7},"lost_events":0,"latency":{"connect_us":{"count":52000,"p50":85,"p90":120,"p99":1250,"max":9800},"first_byte_us":null,"total_us":{"count":52000,"p50":12000,"p90":85000,"p99":1250000,"max":60000000}},"upstreams":[{"address":"unix:/run/php/\u001b[31mphp.sock","ok":true,"connect_us":null,"first_byte_us":null,"total_us":{"count":52000,"p50":12287,"p90":86015,"p99":1245183,"max":60817407}},{"address":"unix:/run/php/\u001b[31mphp.sock","ok":false,"connect_us":null,"first_byte_us":null,"total_us":{"count":7,"p50":12287,"p90":86015,"p99":1245183,"max":60817407}}]}
    {"type":"latency","time":"2026-11-21T02:16:35.000000Z","host":"web-1","upstreams":[{"address":"unix:/run/php/\u001b[31mphp.sock","ok":true,"connect_us":null,"first_byte_us":null,"total_us":{"count":52000,"p50":12287,"p90":86015,"p99":1245183,"max":60817407}},{"address":"unix:/run/php/\u001b[31mphp.sock","ok":false,"connect_us":null,"first_byte_us":null,"total_us":{"count":7,"p50":12287,"p90":86015,"p99":1245183,"max":60817407}}]}
    "#);
}

#[test]
fn a_closed_pipe_is_reported_as_such() {
    struct Closed;
    impl io::Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut sink = JsonSink::new(Closed);
    sink.outcome(&sample::session(), &sample::verdict(sample::unknown())).expect("buffered");
    let error = sink.flush().expect_err("nobody reads");
    assert!(crate::sink::is_broken_pipe(&error));
    sink.flush().expect("what failed is not written twice");
}

/// `cargo test --release -p ngx502 --lib json::tests::speed -- --ignored --nocapture`
#[test]
#[ignore = "on demand: a measurement, meaningful only in a release build"]
fn speed() {
    let session = sample::session();
    let outcome = sample::verdict(sample::oom_killed());
    let mut sink = JsonSink::new(io::sink());
    let begin = std::time::Instant::now();
    let lines = 1_000_000_u32;
    for _ in 0..lines {
        sink.outcome(&session, &outcome).expect("sink");
    }
    eprintln!("{:.0} lines/s", f64::from(lines) / begin.elapsed().as_secs_f64());
}
