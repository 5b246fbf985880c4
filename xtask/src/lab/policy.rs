//! Policies that refuse a worker's connects: a BPF program of its cgroup, an AppArmor profile.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::libc;
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};

use super::wait;

/// Where the unified hierarchy is mounted: alone, or beside the controllers of version 1.
const HIERARCHIES: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
/// Commands of bpf(2).
const PROG_LOAD: libc::c_long = 5;
const PROG_ATTACH: libc::c_long = 8;
/// `BPF_PROG_TYPE_CGROUP_SOCK_ADDR` for `BPF_CGROUP_INET4_CONNECT`.
const SOCK_ADDR: u32 = 18;
const INET4_CONNECT: u32 = 10;
/// `r0 = 0; exit`: no.
const SAY_NO: [u64; 2] = [0x0000_0000_0000_00b7, 0x0000_0000_0000_0095];

/// A cgroup whose members may not connect over IPv4; removed when this drops, its members go back to the root.
#[derive(Debug)]
pub struct ConnectBan {
    root: PathBuf,
    path: PathBuf,
}

/// The parts of `union bpf_attr` that the two commands read.
#[repr(C)]
#[derive(Default)]
struct Load {
    kind: u32,
    instructions: u32,
    code: u64,
    licence: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    expected_attach_type: u32,
}

#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

impl ConnectBan {
    /// Makes the cgroup and attaches the program.
    ///
    /// # Errors
    /// Without a unified hierarchy, or where the kernel refuses the program.
    pub fn create() -> Result<ConnectBan> {
        let root = HIERARCHIES.iter().map(PathBuf::from).find(|root| root.join("cgroup.procs").exists());
        let root = root.context("no unified cgroup hierarchy is mounted below /sys/fs/cgroup")?;
        let path = root.join(format!("ngx502-lab-ban-{}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("{path:?} cannot be made"))?;
        let ban = ConnectBan { root, path };
        ban.attach().context("the kernel takes no connect4 program for a cgroup")?;
        Ok(ban)
    }

    fn attach(&self) -> Result<()> {
        // Before 5.11 programs count against this limit. Later they do not, and raising it may be forbidden.
        let _ = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
        let load = Load {
            kind: SOCK_ADDR,
            instructions: SAY_NO.len() as u32,
            code: SAY_NO.as_ptr() as u64,
            licence: c"GPL".as_ptr() as u64,
            expected_attach_type: INET4_CONNECT,
            ..Load::default()
        };
        let program = bpf(PROG_LOAD, &load)?;
        let group = File::open(&self.path)?;
        let attach = Attach {
            target: u32::try_from(group.as_raw_fd())?,
            program: u32::try_from(program)?,
            kind: INET4_CONNECT,
            flags: 0,
        };
        let attached = bpf(PROG_ATTACH, &attach);
        nix::unistd::close(i32::try_from(program)?)?;
        attached.map(drop)
    }

    /// Takes a process in.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn adopt(&self, process: u32) -> Result<()> {
        move_to(&self.path, process)
    }
}

impl Drop for ConnectBan {
    fn drop(&mut self) {
        let members = fs::read_to_string(self.path.join("cgroup.procs")).unwrap_or_default();
        for member in members.lines().filter_map(|line| line.parse().ok()) {
            // A member that ended meanwhile needs no place.
            let _ = move_to(&self.root, member);
        }
        let gone =
            wait::until("the cgroup to empty", Duration::from_secs(2), || fs::remove_dir(&self.path).ok());
        if let Err(error) = gone {
            eprintln!("{:?} is left behind: {error}", self.path);
        }
    }
}

fn move_to(group: &Path, process: u32) -> Result<()> {
    fs::write(group.join("cgroup.procs"), process.to_string())
        .with_context(|| format!("{group:?} does not take process {process}"))
}

fn bpf<T>(command: libc::c_long, attributes: &T) -> Result<libc::c_long> {
    // SAFETY: the kernel reads as many bytes as it is told, all of them `attributes`', and what that points to lives
    // until the call is over.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>() as u32) };
    Ok(Errno::result(result)?)
}

/// An AppArmor profile; unloaded when this drops.
#[derive(Debug)]
pub struct Profile {
    name: String,
    file: tempfile::NamedTempFile,
}

impl Profile {
    /// Whether the kernel was built with AppArmor at all.
    pub fn kernel_knows() -> bool {
        Path::new("/sys/module/apparmor").exists()
    }

    /// Why no profile can be loaded here, if so.
    pub fn impossible() -> Option<String> {
        let modules = fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
        if !modules.split(',').any(|module| module.trim() == "apparmor") {
            return Some("AppArmor is not active on this kernel".into());
        }
        let parser = Command::new("apparmor_parser").arg("--version").output();
        parser.err().map(|error| format!("apparmor_parser cannot be run: {error}"))
    }

    /// Loads a profile that allows everything but `denied`, rules of its language.
    ///
    /// # Errors
    /// When the parser is missing or refuses it: its words.
    pub fn load(denied: &str) -> Result<Profile> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("ngx502-lab-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let profile = Profile { name, file: tempfile::NamedTempFile::new()? };
        profile.deny(denied)?;
        Ok(profile)
    }

    /// Denies `denied` instead, to running processes too.
    ///
    /// # Errors
    /// As [`Profile::load`].
    pub fn deny(&self, denied: &str) -> Result<()> {
        let rules = "capability,\n file,\n network,\n signal,\n ptrace,\n unix,";
        fs::write(self.file.path(), format!("profile {} {{\n {rules}\n {denied}\n}}\n", self.name))?;
        self.parser("--replace")
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn parser(&self, action: &str) -> Result<()> {
        let mut command = Command::new("apparmor_parser");
        let output = command.args(["--skip-cache", action]).arg(self.file.path()).output()?;
        if !output.status.success() {
            bail!("apparmor_parser {action} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        if let Err(error) = self.parser("--remove") {
            eprintln!("the profile {} is left behind: {error:#}", self.name);
        }
    }
}
