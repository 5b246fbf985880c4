//! A disposable nginx with upstreams that fail on purpose: real processes, real sockets, loopback only.
//!
//! [`Testbed`] is the usual entry: it starts the upstreams of some [`faults::Fault`] rows and an nginx with a location
//! for each, injects a fault and fires a request at it. [`Truth`] reads nginx's own logs, the yardstick for every
//! verdict. [`Lab`] is the nginx alone.
//!
//! The upstreams are processes of the embedding program itself (`/proc/self/exe lab-helper …`): its `main` must call
//! [`run_if_asked`] first. That keeps one self-contained file for guests without cargo. Everything started here is
//! ended by pid when its handle drops, and by the kernel (`PR_SET_PDEATHSIG`) when the embedding process dies.

pub mod backend;
pub mod behaviour;
pub mod cgroup;
pub mod client;
pub mod container;
pub mod docker;
pub mod faults;
mod helper;
pub mod hide_sysfs;
pub mod inject;
mod life;
pub mod netns;
pub mod network;
pub mod nginx;
pub mod peer;
pub mod policy;
mod process;
mod serve;
pub mod service;
mod spawn;
pub mod testbed;
pub mod truth;
pub mod wait;

pub use container::Container;
pub use docker::Docker;
pub use helper::run_if_asked;
pub use netns::Netns;
pub use network::Network;
pub use nginx::{Lab, LabConfig};
pub use service::{Service, Site, Transport};
pub use testbed::Testbed;
pub use truth::Truth;
