//! Kills by those who supervise: named by the rule that they follow, if it is theirs.

use super::*;

const MEMBER: &str = "3f4a1b2c3d4e5f60718293a4b5c6d7e8f90123456789abcdef0123456789abcd";

/// A process that was sent `signal` by `sender`, its parent or not, and died of it.
fn ended_by(signal: i32, sender: ProcessRef, parent: bool, home: ProcessInfo) -> Verdict {
    let victim = process(12, "worker");
    let parent = if parent { sender.pid } else { Pid(2) };
    let known = Body::Process(Box::new(ProcessInfo { process: victim.clone(), parent, ..home }));
    let died =
        Body::Exit(Exit { process: victim.clone(), parent, code: signal, cgroup: 0, oom_victim: false });
    after_death(vec![known, sent(signal, 0, victim, sender), died])
}

#[track_caller]
fn killed(found: &Verdict, words: &str, fix: Option<&str>) {
    is(found, Symptom::ConnectRefused, Cause::Killed, Certainty::Proven);
    says(found, words);
    let limit = fixes(found).iter().find(|line| line.starts_with("# raise")).map(ToString::to_string);
    assert_eq!(limit.is_some(), fix.is_some(), "{:?}", fixes(found));
    assert!(limit.zip(fix).is_none_or(|(line, fix)| line.contains(fix)), "{:?}", fixes(found));
}

#[test]
fn a_masters_time_limit_is_named_with_its_setting() {
    let at = |comm, signal| ended_by(signal, process(11, comm), true, ProcessInfo::default());
    let words = "SIGTERM by php-fpm[11], its master, as it does when request_terminate_timeout is exceeded, or on a reload";
    killed(&at("php-fpm", 15), words, Some("request_terminate_timeout"));
    killed(&at("php-fpm", 9), "process_control_timeout", None);
    killed(&at("gunicorn", 6), "silent for longer than --timeout", Some("gunicorn --timeout"));
    killed(&at("gunicorn", 15), "its arbiter, as it does on a reload or stop", None);
    killed(&at("uwsgi", 9), "when harakiri is exceeded", Some("--harakiri"));
    killed(&at("puma", 9), "worker_timeout", None);
    killed(&at("faulty", 9), "SIGKILL by faulty[11], its own parent", None);
}

#[test]
fn a_signal_that_its_handler_raises_again_is_its_first_senders() {
    let (child, master) = (process(12, "php-fpm"), process(11, "php-fpm"));
    let died = |code| {
        Body::Exit(Exit { process: child.clone(), parent: Pid(11), code, cgroup: 0, oom_victim: false })
    };
    let raised = |number| sent(number, 0, child.clone(), child.clone());
    let found = after_death(vec![sent(15, 0, child.clone(), master), raised(15), died(15)]);
    killed(&found, "SIGTERM by php-fpm[11], its master", Some("request_terminate_timeout"));
    let fault = sent(11, 1, child.clone(), child.clone());
    let crash = after_death(vec![fault, raised(11), died(11)]);
    is(&crash, Symptom::ConnectRefused, Cause::Crashed, Certainty::Proven);
    is(&after_death(vec![raised(6), died(6)]), Symptom::ConnectRefused, Cause::Crashed, Certainty::Proven);
}

#[test]
fn a_namesake_that_is_no_parent_has_no_rule() {
    let found = ended_by(15, process(50, "php-fpm"), false, ProcessInfo::default());
    killed(&found, "with SIGTERM by php-fpm[50]", None);
    assert!(!summary(&found).contains("master"));
}

#[test]
fn a_service_manager_names_the_unit_and_why() {
    let unit = || ProcessInfo { unit: Some("app.service".into()), ..ProcessInfo::default() };
    let systemd = || ProcessRef { pid: Pid(1), ..process(1, "systemd") };
    killed(&ended_by(15, systemd(), true, unit()), "as it does to stop or restart app.service", None);
    killed(
        &ended_by(9, systemd(), true, unit()),
        "when TimeoutStopSec= is exceeded, or where KillSignal= or KillMode= says so, for app.service",
        None,
    );
    killed(&ended_by(6, systemd(), true, unit()), "when WatchdogSec= is exceeded for app.service", None);
    let other = ProcessRef { pid: Pid(1), ..process(1, "busybox") };
    killed(&ended_by(15, other, true, unit()), "SIGTERM by busybox[1], the init system", None);
}

#[test]
fn a_containers_stop_is_its_runtimes() {
    let inside = || ProcessInfo { container: Some(MEMBER.into()), ..ProcessInfo::default() };
    let words = "SIGTERM by runc[50], its container's runtime, as it does when the container is stopped";
    killed(&ended_by(15, process(50, "runc"), false, inside()), words, None);
    let host = ended_by(15, process(50, "runc"), false, ProcessInfo::default());
    assert!(!summary(&host).contains("container"));
}

#[test]
fn a_pools_limit_is_told_with_its_name_and_its_configuration() {
    let titled = |process: ProcessRef, command: &str| {
        Body::Process(Box::new(ProcessInfo { process, command: command.into(), ..ProcessInfo::default() }))
    };
    let (master, child) = (process(11, "php-fpm8.2"), process(12, "php-fpm8.2"));
    let verdict = |title: &str| {
        let socket = Socket { closer: Some(closer(child.clone(), true, 15)), ..socket(PEER) };
        Trace::new()
            .feed(titled(master.clone(), title))
            .feed(Body::Fork { parent: master.clone(), child: child.clone() })
            .feed(titled(child.clone(), "php-fpm: pool www"))
            .feed(sent(15, 0, child.clone(), master.clone()))
            .feed(exit(child.clone(), 15))
            .attempt(closed(socket))
            .page(502)
            .verdict()
    };
    let found = verdict("php-fpm: master process (/etc/php/8.2/fpm/php-fpm.conf)");
    is(&found, Symptom::ClosedEarly, Cause::Killed, Certainty::Proven);
    let line = "# raise request_terminate_timeout in pool www of /etc/php/8.2/fpm/php-fpm.conf, or make the script faster";
    assert!(fixes(&found).iter().any(|fix| *fix == line), "{:?}", fixes(&found));
    let hostile = verdict("php-fpm: master process (relative");
    let line = "# raise request_terminate_timeout in pool www, or make the script faster";
    assert!(fixes(&hostile).iter().any(|fix| *fix == line), "{:?}", fixes(&hostile));
}
