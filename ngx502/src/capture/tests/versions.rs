//! Captures of other versions.

use super::*;

/// The fixture of each released version stays in git and is read by every later one.
#[test]
fn the_fixture_of_version_1_0_is_read() {
    let bytes = include_bytes!("../../../tests/fixtures/capture-v1.0.ngx502");
    let mut reader = Reader::new(&bytes[..], Path::new("x")).expect("a capture");
    assert_eq!(reader.session(), &session());
    assert_eq!(reader.by_ref().collect::<Vec<_>>(), corners());
    assert!(reader.damages().0.is_empty() && reader.end().is_some());
}

#[test]
#[ignore = "on demand: run once for each new version of the format"]
fn write_the_fixture_of_this_version() {
    let name = format!("tests/fixtures/capture-v{MAJOR}.{MINOR}.ngx502");
    write(&Path::new(env!("CARGO_MANIFEST_DIR")).join(name), &corners(), Options::default());
}

#[test]
fn versions_are_told_apart() {
    let (_, mut bytes) = small_capture();
    bytes[8..10].copy_from_slice(&(MAJOR + 1).to_le_bytes());
    let checksum = crc32fast::hash(&bytes[..12]);
    bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
    let error = Reader::new(&bytes[..], Path::new("x")).err().expect("too new");
    assert!(matches!(error, ReadError::TooNew { .. }) && error.to_string().contains("newer ngx502"));
    assert!(matches!(Reader::new(&b"GET / HTTP/1.1"[..], Path::new("x")), Err(ReadError::NotACapture(_))));
}

/// The records of another version, as serde would write them there.
mod other {
    use serde::Serialize;

    #[derive(Serialize)]
    pub(super) struct Record {
        pub(super) at: u64,
        pub(super) body: Body,
    }

    #[derive(Serialize)]
    pub(super) enum Body {
        /// Fields in another order, an unknown one, optional ones missing.
        Signal(Signal),
        /// A later version's.
        Comet {
            tail: Vec<(u8, String)>,
        },
        /// Known, with a value inside that is not.
        Attempt(Attempt),
        Tick,
    }

    #[derive(Serialize)]
    pub(super) struct Signal {
        pub(super) from_user: bool,
        pub(super) novelty: Option<Vec<u32>>,
        pub(super) signal: i32,
        pub(super) code: i32,
        pub(super) target: ProcessRef,
        pub(super) sender: ProcessRef,
        pub(super) sender_cgroup: u64,
    }

    #[derive(Serialize, Clone)]
    pub(super) struct ProcessRef {
        pub(super) comm: String,
        pub(super) start: u64,
        pub(super) pid: u32,
    }

    #[derive(Serialize)]
    pub(super) struct Attempt {
        pub(super) via: Via,
        pub(super) index: u32,
    }

    #[derive(Serialize)]
    pub(super) enum Via {
        Telepathy,
    }
}

#[test]
fn other_versions_are_read_by_name_and_unknown_kinds_are_counted() {
    let who = other::ProcessRef { comm: "x".into(), start: 3, pid: 7 };
    let signal = |signal| {
        other::Body::Signal(other::Signal {
            from_user: true,
            novelty: Some(vec![1, 2]),
            signal,
            code: 0,
            target: who.clone(),
            sender: who.clone(),
            sender_cgroup: 1,
        })
    };
    let comet = || other::Body::Comet { tail: vec![(1, "dust".into())] };
    let odd = other::Body::Attempt(other::Attempt { via: other::Via::Telepathy, index: 1 });
    let rows = [signal(9), comet(), signal(15), comet(), other::Body::Tick, odd, signal(6)];
    let mut frame = columns::ColumnEncoder::new();
    for (at, body) in (1..).zip(rows) {
        frame.push(&other::Record { at, body }).expect("a row");
    }
    let mut bytes = format::file_header().to_vec();
    bytes.extend(sealed(FRAME_OPENING, 0, b"{\"session\":{\"host\":\"h\",\"new\":[1]}}"));
    bytes.extend(sealed(99, 0, b"?"));
    bytes.extend(sealed(FRAME_RECORDS, 7, &frame.take()));
    let mut reader = Reader::new(&bytes[..], Path::new("x")).expect("a capture");
    let signals: Vec<_> = reader
        .by_ref()
        .filter_map(
            |record| if let Body::Signal(s) = record.body { Some((s.signal, s.target.pid.0)) } else { None },
        )
        .collect();
    assert_eq!(signals, [(9, 7), (15, 7), (6, 7)]);
    assert_eq!(reader.unknown().get("Comet"), Some(&2));
    assert_eq!(reader.unknown().get("Telepathy"), Some(&1));
    assert_eq!(reader.unknown().get("frame of kind 99"), Some(&1));
    assert_eq!(reader.damages().0, []);
}
