//! The kernel said EACCES or EPERM: permission bits, a prohibit route, or a policy.

use std::fmt::{self, Display as _};
use std::rc::Rc;

use bstr::ByteSlice;
use serde::{Serialize, Serializer};

use super::fix::quoted;
use super::{Fix, On, Page, route};
use crate::attribute::servers;
use crate::attribute::verdict::Cause;
use crate::event::{Confinement, PathWalk, RefusedAt};

/// Who said no.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Denied {
    /// The permission bits on the socket's path.
    FilePermissions {
        /// Where the walk of the path as nginx's user ended.
        #[serde(flatten, serialize_with = "refusal")]
        walk: Rc<PathWalk>,
        /// The program that listens there; empty when unknown.
        #[serde(skip)]
        server: String,
        /// Where php-fpm's pool is configured.
        #[serde(skip)]
        pool: Option<String>,
    },
    /// A route of type prohibit.
    ProhibitRoute {
        /// The address that it is for.
        to: std::net::IpAddr,
    },
    /// By elimination a policy; which one, only its presence tells.
    Policy {
        /// What else would have let it pass.
        #[serde(skip)]
        allowed: Allowed,
        /// The policies that answer so and confine the worker.
        suspects: Vec<Suspect>,
    },
}

/// What did not refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// The kernel refused a socket: neither a path nor a route had a say.
    NoSocket,
    /// The permission bits on the path.
    Bits,
    /// An abstract address, which has no bits.
    NoBits,
    /// The routing table.
    Route,
}

/// A policy that may have refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Suspect {
    /// A security module, by the worker's label.
    Module {
        /// `apparmor`, `selinux`, `smack`.
        module: String,
        /// The worker's label.
        label: String,
    },
    /// BPF programs of the worker's cgroup.
    CgroupPrograms {
        /// How many.
        attached: u32,
    },
    /// A seccomp filter.
    Seccomp,
}

impl Suspect {
    /// The module that labels a process so.
    pub(in crate::attribute) fn module(confinement: &Confinement) -> Self {
        Suspect::Module { module: confinement.module.clone(), label: confinement.label.clone() }
    }

    fn fix(&self, unix: bool) -> Fix {
        match self {
            Suspect::Module { module, label } if module == "apparmor" => {
                let profile = label.split(" (").next().unwrap_or_default();
                let named = quoted(format!("profile=\"{profile}\""));
                Fix::command(format!("journalctl -k | grep -e DENIED | grep -F -e {named}"))
                    .remark("allow it in that AppArmor profile")
            }
            Suspect::Module { module, .. } if module == "selinux" && !unix => {
                Fix::command("setsebool -P httpd_can_network_connect on; ausearch -m avc -ts recent")
            }
            Suspect::Module { .. } => Fix::command("ausearch -m avc -ts recent"),
            Suspect::CgroupPrograms { .. } => Fix::command("bpftool cgroup tree"),
            Suspect::Seccomp => {
                Fix::command("systemctl show -p SystemCallFilter -p RestrictAddressFamilies nginx")
            }
        }
    }
}

impl fmt::Display for Suspect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Suspect::Module { module, label } => {
                write!(f, "{} with nginx's label {label}", module_name(module))
            }
            Suspect::CgroupPrograms { attached } => {
                write!(f, "a BPF program of its cgroup ({attached} attached)")
            }
            Suspect::Seccomp => f.write_str("its seccomp filter"),
        }
    }
}

/// A security module as it writes itself.
pub(super) fn module_name(name: &str) -> &str {
    match name {
        "apparmor" => "AppArmor",
        "selinux" => "SELinux",
        "smack" => "Smack",
        other => other,
    }
}

impl Allowed {
    pub(super) fn sentence(self, there: &str) -> impl fmt::Display {
        fmt::from_fn(move |f| match self {
            Allowed::NoSocket => write!(f, "the kernel refused nginx a socket for {there}"),
            Allowed::Bits => {
                write!(f, "the permission bits let nginx connect to {there}, yet the kernel refused")
            }
            Allowed::NoBits => {
                write!(f, "the kernel refused the connect to {there}, which has no permission bits")
            }
            Allowed::Route => {
                write!(f, "the kernel refused the connect to {there}, and no route prohibits it")
            }
        })
    }
}

/// nginx's user of a walk, by name where that is known.
fn user(walk: &PathWalk) -> String {
    walk.user.clone().unwrap_or_else(|| format!("uid {}", walk.uid))
}

/// A name, else the number that it stands for.
fn or_number(name: Option<&String>, id: u32) -> String {
    name.map_or_else(|| id.to_string(), String::clone)
}

/// Permission bits as chmod(1) takes them.
fn octal(mode: u32) -> String {
    format!("{:04o}", mode & 0o7777)
}

/// `/run/app.sock (root:root 0660)`.
pub(super) struct WithMode<'a>(pub(super) &'a RefusedAt);

impl fmt::Display for WithMode<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RefusedAt { path, uid, gid, owner, group, mode, .. } = self.0;
        let (owner, group) = (or_number(owner.as_ref(), *uid), or_number(group.as_ref(), *gid));
        write!(f, "{path} ({owner}:{group} {})", octal(*mode))
    }
}

fn permission_fix(walk: &PathWalk, server: &[u8], pool: Option<&str>, lines: &mut Vec<Fix>) {
    let Some(at) = &walk.refused else { return };
    let (path, user) = (quoted(&at.path), user(walk));
    if at.search {
        // By number: the name is from the account table of nginx's root, where another user may have it.
        lines.push(Fix::command(format!("setfacl -m u:{}:x -- {path}", walk.uid)));
        lines.push(Fix::command(format!("namei -l -- {}", quoted(&walk.path))));
        return;
    }
    lines.push(Fix::advice(format!("{}: {}", servers::socket_mode(server, &user, pool), at.path)));
    lines.push(Fix::command(format!("ls -l -- {path}; id -- {}", quoted(&user))));
}

impl Page for Denied {
    fn cause(&self) -> Cause {
        match self {
            Denied::FilePermissions { .. } => Cause::FilePermissions,
            Denied::ProhibitRoute { .. } => Cause::Unreachable,
            Denied::Policy { .. } => Cause::SecurityPolicy,
        }
    }

    fn sentence(&self, on: &On<'_>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let there = on.target;
        match self {
            Denied::FilePermissions { walk, .. } => {
                let verb =
                    if walk.refused.as_ref().is_some_and(|at| at.search) { "enter" } else { "write to" };
                write!(f, "nginx's user {} may not {verb} ", user(walk))?;
                walk.refused.as_ref().map_or(Ok(()), |at| WithMode(at).fmt(f))
            }
            Denied::ProhibitRoute { .. } => {
                write!(f, "the routing table prohibits {there}: a route of type prohibit answers EACCES")
            }
            Denied::Policy { allowed, suspects } => {
                write!(f, "{}: ", allowed.sentence(there))?;
                for (number, suspect) in suspects.iter().enumerate() {
                    write!(f, "{}{suspect}", if number == 0 { "" } else { " or " })?;
                }
                f.write_str(" did")
            }
        }
    }

    fn fix(&self, on: &On<'_>, lines: &mut Vec<Fix>) {
        match self {
            Denied::FilePermissions { walk, server, pool } => {
                permission_fix(walk, server.as_bytes(), pool.as_deref(), lines);
            }
            Denied::ProhibitRoute { to } => lines.push(route(*to)),
            Denied::Policy { suspects, .. } => {
                let unix = on.upstream.as_ref().is_some_and(|upstream| upstream.unix);
                lines.extend(suspects.iter().map(|suspect| suspect.fix(unix)));
            }
        }
    }
}

/// `details` of a path walk: who may not do what, where.
fn refusal<S: Serializer>(walk: &Rc<PathWalk>, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Refusal<'a> {
        path: String,
        refused_at: Option<String>,
        access: Option<&'static str>,
        uid: u32,
        gid: u32,
        groups: &'a [u32],
        user: Option<&'a str>,
        owner: Option<String>,
        group: Option<String>,
        mode: Option<String>,
    }
    let at = walk.refused.as_ref();
    Refusal {
        path: walk.path.to_str_lossy().into_owned(),
        refused_at: at.map(|at| at.path.to_str_lossy().into_owned()),
        access: at.map(|at| if at.search { "search" } else { "write" }),
        uid: walk.uid,
        gid: walk.gid,
        groups: &walk.groups,
        user: walk.user.as_deref(),
        owner: at.map(|at| or_number(at.owner.as_ref(), at.uid)),
        group: at.map(|at| or_number(at.group.as_ref(), at.gid)),
        mode: at.map(|at| octal(at.mode)),
    }
    .serialize(serializer)
}
