//! What an nginx process does, from its command line.

/// What an nginx process does.
///
/// A master or worker sets its title some milliseconds after its start; until then it looks like [`Role::Single`], and
/// in the middle of `execve` like [`Role::Other`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Reads the configuration and forks the others.
    Master,
    /// Serves requests.
    Worker,
    /// Master and worker in one: `master_process off`.
    Single,
    /// Cache manager and loader, privileged agent, or a short-lived `nginx -t` or `nginx -s reload`.
    Other,
}

impl Role {
    /// Reads `/proc/PID/cmdline`: NUL-separated arguments, or the title that nginx wrote over them.
    pub(super) fn from_cmdline(cmdline: &[u8]) -> Self {
        match title(cmdline) {
            Some(title) if title.starts_with(b"master process") => Self::Master,
            Some(title) if title.starts_with(b"worker process") => Self::Worker,
            None if runs_a_server(cmdline) => Self::Single,
            _ => Self::Other,
        }
    }

    /// Whether requests are served in it, so that probes fire there.
    pub fn serves(self) -> bool {
        matches!(self, Self::Worker | Self::Single)
    }
}

/// What follows `nginx: `, or a fork's own name, in a process title.
pub(super) fn title(cmdline: &[u8]) -> Option<&[u8]> {
    const PREFIXES: [&[u8]; 3] = [b"nginx: ", b"angie: ", b"freenginx: "];
    PREFIXES.into_iter().find_map(|prefix| cmdline.strip_prefix(prefix))
}

/// Whether these arguments start a server; `-t`, `-T`, `-v`, `-V`, `-s`, `-h` and `-?` do something else and end.
///
/// As in nginx's own parser, letters may share a dash, and `-p`, `-c`, `-e`, `-g` and `-s` take the rest of the
/// argument or the next one.
fn runs_a_server(cmdline: &[u8]) -> bool {
    if cmdline.is_empty() {
        return false;
    }
    let mut arguments = cmdline.split(|byte| *byte == 0).skip(1);
    while let Some(argument) = arguments.next() {
        let Some(letters) = argument.strip_prefix(b"-") else { continue };
        for (at, letter) in letters.iter().enumerate() {
            match letter {
                b't' | b'T' | b'v' | b'V' | b's' | b'h' | b'?' => return false,
                b'p' | b'c' | b'e' | b'g' => {
                    if at + 1 == letters.len() {
                        arguments.next();
                    }
                    break;
                }
                _ => {}
            }
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_name_the_role() {
        let role = |title: &str| Role::from_cmdline(title.as_bytes());
        assert_eq!(role("nginx: master process /usr/sbin/nginx -g daemon on;\0"), Role::Master);
        assert_eq!(role("nginx: worker process\0"), Role::Worker);
        assert_eq!(role("nginx: worker process is shutting down\0"), Role::Worker);
        assert_eq!(role("angie: worker process #1\0"), Role::Worker);
        assert_eq!(role("nginx: cache manager process\0"), Role::Other);
        assert_eq!(role("nginx: privileged agent process\0"), Role::Other);
    }

    #[test]
    fn arguments_tell_a_server_from_an_errand() {
        let role = |arguments: &[&str]| Role::from_cmdline((arguments.join("\0") + "\0").as_bytes());
        assert_eq!(role(&["nginx", "-g", "master_process off; daemon off;"]), Role::Single);
        assert_eq!(role(&["/usr/sbin/nginx", "-c", "-t"]), Role::Single, "-t is the file's name here");
        assert_eq!(role(&["nginx", "-cvhosts.conf"]), Role::Single);
        assert_eq!(role(&["nginx", "-t"]), Role::Other);
        assert_eq!(role(&["nginx", "-qt"]), Role::Other);
        assert_eq!(role(&["nginx", "-p", "/srv", "-s", "reload"]), Role::Other);
        assert_eq!(role(&["nginx", "-V"]), Role::Other);
        assert_eq!(Role::from_cmdline(b""), Role::Other, "already dying");
    }

    #[test]
    fn only_workers_and_single_processes_serve() {
        let serving = [Role::Master, Role::Worker, Role::Single, Role::Other].map(Role::serves);
        assert_eq!(serving, [false, true, true, false]);
    }
}
