//! A container as runtimes make them: namespaces of its own for mounts, pids and control groups, a root of its own, a
//! control group that is named after its id. Its network is a [`super::Netns`], which containers may share as a pod's do.
//!
//! The root shows the host's files, so that the host's nginx runs in it, but for [`VOLUME`], which is the container's.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, exit};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use nix::unistd::chroot;
use serde_json::json;

use super::cgroup::MemoryCgroup;
use super::netns::Netns;
use super::spawn::{VERB, die_with_parent, helper, join_netns, mark_parent};

/// Where containerd keeps the bundles of a kubelet's containers.
const BUNDLES: &str = "/run/containerd/io.containerd.runtime.v2.task/k8s.io";
/// What containerd calls one of the lab's containers: namespace, pod, container.
pub const POD: [&str; 3] = ["ngx502-lab", "pod", "upstream"];

/// Where a container sees its volume.
pub const VOLUME: &str = "/srv";

/// Whose manner of naming control groups is followed.
#[derive(Clone, Copy, Debug)]
pub enum Runtime {
    /// `docker-ID.scope`.
    Docker,
    /// `kubepods-….slice/cri-containerd-ID.scope`.
    Kubernetes,
}

/// A container; what runs in it has to end before it drops.
#[derive(Debug)]
pub struct Container {
    id: String,
    root: tempfile::TempDir,
    volume: Arc<tempfile::TempDir>,
    cgroup: MemoryCgroup,
    netns: Option<Arc<Netns>>,
    bundle: Option<Bundle>,
}

/// containerd's state of a container, as far as it tells names; removed when this drops.
#[derive(Debug)]
struct Bundle(PathBuf);

/// Held while folders come and go: trials that run at once share those above their bundles.
static FOLDERS: Mutex<()> = Mutex::new(());

impl Bundle {
    fn create(id: &str) -> Result<Bundle> {
        let _held = FOLDERS.lock().unwrap_or_else(PoisonError::into_inner);
        let [namespace, pod, container] = POD;
        let bundle = Bundle(Path::new(BUNDLES).join(id));
        fs::create_dir_all(&bundle.0)?;
        let config = json!({
            "ociVersion": "1.1.0",
            "annotations": {
                "io.kubernetes.cri.container-name": container,
                "io.kubernetes.cri.container-type": "container",
                "io.kubernetes.cri.sandbox-name": pod,
                "io.kubernetes.cri.sandbox-namespace": namespace,
            },
        });
        fs::write(bundle.0.join("config.json"), config.to_string())?;
        Ok(bundle)
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let _held = FOLDERS.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = fs::remove_dir_all(&self.0);
        // Those above go if they are empty: containerd, where there is one, keeps its own.
        for folder in self.0.ancestors().skip(1).take(3) {
            if fs::remove_dir(folder).is_err() {
                break;
            }
        }
    }
}

impl Container {
    /// Makes one with `memory` bytes as its limit, in the network of `netns` or the host's.
    ///
    /// # Errors
    /// Without root, or without a memory controller.
    pub fn create(runtime: Runtime, memory: u64, netns: Option<Arc<Netns>>) -> Result<Container> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let id = format!("{:08x}{number:08x}", std::process::id()).repeat(4);
        let names = match runtime {
            Runtime::Docker => vec![format!("docker-{id}.scope")],
            Runtime::Kubernetes => {
                vec![
                    format!("kubepods-pod{}_{number}.slice", std::process::id()),
                    format!("cri-containerd-{id}.scope"),
                ]
            }
        };
        let cgroup = MemoryCgroup::nested(&names, memory)?;
        let bundle = match runtime {
            Runtime::Docker => None,
            Runtime::Kubernetes => Some(Bundle::create(&id)?),
        };
        let root = tempfile::Builder::new().prefix("ngx502-root-").tempdir()?;
        let volume = tempfile::Builder::new().prefix("ngx502-volume-").tempdir()?;
        for dir in [root.path(), volume.path()] {
            fs::set_permissions(dir, fs::Permissions::from_mode(0o755))?;
        }
        Ok(Container { id, root, volume: Arc::new(volume), cgroup, netns, bundle })
    }

    /// The same container with another's volume in place of its own.
    pub fn sharing_volume_of(self, other: &Container) -> Container {
        Container { volume: Arc::clone(&other.volume), ..self }
    }

    /// Its id: 64 hexadecimal digits.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether the machine's files tell what it is called.
    pub fn is_named(&self) -> bool {
        self.bundle.is_some()
    }

    /// Its volume as the host sees it; inside it is [`VOLUME`].
    pub fn volume(&self) -> &Path {
        self.volume.path()
    }

    /// Its network.
    pub fn netns(&self) -> Option<&Arc<Netns>> {
        self.netns.as_ref()
    }

    /// A command that runs `program` as the container's first process, below a process of the host.
    ///
    /// # Errors
    /// When the running executable's path cannot be read.
    pub fn command(&self, program: &Path) -> Result<Command> {
        let mut command = helper("contain")?;
        command.arg(self.netns.as_ref().map_or(Path::new("-"), |netns| netns.path()));
        command.args([self.cgroup.path(), self.root.path(), self.volume.path(), program]);
        Ok(command)
    }
}

/// `contain NETNS|- CGROUP ROOT VOLUME PROGRAM ARG…`: becomes the parent of a new pid namespace, and ends as its first
/// process did.
pub(super) fn contain(args: &[OsString]) -> Result<()> {
    let (netns, inside) = args.split_first().context("contain needs a network namespace")?;
    // Ends by SIGKILL, and the kernel then ends the whole namespace, since its first process asks for the same.
    die_with_parent(Signal::SIGKILL)?;
    join_netns(netns)?;
    unshare(CloneFlags::CLONE_NEWPID).context("a pid namespace cannot be made; run as root")?;
    let mut command = Command::new(std::env::current_exe()?);
    mark_parent(&mut command, 0);
    let status = command.args([VERB, "contained"]).args(inside).status()?;
    if let Some(signal) = status.signal() {
        nix::sys::signal::raise(Signal::try_from(signal)?)?;
    }
    exit(status.code().unwrap_or(1));
}

/// The first process of the container, which becomes the program.
pub(super) fn contained(args: &[OsString]) -> Result<()> {
    let [cgroup, root, volume, program, rest @ ..] = args else {
        bail!("contained needs a cgroup, a root, a volume and a program")
    };
    die_with_parent(Signal::SIGKILL)?;
    fs::write(Path::new(cgroup).join("cgroup.procs"), "0").context("the cgroup takes no process")?;
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWCGROUP).context("namespaces cannot be made")?;
    enter_root(Path::new(root), volume)?;
    Err(Command::new(program).args(rest).exec()).with_context(|| format!("{program:?} cannot be run"))
}

fn enter_root(root: &Path, volume: &OsStr) -> Result<()> {
    const NONE: Option<&str> = None;
    let inside = |path: &str| -> PathBuf { root.join(path.trim_start_matches('/')) };
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE).context("mounts stay shared")?;
    mount(Some("/"), root, NONE, MsFlags::MS_BIND | MsFlags::MS_REC, NONE).context("no root")?;
    mount(Some(volume), &inside(VOLUME), NONE, MsFlags::MS_BIND, NONE).context("no volume")?;
    mount(Some("proc"), &inside("/proc"), Some("proc"), MsFlags::empty(), NONE).context("no /proc")?;
    // Moved over the old root as switch_root(8) does it: pivot_root(2) cannot leave an initramfs.
    std::env::set_current_dir(root).context("the root cannot be entered")?;
    mount(Some("."), "/", NONE, MsFlags::MS_MOVE, NONE).context("the root cannot be moved")?;
    chroot(".").context("the root cannot be entered")?;
    std::env::set_current_dir("/").context("the root has no directory")
}
