//! What the kernel and look-ups tell of processes and listeners.

use std::net::{IpAddr, SocketAddr};

use ngx502::event::*;

use super::Scene;
use crate::synthetic::NETNS;

/// What is known of processes and listeners.
impl Scene {
    /// What /proc says of a process: a service of php-fpm, where `change` does not say otherwise.
    pub(crate) fn known(&self, process: ProcessRef, change: impl FnOnce(&mut ProcessInfo)) -> Body {
        let mut info = ProcessInfo {
            process,
            parent: self.master().pid,
            command: "php-fpm: pool www".into(),
            unit: Some("php8.2-fpm.service".into()),
            cgroup: Some("/system.slice/php8.2-fpm.service".into()),
            ..ProcessInfo::default()
        };
        change(&mut info);
        Body::Process(Box::new(info))
    }

    /// php-fpm's master, worker and pool.
    pub(crate) fn php_fpm(&mut self) {
        let title = |info: &mut ProcessInfo| {
            info.parent = Pid(1);
            info.command = "php-fpm: master process (/etc/php/8.2/fpm/php-fpm.conf)".into();
        };
        self.feed(self.known(self.master(), title));
        self.feed(self.known(self.app(), |_| ()));
    }

    /// The start snapshot, or what a look-up `asked` for: who listens at a place.
    pub(crate) fn listening(&self, endpoint: Endpoint, holders: Vec<ProcessRef>, asked: bool) -> Body {
        let listeners = match holders.is_empty() {
            true => Vec::new(),
            false => vec![listener(&endpoint, holders, Some((0, 511)), None)],
        };
        endpoint_info(endpoint, listeners, asked)
    }

    /// A look-up that found a queue.
    pub(crate) fn queued(
        &self,
        endpoint: Endpoint,
        queue: (u32, u32),
        holders: Vec<ProcessRef>,
        busy: Option<bool>,
    ) -> Body {
        let found = listener(&endpoint, holders, Some(queue), busy);
        endpoint_info(endpoint, vec![found], true)
    }

    /// A look-up of an address that is not nginx's own.
    pub(crate) fn owned(&self, address: SocketAddr, owner: Owner) -> Body {
        Body::AddressOwner(AddressOwner { ip: address.ip(), from: NETNS, owner })
    }

    /// The addresses of a network namespace in which a process lives.
    pub(crate) fn inside(&self, netns: u32, process: ProcessRef, addresses: Vec<IpAddr>) -> Body {
        Body::NamespaceAddresses(NamespaceAddresses { netns, process, addresses, links: None })
    }

    /// A listener of a process in another network namespace.
    pub(crate) fn listening_in(&self, netns: u32, bound: Endpoint, process: ProcessRef) -> Body {
        let Body::Endpoint(info) = self.listening(bound, vec![process], false) else { unreachable!() };
        Body::Endpoint(Box::new(EndpointInfo { netns, ..*info }))
    }

    /// A look-up found no listener there, but these nearby.
    pub(crate) fn near(&self, endpoint: Endpoint, near: Vec<NearListener>, path: Option<PathKind>) -> Body {
        let Body::Endpoint(info) = endpoint_info(endpoint, Vec::new(), true) else { unreachable!() };
        Body::Endpoint(Box::new(EndpointInfo { near, path, ..*info }))
    }
}

fn listener(
    bound: &Endpoint,
    holders: Vec<ProcessRef>,
    queue: Option<(u32, u32)>,
    all_busy: Option<bool>,
) -> ListenerInfo {
    let queue = queue.map(|(length, limit)| Queue { length, limit });
    ListenerInfo { bound: bound.clone(), inode: 5, queue, holders, all_busy, file: None }
}

/// What is known of a place.
pub(crate) fn endpoint_info(endpoint: Endpoint, listeners: Vec<ListenerInfo>, asked: bool) -> Body {
    Body::Endpoint(Box::new(EndpointInfo {
        endpoint,
        netns: NETNS,
        listeners,
        near: Vec::new(),
        path: None,
        asked,
        holders_at: Nanos(0),
        file: None,
    }))
}

pub(crate) fn near(bound: Endpoint, process: ProcessRef, why: Nearness) -> NearListener {
    NearListener { bound, netns: NETNS, process, why }
}

/// What the kernel tells of processes.
impl Scene {
    pub(crate) fn exit(&self, process: ProcessRef, code: i32) -> Body {
        Body::Exit(Exit { process, parent: self.master().pid, code, cgroup: 0, oom_victim: false })
    }

    /// kill(2).
    pub(crate) fn sent(&self, number: i32, target: ProcessRef, sender: ProcessRef) -> Body {
        self.signal(number, 0, target, sender)
    }

    /// What a process brought upon itself: `code` is the fault's.
    pub(crate) fn fault(&self, number: i32, code: i32, process: ProcessRef) -> Body {
        self.signal(number, code, process.clone(), process)
    }

    /// What the kernel logged of a fault.
    pub(crate) fn fault_place(&self, process: ProcessRef, module: &str, offset: Option<u64>) -> Body {
        Body::FaultPlace(Box::new(FaultPlace { process, module: module.into(), offset }))
    }

    /// A signal; the kernel's own have a positive `code`.
    pub(crate) fn signal(&self, signal: i32, code: i32, target: ProcessRef, sender: ProcessRef) -> Body {
        let from_user = code <= 0;
        Body::Signal(Signal {
            signal,
            code,
            target,
            sender,
            sender_cgroup: 0,
            from_user,
            fault_address: None,
        })
    }

    /// The last holder let go of the listening socket.
    pub(crate) fn shut(&self, endpoint: Endpoint, process: ProcessRef, exiting: bool) -> Body {
        Body::Listen(Listen {
            open: false,
            id: 9 + u64::from(self.number),
            netns: NETNS,
            endpoint,
            process,
            exiting,
            exit_code: 0,
            backlog: 0,
            mounts: None,
        })
    }
}
