//! The names that people use for a process, from `/proc/PID/cgroup`: systemd unit and container.

use bstr::ByteSlice as _;

use super::read;
use crate::event::{Pid, Runtime, is_container_id};

/// What a process's cgroup lines say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Membership {
    /// The innermost `*.service` or `*.scope`; in a container only one of its own, not the runtime's outside.
    pub(crate) unit: Option<String>,
    /// The innermost container: its whole id (Docker, containerd, CRI-O, Podman, Kubernetes), or its name where it has
    /// none (LXC, systemd-nspawn).
    pub(crate) container: Option<String>,
    /// Who made it, where its group's name says so.
    pub(crate) runtime: Option<Runtime>,
    /// The most telling path: systemd's own or the unified hierarchy's, else the deepest controller's.
    pub(crate) path: Option<String>,
    /// The path that limits memory: the v1 memory controller's, else the unified hierarchy's.
    pub(crate) memory: Option<MemoryGroup>,
}

/// The memory cgroup of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MemoryGroup {
    /// Path below the hierarchy's root.
    pub(crate) path: String,
    /// True for the v1 controller.
    pub(crate) v1: bool,
}

/// What `/proc/PID/cgroup` says; nothing when the process is gone.
pub(crate) fn of(pid: Pid) -> Membership {
    parse(&read(&format!("/proc/{pid}/cgroup")).unwrap_or_default())
}

/// Its path in the unified hierarchy.
pub(crate) fn unified(pid: Pid) -> Option<String> {
    let text = read(&format!("/proc/{pid}/cgroup")).ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix(b"0::"))?;
    Some(path.to_str_lossy().into_owned())
}

/// Reads lines of `hierarchy:controllers:path`.
fn parse(text: &[u8]) -> Membership {
    let mut found = Membership::default();
    let mut best = None;
    for line in text.lines() {
        let mut fields = line.splitn(3, |byte| *byte == b':');
        let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let path = path.strip_suffix(b" (deleted)").unwrap_or(path).to_str_lossy().into_owned();
        let memory_v1 = controllers.split(|byte| *byte == b',').any(|name| name == b"memory");
        if memory_v1 || (controllers.is_empty() && found.memory.is_none()) {
            found.memory = Some(MemoryGroup { path: path.clone(), v1: memory_v1 });
        }
        found.container = found.container.or_else(|| container(&path));
        found.runtime = found.runtime.or_else(|| runtime(&path));
        found.unit = found.unit.or_else(|| unit(&path));
        let rank = match controllers {
            _ if path == "/" => 0,
            b"name=systemd" => 3,
            b"" => 2,
            _ => 1,
        };
        if best.as_ref().is_none_or(|(known, _)| rank > *known) {
            best = Some((rank, path));
        }
    }
    found.path = best.map(|(_, path)| path);
    found
}

/// The innermost component that is a systemd service or scope, unless a container comes first.
fn unit(path: &str) -> Option<String> {
    let inside = path.rsplit('/').take_while(|component| container_of(component).is_none());
    let named = |component: &&str| {
        let name = component.strip_suffix(".service").or_else(|| component.strip_suffix(".scope"));
        name.is_some_and(|name| !name.is_empty())
    };
    inside.into_iter().find(named).map(str::to_owned)
}

/// The innermost component that names a container: one in another is what its user knows.
fn container(path: &str) -> Option<String> {
    let below_lxc = || path.split_once("/lxc/")?.1.split('/').next().filter(|name| !name.is_empty());
    path.rsplit('/').find_map(container_of).or_else(below_lxc).map(str::to_owned)
}

/// The container that one component names.
fn container_of(component: &str) -> Option<&str> {
    container_id(component).or_else(|| container_name(component))
}

/// Who names the innermost container's group so; a bare id is Docker's below its own group only, since the kubelet's
/// groups of that kind are any runtime's.
fn runtime(path: &str) -> Option<Runtime> {
    let mut components = path.rsplit('/').skip_while(|component| container_id(component).is_none());
    let component = components.next()?;
    let prefixed = |prefix: &str| component.starts_with(prefix);
    Some(match component {
        _ if prefixed("docker-") => Runtime::Docker,
        _ if prefixed("libpod-") => Runtime::Podman,
        _ if prefixed("cri-containerd-") || component.contains(":cri-containerd:") => Runtime::Containerd,
        _ if prefixed("crio-") => Runtime::Crio,
        _ if prefixed("nerdctl-") => Runtime::Nerdctl,
        _ if components.next() == Some("docker") => Runtime::Docker,
        _ => return None,
    })
}

/// The digits of an id behind a runtime's prefix. Desktops end their scopes of applications in 32 such digits.
const PREFIXED_ID: usize = 64;

/// The id in `docker-ID.scope`, `cri-containerd-ID.scope`, `crio-ID`, `libpod-ID.scope`, `…:cri-containerd:ID`
/// or a bare component, as dockerd with the cgroupfs driver and kubelet make them.
fn container_id(component: &str) -> Option<&str> {
    let name = component.strip_suffix(".scope").unwrap_or(component);
    let id = name.rsplit(['-', ':']).next()?;
    (is_container_id(id) && (id == component || id.len() == PREFIXED_ID)).then_some(id)
}

/// `machine-NAME.scope` of systemd-nspawn, `lxc.payload.NAME` of LXC 4.
fn container_name(component: &str) -> Option<&str> {
    let machine = component.strip_prefix("machine-").and_then(|rest| rest.strip_suffix(".scope"));
    machine.or_else(|| component.strip_prefix("lxc.payload.")).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "3f4a1b2c3d4e5f60718293a4b5c6d7e8f90123456789abcdef0123456789abcd";

    #[test]
    fn a_unified_line_names_the_unit() {
        let found = parse(b"0::/system.slice/php8.2-fpm.service\n");
        assert_eq!(found.unit.as_deref(), Some("php8.2-fpm.service"));
        assert_eq!(found.path.as_deref(), Some("/system.slice/php8.2-fpm.service"));
        let memory = MemoryGroup { path: "/system.slice/php8.2-fpm.service".into(), v1: false };
        assert_eq!((found.memory, found.container), (Some(memory), None));
    }

    #[test]
    fn systemd_names_the_unit_on_a_v1_host_and_memory_its_own_path() {
        let found = parse(b"5:cpu,memory:/tight\n1:name=systemd:/system.slice/app@1.service/worker\n0::/\n");
        assert_eq!(found.unit.as_deref(), Some("app@1.service"));
        assert_eq!(found.path.as_deref(), Some("/system.slice/app@1.service/worker"));
        assert_eq!(found.memory, Some(MemoryGroup { path: "/tight".into(), v1: true }));
    }

    #[test]
    fn containers_are_recognised_by_every_runtime() {
        let pod = "/kubepods.slice/kubepods-burstable.slice/kubepods-pod1.slice";
        for (path, runtime) in [
            (format!("/system.slice/docker-{ID}.scope"), Some(Runtime::Docker)),
            (format!("/docker/{ID}"), Some(Runtime::Docker)),
            (format!("{pod}/cri-containerd-{ID}.scope"), Some(Runtime::Containerd)),
            (format!("/kubepods/besteffort/pod0d2a/{ID}"), None),
            (format!("/machine.slice/libpod-{ID}.scope/container"), Some(Runtime::Podman)),
            (format!("/kubepods.slice/crio-{ID}.scope"), Some(Runtime::Crio)),
            (
                format!("/system.slice/containerd.service/kubepods-pod1.slice:cri-containerd:{ID}"),
                Some(Runtime::Containerd),
            ),
            (format!("/system.slice/nerdctl-{ID}.scope"), Some(Runtime::Nerdctl)),
        ] {
            let found = parse(format!("0::{path}\n").as_bytes());
            assert_eq!(found.container.as_deref(), Some(ID), "{path}");
            assert_eq!((found.unit, found.runtime), (None, runtime), "{path}");
        }
        let bare = parse(format!("0::/jobs/{}\n", &ID[..32]).as_bytes());
        assert_eq!(bare.container.as_deref(), Some(&ID[..32]), "some tools use half as many digits");
        let application = parse(format!("0::/app.slice/app-konsole-{}.scope\n", &ID[..32]).as_bytes());
        assert_eq!(application.container, None, "a desktop's scope");
        let within =
            parse(format!("0::/machine.slice/libpod-{ID}.scope/system.slice/app.service\n").as_bytes());
        assert_eq!((within.unit.as_deref(), within.container.as_deref()), (Some("app.service"), Some(ID)));
    }

    #[test]
    fn a_container_without_an_id_has_a_name() {
        for (path, name, unit) in [
            ("/lxc.payload.web/system.slice/nginx.service", Some("web"), Some("nginx.service")),
            ("/lxc/web/ns", Some("web"), None),
            ("/machine.slice/machine-web.scope/payload", Some("web"), None),
            ("/machine.slice/machine-.scope", None, Some("machine-.scope")),
            ("/user.slice/user-1000.slice/session-2.scope", None, Some("session-2.scope")),
            ("/", None, None),
        ] {
            let found = parse(format!("0::{path}\n").as_bytes());
            assert_eq!((found.container.as_deref(), found.unit.as_deref()), (name, unit), "{path}");
        }
    }

    #[test]
    fn hostile_lines_yield_nothing() {
        assert_eq!(parse(b""), Membership::default());
        assert_eq!(parse(b"\xff\xfe\n::\n:\n").unit, None);
        assert_eq!(parse(b"0::/.service\n").unit, None);
        assert_eq!(parse(b"0::/docker-zz.scope\n").container, None);
    }
}
