//! Who starts a process again, has its log, and gives it memory: systemd, a container's runtime, Kubernetes. In a command,
//! names are quoted, since they are hostile.

use std::borrow::Cow;

use super::Fix;
use super::fix::{operand, quoted};
use crate::attribute::verdict::ProcessFacts;
use crate::event::{ContainerNames, PodName, Runtime};

/// What manages a process.
pub(super) enum ServiceManager<'a> {
    /// systemd, as a service; a user's own, where it is one.
    Service { unit: &'a str, user: Option<u32> },
    /// A unit that systemd did not start, and cannot start again: a session's or `init.scope`.
    Scope { unit: &'a str, who: &'a ProcessFacts },
    /// A container of this id; a unit that is known as well is one inside.
    Container { id: &'a str, names: Option<&'a ContainerNames> },
    /// systemd itself, which listens for the services of its `.socket` units.
    Sockets,
    /// Nothing that is known.
    Unknown,
}

impl<'a> ServiceManager<'a> {
    /// The manager of a process, by what is known of it.
    pub(super) fn of(who: &'a ProcessFacts) -> Self {
        match (&who.container, &who.unit) {
            // It holds the sockets of other units.
            (None, _) if who.pid.0 == 1 && who.comm == "systemd" => Self::Sockets,
            (Some(id), _) => Self::Container { id, names: who.container_names.as_ref() },
            (None, Some(unit)) if unit.ends_with(".service") => {
                Self::Service { unit, user: who.unit_of_user }
            }
            (None, Some(unit)) => Self::Scope { unit, who },
            (None, None) => Self::Unknown,
        }
    }

    /// How to restart a process that is gone, and where its own log is.
    pub(super) fn restart(&self) -> impl Iterator<Item = Fix> {
        let again = match self {
            Self::Service { unit, user } => {
                Some(Fix::command([&*systemctl(*user), " restart ", &operand(unit)].concat()))
            }
            Self::Scope { unit, who } => {
                let comm = &who.comm;
                Some(Fix::advice(format!(
                    "start {comm} again as it was started: {unit} is a scope, which systemctl cannot restart"
                )))
            }
            Self::Container { id, names } => {
                let line = command_line(id, *names);
                line.map(|(program, name)| Fix::command(format!("{program} restart {name}")))
            }
            Self::Sockets => Some(
                Fix::command("systemctl list-sockets --all")
                    .remark("the .socket unit that owns it; systemctl restart THAT.socket"),
            ),
            Self::Unknown => None,
        };
        self.log().into_iter().chain(again)
    }

    /// Where a process's own log is.
    pub(super) fn log(&self) -> Option<Fix> {
        let line = match self {
            Self::Service { unit, user: None } => Some(["journalctl -u ", &quoted(unit), " -n 50"].concat()),
            Self::Service { unit, user: Some(uid) } => {
                Some(format!("journalctl _UID={uid} _SYSTEMD_USER_UNIT={} -n 50", quoted(unit)))
            }
            Self::Scope { who, .. } => Some(format!("journalctl _PID={} -n 50", who.pid)),
            Self::Container { id, names } => match names.and_then(|names| names.pod.as_ref()) {
                Some(pod) => Some(pod_logs(pod, names.and_then(|names| names.name.as_deref()))),
                None => logs(id, *names),
            },
            Self::Sockets | Self::Unknown => None,
        };
        line.map(Fix::command)
    }

    /// How to let a frozen process run again.
    pub(super) fn thaw(&self) -> Fix {
        match self {
            Self::Container { id, names } => match command_line(id, *names) {
                Some((program, name)) => Fix::command(format!("{program} unpause {name}")),
                None => Fix::advice("thaw its control group: echo 0 > …/cgroup.freeze"),
            },
            Self::Service { unit, user } => {
                Fix::command(format!("{} thaw {}", systemctl(*user), operand(unit)))
            }
            _ => Fix::advice(
                "thaw its control group: echo 0 > …/cgroup.freeze (v1: echo THAWED > …/freezer.state)",
            ),
        }
    }

    /// How to give a process more CPU time.
    pub(super) fn more_cpu(&self) -> Fix {
        match self {
            Self::Service { unit, user } => {
                Fix::command(format!("{} set-property {} CPUQuota=…%", systemctl(*user), operand(unit)))
            }
            Self::Container { names: Some(ContainerNames { name, pod: Some(pod), .. }), .. } => {
                Fix::advice(format!("raise resources.limits.cpu of {}", in_pod(name.as_deref(), pod)))
            }
            Self::Container {
                id,
                names: Some(ContainerNames { runtime: Some(Runtime::Docker), name, .. }),
            } => Fix::command(format!("docker update --cpus … {}", operand(name.as_deref().unwrap_or(id)))),
            _ => Fix::advice("raise the CPU quota of its cgroup or container"),
        }
    }

    /// How to give a process more memory.
    pub(super) fn more_memory(&self) -> Fix {
        match self {
            Self::Service { unit, user } => {
                let systemctl = systemctl(*user);
                Fix::command(format!("{systemctl} set-property {} MemoryMax=…", operand(unit)))
                    .remark("or use less memory")
            }
            Self::Container { names: Some(ContainerNames { name, pod: Some(pod), .. }), .. } => {
                Fix::advice(format!("raise resources.limits.memory of {}", in_pod(name.as_deref(), pod)))
            }
            Self::Container {
                id,
                names: Some(ContainerNames { runtime: Some(Runtime::Docker), name, .. }),
            } => {
                let name = operand(name.as_deref().unwrap_or(id));
                Fix::command(format!("docker update --memory … {name}")).remark("or use less memory")
            }
            _ => Fix::advice("raise the memory limit of its cgroup or container, or run fewer workers"),
        }
    }
}

/// A pod, and which of its containers where that is known.
fn in_pod(container: Option<&str>, pod: &PodName) -> String {
    let container = container.map_or(String::new(), |name| format!("container {name} of "));
    format!("{container}pod {}/{}", pod.namespace, pod.name)
}

/// `systemctl` as it reaches the manager of a unit. A user's listens in that user's directory of run-time files only.
fn systemctl(user: Option<u32>) -> Cow<'static, str> {
    match user {
        Some(uid) => format!("sudo -u '#{uid}' XDG_RUNTIME_DIR=/run/user/{uid} systemctl --user").into(),
        None => "systemctl".into(),
    }
}

/// The program that a person manages such a container with, and the container's name there; none for one of a pod,
/// which the kubelet starts again, nor where it is not known who made it.
fn command_line(id: &str, names: Option<&ContainerNames>) -> Option<(&'static str, String)> {
    let names = names?;
    let program = match names.runtime? {
        Runtime::Docker => "docker",
        Runtime::Podman => "podman",
        Runtime::Nerdctl => "nerdctl",
        Runtime::Containerd | Runtime::Crio => return None,
    };
    names.pod.is_none().then(|| (program, operand(names.name.as_deref().unwrap_or(id))))
}

fn logs(id: &str, names: Option<&ContainerNames>) -> Option<String> {
    let (program, name) = match names?.runtime? {
        Runtime::Containerd | Runtime::Crio => ("crictl", quoted(id)),
        _ => command_line(id, names)?,
    };
    Some(format!("{program} logs --tail 50 {name}"))
}

fn pod_logs(pod: &PodName, container: Option<&str>) -> String {
    let container = container.map_or(String::new(), |name| format!(" -c {}", quoted(name)));
    format!("kubectl -n {} logs{container} --tail 50 {}", quoted(&pod.namespace), operand(&pod.name))
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    #[test]
    fn only_a_service_is_restarted_by_systemctl() {
        let names = ContainerNames { runtime: Some(Runtime::Docker), ..ContainerNames::default() };
        let lines = |unit: Option<&str>, container: Option<&str>| {
            let who = ProcessFacts {
                pid: crate::event::Pid(812),
                comm: "app".into(),
                unit: unit.map(Rc::from),
                unit_of_user: None,
                container: container.map(str::to_owned),
                container_names: container.map(|_| names.clone()),
                pool: None,
            };
            ServiceManager::of(&who).restart().map(|line| line.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(
            lines(Some("app.service"), None),
            ["journalctl -u app.service -n 50", "systemctl restart app.service"]
        );
        let hostile = lines(Some("a;reboot.service"), None);
        assert_eq!(hostile[1], "systemctl restart 'a;reboot.service'");
        for scope in ["init.scope", "session-3.scope"] {
            let found = lines(Some(scope), None);
            assert_eq!(found[0], "journalctl _PID=812 -n 50");
            assert!(found.len() == 2 && found[1].starts_with("# "), "{found:?}");
        }
        let inside = lines(Some("app.service"), Some("0123456789abcdef"));
        assert_eq!(inside, ["docker logs --tail 50 0123456789abcdef", "docker restart 0123456789abcdef"]);
        assert_eq!(lines(None, None), [""; 0]);
    }

    #[test]
    fn a_users_own_service_is_reached_through_that_users_manager() {
        let who = ProcessFacts {
            unit: Some("app.service".into()),
            unit_of_user: Some(1000),
            ..ProcessFacts::default()
        };
        let systemctl = "sudo -u '#1000' XDG_RUNTIME_DIR=/run/user/1000 systemctl --user";
        let lines: Vec<_> = ServiceManager::of(&who).restart().map(|line| line.to_string()).collect();
        let journal = "journalctl _UID=1000 _SYSTEMD_USER_UNIT=app.service -n 50";
        assert_eq!(lines, [journal.to_owned(), format!("{systemctl} restart app.service")]);
        assert!(
            ServiceManager::of(&who)
                .more_memory()
                .to_string()
                .starts_with(&format!("{systemctl} set-property app.service"))
        );
    }

    #[test]
    fn a_container_is_managed_by_who_made_it() {
        let lines = |runtime, name: Option<&str>, pod: Option<(&str, &str)>| {
            let pod = pod.map(|(namespace, name)| PodName { namespace: namespace.into(), name: name.into() });
            let who = ProcessFacts {
                container: Some("0123456789abcdef".into()),
                container_names: Some(ContainerNames { runtime, name: name.map(str::to_owned), pod }),
                ..ProcessFacts::default()
            };
            let manager = ServiceManager::of(&who);
            let again = manager.restart().map(|line| line.to_string());
            (again.collect::<Vec<_>>(), manager.more_memory().to_string())
        };
        let (docker, memory) = lines(Some(Runtime::Docker), Some("web"), None);
        assert_eq!(docker, ["docker logs --tail 50 web", "docker restart web"]);
        assert_eq!(memory, "docker update --memory … web  # or use less memory");
        let (podman, _) = lines(Some(Runtime::Podman), Some("a b;c"), None);
        assert_eq!(podman, ["podman logs --tail 50 'a b;c'", "podman restart 'a b;c'"]);
        let pod = Some(("shop", "web-7d9f"));
        let (kubernetes, memory) = lines(Some(Runtime::Containerd), Some("php"), pod);
        assert_eq!(kubernetes, ["kubectl -n shop logs -c php --tail 50 web-7d9f"]);
        assert_eq!(memory, "# raise resources.limits.memory of container php of pod shop/web-7d9f");
        assert_eq!(lines(Some(Runtime::Docker), Some("php"), pod).0, kubernetes);
        assert_eq!(lines(Some(Runtime::Crio), None, None).0, ["crictl logs --tail 50 0123456789abcdef"]);
        assert_eq!(lines(None, None, None).0, [""; 0]);
    }
}
