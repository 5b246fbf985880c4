//! What people call a container, from the state that its runtime keeps on this machine: no daemon is asked, none need run.
//!
//! | runtime | state | name |
//! |---|---|---|
//! | Docker | `config.v2.json` in its data root | `Name` |
//! | Podman, CRI-O | the lists of containers in `/var/lib/containers/storage` | the first of `names` |
//! | containerd | the bundle's `config.json` | annotations of Kubernetes' CRI, or nerdctl's |
//!
//! Only root's files are believed. What is not found is not reported: the id stays.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::libc::{O_NOFOLLOW, O_NONBLOCK};
use serde_json::Value;

use crate::event::{ContainerNames, DownContainer, Pid, PodName, Runtime, is_container_id};
use crate::proc;

/// Docker's state, unless its configuration names another place.
const DOCKER_ROOT: &str = "/var/lib/docker";
const DOCKER_CONFIG: &str = "/etc/docker/daemon.json";
/// Podman's and CRI-O's lists: one folder a storage driver; volatile containers have a list of their own.
const STORAGE: &str = "/var/lib/containers/storage";
const STORAGE_FOLDERS: [&str; 4] =
    ["overlay-containers", "vfs-containers", "btrfs-containers", "zfs-containers"];
const STORAGE_LISTS: [&str; 2] = ["containers.json", "volatile-containers.json"];
/// containerd's bundles, its own and those of k3s, in the namespaces of Kubernetes and nerdctl.
const BUNDLES: [&str; 3] = [
    "/run/containerd/io.containerd.runtime.v2.task/k8s.io",
    "/run/k3s/containerd/io.containerd.runtime.v2.task/k8s.io",
    "/run/containerd/io.containerd.runtime.v2.task/default",
];
/// Larger files are not a container's state, or not worth their reading.
const FILE_BYTES: u64 = 4 << 20;
/// Longer texts are not names. Kubernetes' have at most 253 bytes, Docker's hardly more.
const NAME_BYTES: usize = 255;
/// A container may be renamed, or be found before its state is written.
const STANDS: Duration = Duration::from_secs(10);
/// Containers that do not run and are told.
const DOWN: usize = 32;
/// Daemons whose state is read.
const DAEMONS: usize = 4;
/// Published ports of one that are told.
const PORTS: usize = 16;
/// Containers remembered; beyond, all are looked up anew.
const REMEMBERED: usize = 1024;

/// The names of containers on this machine.
#[derive(Debug)]
pub(super) struct Containers {
    /// `/`, but for tests.
    root: PathBuf,
    /// Whose files are believed: root's.
    owner: u32,
    known: HashMap<String, (Instant, ContainerNames)>,
    /// Where Docker keeps its state, and when that was found out: there may be several daemons.
    docker: Option<(Instant, Vec<PathBuf>)>,
}

impl Containers {
    pub(super) fn of_this_machine() -> Self {
        Self { root: "/".into(), owner: 0, known: HashMap::new(), docker: None }
    }

    /// What a container is called; `runtime` is what its control group says of who made it. What has a name instead of an
    /// id is nowhere looked up: it could lead elsewhere, as `..` does.
    pub(super) fn names(&mut self, id: &str, runtime: Option<Runtime>) -> ContainerNames {
        if !is_container_id(id) {
            return ContainerNames { runtime, ..ContainerNames::default() };
        }
        if let Some((at, names)) = self.known.get(id)
            && at.elapsed() < STANDS
        {
            return names.clone();
        }
        let names =
            self.look_up(id, runtime).unwrap_or(ContainerNames { runtime, ..ContainerNames::default() });
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        self.known.insert(id.to_owned(), (Instant::now(), names.clone()));
        names
    }

    /// Docker's containers that publish a port and do not run, as far as its files say; the latest first.
    pub(super) fn down(&mut self) -> Vec<DownContainer> {
        let mut found = Vec::new();
        for root in self.docker_roots() {
            let all = root.join("containers");
            let entries = std::fs::read_dir(self.root.join(all.strip_prefix("/").unwrap_or(&all)));
            let entries = entries.into_iter().flatten().flatten();
            let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
            let ids = names.filter(|id| is_container_id(id)).take(REMEMBERED);
            found.extend(ids.filter_map(|id| self.is_down(&all.join(&id), &id)));
        }
        found.sort_by_key(|one| std::cmp::Reverse(one.finished_us));
        found.truncate(DOWN);
        found
    }

    fn is_down(&self, folder: &Path, id: &str) -> Option<DownContainer> {
        let config = self.json(&folder.join("config.v2.json"))?;
        let state = &config["State"];
        let restarting = state["Restarting"] == true;
        if state["Running"] == true && !restarting {
            return None;
        }
        let bindings = self.json(&folder.join("hostconfig.json"))?;
        let bindings = bindings["PortBindings"].as_object()?.values();
        let publishes = bindings.filter_map(Value::as_array).flatten().filter_map(|binding| {
            let ip = binding["HostIp"].as_str().and_then(|ip| ip.parse::<IpAddr>().ok());
            Some((ip.filter(|ip| !ip.is_unspecified()), binding["HostPort"].as_str()?.parse().ok()?))
        });
        let publishes: Vec<_> = publishes.take(PORTS).collect();
        let name = config["Name"].as_str()?;
        let text = |value: &Value| value.as_str().filter(|text| is_name(text)).map(str::to_owned);
        let finished: Option<jiff::Timestamp> =
            state["FinishedAt"].as_str().and_then(|time| time.parse().ok());
        (!publishes.is_empty()).then(|| DownContainer {
            id: id.to_owned(),
            names: named(Some(Runtime::Docker), name.strip_prefix('/').unwrap_or(name)).unwrap_or_default(),
            exit_code: state["ExitCode"].as_i64().and_then(|code| i32::try_from(code).ok()),
            oom_killed: state["OOMKilled"] == true,
            restarting,
            // Docker writes the year 1 for one that never ran.
            finished_us: finished.map(jiff::Timestamp::as_microsecond).filter(|at| *at > 0),
            error: text(&state["Error"]),
            publishes,
        })
    }

    /// Docker's data roots: the one that its configuration names, else those of the running daemons, else the usual one.
    fn docker_roots(&mut self) -> Vec<PathBuf> {
        if let Some((at, roots)) = &self.docker
            && at.elapsed() < STANDS
        {
            return roots.clone();
        }
        let configured = self.json(Path::new(DOCKER_CONFIG)).unwrap_or_default();
        let mut roots: Vec<PathBuf> =
            configured["data-root"].as_str().map(PathBuf::from).into_iter().collect();
        if self.root == Path::new("/") {
            roots.extend(self.roots_of_daemons());
        }
        roots.push(DOCKER_ROOT.into());
        self.docker = Some((Instant::now(), roots.clone()));
        roots
    }

    /// `dockerd --data-root DIR`, where root runs it.
    fn roots_of_daemons(&self) -> Vec<PathBuf> {
        let is_daemon = |pid: &Pid| {
            let owned =
                std::fs::metadata(format!("/proc/{pid}")).is_ok_and(|about| about.uid() == self.owner);
            owned && proc::stat(*pid).is_ok_and(|stat| stat.comm == "dockerd")
        };
        let daemons = proc::pids().into_iter().flatten().filter(is_daemon).take(DAEMONS);
        let lines = daemons.filter_map(|pid| proc::read(&format!("/proc/{pid}/cmdline")).ok());
        lines.filter_map(|line| data_root(&line)).collect()
    }

    fn look_up(&mut self, id: &str, runtime: Option<Runtime>) -> Option<ContainerNames> {
        match runtime {
            Some(Runtime::Docker) => self.in_docker(id),
            Some(Runtime::Podman | Runtime::Crio) => self.in_storage(id, runtime),
            Some(Runtime::Containerd | Runtime::Nerdctl) => self.in_bundle(id),
            None => self.in_docker(id).or_else(|| self.in_storage(id, None)).or_else(|| self.in_bundle(id)),
        }
    }

    fn in_docker(&mut self, id: &str) -> Option<ContainerNames> {
        let places = self
            .docker_roots()
            .into_iter()
            .map(|root| root.join("containers").join(id).join("config.v2.json"));
        let state = places.into_iter().find_map(|place| self.json(&place))?;
        let name = state["Name"].as_str()?;
        named(Some(Runtime::Docker), name.strip_prefix('/').unwrap_or(name))
    }

    fn in_storage(&self, id: &str, runtime: Option<Runtime>) -> Option<ContainerNames> {
        let lists = STORAGE_FOLDERS.iter().flat_map(|folder| STORAGE_LISTS.map(|list| (folder, list)));
        lists.into_iter().find_map(|(folder, list)| {
            let all = self.json(&Path::new(STORAGE).join(folder).join(list))?;
            let container = all.as_array()?.iter().find(|one| one["id"] == id)?;
            named(runtime, container["names"][0].as_str()?)
        })
    }

    fn in_bundle(&self, id: &str) -> Option<ContainerNames> {
        BUNDLES.iter().find_map(|bundles| {
            let bundle = self.json(&Path::new(bundles).join(id).join("config.json"))?;
            let annotation = |name: &str| {
                let value = bundle["annotations"][name].as_str().filter(|value| is_name(value));
                value.map(str::to_owned)
            };
            if let Some(name) = annotation("nerdctl/name") {
                return named(Some(Runtime::Nerdctl), &name);
            }
            let pod = PodName {
                namespace: annotation("io.kubernetes.cri.sandbox-namespace")?,
                name: annotation("io.kubernetes.cri.sandbox-name")?,
            };
            let name = annotation("io.kubernetes.cri.container-name");
            Some(ContainerNames { runtime: Some(Runtime::Containerd), name, pod: Some(pod) })
        })
    }

    /// A file's content, where root alone may write it; `None` for all else.
    fn json(&self, path: &Path) -> Option<Value> {
        let place = self.root.join(path.strip_prefix("/").ok()?);
        let text = self.read(&place).inspect_err(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                log::debug!("no container's name in {}: {error}", place.display());
            }
        });
        let parsed = serde_json::from_slice(&text.ok()?);
        parsed.inspect_err(|error| log::debug!("no container's name in {}: {error}", place.display())).ok()
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = OpenOptions::new().read(true).custom_flags(O_NOFOLLOW | O_NONBLOCK).open(path)?;
        let about = file.metadata()?;
        if !about.is_file() || about.uid() != self.owner || about.mode() & 0o022 != 0 {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "others than root may write it"));
        }
        let mut bytes = Vec::new();
        file.take(FILE_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// The directory that a daemon's command line names.
fn data_root(line: &[u8]) -> Option<PathBuf> {
    let mut words = line.split(|byte| *byte == 0).filter_map(|word| std::str::from_utf8(word).ok());
    while let Some(word) = words.next() {
        let root = match word.strip_prefix("--data-root=") {
            Some(root) => root,
            None if matches!(word, "--data-root" | "-g" | "--graph") => words.next()?,
            None => continue,
        };
        return Some(PathBuf::from(root)).filter(|root| root.is_absolute());
    }
    None
}

/// The names behind one name: the kubelet gives Docker and CRI-O `k8s_CONTAINER_POD_NAMESPACE_UID_ATTEMPT`, whose parts
/// have no underscore.
fn named(runtime: Option<Runtime>, name: &str) -> Option<ContainerNames> {
    if !is_name(name) {
        return None;
    }
    let parts: Vec<_> = name.split('_').collect();
    Some(match parts.as_slice() {
        ["k8s", container, pod, namespace, _uid, _attempt] => ContainerNames {
            runtime,
            name: Some((*container).to_owned()),
            pod: Some(PodName { namespace: (*namespace).to_owned(), name: (*pod).to_owned() }),
        },
        _ => ContainerNames { runtime, name: Some(name.to_owned()), pod: None },
    })
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= NAME_BYTES
}

#[cfg(test)]
mod tests;
