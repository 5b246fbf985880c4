//! Two hosts' worth of network on one kernel, as Docker makes it: a bridge in one namespace, another namespace behind it
//! with an address of its own, and a virtual address that is translated to that one.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::Result;

use super::netns::Netns;

/// A front, where nginx runs, and a back, where its upstream does.
///
/// Interfaces, rules and addresses are the namespaces', so that they go with them.
#[derive(Debug)]
pub struct Network {
    /// nginx's namespace.
    pub front: Arc<Netns>,
    /// The upstream's.
    pub back: Arc<Netns>,
}

impl Network {
    /// The bridge's address.
    pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 89, 0, 1);
    /// The address of the namespace behind it.
    pub const BACK: Ipv4Addr = Ipv4Addr::new(10, 89, 0, 2);
    /// An address that no interface has.
    pub const VIRTUAL: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);

    /// Makes both namespaces and connects them.
    ///
    /// # Errors
    /// Without root, `ip`, or a kernel with bridges and veth.
    pub fn create() -> Result<Network> {
        let network = Network { front: Arc::new(Netns::create()?), back: Arc::new(Netns::create()?) };
        network.front.command("ip link add docker0 type bridge")?;
        network.front.command(&format!("ip address add {}/24 dev docker0", Self::GATEWAY))?;
        network.front.command("ip link set docker0 up")?;
        network.connect(&network.back, Self::BACK)?;
        Ok(network)
    }

    /// Puts one more namespace behind the bridge.
    ///
    /// # Errors
    /// When the interface cannot be made.
    pub fn connect(&self, netns: &Netns, address: Ipv4Addr) -> Result<()> {
        // One name for each: interfaces of one namespace are told apart by it.
        let (name, pid) = (format!("veth{}", address.octets()[3]), netns.holder());
        self.front.command(&format!("ip link add {name} type veth peer name eth0 netns {pid}"))?;
        self.front.command(&format!("ip link set {name} master docker0 up"))?;
        netns.command(&format!("ip address add {address}/24 dev eth0"))?;
        netns.command("ip link set eth0 up")?;
        netns.command(&format!("ip route add default via {}", Self::GATEWAY))
    }

    /// From now on a connect to the virtual address and `port` leads to `to`.
    ///
    /// # Errors
    /// When `nft` is missing or refuses the rule.
    pub fn translate(&self, port: u16, to: SocketAddr) -> Result<()> {
        for line in [
            "ip route replace 10.96.0.0/16 dev docker0",
            "nft add table ip services",
            "nft add chain ip services output { type nat hook output priority -100 ; }",
        ] {
            self.front.command(line)?;
        }
        let virtual_address = Self::VIRTUAL;
        self.front.command(&format!(
            "nft add rule ip services output ip daddr {virtual_address} tcp dport {port} dnat to {to}"
        ))
    }
}
