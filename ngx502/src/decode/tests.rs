use proptest::prelude::*;

use super::*;

/// Knows one text.
struct OneText;

impl ResolveText for OneText {
    fn text(&self, _worker: Pid, address: u64) -> Option<BString> {
        (address == 0x1000).then(|| BString::from("connect() failed"))
    }

    fn string(&self, worker: Pid, address: u64) -> Option<BString> {
        (worker == Pid(42) && address == 0x2000).then(|| BString::from("backend"))
    }

    fn log_unread(&self, _worker: Pid) -> bool {
        false
    }
}

#[test]
fn a_name_that_the_probe_could_not_read_is_read_by_its_address() {
    let mut attempt = wire_attempt();
    attempt.peer_unread = 1;
    attempt.peer[..8].copy_from_slice(&0x2000_u64.to_ne_bytes());
    assert_eq!(decoded_attempt(attempt.as_bytes()).peer, Some("backend".into()));
    attempt.peer[..8].copy_from_slice(&0x3000_u64.to_ne_bytes());
    assert_eq!(decoded_attempt(attempt.as_bytes()).peer, None);
}

fn header(kind: u16) -> wire::Header {
    wire::Header { at: 5_000, pid: 42, kind, reserved: 0 }
}

fn wire_attempt() -> Box<wire::Attempt> {
    let mut attempt = Box::new(wire::Attempt::new_zeroed());
    attempt.header = header(wire::KIND_ATTEMPT);
    attempt.request = 0x7000;
    attempt.main = 0x7000;
    attempt.text = 0x1000;
    attempt.errno = 111;
    attempt.line[..14].copy_from_slice(b"GET / HTTP/1.1");
    attempt.line_len = 14;
    attempt.socket.id = 1;
    attempt.socket.family = AF_INET;
    attempt.socket.remote[..4].copy_from_slice(&[127, 0, 0, 1]);
    attempt.socket.remote_port = 9000;
    attempt
}

fn decoded_attempt(bytes: &[u8]) -> Attempt {
    match decode(bytes, &OneText) {
        Ok(Decoded::Record(Record { body: Body::Attempt(attempt), .. })) => *attempt,
        other => panic!("not an attempt: {other:?}"),
    }
}

#[test]
fn an_attempt_cut_after_its_request_line_is_whole() {
    let wire = wire_attempt();
    let end = std::mem::offset_of!(wire::Attempt, line) + 14;
    let attempt = decoded_attempt(&wire.as_bytes()[..end]);
    assert_eq!(attempt.text, "connect() failed");
    assert_eq!(attempt.errno, Some(111));
    assert_eq!(attempt.request_line, Some(BString::from("GET / HTTP/1.1")));
    assert_eq!(attempt.key, RequestKey { worker: Pid(42), request: 0x7000, connection: 0 });
    assert_eq!(attempt.subrequest, None);
    let socket = attempt.socket.expect("a socket");
    let Ends::Tcp { remote, .. } = socket.ends else { panic!("not TCP") };
    assert_eq!(remote.to_string(), "127.0.0.1:9000");
}

#[test]
fn an_unresolved_text_falls_back_to_its_copy() {
    let mut wire = wire_attempt();
    wire.text = 0x2000;
    wire.text_copy[..4].copy_from_slice(b"oops");
    wire.text_len = 4;
    assert_eq!(decoded_attempt(wire.as_bytes()).text, "oops");
}

#[test]
fn a_subrequest_is_filed_under_its_main_request() {
    let mut wire = wire_attempt();
    wire.main = 0x9000;
    let attempt = decoded_attempt(wire.as_bytes());
    assert_eq!((attempt.key.request, attempt.subrequest), (0x9000, Some(0x7000)));
}

#[test]
fn lengths_beyond_their_buffer_are_cut() {
    let mut wire = wire_attempt();
    wire.peer_len = u16::MAX;
    assert_eq!(decoded_attempt(wire.as_bytes()).peer.map(|peer| peer.len()), Some(wire::PEER_MAX));
}

#[test]
fn abstract_and_mapped_addresses_keep_their_meaning() {
    assert_eq!(unix_path(b"\0name", 5), BString::from(&b"\0name"[..]));
    assert_eq!(unix_path(b"/run/x\0junk", 11), BString::from("/run/x"));
    let mut mapped = [0; 16];
    mapped[..4].copy_from_slice(&[10, 0, 0, 1]);
    assert_eq!(address(AF_INET6, mapped, 80).to_string(), "10.0.0.1:80");
    assert_eq!(address(AF_INET6, [0; 16], 80).to_string(), "[::]:80");
}

#[test]
fn an_af_unix_listener_is_told_with_its_path() {
    let mut wire = wire::ListenUnix::new_zeroed();
    wire.listen.header = header(wire::KIND_LISTEN_UNIX);
    wire.listen.open = 1;
    wire.listen.backlog = 128;
    wire.path[..7].copy_from_slice(b"/run/x\0");
    wire.path_len = 7;
    let Ok(Decoded::Record(Record { body: Body::Listen(found), .. })) = decode(wire.as_bytes(), &OneText)
    else {
        panic!("not a listener")
    };
    assert_eq!((found.endpoint, found.open, found.backlog), (Endpoint::Unix("/run/x".into()), true, 128));
    let cut = &wire.as_bytes()[..size_of::<wire::Listen>()];
    assert!(matches!(decode(cut, &OneText), Err(DecodeError::TooShort { .. })));
}

#[test]
fn too_few_bytes_and_unknown_kinds_are_errors() {
    assert_eq!(decode(&[1, 2, 3], &OneText), Err(DecodeError::TooShort { kind: 0, got: 3, needs: 16 }));
    assert_eq!(decode(header(99).as_bytes(), &OneText), Err(DecodeError::UnknownKind(99)));
    let needs = size_of::<wire::Exit>();
    let error = DecodeError::TooShort { kind: wire::KIND_EXIT, got: 16, needs };
    assert_eq!(decode(header(wire::KIND_EXIT).as_bytes(), &OneText), Err(error));
}

proptest! {
    #[test]
    fn any_bytes_decode_or_fail_without_panic(kind in 0u16..12, mut bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
        if bytes.len() >= 14 {
            bytes[12..14].copy_from_slice(&kind.to_le_bytes());
        }
        let _ = decode(&bytes, &OneText);
    }
}
