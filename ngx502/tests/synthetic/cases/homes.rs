//! Where a process runs: that decides how it is restarted, where its log is, and how it gets more memory.

use ngx502::event::*;

use super::Case;
use super::death::fallen_as;
use crate::synthetic::scene::Scene;

/// A process of which this is known is killed for memory.
fn in_home(s: &mut Scene, home: impl FnOnce(&mut ProcessInfo)) {
    s.feed(s.known(s.app(), home));
    let (limit_cgroup, limit_bytes) = (Some("app".into()), Some(512 << 20));
    let oom = Oom { victim: s.app(), memcg: Some(true), limit_cgroup, limit_bytes, ..Oom::default() };
    fallen_as(s, vec![Body::Oom(oom), s.exit(s.app(), 9)]);
}

/// The same in a container.
fn contained(s: &mut Scene, runtime: Option<Runtime>, name: Option<&str>, pod: Option<&str>) {
    let pod = pod.map(|name| PodName { namespace: "shop".into(), name: name.into() });
    in_home(s, |info| {
        info.unit = None;
        info.container = Some("3f4a1b2c3d4e5f60".repeat(4));
        info.container_names = Some(ContainerNames { runtime, name: name.map(str::to_owned), pod });
    });
}

pub(super) const CASES: &[Case] = &[
    ("no unit and no container", |s| in_home(s, |info| (info.unit, info.command) = (None, "".into()))),
    ("a unit that systemctl does not restart", |s| {
        in_home(s, |info| info.unit = Some("session-3.scope".into()))
    }),
    ("a user's own service", |s| {
        in_home(s, |info| {
            info.unit = Some("app.service".into());
            info.cgroup = Some("/user.slice/user-1000.slice/user@1000.service/app.slice/app.service".into());
        });
    }),
    ("a unit with a hostile name", |s| in_home(s, |info| info.unit = Some("a;reboot.service".into()))),
    ("a container of docker", |s| contained(s, Some(Runtime::Docker), Some("web"), None)),
    ("a container of docker without a name", |s| contained(s, Some(Runtime::Docker), None, None)),
    ("a container of podman with a hostile name", |s| {
        contained(s, Some(Runtime::Podman), Some("a b;c"), None)
    }),
    ("a container of nerdctl", |s| contained(s, Some(Runtime::Nerdctl), Some("web"), None)),
    ("a container of CRI-O without a name", |s| contained(s, Some(Runtime::Crio), None, None)),
    ("a container of a pod", |s| contained(s, Some(Runtime::Containerd), Some("php"), Some("web-7d9f"))),
    ("a container of a pod, itself without a name", |s| {
        contained(s, Some(Runtime::Containerd), None, Some("web-7d9f"));
    }),
    ("a container of an unknown runtime", |s| contained(s, None, None, None)),
];
