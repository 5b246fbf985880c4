//! A real server (PHP-FPM, Gunicorn, …) as a disposable instance: own directory, own process group.

use std::ffi::OsStr;
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill, killpg};

use super::process::{children, pid};
use super::spawn::helper;
use super::wait;

/// Interpreters start slowly beside a test run.
const START: Duration = Duration::from_secs(20);

/// How a server is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A socket file in the server's directory.
    Unix,
    /// A port of 127.0.0.1.
    Tcp,
}

/// The directory and address of a server that is about to start.
#[derive(Debug)]
pub struct Site {
    dir: tempfile::TempDir,
    address: String,
}

impl Site {
    /// Makes a directory that every user may pass, and chooses an address.
    ///
    /// # Errors
    /// When the directory cannot be made, or there is no free port.
    pub fn new(over: Transport) -> Result<Site> {
        let dir = tempfile::Builder::new().prefix("ngx502-real-").tempdir()?;
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
        let address = match over {
            Transport::Unix => format!("unix:{}/server.sock", dir.path().display()),
            // Free when chosen, not reserved.
            Transport::Tcp => TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.to_string(),
        };
        Ok(Site { dir, address })
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// As nginx's `server` directive takes it: `unix:/path` or `127.0.0.1:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The socket's path, or `None` over TCP.
    pub fn socket(&self) -> Option<&str> {
        self.address.strip_prefix("unix:")
    }

    /// Whether a connect succeeds now.
    pub fn accepts(&self) -> bool {
        match self.socket() {
            Some(path) => UnixStream::connect(path).is_ok(),
            None => self.address.parse::<SocketAddr>().is_ok_and(|at| TcpStream::connect(at).is_ok()),
        }
    }

    /// Writes a file into the directory.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.dir().join(name);
        fs::write(&path, text).with_context(|| format!("{path:?} cannot be written"))?;
        Ok(path)
    }
}

/// A running server; all processes of its group are killed when this drops.
#[derive(Debug)]
pub struct Service {
    master: Child,
    site: Site,
}

impl Service {
    /// Starts `program` in the site's directory and waits until it takes connections.
    ///
    /// # Errors
    /// When it ends first or takes too long: with what it wrote.
    pub fn start<S: AsRef<OsStr>>(site: Site, program: &Path, args: &[S]) -> Result<Service> {
        let output = fs::File::create(site.dir().join("output"))?;
        let master = helper("exec")?
            .arg("-")
            .arg(program)
            .args(args)
            .current_dir(site.dir())
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("{program:?} cannot be started"))?;
        let mut service = Service { master, site };
        let ended = wait::until("the server to listen", START, || {
            if let Ok(Some(status)) = service.master.try_wait() {
                return Some(Some(status));
            }
            service.site.accepts().then_some(None)
        })
        .with_context(|| service.output())?;
        match ended {
            Some(status) => bail!("{program:?} did not start ({status}): {}", service.output()),
            None => Ok(service),
        }
    }

    /// Directory and address.
    pub fn site(&self) -> &Site {
        &self.site
    }

    /// The first process: the master of those that have one.
    pub fn pid(&self) -> u32 {
        self.master.id()
    }

    /// The master's present children.
    pub fn workers(&self) -> Vec<u32> {
        children(self.pid())
    }

    /// What it wrote to its standard streams.
    pub fn output(&self) -> String {
        fs::read_to_string(self.site.dir().join("output")).unwrap_or_default()
    }

    /// Sends the master a signal.
    ///
    /// # Errors
    /// When it is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(pid(self.pid()), signal).context("the server is gone")
    }

    /// Sends every process of the server a signal at once.
    ///
    /// # Errors
    /// When none is left.
    pub fn signal_all(&self, signal: Signal) -> Result<()> {
        killpg(pid(self.pid()), signal).context("the server is gone")
    }

    /// Waits until the master has ended.
    ///
    /// # Errors
    /// When it outlives 30 s.
    pub fn wait_gone(&mut self) -> Result<ExitStatus> {
        wait::until("the server to end", Duration::from_secs(30), || self.master.try_wait().ok().flatten())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Errors mean that nothing of it is left, which is what is wanted.
        let _ = killpg(pid(self.pid()), Signal::SIGKILL);
        let _ = self.master.wait();
        if std::thread::panicking() {
            eprintln!("--- output of the failed test's server\n{}", self.output());
        }
    }
}
