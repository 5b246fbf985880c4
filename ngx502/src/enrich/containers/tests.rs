use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::*;

const ID: &str = "388c06bf65286a4675831506d74ac24442a3a63c24aa923761ac3ff94f45a38f";
const OTHER: &str = "2cbac004107add0ab5ca0f11164cddb734de05fa7b6ce40b998a543a1e757b08";

/// A machine with these files, all of them this user's.
struct Machine(tempfile::TempDir);

impl Machine {
    fn with(files: &[(&str, &str)]) -> Self {
        let machine = Self(tempfile::tempdir().expect("a temporary folder"));
        for (path, text) in files {
            let place = machine.place(path);
            fs::create_dir_all(place.parent().expect("a file is in a folder")).expect("a folder");
            fs::write(&place, text).expect("a file");
            fs::set_permissions(&place, fs::Permissions::from_mode(0o600)).expect("its mode");
        }
        machine
    }

    fn place(&self, path: &str) -> PathBuf {
        self.0.path().join(path.trim_start_matches('/'))
    }

    fn names(&self, runtime: Option<Runtime>) -> ContainerNames {
        let (root, owner) = (self.0.path().to_owned(), nix::unistd::geteuid().as_raw());
        Containers { root, owner, known: HashMap::new(), docker: None }.names(ID, runtime)
    }
}

fn docker(folder: &str) -> String {
    format!("{folder}/containers/{ID}/config.v2.json")
}

/// As Docker 20.10 wrote it, without most of its members.
const DOCKER: &str = r#"{"StreamConfig":{},"State":{"Running":true,"Pid":30288},"ID":"388c06bf","Name":"/web_1","Driver":"vfs"}"#;

fn called(runtime: Option<Runtime>, name: &str) -> ContainerNames {
    ContainerNames { runtime, name: Some(name.into()), pod: None }
}

#[test]
fn docker_names_a_container_in_its_data_root() {
    let usual = Machine::with(&[(&docker("/var/lib/docker"), DOCKER)]);
    for hint in [Some(Runtime::Docker), None] {
        assert_eq!(usual.names(hint), called(Some(Runtime::Docker), "web_1"));
    }
    let moved = Machine::with(&[
        ("/etc/docker/daemon.json", r#"{"log-driver":"journald","data-root":"/srv/docker"}"#),
        (&docker("/srv/docker"), DOCKER),
    ]);
    assert_eq!(moved.names(Some(Runtime::Docker)).name.as_deref(), Some("web_1"));
}

#[test]
fn podman_names_a_container_in_the_list_of_its_storage() {
    // As Podman 4.3 wrote it.
    let list = format!(
        r#"[{{"id":"{OTHER}","names":["web_2"],"image":"","layer":"96d2","metadata":"{{}}","flags":{{"MountLabel":""}}}},
            {{"id":"{ID}","names":["web_3"],"image":"","layer":"4b24"}}]"#
    );
    for place in ["overlay-containers/containers.json", "vfs-containers/volatile-containers.json"] {
        let machine = Machine::with(&[(&format!("/var/lib/containers/storage/{place}"), &list)]);
        assert_eq!(machine.names(Some(Runtime::Podman)), called(Some(Runtime::Podman), "web_3"));
    }
}

#[test]
fn kubernetes_names_a_container_with_its_pod() {
    let pod = PodName { namespace: "shop".into(), name: "web-7d9f".into() };
    let bundle = format!("/run/containerd/io.containerd.runtime.v2.task/k8s.io/{ID}/config.json");
    let annotations = r#"{"ociVersion":"1.1.0","annotations":{"io.kubernetes.cri.container-name":"php",
        "io.kubernetes.cri.container-type":"container","io.kubernetes.cri.sandbox-name":"web-7d9f",
        "io.kubernetes.cri.sandbox-namespace":"shop"}}"#;
    let by_containerd = Machine::with(&[(&bundle, annotations)]).names(Some(Runtime::Containerd));
    let names =
        |runtime| ContainerNames { runtime: Some(runtime), name: Some("php".into()), pod: Some(pod.clone()) };
    assert_eq!(by_containerd, names(Runtime::Containerd));
    let list = format!(r#"[{{"id":"{ID}","names":["k8s_php_web-7d9f_shop_0d2a_0"]}}]"#);
    let stored = Machine::with(&[("/var/lib/containers/storage/overlay-containers/containers.json", &list)]);
    assert_eq!(stored.names(Some(Runtime::Crio)), names(Runtime::Crio));
}

#[test]
fn what_is_not_known_is_not_reported() {
    let id_only = |runtime| ContainerNames { runtime, name: None, pod: None };
    assert_eq!(Machine::with(&[]).names(Some(Runtime::Podman)), id_only(Some(Runtime::Podman)));
    assert_eq!(Machine::with(&[]).names(None), id_only(None));
    let long = format!(r#"{{"Name":"/{}"}}"#, "x".repeat(300));
    for hostile in ["", "{", "[]", r#"{"Name":7}"#, r#"{"Name":"/"}"#, &long] {
        let machine = Machine::with(&[(&docker("/var/lib/docker"), hostile)]);
        assert_eq!(machine.names(Some(Runtime::Docker)), id_only(Some(Runtime::Docker)), "{hostile}");
    }
}

#[test]
fn files_that_others_may_write_are_not_believed() {
    let path = docker("/var/lib/docker");
    let writable = Machine::with(&[(&path, DOCKER)]);
    fs::set_permissions(writable.place(&path), fs::Permissions::from_mode(0o666)).expect("its mode");
    assert_eq!(writable.names(Some(Runtime::Docker)).name, None);
    let linked = Machine::with(&[("/tmp/config", DOCKER), (&docker("/var/lib/docker/x"), "")]);
    fs::create_dir_all(linked.place(&path).parent().expect("a folder")).expect("a folder");
    symlink(linked.place("/tmp/config"), linked.place(&path)).expect("a link");
    assert_eq!(linked.names(Some(Runtime::Docker)).name, None);
    let foreign = Machine::with(&[(&path, DOCKER)]);
    let owner = nix::unistd::geteuid().as_raw() + 1;
    let mut others =
        Containers { root: foreign.0.path().to_owned(), owner, known: HashMap::new(), docker: None };
    assert_eq!(others.names(ID, Some(Runtime::Docker)).name, None);
}

#[test]
fn a_container_that_is_down_is_told_with_its_ports_and_its_end() {
    let at = |id: &str, file: &str| format!("/var/lib/docker/containers/{id}/{file}");
    let ended = r#"{"State":{"Running":false,"OOMKilled":true,"ExitCode":137,"Error":"","FinishedAt":"2026-11-21T02:16:40.5Z"},"Name":"/api"}"#;
    let bindings = r#"{"PortBindings":{"80/tcp":[{"HostIp":"","HostPort":"8080"},{"HostIp":"127.0.0.1","HostPort":"8081"}]}}"#;
    let machine = Machine::with(&[
        (&at(ID, "config.v2.json"), ended),
        (&at(ID, "hostconfig.json"), bindings),
        (&at(OTHER, "config.v2.json"), DOCKER),
        (&at(OTHER, "hostconfig.json"), bindings),
    ]);
    let (root, owner) = (machine.0.path().to_owned(), nix::unistd::geteuid().as_raw());
    let found = Containers { root, owner, known: HashMap::new(), docker: None }.down();
    let wanted = DownContainer {
        id: ID.to_owned(),
        names: called(Some(Runtime::Docker), "api"),
        exit_code: Some(137),
        oom_killed: true,
        restarting: false,
        finished_us: Some(1_795_227_400_500_000),
        error: None,
        publishes: vec![(None, 8_080), (Some([127, 0, 0, 1].into()), 8_081)],
    };
    assert_eq!(found, [wanted], "the other one runs");
}
