//! What is shown, in an order that tells a story: nobody there, died, not let in, too busy, badly behaved, rescued.

use xtask::lab::faults::{self, Fault};

/// A row of the fault library with the sentence that announces it.
#[derive(Debug)]
pub(super) struct Scene {
    fault: &'static str,
    /// What is done to the upstream, for a reader who has never seen the lab.
    pub(super) title: &'static str,
}

impl Scene {
    pub(super) fn fault(&self) -> &'static Fault {
        faults::named(self.fault)
    }
}

const fn scene(fault: &'static str, title: &'static str) -> Scene {
    Scene { fault, title }
}

/// Every scene, in order.
pub(super) const SCENES: &[Scene] = &[
    scene("refused-nobody", "No process listens on the upstream's address"),
    scene("refused-killed", "The upstream worked; now the demo kills it with SIGKILL"),
    scene("refused-oom", "The upstream exceeds its memory cgroup of 32 MiB, and the kernel kills it"),
    scene("closed-by-crash", "The upstream dereferences a bad pointer while it handles the request"),
    scene("socket-denied", "The upstream's socket has mode 0600, and nginx's workers are another user"),
    scene("timed-out-queue-full", "The upstream does not accept connections, and its accept queue is full"),
    scene("slow", "The upstream takes longer than proxy_read_timeout"),
    scene("reset-linger", "The upstream reads the request and resets the connection"),
    scene("closed-after-request", "The upstream reads the request and closes without answering"),
    scene("header-too-big", "The upstream's header is 64 KiB long"),
    scene("header-garbage", "The upstream sends garbage instead of a header"),
    scene("tls-to-plain", "proxy_pass says https, the upstream speaks plain HTTP"),
    scene("rescued-by-retry", "The first upstream is gone, but the second one answers: the client sees 200"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scene_is_a_row_that_owes_a_line() {
        for scene in SCENES {
            assert!(!scene.fault().expect.causes.is_empty(), "{}", scene.title);
        }
    }
}
