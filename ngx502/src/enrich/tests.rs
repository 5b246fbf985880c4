//! The enricher against sockets, directories and namespaces that the tests themselves make.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use bstr::BString;
use nix::libc::{EACCES, EAGAIN, ECONNREFUSED};

use super::sockets::Netns;
use super::*;
use crate::event::{
    Attempt, Endpoint, Ends, ListenerInfo, Nearness, Owner, PathKind, PathWalk, PeerSocket, RequestKey,
};

/// A process that the test ends.
struct Guest(Child);

impl Drop for Guest {
    fn drop(&mut self) {
        // It may have ended by itself, which is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn own() -> Pid {
    Pid(std::process::id())
}

fn failure(worker: Pid, errno: i32, peer: &str) -> Record {
    let key = RequestKey { worker, ..RequestKey::default() };
    let attempt = Attempt { key, errno: Some(errno), peer: Some(peer.into()), ..Attempt::default() };
    Record { at: Nanos(5_000_000_000), body: Body::Attempt(Box::new(attempt)) }
}

fn endpoint(records: &[Record]) -> EndpointInfo {
    let found = records.iter().find_map(|record| match &record.body {
        Body::Endpoint(endpoint) => Some((**endpoint).clone()),
        _ => None,
    });
    found.expect("an endpoint fact")
}

fn enricher() -> Enricher {
    Enricher::of_this_machine()
}

fn held_by_us(listener: &ListenerInfo) -> bool {
    listener.holders.iter().any(|holder| holder.pid == own())
}

fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("skipped: needs root");
    }
    root
}

#[test]
fn the_snapshot_names_every_listener_its_queue_and_its_holder() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("x.sock");
    let v4 = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let v6 = TcpListener::bind("[::]:0").expect("a listener");
    let _unix = UnixListener::bind(&path).expect("a listener");
    let name = format!("ngx502-snapshot-{}", own());
    let address = UnixAddr::from_abstract_name(&name).expect("a name");
    let _hidden = UnixListener::bind_addr(&address).expect("a listener");
    let began = Instant::now();
    let records = enricher().snapshot([own()].into_iter(), Nanos(7));
    eprintln!("snapshot: {} records in {:?}", records.len(), began.elapsed());
    for wanted in [
        Endpoint::Tcp(v4.local_addr().expect("an address")),
        Endpoint::Tcp(v6.local_addr().expect("an address")),
        Endpoint::Unix(path.to_str().expect("UTF-8").into()),
        Endpoint::Unix(format!("\0{name}").into()),
    ] {
        let found = records.iter().position(|record| match &record.body {
            Body::Endpoint(info) => info.endpoint == wanted && !info.asked && held_by_us(&info.listeners[0]),
            _ => false,
        });
        let found = found.unwrap_or_else(|| panic!("{wanted:?} is missing"));
        let told = records[..found].iter().any(|record| match &record.body {
            Body::Process(info) => info.process.pid == own(),
            _ => false,
        });
        assert!(told, "the holder comes before what it holds");
    }
}

#[test]
fn a_wildcard_listener_is_reached_and_asked_for_once_a_second() {
    let listener = TcpListener::bind("0.0.0.0:0").expect("a listener");
    let peer = format!("127.0.0.1:{}", listener.local_addr().expect("an address").port());
    let mut enricher = enricher();
    let record = failure(own(), ECONNREFUSED, &peer);
    let found = endpoint(&enricher.before(&record));
    assert!(found.asked && found.near.is_empty() && found.path.is_none());
    assert!(held_by_us(&found.listeners[0]));
    assert_eq!(found.listeners[0].queue.map(|queue| queue.length), Some(0));
    assert_eq!(enricher.before(&record), vec![]);
    let later = Record { at: Nanos(record.at.0 + 1_000_000_000), ..record };
    assert!(endpoint(&enricher.before(&later)).asked);
}

#[test]
fn an_ipv6_only_wildcard_is_not_reached_by_ipv4() {
    use rustix::net::{AddressFamily, SocketType, bind, listen, socket, sockopt};
    let listener = socket(AddressFamily::INET6, SocketType::STREAM, None).expect("a socket");
    sockopt::set_ipv6_v6only(&listener, true).expect("an option");
    let any: std::net::SocketAddrV6 = "[::]:0".parse().expect("an address");
    bind(&listener, &any).expect("bind");
    listen(&listener, 16).expect("listen");
    let port =
        TcpListener::from(listener.try_clone().expect("a copy")).local_addr().expect("an address").port();
    let found = endpoint(&enricher().before(&failure(own(), ECONNREFUSED, &format!("127.0.0.1:{port}"))));
    assert_eq!((found.listeners.len(), found.near[0].why), (0, Nearness::SamePort));
    let found = endpoint(&enricher().before(&failure(own(), ECONNREFUSED, &format!("[::1]:{port}"))));
    assert!(held_by_us(&found.listeners[0]));
}

#[test]
fn proc_net_names_the_same_listeners_as_sock_diag() {
    let v6 = TcpListener::bind("[::1]:0").expect("a listener");
    let name = format!("ngx502-procnet-{}", own());
    let _unix =
        UnixListener::bind_addr(&UnixAddr::from_abstract_name(&name).expect("a name")).expect("a listener");
    let table = procnet::listening(own()).expect("a table");
    let netns = Netns::of(own()).expect("own namespace");
    let asked = netns.run(sockets::listening).expect("a table");
    let address = Endpoint::Tcp(v6.local_addr().expect("an address"));
    for wanted in [address, Endpoint::Unix(format!("\0{name}").into())] {
        let inode = |table: &[sockets::Listening]| {
            table.iter().find(|entry| entry.bound == wanted).map(|entry| entry.inode).expect("the listener")
        };
        assert_eq!(inode(&table), inode(&asked));
    }
}

#[test]
fn where_nobody_listens_the_same_port_elsewhere_is_near() {
    let listener = TcpListener::bind("127.0.0.2:0").expect("a listener");
    let bound = listener.local_addr().expect("an address");
    let found =
        endpoint(&enricher().before(&failure(own(), ECONNREFUSED, &format!("127.0.0.1:{}", bound.port()))));
    assert_eq!(found.listeners, vec![]);
    assert_eq!((&found.near[0].bound, found.near[0].why), (&Endpoint::Tcp(bound), Nearness::SamePort));
    assert_eq!(found.near[0].process.pid, own());
}

#[test]
fn the_program_that_listened_there_before_is_near_wherever_it_listens_now() {
    let former = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let peer = former.local_addr().expect("an address");
    let mut enricher = enricher();
    enricher.snapshot([own()].into_iter(), Nanos(1));
    drop(former);
    let directory = tempfile::tempdir().expect("a directory");
    let elsewhere = directory.path().join("elsewhere.sock");
    let _now = UnixListener::bind(&elsewhere).expect("a listener");
    enricher.owners.refresh();
    let found = endpoint(&enricher.before(&failure(own(), ECONNREFUSED, &peer.to_string())));
    assert_eq!(found.listeners, vec![]);
    // Other tests of this process listen too, so that it need not be the first.
    let ours = |near: &&crate::event::NearListener| near.process.pid == own();
    let near: Vec<_> = found.near.iter().filter(ours).collect();
    assert!(near.iter().any(|near| near.why == Nearness::SameProgram), "{:?}", found.near);
}

#[test]
fn another_hosts_address_is_nobodys_and_has_no_endpoint_fact() {
    let mut enricher = enricher();
    let records = enricher.before(&failure(own(), ECONNREFUSED, "192.0.2.1:80"));
    let owners: Vec<_> = records
        .iter()
        .filter_map(|record| match &record.body {
            Body::AddressOwner(found) => Some((found.ip.to_string(), found.owner)),
            _ => None,
        })
        .collect();
    assert_eq!(owners, vec![("192.0.2.1".to_owned(), Owner::Nobody)]);
    assert!(!records.iter().any(|record| matches!(record.body, Body::Endpoint(_))));
}

#[test]
fn a_full_unix_backlog_shows_length_and_limit_through_a_symbolic_link() {
    let directory = tempfile::tempdir().expect("a directory");
    let root = std::fs::canonicalize(directory.path()).expect("a path");
    std::fs::create_dir(root.join("run")).expect("a directory");
    symlink("run", root.join("var")).expect("a link");
    let listener = UnixListener::bind(root.join("run/x.sock")).expect("a listener");
    nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(0).expect("a backlog"))
        .expect("listen");
    let _waiting = UnixStream::connect(root.join("run/x.sock")).expect("a connection");
    let asked = root.join("var/x.sock");
    let records = enricher().before(&failure(own(), EAGAIN, &format!("unix:{}", asked.display())));
    let found = endpoint(&records);
    assert_eq!(found.path, Some(PathKind::Socket));
    let queue = found.listeners[0].queue.expect("a queue");
    assert_eq!((queue.length, queue.limit), (1, 0));
    let text = |path: &Path| BString::from(path.to_str().expect("UTF-8"));
    let alias = Body::PathAlias { path: text(&asked), resolved: text(&root.join("run/x.sock")) };
    assert!(records.iter().any(|record| record.body == alias), "{records:?}");
}

#[test]
fn a_missing_socket_is_missing_and_its_neighbour_near() {
    let directory = tempfile::tempdir().expect("a directory");
    let root = std::fs::canonicalize(directory.path()).expect("a path");
    let _neighbour = UnixListener::bind(root.join("y.sock")).expect("a listener");
    let asked = format!("unix:{}", root.join("x.sock").display());
    let records = enricher().before(&failure(own(), nix::libc::ENOENT, &asked));
    let found = endpoint(&records);
    assert_eq!((found.path, found.near[0].why), (Some(PathKind::Missing), Nearness::SameDirectory));
    let walk = path_walk(&records);
    assert_eq!(walk.missing, Some(root.join("x.sock").to_str().expect("UTF-8").into()));
}

fn path_walk(records: &[Record]) -> PathWalk {
    let found = records.iter().find_map(|record| match &record.body {
        Body::PathWalk(walk) => Some((**walk).clone()),
        _ => None,
    });
    found.expect("a walk")
}

/// A process of user nobody without supplementary groups, past its exec.
fn nobody() -> Guest {
    let guest = Guest(Command::new("sleep").arg("60").uid(65534).gid(65534).spawn().expect("sleep"));
    until(|| access::Credentials::of(Pid(guest.0.id())).is_ok_and(|whom| whom.uid == 65534));
    guest
}

fn until(mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "the condition did not come true in 10 s");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn the_walk_names_the_first_component_that_refuses() {
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let root = std::fs::canonicalize(directory.path()).expect("a path");
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("a mode");
    };
    let (closed, socket) = (root.join("closed"), root.join("closed/x.sock"));
    std::fs::create_dir(&closed).expect("a directory");
    let _listener = UnixListener::bind(&socket).expect("a listener");
    mode(&root, 0o755);
    mode(&closed, 0o000);
    mode(&socket, 0o660);
    let worker = nobody();
    let pid = Pid(worker.0.id());
    let record = failure(pid, EACCES, &format!("unix:{}", socket.display()));
    let walk = path_walk(&enricher().before(&record));
    assert_eq!((walk.uid, walk.user.as_deref()), (65534, Some("nobody")));
    let refused = walk.refused.expect("a refusal");
    assert_eq!(refused.path, closed.to_str().expect("UTF-8"));
    assert_eq!((refused.mode, refused.search, refused.owner.as_deref()), (0, true, Some("root")));
    mode(&closed, 0o711);
    let refused = path_walk(&enricher().before(&record)).refused.expect("a refusal");
    assert_eq!(
        (refused.path, refused.mode, refused.search),
        (socket.to_str().expect("UTF-8").into(), 0o660, false)
    );
    mode(&socket, 0o666);
    assert_eq!(path_walk(&enricher().before(&record)).refused, None);
}

#[test]
fn the_same_port_in_another_namespace_is_near() {
    if !is_root() {
        return;
    }
    let guest = Guest(Command::new("unshare").args(["-n", "sleep", "60"]).spawn().expect("unshare"));
    let here = Netns::of(own()).expect("own namespace");
    let there = || Netns::of(Pid(guest.0.id())).ok().filter(|netns| netns.inum != here.inum);
    until(|| there().is_some());
    let there = there().expect("its namespace");
    let listener = there.run(|| TcpListener::bind("0.0.0.0:0")).expect("a listener there");
    let port = listener.local_addr().expect("an address").port();
    assert_eq!(Netns::of(own()).expect("own namespace").inum, here.inum, "we stay where we are");
    let found = endpoint(&enricher().before(&failure(own(), ECONNREFUSED, &format!("127.0.0.1:{port}"))));
    assert_eq!(found.listeners, vec![]);
    let near = &found.near[0];
    assert_eq!((near.netns, near.why, near.process.pid), (there.inum, Nearness::OtherNamespace, own()));
}

fn other_end(ends: &Ends) -> Option<PeerSocket> {
    let mut owners = SocketOwners::default();
    owners.refresh();
    peer::find(&mut owners, own(), 42, ends, None)
}

#[test]
fn the_server_end_of_a_tcp_connection_is_accepted_or_not() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let remote: SocketAddr = listener.local_addr().expect("an address");
    let client = TcpStream::connect(remote).expect("a connection");
    let ends = Ends::Tcp { local: client.local_addr().expect("an address"), remote };
    assert_eq!(other_end(&ends).and_then(|end| end.accepted), Some(false));
    let (server, _) = listener.accept().expect("accept");
    let end = other_end(&ends).expect("an end");
    assert_eq!((end.of, end.accepted, end.holders[0].pid), (42, Some(true), own()));
    drop((client, server));
    let nobody: SocketAddr = "127.0.0.1:1".parse().expect("an address");
    assert_eq!(other_end(&Ends::Tcp { local: nobody, remote }), None, "the listener itself is no connection");
}

#[test]
fn the_server_end_of_a_unix_connection_is_found_by_its_peer() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("x.sock");
    let listener = UnixListener::bind(&path).expect("a listener");
    let _client = UnixStream::connect(&path).expect("a connection");
    let ends = Ends::Unix { path: path.to_str().expect("UTF-8").into() };
    assert_eq!(other_end(&ends), None);
    let _server = listener.accept().expect("accept");
    let end = other_end(&ends).expect("an end");
    assert_eq!((end.accepted, end.holders[0].pid, end.unread), (Some(true), own(), Some(0)));
}
