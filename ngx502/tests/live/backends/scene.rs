//! A real server behind a traced nginx, requests to it, and the comparison of verdicts with what was done to it.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use xtask::lab::cgroup::MemoryCgroup;
use xtask::lab::truth::{Owed, Truth};
use xtask::lab::{Lab, Service, wait};

use super::{CUT, LITTLE_MEMORY};
use crate::tracer::{Said, Tracer};

/// Clients of [`Scene::under_load`].
const CLIENTS: usize = 3;

/// The server, nginx in front of it, ngx502 beside.
pub(super) struct Scene {
    pub(super) lab: Lab,
    pub(super) service: Service,
    tracer: Tracer,
    next: AtomicU32,
}

/// What a verdict must say.
#[derive(Clone, Copy)]
pub(super) struct Expect<'a> {
    /// Symptoms that nginx may log; the verdict's must be the one that it did log.
    pub(super) symptoms: &'a [&'a str],
    /// Causes that are true.
    pub(super) causes: &'a [&'a str],
    /// The process that the verdict has to name.
    pub(super) culprit: Option<u32>,
}

impl Scene {
    /// Starts nginx with these directives of its one location, and the tracer. `{up}` is the server's address.
    pub(super) fn start(service: Service, location: &str) -> Result<Scene> {
        Scene::start_as(service, "root", "", location)
    }

    /// Like [`Scene::start`], with workers of `user` and an upstream block `up_real` with these directives.
    pub(super) fn start_as(service: Service, user: &str, upstream: &str, location: &str) -> Result<Scene> {
        let address = service.site().address();
        let location = location.replace("{up}", address);
        let lab = Lab::start(xtask::lab::LabConfig {
            user: user.to_owned(),
            http: format!("upstream up_real {{ server {address} max_fails=0; {upstream} }}"),
            server: format!("location / {{ {location} }}"),
            ..Default::default()
        })?;
        let tracer = Tracer::start(lab.master(), &[])?;
        Ok(Scene { lab, service, tracer, next: AtomicU32::new(0) })
    }

    /// A URI of its own that asks the application for `action`.
    pub(super) fn uri(&self, action: &str) -> String {
        format!("/{action}/{}", self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// Asks for `action` and returns the URI once the client has its answer.
    pub(super) fn ask(&self, action: &str) -> Result<String> {
        let uri = self.uri(action);
        self.lab.get(&uri)?;
        Ok(uri)
    }

    /// Asks for `action`; `meanwhile` runs once the application has begun it, and is told which process did.
    pub(super) fn ask_and<T>(
        &self,
        action: &str,
        meanwhile: impl FnOnce(u32) -> Result<T>,
    ) -> Result<(String, T)> {
        let uri = self.uri(action);
        // The application notes its pid at each request.
        let _ = fs::remove_file(self.note());
        // The tracer's handle stays with this thread.
        let lab = &self.lab;
        thread::scope(|scope| {
            let asking = scope.spawn(|| lab.get(&uri));
            let done = self.server_of_last().and_then(meanwhile);
            asking.join().expect("a client does not panic")?;
            Ok((uri.clone(), done?))
        })
    }

    /// The process that the application noted last.
    pub(super) fn server_of_last(&self) -> Result<u32> {
        wait::until("the application to note its pid", Duration::from_secs(10), || {
            fs::read_to_string(self.note()).ok()?.trim().parse().ok()
        })
    }

    fn note(&self) -> PathBuf {
        self.service.site().dir().join("served")
    }

    /// Some clients ask for `ok` until `change` is done; returns how many the server answered, and how many asked. What
    /// it answered is its own affair: one that restarts may say 503.
    pub(super) fn under_load(&self, change: impl FnOnce() -> Result<()>) -> Result<(u32, u32)> {
        let done = AtomicBool::new(false);
        let (good, all) = (AtomicU32::new(0), AtomicU32::new(0));
        let lab = &self.lab;
        thread::scope(|scope| {
            let client = || -> Result<()> {
                while !done.load(Ordering::SeqCst) {
                    let number = all.fetch_add(1, Ordering::Relaxed);
                    let answer = lab.get(&format!("/ok/load-{number}"))?;
                    let of_nginx = matches!(answer.status, 502 | 504);
                    good.fetch_add(u32::from(!of_nginx), Ordering::Relaxed);
                }
                Ok(())
            };
            let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
            let changed = wait::until("the load to begin", Duration::from_secs(10), || {
                (good.load(Ordering::Relaxed) >= 10).then_some(())
            })
            .and_then(|()| change());
            done.store(true, Ordering::SeqCst);
            clients.into_iter().try_for_each(|client| client.join().expect("a client does not panic"))?;
            changed
        })?;
        Ok((good.into_inner(), all.into_inner()))
    }

    /// The verdict of `uri` is as expected.
    pub(super) fn explains(&mut self, uri: &str, expect: Expect<'_>) -> Result<Value> {
        let (line, entry) = self.tracer.agreed_verdict(&self.lab, uri)?;
        let symptom = line["symptom"].as_str().unwrap_or_default();
        ensure!(
            expect.symptoms.contains(&symptom),
            "nginx saw {symptom}, not {:?}: {entry:?}",
            expect.symptoms
        );
        let cause = line["cause"].as_str().unwrap_or_default();
        ensure!(
            expect.causes.contains(&cause),
            "cause {cause} ({}), not {:?}: {line}",
            line["certainty"],
            expect.causes
        );
        if let Some(culprit) = expect.culprit {
            let named = line["summary"].as_str().is_some_and(|text| text.contains(&format!("[{culprit}]")));
            ensure!(named, "the summary does not name process {culprit}: {line}");
        }
        Ok(line)
    }

    /// The process that serves now is put under a small memory limit and made to outgrow it: it is the one to be named.
    pub(super) fn outgrow_memory(mut self) -> Result<()> {
        let cgroup = MemoryCgroup::create(LITTLE_MEMORY)?;
        self.ask("ok")?;
        cgroup.adopt(self.server_of_last()?)?;
        let (uri, victim) = self.ask_and("eat", Ok)?;
        self.explains(&uri, Expect { symptoms: CUT, causes: &["oom-killed"], culprit: Some(victim) })?;
        self.finish().map(drop)
    }

    /// Ends the tracer; every failed request of the log has one line with the right symptom, no other has one, and no
    /// record was lost. Returns what was said.
    pub(super) fn finish(self) -> Result<Said> {
        let said = self.tracer.stop()?;
        ensure!(said.lost.is_empty(), "records were lost: {:?}", said.lost);
        for (uri, entry) in Truth::read(&self.lab)?.entries() {
            let found = said.verdicts_of(uri);
            match entry.owed() {
                Owed::Verdict(symptom) => {
                    ensure!(found.len() == 1, "{} verdicts of {uri} {entry:?}", found.len());
                    ensure!(found[0]["symptom"] == symptom, "not {symptom}: {}", found[0]);
                }
                _ => ensure!(found.is_empty(), "invented for {entry:?}: {found:?}"),
            }
        }
        Ok(said)
    }
}

/// Where `program` is, if anywhere, perhaps with a version behind its name: `php-fpm8.2`.
pub(super) fn find(program: &str) -> Option<PathBuf> {
    let is_it = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let version = name.strip_prefix(program);
        version.is_some_and(|version| version.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'))
            && path.is_file()
    };
    let entries =
        ["/usr/sbin", "/usr/bin", "/usr/local/bin"].iter().filter_map(|place| fs::read_dir(place).ok());
    entries.flatten().filter_map(Result::ok).map(|entry| entry.path()).find(is_it)
}

/// Waits until a server's workers are all others than `old`, and as many.
pub(super) fn wait_replaced(service: &Service, old: &[u32]) -> Result<()> {
    wait::until("new workers", Duration::from_secs(30), || {
        let now = service.workers();
        (now.len() == old.len() && now.iter().all(|worker| !old.contains(worker))).then_some(())
    })
    .with_context(|| service.output())
}

/// Connects `count` times, so that the connections wait to be accepted. Each sends a byte: some servers have the kernel
/// hold back silent ones (TCP_DEFER_ACCEPT).
pub(super) fn fill_queue(address: &str, count: usize) -> Result<Vec<OwnedFd>> {
    let connect = |_| -> Result<OwnedFd> {
        Ok(match address.strip_prefix("unix:") {
            Some(path) => {
                let mut stream = UnixStream::connect(path)?;
                stream.write_all(b"x")?;
                stream.into()
            }
            None => {
                let mut stream = TcpStream::connect(address)?;
                stream.write_all(b"x")?;
                stream.into()
            }
        })
    };
    (0..count).map(connect).collect()
}
