//! Tests on real executables and processes: the machine's nginx (a package of every build machine), started from a
//! directory of its own, and (in [`stand_in`]) small stand-ins for builds that no package offers.

mod stand_in;
mod zoo;

use std::{
    fs::{self, File},
    io::{ErrorKind, Write as _},
    os::unix::fs::{FileExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd,
};
use proptest::prelude::*;
use tempfile::TempDir;

use crate::kernel::providers::{LOG, SSL_ERROR};

use super::binary::FileState;
use super::*;
use crate::event::Pid;
use crate::kernel::providers::UPROBES;

const NGINX: &str = "/usr/sbin/nginx";
const DEADLINE: Duration = Duration::from_secs(20);

fn real_nginx() -> Binary {
    Binary::open(Path::new(NGINX)).unwrap_or_else(|error| {
        panic!("this test needs Debian's nginx ({error}): apt-get install nginx-light")
    })
}

/// Polls until `condition` yields something.
fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(start.elapsed() < DEADLINE, "no {what} within {DEADLINE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// An nginx of its own copy and directory, stopped when dropped.
struct Nginx {
    directory: TempDir,
    master: Child,
    /// What ends it.
    signal: Signal,
}

impl Nginx {
    fn start(master_process: &str) -> Self {
        let _installed = real_nginx();
        let directory = tempfile::tempdir().unwrap();
        // Workers drop root and still have to reach their own directory.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let exe = directory.path().join("nginx");
        fs::copy(NGINX, &exe).unwrap();
        let configuration = format!(
            "daemon off; master_process {master_process}; worker_processes 1; pid nginx.pid; error_log error.log;\n\
             events {{}}\nhttp {{ access_log off; client_body_temp_path body; proxy_temp_path proxy;\n\
             fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;\n\
             server {{ listen unix:{}/listen.sock; }} }}\n",
            directory.path().display()
        );
        fs::write(directory.path().join("nginx.conf"), configuration).unwrap();
        let prefix = directory.path().join("");
        let mut command = Command::new(exe);
        command.args(["-e", "error.log", "-c", "nginx.conf", "-p"]).arg(prefix).stderr(Stdio::null());
        // A process that another test is just starting may still have the copy open for writing, as its parent had.
        let master = wait_for("start of the copy", || match command.spawn() {
            Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => None,
            started => Some(started.unwrap()),
        });
        Self { directory, master, signal: Signal::SIGTERM }
    }

    fn pid(&self) -> Pid {
        Pid(self.master.id())
    }

    fn child_with(&self, role: Role) -> Option<NginxProcess> {
        processes().into_iter().find(|nginx| nginx.parent == self.pid() && nginx.role == role)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let master = unistd::Pid::from_raw(i32::try_from(self.master.id()).unwrap());
        let _gone_already = kill(master, self.signal);
        let _reaped = self.master.wait();
    }
}

/// Reads `length` bytes of a process's memory.
fn memory(pid: Pid, address: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    File::open(format!("/proc/{pid}/mem")).unwrap().read_exact_at(&mut bytes, address).unwrap();
    bytes
}

fn assert_same_text_in_memory(pid: Pid, binary: &Binary) {
    let text = b"upstream timed out";
    let vaddr = binary.find(text).unwrap();
    let bias = load_bias(pid, binary, binary.id).unwrap();
    assert_eq!(memory(pid, bias.wrapping_add(vaddr), text.len()), text);
    assert!(binary.text_at(vaddr).unwrap().starts_with(text));
}

#[test]
fn the_real_binary_offers_all_probe_points() {
    let binary = real_nginx();
    let length = fs::metadata(NGINX).unwrap().len();
    for uprobe in &UPROBES {
        let offset = binary.functions.get(uprobe.program).map(|point| point.function);
        assert!(offset.is_some_and(|offset| offset > 0 && offset < length), "{uprobe:?}: {offset:?}");
    }
    assert_eq!(binary.problem(), None);
    assert!(binary.is_nginx());
    let version = binary.version.clone().unwrap();
    assert_eq!((version.product, version.number.0), (Product::Nginx, 1));
    assert_eq!(binary.signature.clone().unwrap().0.len(), "8,4,8,".len() + 34);
}

#[test]
fn the_version_agrees_with_the_binary_itself() {
    let output = Command::new(NGINX).arg("-v").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let version = real_nginx().version.unwrap().to_string();
    assert!(said.starts_with(&format!("nginx version: {version}")), "{said} against {version}");
}

#[test]
fn text_is_read_only_inside_the_file() {
    let binary = real_nginx();
    let vaddr = binary.find(b"upstream prematurely closed connection").unwrap();
    assert!(binary.text_at(vaddr).unwrap().starts_with(b"upstream prematurely closed"));
    assert!(binary.text_at(vaddr + 9).unwrap().starts_with(b"prematurely closed"), "the linker merges tails");
    for outside in [u64::MAX, 1 << 47, 1 << 32] {
        assert_eq!(binary.text_at(outside), None, "{outside:#x}");
    }
}

#[test]
fn a_debian_layout_comes_from_the_signature() {
    let binary = real_nginx();
    let (found, source) = layout::of(&binary);
    // With -dbgsym installed the source differs and the offsets must not.
    assert!(matches!(source, LayoutSource::Signature | LayoutSource::DebugInformation(_)), "{source:?}");
    if binary.version.unwrap().text == "nginx/1.22.1" {
        assert_eq!((found.request_line, found.status_before_request_line, found.upstream), (992, 344, 72));
    }
}

#[test]
fn other_programs_are_not_nginx() {
    for path in [std::env::current_exe().unwrap(), PathBuf::from("/bin/sh")] {
        let binary = Binary::open(&path).unwrap();
        assert!(!binary.is_nginx(), "{}", path.display());
    }
    assert_eq!(inspect(Pid(std::process::id())), None);
}

#[test]
fn probes_go_to_the_file_that_was_read_and_to_none_that_was_written_to_since() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("nginx");
    fs::copy(NGINX, &path).unwrap();
    let binary = Binary::open(&path).unwrap();
    // Another file by that name, as an exec between two looks makes it of `/proc/PID/exe`.
    let other = directory.path().join("other");
    fs::copy("/bin/true", &other).unwrap();
    fs::rename(&other, &path).unwrap();
    let pinned = fs::metadata(binary.pinned_path().unwrap()).unwrap();
    assert_eq!(BinaryId::from(&pinned), binary.id);
    assert_ne!(BinaryId::from(&fs::metadata(&path).unwrap()), binary.id);
}

#[test]
fn a_file_that_was_written_to_is_not_probed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("nginx");
    fs::copy(NGINX, &path).unwrap();
    let binary = Binary::open(&path).unwrap();
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"\xcc", binary.functions[LOG].offset()).unwrap();
    assert!(matches!(binary.pinned_path(), Err(BinaryError::Changed)));
}

#[test]
fn what_is_no_executable_is_refused_with_its_reason() {
    let directory = tempfile::tempdir().unwrap();
    let open = |path: &Path| Binary::open(path).unwrap_err();
    assert!(matches!(open(&directory.path().join("none")), BinaryError::Read(_)));
    assert!(matches!(open(directory.path()), BinaryError::NotReadable));
    assert!(matches!(open(Path::new("/dev/zero")), BinaryError::NotReadable));
    let fifo = directory.path().join("nginx");
    unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(matches!(open(&fifo), BinaryError::NotReadable), "and does not block");
    let script = directory.path().join("script");
    File::create(&script).unwrap().write_all(b"#!/bin/sh\nnginx\n").unwrap();
    assert!(matches!(open(&script), BinaryError::Malformed(_)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Neither a cut nor damaged headers and tables may panic; whatever is found lies inside the file.
    #[test]
    fn damaged_binaries_do_no_harm(
        cut in 0.0..1.0_f64,
        flips in prop::collection::vec((0.0..1.0_f64, any::<u8>()), 0..24),
        in_header in any::<bool>(),
    ) {
        let mut data = fs::read(NGINX).unwrap();
        if flips.is_empty() {
            data.truncate((data.len() as f64 * cut) as usize);
        }
        let range = if in_header { data.len().min(1024) } else { data.len() };
        for (place, byte) in flips {
            data[(range as f64 * place) as usize] = byte;
        }
        let file = File::open(NGINX).unwrap();
        let state = FileState::from(&file.metadata().unwrap());
        if let Ok(binary) = Binary::parse(Path::new(NGINX), file, state, &data) {
            for offset in binary.functions.values().map(|point| point.function) {
                prop_assert!(offset < data.len() as u64 * 2 || in_header);
            }
            let _reason = binary.problem();
            for vaddr in [0, 1, data.len() as u64, u64::MAX] {
                let _text = binary.text_at(vaddr);
            }
            let _layout = layout::of(&binary);
        }
    }
}

#[test]
fn master_and_worker_are_discovered_and_their_texts_resolve() {
    let nginx = Nginx::start("on");
    let worker = wait_for("worker", || nginx.child_with(Role::Worker));
    let master = inspect(nginx.pid()).unwrap();
    assert_eq!((master.role, master.parent.0), (Role::Master, std::process::id()));
    assert_eq!(master.exe, nginx.directory.path().join("nginx").as_os_str().as_encoded_bytes());
    assert_eq!((worker.id, &worker.process.comm), (master.id, &master.process.comm));
    assert!(worker.process.start >= master.process.start && master.process.start.0 > 0);
    assert_eq!(inspect(worker.process.pid).as_ref(), Some(&worker));

    let selected: Vec<_> =
        select(processes(), &[nginx.pid()]).into_iter().map(|nginx| nginx.process.pid).collect();
    let mut expected = vec![nginx.pid(), worker.process.pid];
    expected.sort();
    assert_eq!(selected, expected, "a master stands for its workers");
    assert_eq!(select(processes(), &[worker.process.pid]), vec![worker.clone()]);
    assert!(select(processes(), &[Pid(1 << 30)]).is_empty());

    for process in [&master, &worker] {
        let binary = Binary::open(&process.binary_path).unwrap();
        assert_eq!(binary.id, process.id);
        assert_same_text_in_memory(process.process.pid, &binary);
        let bias = load_bias(process.process.pid, &binary, binary.id).unwrap();
        assert_eq!(
            Memory::of(process.process.pid, binary.id).unwrap().log_level(&binary, bias),
            Some(4),
            "`error_log FILE` alone means error"
        );
    }
    assert!(hides_failures(3) && !hides_failures(4));
    assert_eq!(
        load_bias(master.process.pid, &real_nginx(), real_nginx().id),
        None,
        "the copy is another file"
    );
}

#[test]
fn a_replaced_executable_is_still_read() {
    let nginx = Nginx::start("on");
    let worker = wait_for("worker", || nginx.child_with(Role::Worker));
    fs::remove_file(nginx.directory.path().join("nginx")).unwrap();
    let after = inspect(worker.process.pid).unwrap();
    assert_eq!(after, worker, "its path is the old one, without ` (deleted)`");
    assert_same_text_in_memory(after.process.pid, &Binary::open(&after.binary_path).unwrap());
}

#[test]
fn an_nginx_in_a_container_is_found_and_read() {
    if !unistd::geteuid().is_root() {
        eprintln!("skipped: only root may make the namespaces of a container");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let hidden = directory.path().join("inside");
    fs::create_dir(&hidden).unwrap();
    let configuration = directory.path().join("nginx.conf");
    fs::write(
        &configuration,
        "daemon off; master_process off; pid nginx.pid; error_log error.log; events {}",
    )
    .unwrap();
    // The file system with the executable exists only in the new mount namespace.
    let script = format!(
        "mount -t tmpfs tmpfs {hidden} && cp {NGINX} {hidden}/nginx && exec {hidden}/nginx -p {hidden}/ -c {} \
         -e error.log",
        configuration.display(),
        hidden = hidden.display()
    );
    let unshare = Command::new("unshare")
        .args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-c", &script])
        .spawn()
        .unwrap();
    // unshare ignores SIGTERM; its child dies with it.
    let unshare = Nginx { directory, master: unshare, signal: Signal::SIGKILL };
    let process = wait_for("nginx in a namespace", || unshare.child_with(Role::Single));
    assert_eq!(process.exe, hidden.join("nginx").as_os_str().as_encoded_bytes());
    assert!(!hidden.join("nginx").exists(), "its path leads nowhere here");
    assert_same_text_in_memory(process.process.pid, &Binary::open(&process.binary_path).unwrap());
}

#[test]
fn a_single_process_serves_by_itself() {
    let nginx = Nginx::start("off");
    let socket = nginx.directory.path().join("listen.sock");
    wait_for("socket", || socket.exists().then_some(()));
    assert_eq!(inspect(nginx.pid()).unwrap().role, Role::Single);
}

#[test]
fn a_vanished_process_is_none() {
    let mut child = Command::new("true").spawn().unwrap();
    let pid = Pid(child.id());
    child.wait().unwrap();
    assert_eq!(inspect(pid), None);
    assert_eq!(load_bias(pid, &real_nginx(), real_nginx().id), None);
    assert_eq!(inspect(Pid(u32::MAX)), None);
}

/// As Debian builds it; of `ngx_ssl_error` the same does not hold in each release.
#[test]
fn every_probe_of_the_installed_nginx_is_emulated() {
    let binary = real_nginx();
    assert!(binary.functions.len() >= 4, "{:?}", binary.functions);
    for (program, point) in binary.functions.iter().filter(|(program, _)| **program != SSL_ERROR) {
        assert!(point.emulated && point.skip < 32, "{program}: {point:?}");
    }
}

/// The same of other builds.
#[test]
#[ignore = "on demand: prints where the executables named in NGX502_BINARIES (colons between) are probed"]
fn probe_points_of_other_builds() {
    let paths = std::env::var_os("NGX502_BINARIES").expect("paths");
    for path in std::env::split_paths(&paths) {
        let binary = Binary::open(&path).unwrap();
        println!("{} {:?}", path.display(), binary.version);
        for uprobe in UPROBES.iter() {
            println!("  {:<36} {:?}", uprobe.symbol, binary.functions.get(uprobe.program));
        }
    }
}
