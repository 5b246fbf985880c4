//! Which container a process is in, from its control group's path.

/// Container ids are shown as Docker does it, by their first digits.
const SHORT_ID: usize = 12;

/// The shortest run of hexadecimal digits that is taken for an id; runtimes use 64, some tools 32.
const MIN_ID: usize = 32;

/// The container that the control-group path of a process names: a short id (Docker, containerd, CRI-O, Podman,
/// Kubernetes) or a name (LXC, systemd-nspawn). `None` for a process of the host.
pub(super) fn from_cgroup(path: &str) -> Option<String> {
    // The innermost group counts: a container in a container is what its user knows.
    path.rsplit('/').find_map(|part| id(part).or_else(|| name(part))).or_else(|| below(path, "/lxc/"))
}

/// `docker-<64 hex>.scope`, `cri-containerd-<64 hex>.scope`, `<64 hex>`…
fn id(part: &str) -> Option<String> {
    let part = part.strip_suffix(".scope").unwrap_or(part);
    let id = part.rsplit(['-', ':']).next()?;
    let hexadecimal = id.len() >= MIN_ID && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    hexadecimal.then(|| id[..SHORT_ID].to_owned())
}

/// `machine-<name>.scope` of systemd-nspawn, `lxc.payload.<name>` of LXC 4.
fn name(part: &str) -> Option<String> {
    let machine = part.strip_prefix("machine-").and_then(|rest| rest.strip_suffix(".scope"));
    let name = machine.or_else(|| part.strip_prefix("lxc.payload."))?;
    (!name.is_empty()).then(|| name.to_owned())
}

/// The path's part right after `parent`.
fn below(path: &str, parent: &str) -> Option<String> {
    let (_, rest) = path.split_once(parent)?;
    rest.split('/').next().filter(|name| !name.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_runtimes_are_recognised() {
        let hex = "0123456789abcdef".repeat(4);
        let short = Some("0123456789ab".to_owned());
        assert_eq!(from_cgroup(&format!("/docker/{hex}")), short);
        assert_eq!(from_cgroup(&format!("/system.slice/docker-{hex}.scope")), short);
        assert_eq!(
            from_cgroup(&format!("/kubepods.slice/kubepods-pod1.slice/cri-containerd-{hex}.scope")),
            short
        );
        assert_eq!(from_cgroup(&format!("/kubepods/burstable/pod1/{hex}")), short);
        assert_eq!(from_cgroup(&format!("/machine.slice/libpod-{hex}.scope/container")), short);
        assert_eq!(from_cgroup("/lxc.payload.web/system.slice/nginx.service").as_deref(), Some("web"));
        assert_eq!(from_cgroup("/lxc/web/ns").as_deref(), Some("web"));
        assert_eq!(from_cgroup("/machine.slice/machine-web.scope/payload").as_deref(), Some("web"));
    }

    #[test]
    fn a_host_process_is_in_none() {
        assert_eq!(from_cgroup("/"), None);
        assert_eq!(from_cgroup(""), None);
        assert_eq!(from_cgroup("/system.slice/nginx.service"), None);
        assert_eq!(from_cgroup("/user.slice/user-1000.slice/session-2.scope"), None);
        assert_eq!(from_cgroup("/machine.slice/machine-.scope"), None);
    }
}
