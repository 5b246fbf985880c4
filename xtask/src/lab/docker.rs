//! A real Docker of one's own: a daemon in a network namespace, with its data in a temporary folder and an image made of
//! this program. Ports are published by docker-proxy, as wherever a client is on the daemon's own host.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};

use super::backend::Backend;
use super::behaviour::Behaviour;
use super::netns::Netns;
use super::process::pid;
use super::spawn::{VERB, helper};
use super::wait;

/// The image's name.
const IMAGE: &str = "ngx502-lab";
/// The program inside.
const PROGRAM: &str = "/faulty";

/// A running daemon. Its containers end when it drops.
#[derive(Debug)]
pub struct Docker {
    daemon: Child,
    folder: tempfile::TempDir,
    netns: Arc<Netns>,
}

impl Docker {
    /// Starts the daemon in a namespace of its own and makes the image.
    ///
    /// # Errors
    /// Without root, without Docker, or when the daemon does not start: the end of its log.
    pub fn start() -> Result<Docker> {
        let netns = Arc::new(Netns::create()?);
        let folder = tempfile::Builder::new().prefix("ngx502-docker-").tempdir()?;
        let log = fs::File::create(folder.path().join("log"))?;
        let mut command = helper("exec")?;
        command.arg(netns.path()).arg("dockerd");
        // Ports are published by docker-proxy alone.
        command.args(["--iptables=false", "--ip6tables=false"]);
        for (flag, name) in [("--data-root", "data"), ("--exec-root", "exec"), ("--pidfile", "pid")] {
            command.arg(flag).arg(folder.path().join(name));
        }
        command.arg("--host").arg(format!("unix://{}", folder.path().join("sock").display()));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let daemon = command.spawn().context("dockerd cannot be started")?;
        let mut docker = Docker { daemon, folder, netns };
        let said = |folder: &Path| {
            let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
            let end: Vec<_> = log.lines().rev().take(3).collect();
            end.join("; ")
        };
        let Docker { daemon, folder, .. } = &mut docker;
        let ready = wait::until("dockerd", Duration::from_secs(60), || {
            if let Ok(Some(status)) = daemon.try_wait() {
                return Some(Err(anyhow::anyhow!("dockerd ended: {status}")));
            }
            let version = client(folder.path()).args(["version"]).output().ok()?;
            version.status.success().then_some(Ok(()))
        });
        ready.and_then(|ended| ended).with_context(|| said(docker.folder.path()))?;
        docker.make_image()?;
        Ok(docker)
    }

    /// The namespace of the daemon, which publishes ports there.
    pub fn netns(&self) -> &Arc<Netns> {
        &self.netns
    }

    /// Starts an upstream in a container; `flags` go to `docker run`.
    ///
    /// # Errors
    /// When the container does not start.
    pub fn run(&self, name: &str, flags: &[&str], listen: &str, behaviour: Behaviour) -> Result<Backend> {
        let mut command = client(self.folder.path());
        command.args(["run", "--interactive", "--rm", "--name", name]).args(flags);
        command.args([IMAGE, PROGRAM, VERB, "faulty", "--listen", listen, "--behave", behaviour.as_str()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut backend = Backend::of(command)?;
        backend.set_pid(self.read(&["inspect", "--format", "{{.State.Pid}}", name])?.trim().parse()?);
        Ok(backend)
    }

    /// Runs an upstream in a container that ends at once, and stays.
    ///
    /// # Errors
    /// When it does not.
    pub fn run_down(&self, name: &str, flags: &[&str]) -> Result<()> {
        // Without an input it ends.
        let command = ["run", "--detach", "--name", name];
        let listen = [IMAGE, PROGRAM, VERB, "faulty", "--listen", "tcp:0.0.0.0:80", "--behave", "answer"];
        self.read(&[&command[..], flags, &listen[..]].concat())?;
        self.read(&["wait", name]).map(drop)
    }

    /// The output of a `docker` command.
    ///
    /// # Errors
    /// When it fails: what it said.
    pub fn read(&self, args: &[&str]) -> Result<String> {
        let output = client(self.folder.path()).args(args).output().context("`docker` is missing")?;
        if !output.status.success() {
            bail!("`docker {}` failed: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// An image of nothing but this program and its libraries.
    fn make_image(&self) -> Result<()> {
        let root = self.folder.path().join("image");
        let program = std::env::current_exe()?;
        let libraries = Command::new("ldd").arg(&program).output().context("`ldd` is missing")?;
        let libraries = String::from_utf8(libraries.stdout)?;
        let paths = libraries.split_whitespace().filter(|word| word.starts_with('/'));
        for (from, to) in
            paths.map(|path| (path, path)).chain([(program.to_str().context("a path")?, PROGRAM)])
        {
            let to = root.join(to.trim_start_matches('/'));
            fs::create_dir_all(to.parent().context("a file is in a folder")?)?;
            fs::copy(from, &to).with_context(|| format!("{from} cannot be copied"))?;
        }
        let archive = Command::new("tar").arg("-C").arg(&root).args(["-cf", "-", "."]).output()?;
        let mut import = client(self.folder.path())
            .args(["import", "-", IMAGE])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()?;
        import.stdin.take().context("it reads")?.write_all(&archive.stdout)?;
        let status = import.wait()?;
        fs::remove_dir_all(&root)?;
        if status.success() { Ok(()) } else { bail!("`docker import` failed: {status}") }
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        // It ends its containers first. What cannot be ended any more is gone already.
        let _ = kill(pid(self.daemon.id()), Signal::SIGTERM);
        let ended =
            wait::until("dockerd to end", Duration::from_secs(30), || self.daemon.try_wait().ok().flatten());
        if ended.is_err() {
            let _ = self.daemon.kill();
            let _ = self.daemon.wait();
        }
    }
}

fn client(folder: &Path) -> Command {
    let mut command = Command::new("docker");
    command.arg("--host").arg(format!("unix://{}", folder.join("sock").display()));
    command
}
