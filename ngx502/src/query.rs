//! Query strings, which may hold secrets: the one door through which records lose them.
//!
//! It stands before everything else, live and in a replay: unless the session keeps query strings, neither attribution
//! nor a capture, sink or report ever sees one.

use std::borrow::Cow;

use bstr::{BStr, BString, ByteSlice};

use crate::event::{Body, Record};
use crate::session::Session;

/// Takes the query string out of a record, unless the session keeps them.
pub fn cut(session: &Session, record: &mut Record) {
    if session.with_query {
        return;
    }
    let line = match &mut record.body {
        Body::Attempt(attempt) => &mut attempt.request_line,
        Body::Request(request) => &mut request.request_line,
        _ => return,
    };
    if let Some(Cow::Owned(short)) = line.as_ref().map(|line| without_query(line.as_bstr())) {
        *line = Some(short);
    }
}

/// A URI or a request line without its query string: `GET /a?token=x HTTP/1.1` becomes `GET /a HTTP/1.1`. What was cut
/// off before its end loses everything from the question mark on; so does a query that contains spaces, up to the last
/// protocol version.
fn without_query(line: &BStr) -> Cow<'_, BStr> {
    let Some(query) = line.find_byte(b'?') else { return Cow::Borrowed(line) };
    let tail = line[query..].rfind(b" HTTP/").map_or(&b""[..], |at| &line[query + at..]);
    // Only a version may follow: anything longer or odd is a part of the query that poses as one.
    let is_version =
        tail.len() <= b" HTTP/1.1\r\n".len() && tail.iter().skip(6).all(|b| b"0123456789.\r\n".contains(b));
    let tail = if is_version { tail } else { b"" };
    Cow::Owned(BString::from([&line[..query], tail].concat()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Attempt, Nanos, Request};

    #[test]
    fn request_lines_and_uris_lose_their_query() {
        for (line, short) in [
            ("GET /a?token=x HTTP/1.1", "GET /a HTTP/1.1"),
            ("GET /a HTTP/1.1", "GET /a HTTP/1.1"),
            ("GET /a?cut off", "GET /a"),
            ("GET /a?b HTTP/secret HTTP/1.0", "GET /a HTTP/1.0"),
            ("GET /a?b HTTP/secret", "GET /a"),
            ("/uri?x=1", "/uri"),
            ("/uri?x=1?y", "/uri"),
            ("?", ""),
        ] {
            assert_eq!(without_query(line.into()).as_ref(), short, "{line}");
        }
    }

    #[test]
    fn every_record_with_a_request_line_loses_it_unless_it_may_stay() {
        let request_line = || Some(BString::from("GET /a?token=x HTTP/1.1"));
        let bodies = [
            Body::Attempt(Box::new(Attempt { request_line: request_line(), ..Attempt::default() })),
            Body::Request(Box::new(Request { request_line: request_line(), ..Request::default() })),
        ];
        for with_query in [false, true] {
            let session = Session { with_query, ..Session::default() };
            for body in bodies.clone() {
                let mut record = Record { at: Nanos(1), body };
                cut(&session, &mut record);
                assert_eq!(format!("{record:?}").contains("token"), with_query);
            }
        }
    }
}
