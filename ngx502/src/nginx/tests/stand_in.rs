//! Builds that no package offers, made of a small C program with nginx's symbols and literals.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
};

use ngx502_common::layout::{ABSENT, NginxLayout};

use super::{super::*, assert_same_text_in_memory};
use crate::{event::Pid, kernel::providers::LOG};

/// Compiles the stand-in with some options.
fn stand_in(directory: &Path, name: &str, options: &[&str]) -> PathBuf {
    let output = directory.join(name);
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/nginx_stand_in.c");
    run(Command::new("cc").args(["-O1", source, "-o"]).arg(&output).args(options));
    output
}

fn run(command: &mut Command) {
    let status =
        command.status().unwrap_or_else(|error| panic!("{command:?}: {error}; install gcc and binutils"));
    assert!(status.success(), "{command:?}: {status}");
}

/// A running stand-in, which ends when its standard input is closed.
struct Running(Child, Option<ChildStdin>);

impl Running {
    fn start(path: &Path) -> Self {
        let mut child = Command::new(path).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let stdin = child.stdin.take();
        child.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
        Self(child, stdin)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.1.take());
        let _reaped = self.0.wait();
    }
}

#[test]
fn a_fixed_address_binary_has_file_offsets_and_no_bias() {
    let directory = tempfile::tempdir().unwrap();
    let path = stand_in(directory.path(), "fixed", &["-no-pie", "-g"]);
    let binary = Binary::open(&path).unwrap();
    assert!(binary.problem().is_none(), "symbols come from .symtab");
    let length = fs::metadata(&path).unwrap().len();
    let offset = binary.functions[LOG].function;
    assert!(offset < length, "{offset:#x} is an offset in the file, not an address");
    let process = Running::start(&path);
    let pid = Pid(process.0.id());
    assert_eq!(load_bias(pid, &binary, binary.id), Some(0));
    assert_same_text_in_memory(pid, &binary);
}

#[test]
fn builds_without_symbols_say_what_is_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let problem = |name, options: &[&str]| {
        let binary = Binary::open(&stand_in(directory.path(), name, options)).unwrap();
        assert!(binary.is_nginx(), "{name}");
        binary.problem()
    };
    assert_eq!(problem("exported", &["-rdynamic", "-s"]), None);
    assert_eq!(problem("static", &["-static", "-s"]), Some(BinaryProblem::StaticAndStripped));
    assert_eq!(problem("hidden", &["-s"]), Some(BinaryProblem::NotExported));
    assert_eq!(
        problem("partial", &["-rdynamic", "-s", "-DWITHOUT_SSL_ERROR"]),
        Some(BinaryProblem::Missing(vec!["ngx_ssl_error"]))
    );
}

/// The stand-in's structs, far from any real nginx's, so that only its debug information can have told them.
const STAND_IN: NginxLayout = NginxLayout {
    upstream: 56,
    upstream_states: 64,
    cache: ABSENT,
    host: 72 + 48,
    request_line: 72 + 56 + 32 + 104,
    main_from_request_line: 16 + 80,
    status_before_request_line: 8 + 104,
    connection_fd: 40,
    connection_log: 48,
    connection_addr_text: 56,
    peer_connection: 8 + 32,
    peer_name: 8 + 40,
    log_data: 24,
    log_action: 40,
    state_status: 16,
    state_bytes_received: 80,
    state_bytes_sent: ABSENT,
    state_peer: 88,
    log_core_has_file: 0,
    reserved: 0,
};

#[test]
fn debug_information_tells_the_layout() {
    let directory = tempfile::tempdir().unwrap();
    for (name, option) in [("plain", "-gz=none"), ("packed", "-gz=zlib"), ("older", "-gdwarf-4")] {
        let path = stand_in(directory.path(), name, &["-g", option]);
        let (found, source) = layout::of(&Binary::open(&path).unwrap());
        assert_eq!((found, source), (STAND_IN, LayoutSource::DebugInformation(path)), "{name}");
    }
}

#[test]
fn a_debug_link_is_followed_only_to_the_same_build() {
    let directory = tempfile::tempdir().unwrap();
    let path = stand_in(directory.path(), "linked", &["-g"]);
    let debug = directory.path().join("linked.debug");
    run(Command::new("objcopy").arg("--only-keep-debug").arg(&path).arg(&debug));
    run(Command::new("objcopy")
        .arg("--strip-all")
        .arg(format!("--add-gnu-debuglink={}", debug.display()))
        .arg(&path));
    let binary = Binary::open(&path).unwrap();
    assert!(!binary.has_debug_info);
    assert_eq!(layout::of(&binary), (STAND_IN, LayoutSource::DebugInformation(debug.clone())));

    let other = stand_in(directory.path(), "other", &["-g", "-DWITHOUT_SSL_ERROR"]);
    fs::rename(other, debug).unwrap();
    assert_eq!(layout::of(&binary).1, LayoutSource::Signature, "another build's debug file is not believed");
}

#[test]
fn damaged_debug_information_does_no_harm() {
    let directory = tempfile::tempdir().unwrap();
    let path = stand_in(directory.path(), "damaged", &["-g", "-gz=none"]);
    let whole = fs::read(&path).unwrap();
    // Every 97th byte in turn, so that all of DWARF's tables are hit in a few hundred files.
    for at in (0..whole.len()).step_by(97) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0xff;
        fs::write(&path, damaged).unwrap();
        if let Ok(binary) = Binary::open(&path) {
            let _layout = layout::of(&binary);
        }
    }
}
