//! The yardstick: what nginx's own logs say of each request.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use super::nginx::Lab;
use super::wait;

/// What the logs say of one request; requests are told apart by their URI.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// `$request_method`.
    pub method: String,
    /// `$status`.
    pub status: u16,
    /// `$upstream_status`, as logged: `502, 200`.
    pub upstream_status: String,
    /// `$upstream_addr`, as logged.
    pub upstream_addr: String,
    /// Times of each attempt, in the order of `upstream_addr`.
    pub times: Vec<Times>,
    /// The symptoms of the client's own attempts, in order, by the error log.
    pub symptoms: Vec<&'static str>,
    /// The symptoms of its subrequests.
    pub subrequest_symptoms: Vec<&'static str>,
    /// auth_request met a status that it does not know.
    pub auth_failed: bool,
}

/// What nginx says an attempt took, in milliseconds; `None` where it logs `-`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// `$upstream_connect_time`; 0 on a reused connection.
    pub connect: Option<u64>,
    /// `$upstream_header_time`: start of the attempt to the end of the header.
    pub header: Option<u64>,
    /// `$upstream_response_time`: start of the attempt to its end.
    pub response: Option<u64>,
}

/// What ngx502 owes a request, by the logs alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owed {
    /// A verdict with this symptom.
    Verdict(&'static str),
    /// A rescued line with this symptom.
    Rescued(&'static str),
    /// Nothing.
    Nothing,
    /// The logs do not tell: a 502 or 504 without an error line (the upstream's own, cached, `return`).
    Unreported,
}

impl Entry {
    /// What ngx502 owes this request.
    pub fn owed(&self) -> Owed {
        if self.auth_failed && self.status == 500 && self.symptoms.is_empty() {
            // Without a failed attempt the status was the upstream's own.
            return self.subrequest_symptoms.last().map_or(Owed::Unreported, |last| Owed::Verdict(last));
        }
        let Some(last) = self.symptoms.last().copied() else {
            return if matches!(self.status, 502 | 504) { Owed::Unreported } else { Owed::Nothing };
        };
        match self.status {
            502 | 504 => Owed::Verdict(last),
            // Without a socket, or an address for it, nginx has nothing to blame an upstream for.
            500 if matches!(
                last,
                "fd-exhausted" | "connect-denied" | "socket-denied" | "address-exhausted"
            ) =>
            {
                Owed::Verdict(last)
            }
            _ if last == "response-truncated" => Owed::Verdict(last),
            200..=399 => Owed::Rescued(last),
            _ => Owed::Nothing,
        }
    }
}

/// Both logs of a lab's nginx.
#[derive(Clone, Debug, Default)]
pub struct Truth {
    entries: BTreeMap<String, Entry>,
}

impl Truth {
    /// Reads the logs as they are now.
    ///
    /// # Errors
    /// When the access log has a line that is not JSON (a partial last line is left out).
    pub fn read(lab: &Lab) -> Result<Truth> {
        // In this order: nginx writes a request's errors before its access entry.
        let access = lab.read("access.log");
        Truth::parse(&access, &lab.read("error.log"))
    }

    /// Waits until the access log holds `requests` entries.
    ///
    /// # Errors
    /// When it does not within 30 s.
    pub fn wait_for(lab: &Lab, requests: usize) -> Result<Truth> {
        wait::until(&format!("{requests} access-log entries"), Duration::from_secs(30), || {
            Truth::read(lab).ok().filter(|truth| truth.entries.len() >= requests)
        })
    }

    /// Waits until the request `uri` is logged.
    ///
    /// # Errors
    /// When it is not within 10 s.
    pub fn of(lab: &Lab, uri: &str) -> Result<Entry> {
        wait::until(&format!("the log entry of {uri}"), Duration::from_secs(10), || {
            Truth::read(lab).ok()?.entries.remove(uri)
        })
    }

    /// Understands an access log of the lab's format and an error log.
    ///
    /// # Errors
    /// When a complete line of the access log is not JSON.
    pub fn parse(access: &str, errors: &str) -> Result<Truth> {
        let mut truth = Truth::default();
        for line in access.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
            let value: Value = serde_json::from_str(line).with_context(|| format!("access log: `{line}`"))?;
            let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
            let entry = Entry {
                method: text("method"),
                status: text("status").parse().unwrap_or_default(),
                upstream_status: text("upstream_status"),
                upstream_addr: text("upstream_addr"),
                times: times(&text("connect_time"), &text("header_time"), &text("response_time")),
                ..Entry::default()
            };
            truth.entries.insert(text("uri"), entry);
        }
        for line in errors.lines().filter(|line| line.contains("auth request unexpected status")) {
            if let Some(entry) = request_uri(line).and_then(|uri| truth.entries.get_mut(uri)) {
                entry.auth_failed = true;
            }
        }
        for line in errors.lines() {
            let (Some(symptom), Some(uri)) = (classify(line), request_uri(line)) else { continue };
            let Some(entry) = truth.entries.get_mut(uri) else { continue };
            let list = if line.contains(", subrequest: \"") {
                &mut entry.subrequest_symptoms
            } else {
                &mut entry.symptoms
            };
            list.push(symptom);
        }
        Ok(truth)
    }

    /// The entry of one URI.
    pub fn get(&self, uri: &str) -> Option<&Entry> {
        self.entries.get(uri)
    }

    /// Every entry with its URI.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries.iter().map(|(uri, entry)| (uri.as_str(), entry))
    }
}

/// The attempts' times from nginx's lists, as in `0.000, 0.031`.
fn times(connect: &str, header: &str, response: &str) -> Vec<Times> {
    let list = |text: &str| text.split([',', ':']).map(|item| millis(item.trim())).collect::<Vec<_>>();
    let (connect, header, response) = (list(connect), list(header), list(response));
    let attempts = response.len().max(header.len()).max(connect.len());
    let at = |list: &[Option<u64>], attempt: usize| list.get(attempt).copied().flatten();
    let attempt = |i| Times { connect: at(&connect, i), header: at(&header, i), response: at(&response, i) };
    (0..attempts).map(attempt).collect()
}

/// `0.031` as 31: nginx always writes three decimals.
fn millis(text: &str) -> Option<u64> {
    let (seconds, thousandths) = text.split_once('.')?;
    Some(seconds.parse::<u64>().ok()? * 1_000 + thousandths.parse::<u64>().ok()?)
}

/// The URI in `request: "GET /uri HTTP/1.1"`.
fn request_uri(line: &str) -> Option<&str> {
    line.split_once(", request: \"")?.1.split(' ').nth(1)
}

/// The contract's symptom for a line of the error log; `None` when the line reports no failed attempt.
pub fn classify(line: &str) -> Option<&'static str> {
    let says = |text: &str| line.contains(text);
    let symptom = if says("no live upstreams") {
        "no-live-upstreams"
    } else if says("could not be resolved") || says("no resolver defined") {
        "name-unresolved"
    } else if says("socket() failed (13") {
        if says("upstream: \"http://unix:") { "socket-denied" } else { "connect-denied" }
    } else if says("socket() failed (24")
        || says("socket() failed (23")
        || says("worker_connections are not enough while")
    {
        "fd-exhausted"
    } else if says("upstream timed out") {
        if says("while connecting to upstream") { "connect-timed-out" } else { "read-timed-out" }
    } else if says("bind(") {
        "address-exhausted"
    } else if ["open() \"", "mkdir() \"", "write() \"", "pwritev() \""].into_iter().any(says)
        && says("while reading upstream")
    {
        "response-truncated"
    } else if says("connect() ") {
        connect_symptom(line)?
    } else if says("SSL_do_handshake() failed")
        || says("in SSL handshake")
        || says("upstream SSL certificate")
    {
        "tls-failed"
    } else if says("writev() failed") || says("sendfile() failed") || says("send() failed") {
        "send-failed"
    } else if says("recv() failed (104") || says("readv() failed (104") {
        "reset"
    } else if says("prematurely closed connection") || says("prematurely closed FastCGI") {
        "closed-early"
    } else if says("too big header") {
        "header-too-big"
    } else if says("upstream sent invalid")
        || says("upstream sent unsupported")
        || says("upstream sent unexpected")
        || says("upstream sent too large http2 frame")
        || says("upstream sent goaway")
        || says("upstream rejected request")
    {
        "header-invalid"
    } else {
        return None;
    };
    // nginx's action once the header has gone to the client.
    let header_sent = says("while reading upstream") || says("while proxying upgraded connection");
    Some(if header_sent { "response-truncated" } else { symptom })
}

fn connect_symptom(line: &str) -> Option<&'static str> {
    let errno: u32 = line.split_once("failed (")?.1.split_once(':')?.0.parse().ok()?;
    let unix = line.contains("connect() to unix:");
    Some(match (errno, unix) {
        (111, false) => "connect-refused",
        (100 | 101 | 112 | 113, false) => "connect-unreachable",
        (1 | 13, false) => "connect-denied",
        (110, false) => "connect-timed-out",
        (99, false) => "address-exhausted",
        (104, false) => "reset",
        (2, true) => "socket-missing",
        (111, true) => "socket-refused",
        (1 | 13, true) => "socket-denied",
        (11, true) => "socket-backlog-full",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAIL: &str =
        r#", client: 127.0.0.1, server: , request: "GET /a HTTP/1.1", upstream: "http://x/a", host: "h""#;

    fn owed(status: u16, messages: &[&str]) -> Owed {
        let access = format!("{{\"uri\":\"/a\",\"method\":\"GET\",\"status\":\"{status}\"}}\n");
        let errors: String = messages
            .iter()
            .map(|text| format!("2026/01/01 00:00:00 [error] 1#1: *1 {text}{TAIL}\n"))
            .collect();
        Truth::parse(&access, &errors).expect("the sample is JSON").get("/a").expect("it is logged").owed()
    }

    #[test]
    fn the_last_attempt_decides() {
        let refused = "connect() failed (111: Connection refused) while connecting to upstream";
        let closed = "upstream prematurely closed connection while reading response header from upstream";
        assert_eq!(owed(502, &[refused, closed]), Owed::Verdict("closed-early"));
        assert_eq!(owed(200, &[refused]), Owed::Rescued("connect-refused"));
        assert_eq!(owed(499, &[refused]), Owed::Nothing);
        assert_eq!(owed(502, &[]), Owed::Unreported);
    }

    #[test]
    fn the_action_tells_a_cut_body_from_a_missing_header() {
        let text = "upstream prematurely closed connection while reading upstream";
        assert_eq!(owed(200, &[text]), Owed::Verdict("response-truncated"));
    }

    #[test]
    fn times_are_those_of_each_attempt() {
        let found = times("-, 0.001", "-, 1.030", "0.000, 1.032");
        let failed = Times { connect: None, header: None, response: Some(0) };
        assert_eq!(found, [failed, Times { connect: Some(1), header: Some(1030), response: Some(1032) }]);
        assert_eq!(times("-", "-", "-"), [Times::default()]);
    }

    #[test]
    fn stderr_and_http_09_are_no_failures() {
        assert_eq!(
            classify("FastCGI sent in stderr: \"x\" while reading response header from upstream"),
            None
        );
        assert_eq!(classify("upstream sent no valid HTTP/1.0 header while reading response header"), None);
    }

    #[test]
    fn the_same_errno_means_different_things_on_tcp_and_unix() {
        let at = |place: &str| {
            format!("connect() to {place} failed (111: Connection refused) while connecting to upstream")
        };
        assert_eq!(classify(&at("unix:/run/x.sock")), Some("socket-refused"));
        assert_eq!(classify(&at("127.0.0.1:9")), Some("connect-refused"));
    }
}
