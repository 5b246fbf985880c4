//! The kernel said EACCES or EPERM.

use bstr::ByteSlice;

use super::quoted;
use crate::event::{Confinement, Guards, PathWalk, RefusedAt};

/// A policy that may have refused.
pub(in crate::attribute) enum Suspect<'a> {
    /// A security module by the worker's label.
    Module(&'a Confinement),
    /// BPF programs of the worker's cgroup.
    CgroupPrograms(u32),
    /// A seccomp filter.
    Seccomp,
}

/// What the permission bits refuse.
pub(in crate::attribute) fn refusal(walk: &PathWalk, at: &RefusedAt) -> String {
    let verb = if at.search { "enter" } else { "write to" };
    format!("nginx's user {} may not {verb} {}", user(walk), guarded_by(at))
}

fn user(walk: &PathWalk) -> String {
    walk.user.clone().unwrap_or_else(|| format!("uid {}", walk.uid))
}

/// `/run/app.sock (root:root 0660)`.
fn guarded_by(at: &RefusedAt) -> String {
    let owner = at.owner.clone().unwrap_or_else(|| at.uid.to_string());
    let group = at.group.clone().unwrap_or_else(|| at.gid.to_string());
    format!("{} ({owner}:{group} {:04o})", at.path.to_str_lossy(), at.mode & 0o7777)
}

/// The walk, as evidence: who was asked for, and what refused.
pub(in crate::attribute) fn walked(walk: &PathWalk) -> String {
    let groups: Vec<_> = walk.groups.iter().map(u32::to_string).collect();
    let groups = if groups.is_empty() { "none".to_owned() } else { groups.join(",") };
    let who = format!("uid {}, gid {}, groups {groups}", walk.uid, walk.gid);
    let path = walk.path.to_str_lossy();
    match &walk.refused {
        Some(at) => format!("a walk of {path} with nginx's {who} ends at {}", guarded_by(at)),
        None => format!("a walk of {path} with nginx's {who} meets no refusal"),
    }
}

/// How to let the worker through, by the program that made the socket.
pub(in crate::attribute) fn permission_fix(
    (comm, pool): (&[u8], Option<String>),
    walk: &PathWalk,
    at: &RefusedAt,
) -> Vec<String> {
    let (path, user) = (quoted(&at.path.to_str_lossy()), user(walk));
    if at.search {
        let id = walk.user.clone().unwrap_or_else(|| walk.uid.to_string());
        return vec![
            format!("setfacl -m u:{}:x {path}", quoted(&id)),
            format!("namei -l {}", quoted(&walk.path.to_str_lossy())),
        ];
    }
    let pool = pool.unwrap_or("its pool".into());
    let setting = if comm.starts_with(b"php-fpm") {
        format!("set listen.group to a group of {user} and listen.mode = 0660 in {pool}")
    } else if comm.starts_with(b"gunicorn") {
        format!("gunicorn --umask 007, with Group= a group of {user} in its unit")
    } else if comm.starts_with(b"uwsgi") {
        format!("uwsgi --chmod-socket=660 --chown-socket=OWNER:GROUP, a group of {user}")
    } else {
        format!("have the server make its socket with mode 0660 and a group of {user}")
    };
    vec![format!("{setting}: {path}"), format!("ls -l {path}; id {}", quoted(&user))]
}

pub(in crate::attribute) fn not_walked(there: &str) -> String {
    format!(
        "connecting to {there} was denied; the path could not be walked as nginx's user, so bits and policy cannot be told \
         apart"
    )
}

pub(in crate::attribute) fn no_socket(there: &str) -> String {
    format!("the kernel refused nginx a socket for {there}")
}

pub(in crate::attribute) fn bits_allow(there: &str) -> String {
    format!("the permission bits let nginx connect to {there}, yet the kernel refused")
}

pub(in crate::attribute) fn no_bits(there: &str) -> String {
    format!("the kernel refused the connect to {there}, which no permission bits guard")
}

pub(in crate::attribute) fn route_open(there: &str) -> String {
    format!("the kernel refused the connect to {there}, and no route prohibits it")
}

pub(in crate::attribute) fn route_not_asked(there: &str) -> String {
    format!(
        "the kernel refused the connect to {there}; the route was not looked up, so a prohibit route and a policy cannot be \
         told apart"
    )
}

pub(in crate::attribute) fn prohibit_route(there: &str) -> String {
    format!("the routing table prohibits {there}: a route of type prohibit answers EACCES")
}

pub(in crate::attribute) fn guards_not_asked(why: &str) -> String {
    format!("{why}; which policies the worker runs under was not looked up")
}

pub(in crate::attribute) fn nobody_to_suspect(why: &str, guards: &Guards) -> String {
    let unseen = match guards.modules.as_deref() {
        Some(modules) => {
            format!(" (active modules: {modules}; Landlock and BPF cannot be seen from outside)")
        }
        None => String::new(),
    };
    format!("{why}; no policy that answers so is known to guard the worker{unseen}")
}

pub(in crate::attribute) fn policy(why: &str, suspects: &[Suspect<'_>]) -> String {
    let names: Vec<_> = suspects.iter().map(suspected).collect();
    format!("{why}: {} did (inferred: nothing else that answers so guards the worker)", names.join(" or "))
}

fn suspected(suspect: &Suspect<'_>) -> String {
    match suspect {
        Suspect::Module(one) => format!("{} with nginx's label {}", module(&one.module), one.label),
        Suspect::CgroupPrograms(count) => format!("a BPF program of its cgroup ({count} attached)"),
        Suspect::Seccomp => "its seccomp filter".to_owned(),
    }
}

fn module(name: &str) -> &str {
    match name {
        "apparmor" => "AppArmor",
        "selinux" => "SELinux",
        "smack" => "Smack",
        other => other,
    }
}

/// What guards the worker, as evidence.
pub(in crate::attribute) fn guarded(guards: &Guards) -> String {
    let confinement = guards.confinement.as_ref().map(|one| {
        let mode = match one.enforced {
            Some(true) => ", enforced",
            Some(false) => ", not enforced",
            None => "",
        };
        format!("{} label {}{mode}", module(&one.module), one.label)
    });
    let seccomp =
        guards.seccomp.map(|on| if on { "a seccomp filter" } else { "no seccomp filter" }.to_owned());
    let programs = guards.cgroup_programs.map(|count| match count {
        0 => "no BPF program on connects of its cgroup".to_owned(),
        count => format!("{count} BPF programs on connects of its cgroup"),
    });
    let known: Vec<_> = [Some(confinement.unwrap_or("no security label".into())), seccomp, programs]
        .into_iter()
        .flatten()
        .collect();
    format!("nginx's worker {} runs with {}", guards.worker, known.join(", "))
}

pub(in crate::attribute) fn policy_fix(suspect: &Suspect<'_>, unix: bool) -> String {
    match suspect {
        Suspect::Module(one) if one.module == "apparmor" => {
            let profile = one.label.split(" (").next().unwrap_or_default();
            let named = quoted(&format!("profile=\"{profile}\""));
            format!("journalctl -k | grep -e DENIED | grep -F {named}; allow it in that AppArmor profile")
        }
        Suspect::Module(one) if one.module == "selinux" && !unix => {
            "setsebool -P httpd_can_network_connect on; ausearch -m avc -ts recent".into()
        }
        Suspect::Module(_) => "ausearch -m avc -ts recent".into(),
        Suspect::CgroupPrograms(_) => "bpftool cgroup tree".into(),
        Suspect::Seccomp => "systemctl show -p SystemCallFilter -p RestrictAddressFamilies nginx".into(),
    }
}
