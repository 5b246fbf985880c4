//! Faults in operation: their upstreams, one nginx with a location for each, and requests that trigger them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::unistd::{Group, User};

use super::client::Response;
use super::faults::{Ask, Fault};
use super::inject::{self, Held};
use super::netns::Netns;
use super::nginx::{Lab, LabConfig};
use super::peer::{Place, RunningPeer};
use super::{truth, wait};

/// Users that an unprivileged worker may run as, by preference.
const ORDINARY_USERS: [&str; 2] = ["www-data", "nobody"];

/// What one request gave.
#[derive(Clone, Debug)]
pub struct Sent {
    /// The request's own URI.
    pub uri: String,
    /// The answer; `None` when the client left before it.
    pub response: Option<Response>,
}

/// Some faults and the nginx that suffers them.
#[derive(Debug)]
pub struct Testbed {
    // Fields drop in this order: nginx first, the namespace last (it is shared with the configuration).
    lab: Lab,
    peers: BTreeMap<&'static str, Vec<RunningPeer>>,
    faults: Vec<&'static Fault>,
    held: Vec<Held>,
    _sockets: tempfile::TempDir,
    _netns: Option<Arc<Netns>>,
    next: AtomicU32,
}

impl Testbed {
    /// Starts the upstreams of `faults` and nginx; `change` has the last word on its configuration.
    ///
    /// # Errors
    /// When something cannot be started here; see [`Testbed::impossible`] for what a test may skip.
    pub fn start(faults: &[&'static Fault], change: impl FnOnce(&mut LabConfig)) -> Result<Testbed> {
        let sockets = tempfile::Builder::new().prefix("ngx502-sock-").tempdir()?;
        std::fs::set_permissions(sockets.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        let netns = make_netns(faults)?;
        let mut config = LabConfig { netns: netns.clone(), ..LabConfig::default() };
        config.http.push_str("proxy_connect_timeout 5s;\nproxy_read_timeout 10s;\n");
        let mut peers = BTreeMap::new();
        for fault in faults {
            let mut running = Vec::new();
            for (index, peer) in fault.peers.iter().enumerate() {
                let name = format!("{}-{index}", fault.name);
                running.push(RunningPeer::start(
                    *peer,
                    sockets.path(),
                    &name,
                    netns.as_deref().map(Netns::path),
                )?);
            }
            configure(fault, &running, &mut config)?;
            peers.insert(fault.name, running);
        }
        change(&mut config);
        let lab = Lab::start(config)?;
        let next = AtomicU32::new(0);
        Ok(Testbed {
            lab,
            peers,
            faults: faults.to_vec(),
            held: Vec::new(),
            _sockets: sockets,
            _netns: netns,
            next,
        })
    }

    /// Why `fault` cannot be made on this machine, if so: no namespaces, no `ip`, no `nft`, no memory cgroup, no
    /// ordinary user.
    pub fn impossible(fault: &Fault) -> Option<String> {
        let cgroup =
            fault.peers.iter().find_map(|peer| super::cgroup::MemoryCgroup::create(peer.memory?).err());
        let user =
            (fault.unprivileged && ordinary_user().is_none()).then(|| "there is no ordinary user".to_owned());
        let netns = make_netns(&[fault]).err();
        netns.or(cgroup).map(|error| format!("{error:#}")).or(user)
    }

    /// The nginx.
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// The nginx, to be reloaded.
    pub fn lab_mut(&mut self) -> &mut Lab {
        &mut self.lab
    }

    /// A fault's upstream.
    ///
    /// # Panics
    /// When the testbed has no such fault or peer: a typing error in a test.
    pub fn peer(&mut self, fault: &str, index: usize) -> &mut RunningPeer {
        let peers = self.peers.get_mut(fault).unwrap_or_else(|| panic!("`{fault}` is not on this testbed"));
        &mut peers[index]
    }

    /// Sends the fault's preparing requests, then breaks its upstream.
    ///
    /// # Errors
    /// When the upstream does not break as the row says.
    pub fn inject(&mut self, name: &str) -> Result<()> {
        let fault = self.fault(name)?;
        for _ in 0..fault.warm {
            self.lab.get(&self.uri(&format!("{name}/warm")))?;
        }
        let peers = self.peers.get_mut(fault.name).context("the fault has no peers")?;
        let held =
            inject::inject(fault, peers, &self.lab).with_context(|| format!("`{name}` cannot be broken"))?;
        self.held.push(held);
        Ok(())
    }

    /// Sends one request with a URI of its own to the fault's location.
    ///
    /// # Errors
    /// When nginx does not answer.
    pub fn fire(&self, name: &str) -> Result<Sent> {
        let fault = self.fault(name)?;
        let uri = self.uri(name);
        let response = match fault.ask {
            Ask::Get => Some(self.lab.get(&uri)?),
            Ask::Post(length) => Some(self.lab.request("POST", &uri, &vec![b'x'; length])?),
            Ask::Upgrade => {
                let mut client = self.lab.client()?;
                let head = format!(
                    "GET {uri} HTTP/1.1\r\nHost: lab.test\r\nConnection: upgrade\r\nUpgrade: lab\r\n\r\n"
                );
                client.send_bytes(head.as_bytes())?;
                Some(client.receive()?)
            }
            Ask::Abandon => {
                self.abandon(&uri)?;
                None
            }
            Ask::UntilCache(status) => return self.fire_until_cache(name, status),
        };
        Ok(Sent { uri, response })
    }

    fn fire_until_cache(&self, name: &str, status: &str) -> Result<Sent> {
        wait::until(&format!("X-Cache: {status}"), Duration::from_secs(10), || {
            let uri = self.uri(name);
            let response = self.lab.get(&uri).ok()?;
            (response.header("x-cache") == Some(status)).then_some(Sent { uri, response: Some(response) })
        })
    }

    /// Sends a request and leaves once nginx waits for the upstream's answer.
    fn abandon(&self, uri: &str) -> Result<()> {
        let mut client = self.lab.client()?;
        client.send("GET", uri, b"")?;
        drop(client);
        wait::until("the abandoned request's log entry", Duration::from_secs(10), || {
            truth::Truth::read(&self.lab).ok()?.get(uri).map(drop)
        })
    }

    fn fault(&self, name: &str) -> Result<&'static Fault> {
        match self.faults.iter().find(|fault| fault.name == name) {
            Some(fault) => Ok(fault),
            None => bail!("`{name}` is not on this testbed"),
        }
    }

    /// A URI that no other request of this testbed has.
    fn uri(&self, path: &str) -> String {
        format!("/{path}/{}", self.next.fetch_add(1, Ordering::Relaxed))
    }
}

fn make_netns(faults: &[&Fault]) -> Result<Option<Arc<Netns>>> {
    let mut commands = faults.iter().filter_map(|fault| fault.netns).peekable();
    if commands.peek().is_none() {
        return Ok(None);
    }
    let netns = Netns::create()?;
    for command in commands.flatten() {
        netns.command(command)?;
    }
    Ok(Some(Arc::new(netns)))
}

fn ordinary_user() -> Option<String> {
    let user = ORDINARY_USERS.iter().find_map(|name| User::from_name(name).ok().flatten())?;
    let group = Group::from_gid(user.gid).ok().flatten()?;
    Some(format!("{} {}", user.name, group.name))
}

/// Adds a fault's blocks to the configuration.
fn configure(fault: &Fault, peers: &[RunningPeer], config: &mut LabConfig) -> Result<()> {
    let id = fault.name.replace('-', "_");
    let up = format!("up_{id}");
    let fill = |text: &str| {
        let filled = text.replace("{up}", &up).replace("{id}", &id);
        peers
            .iter()
            .enumerate()
            .fold(filled, |text, (index, peer)| text.replace(&format!("{{peer{index}}}"), &peer.address))
    };
    let servers: Vec<_> = peers.iter().filter(|peer| !matches!(peer.peer.place, Place::Udp(_))).collect();
    if !servers.is_empty() {
        writeln!(config.http, "upstream {up} {{ {}", fault.upstream)?;
        for server in servers {
            writeln!(config.http, "server {} {};", server.address, fault.server_args)?;
        }
        writeln!(config.http, "}}")?;
    }
    writeln!(config.http, "{}", fill(fault.http))?;
    writeln!(
        config.server,
        "{}\nlocation /{}/ {{ {} }}",
        fill(fault.server),
        fault.name,
        fill(fault.location)
    )?;
    writeln!(config.main, "{}", fault.main)?;
    if fault.connections > 0 {
        config.connections = fault.connections;
    }
    if fault.unprivileged {
        config.user = ordinary_user().context("there is no ordinary user")?;
    }
    Ok(())
}
