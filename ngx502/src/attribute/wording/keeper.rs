//! Who restarts a process, has its words, and gives it memory: systemd, a container's runtime, Kubernetes. In a command,
//! names are quoted, since they are hostile.

use std::rc::Rc;

use bstr::ByteSlice;

use super::quoted;
use crate::attribute::text::{Text, text};
use crate::attribute::verdict::ProcessFacts;
use crate::event::{ContainerNames, PodName, Runtime};

/// What keeps a process: whoever restarts it, and has its words.
enum Keeper<'a> {
    /// A systemd service; a user's own, where it is one.
    Service(&'a Rc<str>, Option<u32>),
    /// A unit that systemd did not start, and cannot start again: a session's or `init.scope`.
    Scope(&'a Rc<str>),
    /// A container of this id; a unit that is known as well is one inside.
    Container(&'a str, ContainerNames),
    Nobody,
}

fn keeper(who: &ProcessFacts) -> Keeper<'_> {
    match (&who.container, &who.unit) {
        (Some(id), _) => Keeper::Container(id, who.container_names.clone().unwrap_or_default()),
        (None, Some(unit)) if is_service(unit) => Keeper::Service(unit, who.unit_of_user),
        (None, Some(unit)) => Keeper::Scope(unit),
        (None, None) => Keeper::Nobody,
    }
}

/// Whether a unit is one that systemctl restarts.
fn is_service(unit: &str) -> bool {
    unit.ends_with(".service")
}

/// A unit as a word of a command: its name comes from a control group's, and those can be anybody's.
fn unit_word(unit: &Rc<str>) -> Text {
    match quoted(unit) {
        plain if *plain == **unit => text![unit],
        quoted => quoted.into(),
    }
}

/// `systemctl` as it reaches the manager of a unit. A user's listens in that user's directory of run-time files only.
fn systemctl(user: Option<u32>) -> Text {
    match user {
        Some(uid) => format!("sudo -u '#{uid}' XDG_RUNTIME_DIR=/run/user/{uid} systemctl --user").into(),
        None => "systemctl".into(),
    }
}

/// How to restart a process that is gone, and where its own words are.
pub(in crate::attribute) fn restart(who: &ProcessFacts) -> Vec<Text> {
    let again = match keeper(who) {
        Keeper::Service(unit, user) => Some(text![&systemctl(user), " restart ", &unit_word(unit)]),
        Keeper::Scope(unit) => {
            let comm = who.comm.to_str_lossy().into_owned();
            Some(text![
                "start ",
                comm,
                " again as it was started: ",
                unit,
                " is no service that systemctl restarts"
            ])
        }
        Keeper::Container(id, names) => {
            command_line(id, &names).map(|(program, name)| text![program, " restart ", name])
        }
        Keeper::Nobody => None,
    };
    journal(who).into_iter().chain(again).collect()
}

/// Where a process's own words are.
pub(in crate::attribute) fn journal(who: &ProcessFacts) -> Option<Text> {
    match keeper(who) {
        Keeper::Service(unit, None) => Some(text!["journalctl -u ", &unit_word(unit), " -n 50"]),
        Keeper::Service(unit, Some(uid)) => {
            let user = format!("journalctl _UID={uid} _SYSTEMD_USER_UNIT=");
            Some(text![user, &unit_word(unit), " -n 50"])
        }
        Keeper::Scope(_) => Some(format!("journalctl _PID={} -n 50", who.pid).into()),
        Keeper::Container(id, names) => match &names.pod {
            Some(pod) => Some(pod_logs(pod, names.name.as_deref()).into()),
            None => logs(id, &names),
        },
        Keeper::Nobody => None,
    }
}

/// How to give a process more memory.
pub(in crate::attribute) fn more_memory(who: &ProcessFacts) -> Text {
    match keeper(who) {
        Keeper::Service(unit, user) => {
            text![&systemctl(user), " set-property ", &unit_word(unit), " MemoryMax=… (or use less memory)"]
        }
        Keeper::Container(_, ContainerNames { name, pod: Some(pod), .. }) => {
            let container = name.map_or(String::new(), |name| format!("container {name} of "));
            text!["raise resources.limits.memory of ", container, "pod ", pod.namespace, "/", pod.name]
        }
        Keeper::Container(id, names @ ContainerNames { runtime: Some(Runtime::Docker), .. }) => {
            let name = quoted(names.name.as_deref().unwrap_or(id));
            text!["docker update --memory … ", name, " (or use less memory)"]
        }
        _ => "raise the cgroup's or container's memory limit, or run fewer workers".into(),
    }
}

/// The program that a person manages such a container with, and the container's name there; none for one of a pod,
/// which the kubelet starts again, nor where nobody knows who made it.
fn command_line(id: &str, names: &ContainerNames) -> Option<(&'static str, String)> {
    let program = match names.runtime? {
        Runtime::Docker => "docker",
        Runtime::Podman => "podman",
        Runtime::Nerdctl => "nerdctl",
        Runtime::Containerd | Runtime::Crio => return None,
    };
    names.pod.is_none().then(|| (program, quoted(names.name.as_deref().unwrap_or(id))))
}

fn logs(id: &str, names: &ContainerNames) -> Option<Text> {
    let (program, name) = match names.runtime? {
        Runtime::Containerd | Runtime::Crio => ("crictl", quoted(id)),
        _ => command_line(id, names)?,
    };
    Some(text![program, " logs --tail 50 ", name])
}

fn pod_logs(pod: &PodName, container: Option<&str>) -> String {
    let container = container.map_or(String::new(), |name| format!(" -c {}", quoted(name)));
    format!("kubectl -n {} logs {}{container} --tail 50", quoted(&pod.namespace), quoted(&pod.name))
}

#[cfg(test)]
mod tests {
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
            restart(&who).iter().map(Text::to_string).collect::<Vec<_>>()
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
            assert!(found.len() == 2 && !found[1].starts_with("systemctl"), "{found:?}");
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
        let lines: Vec<_> = restart(&who).iter().map(Text::to_string).collect();
        let journal = "journalctl _UID=1000 _SYSTEMD_USER_UNIT=app.service -n 50";
        assert_eq!(lines, [journal.to_owned(), format!("{systemctl} restart app.service")]);
        assert!(more_memory(&who).starts_with(&format!("{systemctl} set-property app.service")));
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
            let memory = more_memory(&who).to_string();
            (restart(&who).iter().map(Text::to_string).collect::<Vec<_>>(), memory)
        };
        let (docker, memory) = lines(Some(Runtime::Docker), Some("web"), None);
        assert_eq!(docker, ["docker logs --tail 50 web", "docker restart web"]);
        assert_eq!(memory, "docker update --memory … web (or use less memory)");
        let (podman, _) = lines(Some(Runtime::Podman), Some("a b;c"), None);
        assert_eq!(podman, ["podman logs --tail 50 'a b;c'", "podman restart 'a b;c'"]);
        let pod = Some(("shop", "web-7d9f"));
        let (kubernetes, memory) = lines(Some(Runtime::Containerd), Some("php"), pod);
        assert_eq!(kubernetes, ["kubectl -n shop logs web-7d9f -c php --tail 50"]);
        assert_eq!(memory, "raise resources.limits.memory of container php of pod shop/web-7d9f");
        assert_eq!(lines(Some(Runtime::Docker), Some("php"), pod).0, kubernetes);
        assert_eq!(lines(Some(Runtime::Crio), None, None).0, ["crictl logs --tail 50 0123456789abcdef"]);
        assert_eq!(lines(None, None, None).0, [""; 0]);
    }
}
