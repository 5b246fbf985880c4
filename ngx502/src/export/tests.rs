//! CSV of a hostile verdict, read back. What Parquet holds is asked by DuckDB, in the tests of the program.

use super::*;
use crate::event::{CloseKind, Socket};
use crate::sink::Sink as _;
use crate::synthetic::scene::Scene;
use crate::synthetic::{play, session};

/// A request whose URI is a formula, met by a process that closed its connection.
fn formula(s: &mut Scene) {
    s.php_fpm();
    s.attempt(s.closed(Socket { closer: s.closer(s.app(), CloseKind::Closed), ..s.socket() }));
    let line = b"GET =cmd|'x'!A1,\"\xff\n?token=secret HTTP/1.1";
    let request_line = Some(bstr::BString::from(line.as_slice()));
    s.request(crate::event::Request { request_line, ..s.error_page(502) });
}

#[test]
fn csv_reads_back_with_harmless_cells() {
    let session = session("web-1");
    let outcome = play::outcome(&session, 0, formula);
    let mut bytes = Vec::new();
    let mut sink = CsvSink::new(&mut bytes).expect("memory");
    sink.outcome(&session, &outcome).expect("memory");
    sink.finish().expect("memory");
    drop(sink);
    assert!(bytes.ends_with(b"\r\n"));
    let mut reader = ::csv::Reader::from_reader(&bytes[..]);
    let header = reader.headers().expect("a header").clone();
    let row = reader.records().next().expect("a row").expect("RFC 4180");
    let cell = |name: &str| &row[header.iter().position(|column| column == name).expect("a column")];
    assert_eq!(cell("time"), "2026-11-21T02:16:40.005000Z");
    assert_eq!(cell("request_uri"), "'=cmd|'x'!A1,\"\u{fffd}\\x0a");
    assert_eq!((cell("cause"), cell("errno")), ("closed-by-upstream", ""));
    assert_eq!((cell("connect_us"), cell("first_byte_us"), cell("total_us")), ("50", "", "8500"));
    assert_eq!(cell("fix"), "[\"journalctl -u php8.2-fpm.service -n 50\"]");
}
