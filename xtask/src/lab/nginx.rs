//! The disposable nginx: own prefix, configuration, logs and port; its master ends with the handle.

use std::fmt::Write as _;
use std::fs;
use std::io::Read;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};

use super::client::{Client, Response};
use super::container::Container;
use super::netns::Netns;
use super::process::{children, pid, state_of};
use super::spawn::{PROFILE, helper};
use super::wait;

/// One JSON object a request; `escape=json` keeps hostile URIs in their field.
const LOG_FORMAT: &str = r#"log_format lab escape=json '{"uri":"$request_uri","method":"$request_method",'
 '"status":"$status","upstream_status":"$upstream_status","upstream_addr":"$upstream_addr",'
 '"connect_time":"$upstream_connect_time","header_time":"$upstream_header_time",'
 '"response_time":"$upstream_response_time","connection":"$connection","request_id":"$request_id"}';"#;

/// What the lab's nginx is made of; the texts are configuration directives.
#[derive(Clone, Debug)]
pub struct LabConfig {
    /// `worker_processes`.
    pub workers: u8,
    /// `user`, e.g. `root` or `www-data`.
    pub user: String,
    /// The level of `error_log`, `error` by default.
    pub error_level: String,
    /// Directives of the main context.
    pub main: String,
    /// `worker_connections`.
    pub connections: u32,
    /// Directives of the http block.
    pub http: String,
    /// Directives of the one server block.
    pub server: String,
    /// The namespace that nginx and its clients run in.
    pub netns: Option<Arc<Netns>>,
    /// The container that nginx runs in; its network is the one above.
    pub container: Option<Arc<Container>>,
    /// The executable; `None` for the one under test.
    pub binary: Option<PathBuf>,
    /// Whether nginx goes into the background, as it does when an init script starts it.
    pub daemon: bool,
    /// The AppArmor profile that nginx runs under.
    pub profile: Option<String>,
}

impl Default for LabConfig {
    fn default() -> Self {
        LabConfig {
            workers: 1,
            user: "root".into(),
            error_level: "error".into(),
            main: String::new(),
            connections: 512,
            http: String::new(),
            server: String::new(),
            netns: None,
            container: None,
            binary: None,
            daemon: false,
            profile: None,
        }
    }
}

/// A running nginx. Dropping it ends the master and thereby its workers.
#[derive(Debug)]
pub struct Lab {
    pub(super) config: LabConfig,
    prefix: tempfile::TempDir,
    address: SocketAddr,
    pub(super) launched: Child,
    /// 0 until it is known.
    pub(super) master: u32,
    /// The new master while an upgrade is under way.
    pub(super) successor: Option<u32>,
}

impl Lab {
    /// Starts nginx (`NGX502_TEST_NGINX`, or `/usr/sbin/nginx`) and waits until it answers connections.
    ///
    /// # Errors
    /// When nginx is missing or refuses the configuration: what it wrote.
    pub fn start(config: LabConfig) -> Result<Lab> {
        let mut last = None;
        // The port is free when chosen, not reserved: another process may take it first.
        for _ in 0..5 {
            match Lab::try_start(config.clone()) {
                Ok(lab) => return Ok(lab),
                Err(error) => last = Some(error),
            }
        }
        Err(last.context("nginx was never started")?)
    }

    fn try_start(mut config: LabConfig) -> Result<Lab> {
        if let Some(container) = &config.container {
            config.netns = container.netns().cloned();
        }
        let prefix = tempfile::Builder::new().prefix("ngx502-lab-").tempdir()?;
        // Workers of another user must be able to pass.
        fs::set_permissions(prefix.path(), fs::Permissions::from_mode(0o755))?;
        let port = if config.netns.is_some() { 8080 } else { free_port()? };
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        write_config(&config, prefix.path(), address)?;
        let launched = launch(&config, prefix.path())?;
        let mut lab = Lab { config, prefix, address, launched, master: 0, successor: None };
        lab.wait_until_ready()?;
        Ok(lab)
    }

    /// The master of the nginx that was launched, once there is one.
    fn find_master(&self) -> Option<u32> {
        if self.config.daemon {
            return self.read("nginx.pid").trim().parse().ok();
        }
        match self.config.container {
            Some(_) => children(self.launched.id()).first().copied(),
            None => Some(self.launched.id()),
        }
    }

    pub(super) fn wait_until_ready(&mut self) -> Result<()> {
        let prefix = self.prefix.path().to_owned();
        let said = || {
            let read = |name| fs::read_to_string(prefix.join(name)).unwrap_or_default();
            format!("{}{}", read("stderr"), read("error.log"))
        };
        let ended = wait::until("nginx to listen", Duration::from_secs(10), || {
            if let Ok(Some(status)) = self.launched.try_wait()
                && !(self.config.daemon && status.success())
            {
                return Some(Some(status));
            }
            self.master = self.find_master()?;
            (self.workers().len() >= usize::from(self.config.workers) && self.answers()).then_some(None)
        })
        .with_context(said)?;
        match ended {
            Some(status) => bail!("nginx did not start ({status}): {}", said()),
            None => Ok(()),
        }
    }

    /// Connects and waits until the worker has let that connection go, so that it leaves no trace.
    fn answers(&self) -> bool {
        let probe = || {
            let mut stream = TcpStream::connect(self.address)?;
            stream.set_read_timeout(Some(wait::scaled(Duration::from_secs(1))))?;
            stream.shutdown(Shutdown::Write)?;
            Ok(stream.read(&mut [0])?)
        };
        self.inside(probe).is_ok()
    }

    /// Runs `work` in nginx's network namespace.
    ///
    /// # Errors
    /// Those of `work`, or when the namespace cannot be entered.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        match &self.config.netns {
            Some(netns) => netns.run(work),
            None => work(),
        }
    }

    /// Writes the configuration anew.
    pub(super) fn write_config(&self) -> Result<()> {
        write_config(&self.config, self.prefix.path(), self.address)
    }

    /// Where nginx listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The prefix directory: configuration, logs, sockets.
    pub fn prefix(&self) -> &Path {
        self.prefix.path()
    }

    /// The master's pid.
    pub fn master(&self) -> u32 {
        self.master
    }

    /// Pids of the master's present children, workers that are shutting down included.
    pub fn workers(&self) -> Vec<u32> {
        let mut workers = children(self.master);
        workers.retain(|child| Some(*child) != self.successor);
        workers
    }

    /// Connects to nginx as a client that keeps its connection.
    ///
    /// # Errors
    /// When the connection fails.
    pub fn client(&self) -> Result<Client> {
        self.inside(|| Ok(Client::connect(self.address)?))
    }

    /// One GET on a connection of its own.
    ///
    /// # Errors
    /// When there is no complete answer header.
    pub fn get(&self, path: &str) -> Result<Response> {
        self.request("GET", path, b"")
    }

    /// One request on a connection of its own.
    ///
    /// # Errors
    /// When there is no complete answer header.
    pub fn request(&self, method: &str, path: &str, body: &[u8]) -> Result<Response> {
        let mut client = self.client()?;
        // An early answer (a 502 while the body is still being sent) may break the write; the answer counts.
        let sent = client.send(method, path, body);
        client
            .receive()
            .or_else(|error| sent.and(Err(error)))
            .with_context(|| format!("no answer to {method} {path}; nginx's alerts: {:?}", self.alerts()))
    }

    /// What nginx says of itself, e.g. that a worker crashed.
    fn alerts(&self) -> Vec<String> {
        let log = self.read("error.log");
        log.lines().filter(|line| line.contains("[alert]")).map(str::to_owned).collect()
    }

    /// Runs `work` while every worker is stopped; what arrives meanwhile is then handled in the order of arrival.
    ///
    /// # Errors
    /// Those of `work`, or when a worker does not stop.
    pub fn paused<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let workers = self.workers();
        let _resume = Resume(&workers);
        for worker in &workers {
            // In the midst of its work it would go on with that first, and then not in the order of arrival.
            wait::until("a worker to have nothing to do", Duration::from_secs(5), || {
                (state_of(*worker)? == 'S').then_some(())
            })?;
            kill(pid(*worker), Signal::SIGSTOP)?;
            wait::until("a worker to stop", Duration::from_secs(5), || {
                (state_of(*worker)? == 'T').then_some(())
            })?;
        }
        work()
    }

    /// A file's text below the prefix; empty when it is missing.
    pub fn read(&self, name: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.prefix().join(name)).unwrap_or_default()).into_owned()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // A start that failed may have left a master that was not found in time.
        let masters = [self.successor, self.find_master().filter(|_| self.master == 0), Some(self.master)];
        let masters: Vec<u32> = masters.into_iter().flatten().filter(|pid| *pid != 0).collect();
        let workers: Vec<u32> = masters.iter().flat_map(|master| children(*master)).collect();
        // Errors below mean that the process is gone, which is what is wanted.
        for master in &masters {
            let _ = kill(pid(*master), Signal::SIGTERM);
        }
        let gone = |master: &u32| state_of(*master).is_none_or(|state| state == 'Z');
        let ended = wait::until("nginx to end", Duration::from_secs(3), || {
            let _ = self.launched.try_wait();
            masters.iter().all(gone).then_some(())
        });
        if ended.is_err() {
            for process in workers.iter().chain(&masters) {
                let _ = kill(pid(*process), Signal::SIGKILL);
            }
        }
        let _ = self.launched.kill();
        let _ = self.launched.wait();
        if std::thread::panicking() {
            eprintln!("--- nginx error log of the failed test\n{}", self.read("error.log"));
        }
    }
}

/// Lets stopped workers go on, whatever happened.
struct Resume<'a>(&'a [u32]);

impl Drop for Resume<'_> {
    fn drop(&mut self) {
        for worker in self.0 {
            // A worker that is gone needs no signal.
            let _ = kill(pid(*worker), Signal::SIGCONT);
        }
    }
}

/// The nginx under test.
pub fn binary() -> PathBuf {
    std::env::var_os("NGX502_TEST_NGINX").map_or_else(|| PathBuf::from("/usr/sbin/nginx"), PathBuf::from)
}

/// Starts nginx; what it writes to its standard error is kept in the prefix.
pub(super) fn launch(config: &LabConfig, prefix: &Path) -> Result<Child> {
    let binary = config.binary.clone().unwrap_or_else(binary);
    let mut command = match &config.container {
        Some(container) => container.command(&binary)?,
        None => {
            let mut command = helper("exec")?;
            command.arg(config.netns.as_ref().map_or(Path::new("-"), |netns| netns.path())).arg(&binary);
            if let Some(profile) = &config.profile {
                command.env(PROFILE, profile);
            }
            command
        }
    };
    command
        .arg("-p")
        .arg(prefix)
        .args(["-c", "nginx.conf"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(prefix.join("stderr"))?)
        .spawn()
        .context("nginx cannot be started")
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

fn write_config(config: &LabConfig, prefix: &Path, address: SocketAddr) -> Result<()> {
    let mut text = String::new();
    let daemon = if config.daemon { "on" } else { "off" };
    writeln!(
        text,
        "daemon {daemon}; pid nginx.pid; user {}; worker_processes {};",
        config.user, config.workers
    )?;
    writeln!(text, "error_log error.log {};\n{}", config.error_level, config.main)?;
    writeln!(text, "events {{ worker_connections {}; }}\nhttp {{\n{LOG_FORMAT}", config.connections)?;
    for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        writeln!(text, "{kind}_temp_path tmp_{kind};")?;
    }
    writeln!(text, "access_log access.log lab;\n{}", config.http)?;
    writeln!(text, "server {{\nlisten {address}; server_name lab.test;\n{}\n}}\n}}", config.server)?;
    fs::write(prefix.join("nginx.conf"), text).context("nginx.conf cannot be written")
}
