//! CSV and Parquet of hostile verdicts; Parquet is read back by DuckDB.

use std::path::Path;
use std::process::Command;

use bstr::BString;

use super::*;
use crate::attribute::verdict::*;
use crate::event::{Nanos, Pid};
use crate::session::Session;

const SECOND: u64 = 1_000_000_000;

fn session(host: &str) -> Session {
    // 2023-11-14T22:13:20Z is 20 s into a minute.
    Session { host: host.into(), wall_offset: 1_700_000_000_000_000_000, ..Session::default() }
}

fn verdict(host: &str, at: u64, cause: Cause) -> Outcome {
    Outcome::Verdict(Box::new(Verdict {
        at: Nanos(at),
        status: 502,
        host: host.into(),
        request: Some(RequestFacts {
            method: Some("GET".into()),
            uri: Some(BString::from(b"=cmd|'x'!A1,\"\xff\n".to_vec())),
            host: None,
            client: Some("10.0.0.1".into()),
        }),
        worker: WorkerFacts { pid: Pid(7), ..WorkerFacts::default() },
        upstream: None,
        symptom: Symptom::ConnectRefused,
        cause,
        certainty: Certainty::Proven,
        summary: "it is down".into(),
        evidence: vec![Evidence { at: Nanos(at), event: "connect", text: "refused".into() }],
        attempts: vec![],
        errno: Some(111),
        latency: Times { connect_us: Some(42), first_byte_us: None, total_us: None },
        fix: vec!["systemctl start php8.2-fpm".into()],
    }))
}

#[test]
fn csv_reads_back_with_harmless_cells() {
    let (session, outcome) = (session("web-1"), verdict("web-1", 0, Cause::Killed));
    let mut bytes = Vec::new();
    let mut writer = CsvWriter::new(&mut bytes).expect("memory");
    writer.write(&Row::new(&session, &outcome).expect("a verdict")).expect("memory");
    writer.finish().expect("memory");
    assert!(bytes.ends_with(b"\r\n"));
    let mut reader = ::csv::Reader::from_reader(&bytes[..]);
    let header = reader.headers().expect("a header").clone();
    let row = reader.records().next().expect("a row").expect("RFC 4180");
    let cell = |name: &str| &row[header.iter().position(|column| column == name).expect("a column")];
    assert_eq!(cell("time"), "2023-11-14T22:13:20.000000Z");
    assert_eq!(cell("request_uri"), "'=cmd|'x'!A1,\"\u{fffd}\\x0a");
    assert_eq!((cell("errno"), cell("connect_us"), cell("total_us")), ("ECONNREFUSED", "42", ""));
    assert_eq!(cell("fix"), "[\"systemctl start php8.2-fpm\"]");
}

fn parquet(path: &Path, host: &str, causes: &[(Cause, u64)]) {
    let session = session(host);
    let file = std::fs::File::create(path).expect("a file");
    let mut writer = ParquetWriter::new(file).expect("a file");
    for (cause, at) in causes {
        let outcome = verdict(host, *at, *cause);
        writer.write(&Row::new(&session, &outcome).expect("a verdict")).expect("room");
    }
    writer.finish().expect("room");
}

/// Python with DuckDB: what `NGX502_PYTHON` names, else `python3`.
fn duckdb() -> Option<String> {
    let python = std::env::var("NGX502_PYTHON").unwrap_or_else(|_| "python3".into());
    let found = Command::new(&python)
        .args(["-c", "import duckdb"])
        .output()
        .is_ok_and(|output| output.status.success());
    if !found {
        println!(
            "skipped: `{python}` has no DuckDB; `pip install duckdb` and set NGX502_PYTHON to that Python"
        );
    }
    found.then_some(python)
}

#[test]
fn duckdb_says_which_cause_took_most_per_host_and_minute() {
    let Some(python) = duckdb() else { return };
    let directory = tempfile::tempdir().expect("a directory");
    use Cause::{Crashed, Killed, QueueFull};
    parquet(
        &directory.path().join("a.parquet"),
        "web-1",
        &[(Killed, 0), (Killed, SECOND), (Crashed, 2 * SECOND), (QueueFull, 60 * SECOND)],
    );
    parquet(
        &directory.path().join("b.parquet"),
        "web-2",
        &[(Crashed, 0), (Crashed, SECOND), (Killed, 2 * SECOND)],
    );
    let query = "import duckdb, sys
rows = duckdb.sql(f\"\"\"
    SELECT host, strftime(date_trunc('minute', time AT TIME ZONE 'UTC'), '%H:%M'), cause, count(*) AS n,
           sum(connect_us), count(total_us), any_value(request_uri)
    FROM '{sys.argv[1]}/*.parquet' WHERE status = 502 GROUP BY ALL
    ORDER BY 1, 2, n DESC\"\"\").fetchall()
best = {}
for host, minute, cause, n, connect, total, uri in rows:
    assert connect == 42 * n and total == 0 and uri.startswith('=cmd') and 'secret' not in uri, (connect, total, uri)
    best.setdefault((host, minute), (cause, n))
for (host, minute), (cause, n) in best.items():
    print(host, minute, cause, n)";
    let output = Command::new(python).arg("-c").arg(query).arg(directory.path()).output().expect("python");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let answer = String::from_utf8_lossy(&output.stdout);
    assert_eq!(answer, "web-1 22:13 killed 2\nweb-1 22:14 queue-full 1\nweb-2 22:13 crashed 2\n");
}
