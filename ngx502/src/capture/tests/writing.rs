//! What becomes of the files: who may be overwritten, when frames are written, rotation, a full disk.

use super::*;

#[test]
fn what_is_there_is_neither_overwritten_nor_followed() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("c");
    write(&path, &[], Options::default());
    assert_eq!(fs::metadata(&path).expect("the file").permissions().mode() & 0o777, 0o600);
    let create =
        |path: &Path, force| Writer::create(path, &session(), Options { force, ..Options::default() });
    assert!(matches!(create(&path, false), Err(CreateError::Exists(_))));
    assert!(create(&path, true).is_ok());
    let (link, precious) = (directory.path().join("l"), directory.path().join("precious"));
    fs::write(&precious, "keep").expect("a file");
    symlink(&precious, &link).expect("a link");
    symlink(directory.path().join("nowhere"), directory.path().join("dangling")).expect("a link");
    for force in [false, true] {
        assert!(matches!(create(&link, force), Err(CreateError::NotAFile(_))));
        assert!(matches!(create(&directory.path().join("dangling"), force), Err(CreateError::NotAFile(_))));
        assert!(matches!(create(Path::new("/dev/null"), force), Err(CreateError::NotAFile(_))));
    }
    assert_eq!(fs::read(&precious).expect("the file"), b"keep");
}

#[test]
fn rotation_spares_files_that_are_there() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("c");
    fs::write(directory.path().join("c.1"), "keep").expect("a file");
    let options = Options { force: false, max_size: Some(1), max_files: 2 };
    let refused = Writer::create(&path, &session(), options);
    assert!(matches!(refused, Err(CreateError::Exists(there)) if there.ends_with("c.1")));
    assert!(!path.exists());
    assert_eq!(fs::read(directory.path().join("c.1")).expect("the file"), b"keep");
}

#[test]
fn rotation_keeps_the_newest_and_each_part_stands_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("c");
    let mut records = vec![process(9, 1)];
    records.extend((0..400).flat_map(storm));
    write(&path, &records, Options { force: false, max_size: Some(6_000), max_files: 3 });
    let names = ["c.2", "c.1", "c"].map(|name| directory.path().join(name));
    assert_eq!(fs::read_dir(directory.path()).expect("a directory").count(), 3);
    let newest = Reader::open(&path).expect("the newest part").part();
    assert!(newest > 3);
    let mut rest = Vec::new();
    for (index, name) in names.iter().enumerate() {
        assert!(fs::metadata(name).expect("a part").len() <= 6_000 + 400);
        let mut reader = Reader::open(name).expect("a part");
        assert_eq!(reader.session(), &session());
        assert_eq!(reader.part(), newest - 2 + index as u64);
        if index > 0 {
            reader.skip_carried();
        }
        let part: Vec<_> = reader.by_ref().collect();
        assert_eq!(
            part.contains(&process(9, 1)),
            index == 0,
            "only the first part's repetition is asked for"
        );
        assert_eq!(reader.end().expect("an end marker").continued, index < 2);
        rest.extend(part);
    }
    assert!(records.ends_with(&rest[1..]), "the parts join without gap or repetition");
}

#[test]
fn a_full_disk_ends_the_capture_once_and_with_a_sentence() {
    let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
    let mut writer = Writer::over(Files::over(Path::new("c"), full), &session());
    writer.record(&process(1, 1)).expect("still in memory");
    let error = writer.flush().expect_err("no space").to_string();
    assert!(error.contains("No space left on device") && error.contains("continues without it"), "{error}");
    writer.record(&process(2, 5_000_000_000)).expect("said once");
    writer.finish().expect("said once");
}

#[test]
fn records_reach_the_file_within_half_a_second_and_ticks_within_a_minute() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("c");
    let mut writer = Writer::create(&path, &session(), Options::default()).expect("a new file");
    let size = || fs::metadata(&path).expect("the file").len();
    let opened = size();
    writer.record(&Record { at: Nanos(0), body: Body::Tick }).expect("room");
    writer.tick(Nanos(59_000_000_000)).expect("room");
    assert_eq!(size(), opened);
    writer.tick(Nanos(60_000_000_000)).expect("room");
    let ticked = size();
    assert!(ticked > opened);
    writer.record(&process(1, 61_000_000_000)).expect("room");
    writer.tick(Nanos(61_499_999_999)).expect("room");
    assert_eq!(size(), ticked);
    writer.tick(Nanos(61_500_000_000)).expect("room");
    assert!(size() > ticked);
}

#[test]
fn where_records_keep_coming_frames_are_longer_and_none_waits_for_a_second() {
    const MILLISECOND: u64 = 1_000_000;
    // Whatever the phase of the ticks to the records.
    for phase in (0..500).step_by(10) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("c");
        let mut writer = Writer::create(&path, &session(), Options::default()).expect("a new file");
        let size = || fs::metadata(&path).expect("the file").len();
        let (mut known, mut waiting_since, mut frames) = (size(), None, 0);
        for millis in (0..6_000).step_by(10) {
            let now = Nanos(millis * MILLISECOND);
            waiting_since.get_or_insert(millis);
            writer.record(&process(1, now.0)).expect("room");
            if millis % 500 == phase {
                writer.tick(now).expect("room");
            }
            if size() > known {
                (known, waiting_since, frames) = (size(), None, frames + 1);
            }
            assert!(waiting_since.is_none_or(|since| millis - since < 1_000), "{millis} ms at phase {phase}");
        }
        assert!((6..=10).contains(&frames), "{frames} frames in 6 s at phase {phase}");
    }
}
