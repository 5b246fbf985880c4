//! EACCES and EPERM: bits, a prohibit route, or a policy; each only with the look-up that tells it.

use super::*;

const REMOTE: &str = "192.0.2.1:80";
const EPERM: i32 = 1;
const EACCES: i32 = 13;

fn walk(refused: Option<RefusedAt>) -> Body {
    Body::PathWalk(Box::new(PathWalk {
        worker: WORKER,
        path: "/run/app.sock".into(),
        uid: 33,
        gid: 33,
        groups: vec![],
        user: Some("www-data".into()),
        refused,
        missing: None,
    }))
}

#[test]
fn permission_bits_or_policy() {
    let denied = || said(SOCK, "connect() to %V failed", 13, CONNECTING);
    let at = RefusedAt {
        path: "/run/app.sock".into(),
        uid: 0,
        gid: 0,
        owner: Some("root".into()),
        group: Some("root".into()),
        mode: 0o660,
        search: false,
    };
    let bits = Trace::new().feed(walk(Some(at))).attempt(denied()).page(502).verdict();
    is(&bits, Symptom::SocketDenied, Cause::FilePermissions, Certainty::Proven);
    assert_eq!(summary(&bits), "nginx's user www-data may not write to /run/app.sock (root:root 0660)");
    let confined = guards(Some(("apparmor", "nginx (enforce)", Some(true))));
    let policy = Trace::new().feed(walk(None)).feed(confined).attempt(denied()).page(502).verdict();
    is(&policy, Symptom::SocketDenied, Cause::SecurityPolicy, Certainty::Inferred);
    says(&policy, "AppArmor with nginx's label nginx (enforce)");
    let nobody = Trace::new().feed(walk(None)).feed(guards(None)).attempt(denied()).page(502).verdict();
    is(&nobody, Symptom::SocketDenied, Cause::Unknown, Certainty::Unknown);
    let unwalked = Trace::new().attempt(denied()).page(502).verdict();
    is(&unwalked, Symptom::SocketDenied, Cause::Unknown, Certainty::Unknown);
}

fn guards(label: Option<(&str, &str, Option<bool>)>) -> Body {
    let confinement = label.map(|(module, label, enforced)| Confinement {
        module: module.into(),
        label: label.into(),
        enforced,
    });
    Body::Guards(Box::new(Guards {
        worker: WORKER,
        modules: Some("capability,landlock,apparmor".into()),
        confinement,
        seccomp: Some(false),
        cgroup_programs: Some(0),
    }))
}

fn route(errno: Option<i32>) -> Body {
    let to = REMOTE.parse::<std::net::SocketAddr>().expect("an address").ip();
    Body::Route(RouteLookup { worker: WORKER, to, netns: 1, errno })
}

/// A TCP connect that failed with `errno`, after these look-ups.
fn denied_after(errno: i32, lookups: Vec<Body>) -> Verdict {
    let trace = lookups.into_iter().fold(Trace::new(), Trace::feed);
    trace.attempt(said(REMOTE, "connect() to %V failed", errno, CONNECTING)).page(502).verdict()
}

#[test]
fn a_prohibit_route_is_no_policy() {
    let found = denied_after(EACCES, vec![route(Some(EACCES)), guards(None)]);
    is(&found, Symptom::ConnectDenied, Cause::Unreachable, Certainty::Proven);
    says(&found, "a route of type prohibit");
    assert!(!observed(&found, "route").is_empty(), "{:?}", facts(&found));
    assert_eq!(fixes(&found), ["ip route get 192.0.2.1"]);
}

#[test]
fn a_socket_that_never_got_addresses_does_not_hide_the_peers() {
    let bare = Socket { state: 7, established_at: None, sent_at: None, requests: 0, ..socket("0.0.0.0:0") };
    let denied = said(REMOTE, "connect() to %V failed", EACCES, CONNECTING);
    let denied = Attempt { socket: Some(Box::new(bare)), ..denied };
    let found = Trace::new().feed(route(Some(EACCES))).attempt(denied).page(502).verdict();
    is(&found, Symptom::ConnectDenied, Cause::Unreachable, Certainty::Proven);
    assert!(facts(&found).iter().all(|(_, text)| !text.contains("0.0.0.0")), "{:?}", facts(&found));
}

#[test]
fn without_a_look_up_nobody_is_accused() {
    for lookups in [vec![], vec![route(None)], vec![guards(Some(("selinux", "s:r:httpd_t:s0", Some(true))))]]
    {
        let found = denied_after(EACCES, lookups);
        is(&found, Symptom::ConnectDenied, Cause::Unknown, Certainty::Unknown);
    }
}

#[test]
fn an_open_route_leaves_the_policy_that_guards_the_worker() {
    let label = "system_u:system_r:httpd_t:s0";
    let found = denied_after(EACCES, vec![route(None), guards(Some(("selinux", label, Some(true))))]);
    is(&found, Symptom::ConnectDenied, Cause::SecurityPolicy, Certainty::Inferred);
    says(&found, "SELinux with nginx's label system_u:system_r:httpd_t:s0");
    assert!(fixes(&found)[0].starts_with("setsebool -P httpd_can_network_connect"), "{:?}", fixes(&found));
    let permissive = denied_after(EACCES, vec![route(None), guards(Some(("selinux", label, Some(false))))]);
    is(&permissive, Symptom::ConnectDenied, Cause::Unknown, Certainty::Unknown);
}

#[test]
fn each_errno_has_its_own_suspects() {
    let program = |seccomp| {
        Body::Guards(Box::new(Guards {
            worker: WORKER,
            seccomp: Some(seccomp),
            cgroup_programs: Some(2),
            ..Guards::default()
        }))
    };
    let found = denied_after(EPERM, vec![route(None), program(false)]);
    is(&found, Symptom::ConnectDenied, Cause::SecurityPolicy, Certainty::Inferred);
    says(&found, "a BPF program of its cgroup (2 attached) did");
    let either = denied_after(EPERM, vec![route(None), program(true)]);
    says(&either, "(2 attached) or its seccomp filter did");
    let found = denied_after(EACCES, vec![route(None), program(true)]);
    is(&found, Symptom::ConnectDenied, Cause::Unknown, Certainty::Unknown);
}

#[test]
fn a_socket_that_was_refused_met_no_route() {
    let confined = guards(Some(("apparmor", "nginx (enforce)", Some(true))));
    let refused = said(REMOTE, "socket() failed", EACCES, CONNECTING);
    let found = Trace::new().feed(confined).attempt(refused).page(500).verdict();
    is(&found, Symptom::ConnectDenied, Cause::SecurityPolicy, Certainty::Inferred);
    begins(&found, "the kernel refused nginx a socket for 192.0.2.1:80");
}

#[test]
fn an_unreachable_host_comes_with_what_the_routing_table_said() {
    let found = denied_after(113, vec![route(None)]);
    is(&found, Symptom::ConnectUnreachable, Cause::Unreachable, Certainty::Proven);
    assert_eq!(observed(&found, "route"), ["the routing table has a route to 192.0.2.1"]);
}
